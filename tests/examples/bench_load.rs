//! `cargo xtask bench load`: hostile clients against the real daemon (D1). 500 slow heads, 500 silent connections and 50 slow
//! bodies from 24 loopback addresses, each opened again when it is closed; an honest client; an update that runs meanwhile.
//!
//! Owns the clients and the table. Rounds without and with the hostile ones take turns, so that a busy neighbour hits both.
#![allow(clippy::print_stdout, reason = "a bench talks on its standard output")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser;
use ota_api::{
    updates::{DownloadRequest, InstallRequest},
    words::JobStatus,
};
use ota_tests::{
    config::Settings,
    device::{Device, PowerOn},
    images::Payload,
    make,
    release::UPDATE_ID,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

#[derive(Parser)]
struct Args {
    /// The daemon's program.
    #[arg(long)]
    gatewayd: PathBuf,
    /// Folder of the device.
    #[arg(long)]
    dir: PathBuf,
    /// MiB of noise in the image of the update.
    #[arg(long, default_value_t = 96)]
    mib: u64,
    /// Pairs of rounds, without and with the hostile clients.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that a round lasts at least: longer than the longest time-out.
    #[arg(long, default_value_t = 45)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SlowHead,
    Silent,
    SlowBody,
}

const KINDS: [(Kind, usize); 3] = [(Kind::SlowHead, 500), (Kind::Silent, 500), (Kind::SlowBody, 50)];
/// Addresses that they come from: more than the limit for one of them would let through.
const ADDRESSES: u8 = 24;

/// What the hostile clients saw.
#[derive(Default)]
struct Seen {
    opened: AtomicU64,
    refused: AtomicU64,
    closed: AtomicU64,
    longest: [Mutex<Duration>; 3],
}

/// One round.
struct Round {
    /// Latencies of the honest client, sorted.
    honest: Vec<Duration>,
    failed: u64,
    /// Times of whole updates, from the request to the reboot that is missing.
    updates: Vec<Duration>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let layout = make::take_folder(&args.dir)?;
    let mib = args.mib;
    let layout =
        tokio::task::spawn_blocking(move || make::make(&layout, Payload::Noise(mib << 20)).map(|()| layout))
            .await??;
    let how = PowerOn {
        gatewayd: args.gatewayd.canonicalize().context("the daemon's program")?,
        repo: layout.repo(),
        port: 0,
        pin: false,
        settings: Settings {
            countdown_seconds: 0,
            check_seconds: 0,
            debounce: "20ms",
            ..Settings::new(0, 0)
        },
        watchdog: Duration::from_secs(3),
        restart_pause: Duration::from_millis(500),
        console: Arc::new(|_| {}),
    };
    let device = Device::start(layout, how).await?;
    let port: u16 = {
        let url = fs::read_to_string(device.layout.url())?;
        url.trim().rsplit(':').next().unwrap_or_default().parse()?
    };
    let token = fs::read_to_string(device.layout.admin_token())?.trim().to_owned();
    // Once for the caches.
    update(&device).await?;
    let before = memory(&device, "VmRSS:")?;
    let seen = Arc::new(Seen::default());
    let (mut quiet, mut loaded) = (Vec::new(), Vec::new());
    for round in 0..args.rounds.max(1) {
        quiet.push(measure(&device, args.seconds / 3).await?);
        let stop = Arc::new(AtomicBool::new(false));
        let hostile = attack(port, &token, &stop, &seen);
        sleep(Duration::from_secs(2)).await;
        loaded.push(measure(&device, args.seconds).await?);
        stop.store(true, Ordering::Relaxed);
        for client in hostile {
            client.abort();
        }
        println!("round {} done", round + 1);
    }
    let after = memory(&device, "VmHWM:")?;
    print(&quiet, &loaded, &seen, (before, after));
    device.machine.power_off().await;
    Ok(())
}

/// A whole update up to the reboot, then cancelled, so that the next one finds the same.
async fn update(device: &Device) -> anyhow::Result<Duration> {
    let client = &device.client;
    client.check().await?;
    let start = Instant::now();
    let request = DownloadRequest {
        update_id: UPDATE_ID.into(),
        version: None,
        target_partition: None,
        priority: None,
        verify_signature: true,
    };
    let job = client.download(&request).await?.job_id;
    until(device, &job, JobStatus::Downloaded).await?;
    let install = InstallRequest {
        job_id: job.clone(),
        strategy: None,
        reboot_after: false,
        rollback_on_failure: true,
        pin: None,
    };
    client.install(&install).await?;
    until(device, &job, JobStatus::Rebooting).await?;
    let took = start.elapsed();
    client.cancel(&job, None).await?;
    until(device, &job, JobStatus::Cancelled).await?;
    Ok(took)
}

async fn until(device: &Device, job: &str, status: JobStatus) -> anyhow::Result<()> {
    loop {
        let now = device.client.job(job).await?;
        if now.status == status {
            return Ok(());
        }
        if now.ended {
            bail!("{job} ended as {}: {:?}", now.status, now.failure);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Updates one after the other while an honest client asks twenty times a second.
async fn measure(device: &Device, seconds: u64) -> anyhow::Result<Round> {
    let over = Arc::new(AtomicBool::new(false));
    let (client, ends) = (device.client.clone(), Arc::clone(&over));
    let honest = tokio::spawn(async move {
        let (mut latencies, mut failed) = (Vec::new(), 0);
        while !ends.load(Ordering::Relaxed) {
            let start = Instant::now();
            match client.safety().await {
                Ok(_) => latencies.push(start.elapsed()),
                Err(_) => failed += 1,
            }
            sleep(Duration::from_millis(50)).await;
        }
        (latencies, failed)
    });
    let start = Instant::now();
    let mut updates = Vec::new();
    while updates.is_empty() || start.elapsed() < Duration::from_secs(seconds) {
        updates.push(update(device).await?);
    }
    over.store(true, Ordering::Relaxed);
    let (mut honest, failed) = honest.await?;
    honest.sort();
    Ok(Round { honest, failed, updates })
}

fn attack(
    port: u16,
    token: &str,
    stop: &Arc<AtomicBool>,
    seen: &Arc<Seen>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut clients = Vec::new();
    for (at, (kind, count)) in KINDS.into_iter().enumerate() {
        for number in 0..count {
            let address = [127, 0, 1, u8::try_from(number % usize::from(ADDRESSES)).unwrap_or(0) + 1];
            let (stop, seen, token) = (Arc::clone(stop), Arc::clone(seen), token.to_owned());
            clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match one(kind, address, port, &token).await {
                        Ok(lived) => {
                            seen.closed.fetch_add(1, Ordering::Relaxed);
                            let mut longest = seen.longest[at].lock().unwrap_or_else(PoisonError::into_inner);
                            *longest = longest.max(lived);
                        }
                        Err(_) => drop(seen.refused.fetch_add(1, Ordering::Relaxed)),
                    }
                    seen.opened.fetch_add(1, Ordering::Relaxed);
                    // Whoever is turned away comes again, but not as fast as a machine can.
                    sleep(Duration::from_millis(500)).await;
                }
            }));
        }
    }
    clients
}

