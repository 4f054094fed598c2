//! Keys and lists made by `openssl` (Debian package openssl).

use std::{fs, process::Command};

use tempfile::TempDir;

use super::*;

#[track_caller]
fn openssl(folder: &Path, arguments: &str) {
    #[expect(clippy::disallowed_methods, reason = "the tests are the owner of these programs")]
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run openssl ({e}): install the package openssl"));
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with the keys of two release engineers, each its own authority, and of a developer.
fn keys() -> TempDir {
    let dir = TempDir::new().unwrap();
    let keys = dir.path().join("keys");
    fs::create_dir_all(keys.join("development")).unwrap();
    for (name, to) in [("one", "keys"), ("two", "keys"), ("dev", "keys/development")] {
        openssl(
            dir.path(),
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem -subj /CN={name} -days 30 -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
            ),
        );
        openssl(
            dir.path(),
            &format!(
                "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}-s.key -out {name}-s.csr -subj /CN={name}-signer"
            ),
        );
        fs::write(
            dir.path().join("ext"),
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n",
        )
        .unwrap();
        openssl(
            dir.path(),
            &format!(
                "x509 -req -in {name}-s.csr -CA {name}.pem -CAkey {name}.key -CAcreateserial -extfile ext -days 20 -out {name}-s.pem"
            ),
        );
        fs::copy(dir.path().join(format!("{name}.pem")), dir.path().join(to).join(format!("{name}.pem")))
            .unwrap();
    }
    dir
}

fn configured(dir: &TempDir, more: &str) -> Config {
    let at = dir.path().display();
    let text = format!(
        "[gateway]\nname='g'\nmodel='M'\nserial='S'\n[slots]\na='/dev/a'\nb='/dev/b'\n[clock]\ntrust='always'\n[state]\ndir='{at}/state'\n\
         [verify]\nkeys='{at}/keys'\nkey_list='{at}/keys.list'\n{more}\n"
    );
    let path = dir.path().join("gateway.toml");
    fs::write(&path, text).unwrap();
    Config::load(&path).unwrap()
}

/// A list that retires the authority `two`, signed by `signer`.
fn publish(dir: &TempDir, serial: u32, signer: &str) {
    openssl(dir.path(), "x509 -in two.pem -outform DER -out two.der");
    let mark = ota_core::Sha256Digest::of(&fs::read(dir.path().join("two.der")).unwrap());
    let text = format!("ota-key-list 1\nserial {serial}\nissued 2025-03-10T14:30:00Z\nretire {mark}\n");
    fs::write(dir.path().join("keys.list"), text).unwrap();
    openssl(
        dir.path(),
        &format!(
            "cms -sign -binary -in keys.list -signer {signer}-s.pem -inkey {signer}-s.key -outform DER -out keys.list.p7s"
        ),
    );
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(crate::config::ClockTrust::Always, "/".into()))
}

#[test]
fn keys_are_listed_with_role_name_and_standing() {
    let dir = keys();
    let config = configured(&dir, "");
    let settings = settings(&config).unwrap();
    let text = list(&config, &settings).unwrap();
    assert!(text.contains("release  x509  ") && text.contains("CN=one  until 20"), "{text}");
    assert!(
        text.contains("CN=dev  a development key, which verify.development_keys does not allow"),
        "{text}"
    );
    assert!(text.contains("key list: none\njudged at: 20"), "{text}");
    let error = check(&config, &settings).unwrap_err().to_string();
    assert!(error.contains("2 key(s) are good, 1 are not: CN=dev"), "{error}");
    let allowed = configured(&dir, "development_keys=true");
    assert_eq!(check(&allowed, &settings).unwrap(), "3 key(s) are good");
}

#[test]
fn a_signed_list_retires_a_key_and_cannot_be_taken_away_or_rolled_back() {
    let dir = keys();
    fs::remove_dir_all(dir.path().join("keys/development")).unwrap();
    let config = configured(&dir, "");
    let settings = settings(&config).unwrap();
    publish(&dir, 7, "one");
    let verifier = open_verifier(&config, &clock(), &settings).unwrap();
    assert!(!verifier.keyring().is_empty());
    assert_eq!(serial(&*settings).unwrap(), 7);
    assert!(wire::stored_floor(&*settings) >= Some(Timestamp::from_secs(1_741_617_000)), "time has a floor");
    assert!(list(&config, &settings).unwrap().contains("CN=two  retired by the key list"));
    let error = check(&config, &settings).unwrap_err().to_string();
    assert!(error.contains("CN=two") && error.contains("retired"), "{error}");

    // An older one, one by the key that it retires, and none at all: nothing is trusted.
    for spoil in [
        (|dir: &TempDir| publish(dir, 6, "one")) as fn(&TempDir),
        |dir| publish(dir, 8, "two"),
        |dir| fs::remove_file(dir.path().join("keys.list")).unwrap(),
    ] {
        spoil(&dir);
        assert!(open_verifier(&config, &clock(), &settings).unwrap().keyring().is_empty());
        assert!(check(&config, &settings).unwrap_err().to_string().contains("no key is trusted"));
        assert_eq!(serial(&*settings).unwrap(), 7);
    }
    publish(&dir, 8, "one");
    assert!(!open_verifier(&config, &clock(), &settings).unwrap().keyring().is_empty());
    assert_eq!(serial(&*settings).unwrap(), 8);
}
