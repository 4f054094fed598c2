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

/// What a stream is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its length.
    pub size: ByteCount,
    /// Its digest, where it is known before.
    pub sha256: Option<Sha256Digest>,
}

impl From<ImageExpectation> for Expected {
    fn from(expect: ImageExpectation) -> Self {
        Self { size: expect.size, sha256: Some(expect.sha256) }
    }
}

/// A stream whose digests are known, with its end in memory.
#[derive(Debug)]
pub struct ContentWithTail {
    /// Digests of the whole stream.
    pub content: ContentDigests,
    /// Its last bytes.
    pub tail: Vec<u8>,
    before_tail: ContentDigests,
}

impl ContentWithTail {
    /// Digests of the first `length` bytes of the stream; `None` unless it ends within the tail.
    #[must_use]
    pub fn first(&self, length: u64) -> Option<ContentDigests> {
        let more = length.checked_sub(self.before_tail.size.get())?;
        let mut hasher = self.before_tail.hasher.clone();
        hasher.update(self.tail.get(..usize::try_from(more).ok()?)?);
        Some(hasher.finish())
    }
}

/// Reads `image` to its end in steps of [`READ_SIZE`] and returns its digests, when length and SHA-256 are the expected, with
/// its last `keep` bytes, so that what is appended to an image can be told from it without reading it again.
///
/// Stops at the first step that goes beyond the expected length. Reports [`WriteProgress::ReadBack`].
///
/// # Errors
/// `ChecksumMismatch` (OTA_007), `SystemBusy` (OTA_014) when the observer stops it, the reader's own.
pub fn read_expected_with_tail(
    image: &mut dyn ImageReader,
    expect: Expected,
    also: impl IntoIterator<Item = HashKind>,
    keep: usize,
    observer: Observer<'_>,
) -> Result<ContentWithTail, PortError> {
    read_on_with_tail(ContentHasher::new(also), image, expect, keep, observer)
}

/// The same of a stream whose first bytes `hasher` has taken already: `image` goes on behind them. `expect` is about all of it.
pub(crate) fn read_on_with_tail(
    mut hasher: ContentHasher,
    image: &mut dyn ImageReader,
    expect: Expected,
    keep: usize,
    observer: Observer<'_>,
) -> Result<ContentWithTail, PortError> {
    let from = hasher.size;
    let mut before_tail = hasher.clone();
    let mut tail = Vec::new();
    let tail_at = expect.size.get().saturating_sub(keep as u64);
    read_steps(image, from, expect, observer, |bytes| {
        let ahead = usize::try_from(tail_at.saturating_sub(hasher.size)).unwrap_or(usize::MAX);
        let (before, after) = bytes.split_at(ahead.min(bytes.len()));
        hasher.update(before);
        if !before.is_empty() {
            before_tail = hasher.clone();
        }
        hasher.update(after);
        tail.extend(after);
    })?;
    let content = checked(hasher.finish(), expect)?;
    Ok(ContentWithTail { content, tail, before_tail: before_tail.finish() })
}

fn read_steps(
    image: &mut dyn ImageReader,
    from: u64,
    expect: Expected,
    observer: Observer<'_>,
    mut take: impl FnMut(&[u8]),
) -> Result<(), PortError> {
    let mut buffer = vec![0; READ_SIZE];
    let mut read = from;
    loop {
        let filled = fill(image, &mut buffer)?;
        let Some(bytes) = buffer.get(..filled).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        read += bytes.len() as u64;
        if read > expect.size.get() {
            return Err(length_differs(expect, format!("at least {}", ByteCount(read))));
        }
        take(bytes);
        if observer(WriteProgress::ReadBack(ByteCount(read))) == Flow::Stop {
            return Err(OtaError::SystemBusy { with: "the check of the image was stopped".into() }.into());
        }
    }
}

fn checked(content: ContentDigests, expect: Expected) -> Result<ContentDigests, PortError> {
    if content.size != expect.size {
        return Err(length_differs(expect, content.size.to_string()));
    }
    match expect.sha256.filter(|sha256| *sha256 != content.sha256) {
        Some(sha256) => Err(OtaError::digest_mismatch(&sha256, &content.sha256).into()),
        None => Ok(content),
    }
}

fn length_differs(expect: Expected, actual: String) -> PortError {
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Slice<'a>(&'a [u8]);

    impl ImageReader for Slice<'_> {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
            let (now, rest) = self.0.split_at(buf.len().min(self.0.len()).min(300_000));
            buf[..now.len()].copy_from_slice(now);
            self.0 = rest;
            Ok(now.len())
        }
    }

    #[test]
    fn the_digest_continues_behind_the_stream_for_each_signature() {
        let content = ContentDigests::of(b"abc", [HashKind::Sha512]);
        assert_eq!(content.followed_by(HashKind::Sha512, b"def"), Some(HashKind::Sha512.of(b"abcdef")));
        assert_eq!(content.get(HashKind::Sha256), Some(HashKind::Sha256.of(b"abc")));
        assert_eq!(content.get(HashKind::Sha384), None, "was not asked for");
        assert_eq!(content.sha256, Sha256Digest::of(b"abc"));
    }

    #[test]
    fn the_tail_tells_the_digest_of_every_prefix_that_ends_in_it() {
        for (length, keep) in
            [(10, 4), (10, 10), (3, 10), (0, 4), (2 * READ_SIZE + 7, 5), (READ_SIZE, READ_SIZE + 1)]
        {
            let bytes: Vec<u8> = (0..length).map(|index| u8::try_from(index % 253).unwrap()).collect();
            let expect =
                ImageExpectation { size: ByteCount(length as u64), sha256: Sha256Digest::of(&bytes) };
            let mut go_on = |_: WriteProgress| Flow::Continue;
            let read =
                read_expected_with_tail(&mut Slice(&bytes), expect.into(), [], keep, &mut go_on).unwrap();
            assert_eq!(read.tail, bytes[length.saturating_sub(keep)..]);
            for prefix in [length.saturating_sub(keep), length.saturating_sub(1), length] {
                let first = read.first(prefix as u64);
                let expected =
                    (prefix >= length.saturating_sub(keep)).then(|| Sha256Digest::of(&bytes[..prefix]));
                assert_eq!(first.map(|first| first.sha256), expected, "{prefix} of {length}, {keep} kept");
            }
            assert!(read.first(length as u64 + 1).is_none());
            assert!(length <= keep || read.first((length - keep) as u64 - 1).is_none());
        }
    }
}
