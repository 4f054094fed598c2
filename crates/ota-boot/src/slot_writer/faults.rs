//! The data path over a model that records, writes short, is interrupted, fails, or keeps something else.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use ota_core::{
    ErrorCode,
    error::PortErrorKind,
    ports::{Flow, WriteProgress},
};
use proptest::prelude::*;
use twox_hash::XxHash3_128;

use super::*;

/// One writer: what fails at which operation is then the same every time.
const TINY: Pipeline = Pipeline { chunk: 4096, buffers: 4, writers: 1, sync_every: 32 * 4096 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Write { offset: u64, len: usize },
    Sync,
    Read { offset: u64 },
}

#[derive(Default)]
struct Model {
    bytes: Vec<u8>,
    log: Vec<Op>,
    buffers: BTreeSet<usize>,
    calls: usize,
}

/// A device in memory.
#[derive(Default)]
struct FaultyDev {
    model: Mutex<Model>,
    /// Most bytes taken or given at once; 0 = all.
    short: usize,
    /// Every so many calls one is interrupted; 0 = never.
    interrupt_every: usize,
    /// The operation that fails, by its number in the log.
    fail_at: Option<(usize, io::ErrorKind)>,
    /// A byte that is kept wrongly.
    spoil: Option<usize>,
    /// The offset at which no read begins.
    unreadable: Option<u64>,
}

impl FaultyDev {
    fn of_size(size: usize) -> Self {
        Self { model: Mutex::new(Model { bytes: vec![0xee; size], ..Model::default() }), ..Self::default() }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    fn log(&self) -> Vec<Op> {
        self.model().log.clone()
    }

    fn enter(&self, op: Op) -> io::Result<MutexGuard<'_, Model>> {
        let mut model = self.model();
        model.calls += 1;
        if self.interrupt_every > 0 && op != Op::Sync && model.calls.is_multiple_of(self.interrupt_every) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        model.log.push(op);
        match self.fail_at {
            Some((at, kind)) if at + 1 == model.log.len() => Err(kind.into()),
            _ => Ok(model),
        }
    }

    fn part(&self, len: usize) -> usize {
        if self.short == 0 { len } else { len.min(self.short) }
    }
}

impl BlockDev for FaultyDev {
    fn path(&self) -> &Path {
        Path::new("model")
    }
    fn size(&self) -> u64 {
        self.model().bytes.len() as u64
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let model = self.enter(Op::Read { offset })?;
        if self.unreadable == Some(offset) {
            return Err(io::ErrorKind::Other.into());
        }
        let (at, len) = (usize::try_from(offset).unwrap(), self.part(buf.len()));
        buf[..len].copy_from_slice(&model.bytes[at..at + len]);
        Ok(len)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let len = self.part(buf.len());
        let mut model = self.enter(Op::Write { offset, len })?;
        let at = usize::try_from(offset).unwrap();
        model.bytes[at..at + len].copy_from_slice(&buf[..len]);
        if let Some(spoiled) = self.spoil.filter(|s| (at..at + len).contains(s)) {
            model.bytes[spoiled] ^= 1;
        }
        if offset.is_multiple_of(4096) {
            model.buffers.insert(buf.as_ptr().addr());
        }
        Ok(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.enter(Op::Sync).map(drop)
    }
    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives bytes in small, uneven pieces.
struct Pieces<'a>(&'a [u8]);

impl ImageReader for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        let len = buf.len().min(self.0.len()).min(1 + self.0.len() % 1777);
        buf[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Ok(len)
    }
}

fn image(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
}

fn expectation(bytes: &[u8]) -> ImageExpectation {
    ImageExpectation { size: ByteCount(bytes.len() as u64), sha256: Sha256Digest::of(bytes) }
}

fn write(dev: &FaultyDev, bytes: &[u8]) -> Result<(), BootError> {
    write_image(dev, &mut Pieces(bytes), expectation(bytes), TINY, &mut |_| Flow::Continue)
}

fn install(dev: &FaultyDev, bytes: &[u8], observer: Observer<'_>) -> Result<(), BootError> {
    install_with(dev, bytes, TINY, observer)
}

fn install_with(
    dev: &FaultyDev,
    bytes: &[u8],
    pipeline: Pipeline,
    observer: Observer<'_>,
) -> Result<(), BootError> {
    install_image(dev, &mut Pieces(bytes), expectation(bytes), pipeline, observer)
}

fn writes_chunk_0(log: &[Op]) -> bool {
    log.iter().any(|op| matches!(op, Op::Write { offset: 0, .. }))
}

