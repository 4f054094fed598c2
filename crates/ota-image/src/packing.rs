//! Decompression while streaming: bounded memory, several members or frames in one file, nothing behind the last one.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read},
};

use flate2::bufread::MultiGzDecoder;
use ota_core::{
    ByteCount, Sha256Digest,
    error::PortError,
    ports::{Flow, ImageExpectation, ImageReader},
    release::Packing,
};
use ring::digest::{Context, SHA256};

use crate::{
    error::{Carried, ImageError},
    frames::Frames,
};

/// Packed bytes taken at a time.
const STEP: usize = 256 * 1024;

/// For [`Unpacking::new`], where nobody wants to know.
pub(crate) const fn go_on(_: u64) -> Flow {
    Flow::Continue
}

/// Length and digest of what went through.
pub(crate) struct Tally {
    context: Context,
    size: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { context: Context::new(&SHA256), size: 0 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn finish(self) -> ImageExpectation {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.context.finish().as_ref());
        ImageExpectation { size: ByteCount(self.size), sha256: Sha256Digest(digest) }
    }
}

/// The packed bytes on their way to the decoder.
struct Feed<'a, T> {
    image: Box<dyn ImageReader + 'a>,
    tally: Tally,
    tell: T,
    /// What has ended it: decoders pass on a text at best.
    failed: Option<ImageError>,
}

impl<T: FnMut(u64) -> Flow> Read for Feed<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = match self.image.read(buf) {
            Ok(read) => read,
            Err(error) => return Err(self.end(ImageError::Source(error))),
        };
        self.tally.update(buf.get(..read).unwrap_or_default());
        match (self.tell)(self.tally.size()) {
            Flow::Stop => Err(self.end(ImageError::Stopped)),
            Flow::Continue => Ok(read),
        }
    }
}

impl<T> Feed<'_, T> {
    fn end(&mut self, error: ImageError) -> io::Error {
        self.failed = Some(error);
        io::Error::other("the image cannot be read on")
    }
}

enum Decoding<'a, T> {
    Gzip(Box<MultiGzDecoder<BufReader<Feed<'a, T>>>>),
    Zstd(Box<Frames<BufReader<Feed<'a, T>>>>),
}

/// What comes out of a packed image.
pub(crate) struct Unpacking<'a, T> {
    decoding: Decoding<'a, T>,
    packing: Packing,
}

impl<T> fmt::Debug for Unpacking<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacking").field("packing", &self.packing).finish_non_exhaustive()
    }
}

impl<'a, T: FnMut(u64) -> Flow> Unpacking<'a, T> {
    /// `tell` is told how many packed bytes were taken, and says whether to go on.
    pub(crate) fn new(packing: Packing, image: Box<dyn ImageReader + 'a>, tell: T) -> Self {
        let feed = Feed { image, tally: Tally::new(), tell, failed: None };
        let feed = BufReader::with_capacity(STEP, feed);
        let decoding = match packing {
            Packing::Gzip => Decoding::Gzip(Box::new(MultiGzDecoder::new(feed))),
            Packing::Zstd => Decoding::Zstd(Box::new(Frames::new(feed))),
        };
        Self { decoding, packing }
    }

    /// What a complaint of the decoder means.
    fn damaged(&mut self, error: &io::Error) -> ImageError {
        let feed = match &mut self.decoding {
            Decoding::Gzip(decoder) => decoder.get_mut().get_mut(),
            Decoding::Zstd(frames) => frames.get_mut().get_mut(),
        };
        let (packing, what) = (self.packing.as_str(), error.to_string());
        feed.failed.take().unwrap_or(ImageError::Packing { packing, what })
    }

    /// After the last byte: that nothing follows, and what the packed bytes were.
    pub(crate) fn finish(mut self) -> Result<ImageExpectation, ImageError> {
        let mut byte = [0];
        match Read::read(&mut self, &mut byte) {
            Ok(0) => {}
            Ok(_) => return Err(self.damaged(&io::Error::other("something follows what was expected"))),
            Err(error) => return Err(ImageError::of_reading(error, ImageError::archive)),
        }
        let packing = self.packing.as_str();
        let mut rest = match self.decoding {
            Decoding::Gzip(decoder) => decoder.into_inner(),
            Decoding::Zstd(frames) => frames.into_inner(),
        };
        match rest.fill_buf() {
            Ok([]) => Ok(rest.into_inner().tally.finish()),
            Ok(_) => Err(ImageError::Packing { packing, what: "something follows its end".into() }),
            Err(error) => Err(ImageError::Packing { packing, what: error.to_string() }),
        }
    }
}

impl<T: FnMut(u64) -> Flow> Read for Unpacking<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoding {
            Decoding::Gzip(decoder) => decoder.read(buf),
            Decoding::Zstd(frames) => frames.read(buf),
        };
        read.map_err(|error| io::Error::other(Carried(self.damaged(&error))))
    }
}

impl<T: FnMut(u64) -> Flow + Send> ImageReader for Unpacking<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        Read::read(self, buf)
            .map_err(|error| ImageError::of_reading(error, ImageError::archive).into_port(None, None))
    }
}
