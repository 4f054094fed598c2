//! Uploads on a real folder: replacement, leftovers, quotas, a full medium, every cut of a commit.

use std::{fs, path::Path};

use ota_core::{
    ByteCount, ImageName, OtaError, Sha256Digest, Timestamp,
    error::{PortError, PortErrorKind},
    ports::{ImageFacts, ImageStore as _, Upload, UploadLabel, UploadStore, UploadWriter, Verification},
    release::{ChecksumFile, DetachedSignature, Evidence, ImageKind, SignatureKind, Vouched},
};

use super::{StagedUploads, record};
use crate::Staging;

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn staging(&self) -> Staging {
        Staging::open(self.path()).unwrap()
    }

    fn open(&self) -> StagedUploads {
        self.with_quota(None)
    }

    fn with_quota(&self, quota: Option<u64>) -> StagedUploads {
        StagedUploads::open(self.staging(), quota.map(ByteCount)).unwrap()
    }

    fn files(&self) -> Vec<String> {
        files(self.path())
    }
}

fn files(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn label(version: &str) -> UploadLabel {
    UploadLabel {
        version: version.parse().unwrap(),
        description: Some("a\nline".into()),
        signatures: Vec::new(),
        checksums: None,
        verification: None,
        stored: Timestamp::from_secs(7),
    }
}

fn cms(bytes: &[u8]) -> Vec<DetachedSignature> {
    vec![DetachedSignature { kind: SignatureKind::Cms, bytes: bytes.to_vec() }]
}

fn sealed(uploads: &StagedUploads, file: &str, bytes: &[u8]) -> Box<dyn UploadWriter> {
    let mut writer = uploads.begin(&name(file), None).unwrap();
    for piece in bytes.chunks(1000) {
        writer.append(piece).unwrap();
    }
    let image = writer.seal().unwrap();
    assert_eq!((image.size.get(), image.sha256), (bytes.len() as u64, Sha256Digest::of(bytes)));
    writer
}

fn put(uploads: &StagedUploads, file: &str, bytes: &[u8], version: &str) -> Upload {
    sealed(uploads, file, bytes).commit(label(version)).unwrap()
}

fn verification(upload: &Upload) -> Verification {
    let facts = ImageFacts {
        kind: ImageKind::Raw,
        format: "ext4".into(),
        partition_layout: "standard".into(),
        packing: None,
        unpacked: None,
    };
    let vouched = Vouched {
        sha256: upload.image.sha256,
        size: upload.image.size,
        signers: Vec::new(),
        checksummed: false,
        trust: String::new(),
    };
    Verification { vouched, facts: Some(facts), at: Timestamp::from_secs(8) }
}

fn space(error: PortError) -> String {
    match error.kind() {
        PortErrorKind::Ota(OtaError::InsufficientSpace { place, .. }) => place.clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn an_upload_is_hidden_until_it_is_whole_and_survives_a_restart_with_its_record() {
    let folder = Folder::new();
    let uploads = folder.open();
    let writer = sealed(&uploads, "a.img", &[7; 5000]);
    assert_eq!(uploads.list().unwrap(), []);
    assert!(folder.files().iter().all(|file| file.starts_with('.')), "{:?}", folder.files());
    let stored = writer.commit(label("v5.1.0-custom")).unwrap();
    let again = folder.open();
    assert_eq!(again.find(&name("a.img")).unwrap(), Some(stored.clone()));
    assert_eq!(again.list().unwrap(), [stored]);
    assert_eq!(folder.files(), [".a.img.upload", "a.img"]);
    assert!(again.remove(&name("a.img")).unwrap());
    assert!(!again.remove(&name("a.img")).unwrap());
    assert_eq!(folder.files(), [""; 0]);
}

#[test]
fn an_upload_that_is_dropped_or_cut_off_leaves_nothing_and_the_earlier_one_stays() {
    let folder = Folder::new();
    let uploads = folder.open();
    let first = put(&uploads, "a.img", b"first", "v1.0.0");
    let mut dropped = uploads.begin(&name("a.img"), Some(ByteCount(1 << 20))).unwrap();
    dropped.append(&[1; 9000]).unwrap();
    drop(dropped);
    drop(sealed(&uploads, "a.img", b"second"));
    assert_eq!(folder.files(), [".a.img.upload", "a.img"]);
    let mut cut = uploads.begin(&name("a.img"), None).unwrap();
    cut.append(b"third").unwrap();
    // A power cut runs no destructor.
    std::mem::forget(cut);
    assert_eq!(folder.files().len(), 3);
    assert_eq!(folder.open().find(&name("a.img")).unwrap(), Some(first));
    assert_eq!(folder.files(), [".a.img.upload", "a.img"]);
}

#[test]
fn a_replacement_takes_the_signatures_of_its_predecessor_with_it_and_leaves_those_put_there_by_hand() {
    let folder = Folder::new();
    let uploads = folder.open();
    let signed = UploadLabel { signatures: cms(b"0one"), ..label("v1.0.0") };
    sealed(&uploads, "a.img", b"one").commit(signed).unwrap();
    assert_eq!(fs::read(folder.path().join("a.img.p7s")).unwrap(), b"0one");
    fs::write(folder.path().join("a.img.asc"), "by hand").unwrap();
    let writer = sealed(&uploads, "a.img", b"two");
    assert_eq!(writer.evidence().unwrap().signatures.len(), 1);
    writer.commit(label("v2.0.0")).unwrap();
    assert_eq!(folder.files(), [".a.img.upload", "a.img", "a.img.asc"]);
    let signed = UploadLabel { signatures: cms(b"0three"), ..label("v3.0.0") };
    sealed(&uploads, "a.img", b"three").commit(signed).unwrap();
    assert_eq!(folder.files(), [".a.img.upload", "a.img", "a.img.p7s"]);
    folder.staging().remove(&name("a.img")).unwrap();
    assert_eq!(folder.files(), [""; 0]);
}

#[test]
fn several_signatures_of_a_kind_lie_beside_their_image_and_go_with_it() {
    let folder = Folder::new();
    let uploads = folder.open();
    let pgp = DetachedSignature { kind: SignatureKind::Openpgp, bytes: b"\x89".to_vec() };
    let signatures = [cms(b"0one"), vec![pgp], cms(b"0two"), cms(b"0three")].concat();
    let checksums = ChecksumFile {
        text: b"sums".to_vec(),
        signatures: [cms(b"0four"), cms(b"0five")].concat(),
        name: "a.img".into(),
    };
    let (signed, listed) = (signatures.clone(), Some(checksums.clone()));
    let brings = UploadLabel { signatures: signed, checksums: listed, ..label("v1.0.0") };
    sealed(&uploads, "a.img", b"one").commit(brings).unwrap();
    let own = ["a.img.p7s", "a.img.p7s.2", "a.img.p7s.3", "a.img.sig", "a.img.sums"];
    let all = [&[".a.img.upload", "a.img"], &own[..], &["a.img.sums.p7s", "a.img.sums.p7s.2"]].concat();
    assert_eq!(folder.files(), all);
    let found = folder.staging().evidence(&name("a.img")).unwrap();
    assert_eq!(found.checksums, Some(checksums));
    assert_eq!(found.signatures.len(), 4);
    assert!(signatures.iter().all(|signature| found.signatures.contains(signature)));
    assert!(uploads.begin(&name("a.img.p7s.2"), None).is_err(), "no image has the name of a signature");

    let nine = UploadLabel { signatures: vec![cms(b"0").remove(0); 9], ..label("v1.0.1") };
    assert!(sealed(&uploads, "a.img", b"two").commit(nine).is_err());
    assert_eq!(folder.files(), all);
    let signed = UploadLabel { signatures: cms(b"0six"), ..label("v2.0.0") };
    sealed(&uploads, "a.img", b"three").commit(signed).unwrap();
    assert_eq!(folder.files(), [".a.img.upload", "a.img", "a.img.p7s"]);
}

#[test]
fn a_checksum_file_lies_beside_its_image_with_its_signature_and_goes_with_it() {
    let folder = Folder::new();
    let uploads = folder.open();
    let checksums =
        ChecksumFile { text: b"digest  a.img\n".to_vec(), signatures: cms(b"0sums"), name: "a.img".into() };
    let listed = UploadLabel { checksums: Some(checksums.clone()), ..label("v1.0.0") };
    fs::write(folder.path().join("a.img.asc"), "by hand, of another image").unwrap();
    sealed(&uploads, "a.img", b"one").commit(listed.clone()).unwrap();
    let files = [".a.img.upload", "a.img", "a.img.sums", "a.img.sums.p7s"];
    assert_eq!(folder.files(), files);
    let expected = Evidence { signatures: Vec::new(), checksums: Some(checksums) };
    assert_eq!(folder.staging().evidence(&name("a.img")).unwrap(), expected);
    let writer = sealed(&uploads, "a.img", b"two");
    assert!(writer.evidence().unwrap().is_empty(), "what an upload brought does not vouch for the next one");
    writer.commit(label("v2.0.0")).unwrap();
    assert_eq!(folder.files(), [".a.img.upload", "a.img"]);
    // Put there by hand it counts for whatever is uploaded.
    fs::write(folder.path().join("a.img.sums"), "by hand").unwrap();
    let writer = sealed(&uploads, "a.img", b"three");
    assert_eq!(writer.evidence().unwrap().checksums.unwrap().text, b"by hand");
    drop(writer);
    assert!(uploads.begin(&name("b.img.sums"), None).is_err(), "the name of a checksum file is taken");
    folder.staging().remove(&name("a.img")).unwrap();
    assert_eq!(folder.files(), [""; 0]);
}

/// Everything that a commit does before its deciding step, and after it, cut at each file.
#[test]
fn a_commit_that_is_cut_anywhere_leaves_the_old_image_or_the_new_one_with_its_own_record() {
    for cut in 0..5 {
        let folder = Folder::new();
        let uploads = folder.open();
        let before = UploadLabel { signatures: cms(b"0old"), ..label("v1.0.0") };
        let old = sealed(&uploads, "a.img", b"old").commit(before).unwrap();
        let old_record = fs::read(folder.path().join(".a.img.upload")).unwrap();
        let after = UploadLabel { signatures: cms(b"0new"), ..label("v2.0.0") };
        let new = sealed(&uploads, "a.img", b"new").commit(after).unwrap();
        let at = |file: &str| folder.path().join(file);
        // Back to what lay there when the first `cut` steps of five had been done.
        if cut < 5 {
            fs::rename(at(".a.img.upload"), at(".a.img.upload.new")).unwrap();
            fs::write(at(".a.img.upload"), &old_record).unwrap();
        }
        if cut < 4 {
            fs::rename(at("a.img.p7s"), at(".a.img.p7s.new")).unwrap();
            fs::write(at("a.img.p7s"), "0old").unwrap();
        }
        if cut < 3 {
            fs::rename(at("a.img"), at(".a.img.9.incoming")).unwrap();
            fs::write(at("a.img"), "old").unwrap();
        }
        if cut < 2 {
            fs::remove_file(at(".a.img.upload.new")).unwrap();
        }
        if cut < 1 {
            fs::write(at(".a.img.p7s.new"), "0n").unwrap();
        }
        let recovered = folder.open().find(&name("a.img")).unwrap().unwrap();
        let (image, expected, signature) = if cut < 3 { ("old", old, "0old") } else { ("new", new, "0new") };
        assert_eq!(fs::read_to_string(at("a.img")).unwrap(), image, "cut {cut}");
        assert_eq!(recovered.image, expected.image, "cut {cut}");
        assert_eq!(fs::read_to_string(at("a.img.p7s")).unwrap(), signature, "cut {cut}");
        assert_eq!(folder.files(), [".a.img.upload", "a.img", "a.img.p7s"], "cut {cut}");
    }
}

#[test]
fn a_verification_counts_for_the_file_it_was_made_of_and_no_other() {
    let folder = Folder::new();
    let uploads = folder.open();
    let file = name("a.img");
    let first = put(&uploads, "a.img", b"first", "v1.0.0");
    assert!(uploads.record_verification(&first.image, &verification(&first)).unwrap());
    let again = folder.open();
    assert_eq!(again.find(&file).unwrap().unwrap().verification, Some(verification(&first)));
    // Somebody exchanges the file, even for one of the same length.
    fs::write(folder.path().join("b"), "other").unwrap();
    fs::rename(folder.path().join("b"), folder.path().join("a.img")).unwrap();
    assert_eq!(again.find(&file).unwrap().unwrap().verification, None);
    assert!(!again.record_verification(&first.image, &verification(&first)).unwrap());
    let second = put(&again, "a.img", b"second", "v2.0.0");
    assert!(!again.record_verification(&first.image, &verification(&first)).unwrap());
    assert_eq!(again.find(&file).unwrap(), Some(second));
}

#[test]
fn downloads_and_signatures_are_not_replaced_by_an_upload_of_their_name() {
    let folder = Folder::new();
    let uploads = folder.open();
    fs::write(folder.path().join("update-0123456789abcdef.img"), "downloaded").unwrap();
    for taken in ["update-0123456789abcdef.img", "a.img.sig", "a.img.p7s"] {
        let refused = uploads.begin(&name(taken), None).err().unwrap();
        assert!(matches!(refused.kind(), PortErrorKind::Ota(OtaError::SystemBusy { .. })), "{refused}");
    }
    assert!(!uploads.remove(&name("update-0123456789abcdef.img")).unwrap());
    assert_eq!(folder.files(), ["update-0123456789abcdef.img"]);
}

#[test]
fn the_quota_counts_what_is_stored_and_what_is_arriving_but_not_what_is_replaced() {
    let folder = Folder::new();
    let uploads = folder.with_quota(Some(10_000));
    put(&uploads, "a.img", &[1; 6000], "v1.0.0");
    assert_eq!(space(uploads.begin(&name("b.img"), Some(ByteCount(4001))).err().unwrap()), "uploads");
    put(&uploads, "a.img", &[2; 9000], "v2.0.0");
    let mut second = uploads.begin(&name("b.img"), None).unwrap();
    second.append(&[0; 1001]).unwrap();
    assert_eq!(space(second.seal().unwrap_err()), "uploads");
    drop(second);
    assert_eq!(folder.files(), [".a.img.upload", "a.img"]);
}

/// A file system of 1 MiB, as root can mount one.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (kind, options) = (Some("tmpfs"), Some("size=1m"));
        nix::mount::mount(Some("none"), dir.path(), kind, nix::mount::MsFlags::empty(), options)
            .expect("this test mounts a tmpfs: run it as root");
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_medium_is_said_as_such_and_everything_is_given_back() {
    let full = Tmpfs::mount();
    let uploads = StagedUploads::open(Staging::open(full.0.path()).unwrap(), None).unwrap();
    let first = put(&uploads, "a.img", &[1; 300_000], "v1.0.0");
    assert_eq!(space(uploads.begin(&name("b.img"), Some(ByteCount(900_000))).err().unwrap()), "staging");
    let mut writer = uploads.begin(&name("b.img"), None).unwrap();
    let refused = (0..100).find_map(|_| writer.append(&[2; 100_000]).err()).unwrap();
    assert_eq!(space(refused), "staging");
    drop(writer);
    assert_eq!(files(full.0.path()), [".a.img.upload", "a.img"]);
    assert_eq!(uploads.list().unwrap(), [first]);
    put(&uploads, "b.img", &[2; 500_000], "v1.0.0");
}

#[test]
fn the_reader_of_a_sealed_upload_starts_at_its_front_each_time() {
    let folder = Folder::new();
    let writer = sealed(&folder.open(), "a.img", &[3; 2500]);
    for _ in 0..2 {
        let (mut reader, mut all, mut buf) = (writer.reader().unwrap(), Vec::new(), [0; 999]);
        while let got @ 1.. = reader.read(&mut buf).unwrap() {
            all.extend_from_slice(&buf[..got]);
        }
        assert_eq!(all, [3; 2500]);
    }
}

#[test]
fn a_damaged_record_is_no_record() {
    let folder = Folder::new();
    let uploads = folder.open();
    put(&uploads, "a.img", b"first", "v1.0.0");
    fs::write(folder.path().join(record::record_name(&name("a.img"))), "{").unwrap();
    assert_eq!(uploads.find(&name("a.img")).unwrap(), None);
    fs::remove_file(folder.path().join("a.img")).unwrap();
    folder.open();
    assert_eq!(folder.files(), [""; 0]);
}
