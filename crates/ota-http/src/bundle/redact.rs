//! The last pass over a text that leaves the device: secrets that are known, in every encoding, and what looks like one.

use std::borrow::Cow;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use regex::bytes::Regex;

/// What stands in the place of a secret.
const STARS: &[u8] = b"***";
/// Shorter ones are not looked for: they would be found everywhere. Nothing that short is kept readable anyway.
const SHORTEST: usize = 6;

/// What looks like a secret, and what it becomes. All in ASCII, without regard to case.
const SHAPES: [(&str, &str); 10] = [
    (
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
        "*** private key ***",
    ),
    (r"AGE-SECRET-KEY-[0-9A-Z-]+", "***"),
    (r"ota_[0-9a-f]{16,}", "ota_***"),
    (r"\$argon2[a-z0-9]*\$[^\s\x22']+", "$$argon2***"),
    (r"\bbearer[ .]+[A-Za-z0-9+/=._~-]{6,}", "bearer ***"),
    (r"(authorization[\x22']?[ ]*[:=][ ]*)[^\r\n]+", "${1}***"),
    (r"((?:set-)?cookie[\x22']?[ ]*[:=][ ]*)[^\r\n]+", "${1}***"),
    (r"(ota_session=)[^;\s\x22']+", "${1}***"),
    (r"([a-z][a-z0-9+.-]*://)[^/\s\x22'<>]+@", "${1}***@"),
    (
        r"([a-z0-9_-]*(?:password|passwd|passphrase|secret|psk|api[_-]?key|token|pin)\\?[\x22']?[ ]*[:=][ ]*\\?[\x22']?)[^\s\x22',;&}\]\\]+",
        "${1}***",
    ),
];

/// Takes secrets out of texts.
pub(crate) struct Redactor {
    needles: Vec<Vec<u8>>,
    shapes: Vec<(Regex, &'static str)>,
}

impl Redactor {
    /// One that knows these secrets, beside what it knows by its shape.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut needles: Vec<Vec<u8>> = secrets
            .into_iter()
            .filter(|secret| secret.len() >= SHORTEST)
            .flat_map(|secret| encodings(secret.as_bytes()))
            .collect();
        // The longest first: a part must not be taken out of a whole that is looked for, too.
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        needles.dedup();
        let shapes = SHAPES.iter().filter_map(|(pattern, becomes)| {
            // They are constants; the test below compiles each.
            Some((Regex::new(&format!("(?i-u){pattern}")).ok()?, *becomes))
        });
        Self { needles, shapes: shapes.collect() }
    }

    /// The text without secrets.
    pub(crate) fn clean(&self, text: &[u8]) -> Vec<u8> {
        let mut text = Cow::Borrowed(text);
        for needle in &self.needles {
            if let Some(cleaned) = without(&text, needle) {
                text = Cow::Owned(cleaned);
            }
        }
        for (shape, becomes) in &self.shapes {
            if let Cow::Owned(cleaned) = shape.replace_all(&text, becomes.as_bytes()) {
                text = Cow::Owned(cleaned);
            }
        }
        text.into_owned()
    }
}

/// The secret as it is and in hexadecimal, percent and base64, each as it can stand inside something longer.
fn encodings(secret: &[u8]) -> Vec<Vec<u8>> {
    let percent = |digits: &dyn Fn(u8) -> String, all: bool| -> Vec<u8> {
        let encode = |byte: &u8| match byte {
            b if !all && (b.is_ascii_alphanumeric() || b"-._~".contains(b)) => char::from(*b).to_string(),
            b => digits(*b),
        };
        secret.iter().map(encode).collect::<String>().into_bytes()
    };
    let (lower, upper) = (|b: u8| format!("%{b:02x}"), |b: u8| format!("%{b:02X}"));
    let json = serde_json::to_string(&String::from_utf8_lossy(secret)).unwrap_or_default();
    let mut all = vec![
        secret.to_vec(),
        json.trim_matches('"').into(),
        hex::encode(secret).into(),
        hex::encode_upper(secret).into(),
        percent(&lower, false),
        percent(&upper, false),
        percent(&lower, true),
        percent(&upper, true),
    ];
    for before in 0..3 {
        all.push(base64_core(secret, before, |bytes| STANDARD_NO_PAD.encode(bytes)));
        all.push(base64_core(secret, before, |bytes| URL_SAFE_NO_PAD.encode(bytes)));
    }
    all
}

