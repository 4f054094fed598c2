//! `cargo xtask bench upload`: one long file into the real daemon, beside `dd` on the same disk and curl into nginx's WebDAV.
//!
//! Owns the rounds and the table. Ours hashes what it stores and syncs it; nginx does neither.
#![allow(clippy::print_stdout, reason = "a bench talks on its standard output")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time and starts what it compares with")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use ota_core::Slot;
use ota_tests::{
    config::Settings,
    device::{Device, PowerOn},
    images::Payload,
    make,
};

#[derive(Parser)]
struct Args {
    /// The daemon's program.
    #[arg(long)]
    gatewayd: PathBuf,
    /// Folder of the device, of the file, and of everything it is written to.
    #[arg(long)]
    dir: PathBuf,
    /// Size of the file.
    #[arg(long, default_value_t = 2048)]
    mib: u64,
    /// Rounds; the table tells medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let layout = make::take_folder(&args.dir)?;
    let layout =
        tokio::task::spawn_blocking(move || make::make(&layout, Payload::Noise(1 << 20)).map(|()| layout))
            .await??;
    for slot in Slot::ALL {
        // Holes: an upload must fit into a slot.
        fs::OpenOptions::new().write(true).open(layout.slot(slot))?.set_len((args.mib + 64) << 20)?;
    }
    let how = PowerOn {
        gatewayd: args.gatewayd.canonicalize().context("the daemon's program")?,
        repo: layout.repo(),
        port: 0,
        pin: false,
        settings: Settings { check_seconds: 0, ..Settings::new(0, 0) },
        watchdog: Duration::from_secs(3),
        restart_pause: Duration::from_millis(500),
        console: Arc::new(|_| {}),
    };
    let device = Device::start(layout, how).await?;
    let dir = device.layout.dir().to_owned();
    let file = dir.join("long.img");
    noise(&file, args.mib)?;
    let nginx = Nginx::start(&dir);
    let measured = tokio::task::block_in_place(|| rounds(&args, &device, &file, nginx.as_ref()));
    let Figures { ours, floor, peer, memory } = measured?;
    let peer_note = nginx.as_ref().err().map(|why| format!("not measured: {why:#}"));
    drop(nginx);
    print(&args, &ours, &floor, &peer, peer_note, memory);
    device.machine.power_off().await;
    Ok(())
}

struct Figures {
    ours: Vec<Duration>,
    floor: Vec<Duration>,
    peer: Vec<Duration>,
    /// Before the first round, and the peak over all of them, in KiB.
    memory: (u64, u64),
}

fn rounds(
    args: &Args,
    device: &Device,
    file: &Path,
    nginx: Result<&Nginx, &anyhow::Error>,
) -> anyhow::Result<Figures> {
    let dir = device.layout.dir();
    let url = fs::read_to_string(device.layout.url())?.trim().to_owned();
    let token = fs::read_to_string(device.layout.admin_token())?.trim().to_owned();
    let small = dir.join("small.img");
    noise(&small, 1)?;
    // Once for the caches, and so that the first memory is that of a daemon that has taken an upload.
    upload(&url, &token, &small)?;
    let before = memory(device, "VmRSS:")?;
    let (mut ours, mut floor, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds.max(1) {
        let copy = dir.join("dd.img");
        let from = format!("if={}", file.display());
        let to = format!("of={}", copy.display());
        floor.push(timed(Command::new("dd").args(["bs=1M", "conv=fsync", "status=none", &from, &to]))?);
        fs::remove_file(copy)?;
        ours.push(upload(&url, &token, file)?);
        if let Ok(nginx) = nginx {
            peer.push(nginx.put(file)?);
        }
    }
    Ok(Figures { ours, floor, peer, memory: (before, memory(device, "VmHWM:")?) })
}

fn upload(url: &str, token: &str, file: &Path) -> anyhow::Result<Duration> {
    let header = format!("Authorization: Bearer {token}");
    let part = format!("file=@{}", file.display());
    let to = format!("{url}/api/v1/ota/upload");
    let form = ["--silent", "--show-error", "--fail-with-body", "--form", "version=v9.0.0", "--form", &part];
    timed(Command::new("curl").args(["--header", &header]).args(form).arg(to))
}

fn timed(command: &mut Command) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().context("starting a program of the bench")?;
    let took = start.elapsed();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(took)
}

