//! Images around 2^31 and 2^32 bytes, in sparse files: what the signature covers is all of it.
//!
//! In every run one byte beyond each bound, for time the good image of the smaller one and the changed image of the larger one;
//! with `OTA_LONG` set, both of all six sizes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
};

use ota_core::{
    ByteCount, OtaError, Sha256Digest,
    error::{PortError, PortErrorKind},
    ports::{Flow, ImageExpectation, ImageReader},
    release::{Evidence, ImageKind},
};

use super::{
    openssl::Pki,
    world::{Keys, STRICT, cms, write},
};
use crate::{Manifest, Trailer, Verdict, digest::ContentHasher, trailer::ManifestKind};

struct FileImage(File);

impl ImageReader for FileImage {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        self.0.read(buf).map_err(|error| PortError::io("the image cannot be read", error))
    }
}

/// The hasher after so many zeros, for each of `lengths`.
fn hashed_zeros(lengths: impl Iterator<Item = u64>) -> BTreeMap<u64, ContentHasher> {
    let zeros = vec![0; 1 << 20];
    let (mut hasher, mut done) = (ContentHasher::new([]), 0);
    let mut states = BTreeMap::new();
    let mut sorted: Vec<u64> = lengths.collect();
    sorted.sort_unstable();
    for length in sorted {
        while done < length {
            let step = usize::try_from(length - done).unwrap().min(zeros.len());
            hasher.update(&zeros[..step]);
            done += step as u64;
        }
        states.insert(length, hasher.clone());
    }
    states
}

fn long() -> bool {
    std::env::var_os("OTA_LONG").is_some()
}

fn sizes() -> Vec<u64> {
    let around = |size: u64| if long() { vec![size - 1, size, size + 1] } else { vec![size + 1] };
    [around(1 << 31), around(1 << 32)].concat()
}

#[test]
fn the_signature_of_a_huge_image_covers_its_last_byte() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let states = hashed_zeros(sizes().into_iter().flat_map(|size| [size - 1, size]));
    let state = |length: u64| states[&length].clone();
    for size in sizes() {
        let manifest = Manifest {
            version: "v5.0.5".parse().unwrap(),
            models: vec!["IGW-5000".into()],
            kind: ManifestKind(ImageKind::Raw),
            size: ByteCount(size),
            sha256: state(size).finish().sha256,
            unpacked_size: None,
            requires_reboot: true,
            block_size: 1 << 30,
            blocks: vec![
                Sha256Digest::of(b"not compared on a device");
                usize::try_from(size.div_ceil(1 << 30)).unwrap()
            ],
            notes: vec![],
        };
        let manifest = manifest.encode();
        write(pki.dir(), "manifest", manifest.as_bytes());
        let signatures = vec![cms(pki.sign_file("manifest", &["signer"], &[]))];
        let trailer = Trailer { manifest: manifest.into_bytes(), signatures }.encode(size).unwrap();
        let path = pki.dir().join("huge");
        let mut file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        file.write_all(&trailer).unwrap();

        let check = |mut hasher: ContentHasher| -> Result<Verdict, OtaError> {
            hasher.update(&trailer);
            let whole = hasher.finish();
            let expect = ImageExpectation { size: whole.size, sha256: whole.sha256 };
            let mut image = FileImage(File::open(&path).unwrap());
            let outcome =
                verifier
                    .verify_image(&mut image, expect, &Evidence::default(), STRICT, &mut |_| Flow::Continue);
            outcome.map_err(|error| match error.kind() {
                PortErrorKind::Ota(error) => error.clone(),
                other => panic!("{other}"),
            })
        };
        if long() || size < 1 << 32 {
            assert_eq!(check(state(size)).unwrap().vouched.size, ByteCount(size));
        }
        if !long() && size < 1 << 32 {
            continue;
        }
        file.write_all_at(&[1], size - 1).unwrap();
        let mut flipped = state(size - 1);
        flipped.update(&[1]);
        let refused = check(flipped).unwrap_err();
        assert!(matches!(refused, OtaError::ChecksumMismatch { .. }), "{size}: {refused}");
    }
}
