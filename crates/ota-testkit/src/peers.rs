//! Programs that plants really run, as peers of tests: Debian's mosquitto, pymodbus' server (PyPI), and peers that
//! misbehave. All of them end with the value that stands for them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

/// A program that ends with this value.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts `program` of the Debian package `package`.
    #[expect(clippy::disallowed_methods, reason = "the peers of tests")]
    pub fn start(program: &str, package: &str, args: &[&str]) -> Self {
        let started = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{program} (package {package}): {error}"));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Self { child, stdin, stdout }
    }

    /// Sends a line to its standard input; `false` when it is gone.
    pub fn tell(&mut self, line: &str) -> bool {
        self.stdin.as_mut().is_some_and(|stdin| writeln!(stdin, "{line}").is_ok())
    }

    /// The same for a program that must be there.
    pub fn say(&mut self, line: &str) {
        assert!(self.tell(line), "the program has ended");
    }

    /// The next line of its standard output; empty at its end.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        if let Some(stdout) = &mut self.stdout {
            let _ = stdout.read_line(&mut line);
        }
        line
    }

    /// Its standard output, to be read elsewhere.
    pub fn take_output(&mut self) -> BufReader<ChildStdout> {
        self.stdout.take().expect("the output was taken already")
    }

    /// Kills it as a power cut does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it come to its end, which must be a good one.
    pub fn wait(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("the program can be waited for");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A server that sends `answer` to whatever it hears and keeps the connection open. Runs until the test ends.
pub fn babbler(port: u16, answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut heard = [0; 4096];
                while stream.read(&mut heard).is_ok_and(|n| n > 0) && stream.write_all(answer).is_ok() {}
            });
        }
    });
    address
}

/// Answers what it is told to whatever it hears, and says so.
const STAND_IN: &str = r#"
import socketserver, sys
answer = bytes.fromhex(sys.argv[2])
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while self.request.recv(4096):
            print("asked", flush=True)
            if answer:
                self.request.sendall(answer)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"#;

/// A server on `port` that answers `answer`, or nothing, to whatever it hears, and says `asked` each time; unlike
/// [`babbler`] it goes with its value.
pub fn stand_in(port: u16, answer: &[u8]) -> Peer {
    let hex: String = answer.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut peer = Peer::start("python3", "python3", &["-c", STAND_IN, &port.to_string(), &hex]);
    assert_eq!(peer.hear(), "ready\n", "the port is free");
    peer
}

/// Debian's mosquitto on loopback.
#[derive(Debug)]
pub struct Broker {
    /// Where it listens.
    pub port: u16,
    peer: Peer,
}

impl Broker {
    /// Starts it on `port` with more lines of configuration; `folder` is its own.
    pub fn start(folder: &Path, port: u16, more: &str) -> Self {
        let config = folder.join("mosquitto.conf");
        // `user root`: it must be able to read the test's files.
        let text =
            format!("user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nlog_dest none\n{more}\n");
        fs::write(&config, text).expect("the folder can be written to");
        let peer = Peer::start("/usr/sbin/mosquitto", "mosquitto", &["-c", &config.to_string_lossy()]);
        let mut broker = Self { port, peer };
        broker.until_up();
        broker
    }

    fn until_up(&mut self) {
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            self.runs();
            thread::yield_now();
        }
        self.runs();
    }

    /// It ends where it cannot listen: whoever answers then is somebody else, or nobody.
    fn runs(&mut self) {
        let ended = self.peer.child.try_wait().expect("the program can be waited for");
        assert!(ended.is_none(), "mosquitto does not listen on port {}: {ended:?}", self.port);
    }

    /// Debian's publisher, with quality of service 1.
    pub fn publisher(&self, args: &[&str]) -> Peer {
        self.client("/usr/bin/mosquitto_pub", args)
    }

    /// Debian's subscriber; each message is a line of its output.
    pub fn subscriber(&self, topic: &str) -> Peer {
        self.client("/usr/bin/mosquitto_sub", &["-t", topic])
    }

    fn client(&self, program: &str, args: &[&str]) -> Peer {
        let port = self.port.to_string();
        let all: Vec<&str> =
            ["-h", "127.0.0.1", "-p", &port, "-q", "1"].into_iter().chain(args.iter().copied()).collect();
        Peer::start(program, "mosquitto-clients", &all)
    }
}

/// Sets what it is told on standard input: function code, address, kind, value, word order.
const PLC: &str = r#"
import asyncio, sys, threading
from pymodbus.client import ModbusTcpClient
from pymodbus.datastore import ModbusSequentialDataBlock as Block, ModbusDeviceContext, ModbusServerContext
from pymodbus.server import ModbusTcpServer
device = ModbusDeviceContext(*[Block(0, [0] * 400) for _ in range(4)])
kinds = {name: ModbusTcpClient.DATATYPE[name] for name in ("UINT32", "INT32", "FLOAT32")}
def listen(loop):
    for line in sys.stdin:
        code, address, kind, value, order = line.split()
        if kind in kinds:
            number = float(value) if kind == "FLOAT32" else int(value)
            values = ModbusTcpClient.convert_to_registers(number, kinds[kind], word_order=order)
        else:
            values = [int(value)]
        device.setValues(int(code), int(address), values)
        print("set", flush=True)
async def main():
    server = ModbusTcpServer(ModbusServerContext(devices=device, single=True), address=("127.0.0.1", int(sys.argv[1])))
    threading.Thread(target=listen, args=(None,), daemon=True).start()
    task = asyncio.create_task(server.serve_forever())
    while not server.transport:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await task
asyncio.run(main())
"#;

/// pymodbus' server as a PLC.
#[derive(Debug)]
pub struct Plc {
    /// Where it listens.
    pub port: u16,
    peer: Peer,
}

impl Plc {
    /// Starts it; all of its registers hold 0.
    pub fn start(port: u16) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "cargo xtask test says by it which Python has the packages"
        )]
        let python = std::env::var("OTA_PYTHON").unwrap_or_else(|_| "python3".into());
        let mut peer = Peer::start(&python, "python3", &["-c", PLC, &port.to_string()]);
        assert_eq!(
            peer.hear(),
            "ready\n",
            "pymodbus 3.11 (PyPI) must be there for {python}; cargo xtask test installs it"
        );
        Self { port, peer }
    }

    /// Writes `kind` (`BIT`, `WORD`, `UINT32`, `INT32`, `FLOAT32`) at `address` of the table with that function code,
    /// `big` or `little` end first. Done when this returns.
    pub fn set(&mut self, line: &str) {
        self.peer.say(line);
        assert_eq!(self.peer.hear(), "set\n", "{line}");
    }

    /// A word into a holding register.
    pub fn set_register(&mut self, address: u16, value: u16) {
        self.set(&format!("3 {address} WORD {value} big"));
    }

    /// Unplugs it.
    pub fn kill(&mut self) {
        self.peer.kill();
    }
}
