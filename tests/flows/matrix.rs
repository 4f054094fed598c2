//! Every image format with every kind of signature, good and spoiled, through the real verifier, inspector, engine, boot
//! environment and slot writer in this process. Made by mkfs.ext4, mksquashfs, GNU tar, gzip, zstd, openssl and gpg.
//!
//! A refusal has the right code, and neither environment nor slots change.

mod bench;
mod keys;

use ota_core::{
    ErrorCode, OtaError, Sha256Digest, error::SignatureFault, ports::SlotRecord, release::ChecksumFile,
};

use self::{
    bench::{Bench, Image},
    keys::{Keys, Kind},
};

/// How the code and, of a signature, the reason are told.
type Refusal = (ErrorCode, Option<SignatureFault>);

const fn signature(reason: SignatureFault) -> Refusal {
    (ErrorCode::SignatureInvalid, Some(reason))
}

fn told(error: &OtaError) -> Refusal {
    match error {
        OtaError::SignatureInvalid { reason, .. } => (error.code(), Some(*reason)),
        _ => (error.code(), None),
    }
}

/// A copy with a bit of byte `at` changed.
fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    copy[at] ^= 0x04;
    copy
}

/// Places spread over a stretch of bytes, its first and last among them.
fn places(from: usize, to: usize, count: usize) -> impl Iterator<Item = usize> {
    let last = to.saturating_sub(from + 1);
    (0..count).map(move |n| from + last * n / (count - 1).max(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_with_every_kind_of_signature_is_taken_or_refused_with_the_right_code() {
    let keys = tokio::task::spawn_blocking(Keys::make).await.unwrap();
    let (mut cases, mut good) = (0, 0);
    let bench = Bench::new(&keys).await;
    for (name, bytes) in bench.images() {
        for kind in Kind::ALL {
            let signed = keys.sign(kind, name, bytes, "good");
            bench.taken(name, &signed).await;
            good += 1;
            for (case, image, wanted) in spoiled(&keys, kind, name, bytes, &signed) {
                let refused = bench.refused(name, &image).await;
                assert!(
                    wanted.contains(&told(&refused)),
                    "{name}, {kind:?}, {case}: {refused:?}, not {wanted:?}"
                );
                cases += 1;
            }
            for (case, wanted) in [
                ("expired", SignatureFault::Expired),
                ("not yet valid", SignatureFault::NotYetValid),
                ("revoked", SignatureFault::Revoked),
            ] {
                bench.circumstances(case);
                let refused = bench.refused(name, &signed).await;
                assert_eq!(told(&refused), signature(wanted), "{name}, {kind:?}, {case}: {refused:?}");
                bench.circumstances("now");
                cases += 1;
            }
        }
    }
    assert!(good == 36 && cases > 1500, "{good} good ones, {cases} refusals");
    bench.is_untouched();
}

/// Everything that somebody without the key can do to an image that was signed, and what comes of it.
fn spoiled(
    keys: &Keys,
    kind: Kind,
    name: &str,
    bytes: &[u8],
    signed: &Image,
) -> Vec<(String, Image, Vec<Refusal>)> {
    use SignatureFault::{Malformed, Mismatch, Missing, Untrusted, WeakAlgorithm};
    let mut cases = Vec::new();
    let mut case =
        |name: String, image: Image, wanted: &[Refusal]| cases.push((name, image, wanted.to_vec()));
    let other: Vec<u8> = flipped(bytes, bytes.len() / 2);
    // What a damaged signature file can be taken for.
    let broken =
        [Malformed, Mismatch, Untrusted, WeakAlgorithm, Missing, SignatureFault::KeyUsage].map(signature);
    let checksum = (ErrorCode::ChecksumMismatch, None);

    case("wrong key".into(), keys.sign(kind, name, bytes, "stranger"), &[signature(Untrusted)]);
    if kind.is_detached() {
        case("no signature".into(), Image { signatures: vec![], ..signed.clone() }, &[signature(Missing)]);
        let mut empty = signed.clone();
        empty.signatures[0].bytes.clear();
        case("empty signature".into(), empty, &[signature(Missing)]);
        let foreign = Image { file: other.clone(), ..signed.clone() };
        case("signature of another image".into(), foreign, &[signature(Mismatch)]);
        for at in places(0, bytes.len(), 9) {
            let image = Image { file: flipped(bytes, at), ..signed.clone() };
            case(format!("image flipped at {at}"), image, &[signature(Mismatch)]);
        }
        for at in structure(bytes) {
            let image = Image { file: bytes[..at].to_vec(), ..signed.clone() };
            case(format!("image cut at {at}"), image, &[signature(Mismatch)]);
        }
        let signature_file = &signed.signatures[0].bytes;
        for at in kind.boundaries(signature_file) {
            let mut image = signed.clone();
            image.signatures[0].bytes.truncate(at);
            case(format!("signature cut at {at}"), image, &broken);
        }
        for at in kind.signed_places(signature_file) {
            let mut image = signed.clone();
            image.signatures[0].bytes = flipped(signature_file, at);
            case(format!("signature flipped at {at}"), image, &broken);
        }
        return cases;
    }
    if kind.is_list() {
        return spoiled_list(keys, kind, bytes, signed);
    }
    let (image, manifest, records) = signed.parts();
    let file = &signed.file;
    case("no signature".into(), signed.without_records(), &[signature(Missing)]);
    case("no trailer".into(), Image { file: bytes.to_vec(), ..signed.clone() }, &[signature(Missing)]);
    case("empty signature".into(), signed.with_empty_record(), &[signature(Missing)]);
    let foreign = [&other[..], &file[image..]].concat();
    let another = if name.contains("squashfs") { "raw.img" } else { "rootfs.squashfs" };
    let invalid = (ErrorCode::InvalidImage, None);
    case("signed as another format".into(), keys.sign(kind, another, bytes, "good"), &[invalid]);
    case("trailer of another image".into(), Image { file: foreign, ..signed.clone() }, &[checksum]);
    for at in places(0, image, 9) {
        let damaged = Image { file: flipped(file, at), ..signed.clone() };
        case(format!("image flipped at {at}"), damaged, &[checksum]);
    }
    for at in places(image, image + manifest, 12) {
        let damaged = Image { file: flipped(file, at), ..signed.clone() };
        case(format!("manifest flipped at {at}"), damaged, &[signature(Mismatch)]);
    }
    let start = image + manifest;
    for at in kind.signed_places(&file[start + 16..start + records]) {
        let damaged = Image { file: flipped(file, start + 16 + at), ..signed.clone() };
        case(format!("signature flipped at {at}"), damaged, &broken);
    }
    for at in places(start, start + 16, 6).chain(places(file.len() - 64, file.len(), 12)) {
        let damaged = Image { file: flipped(file, at), ..signed.clone() };
        case(format!("trailer flipped at {at}"), damaged, &broken);
    }
    let ends = [image, image + 1, start, start + 16, start + records, file.len() - 64, file.len() - 1];
    for at in structure(bytes).into_iter().chain(ends) {
        let cut = Image { file: file[..at].to_vec(), ..signed.clone() };
        case(format!("file cut at {at}"), cut, &broken);
    }
    cases
}

/// The same of an image that goes by a signed checksum file.
fn spoiled_list(keys: &Keys, kind: Kind, bytes: &[u8], signed: &Image) -> Vec<(String, Image, Vec<Refusal>)> {
    use SignatureFault::{KeyUsage, Malformed, Mismatch, Missing, Untrusted, WeakAlgorithm};
    let broken = [Malformed, Mismatch, Untrusted, WeakAlgorithm, Missing, KeyUsage].map(signature);
    let checksum = [(ErrorCode::ChecksumMismatch, None)];
    let other: Vec<u8> = flipped(bytes, bytes.len() / 2);
    let changed = |change: &dyn Fn(&mut ChecksumFile)| {
        let mut image = signed.clone();
        image.checksums.as_mut().into_iter().for_each(change);
        image
    };
    let mut cases = Vec::new();
    let mut case =
        |name: String, image: Image, wanted: &[Refusal]| cases.push((name, image, wanted.to_vec()));
    case("wrong key".into(), keys.sign(kind, "image", bytes, "stranger"), &[signature(Untrusted)]);
    case("no signature".into(), changed(&|list| list.signatures.clear()), &[signature(Missing)]);
    case("no list".into(), Image { checksums: None, ..signed.clone() }, &[signature(Missing)]);
    let empty = changed(&|list| list.signatures[0].bytes.clear());
    case("empty signature".into(), empty, &[signature(Missing)]);
    case("list of another image".into(), Image { file: other.clone(), ..signed.clone() }, &checksum);
    let elsewhere =
        keys.sign(kind, "image", &other, "good").checksums.map(|list| list.signatures).unwrap_or_default();
    let foreign = changed(&|list| list.signatures.clone_from(&elsewhere));
    case("signature of another list".into(), foreign, &[signature(Mismatch)]);
    for at in places(0, bytes.len(), 5) {
        case(
            format!("image flipped at {at}"),
            Image { file: flipped(bytes, at), ..signed.clone() },
            &checksum,
        );
    }
    for at in structure(bytes) {
        case(format!("image cut at {at}"), Image { file: bytes[..at].to_vec(), ..signed.clone() }, &checksum);
    }
    let (text, file) = signed.checksums.as_ref().map(|list| (&list.text, &list.signatures[0].bytes)).unwrap();
    for at in places(0, text.len(), 7) {
        let image = changed(&|list| list.text = flipped(&list.text, at));
        case(format!("list flipped at {at}"), image, &[signature(Mismatch)]);
        let image = changed(&|list| list.text.truncate(at));
        case(format!("list cut at {at}"), image, &[signature(Mismatch)]);
    }
    for at in kind.boundaries(file) {
        case(
            format!("signature cut at {at}"),
            changed(&|list| list.signatures[0].bytes.truncate(at)),
            &broken,
        );
    }
    for at in kind.signed_places(file) {
        let image = changed(&|list| list.signatures[0].bytes = flipped(&list.signatures[0].bytes, at));
        case(format!("signature flipped at {at}"), image, &broken);
    }
    cases
}

/// Where the parts of an image begin, by its format, and a few places between.
fn structure(image: &[u8]) -> Vec<usize> {
    let number = |at: usize| image.get(at..at + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let end = image.len();
    let mut found: Vec<usize> = places(0, end, 4).collect();
    match image {
        // Superblock, tables of ids, attributes, inodes, folders, fragments, exports; the end of what is used.
        [b'h', b's', b'q', b's', ..] => {
            found.extend([4, 95, 96]);
            let tables = [40, 48, 56, 64, 72, 80, 88].into_iter().filter_map(number);
            found.extend(tables.filter_map(|table| usize::try_from(table).ok()));
        }
        // Header, checksum and length at the end.
        [0x1f, 0x8b, ..] => found.extend([2, 3, 10, end - 8, end - 4]),
        // Magic, frame header, checksum at the end.
        [0x28, 0xb5, ..] => found.extend([4, 5, 9, end - 4]),
        // Boot block, superblock, group descriptors.
        _ => found.extend([1024, 1025, 2048, 4096]),
    }
    found.retain(|at| *at < end);
    found.sort_unstable();
    found.dedup();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_ends_in_the_slot_with_the_digest_that_is_recorded() {
    let keys = tokio::task::spawn_blocking(Keys::make).await.unwrap();
    let mut bench = Bench::new(&keys).await;
    let images: Vec<(&'static str, Vec<u8>)> =
        bench.images().iter().map(|(name, bytes)| (*name, bytes.clone())).collect();
    for (name, bytes) in &images {
        for kind in Kind::ALL {
            let (recorded, slot) = bench.installed(name, &keys.sign(kind, name, bytes, "good")).await;
            check_slot(name, &recorded, &slot);
            bench = bench.afresh(&keys).await;
        }
    }
}

fn check_slot(name: &str, recorded: &SlotRecord, slot: &[u8]) {
    let held = &slot[..usize::try_from(recorded.size.unwrap().get()).unwrap()];
    assert_eq!(recorded.sha256, Some(Sha256Digest::of(held)), "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checksum_file_that_nobody_signed_is_integrity_and_installs_where_unsigned_images_do() {
    let keys = tokio::task::spawn_blocking(Keys::make).await.unwrap();
    let (strict, mut lax) = (Bench::new(&keys).await, Bench::lax(&keys).await);
    let images: Vec<(&'static str, Vec<u8>)> =
        lax.images().iter().map(|(name, bytes)| (*name, bytes.clone())).collect();
    let checksum = (ErrorCode::ChecksumMismatch, None);
    for (index, (name, bytes)) in images.iter().enumerate() {
        for tool in ["sha256sum", "sha512sum"] {
            let listed = keys.bare_list(tool, bytes);
            let refused = strict.refused(name, &listed).await;
            assert_eq!(told(&refused), signature(SignatureFault::Missing), "{name}, {tool}");
            lax.taken(name, &listed).await;
            for at in places(0, bytes.len(), 3) {
                let damaged = Image { file: flipped(bytes, at), ..listed.clone() };
                assert_eq!(told(&lax.refused(name, &damaged).await), checksum, "{name}, {tool}, byte {at}");
            }
            for at in structure(bytes) {
                let cut = Image { file: bytes[..at].to_vec(), ..listed.clone() };
                assert_eq!(told(&lax.refused(name, &cut).await), checksum, "{name}, {tool}, cut at {at}");
            }
            for at in [0, 1, 32, 63] {
                let cut = |list: ChecksumFile| ChecksumFile { text: list.text[..at].to_vec(), ..list };
                let cut = Image { checksums: listed.checksums.clone().map(cut), ..listed.clone() };
                let (code, _) = told(&lax.refused(name, &cut).await);
                assert_eq!(code, ErrorCode::InvalidImage, "{name}, {tool}, list cut at {at}");
            }
            let digit = Image {
                checksums: listed
                    .checksums
                    .clone()
                    .map(|list| ChecksumFile { text: flipped_digit(&list.text), ..list }),
                ..listed.clone()
            };
            assert_eq!(told(&lax.refused(name, &digit).await), checksum, "{name}, {tool}, another digest");
        }
        let tool = ["sha256sum", "sha512sum"][index % 2];
        let (recorded, slot) = lax.installed(name, &keys.bare_list(tool, bytes)).await;
        check_slot(name, &recorded, &slot);
        lax = lax.afresh(&keys).await;
    }
    strict.is_untouched();
}

/// The list with another first digit.
fn flipped_digit(list: &[u8]) -> Vec<u8> {
    let mut copy = list.to_vec();
    copy[0] = if copy[0] == b'0' { b'1' } else { b'0' };
    copy
}
