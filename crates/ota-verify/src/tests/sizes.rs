//! Images around 2^31 and 2^32 bytes, in sparse files: what the signature covers is all of it.
//!
//! In every run all six sizes, good and with the last byte changed. What they begin with is hashed once: the verifier goes on from
//! there, some MiB in front of the bound, with the counts that it has there. The largest one, which passes both bounds, is also read
//! from its first byte on; with `OTA_LONG` set, all of them are.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use ota_core::{
    ByteCount, OtaError, Sha256Digest,
    error::{PortError, PortErrorKind},
    ports::{Flow, ImageExpectation, ImageReader, WriteProgress},
    release::{Evidence, ImageKind},
};

use super::{
    openssl::Pki,
    world::{Keys, STRICT, cms, write},
};
use crate::{
    KeyringVerifier, Manifest, Trailer, Verdict,
    digest::{self, ContentHasher},
    trailer::{MAX_TRAILER, ManifestKind},
};

const BOUNDS: [u64; 2] = [1 << 31, 1 << 32];

/// How far in front of a bound the verifier begins: more than it keeps of the end of a file.
const FRONT: u64 = 2 * MAX_TRAILER as u64;

struct FileImage(File);

impl ImageReader for FileImage {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        self.0.read(buf).map_err(|error| PortError::io("the image cannot be read", error))
    }
}

fn hash_zeros(hasher: &mut ContentHasher, mut count: u64) {
    let zeros = vec![0; 1 << 20];
    while count > 0 {
        let step = usize::try_from(count).unwrap().min(zeros.len());
        hasher.update(&zeros[..step]);
        count -= step as u64;
    }
}

/// Zeros in a sparse file, with a trailer behind them.
struct Huge {
    path: PathBuf,
    size: u64,
    trailer: Vec<u8>,
    /// The hasher after the first `begun` bytes.
    front: ContentHasher,
    begun: u64,
}

impl Huge {
    fn new(pki: &Pki, size: u64, front: ContentHasher, begun: u64) -> Self {
        let mut all = front.clone();
        hash_zeros(&mut all, size - begun);
        let manifest = Manifest {
            version: "v5.0.5".parse().unwrap(),
            models: vec!["IGW-5000".into()],
            kind: ManifestKind(ImageKind::Raw),
            size: ByteCount(size),
            sha256: all.finish().sha256,
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
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(&trailer).unwrap();
        Self { path, size, trailer, front, begun }
    }

    /// The verdict on it with this byte as its last; `whole`: read from its first byte on.
    fn with_last_byte(&self, last: u8, whole: bool, verifier: &KeyringVerifier) -> Result<Verdict, OtaError> {
        let file = File::options().read(true).write(true).open(&self.path).unwrap();
        file.write_all_at(&[last], self.size - 1).unwrap();
        let mut all = self.front.clone();
        hash_zeros(&mut all, self.size - self.begun - 1);
        all.update(&[last]);
        all.update(&self.trailer);
        let all = all.finish();
        let expect = ImageExpectation { size: all.size, sha256: all.sha256 };
        let (mut image, evidence) = (FileImage(file), Evidence::default());
        let mut go_on = |_: WriteProgress| Flow::Continue;
        let outcome = if whole {
            verifier.verify_image(&mut image, expect, &evidence, STRICT, &mut go_on)
        } else {
            image.0.seek(SeekFrom::Start(self.begun)).unwrap();
            verifier.verify_read(expect.size, &evidence, STRICT, |kinds| {
                assert!(kinds.is_empty(), "more than the front was hashed for: {kinds:?}");
                let front = self.front.clone();
                digest::read_on_with_tail(front, &mut image, expect.into(), MAX_TRAILER, &mut go_on)
            })
        };
        outcome.map_err(|error| match error.kind() {
            PortErrorKind::Ota(error) => error.clone(),
            other => panic!("{other}"),
        })
    }
}

#[test]
fn the_signature_of_a_huge_image_covers_its_last_byte() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let (mut front, mut begun) = (ContentHasher::new([]), 0);
    for bound in BOUNDS {
        let next = bound - FRONT;
        hash_zeros(&mut front, next - begun);
        begun = next;
        for size in [bound - 1, bound, bound + 1] {
            let huge = Huge::new(&pki, size, front.clone(), begun);
            let largest = size == (1 << 32) + 1;
            let ways: &[bool] =
                if largest || std::env::var_os("OTA_LONG").is_some() { &[false, true] } else { &[false] };
            for whole in ways {
                let good = huge.with_last_byte(0, *whole, &verifier).unwrap();
                assert_eq!(good.vouched.size, ByteCount(size));
                let refused = huge.with_last_byte(1, *whole, &verifier).unwrap_err();
                assert!(matches!(refused, OtaError::ChecksumMismatch { .. }), "{size}: {refused}");
            }
        }
    }
}
