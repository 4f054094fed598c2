//! What people meet at a terminal: the live screen of `ota-admin top`, which is given back whatever ends it, and a question that
//! is answered with no.

use std::process::{Command, Output, Stdio};

use crate::world::{Offer, binary, device};

/// Runs `top` on eight rows. Reads a frame, stops the program and lets it go on, then ends it with one signal after the other.
/// Fails where a frame is taller than the screen, and where the screen is not given back.
const TOP: &str = r#"
import fcntl, os, pty, signal, struct, sys, termios
signal.alarm(90)
ON, FRAME, OFF = b"\x1b[?1049h", b"\x1b[J", b"\x1b[?7h\x1b[?25h\x1b[?1049l"
def until(terminal, wanted):
    shown = b""
    while wanted not in shown:
        shown += os.read(terminal, 4096)
    return shown
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 80, 0, 0))
    child = os.fork()
    if child == 0:
        # What starts the tests in the background has it ignored, and programs inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for descriptor in range(3):
            os.dup2(terminal, descriptor)
        os.execv(sys.argv[1], sys.argv[1:])
    os.close(terminal)
    shown = until(master, FRAME)
    frame = shown.split(ON)[1].split(FRAME)[0]
    assert frame.count(b"\n") == 6 and b"more lines" in frame, frame
    if number == signal.SIGTERM:
        os.kill(child, signal.SIGTSTP)
        until(master, OFF)
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        os.kill(child, signal.SIGCONT)
        until(master, ON)
    os.kill(child, number)
    shown = b""
    try:
        while piece := os.read(master, 4096):
            shown += piece
    except OSError:
        pass  # the terminal is closed at the other end
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == 128 + number and shown.endswith(OFF), (number, ended, shown)
    os.close(master)
"#;

/// Answers a question with no and prints what the terminal shows.
const NO: &str = r#"
import os, pty, signal, sys
signal.alarm(90)
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
shown = b""
while b"[y/N]" not in shown:
    shown += os.read(terminal, 1024)
os.write(terminal, b"n\n")
try:
    while piece := os.read(terminal, 1024):
        shown += piece
except OSError:
    pass  # the terminal is closed at the other end
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// `ota-admin WORDS` at a terminal, as `script` uses it.
fn at_a_terminal(script: &str, words: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "what people type is run as they do")]
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(binary("ota-admin")).args(words).stdin(Stdio::null());
    python.env("HOME", home.path()).env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CLICOLOR");
    python.output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_screen_fits_its_terminal_and_is_given_back_whatever_ends_it() {
    let device = device(Offer::Small).await;
    let (url, token) = (device.api.url.clone(), device.layout.admin_token().display().to_string());
    let looked = tokio::task::spawn_blocking(move || {
        at_a_terminal(TOP, &["--url", &url, "--token-file", &token, "top", "--interval", "3600"])
    });
    let looked = looked.await.unwrap();
    assert!(looked.status.success(), "{}", String::from_utf8_lossy(&looked.stderr));
}

#[test]
fn a_question_answered_with_no_starts_nothing_and_ends_as_an_interrupted_command() {
    // It is asked before anything is sent.
    let done = at_a_terminal(NO, &["--url", "http://127.0.0.1:9", "snapshot", "restore", "SNAP-7"]);
    let shown = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(130), "{shown}");
    assert!(shown.contains("nothing was put back"), "{shown}");
}
