//! The system calls that std and nix have no safe form of.
#![expect(
    unsafe_code,
    reason = "ioctl and sync_file_range have no safe wrapper; each call states why it is sound"
)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::libc;

mod raw {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);
}

/// Size of a block device in bytes.
pub(super) fn block_size(file: &File) -> io::Result<u64> {
    let mut size = 0_u64;
    // SAFETY: BLKGETSIZE64 writes one u64 to the pointer, which is valid for the call; the descriptor is open.
    unsafe { raw::blkgetsize64(file.as_fd().as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

/// Starts writing a range back, and waits for it where `wait` says so. Says nothing about the device's own cache.
pub(super) fn write_back(file: &File, offset: u64, len: u64, wait: bool) -> io::Result<()> {
    let flags = if wait {
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER
    } else {
        libc::SYNC_FILE_RANGE_WRITE
    };
    let (offset, len) = (signed(offset)?, signed(len)?);
    // SAFETY: takes numbers only; the descriptor is open for the call.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn signed(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}
