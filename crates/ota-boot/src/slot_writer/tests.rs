//! The port over plain files and real loop devices (packages `mount`, `e2fsprogs`; loop devices need root).

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use ota_core::{ErrorCode, error::PortErrorKind, ports::Flow};
use tempfile::TempDir;

use super::*;

struct Bytes(Vec<u8>, usize);

impl ImageReader for Bytes {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        let len = buf.len().min(self.0.len() - self.1);
        buf[..len].copy_from_slice(&self.0[self.1..self.1 + len]);
        self.1 += len;
        Ok(len)
    }
}

fn image(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

fn folder_with(a: usize, b: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.img"), vec![0xaa; a]).unwrap();
    fs::write(dir.path().join("b.img"), vec![0xbb; b]).unwrap();
    dir
}

fn writer(dir: &TempDir) -> BlockSlotWriter {
    BlockSlotWriter::new(dir.path().join("a.img"), dir.path().join("b.img"), Some(Slot::A))
}

fn install(writer: &BlockSlotWriter, slot: Slot, bytes: &[u8]) -> Result<(), PortError> {
    let expect = ImageExpectation { size: ByteCount(bytes.len() as u64), sha256: Sha256Digest::of(bytes) };
    writer.write(slot, &mut Bytes(bytes.to_vec(), 0), expect, &mut |_| Flow::Continue)
}

#[track_caller]
fn refused(result: Result<(), PortError>, code: ErrorCode) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), PortErrorKind::Ota(e) if e.code() == code), "{}", error.chain());
    error.chain()
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "loop devices and file systems are made by the system's own tools"
    )]
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; install mount and e2fsprogs"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {error}; this test needs root and loop devices"
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A loop device over a file, gone when dropped.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Self {
        Self(run("losetup", &["--find", "--show", file.to_str().unwrap()]).into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["--detach", self.0.to_str().unwrap()]);
    }
}

#[test]
fn an_image_of_any_size_lands_in_a_file_whose_length_and_rest_stay() {
    let lengths = [0, 1, 4095, 4096, 4097, 65_536, 70_001, 99_999, 100_000];
    for slot_size in [100_000, 102_400] {
        for buffered_only in [false, true] {
            let dir = folder_with(10, slot_size);
            let devices = Arc::new(OsDevices { buffered_only });
            let writer = writer(&dir).with_devices(
                devices,
                Pipeline { chunk: 16_384, buffers: 5, writers: 2, sync_every: u64::MAX },
            );
            for len in lengths {
                fs::write(dir.path().join("b.img"), vec![0xbb; slot_size]).unwrap();
                let bytes = image(len);
                install(&writer, Slot::B, &bytes).unwrap();
                let slot = fs::read(dir.path().join("b.img")).unwrap();
                assert_eq!(slot.len(), slot_size);
                assert!(slot[..len] == bytes[..], "{len} bytes, buffered only: {buffered_only}");
                assert!(slot[len..].iter().all(|b| *b == 0xbb), "{len} bytes");
                let digest = writer.digest(Slot::B, ByteCount(len as u64), &mut |_| Flow::Continue).unwrap();
                assert_eq!(digest, Sha256Digest::of(&bytes));
            }
        }
    }
}

#[test]
fn a_buffered_write_larger_than_its_window_is_whole() {
    let size = 40 << 20;
    let dir = folder_with(10, size);
    let devices = Arc::new(OsDevices { buffered_only: true });
    let writer = writer(&dir).with_devices(devices, Pipeline::default());
    let bytes = image(size);
    install(&writer, Slot::B, &bytes).unwrap();
    assert!(fs::read(dir.path().join("b.img")).unwrap() == bytes);
}

