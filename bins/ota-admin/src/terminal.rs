//! How tall the terminal is, which std and nix have no safe form to ask for.
#![expect(unsafe_code, reason = "TIOCGWINSZ has no safe wrapper; the call states why it is sound")]

use std::{io, os::fd::AsRawFd as _};

use nix::libc::winsize;

mod raw {
    nix::ioctl_read_bad!(tiocgwinsz, nix::libc::TIOCGWINSZ, nix::libc::winsize);
}

/// Rows of the terminal that results go to; `None` where it does not say.
pub(crate) fn rows() -> Option<usize> {
    let mut size = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the pointer, which is valid for the call; the descriptor is open.
    unsafe { raw::tiocgwinsz(io::stdout().as_raw_fd(), &raw mut size) }.ok()?;
    (size.ws_row > 0).then_some(usize::from(size.ws_row))
}
