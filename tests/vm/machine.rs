//! The emulated machine: its process, its serial console, the way to its API.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use ota_client::{BaseUrl, Client, Options, Token};
use ota_testkit::bootloader::Variables;
use ota_tests::environment::BootEnvironment;
use tokio::time::{Instant, sleep};

/// Longest wait for a line; a shared machine emulates slowly.
const PATIENCE: Duration = Duration::from_secs(420);
/// Pause between two looks at the console.
const LOOK: Duration = Duration::from_millis(50);
/// The same, where what follows the line takes milliseconds.
const CLOSE_LOOK: Duration = Duration::from_millis(1);

/// A line of the console.
pub(crate) struct Seen {
    pub(crate) line: String,
}

/// A machine that is on. Dropped, it loses power.
pub(crate) struct Machine {
    /// What all machines boot and install.
    images: PathBuf,
    /// Its own disk and console.
    dir: PathBuf,
    boot: PathBuf,
    child: Child,
    port: u16,
    /// Bytes of the console that were looked at.
    read: usize,
    started: Instant,
}

impl Machine {
    /// Switches one on with a copy of the disk in `images`; `name` is that of its folder there.
    pub(crate) fn start(images: &Path, name: &str, boot: &Path) -> anyhow::Result<Self> {
        let (dir, port) = (images.join(name), ota_tests::make::free_port(0));
        fs::create_dir_all(&dir)?;
        fs::copy(images.join("disk.img"), dir.join("disk.img")).context("copying the disk")?;
        fs::write(dir.join("console"), "")?;
        let child = power_on(images, &dir, boot, port)?;
        let (images, boot, started) = (images.into(), boot.into(), Instant::now());
        Ok(Self { images, dir, boot, child, port, read: 0, started })
    }

    /// Its own folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// An image by name.
    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.images.join(format!("{name}.img"))
    }

    /// Seconds since it was first switched on.
    pub(crate) fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Kills it.
    pub(crate) fn lose_power(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Switches it on again.
    pub(crate) fn power_on(&mut self) -> anyhow::Result<()> {
        self.read = self.console()?.len();
        self.child = power_on(&self.images, &self.dir, &self.boot, self.port)?;
        Ok(())
    }

    /// The boot environment on its disk.
    pub(crate) fn environment(&self) -> anyhow::Result<Variables> {
        let (disk, config) = (self.dir.join("disk.img"), self.dir.join("fw_env.config"));
        fs::write(&config, format!("{} 0x100000 0x20000\n", disk.display()))?;
        BootEnvironment::at(disk, config, self.dir.join("lock")).variables()
    }

    /// What the boot loader says of itself.
    pub(crate) fn loader(&self) -> anyhow::Result<String> {
        let console = self.console()?;
        let line = console.lines().find(|line| line.starts_with("U-Boot 20"));
        Ok(line.context("no boot loader tells its version")?.trim().to_owned())
    }

    /// The next line with `text`.
    pub(crate) async fn wait(&mut self, text: &str) -> anyhow::Result<Seen> {
        self.look_for(text, LOOK).await
    }

    /// The same, seen at once.
    pub(crate) async fn wait_closely(&mut self, text: &str) -> anyhow::Result<Seen> {
        self.look_for(text, CLOSE_LOOK).await
    }

    async fn look_for(&mut self, text: &str, look: Duration) -> anyhow::Result<Seen> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let console = self.console()?;
            let new = console.get(self.read..).unwrap_or_default();
            if let Some(at) = new.find(text)
                && let Some(end) = new[at..].find('\n')
            {
                let line = new[at..at + end].trim().to_owned();
                self.read += at + end;
                return Ok(Seen { line });
            }
            self.healthy()?;
            if Instant::now() > deadline {
                bail!("no {text:?} on the console:\n{}", tail(&console));
            }
            // tidy: waits for another machine
            sleep(look).await;
        }
    }

    /// That the machine runs, and never came to U-Boot's prompt.
    pub(crate) fn healthy(&mut self) -> anyhow::Result<()> {
        let console = self.console()?;
        if let Some(status) = self.child.try_wait()? {
            bail!("the machine ended with {status}:\n{}", tail(&console));
        }
        if console.lines().any(|line| line.starts_with("=> ")) {
            bail!("U-Boot came to its prompt:\n{}", tail(&console));
        }
        Ok(())
    }

    /// Its API, with the token that it printed.
    pub(crate) async fn client(&mut self) -> anyhow::Result<Client> {
        let console = self.console()?;
        let token = console
            .lines()
            .rev()
            .find_map(|line| line.split_once("OTA-TOKEN "))
            .map(|(_, token)| token.trim());
        let mut options = Options::new(format!("http://127.0.0.1:{}", self.port).parse::<BaseUrl>()?);
        options.token = Some(Token::parse(token.context("no token on the console")?)?);
        let client = Client::new(options)?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = client.alive().await {
            self.healthy()?;
            anyhow::ensure!(Instant::now() < deadline, "the API does not answer: {}", error.chain());
            // tidy: waits for another machine
            sleep(Duration::from_millis(200)).await;
        }
        Ok(client)
    }

    fn console(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.dir.join("console"))?).replace('\r', ""))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the owner of the emulator's process")]
fn power_on(images: &Path, dir: &Path, boot: &Path, port: u16) -> anyhow::Result<Child> {
    let console = File::options().append(true).open(dir.join("console"))?;
    let mut command = Command::new(boot);
    command.arg(dir.join("disk.img")).env("OTA_API_PORT", port.to_string()).env("OTA_VM_DIR", images);
    command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
    command.spawn().with_context(|| format!("starting {}", boot.display()))
}

fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