#[test]
fn the_booted_an_unknown_and_a_too_small_slot_are_refused_untouched() {
    let dir = folder_with(5000, 5000);
    let bytes = image(5001);
    let here = writer(&dir);
    refused(install(&here, Slot::A, &bytes[..10]), ErrorCode::InvalidPartition);
    refused(install(&here, Slot::B, &bytes), ErrorCode::InsufficientSpace);
    let unknown = BlockSlotWriter::new(dir.path().join("a.img"), dir.path().join("b.img"), None);
    let error = install(&unknown, Slot::B, &bytes[..10]).unwrap_err();
    assert!(matches!(error.kind(), PortErrorKind::Unavailable { reason: "booted_slot_unknown", .. }));
    assert_eq!(fs::read(dir.path().join("b.img")).unwrap(), vec![0xbb; 5000]);
    assert_eq!(here.capacity(Slot::A).unwrap(), ByteCount(5000));
    assert!(here.digest(Slot::A, ByteCount(5001), &mut |_| Flow::Continue).is_err());
    assert!(
        here.digest(Slot::A, ByteCount(5000), &mut |_| Flow::Continue).is_ok(),
        "the booted slot can be read"
    );
}

#[test]
fn a_slot_that_is_the_other_one_or_a_link_or_no_file_is_refused() {
    let dir = folder_with(5000, 5000);
    let same = BlockSlotWriter::new(dir.path().join("a.img"), dir.path().join("./a.img"), Some(Slot::A));
    refused(install(&same, Slot::B, &image(10)), ErrorCode::InvalidPartition);
    symlink(dir.path().join("b.img"), dir.path().join("link")).unwrap();
    for path in [dir.path().join("link"), dir.path().to_owned(), PathBuf::from("/dev/null")] {
        let writer = BlockSlotWriter::new(dir.path().join("a.img"), path, Some(Slot::A));
        refused(install(&writer, Slot::B, &image(10)), ErrorCode::InvalidPartition);
    }
    let missing = BlockSlotWriter::new(dir.path().join("a.img"), dir.path().join("none"), Some(Slot::A));
    assert!(matches!(install(&missing, Slot::B, &image(10)).unwrap_err().kind(), PortErrorKind::Io(_)));
}

#[test]
fn a_second_writer_is_kept_out() {
    let dir = folder_with(5000, 5000);
    let writer = writer(&dir);
    let held = OsDevices::default().open(&dir.path().join("b.img"), Access::Exclusive).unwrap();
    let chain = refused(install(&writer, Slot::B, &image(10)), ErrorCode::InvalidPartition);
    assert!(chain.contains("another writer"), "{chain}");
    drop(held);
    install(&writer, Slot::B, &image(10)).unwrap();
}

#[test]
fn a_loop_device_is_measured_written_and_read_back() {
    let size = 6 << 20;
    let dir = folder_with(10, size);
    let device = Loop::over(&dir.path().join("b.img"));
    let writer = BlockSlotWriter::new(dir.path().join("a.img"), &device.0, Some(Slot::A));
    assert_eq!(writer.capacity(Slot::B).unwrap(), ByteCount(size as u64));
    for len in [size, size - 1, 3 << 20, 4097] {
        let bytes = image(len);
        install(&writer, Slot::B, &bytes).unwrap();
        assert!(fs::read(dir.path().join("b.img")).unwrap()[..len] == bytes[..], "{len}");
    }
    refused(install(&writer, Slot::B, &image(size + 1)), ErrorCode::InsufficientSpace);
}

#[test]
fn a_mounted_device_is_refused_and_so_is_the_file_under_it() {
    let dir = folder_with(10, 4 << 20);
    let (file, point) = (dir.path().join("b.img"), dir.path().join("mnt"));
    fs::create_dir(&point).unwrap();
    run("mkfs.ext4", &["-q", "-F", file.to_str().unwrap()]);
    let device = Loop::over(&file);
    run("mount", &["-o", "ro", device.0.to_str().unwrap(), point.to_str().unwrap()]);
    let before = fs::read(&file).unwrap();
    let results = [&device.0, &file].map(|slot| {
        let writer = BlockSlotWriter::new(dir.path().join("a.img"), slot, Some(Slot::A));
        install(&writer, Slot::B, &image(4096))
    });
    // Gone from here at once, also while a program that another test is starting still has a copy of what was open.
    run("umount", &["-l", point.to_str().unwrap()]);
    for result in results {
        let chain = refused(result, ErrorCode::InvalidPartition);
        assert!(chain.contains(point.to_str().unwrap()), "{chain}");
    }
    assert!(fs::read(&file).unwrap() == before);
}
