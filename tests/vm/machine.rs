//! The emulated machine: its process, its serial console, the way to its API.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
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

/// Bytes of a disk that are copied, or left out, at once.
const CHUNK: usize = 0x1_0000;

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
    read: u64,
    started: Instant,
}

impl Machine {
    /// Switches one on with a copy of the disk in `images`; `name` is that of its folder there.
    pub(crate) fn start(images: &Path, name: &str, boot: &Path) -> anyhow::Result<Self> {
        let (dir, port) = (images.join(name), ota_tests::make::free_port(0));
        fs::create_dir_all(&dir)?;
        copy(&images.join("disk.img"), &dir.join("disk.img")).context("copying the disk")?;
        fs::write(dir.join("console"), "")?;
        let child = power_on(images, &dir, boot, port)?;
        let (images, boot, started) = (images.into(), boot.into(), Instant::now());
        Ok(Self { images, dir, boot, child, port, read: 0, started })
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
        self.look_from_now()?;
        self.child = power_on(&self.images, &self.dir, &self.boot, self.port)?;
        Ok(())
    }

    /// What it has said so far is not waited for any more.
    pub(crate) fn look_from_now(&mut self) -> anyhow::Result<()> {
        self.read = fs::metadata(self.dir.join("console"))?.len();
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

    /// The next line with `text`, from there on.
    pub(crate) async fn wait(&mut self, text: &str) -> anyhow::Result<String> {
        self.look_for(text, LOOK).await
    }

    /// The same, seen at once.
    pub(crate) async fn wait_closely(&mut self, text: &str) -> anyhow::Result<String> {
        self.look_for(text, CLOSE_LOOK).await
    }

    async fn look_for(&mut self, text: &str, look: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((line, end)) = line_with(&self.unread()?, text) {
                self.read += end;
                return Ok(line);
            }
            // The whole console takes longer to read than a close look may.
            let fine = if look == LOOK { self.healthy() } else { self.on() };
            fine?;
            if Instant::now() > deadline {
                bail!("no {text:?} on the console:\n{}", tail(&self.console()?));
            }
            // tidy: waits for another machine
            sleep(look).await;
        }
    }

    /// What it said since the line that was last waited for.
    pub(crate) fn unread_text(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.unread()?).replace('\r', ""))
    }

    /// The last line with `text`.
    pub(crate) fn last(&self, text: &str) -> anyhow::Result<String> {
        let console = self.console()?;
        let line = console.lines().rev().find(|line| line.contains(text));
        Ok(line.with_context(|| format!("no {text:?} on the console"))?.to_owned())
    }

    /// That the machine runs, and never came to U-Boot's prompt.
    pub(crate) fn healthy(&mut self) -> anyhow::Result<()> {
        self.on()?;
        let console = self.console()?;
        if console.lines().any(|line| line.starts_with("=> ")) {
            bail!("U-Boot came to its prompt:\n{}", tail(&console));
        }
        Ok(())
    }

    fn on(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the machine ended with {status}:\n{}", tail(&self.console()?));
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

    fn unread(&self) -> anyhow::Result<Vec<u8>> {
        let (mut console, mut new) = (File::open(self.dir.join("console"))?, Vec::new());
        console.seek(SeekFrom::Start(self.read))?;
        console.read_to_end(&mut new)?;
        Ok(new)
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

/// Copies a disk, its holes as holes: most of it is empty, and what is not written costs neither time nor cache.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let (mut from, to) = (File::open(from)?, File::create(to)?);
    to.set_len(from.metadata()?.len())?;
    let (mut bytes, empty, mut at) = (vec![0_u8; CHUNK], vec![0_u8; CHUNK], 0);
    loop {
        let length = from.read(&mut bytes)?;
        if length == 0 {
            return Ok(());
        }
        if bytes[..length] != empty[..length] {
            to.write_all_at(&bytes[..length], at)?;
        }
        at += u64::try_from(length)?;
    }
}

/// The rest of the line from `text` on, once it is whole, and how many bytes end with it.
fn line_with(said: &[u8], text: &str) -> Option<(String, u64)> {
    let at = said.windows(text.len()).position(|window| window == text.as_bytes())?;
    let line = said[at..].split(|byte| *byte == b'\n').next().filter(|line| at + line.len() < said.len())?;
    let end = u64::try_from(at + line.len()).ok()?;
    Some((String::from_utf8_lossy(line).trim_end().to_owned(), end))
}

fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
