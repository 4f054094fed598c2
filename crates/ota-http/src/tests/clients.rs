//! Client certificates: made by openssl, shown by curl, mapped to names and roles.

use std::path::{Path, PathBuf};

use ota_core::ports::Role;
use serde_json::Value;
use tokio::process::Command;

use super::harness::{ADMIN, API, Gateway, VIEWER};
use crate::{ClientCa, ClientCert, ClientSubject, self_signed};

/// Starts a program of Debian and gives what it said; says which package brings it.
async fn tool(program: &str, args: &[&str], folder: &Path) -> (bool, String) {
    #[expect(clippy::disallowed_methods, reason = "certificates and requests come from independent tools")]
    let output = Command::new(program).args(args).current_dir(folder).output().await;
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install {program}"));
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

async fn openssl(folder: &Path, line: &str) {
    let (made, said) = tool("openssl", &line.split_whitespace().collect::<Vec<_>>(), folder).await;
    assert!(made, "{line}: {said}");
}

/// A CA and what it signed: `NAME.pem` with `NAME.key`.
async fn authority(folder: &Path, ca: &str, clients: &[(&str, &str, &str)]) {
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 {new} -keyout {ca}.key -out {ca}.pem -subj /CN={ca} -days 30")).await;
    for (name, common, alternative) in clients {
        let ext = format!("extendedKeyUsage=clientAuth\nsubjectAltName={alternative}\n");
        std::fs::write(folder.join(format!("{name}.ext")), ext).unwrap();
        openssl(folder, &format!("req {new} -keyout {name}.key -out {name}.csr -subj /CN={common}")).await;
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 30 -out {name}.pem \
                 -extfile {name}.ext"
            ),
        )
        .await;
    }
}

struct Plant {
    folder: tempfile::TempDir,
    gateway: Gateway,
}

impl Plant {
    async fn start(required: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clients = [
            ("ops", "ops-laptop", "DNS:ops.plant.example"),
            ("boss", "boss", "URI:spiffe://plant/boss"),
            ("guest", "guest", "DNS:guest.plant.example"),
        ];
        authority(folder.path(), "ca", &clients).await;
        authority(folder.path(), "other", &[("thief", "ops-laptop", "DNS:ops.plant.example")]).await;
        let server = self_signed(&["localhost".into(), "127.0.0.1".into()]).unwrap();
        std::fs::write(folder.path().join("server.pem"), &server.chain).unwrap();
        let pem = std::fs::read(folder.path().join("ca.pem")).unwrap();
        let entry = |subject, name: &str, role| ClientCert { subject, name: name.into(), role };
        let gateway = Gateway::with(|config| {
            config.tls = Some(crate::TlsMaterial { client_ca: Some(ClientCa { pem, required }), ..server });
            config.clients.entries = vec![
                entry(ClientSubject::CommonName("ops-laptop".into()), "ops", Role::Operator),
                entry(ClientSubject::Uri("spiffe://plant/boss".into()), "boss", Role::Admin),
            ];
        })
        .await;
        Self { folder, gateway }
    }

    /// What curl gets: the status (0 when the handshake fails) and the body.
    async fn curl(&self, client: Option<&str>, more: &[&str], path: &str) -> (u16, Value) {
        let url = format!("https://{}{API}{path}", self.gateway.address);
        let mut args =
            vec!["--silent", "--noproxy", "*", "--cacert", "server.pem", "--write-out", "\n%{http_code}"];
        let names: Option<[PathBuf; 2]> =
            client.map(|name| [format!("{name}.pem").into(), format!("{name}.key").into()]);
        if let Some([certificate, key]) = &names {
            args.extend(["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()]);
        }
        args.extend(more);
        args.push(&url);
        let (_, said) = tool("curl", &args, self.folder.path()).await;
        let (body, status) = said.rsplit_once('\n').unwrap_or(("", "0"));
        (status.trim().parse().unwrap_or(0), serde_json::from_str(body).unwrap_or_default())
    }
}

#[tokio::test]
async fn a_listed_certificate_has_its_role_and_stands_in_the_audit() {
    let plant = Plant::start(false).await;
    let (status, body) = plant.curl(Some("ops"), &[], "/auth/session").await;
    assert_eq!((status, &body["name"], &body["role"]), (200, &"cert:ops".into(), &"operator".into()));
    let download = ["--json", "{\"update_id\": \"rel-v5.0.5\"}"];
    assert_eq!(plant.curl(Some("ops"), &download, "/updates/download").await.0, 200);
    let record = plant.gateway.audited("updates.download").await;
    assert_eq!((record.actor.as_str(), record.role), ("cert:ops", Some(Role::Operator)));
    let (status, body) = plant.curl(Some("ops"), &[], "/audit").await;
    assert_eq!((status, &body["name"]), (403, &"FORBIDDEN".into()));
    assert!(body["message"].as_str().unwrap().contains("the certificate has operator"), "{body}");
    assert_eq!(plant.curl(Some("boss"), &[], "/audit").await.0, 200);
    // From a page of another site, with the certificate that the browser shows to everybody.
    let foreign = ["--header", "Origin: https://evil.example", "--json", "{}"];
    assert_eq!(plant.curl(Some("ops"), &foreign, "/updates/pause").await.0, 403);
    let foreign = ["--header", "Sec-Fetch-Site: cross-site", "--json", "{}"];
    assert_eq!(plant.curl(Some("ops"), &foreign, "/updates/pause").await.0, 403);
}

#[tokio::test]
async fn optional_certificates_leave_tokens_and_required_ones_turn_others_away() {
    let plant = Plant::start(false).await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    assert_eq!(plant.curl(None, &["--header", &bearer(VIEWER)], "/system/status").await.0, 200);
    assert_eq!(plant.curl(None, &[], "/system/status").await.0, 401);
    // Believed, but nobody says what it may do.
    assert_eq!(plant.curl(Some("guest"), &[], "/system/status").await.0, 401);
    // What is said aloud counts: a token beside the certificate.
    let (_, body) = plant.curl(Some("boss"), &["--header", &bearer(VIEWER)], "/auth/session").await;
    assert_eq!(body["name"], "viewer");
    assert_eq!(plant.curl(Some("boss"), &["--header", &bearer("wrong")], "/system/status").await.0, 401);
    assert_eq!(plant.curl(Some("thief"), &["--header", &bearer(ADMIN)], "/system/status").await.0, 0);
    let plant = Plant::start(true).await;
    assert_eq!(plant.curl(None, &["--header", &bearer(ADMIN)], "/system/status").await.0, 0);
    assert_eq!(plant.curl(Some("ops"), &[], "/system/status").await.0, 200);
    assert_eq!(plant.curl(Some("guest"), &["--header", &bearer(VIEWER)], "/system/status").await.0, 200);
}
