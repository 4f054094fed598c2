//! The system calls that std and nix have no form of: extended attributes, and a mount table of one's own.
#![expect(unsafe_code, reason = "nix has no extended attributes; each call states why it is sound")]

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::ffi::OsStringExt as _,
    },
    path::PathBuf,
};

use nix::libc;

/// The entry `name` of a folder as a path whose last part is not followed.
fn at(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<CString> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
        .join(std::ffi::OsString::from_vec(name.to_vec()));
    Ok(CString::new(path.into_os_string().into_vec())?)
}

/// Sets an extended attribute of an entry, also of a link itself.
pub(super) fn set_attribute(
    folder: BorrowedFd<'_>,
    entry: &[u8],
    name: &CStr,
    value: &[u8],
) -> io::Result<()> {
    let path = at(folder, entry)?;
    // SAFETY: both strings end with a zero byte and the value has the length that is told; all live over the call.
    let result =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An extended attribute of an entry, up to 64 KiB.
pub(super) fn attribute(folder: BorrowedFd<'_>, entry: &[u8], name: &CStr) -> io::Result<Vec<u8>> {
    let path = at(folder, entry)?;
    let mut value = vec![0_u8; 64 * 1024];
    // SAFETY: both strings end with a zero byte, the buffer is as long as told; all live over the call.
    let read =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    value.truncate(read);
    Ok(value)
}

/// Gives this thread a mount table of its own; what it mounts goes when it ends.
pub(crate) fn leave_mount_table() -> io::Result<()> {
    // SAFETY: takes a number only; concerns the calling thread.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
