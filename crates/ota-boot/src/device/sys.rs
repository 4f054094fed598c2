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
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4c82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4c0a, super::LoopConfig);
}

/// `struct loop_config` of the kernel. Source: `include/uapi/linux/loop.h`.
#[repr(C)]
pub(super) struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// `struct loop_info64` up to its flags: numbers that are zero here.
    before_flags: [u64; 6],
    encrypt_key_size: u32,
    flags: u32,
    /// The rest of `struct loop_info64`: names and a key, empty.
    after_flags: [u64; 22],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// The device goes away with its last user.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Number of a loop device that nobody uses at this moment. `control`: `/dev/loop-control`.
pub(super) fn free_loop(control: &File) -> io::Result<i32> {
    // SAFETY: takes no argument; the descriptor is open for the call.
    Ok(unsafe { raw::loop_ctl_get_free(control.as_raw_fd()) }?)
}

/// Makes `device` a window on `file` until the last descriptor and the last mount of it are gone.
pub(super) fn configure_loop(device: &File, file: &File) -> io::Result<()> {
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let config = LoopConfig {
        fd,
        block_size: 0,
        before_flags: [0; 6],
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR,
        after_flags: [0; 22],
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one loop_config from the pointer, which is valid for the call and as long as the
    // kernel's (asserted above); both descriptors are open.
    unsafe { raw::loop_configure(device.as_raw_fd(), &raw const config) }?;
    Ok(())
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
