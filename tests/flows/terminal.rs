//! What people meet at a terminal: the live screen of `ota-admin top`, which is given back whatever ends it, a question that is
//! answered with no, and Ctrl-C while a gateway does not answer.

use std::process::{Command, Output, Stdio};

use crate::world::{Offer, binary, device};

/// What the scripts share.
const SHARED: &str = include_str!("terminal.py");

/// Runs `script` behind [`SHARED`].
pub(crate) fn python(script: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "what people type is run as they do")]
    let mut python = Command::new("python3");
    python.arg("-c").arg(format!("{SHARED}{script}")).stdin(Stdio::null());
    python
}

/// Runs `top` on eight rows. Reads a frame, stops the program and lets it go on, then ends it with one signal after the other.
/// Fails where a frame is taller than the screen, and where the screen is not given back.
const TOP: &str = r#"
ON, FRAME, OFF = b"\x1b[?1049h", b"\x1b[J", b"\x1b[?7h\x1b[?25h\x1b[?1049l"
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    child, end, before = start(sys.argv[1:], rows=8)
    frame = until(end, FRAME).split(ON)[1].split(FRAME)[0]
    assert frame.count(b"\n") == 6 and b"more lines" in frame, frame
    if number == signal.SIGTERM:
        os.kill(child, signal.SIGTSTP)
        until(end, OFF)
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        os.kill(child, signal.SIGCONT)
        until(end, ON)
    os.kill(child, number)
    shown, ended = rest(end), code(child)
    assert ended == 128 + number and shown.endswith(OFF), (number, ended, shown)
    os.close(end)
"#;

/// Answers a question with no and prints what the terminal shows.
const NO: &str = r#"
child, end, before = start(sys.argv[1:])
shown = until(end, b"[y/N]")
os.write(end, b"n\n")
shown += rest(end)
sys.stdout.write(shown.decode())
sys.exit(code(child))
"#;

/// A gateway that never answers the request `argv[2]` when it comes for the time `argv[3]`; `update` is interrupted then. Prints what
/// that says, and ends as it does.
const CTRL_C: &str = r#"
import http.server, json, subprocess, threading
JOB = {"job_id": "OTA-JOB-1", "status": "started", "message": "", "estimated_duration": "00:00:01", "estimated_duration_seconds": 1}
SLOT = {"name": "A", "version": "v1.0.1", "boot_count": 1, "state": "good"}
UPDATE = {"id": "u1", "version": "v1.0.1", "description": "", "size": 1, "critical": False, "requires_reboot": True}
MOVED = {"percentage": 100.0, "bytes_downloaded": 1, "bytes_total": 1, "speed": "0B/s", "bytes_per_second": 0}
ANSWERS = {
    "system/status": {"gateway": {"name": "g", "model": "m", "serial": "s"}, "partitions": {"active": SLOT, "inactive": None},
        "resources": {"disk_free": 1, "memory_free": 1, "cpu_load": 0.0}, "system_status": "idle", "allow_unsigned": False,
        "timestamp": "2025-03-15T10:30:45Z"},
    "updates/check": {"available": True, "updates": [UPDATE]},
    "updates/download": JOB,
    "updates/install": {**JOB, "status": "installing", "requires_reboot": True},
    "updates/progress": {"job_id": "OTA-JOB-1", "status": "succeeded", "progress": MOVED, "current_operation": "done",
        "eta": "00:00:00", "eta_seconds": 0, "version": "v1.0.1", "target_partition": "A", "ended": True,
        "updated_at": "2025-03-15T10:30:45Z"},
}
asked, reached, never = [], threading.Event(), threading.Event()
class Gateway(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        name = self.path.split("/api/v1/ota/")[1].split("?")[0]
        asked.append(name)
        if name == sys.argv[2] and asked.count(name) == int(sys.argv[3]):
            reached.set()
            never.wait()
        body = json.dumps(ANSWERS[name]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
threading.Thread(target=server.serve_forever, daemon=True).start()
update = subprocess.Popen(
    [sys.argv[1], "--url", f"http://127.0.0.1:{server.server_port}", "update", "--yes"], stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
assert reached.wait(60), asked
update.send_signal(signal.SIGINT)
sys.stdout.write(update.communicate(timeout=20)[0].decode())
sys.stdout.flush()
# The thread that never answers is left behind.
os._exit(update.returncode)
"#;

/// `ota-admin WORDS` at a terminal, as `script` uses it.
fn at_a_terminal(script: &str, variables: &[(&str, &str)], words: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut python = python(script);
    python.arg(binary("ota-admin")).args(words);
    python.env("HOME", home.path()).env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CLICOLOR");
    python.envs(variables.iter().copied());
    python.output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_screen_fits_its_terminal_and_is_given_back_whatever_ends_it() {
    let device = device(Offer::Small).await;
    let (url, token) = (device.api.url.clone(), device.layout.admin_token().display().to_string());
    // Who wants no colours wants a screen all the same.
    for variables in [&[] as &[(&str, &str)], &[("NO_COLOR", "1")]] {
        let (url, token) = (url.clone(), token.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let words = ["--url", &url, "--token-file", &token, "top", "--interval", "3600"];
            at_a_terminal(TOP, variables, &words)
        });
        let looked = looked.await.unwrap();
        assert!(looked.status.success(), "{variables:?}: {}", String::from_utf8_lossy(&looked.stderr));
    }
}

#[test]
fn ctrl_c_ends_an_update_whose_gateway_does_not_answer_and_promises_nothing_that_is_not_known() {
    for (request, time, code, told) in [
        ("updates/install", "1", 130, "whether the installation was accepted is not known"),
        // It is confirmed then: only the name of the partition is missing.
        ("system/status", "2", 0, "v1.0.1 runs and is confirmed"),
    ] {
        let done = at_a_terminal(CTRL_C, &[], &[request, time]);
        let shown = String::from_utf8_lossy(&done.stdout);
        assert_eq!(
            done.status.code(),
            Some(code),
            "{request}: {shown}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert!(shown.contains(told) && !shown.contains("does not install"), "{request}: {shown}");
    }
}

#[test]
fn a_question_answered_with_no_starts_nothing_and_ends_as_an_interrupted_command() {
    // It is asked before anything is sent.
    let done = at_a_terminal(NO, &[], &["--url", "http://127.0.0.1:9", "snapshot", "restore", "SNAP-7"]);
    let shown = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(130), "{shown}");
    assert!(shown.contains("nothing was put back"), "{shown}");
}
