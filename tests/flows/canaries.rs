//! Secrets that are really in use appear in no log, event, metric, error, audit record or debug bundle (A5).

use std::{ffi::OsStr, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ota_core::Sha256Digest;
use ota_tests::{config::Settings, process};

use crate::world::{Offer, TestDevice, device_with, settings};

const PIN: &str = "48151623";
const WRONG_PIN: &str = "90817263";
const WRONG_TOKEN: &str = "ota_ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// What the configuration holds or names, by where it stands.
const PLANTED: [(&str, &str); 8] = [
    ("URL password", "url-c4nary!x"),
    ("URL query", "query-c4nary~x"),
    ("proxy password", "proxy-c4nary.x"),
    ("header of a source", "header-c4nary=x"),
    ("broker password", "broker-c4nary/x"),
    ("sensor token", "sensor-c4nary+x"),
    ("sensor query", "squery-c4nary-x"),
    ("argument of a health check", "argument-c4nary-x"),
];

/// More tables for the configuration, with files beside it.
fn planted(folder: &Path) -> String {
    let [url, query, proxy, header, broker, sensor, squery, argument] = PLANTED.map(|(_, secret)| secret);
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        format!("{:?}", path.to_str().unwrap())
    };
    let headers = file("headers", &format!("X-Api-Key: {header}\n"));
    let (password, token) = (file("password", broker), file("token", sensor));
    let root = file("root.json", "{}");
    format!(
        r#"
[[source]]
name = "second"
metadata_url = "http://user:{url}@127.0.0.1:1/metadata/?sig={query}"
targets_url = "http://user:{url}@127.0.0.1:1/targets/"
initial_root = {root}
proxy = "http://user:{proxy}@127.0.0.1:1"
headers_file = {headers}

[[safety.sources]]
name = "broker"
mqtt = {{ host = "127.0.0.1", port = 1, username = "u", password_file = {password}, topic = "x" }}

[[safety.sources]]
name = "sensor"
http = {{ url = "http://127.0.0.1:1/?key={squery}", token_file = {token} }}

[[health.check]]
name = "second"
command = ["true", "{argument}"]
"#
    )
}

struct Asked<'a> {
    url: String,
    token: String,
    device: &'a TestDevice,
}

