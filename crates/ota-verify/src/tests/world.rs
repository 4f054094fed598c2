//! What the tests stand on: external programs, a key folder, a fake clock, an image in memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ota_core::{
    ByteCount, OtaError, Sha256Digest, Timestamp,
    error::{PortError, PortErrorKind, SignatureFault},
    ports::{Clock, Flow, ImageExpectation, ImageReader, ImageVerifier as _, VerifyPolicy},
    release::{DetachedSignature, Evidence, SignatureKind, Vouched},
};
use tempfile::TempDir;

use crate::{Keyring, KeyringVerifier, VerifyConfig};

pub(crate) const IMAGE: &[u8] =
    b"an image, as far as a verifier is concerned: nothing in it is looked at\r\n\n";

/// A program with its arguments. Fails with the name of the Debian package when it is not there.
pub(crate) fn run(package: &str, command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run {program} ({error}): install the Debian package {package}");
    });
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[expect(clippy::disallowed_methods, reason = "the tests are the owner of these programs")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}

/// Seconds since 1970 now: openssl and gpg date what they make by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "must agree with the programs that make the signatures")]
pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

pub(crate) const DAY: i64 = 86_400;

pub(crate) struct FixedClock(pub(super) Timestamp);

impl Clock for FixedClock {
    fn wall(&self) -> Timestamp {
        self.0
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn wall_is_trusted(&self) -> bool {
        true
    }
}

/// The strict defaults with the clock at `secs` and no floor.
pub(crate) fn config_at(secs: i64) -> VerifyConfig {
    VerifyConfig::new(Arc::new(FixedClock(Timestamp::from_secs(secs))), Timestamp::from_secs(0))
}

/// A key folder.
pub(crate) struct Keys(TempDir);

impl Keys {
    pub(crate) fn of(files: &[&Path]) -> Self {
        let keys = Self(TempDir::new().unwrap());
        for file in files {
            fs::copy(file, keys.0.path().join(file.file_name().unwrap())).unwrap();
        }
        keys
    }

    /// The same with each file under another name.
    pub(crate) fn named(files: &[(&str, &[u8])]) -> Self {
        let keys = Self(TempDir::new().unwrap());
        for (name, bytes) in files {
            write(keys.path(), name, bytes);
        }
        keys
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn with_development(self, file: &Path) -> Self {
        let folder = self.0.path().join("development");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
        self
    }

    pub(crate) fn verifier(&self, config: VerifyConfig) -> KeyringVerifier {
        KeyringVerifier::new(Keyring::load(self.path()).unwrap(), config)
    }

    pub(crate) fn verifier_now(&self) -> KeyringVerifier {
        self.verifier(config_at(now()))
    }
}

/// An image in memory that gives at most `step` bytes a call.
pub(crate) struct MemImage {
    pub(crate) bytes: Vec<u8>,
    pub(crate) at: usize,
    pub(crate) step: usize,
}

impl MemImage {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), at: 0, step: usize::MAX }
    }
}

impl ImageReader for MemImage {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        let read = buf.len().min(self.step).min(self.bytes.len() - self.at);
        buf[..read].copy_from_slice(&self.bytes[self.at..self.at + read]);
        self.at += read;
        Ok(read)
    }
}

pub(crate) fn expectation(image: &[u8]) -> ImageExpectation {
    ImageExpectation { size: ByteCount(image.len() as u64), sha256: Sha256Digest::of(image) }
}

pub(crate) fn cms(bytes: impl Into<Vec<u8>>) -> DetachedSignature {
    DetachedSignature { kind: SignatureKind::Cms, bytes: bytes.into() }
}

pub(crate) fn pgp(bytes: impl Into<Vec<u8>>) -> DetachedSignature {
    DetachedSignature { kind: SignatureKind::Openpgp, bytes: bytes.into() }
}

pub(crate) const STRICT: VerifyPolicy = VerifyPolicy { require_signature: true };
pub(crate) const LAX: VerifyPolicy = VerifyPolicy { require_signature: false };

pub(crate) fn verify(
    verifier: &KeyringVerifier,
    image: &[u8],
    signatures: &[DetachedSignature],
    policy: VerifyPolicy,
) -> Result<Vouched, OtaError> {
    let evidence = Evidence::signatures(signatures.to_vec());
    let result =
        verifier
            .verify(&mut MemImage::of(image), expectation(image), &evidence, policy, &mut |_| Flow::Continue);
    result.map_err(|error| match error.kind() {
        PortErrorKind::Ota(error) => error.clone(),
        other => panic!("not a condition of the table: {other}"),
    })
}

/// Names of those who vouch for the image.
pub(crate) fn accepted(
    verifier: &KeyringVerifier,
    image: &[u8],
    signatures: &[DetachedSignature],
) -> Vec<String> {
    let vouched = verify(verifier, image, signatures, STRICT).unwrap();
    assert_eq!((vouched.sha256, vouched.size.get()), (Sha256Digest::of(image), image.len() as u64));
    vouched.signers.into_iter().map(|signer| signer.name).collect()
}

/// The reason for which the image is refused, with the sentence. Refused where a signature is required, and where not.
pub(crate) fn refused(
    verifier: &KeyringVerifier,
    image: &[u8],
    signatures: &[DetachedSignature],
) -> (SignatureFault, String) {
    let strict = verify(verifier, image, signatures, STRICT).expect_err("must be refused");
    if !signatures.is_empty() {
        assert_eq!(
            verify(verifier, image, signatures, LAX),
            Err(strict.clone()),
            "also where none is required"
        );
    }
    match strict {
        OtaError::SignatureInvalid { reason, what } => (reason, what),
        other => panic!("refused for another reason: {other}"),
    }
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Every copy of `bytes` with one byte changed: by one bit low, one bit high, and to its complement.
pub(crate) fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    (0..bytes.len()).flat_map(move |index| {
        [0x01, 0x80, 0xff].map(|mask| {
            let mut copy = bytes.to_vec();
            copy[index] ^= mask;
            (index, copy)
        })
    })
}
