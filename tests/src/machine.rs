//! The board: power, reset, boot loader stand-in, watchdog, and an init that starts the daemon and starts it again.
//!
//! One task owns the daemon's process. Others give it orders and watch its record of boots.

use std::{
    fs::{self, File, OpenOptions},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ota_core::Slot;
use ota_testkit::bootloader::{self, Variables};
use tokio::{
    process::Child,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    Layout,
    environment::BootEnvironment,
    images::{self, Loaded},
    process,
};

/// How often the board looks for what the system asks of it.
const TICK: Duration = Duration::from_millis(10);
/// How long the daemon has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// A daemon that ends by itself this often, each time within [`QUICK`] of its start, is left alone.
const QUICK_ENDS: u32 = 5;
const QUICK: Duration = Duration::from_secs(2);
/// Boots without one that comes up, after which the board is called bricked.
const LOST_BOOTS: u32 = 20;

/// How a board is built.
#[derive(Clone)]
pub struct Board {
    /// Its folder.
    pub layout: Layout,
    /// The daemon's program.
    pub gatewayd: PathBuf,
    /// Time after which a system that does not come up is reset.
    pub watchdog: Duration,
    /// Pause before the daemon is started again after it ended by itself.
    pub restart_pause: Duration,
    /// Takes what the board and its boot loader say.
    pub console: Arc<dyn Fn(&str) + Send + Sync>,
}

/// One power-on or reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The slot whose kernel was started; `None`: none loaded.
    pub slot: Option<Slot>,
    /// Whether the system comes up.
    pub comes_up: bool,
    /// Variables that the boot loader saved, or found.
    pub variables: Variables,
}

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Every power-on and reset, in order.
    pub boots: Vec<Boot>,
    /// The daemon's process while it runs.
    pub pid: Option<i32>,
    /// How often the daemon was started.
    pub starts: u32,
    /// Greatest peak of resident memory (`VmHWM`) seen in any daemon process, in KiB.
    pub peak_kib: u64,
    /// The same without the pages of programs and libraries, which an unoptimised build has twice as many of.
    pub peak_data_kib: u64,
    /// Set when the board is off, with why when it was not asked for.
    pub off: Option<Result<(), String>>,
}

enum Order {
    KillDaemon,
    CutPower,
    PowerOff,
}

/// A board that is on. Dropped, it loses power.
pub struct Machine {
    orders: mpsc::Sender<(Order, oneshot::Sender<()>)>,
    record: watch::Receiver<Record>,
    task: tokio::task::JoinHandle<()>,
    board: Board,
}

impl Machine {
    /// Switches the board on. Its task runs on the current runtime.
    #[must_use]
    pub fn power_on(board: Board) -> Self {
        let (orders, inbox) = mpsc::channel(4);
        let (tell, record) = watch::channel(Record::default());
        let kept = board.clone();
        let task = tokio::spawn(async move {
            let mut runner = Runner { environment: BootEnvironment::new(&board.layout), board, inbox, tell };
            let end = runner.run().await.map_err(|error| format!("{error:#}"));
            runner.tell.send_modify(|record| {
                record.pid = None;
                record.off = Some(end);
            });
        });
        Self { orders, record, task, board: kept }
    }

    /// Switches the same board on once more after [`power_off`](Self::power_off); its record begins anew.
    pub fn power_on_again(&mut self) {
        *self = Self::power_on(self.board.clone());
    }

    /// What has happened so far; changes can be waited for.
    #[must_use]
    pub fn record(&self) -> watch::Receiver<Record> {
        self.record.clone()
    }

    /// Kills the daemon as `kill -9` does; init starts it again, and the system goes on running.
    pub async fn kill_daemon(&self) {
        self.order(Order::KillDaemon).await;
    }

    /// Takes the power away and gives it back: daemon and system are gone at once, the boot loader starts anew.
    pub async fn cut_power(&self) {
        self.order(Order::CutPower).await;
    }

    /// Ends the daemon gracefully and switches the board off.
    pub async fn power_off(&self) {
        self.order(Order::PowerOff).await;
    }