impl Asked<'_> {
    /// Head and body of an answer, as curl shows them.
    fn curl(&self, path: &str, more: &[&str]) -> String {
        let url = format!("{}{path}", self.url);
        let args = [&["--silent", "--show-error", "--include", "--max-time", "60"], more, &[&url]].concat();
        String::from_utf8_lossy(&process::read("curl", args).unwrap()).into_owned()
    }

    fn bearer(&self, path: &str, more: &[&str]) -> String {
        let header = format!("Authorization: Bearer {}", self.token);
        self.curl(path, &[&["--header", &header], more].concat())
    }

    /// The texts of a debug bundle, unpacked by tar.
    fn bundle(&self, folder: &Path) -> Vec<(String, String)> {
        let (archive, unpacked) = (folder.join("bundle.tar.gz"), folder.join("unpacked"));
        let header = format!("Authorization: Bearer {}", self.token);
        let url = format!("{}/api/v1/ota/debug-bundle", self.url);
        let args: [&OsStr; 9] = [
            "--silent".as_ref(),
            "--fail".as_ref(),
            "--request".as_ref(),
            "POST".as_ref(),
            "--header".as_ref(),
            header.as_ref(),
            "--output".as_ref(),
            archive.as_ref(),
            url.as_ref(),
        ];
        process::read("curl", args).unwrap();
        fs::create_dir(&unpacked).unwrap();
        let args: [&OsStr; 5] = [
            "-xzf".as_ref(),
            archive.as_ref(),
            "-C".as_ref(),
            unpacked.as_ref(),
            "--strip-components=1".as_ref(),
        ];
        process::read("tar", args).unwrap();
        let files = fs::read_dir(&unpacked).unwrap().map(Result::unwrap);
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        files.map(|file| (file.file_name().to_string_lossy().into_owned(), text(&file.path()))).collect()
    }

    /// Everything that clients and operators can come to see, by its name. Errors of every kind among it.
    fn everything(&self, folder: &Path) -> (String, Vec<(String, String)>) {
        let api = "/api/v1/ota";
        let json = |body: &'static str| ["--json", body];
        let login = self
            .curl(&format!("{api}/auth/session"), &["--json", &format!(r#"{{"token": "{}"}}"#, self.token)]);
        let cookie =
            login.split("ota_session=").nth(1).and_then(|rest| rest.split(';').next()).unwrap().to_owned();
        let mut seen: Vec<(String, String)> = Vec::new();
        let set = format!(r#"{{"new_pin": "{PIN}"}}"#);
        let wrong = format!(r#"{{"pin": "{WRONG_PIN}"}}"#);
        let number = format!(r#"{{"pin": {WRONG_PIN}}}"#);
        seen.push((
            "PIN set".into(),
            self.bearer(&format!("{api}/auth/pin"), &["--request", "PUT", "--json", &set]),
        ));
        seen.push(("wrong PIN".into(), self.bearer(&format!("{api}/updates/rollback"), &["--json", &wrong])));
        seen.push((
            "PIN as a number".into(),
            self.bearer(&format!("{api}/updates/rollback"), &["--json", &number]),
        ));
        let header = format!("Authorization: Bearer {WRONG_TOKEN}");
        seen.push(("wrong token".into(), self.curl(&format!("{api}/system/status"), &["--header", &header])));
        let login = format!(r#"{{"token": "{WRONG_TOKEN}"}}"#);
        seen.push(("wrong login".into(), self.curl(&format!("{api}/auth/session"), &["--json", &login])));
        let with_cookie = format!("Cookie: ota_session={cookie}");
        seen.push(("session".into(), self.curl(&format!("{api}/auth/session"), &["--header", &with_cookie])));
        seen.push((
            "cookie alone".into(),
            self.curl(
                &format!("{api}/updates/pause"),
                &[&["--header", with_cookie.as_str()][..], &json("{}")].concat(),
            ),
        ));
        for path in [
            "/updates/check",
            "/system/status",
            "/safety/status",
            "/events",
            "/updates/jobs",
            "/audit?limit=1000",
            "/audit?format=csv&limit=1000",
            "/audit/verify",
            "/reports/compliance",
            "/auth/tokens",
            "/upload",
        ] {
            seen.push((path.into(), self.bearer(&format!("{api}{path}"), &[])));
        }
        for path in ["/metrics", "/openapi.json", "/nothing"] {
            seen.push((path.into(), self.bearer(path, &[])));
        }
        seen.extend(self.bundle(folder));
        seen.push(("the log".into(), fs::read_to_string(self.device.layout.gateway_log()).unwrap()));
        (cookie, seen)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_in_use_are_seen_nowhere_in_any_of_four_encodings() {
    let folder = tempfile::tempdir().unwrap();
    let more = Box::leak(planted(folder.path()).into_boxed_str());
    let device = device_with(Offer::Small, Settings { more, log_level: "debug", ..settings() }).await;
    let url = fs::read_to_string(device.layout.url()).unwrap().trim().to_owned();
    let token = fs::read_to_string(device.layout.admin_token()).unwrap().trim().to_owned();
    let asked = Asked { url, token: token.clone(), device: &device };
    let (cookie, seen) = tokio::task::block_in_place(|| asked.everything(folder.path()));
    let digest = |text: &str| Sha256Digest::of(text.as_bytes()).to_string();
    let key = fs::read(device.layout.state().join("audit.key")).unwrap();
    let mut secrets: Vec<(&str, Vec<u8>)> =
        PLANTED.iter().map(|(name, s)| (*name, s.as_bytes().to_vec())).collect();
    secrets.extend([
        ("token", token.clone().into_bytes()),
        ("token digest", digest(&token).into_bytes()),
        ("cookie", cookie.clone().into_bytes()),
        ("cookie digest", digest(&cookie).into_bytes()),
        ("PIN", PIN.into()),
        ("wrong PIN", WRONG_PIN.into()),
        ("wrong token", WRONG_TOKEN.into()),
        ("PIN hash", b"$argon2".to_vec()),
        ("audit key", key),
    ]);
    assert!(secrets.len() >= 12);
    for name in
        ["gateway.toml", "boot-environment.txt", "log.txt", "versions.txt", "status.json", "audit.jsonl"]
    {
        let text =
            &seen.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("{name} is missing")).1;
        assert!(!text.starts_with("not available"), "{name}: {text}");
    }
    for (name, secret) in &secrets {
        let percent: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
        let forms = [
            secret.clone(),
            STANDARD.encode(secret).into(),
            hex::encode(secret).into(),
            percent.into_bytes(),
        ];
        for form in forms {
            for (place, text) in &seen {
                let found = text.as_bytes().windows(form.len()).position(|window| window == form);
                let around = found.map(|at| &text.as_bytes()[at.saturating_sub(80)..at]);
                assert!(
                    found.is_none(),
                    "{name} is in {place} as {}, behind {}",
                    String::from_utf8_lossy(&form),
                    String::from_utf8_lossy(around.unwrap_or_default())
                );
            }
        }
    }
}