fn code(error: BootError) -> ErrorCode {
    match error.into_port(Some(Slot::B)).kind() {
        PortErrorKind::Ota(error) => error.code(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_chunk_is_written_last_between_two_syncs() {
    let dev = FaultyDev::of_size(20_000);
    write(&dev, &image(10_000)).unwrap();
    let expected = [
        Op::Write { offset: 4096, len: 4096 },
        Op::Write { offset: 8192, len: 1808 },
        Op::Sync,
        Op::Write { offset: 0, len: 4096 },
        Op::Sync,
    ];
    assert_eq!(dev.log(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn short_and_interrupted_calls_change_nothing(
        len in 0_usize..40_000, short in 0_usize..5000, interrupt_every in prop::sample::select(vec![0_usize, 2, 3, 7])
    ) {
        let bytes = image(len);
        let dev = FaultyDev { short: short.max(97), interrupt_every, ..FaultyDev::of_size(41_000) };
        write(&dev, &bytes).unwrap();
        prop_assert_eq!(&dev.model().bytes[..len], &bytes[..]);
        prop_assert!(dev.model().bytes[len..].iter().all(|b| *b == 0xee), "nothing beyond the image");
        let mut last = 0;
        let size = ByteCount(len as u64);
        let digest = digest_device(&dev, size, TINY, &mut |p| {
            if let WriteProgress::ReadBack(n) = p { last = n.get(); }
            Flow::Continue
        });
        prop_assert_eq!(digest.unwrap(), Sha256Digest::of(&bytes));
        prop_assert_eq!(last, len as u64);
    }
}

#[test]
fn a_failure_at_any_operation_ends_in_an_error_that_names_the_byte() {
    let bytes = image(30_000);
    let whole = FaultyDev::of_size(30_000);
    write(&whole, &bytes).unwrap();
    for (at, op) in whole.log().into_iter().enumerate() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            let dev = FaultyDev { fail_at: Some((at, kind)), ..FaultyDev::of_size(30_000) };
            let error = write(&dev, &bytes).unwrap_err();
            let BootError::Io { offset, source, .. } = &error else { panic!("{error:?}") };
            let expected = if let Op::Write { offset, .. } = op { offset } else { 0 };
            assert_eq!((*offset, source.kind()), (expected, kind), "operation {at}");
            assert_eq!(dev.log().len(), at + 1, "nothing is done after a failure, above all no second sync");
        }
    }
}

#[test]
fn a_read_that_fails_ends_the_digest_with_the_byte() {
    for at in 0..4 {
        let dev = FaultyDev { fail_at: Some((at, io::ErrorKind::Other)), ..FaultyDev::of_size(16_384) };
        let error = digest_device(&dev, ByteCount(16_384), TINY, &mut |_| Flow::Continue).unwrap_err();
        assert!(
            matches!(error, BootError::Io { operation: "read", offset, .. } if offset == at as u64 * 4096)
        );
    }
}

#[test]
fn an_image_that_is_not_the_expected_one_never_gets_its_first_chunk() {
    let bytes = image(20_000);
    let good = expectation(&bytes);
    let mut flipped = bytes.clone();
    flipped[11_111] ^= 1;
    let longer = image(20_001);
    for wrong in [&flipped[..], &bytes[..19_999], &longer[..], &[]] {
        let dev = FaultyDev::of_size(30_000);
        let error = write_image(&dev, &mut Pieces(wrong), good, TINY, &mut |_| Flow::Continue).unwrap_err();
        assert_eq!(code(error), ErrorCode::ChecksumMismatch);
        assert!(!writes_chunk_0(&dev.log()));
    }
}

#[test]
fn stopping_at_any_chunk_is_obeyed() {
    let bytes = image(20_000);
    for stop_at in 0..5 {
        let dev = FaultyDev::of_size(30_000);
        let mut calls = 0;
        let mut observer = |_| {
            calls += 1;
            if calls > stop_at { Flow::Stop } else { Flow::Continue }
        };
        let error =
            write_image(&dev, &mut Pieces(&bytes), expectation(&bytes), TINY, &mut observer).unwrap_err();
        assert_eq!(code(error), ErrorCode::SystemBusy);
        assert!(!writes_chunk_0(&dev.log()));
        let mut calls = 0;
        let stopped = digest_device(&dev, ByteCount(20_000), TINY, &mut |_| {
            calls += 1;
            if calls > stop_at { Flow::Stop } else { Flow::Continue }
        });
        assert!(matches!(stopped, Err(BootError::Stopped)));
    }
}

#[test]
fn memory_does_not_grow_with_the_image() {
    let bytes = image(2_000_000);
    let dev = FaultyDev::of_size(2_000_000);
    write(&dev, &bytes).unwrap();
    assert!(dev.model().buffers.len() <= TINY.buffers, "{:?}", dev.model().buffers);
}

#[test]
fn progress_never_falls_and_ends_with_the_whole() {
    let bytes = image(50_000);
    let dev = FaultyDev::of_size(50_000);
    let mut seen = vec![0];
    let mut observer = |progress| {
        if let WriteProgress::Written(n) = progress {
            seen.push(n.get());
        }
        Flow::Continue
    };
    write_image(&dev, &mut Pieces(&bytes), expectation(&bytes), TINY, &mut observer).unwrap();
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&50_000));
}

/// Opens the one device it has, whatever the name.
struct One(Arc<FaultyDev>);

struct Borrowed(Arc<FaultyDev>);

impl BlockDev for Borrowed {
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.0.drop_cache()
    }
}

impl Devices for One {
    fn open(&self, _: &Path, _: Access) -> Result<Box<dyn BlockDev>, BootError> {
        Ok(Box::new(Borrowed(self.0.clone())))
    }
}