    async fn order(&self, order: Order) {
        let (done, told) = oneshot::channel();
        if self.orders.send((order, done)).await.is_ok() {
            let _ = told.await;
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What comes after a system has run.
enum Next {
    Boot,
    Off,
}

struct Runner {
    board: Board,
    environment: BootEnvironment,
    inbox: mpsc::Receiver<(Order, oneshot::Sender<()>)>,
    tell: watch::Sender<Record>,
}

impl Runner {
    async fn run(&mut self) -> anyhow::Result<()> {
        let mut lost = 0;
        loop {
            let next = if self.boot().await? {
                lost = 0;
                self.up().await?
            } else {
                lost += 1;
                if lost >= LOST_BOOTS {
                    bail!("no slot came up in {LOST_BOOTS} boots: a bricked device");
                }
                self.hang().await
            };
            if matches!(next, Next::Off) {
                return Ok(());
            }
        }
    }

    fn say(&self, text: &str) {
        (self.board.console)(text);
    }

    /// One power-on. Whether the system comes up.
    async fn boot(&mut self) -> anyhow::Result<bool> {
        let (layout, environment) = (self.board.layout.clone(), self.environment.clone());
        let (boot, line) = tokio::task::spawn_blocking(move || boot(&layout, &environment)).await??;
        self.say(&line);
        let comes_up = boot.comes_up;
        self.tell.send_modify(|record| record.boots.push(boot));
        Ok(comes_up)
    }

    /// Nothing runs but the watchdog.
    async fn hang(&mut self) -> Next {
        let order = timeout(self.board.watchdog, self.inbox.recv()).await;
        match order {
            Ok(Some((Order::PowerOff, _)) | None) => Next::Off,
            Ok(Some(_)) => Next::Boot,
            Err(_) => {
                self.say("watchdog: the system does not answer, reset");
                Next::Boot
            }
        }
    }

    /// The system is up: keeps the daemon running until it asks for a reboot.
    async fn up(&mut self) -> anyhow::Result<Next> {
        self.early_boot().await?;
        let mut quick_ends = 0;
        loop {
            let log = log(&self.board.layout)?;
            let config = self.board.layout.gateway_toml();
            let args = ["--config".as_ref(), config.as_os_str(), "run".as_ref()];
            let mut daemon = process::start(&self.board.gatewayd, &args, &log)?;
            let started = Instant::now();
            self.tell.send_modify(|record| {
                record.pid = daemon.id().and_then(|id| i32::try_from(id).ok());
                record.starts += 1;
            });
            let next = self.attend(&mut daemon).await?;
            self.tell.send_modify(|record| record.pid = None);
            if let Some(next) = next {
                return Ok(next);
            }
            quick_ends = if started.elapsed() < QUICK { quick_ends + 1 } else { 0 };
            if quick_ends >= QUICK_ENDS {
                let log = self.board.layout.gateway_log();
                bail!("the daemon ends as soon as it is started; {} says why", log.display());
            }
            self.say("init: the daemon has ended, starting it again");
            sleep(self.board.restart_pause).await;
        }
    }

    /// What runs before the data is mounted: `ota-factory-reset.service`, which does nothing without an order.
    async fn early_boot(&self) -> anyhow::Result<()> {
        if !self.board.layout.keep().join("factory-reset.json").exists() {
            return Ok(());
        }
        let (program, config) = (self.board.gatewayd.clone(), self.board.layout.gateway_toml());
        let said = tokio::task::spawn_blocking(move || {
            let args =
                ["--config".as_ref(), config.as_os_str(), "factory-reset".as_ref(), "--apply".as_ref()];
            process::read(&program.to_string_lossy(), args)
        });
        // The system comes up also when it failed; the daemon says so.
        match said.await? {
            Ok(said) => self.say(&format!("init: {}", String::from_utf8_lossy(&said).trim())),
            Err(error) => self.say(&format!("init: the factory reset failed: {error:#}")),
        }
        Ok(())
    }

    /// Until the daemon has ended. `None`: by itself or killed, and the system goes on.
    async fn attend(&mut self, daemon: &mut Child) -> anyhow::Result<Option<Next>> {
        let asked = self.board.layout.run("reboot");
        loop {
            tokio::select! {
                ended = daemon.wait() => {
                    let status = ended.context("waiting for the daemon")?;
                    self.say(&format!("init: the daemon ended with {status}"));
                    return Ok(asked.exists().then_some(Next::Boot));
                }
                () = sleep(TICK) => if asked.exists() {
                    self.say("init: the system reboots");
                    self.stop(daemon).await?;
                    return Ok(Some(Next::Boot));
                },
                order = self.inbox.recv() => {
                    let Some((order, done)) = order else {
                        self.stop(daemon).await?;
                        return Ok(Some(Next::Off));
                    };
                    let next = match order {
                        Order::KillDaemon => {
                            self.kill(daemon).await?;
                            None
                        }
                        Order::CutPower => {
                            self.kill(daemon).await?;
                            Some(Next::Boot)
                        }
                        Order::PowerOff => {
                            self.stop(daemon).await?;
                            Some(Next::Off)
                        }
                    };
                    let _ = done.send(());
                    return Ok(next);
                }
            }
        }
    }

    async fn kill(&self, daemon: &mut Child) -> anyhow::Result<()> {
        self.note_memory();
        daemon.kill().await.context("killing the daemon")
    }

    async fn stop(&self, daemon: &mut Child) -> anyhow::Result<()> {
        self.note_memory();
        if let Some(pid) = self.tell.borrow().pid {
            // It may have ended in this moment.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if timeout(GRACE, daemon.wait()).await.is_err() {
            self.say("init: the daemon does not end, killing it");
            daemon.kill().await.context("killing the daemon")?;
        }
        Ok(())
    }

    fn note_memory(&self) {
        self.tell.send_modify(|record| {
            let (whole, data) = record.pid.and_then(memory).unwrap_or_default();
            record.peak_kib = record.peak_kib.max(whole);
            record.peak_data_kib = record.peak_data_kib.max(data);
        });
    }
}

/// Peak of a process's resident memory in KiB, with and without the files it has mapped.
fn memory(pid: i32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let whole = number("VmHWM:")?;
    Some((whole, whole.saturating_sub(number("RssFile:")?)))
}

fn log(layout: &Layout) -> anyhow::Result<File> {
    let path = layout.gateway_log();
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.with_context(|| format!("opening {}", path.display()))
}

/// Boot loader and kernel: chooses a slot, saves what it counted, starts it.
fn boot(layout: &Layout, environment: &BootEnvironment) -> anyhow::Result<(Boot, String)> {
    for name in ["reboot", "cmdline", "os-release", "health", "address"] {
        match fs::remove_file(layout.run(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let found = environment.variables()?;
    let [a, b] = Slot::ALL.map(|slot| images::load(&layout.slot(slot)));
    let loaded = |slot| if slot == Slot::A { &a } else { &b };
    let power_on = bootloader::power_on(&found, |slot| loaded(slot).is_some());
    let mut line = String::from("boot loader:");
    let variables = power_on.save.clone().unwrap_or(found);
    for name in ["BOOT_ORDER", "BOOT_A_LEFT", "BOOT_B_LEFT", "ota_trial", "ota_bad"] {
        if let Some(value) = variables.get(name) {
            line.push_str(&format!(" {name}={value:?}"));
        }
    }
    if let Some(save) = &power_on.save {
        environment.save(save)?;
        line.push_str(", saved");
    }
    let system = power_on.started.and_then(|slot| loaded(slot).as_ref().map(|system| (slot, system)));
    match system {
        None => line.push_str("; nothing loads, reset"),
        Some((slot, system)) => {
            line.push_str(&format!("; starting slot {slot}"));
            start_system(layout, slot, system)?;
        }
    }
    let comes_up = system.is_some_and(|(_, system)| system.comes_up);
    Ok((Boot { slot: power_on.started, comes_up, variables }, line))
}

/// What user space finds in `/proc`, `/etc` and `/run` of the booted slot.
fn start_system(layout: &Layout, slot: Slot, system: &Loaded) -> anyhow::Result<()> {
    let label = if slot == Slot::A { "root-a" } else { "root-b" };
    let cmdline = format!("console=ttyS0,115200 ro panic=1 ota.slot={slot} ota.root={label}\n");
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(|e| anyhow!("boot id: {e}"))?;
    let files = [("cmdline", &cmdline), ("boot_id", &boot_id), ("os-release", &system.os_release)];
    for (name, text) in files.into_iter().chain([("health", &system.health)]) {
        fs::write(layout.run(name), text).with_context(|| format!("writing run/{name}"))?;
    }
    Ok(())
}
