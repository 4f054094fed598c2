//! The port's adapter that looks into packed images. What is not packed is the inner inspector's.

use std::{
    io::{self, Cursor, Read},
    sync::Arc,
};

use ota_core::{
    ByteCount, OtaError,
    error::PortError,
    ports::{Flow, ImageExpectation, ImageFacts, ImageInspector, ImageReader, Observer, WriteProgress},
    release::{ImageKind, Packing, Unpacked, Vouched},
};

use crate::{
    archive::{ArchivePolicy, walk},
    error::{Carried, ImageError},
    packing::{Tally, Unpacking},
};

/// Knows what is in packed images.
pub struct PackedInspector {
    inner: Arc<dyn ImageInspector>,
    policy: ArchivePolicy,
}

impl PackedInspector {
    /// `inner` knows file system images; `policy` has the rules for archives, and how much a slot holds.
    #[must_use]
    pub fn new(inner: Arc<dyn ImageInspector>, policy: ArchivePolicy) -> Self {
        Self { inner, policy }
    }

    fn look(
        &self,
        packing: Packing,
        facts: ImageFacts,
        vouched: &Vouched,
        image: &mut dyn ImageReader,
        signed: Option<ByteCount>,
        observer: Observer<'_>,
    ) -> Result<ImageFacts, PortError> {
        let failed = |error: ImageError| error.into_port(None, None);
        let tell = |read| observer(WriteProgress::ReadBack(ByteCount(read)));
        let unpacking = Unpacking::new(packing, Box::new(image), tell);
        let mut stream = Counted { unpacking, tally: Tally::new(), signed };
        let head = stream.head(self.inner.head_len()).map_err(failed)?;
        let space = if is_tar(&head) {
            let contents = walk(Cursor::new(&head).chain(&mut stream), self.policy, |_, _| Ok(()));
            Some(ByteCount(contents.map_err(failed)?.space))
        } else {
            stream.drain(self.policy.capacity).map_err(failed)?;
            None
        };
        let (packed, inside) = stream.finish().map_err(failed)?;
        same(vouched, packed).map_err(failed)?;
        let ImageExpectation { size, sha256 } = inside;
        signed.map_or(Ok(()), |signed| of_length(signed, size)).map_err(failed)?;
        let unpacked = Unpacked { packing, size, sha256, space: space.unwrap_or(size) };
        if space.is_some() {
            let format = format!("tar in {}", packing.as_str());
            return Ok(ImageFacts { kind: ImageKind::TarGz, format, unpacked: Some(unpacked), ..facts });
        }
        let of_content = Vouched { sha256, size, ..vouched.clone() };
        let found = self.inner.inspect(&of_content, &head)?;
        if found.packing.is_some() {
            return Err(OtaError::InvalidImage { what: "packed twice; unpack it once".into() }.into());
        }
        let format = format!("{} in {}", found.format, packing.as_str());
        Ok(ImageFacts { format, packing: Some(packing), unpacked: Some(unpacked), ..found })
    }
}

impl ImageInspector for PackedInspector {
    fn head_len(&self) -> usize {
        self.inner.head_len()
    }

    fn inspect(&self, vouched: &Vouched, head: &[u8]) -> Result<ImageFacts, OtaError> {
        self.inner.inspect(vouched, head)
    }

    fn look_inside(
        &self,
        facts: ImageFacts,
        vouched: &Vouched,
        image: &mut dyn ImageReader,
        signed: Option<ByteCount>,
        observer: Observer<'_>,
    ) -> Result<ImageFacts, PortError> {
        let Some(packing) = facts.packing else { return Ok(facts) };
        self.look(packing, facts, vouched, image, signed, observer)
    }
}

fn undecoded(error: io::Error) -> ImageError {
    ImageError::of_reading(error, ImageError::archive)
}

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// That what was unpacked is what was vouched for, whatever has happened to the medium since.
fn same(vouched: &Vouched, packed: ImageExpectation) -> Result<(), ImageError> {
    let expected = ImageExpectation { size: vouched.size, sha256: vouched.sha256 };
    if expected == packed { Ok(()) } else { Err(ImageError::Unlike { expected, actual: packed }) }
}

/// That what comes out is as long as was signed.
fn of_length(signed: ByteCount, actual: ByteCount) -> Result<(), ImageError> {
    if signed == actual { Ok(()) } else { Err(ImageError::Length { signed, actual }) }
}

/// What comes out of the decoder, counted and hashed, and no longer than was signed.
struct Counted<'a, T> {
    unpacking: Unpacking<'a, T>,
    tally: Tally,
    signed: Option<ByteCount>,
}

impl<T: FnMut(u64) -> Flow> Read for Counted<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = Read::read(&mut self.unpacking, buf)?;
        self.tally.update(buf.get(..read).unwrap_or_default());
        let actual = ByteCount(self.tally.size());
        match self.signed {
            Some(signed) if actual > signed => {
                Err(io::Error::other(Carried(ImageError::Length { signed, actual })))
            }
            _ => Ok(read),
        }
    }
}

impl<T: FnMut(u64) -> Flow> Counted<'_, T> {
    fn head(&mut self, length: usize) -> Result<Vec<u8>, ImageError> {
        let mut head = Vec::new();
        let read = self.by_ref().take(length as u64).read_to_end(&mut head);
        read.map_err(undecoded)?;
        Ok(head)
    }

    /// Reads to the end, or to where it is more than a slot holds.
    fn drain(&mut self, most: ByteCount) -> Result<(), ImageError> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = self.read(&mut buffer).map_err(undecoded)?;
            let required = ByteCount(self.tally.size());
            if required > most {
                return Err(ImageError::TooLarge { required, available: most });
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn finish(self) -> Result<(ImageExpectation, ImageExpectation), ImageError> {
        Ok((self.unpacking.finish()?, self.tally.finish()))
    }
}
