//! How an archive lies in a stream: a header, its data, padding, the next header; zeros at the end.
//!
//! The `tar` crate takes headers apart and no more. As a reader of archives it either keeps extended headers of any length in
//! memory, or, read raw, does not know that one of them may have the size of what follows: in a POSIX archive there is no other
//! way for 8 GiB and more.

use std::io::{self, Read};

use tar::Header;

use super::unreadable;
use crate::error::ImageError;

/// Headers and data begin at multiples of so many bytes.
const BLOCK: u64 = 512;
/// Zeros that end an archive.
const END_MARK: u64 = 1024;
/// Bytes passed over at a time.
const STEP: usize = 64 * 1024;
/// Where a header has its checksum, which counts as blanks in it.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// An archive that is read from its start.
pub(super) struct Blocks<R> {
    stream: R,
    /// How much data of the entry was not read yet.
    left: u64,
    /// What fills its last block.
    padding: u64,
    spare: Box<[u8]>,
}

impl<R: Read> Blocks<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, left: 0, padding: 0, spare: vec![0; STEP].into_boxed_slice() }
    }

    /// The next header, behind all data of the one before; `None` where the archive has ended and nothing follows.
    pub(super) fn header(&mut self) -> Result<Option<Header>, ImageError> {
        let (left, padding) = (std::mem::take(&mut self.left), std::mem::take(&mut self.padding));
        self.pass(left)?;
        self.pass(padding)?;
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest).map_err(unreadable)? {
                0 => return Err(cut("its end is missing")),
                read => filled += read,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return self.end().map(|()| None);
        }
        check_sum(&header)?;
        Ok(Some(header))
    }

    /// The data behind the header that was read last, which is `size` bytes long.
    pub(super) fn data(&mut self, size: u64) -> Data<'_, R> {
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        Data(self)
    }

    fn pass(&mut self, mut length: u64) -> Result<(), ImageError> {
        while length > 0 {
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(self.spare.len());
            let part = self.spare.get_mut(..most).unwrap_or_default();
            match self.stream.read(part).map_err(unreadable)? {
                0 => return Err(cut("the data of an entry goes on behind it")),
                read => length = length.saturating_sub(read as u64),
            }
        }
        Ok(())
    }

    /// Behind the first block of zeros there are zeros and nothing else, at least one block of them.
    fn end(&mut self) -> Result<(), ImageError> {
        let mut zeros = BLOCK;
        loop {
            let read = self.stream.read(&mut self.spare).map_err(unreadable)?;
            let bytes = self.spare.get(..read).unwrap_or_default();
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(ImageError::archive("something follows the end of the archive"));
            }
            if read == 0 {
                break;
            }
            zeros += read as u64;
        }
        if zeros < END_MARK { Err(cut("its end is missing")) } else { Ok(()) }
    }
}

/// The data of one entry.
pub(super) struct Data<'a, R>(&'a mut Blocks<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Blocks { stream, left, .. } = &mut *self.0;
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let read = stream.read(buf.get_mut(..most).unwrap_or_default())?;
        *left = left.saturating_sub(read as u64);
        Ok(read)
    }
}

fn cut(what: &str) -> ImageError {
    ImageError::archive(format!("the archive is cut short: {what}"))
}

fn check_sum(header: &Header) -> Result<(), ImageError> {
    let bytes = header.as_bytes().iter().enumerate();
    let sum: u32 = bytes.map(|(at, byte)| u32::from(if CHECKSUM.contains(&at) { b' ' } else { *byte })).sum();
    if header.cksum().map_err(unreadable)? == sum {
        Ok(())
    } else {
        Err(ImageError::archive("the archive is damaged: the checksum of a header is wrong"))
    }
}