/// The characters of base64 that depend on nothing but the secret when `before` bytes stand before it (modulo 3), whatever
/// stands behind it.
fn base64_core(secret: &[u8], before: usize, encode: impl Fn(&[u8]) -> String) -> Vec<u8> {
    let padded = [&vec![0; before], secret].concat();
    let text = encode(&padded);
    let first = (before * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    text.as_bytes().get(first..last).unwrap_or_default().to_vec()
}

fn without(text: &[u8], needle: &[u8]) -> Option<Vec<u8>> {
    let mut found = memchr::memmem::find_iter(text, needle).peekable();
    found.peek()?;
    let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
    for at in found {
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(STARS);
        from = at + needle.len();
    }
    out.extend_from_slice(&text[from..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(text: &str) -> String {
        String::from_utf8(Redactor::new([]).clean(text.as_bytes())).unwrap()
    }

    #[test]
    fn every_shape_is_a_pattern() {
        assert_eq!(Redactor::new([]).shapes.len(), SHAPES.len());
    }

    #[test]
    fn what_looks_like_a_secret_is_taken_out_and_the_rest_stays() {
        for (text, cleaned) in [
            ("made ota_0123456789abcdef0123456789abcdef.", "made ota_***."),
            ("hash $argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA end", "hash $argon2*** end"),
            ("sec-websocket-protocol: ota.v1, bearer.abcdefgh", "sec-websocket-protocol: ota.v1, bearer ***"),
            ("Authorization: Basic dXNlcjpwYXNz\r\nnext", "Authorization: ***\r\nnext"),
            ("Cookie: a=b; ota_session=00ff\nnext", "Cookie: ***\nnext"),
            ("at http://user:pa@ss@proxy.example:3128/x", "at http://***@proxy.example:3128/x"),
            (r#"{"pin":"471199","token_file":"/etc/t"}"#, r#"{"pin":"***","token_file":"/etc/t"}"#),
            (r#"{"body":"{\"new_pin\": \"471199\"}"}"#, r#"{"body":"{\"new_pin\": \"***\"}"}"#),
            ("wifi_psk=abc def", "wifi_psk=*** def"),
            ("password_file = \"/etc/p\"", "password_file = \"/etc/p\""),
            ("sha256:9f86d081884c7d659a2feaa0c55ad015", "sha256:9f86d081884c7d659a2feaa0c55ad015"),
            (
                "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\nx",
                "*** private key ***\nx",
            ),
            ("-----BEGIN PRIVATE KEY-----\ncut off", "*** private key ***"),
        ] {
            assert_eq!(clean(text), cleaned);
        }
    }

    proptest! {
        #[test]
        fn a_known_secret_is_found_in_four_encodings_wherever_it_stands(
            secret in "[!-~äß€]{6,40}",
            before in proptest::collection::vec(any::<u8>(), 0..7),
            behind in proptest::collection::vec(any::<u8>(), 0..7),
        ) {
            let secret = secret.as_bytes();
            let whole = [&before, secret, &behind].concat();
            let percent = |bytes: &[u8]| bytes.iter().map(|b| format!("%{b:02X}")).collect::<String>();
            let redactor = Redactor::new([std::str::from_utf8(secret).unwrap()]);
            let forms = [
                (whole.clone(), secret.to_vec()),
                (hex::encode(&whole).into(), hex::encode(secret).into()),
                (percent(&whole).into(), percent(secret).into()),
            ];
            for (text, plain) in forms {
                let cleaned = redactor.clean(&text);
                prop_assert!(memchr::memmem::find(&cleaned, &plain).is_none());
            }
            for encode in [|b: &[u8]| STANDARD_NO_PAD.encode(b), |b: &[u8]| URL_SAFE_NO_PAD.encode(b)] {
                let core = base64_core(secret, before.len() % 3, encode);
                let cleaned = redactor.clean(encode(&whole).as_bytes());
                prop_assert!(memchr::memmem::find(&cleaned, &core).is_none());
            }
        }
    }
}
