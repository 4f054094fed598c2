//! Slots in memory.

use std::sync::{Arc, Mutex, PoisonError};

use ota_core::{
    ByteCount, OtaError, Sha256Digest, Slot,
    error::PortError,
    ports::{Flow, ImageExpectation, ImageReader, Observer, SlotWriter, WriteProgress},
};

use crate::faults::{Faults, Power};

/// Two slots, written chunk by chunk with the first chunk last, as the real writer does.
#[derive(Debug)]
pub struct MemSlots {
    inner: Mutex<Content>,
    chunk: usize,
    /// Chunk writes that are to fail; what was written before stays.
    pub write_faults: Faults,
    power: Arc<Power>,
}

#[derive(Debug)]
struct Content {
    bytes: [Vec<u8>; 2],
    booted: Option<Slot>,
    writes: u64,
    forget_from: Option<u64>,
}

impl MemSlots {
    /// Two slots of `capacity` bytes, all 0xFF, written in chunks of 4 KiB. The running slot is A.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            inner: Mutex::new(Content {
                bytes: [vec![0xFF; capacity], vec![0xFF; capacity]],
                booted: Some(Slot::A),
                writes: 0,
                forget_from: None,
            }),
            chunk: 4096,
            write_faults: Faults::default(),
            power: Arc::default(),
        }
    }

    /// Written in chunks of `bytes`.
    #[must_use]
    pub fn with_chunk(mut self, bytes: usize) -> Self {
        self.chunk = bytes.max(1);
        self
    }

    /// Takes its durable steps from a shared supply: one for each chunk.
    #[must_use]
    pub fn with_power(mut self, power: Arc<Power>) -> Self {
        self.power = power;
        self
    }

    /// The slot that must not be written.
    pub fn set_booted(&self, slot: Option<Slot>) {
        self.with(|content| content.booted = slot);
    }

    /// Puts bytes at the start of a slot, as if it had been installed before.
    pub fn set_content(&self, slot: Slot, bytes: &[u8]) {
        self.with(|content| content.bytes[index(slot)][..bytes.len()].copy_from_slice(bytes));
    }

    /// The first `size` bytes of a slot.
    pub fn content(&self, slot: Slot, size: usize) -> Vec<u8> {
        self.with(|content| content.bytes[index(slot)][..size].to_vec())
    }

    /// Flips one byte of a slot.
    pub fn corrupt(&self, slot: Slot, offset: usize) {
        self.with(|content| content.bytes[index(slot)][offset] ^= 0xFF);
    }

    /// The medium loses every chunk from the `n`-th from now on (1 is the next one) while it says that all is well.
    pub fn lose_writes_from(&self, n: u64) {
        self.with(|content| content.forget_from = Some(content.writes + n));
    }

    /// How many chunks were written.
    pub fn writes(&self) -> u64 {
        self.with(|content| content.writes)
    }

    fn with<R>(&self, look: impl FnOnce(&mut Content) -> R) -> R {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, slot: Slot, offset: usize, chunk: &[u8]) -> Result<(), PortError> {
        self.write_faults.call()?;
        self.power.step()?;
        self.with(|content| {
            content.writes += 1;
            if content.forget_from.is_none_or(|from| content.writes < from) {
                content.bytes[index(slot)][offset..offset + chunk.len()].copy_from_slice(chunk);
            }
        });
        Ok(())
    }

    fn fits(&self, slot: Slot, size: ByteCount) -> Result<usize, PortError> {
        let available = self.capacity(slot)?;
        match usize::try_from(size.get()) {
            Ok(fitting) if size <= available => Ok(fitting),
            _ => {
                Err(OtaError::InsufficientSpace { place: format!("slot {slot}"), required: size, available }
                    .into())
            }
        }
    }

    fn fill(&self, image: &mut dyn ImageReader, limit: usize) -> Result<Vec<u8>, PortError> {
        let mut chunk = vec![0; self.chunk.min(limit)];
        let mut filled = 0;
        while filled < chunk.len() {
            match image.read(&mut chunk[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        chunk.truncate(filled);
        Ok(chunk)
    }
}

impl SlotWriter for MemSlots {
    fn capacity(&self, slot: Slot) -> Result<ByteCount, PortError> {
        Ok(ByteCount(self.with(|content| content.bytes[index(slot)].len()) as u64))
    }

    fn write(
        &self,
        slot: Slot,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        observer: Observer<'_>,
    ) -> Result<(), PortError> {
        if self.with(|content| content.booted == Some(slot)) {
            return Err(OtaError::running_slot(slot).into());
        }
        let size = self.fits(slot, expect.size)?;
        let first = self.fill(image, size)?;
        let mut all = first.clone();
        while all.len() < size {
            let chunk = self.fill(image, size - all.len())?;
            if chunk.is_empty() {
                break;
            }
            self.put(slot, all.len(), &chunk)?;
            all.extend_from_slice(&chunk);
            go_on(observer, WriteProgress::Written(ByteCount(all.len() as u64 - first.len() as u64)))?;
        }
        let more = image.read(&mut [0])?;
        check(expect, &all, more)?;
        self.put(slot, 0, &first)?;
        go_on(observer, WriteProgress::Written(expect.size))?;
        let back = self.digest(slot, expect.size, observer)?;
        if back != expect.sha256 {
            return Err(OtaError::digest_mismatch(&expect.sha256, &back).into());
        }
        Ok(())
    }

    fn digest(&self, slot: Slot, size: ByteCount, observer: Observer<'_>) -> Result<Sha256Digest, PortError> {
        self.power.check()?;
        let size = self.fits(slot, size)?;
        for read in (0..size).step_by(self.chunk).skip(1).chain([size]) {
            go_on(observer, WriteProgress::ReadBack(ByteCount(read as u64)))?;
        }
        Ok(Sha256Digest::of(&self.content(slot, size)))
    }
}

fn check(expect: ImageExpectation, bytes: &[u8], more: usize) -> Result<(), PortError> {
    let length = (bytes.len() + more) as u64;
    if length != expect.size.get() {
        let actual = if more > 0 { format!("more than {}", expect.size) } else { format!("{length} bytes") };
        return Err(OtaError::ChecksumMismatch { expected: expect.size.to_string(), actual }.into());
    }
    let digest = Sha256Digest::of(bytes);
    if digest != expect.sha256 {
        return Err(OtaError::digest_mismatch(&expect.sha256, &digest).into());
    }
    Ok(())
}

pub(crate) fn go_on(observer: Observer<'_>, progress: WriteProgress) -> Result<(), PortError> {
    match observer(progress) {
        Flow::Continue => Ok(()),
        Flow::Stop => Err(OtaError::SystemBusy { with: "stopped on request".into() }.into()),
    }
}

const fn index(slot: Slot) -> usize {
    match slot {
        Slot::A => 0,
        Slot::B => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::MemReader;
    use ota_core::error::PortErrorKind;

    fn expect(bytes: &[u8]) -> ImageExpectation {
        ImageExpectation { size: ByteCount(bytes.len() as u64), sha256: Sha256Digest::of(bytes) }
    }

    fn image() -> Vec<u8> {
        (0..20_001u32).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    #[test]
    fn what_was_written_is_what_the_slot_holds() {
        let slots = MemSlots::new(30_000);
        let image = image();
        let mut seen = Vec::new();
        slots
            .write(Slot::B, &mut MemReader::new(image.clone()), expect(&image), &mut |progress| {
                seen.push(progress);
                Flow::Continue
            })
            .unwrap();
        assert_eq!(slots.content(Slot::B, image.len()), image);
        assert_eq!(seen.last(), Some(&WriteProgress::ReadBack(ByteCount(20_001))));
    }

    #[test]
    fn a_cut_at_any_chunk_leaves_the_first_chunk_unwritten() {
        let image = image();
        for n in 0..5 {
            let power = Arc::new(Power::default());
            let slots = MemSlots::new(30_000).with_power(power.clone());
            power.cut_after(n);
            let result =
                slots.write(Slot::B, &mut MemReader::new(image.clone()), expect(&image), &mut |_| {
                    Flow::Continue
                });
            assert!(result.is_err());
            assert_eq!(slots.content(Slot::B, 4096), vec![0xFF; 4096], "after {n} chunks");
        }
    }

    #[test]
    fn lost_writes_and_wrong_bytes_are_noticed() {
        let image = image();
        let slots = MemSlots::new(30_000);
        slots.lose_writes_from(2);
        let mismatch = |result: Result<(), PortError>| {
            matches!(result.unwrap_err().kind(), PortErrorKind::Ota(OtaError::ChecksumMismatch { .. }))
        };
        let write = |bytes: &[u8]| {
            slots.write(Slot::B, &mut MemReader::new(bytes.to_vec()), expect(&image), &mut |_| Flow::Continue)
        };
        assert!(mismatch(write(&image)));
        assert!(mismatch(write(&image[..10_000])));
        assert!(mismatch(write(&[image.clone(), vec![0]].concat())));
    }
}