/// Bytes that no file system makes smaller.
fn noise(path: &Path, mib: u64) -> anyhow::Result<()> {
    let mut file = fs::File::create(path)?;
    let mut state = mib | 1;
    let mut block = vec![0; 1 << 20];
    for _ in 0..mib {
        for chunk in block.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

/// nginx with its WebDAV module, storing in the same folder.
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    fn start(dir: &Path) -> anyhow::Result<Self> {
        let (home, port) = (dir.join("nginx"), make::free_port(0));
        fs::create_dir_all(home.join("files"))?;
        fs::create_dir_all(home.join("body"))?;
        let config = home.join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log;\nevents {{}}\nhttp {{\n\
             access_log off; client_max_body_size 0; client_body_temp_path {0}/body; proxy_temp_path {0}/p;\n\
             fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
             server {{ listen 127.0.0.1:{port}; root {0}/files; location / {{ dav_methods PUT DELETE; }} }}\n}}\n",
            home.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&home).arg("-c").arg(&config).stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("apt-get install nginx-light")?;
        let nginx = Self { child, port };
        let ready = |_: &i32| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        // tidy: waits for another process
        let tries = (0..100).inspect(|_| std::thread::sleep(Duration::from_millis(50)));
        ensure!(tries.into_iter().any(|n| ready(&n)), "nginx does not answer");
        Ok(nginx)
    }

    fn put(&self, file: &Path) -> anyhow::Result<Duration> {
        let to = format!("http://127.0.0.1:{}/long.img", self.port);
        let took = timed(
            Command::new("curl")
                .args(["--silent", "--show-error", "--fail", "--upload-file"])
                .arg(file)
                .arg(&to),
        )?;
        timed(Command::new("curl").args(["--silent", "--request", "DELETE"]).arg(&to))?;
        Ok(took)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of the daemon's `/proc/PID/status`, in KiB.
fn memory(device: &Device, line: &str) -> anyhow::Result<u64> {
    let pid = device.machine.record().borrow().pid.context("the daemon does not run")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)).context("no such line")?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

fn print(
    args: &Args,
    ours: &[Duration],
    floor: &[Duration],
    peer: &[Duration],
    peer_note: Option<String>,
    (before, after): (u64, u64),
) {
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64()
    };
    let bytes = f64::from(u32::try_from(args.mib).unwrap_or(u32::MAX)) * 1.048_576;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "\n{} MiB, medians of {} rounds, load {} at the end\n",
        args.mib,
        ours.len(),
        load.split_whitespace().next().unwrap_or_default()
    );
    println!("| | wall s | MB/s | ours takes |\n|---|---|---|---|");
    let row = |name: &str, times: &[Duration]| {
        println!(
            "| {name} | {:.2} | {:.0} | {:.2} × |",
            median(times),
            bytes / median(times),
            median(ours) / median(times)
        );
    };
    row("curl into our upload: hashed, synced", ours);
    row("dd, through the page cache, synced", floor);
    match peer_note {
        Some(why) => println!("| curl into nginx's WebDAV | {why} | | |"),
        None => row("curl into nginx's WebDAV: not hashed, not synced", peer),
    }
    let growth = after.saturating_sub(before);
    let met = if growth < 16 * 1024 { "met" } else { "not met" };
    println!(
        "\nmemory of the daemon: {:.1} MiB before, {:.1} MiB at its peak: growth {:.1} MiB, bar < 16 MiB: {met}",
        kib(before),
        kib(after),
        kib(growth)
    );
}

fn kib(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX)) / 1024.0
}
