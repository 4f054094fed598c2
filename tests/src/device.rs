//! A whole simulated device that is on: update server, configuration, board with the daemon on it, and a client.

use std::{ffi::OsStr, fs, os::unix::fs::OpenOptionsExt as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use ota_client::{BaseUrl, Client, Options, Token};
use tokio::time::{Instant, sleep};

use crate::{
    Layout,
    config::{Settings, gateway_toml},
    environment::BootEnvironment,
    machine::{Board, Machine},
    make, process,
    server::UpdateServer,
};

/// Pause between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);
/// How long the daemon may take until it answers, a debug build on a busy machine included.
const READY: Duration = Duration::from_secs(60);
/// How long constraints may take to settle.
const SETTLED: Duration = Duration::from_secs(3);

/// How a device is switched on.
#[derive(Clone)]
pub struct PowerOn {
    /// The daemon's program.
    pub gatewayd: PathBuf,
    /// What the update server serves.
    pub repo: PathBuf,
    /// Port of the API; 0 is a free one.
    pub port: u16,
    /// Whether the first time sets the PIN, which takes a while.
    pub pin: bool,
    /// How the daemon is configured; the ports in it are filled in.
    pub settings: Settings,
    /// Time after which a system that does not come up is reset.
    pub watchdog: Duration,
    /// Pause before a daemon that ended is started again.
    pub restart_pause: Duration,
    /// Takes what the board says.
    pub console: Arc<dyn Fn(&str) + Send + Sync>,
}

/// A device that is on. Dropped, it loses power, and nothing of it goes on running.
pub struct Device {
    /// Its files.
    pub layout: Layout,
    /// Its update server.
    pub server: UpdateServer,
    /// Its board.
    pub machine: Machine,
    /// Its API, with the admin token.
    pub client: Client,
    _on: fs::File,
}

impl Device {
    /// Switches it on and waits until its API answers. The first time, it gets its admin token and PIN.
    ///
    /// # Errors
    /// When it is on already, a port is taken, or the daemon does not come up; then with the end of its log.
    pub async fn start(layout: Layout, how: PowerOn) -> anyhow::Result<Self> {
        let on = make::lock(&layout.mark())?;
        let Some(on) = on else { bail!("the device in {} is on already", layout.dir().display()) };
        let server = UpdateServer::start(&how.repo, 0).await?;
        let port = if how.port == 0 { make::free_port(0) } else { how.port };
        let settings = Settings { port, server_port: server.port(), ..how.settings };
        fs::write(layout.gateway_toml(), gateway_toml(&layout, &settings))?;
        let url = format!("http://127.0.0.1:{port}");
        let first = !layout.admin_token().exists();
        if first {
            make_token(&layout, &how.gatewayd)?;
            provision(&layout, &how.gatewayd)?;
            if how.pin {
                set_pin(&layout, &how.gatewayd)?;
            }
        }
        let client = client(&layout, &url)?;
        let machine = Machine::power_on(Board {
            layout: layout.clone(),
            gatewayd: how.gatewayd,
            watchdog: how.watchdog,
            restart_pause: how.restart_pause,
            console: how.console,
        });
        let device = Self { layout, server, machine, client, _on: on };
        device.ready().await?;
        device.settled().await;
        fs::write(device.layout.url(), format!("{url}\n"))?;
        Ok(device)
    }

    /// Waits until the constraints have held for long enough to count, unless one of them is violated.
    async fn settled(&self) {
        let deadline = Instant::now() + SETTLED;
        let allowed = async || self.client.safety().await.is_ok_and(|safety| safety.update_allowed);
        while !allowed().await && Instant::now() < deadline {
            // tidy: waits for another process
            sleep(LOOK).await;
        }
    }

    /// Waits until the daemon answers. That it does not know the token is an answer: after a factory reset it knows another one.
    ///
    /// # Errors
    /// When the board went off, or nothing answers in a minute.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        let record = self.machine.record();
        loop {
            let Err(error) = self.client.status().await else { return Ok(()) };
            if error.api().is_some_and(|refusal| refusal.status == 401) {
                return Ok(());
            }
            if let Some(Err(why)) = &record.borrow().off {
                bail!("{why}\n{}", self.log_tail(20));
            }
            ensure!(
                error.may_pass() && Instant::now() < deadline,
                "the gateway does not answer: {}\n{}",
                error.chain(),
                self.log_tail(20)
            );
            // tidy: waits for another process
            sleep(LOOK).await;
        }
    }

    /// The boot environment, seen from the boot loader.
    #[must_use]
    pub fn environment(&self) -> BootEnvironment {
        BootEnvironment::new(&self.layout)
    }

    /// Sets a sensor, as its bridge does: a new file over the old one.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set_sensor(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let file = self.layout.sensor(name);
        let fresh = file.with_extension("new");
        fs::write(&fresh, format!("{value}\n"))?;
        Ok(fs::rename(fresh, file)?)
    }

    /// The last lines of the daemon's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read_to_string(self.layout.gateway_log()).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

fn client(layout: &Layout, url: &str) -> anyhow::Result<Client> {
    let token = fs::read_to_string(layout.admin_token()).context("reading admin.token")?;
    let mut options = Options::new(url.parse::<BaseUrl>()?);
    options.token = Some(Token::parse(&token)?);
    Ok(Client::new(options)?)
}

/// Tells the daemon what the factory wrote to the slots, where it left a note of it.
fn provision(layout: &Layout, gatewayd: &std::path::Path) -> anyhow::Result<()> {
    let Ok(note) = fs::read_to_string(layout.factory()) else { return Ok(()) };
    let config = layout.gateway_toml();
    for line in note.lines() {
        let args = ["--config".as_ref(), config.as_os_str(), "provision".as_ref()].into_iter();
        let args = args.chain(line.split_whitespace().map(AsRef::as_ref));
        process::read(&gatewayd.to_string_lossy(), args).context("telling what is in the slots")?;
    }
    Ok(())
}

/// The PIN that only a simulated device may have.
fn set_pin(layout: &Layout, gatewayd: &std::path::Path) -> anyhow::Result<()> {
    let (config, pin) = (layout.gateway_toml(), layout.pin());
    let mut args = vec!["--config".as_ref(), config.as_os_str()];
    args.extend(["pin", "set", "--documented", "--file"].map(AsRef::<OsStr>::as_ref));
    args.push(pin.as_os_str());
    process::read(&gatewayd.to_string_lossy(), args).context("setting the PIN").map(drop)
}

/// The admin token, made as on the device itself.
fn make_token(layout: &Layout, gatewayd: &std::path::Path) -> anyhow::Result<()> {
    let config = layout.gateway_toml();
    let words = ["token", "create", "--name", "admin", "--role", "admin"];
    let args = ["--config".as_ref(), config.as_os_str()].into_iter().chain(words.map(AsRef::as_ref));
    let token = process::read(&gatewayd.to_string_lossy(), args)?;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(layout.admin_token())?;
    Ok(std::io::Write::write_all(&mut file, &token)?)
}
