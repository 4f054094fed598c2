//! Against Debian's `age`: what we seal it opens, what it seals we open, and nobody else does.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use ota_core::ports::Snapshots as _;

use super::{Device, Recipients, ota};

/// Runs a tool; a missing one is named with its package.
#[expect(clippy::disallowed_methods, reason = "the independent tools of the packages age and tar")]
fn run(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; apt-get install age tar zstd"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A key of `age-keygen`: its file, and its recipient.
fn keygen(dir: &Path, name: &str) -> (String, String) {
    let text = String::from_utf8(run("age-keygen", &[], b"")).unwrap();
    let path = dir.join(name);
    fs::write(&path, &text).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    (text, recipient)
}

#[test]
fn what_is_sealed_here_opens_with_age_and_lists_with_tar() {
    let mut device = Device::new();
    device.write("plant.toml", b"speed = 3");
    let (_, recipient) = keygen(&device.at("outside"), "key");
    device.config.recipients = Recipients::parse(&[recipient]).unwrap();
    let made = device.create().unwrap();
    assert!(made.encrypted);
    let sealed = device.at("snapshots").join(format!("{}.tar.zst.age", made.id));
    let bytes = fs::read(&sealed).unwrap();
    assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
    assert!(!bytes.windows(5).any(|five| five == b"speed"));
    let key = device.at("outside/key").display().to_string();
    let archive = run("age", &["-d", "-i", &key, sealed.to_str().unwrap()], b"");
    let names = String::from_utf8(run("tar", &["--zstd", "-tf", "-"], &archive)).unwrap();
    let inside = device.settings().display().to_string();
    assert_eq!(
        names.lines().collect::<Vec<_>>(),
        [format!("files{inside}/"), format!("files{inside}/plant.toml"), "manifest.json".into()]
    );
    let wanted = format!("files{inside}/plant.toml");
    assert_eq!(run("tar", &["--zstd", "-xOf", "-", &wanted], &archive), b"speed = 3");
}

#[test]
fn what_age_sealed_is_put_back_with_the_identity_and_with_no_other() {
    let mut device = Device::new();
    device.write("plant.toml", b"speed = 3");
    let made = device.create().unwrap();
    let plain = device.at("snapshots").join(format!("{}.tar.zst", made.id));
    let (identity, recipient) = keygen(&device.at("outside"), "key");
    let (stranger, _) = keygen(&device.at("outside"), "other");
    let sealed = run("age", &["-r", &recipient], &fs::read(&plain).unwrap());
    fs::remove_file(&plain).unwrap();
    fs::write(plain.with_extension("zst.age"), &sealed).unwrap();
    assert!(device.folder().list().unwrap()[0].encrypted);
    device.write("plant.toml", b"speed = 900");
    let before = device.picture("inside");
    for wrong in [None, Some(stranger.as_str()), Some("AGE-SECRET-KEY-1"), Some("")] {
        let error = device.folder().restore(&made.id, wrong).unwrap_err();
        assert_eq!(ota(&error).code().number(), 5, "{wrong:?}");
        let told = error.chain();
        assert!(wrong.is_none_or(|key| key.is_empty() || !told.contains(key)), "{told}");
    }
    assert_eq!(device.picture("inside"), before);
    device.folder().restore(&made.id, Some(&identity)).unwrap();
    assert_eq!(fs::read(device.settings().join("plant.toml")).unwrap(), b"speed = 3");
    // The same with the identity on the device itself.
    device.write("plant.toml", b"speed = 900");
    device.config.identity = Some(device.at("outside/key"));
    device.folder().restore(&made.id, None).unwrap();
    assert_eq!(fs::read(device.settings().join("plant.toml")).unwrap(), b"speed = 3");
    let mut torn = sealed;
    torn.truncate(torn.len() - 1);
    fs::write(plain.with_extension("zst.age"), &torn).unwrap();
    assert!(device.folder().restore(&made.id, Some(&identity)).is_err());
}