/// One connection until the gateway closes it; how long that took.
async fn one(kind: Kind, address: [u8; 4], port: u16, token: &str) -> anyhow::Result<Duration> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((address, 0).into())?;
    let mut stream: TcpStream = socket.connect(([127, 0, 0, 1], port).into()).await?;
    let start = Instant::now();
    let first = match kind {
        Kind::Silent => String::new(),
        Kind::SlowHead => "GET /api/v1/ota/system/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".into(),
        Kind::SlowBody => format!(
            "POST /api/v1/ota/updates/pause HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{{"
        ),
    };
    stream.write_all(first.as_bytes()).await?;
    let mut answer = [0; 1024];
    loop {
        match timeout(Duration::from_secs(1), stream.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return Ok(start.elapsed()),
            Ok(Ok(_)) => {}
            Err(_) if kind == Kind::Silent => {}
            Err(_) => {
                if stream.write_all(b" ").await.is_err() {
                    return Ok(start.elapsed());
                }
            }
        }
    }
}

/// A line of the daemon's `/proc/PID/status`, in KiB.
fn memory(device: &Device, line: &str) -> anyhow::Result<u64> {
    let pid = device.machine.record().borrow().pid.context("the daemon does not run")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)).context("no such line")?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

fn print(quiet: &[Round], loaded: &[Round], seen: &Seen, (before, after): (u64, u64)) {
    let p99 = |rounds: &[Round]| {
        let mut all: Vec<_> = rounds.iter().flat_map(|round| round.honest.iter().copied()).collect();
        all.sort();
        (all.get(all.len() * 99 / 100).copied().unwrap_or_default(), all.len())
    };
    let median = |rounds: &[Round]| {
        let mut all: Vec<_> = rounds.iter().flat_map(|round| round.updates.iter().copied()).collect();
        all.sort();
        all.get(all.len() / 2).copied().unwrap_or_default().as_secs_f64()
    };
    let met = |holds: bool| if holds { "met" } else { "not met" };
    let ((calm, _), (p99, asked)) = (p99(quiet), p99(loaded));
    let failed: u64 = loaded.iter().map(|round| round.failed).sum();
    let lost = 1.0 - median(quiet) / median(loaded);
    let longest =
        seen.longest.each_ref().map(|longest| *longest.lock().unwrap_or_else(PoisonError::into_inner));
    let most = longest.into_iter().max().unwrap_or_default();
    let growth = after.saturating_sub(before) / 1024;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "\nload {} at the end, hostile clients included",
        load.split_whitespace().next().unwrap_or_default()
    );
    println!(
        "{} hostile connections, {} closed by the gateway, {} not let in\n",
        seen.opened.load(Ordering::Relaxed),
        seen.closed.load(Ordering::Relaxed),
        seen.refused.load(Ordering::Relaxed)
    );
    println!("| figure | measured | bar | |\n|---|---|---|---|");
    println!(
        "| honest client's p99 of {asked} requests ({failed} failed) | {:.0} ms (without the hostile ones {:.0} ms) | < 250 ms | {} |",
        p99.as_secs_f64() * 1000.0,
        calm.as_secs_f64() * 1000.0,
        met(p99 < Duration::from_millis(250) && failed == 0)
    );
    // A second for the timers on both sides and the scheduler of a busy machine.
    println!(
        "| longest life of a slow head, silent, slow body | {:.1} s, {:.1} s, {:.1} s | ≤ 30 s (+ 1 s of timers) | {} |",
        longest[0].as_secs_f64(),
        longest[1].as_secs_f64(),
        longest[2].as_secs_f64(),
        met(most <= Duration::from_secs(31))
    );
    println!(
        "| growth of the daemon's memory, peak over the start | {growth} MiB (from {} MiB) | ≤ 64 MiB | {} |",
        before / 1024,
        met(growth <= 64)
    );
    println!(
        "| speed that a running update loses | {:.0} % ({:.2} s against {:.2} s, medians) | ≤ 20 % | {} |",
        lost * 100.0,
        median(loaded),
        median(quiet),
        met(lost <= 0.2)
    );
}
