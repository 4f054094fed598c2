//! `ota-simdevice`: makes a simulated device, and runs one. `cargo xtask demo` and other programs drive it.

use std::{io::Write as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use ota_tests::{
    Layout,
    config::Settings,
    device::{Device, PowerOn},
    images::{self, Behaviour, ImageSpec, Payload},
    make,
};
use tokio::signal::unix::{SignalKind, signal};

/// A simulated gateway with two slots, a U-Boot environment and an update server.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a device: slots, environment, keys, a signed update. An earlier simulated device in the folder goes.
    Make {
        /// Its folder.
        #[arg(long)]
        dir: PathBuf,
        /// MiB of real files in an image, at least.
        #[arg(long, default_value_t = 66)]
        size: u64,
    },
    /// Make one more image, small and unsigned, for any simulated device: one to upload, or to be rolled back.
    Image {
        /// Its version, without a leading v.
        #[arg(long)]
        release_version: String,
        /// What comes of booting it.
        #[arg(long, value_enum, default_value = "good")]
        behaviour: Behaviour,
        /// The file. One that is there is replaced.
        file: PathBuf,
    },
    /// Switch a device on; it runs until SIGTERM, SIGINT or, with --with-stdin, the end of standard input.
    Run {
        /// Its folder.
        #[arg(long)]
        dir: PathBuf,
        /// The daemon's program.
        #[arg(long)]
        gatewayd: PathBuf,
        /// Port of the API; 8080 or a free one when it is not given.
        #[arg(long)]
        port: Option<u16>,
        /// End when standard input ends: whoever started us has ended.
        #[arg(long)]
        with_stdin: bool,
        /// Speed limit of downloads in bytes per second.
        #[arg(long)]
        bytes_per_second: Option<u64>,
        /// Seconds between the announcement of a reboot and the reboot.
        #[arg(long, default_value_t = 2)]
        countdown: u32,
        /// File with lines of the section `safety` and more of its tables, windows for example.
        #[arg(long)]
        safety: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match perform(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("ota-simdevice: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Make { dir, size } => {
            let layout = make::take_folder(&dir)?;
            make::make(&layout, Payload::RealFiles(size << 20))?;
            say(&format!("made a simulated device in {}", layout.dir().display()));
            Ok(())
        }
        Command::Image { release_version, behaviour, file } => {
            let spec = ImageSpec { version: &release_version, payload: Payload::Noise(1 << 20), behaviour };
            images::build(&spec, tempfile::tempdir()?.path(), &file)?;
            say(&format!("made {}", file.display()));
            Ok(())
        }
        Command::Run { dir, gatewayd, port, with_stdin, bytes_per_second, countdown, safety } => {
            let safety = safety.map(std::fs::read_to_string).transpose().context("reading --safety")?;
            let layout = Layout::new(&dir)?;
            let how = PowerOn {
                gatewayd: gatewayd
                    .canonicalize()
                    .with_context(|| format!("opening {}", gatewayd.display()))?,
                repo: layout.repo(),
                port: port.unwrap_or_else(|| make::free_port(8080)),
                pin: true,
                settings: Settings {
                    bytes_per_second,
                    countdown_seconds: countdown,
                    safety: safety.unwrap_or_default(),
                    ..Settings::new(0, 0)
                },
                watchdog: Duration::from_secs(3),
                restart_pause: Duration::from_millis(500),
                console: Arc::new(say),
            };
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(run(layout, how, with_stdin))
        }
    }
}

async fn run(layout: Layout, how: PowerOn, with_stdin: bool) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let asked_to_end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = end_of_input(), if with_stdin => {}
        }
    };
    tokio::pin!(asked_to_end);
    let device = tokio::select! {
        device = Device::start(layout, how) => device?,
        () = &mut asked_to_end => return Ok(()),
    };
    say(&format!("ready {}", std::fs::read_to_string(device.layout.url())?.trim()));
    let mut record = device.machine.record();
    let went_off = async {
        match record.wait_for(|record| record.off.is_some()).await {
            Ok(record) => record.off.clone().unwrap_or(Ok(())),
            Err(_) => Err("the board's task is gone".into()),
        }
    };
    let end = tokio::select! {
        end = went_off => end.map_err(anyhow::Error::msg),
        () = asked_to_end => {
            device.machine.power_off().await;
            Ok(())
        }
    };
    say("off");
    end
}

/// A thread of its own reads, because a blocked read must not keep the runtime from ending.
async fn end_of_input() {
    let (tell, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = tell.send(());
    });
    let _ = ended.await;
}

/// A line on standard output. Whoever reads it may be gone; the device goes on.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
