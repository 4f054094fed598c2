//! The files of the dashboard and the reference, inside the binary, with their policy. Who may have them is said at the routes.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use ota_core::Sha256Digest;

/// Nothing but our own files: no inline script or style, no text that becomes markup or code, no framing.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A file, by the last part of its path.
#[derive(Clone, Copy)]
pub(crate) struct Asset {
    name: &'static str,
    body: &'static str,
}

macro_rules! assets {
    ($($name:literal),+ $(,)?) => {
        &[$(Asset { name: $name, body: include_str!(concat!("../ui/", $name)) }),+]
    };
}

/// All of them. A test compares this with the folder.
const ASSETS: &[Asset] = assets![
    "index.html",
    "docs.html",
    "style.css",
    "dashboard.css",
    "icon.svg",
    "docs.js",
    "app.js",
    "api.js",
    "audit.js",
    "charts.js",
    "dom.js",
    "history.js",
    "job.js",
    "live.js",
    "overview.js",
    "parts.js",
    "safety.js",
    "slots.js",
    "spec.js",
    "store.js",
    "system.js",
    "text.js",
    "updates.js",
    "upload.js",
    "windows.js",
];

impl Asset {
    /// The file of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        ASSETS.iter().copied().find(|asset| asset.name == name)
    }

    fn kind(self) -> &'static str {
        match self.name.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/javascript; charset=utf-8",
        }
    }

    /// Weak, because it is the same for the packed and the plain form.
    fn tag(self) -> String {
        let digest = Sha256Digest::of(self.body.as_bytes()).to_string();
        format!("W/\"{}\"", digest.get(..20).unwrap_or_default())
    }

    /// The file, or that the browser's copy is still good. It asks each time: another slot may hold another version.
    pub(crate) fn respond(self, asked: &HeaderMap) -> Response {
        let tag = self.tag();
        let known = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let mut response = if known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, self.kind())], self.body).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    /// The names under `/ui/`.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        ASSETS.iter().map(|asset| asset.name)
    }

    #[test]
    fn every_file_of_the_folder_is_served_and_nothing_else() {
        let files = fs::read_dir("ui").unwrap();
        let files: BTreeSet<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(files, names().map(str::to_owned).collect());
    }

    #[test]
    fn every_file_that_another_one_asks_for_is_served() {
        for asset in ASSETS {
            let quoted = asset.body.split(['"', '\'']);
            for path in
                quoted.filter_map(|text| text.strip_prefix("/ui/").or_else(|| text.strip_prefix("./")))
            {
                assert!(Asset::named(path).is_some(), "{} asks for {path}", asset.name);
            }
        }
    }

    /// The policy would refuse it at run time; this says it earlier.
    #[test]
    fn no_file_makes_markup_or_code_from_text_or_styles_inline() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "style=\"",
            "://cdn",
        ];
        for asset in ASSETS {
            for word in forbidden {
                assert!(!asset.body.contains(word), "{} has {word}", asset.name);
            }
        }
    }
}
