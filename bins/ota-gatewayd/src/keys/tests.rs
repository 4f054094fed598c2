//! Keys and lists made by `openssl` (Debian package openssl).

use std::{fs, path::Path, process::Command};

use ota_core::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::clock::SystemClock;

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
    sign_list(dir, &text, signer);
}

fn sign_list(dir: &TempDir, text: &str, signer: &str) {
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

/// A revocation list of the authority `name`, in the folder of keys under the name `file`.
fn revoke(dir: &TempDir, name: &str, file: &str, dates: &str) {
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ncrl_extensions=e\n\
        [e]\nauthorityKeyIdentifier=keyid:always\n";
    for (file, text) in [("ca.cnf", config), ("index.txt", ""), ("number", "01\n")] {
        fs::write(dir.path().join(file), text).unwrap();
    }
    let out = format!("keys/{file}");
    let arguments =
        format!("ca -config ca.cnf -cert {name}.pem -keyfile {name}.key -gencrl -out {out} {dates}");
    openssl(dir.path(), &arguments);
}

#[test]
fn revocation_lists_are_listed_and_where_they_are_required_a_missing_or_old_one_is_told() {
    let dir = keys();
    fs::remove_dir_all(dir.path().join("keys/development")).unwrap();
    let (lax, strict) = (configured(&dir, ""), configured(&dir, "require_crl=true"));
    let settings = settings(&lax).unwrap();
    let told = |config: &Config| check(config, &settings).map_err(|error| error.to_string());
    let missing = told(&strict).unwrap_err();
    assert!(missing.contains("CN=one") && missing.contains("no revocation list of it is here"), "{missing}");
    assert_eq!(told(&lax).unwrap(), "2 key(s) are good");

    let past = "-crl_lastupdate 20250301000000Z -crl_nextupdate 20250302000000Z";
    for name in ["one", "two"] {
        revoke(&dir, name, &format!("{name}-old.crl"), past);
    }
    assert_eq!(told(&lax).unwrap(), "2 key(s) are good");
    let text = list(&lax, &settings).unwrap();
    assert!(text.contains("CN=one  ran out at 2025-03-02T00:00:00Z, still looked at"), "{text}");
    let old = told(&strict).unwrap_err();
    assert!(old.contains("its revocation list ran out at 2025-03-02T00:00:00Z"), "{old}");

    for name in ["one", "two"] {
        revoke(&dir, name, &format!("{name}.crl"), "-crldays 5");
    }
    assert_eq!(told(&strict).unwrap(), "2 key(s) are good");
    let text = list(&strict, &settings).unwrap();
    assert!(text.contains("revoked  crl  ") && text.contains("CN=two  replaced by the newer "), "{text}");
}

#[test]
fn an_authority_that_is_retired_by_its_public_key_is_told_as_retired() {
    let dir = keys();
    fs::remove_dir_all(dir.path().join("keys/development")).unwrap();
    let config = configured(&dir, "");
    let settings = settings(&config).unwrap();
    openssl(dir.path(), "pkey -in two.key -pubout -outform DER -out two.der");
    let mark = ota_core::Sha256Digest::of(&fs::read(dir.path().join("two.der")).unwrap());
    sign_list(
        &dir,
        &format!("ota-key-list 1\nserial 1\nissued 2025-03-10T14:30:00Z\nretire {mark}\n"),
        "one",
    );
    assert!(list(&config, &settings).unwrap().contains("CN=two  retired by the key list"));
    assert!(check(&config, &settings).unwrap_err().to_string().contains("CN=two"));
}