#[test]
fn a_byte_that_the_medium_keeps_wrongly_is_found_by_the_read_back() {
    let bytes = image(20_000);
    for spoiled in [0, 4095, 4096, 19_999] {
        let dev = FaultyDev { spoil: Some(spoiled), ..FaultyDev::of_size(30_000) };
        let writer =
            BlockSlotWriter::new("a", "b", Some(Slot::A)).with_devices(Arc::new(One(Arc::new(dev))), TINY);
        let error = writer
            .write(Slot::B, &mut Pieces(&bytes), expectation(&bytes), &mut |_| Flow::Continue)
            .unwrap_err();
        assert!(matches!(error.kind(), PortErrorKind::Ota(e) if e.code() == ErrorCode::ChecksumMismatch));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_byte_is_read_back_and_compared(
        len in 0_usize..600_000, at in any::<prop::sample::Index>(), short in 0_usize..5000, writers in 1_usize..4
    ) {
        let bytes = image(len);
        let pipeline = Pipeline { writers, ..TINY };
        let short = if short < 97 { 0 } else { short };
        let dev = FaultyDev { short, ..FaultyDev::of_size(600_000) };
        let (mut written, mut read) = (vec![0], vec![0]);
        install_with(&dev, &bytes, pipeline, &mut |progress| {
            match progress {
                WriteProgress::Written(n) => written.push(n.get()),
                WriteProgress::ReadBack(n) => {
                    assert_eq!(written.last(), Some(&(len as u64)), "first the one, then the other");
                    read.push(n.get());
                }
            }
            Flow::Continue
        }).unwrap();
        prop_assert!(written.is_sorted() && read.is_sorted());
        prop_assert_eq!(read.last(), Some(&(len as u64)));
        if len > 0 {
            let spoil = at.index(len);
            let dev = FaultyDev { short, spoil: Some(spoil), ..FaultyDev::of_size(600_000) };
            let error = install_with(&dev, &bytes, pipeline, &mut |_| Flow::Continue).unwrap_err();
            let BootError::ReadBack { from, until, expected, actual } = error else { panic!("{error:?}") };
            prop_assert!((from..until).contains(&(spoil as u64)));
            prop_assert!(until - from <= TINY.chunk as u64);
            let range = usize::try_from(from).unwrap()..usize::try_from(until).unwrap();
            let piece = |bytes: &[u8]| XxHash3_128::oneshot(&bytes[range.clone()]);
            prop_assert_eq!((expected, actual), (piece(&bytes), piece(&dev.model().bytes)));
        }
    }
}

#[test]
fn no_byte_is_read_back_before_a_sync_has_covered_it() {
    let bytes = image(700_000);
    for writers in 1..4 {
        let dev = FaultyDev::of_size(700_000);
        install_with(&dev, &bytes, Pipeline { writers, ..TINY }, &mut |_| Flow::Continue).unwrap();
        let (mut fresh, mut synced, mut syncs) = (Vec::new(), BTreeSet::new(), 0);
        for op in dev.log() {
            match op {
                Op::Write { offset, .. } => fresh.push(offset),
                Op::Sync => {
                    synced.extend(fresh.drain(..));
                    syncs += 1;
                }
                Op::Read { offset } => assert!(synced.contains(&offset), "byte {offset}"),
            }
        }
        assert_eq!(
            syncs, 7,
            "five on the way, so that the read-back can begin, and the two of the first chunk"
        );
    }
}

#[test]
fn a_read_back_stops_on_request_and_at_a_read_that_fails() {
    let bytes = image(200_000);
    for stop_at in [0, 1, 5] {
        let mut calls = 0;
        let dev = FaultyDev::of_size(200_000);
        let stopped = install(&dev, &bytes, &mut |progress| {
            calls += usize::from(matches!(progress, WriteProgress::ReadBack(_)));
            if calls > stop_at { Flow::Stop } else { Flow::Continue }
        });
        assert!(matches!(stopped, Err(BootError::Stopped)));
    }
    for at in [0, 4096, 135_168, 196_608] {
        let failing = FaultyDev { unreadable: Some(at), ..FaultyDev::of_size(200_000) };
        let error = install(&failing, &bytes, &mut |_| Flow::Continue).unwrap_err();
        assert!(
            matches!(error, BootError::Io { operation: "read", offset, .. } if offset == at),
            "{error:?}"
        );
    }
}

#[test]
fn a_difference_that_is_known_keeps_the_first_chunk_from_being_written() {
    let bytes = image(20_000);
    let dev = FaultyDev::of_size(20_000);
    let (checks, mut image) = (read_back::Checks::none(), Pieces(&bytes));
    let mut differs = || Err(BootError::Stopped);
    let result = pipeline::write(
        &dev,
        &mut image,
        expectation(&bytes),
        TINY,
        &mut |_| Flow::Continue,
        checks,
        &mut differs,
    );
    assert!(matches!(result, Err(BootError::Stopped)));
    assert!(!writes_chunk_0(&dev.log()));
}
