//! Digests of a stream, all in one pass and in constant memory. Which ones are needed is the caller's to say.

use std::fmt;

use ota_core::{
    ByteCount, OtaError, Sha256Digest,
    error::PortError,
    ports::{Flow, ImageExpectation, ImageReader, Observer, WriteProgress},
};
use ring::digest::{self, Context};

/// Bytes asked of the reader at a time: large enough for direct reads, small against the memory of a gateway.
pub const READ_SIZE: usize = 1 << 20;

/// The digests we accept below a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are their own description")]
pub enum HashKind {
    Sha256,
    Sha384,
    Sha512,
}

impl HashKind {
    const fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    /// Digest of a small piece in memory.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        digest::digest(self.algorithm(), bytes).as_ref().to_vec()
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// Running digests over one stream: always SHA-256, the others as they were asked for.
#[derive(Clone)]
pub struct ContentHasher {
    size: u64,
    sha256: Context,
    others: Vec<(HashKind, Context)>,
}

impl ContentHasher {
    /// Starts SHA-256 and each of `also`.
    #[must_use]
    pub fn new(also: impl IntoIterator<Item = HashKind>) -> Self {
        let mut kinds: Vec<HashKind> = also.into_iter().filter(|kind| *kind != HashKind::Sha256).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let others = kinds.into_iter().map(|kind| (kind, Context::new(kind.algorithm()))).collect();
        Self { size: 0, sha256: Context::new(&digest::SHA256), others }
    }

    /// Takes the next bytes of the stream.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
        for (_, context) in &mut self.others {
            context.update(bytes);
        }
    }

    /// Ends the stream. The digests can still be continued for one signature after the other.
    #[must_use]
    pub fn finish(self) -> ContentDigests {
        let sha256 = sha256_of(self.sha256.clone());
        ContentDigests { size: ByteCount(self.size), sha256, hasher: self }
    }
}

fn sha256_of(context: Context) -> Sha256Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Sha256Digest(bytes)
}

/// The digests of a whole stream.
#[derive(Clone)]
pub struct ContentDigests {
    /// How many bytes the stream had.
    pub size: ByteCount,
    /// Their SHA-256.
    pub sha256: Sha256Digest,
    hasher: ContentHasher,
}

impl ContentDigests {
    /// Digests of a piece in memory, for what is small: key lists, checksum files, manifests.
    #[must_use]
    pub fn of(bytes: &[u8], also: impl IntoIterator<Item = HashKind>) -> Self {
        let mut hasher = ContentHasher::new(also);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest of the stream, or `None` when it was not asked for at the start.
    #[must_use]
    pub fn get(&self, kind: HashKind) -> Option<Vec<u8>> {
        self.followed_by(kind, &[])
    }

    /// The digest of the stream with `suffix` behind it. OpenPGP signatures are over that, so the stream is read once
    /// whatever the number of signatures.
    #[must_use]
    pub fn followed_by(&self, kind: HashKind, suffix: &[u8]) -> Option<Vec<u8>> {
        let context = match kind {
            HashKind::Sha256 => &self.hasher.sha256,
            _ => self.hasher.others.iter().find(|(other, _)| *other == kind).map(|(_, context)| context)?,
        };
        let mut context = context.clone();
        context.update(suffix);
        Some(context.finish().as_ref().to_vec())
    }
}

impl fmt::Debug for ContentDigests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentDigests").field("size", &self.size).field("sha256", &self.sha256).finish()
    }
}

/// Reads `image` to its end in steps of [`READ_SIZE`] and returns its digests, when length and SHA-256 are the expected.
///
/// Stops at the first step that goes beyond the expected length. Reports [`WriteProgress::ReadBack`].
///
/// # Errors
/// `ChecksumMismatch` (OTA_007), `SystemBusy` (OTA_014) when the observer stops it, the reader's own.
pub fn read_expected(
    image: &mut dyn ImageReader,
    expect: ImageExpectation,
    also: impl IntoIterator<Item = HashKind>,
    observer: Observer<'_>,
) -> Result<ContentDigests, PortError> {
    let mut hasher = ContentHasher::new(also);
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let filled = fill(image, &mut buffer)?;
        let Some(bytes) = buffer.get(..filled).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        if hasher.size > expect.size.get() {
            return Err(length_differs(expect, format!("at least {}", ByteCount(hasher.size))));
        }
        if observer(WriteProgress::ReadBack(ByteCount(hasher.size))) == Flow::Stop {
            return Err(OtaError::SystemBusy { with: "the check of the image was stopped".into() }.into());
        }
    }
    let content = hasher.finish();
    if content.size != expect.size {
        return Err(length_differs(expect, content.size.to_string()));
    }
    if content.sha256 != expect.sha256 {
        return Err(OtaError::digest_mismatch(&expect.sha256, &content.sha256).into());
    }
    Ok(content)
}

fn length_differs(expect: ImageExpectation, actual: String) -> PortError {
    OtaError::ChecksumMismatch { expected: expect.size.to_string(), actual }.into()
}

/// Fills the buffer as far as the stream goes, so that short reads do not make short steps.
fn fill(image: &mut dyn ImageReader, buffer: &mut [u8]) -> Result<usize, PortError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match image.read(rest)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
