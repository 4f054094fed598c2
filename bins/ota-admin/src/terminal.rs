//! What the terminal is like: how tall, which std and nix have no safe form to ask for, and whether what it shows can move.
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

/// Whether what a terminal shows can be drawn over: `TERM` names one that can more than print lines.
pub(crate) fn moves() -> bool {
    #[expect(clippy::disallowed_methods, reason = "ota-admin owns its environment variables")]
    let name = std::env::var("TERM");
    can_move(name.ok().as_deref())
}

fn can_move(name: Option<&str>) -> bool {
    !matches!(name, None | Some("" | "dumb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_terminal_and_one_without_a_name_only_print_lines() {
        let seen = [None, Some(""), Some("dumb"), Some("xterm")].map(can_move);
        assert_eq!(seen, [false, false, false, true]);
    }
}
