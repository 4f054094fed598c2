//! What is played on a machine, and what must hold at each step. Each cycle tells in one line what it has proven.

use std::{fmt, time::Duration};

use anyhow::{Context as _, bail, ensure};
use ota_api::{
    jobs::JobsQuery,
    upload::{DeployRequest, VerifyRequest},
    words::JobStatus,
};
use ota_client::UploadFile;
use ota_core::Slot;
use ota_testkit::bootloader::{Variables, power_on};

use crate::{machine::Machine, proven};

/// Release of the boot loader that is booted, and that the gateway has to tell.
const LOADER: &str = "2025.01";
/// Boots that a trial gets: `boot.tries` in `guest-init.sh`.
const TRIES: u32 = 2;
/// Cuts in a row that may come too late for the save that they are meant for; each is judged, and made again.
const LATE: u32 = 3;

/// U-Boot's script is about to save the environment.
const SAVES: &str = "OTA-UBOOT saves the environment";
/// What it says next.
const SAVED: &str = "OTA-UBOOT slot=";
/// It is about to start a kernel.
const STARTS: &str = "OTA-UBOOT starting the kernel of slot";
/// A system is up, its daemon is starting.
const READY: &str = "OTA-READY ";

/// An image that `make.sh` has made.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    pub(crate) name: &'static str,
    version: &'static str,
}

const GOOD: Image = Image { name: "good", version: "2.0.0" };
const AGAIN: Image = Image { name: "again", version: "5.0.0" };
const PANIC: Image = Image { name: "panic", version: "3.0.0" };
const MUTE: Image = Image { name: "mute", version: "4.0.0" };
/// All that are installed.
pub(crate) const IMAGES: [Image; 4] = [GOOD, AGAIN, PANIC, MUTE];

/// What is in a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
struct System {
    slot: Slot,
    version: &'static str,
}

/// What a disk of `make.sh` starts with.
const FIRST: System = System { slot: Slot::A, version: "1.0.0" };

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.slot, self.version)
    }
}

impl System {
    /// What its init says.
    fn ready(self) -> String {
        format!("{READY}slot={} version={} ", self.slot, self.version)
    }
}

/// One machine and what it has been through.
pub(crate) struct Story {
    machine: Machine,
    /// What runs and is confirmed.
    runs: System,
    /// Second at which the present cycle began.
    began: u64,
    /// Cycles that were proven.
    pub(crate) cycles: u32,
}

/// A power cut that was made.
struct Cut {
    /// The environment that it left.
    environment: Variables,
    /// Whether it hit what it was meant for.
    hit: bool,
    /// Where it hit, for people.
    told: String,
}

impl Story {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, runs: FIRST, began: 0, cycles: 0 }
    }

    /// The boot loader's own words.
    pub(crate) fn loader(&self) -> anyhow::Result<String> {
        self.machine.loader()
    }

    /// A good image, one that panics, one whose daemon stays away.
    pub(crate) async fn updates(&mut self) -> anyhow::Result<()> {
        self.starts().await?;
        self.confirms().await?;
        self.gives_up(PANIC, "OTA-INIT panics", "panicked").await?;
        let reset = "was left by the watchdog, for no daemon came up to confirm it,";
        self.gives_up(MUTE, "OTA-INIT the daemon stays away", reset).await
    }

    /// Power cuts while U-Boot saves its environment, while the kernel of the trial starts, and while the daemon on trial
    /// judges and confirms, by turns. Good images only, so that either slot is right as long as it is whole and belongs to
    /// what the job says.
    pub(crate) async fn cuts(&mut self, cuts: u32) -> anyhow::Result<()> {
        self.starts().await?;
        let (mut made, mut late, mut tried) = (0, 0, 0);
        while made < cuts {
            let old = self.runs;
            let image = if old.slot == Slot::A { GOOD } else { AGAIN };
            let new = System { slot: !old.slot, version: image.version };
            let job = self.deploy(image).await?;
            let cut = self.cut(made, tried).await?;
            tried += 1;
            let end = self.after(&cut, &job, old, new).await?;
            if cut.hit {
                (made, late) = (made + 1, 0);
                self.proven(&format!("power cut {made} {}: job {} on {}", cut.told, end.as_str(), self.runs));
            } else {
                late += 1;
                ensure!(late <= LATE, "{late} cuts in a row came too late for the save of the environment");
                self.proven(&format!("power cut {}: job {} on {}", cut.told, end.as_str(), self.runs));
            }
        }
        Ok(())
    }

    /// After a cut: the slot that the environment on the disk asks for starts, with its own version; the job comes to an end
    /// that belongs to the slot that then runs.
    async fn after(&mut self, cut: &Cut, job: &str, old: System, new: System) -> anyhow::Result<JobStatus> {
        let next = power_on(&cut.environment, |_| true).started.context("no slot is to start")?;
        let first = if next == new.slot { new } else { old };
        self.up(first).await?;
        let end = self.ended(job).await?;
        let right = match end {
            JobStatus::Succeeded => new,
            JobStatus::RolledBack => old,
            _ => bail!("power cut {}: the job ended as {}", cut.told, end.as_str()),
        };
        // Only a trial is still open; what was given up or confirmed before the cut stays so.
        let open = first == new && on_trial(&cut.environment);
        ensure!(
            open || right == first,
            "power cut {}: the job ended as {}, {first} started",
            cut.told,
            end.as_str()
        );
        self.rests(right).await?;
        Ok(end)
    }

    /// Cuts the power at an instant of the kind that is due, the `number`-th by chance.
    async fn cut(&mut self, kind: u32, number: u32) -> anyhow::Result<Cut> {
        let by_chance = |most: u64| u64::from((number + 1).wrapping_mul(2_654_435_761)) % most;
        let (mark, pause) = match kind % 3 {
            0 => (SAVES, Duration::from_micros(by_chance(1_000))),
            1 => (STARTS, Duration::from_millis(by_chance(7_000))),
            _ => (READY, Duration::from_millis(by_chance(7_000))),
        };
        // Its first words, seconds before it looks at the environment.
        self.machine.wait("U-Boot 20").await?;
        let before = self.machine.environment()?;
        self.machine.wait_closely(mark).await?;
        if mark == SAVES {
            // tidy: waits for a random instant, shorter than what a timer of the runtime can tell
            std::thread::sleep(pause);
        } else {
            // tidy: waits for a random instant
            tokio::time::sleep(pause).await;
        }
        self.machine.lose_power()?;
        let said = self.machine.unread_text()?;
        let environment = self.machine.environment()?;
        ensure!(
            !environment.is_empty(),
            "the only copy of the environment is torn, which Debian's build cannot survive"
        );
        self.machine.power_on()?;
        let hit = mark != SAVES || !said.contains(SAVED);
        let told = match (mark, hit) {
            (SAVES, true) => {
                let written = match (environment != before, said.contains("blocks written: OK")) {
                    (false, _) => "nothing written",
                    (true, false) => "written, U-Boot not told",
                    (true, true) => "written, U-Boot told",
                };
                format!("in the save of the environment, {written}")
            }
            (SAVES, false) => "too late for the save of the environment, made again".to_owned(),
            (STARTS, _) => {
                format!("{} ms into the trial boot, after {:?}", pause.as_millis(), last_words(&said))
            }
            _ => {
                let trial = if on_trial(&environment) { "not confirmed" } else { "confirmed" };
                format!("{} ms into the trial, {trial}, after {:?}", pause.as_millis(), last_words(&said))
            }
        };
        Ok(Cut { environment, hit, told })
    }

    /// The first start. The gateway is able to update, and tells the boot loader that is there.
    async fn starts(&mut self) -> anyhow::Result<()> {
        self.up(self.runs).await?;
        let status = self.machine.client().await?.status().await?;
        ensure!(status.degraded.is_empty(), "the gateway cannot update: {:?}", status.degraded);
        let boot = status.boot.context("the status tells nothing of the boot loader")?;
        let told = boot.loader_version.context("the status tells no version of the boot loader")?;
        let console = self.machine.loader()?;
        ensure!(
            told.contains(LOADER) && console.contains(&told) && !boot.loader_too_old,
            "the status tells {told:?} (too old: {}), the boot loader {console:?}, {LOADER} is wanted",
            boot.loader_too_old
        );
        let runs = self.runs;
        self.proven(&format!(
            "first start of {runs}: system/status tells U-Boot {told}, as its console does"
        ));
        Ok(())
    }

    /// A good image is tried and confirmed.
    async fn confirms(&mut self) -> anyhow::Result<()> {
        let old = self.runs;
        let new = System { slot: !old.slot, version: GOOD.version };
        let job = self.deploy(GOOD).await?;
        self.trial(new.slot, TRIES - 1).await?;
        self.up(new).await?;
        self.ends(&job, JobStatus::Succeeded, new).await?;
        self.proven(&format!("update: {old} -> trial of {new} -> confirmed, job succeeded"));
        Ok(())
    }

    /// An image that says `mark` and no more uses up its tries.
    async fn gives_up(&mut self, image: Image, mark: &str, how: &str) -> anyhow::Result<()> {
        let old = self.runs;
        let new = System { slot: !old.slot, version: image.version };
        let job = self.deploy(image).await?;
        for left in (0..TRIES).rev() {
            self.trial(new.slot, left).await?;
            self.machine.wait(mark).await?;
        }
        self.up(old).await?;
        self.ends(&job, JobStatus::RolledBack, old).await?;
        self.proven(&format!(
            "fallback: {new} {how} in {TRIES} of {TRIES} trial boots, counted down by U-Boot -> the slot before, {old}, job rolled_back"
        ));
        Ok(())
    }

    /// The boot loader starts the trial of a slot and has counted it.
    async fn trial(&mut self, slot: Slot, left: u32) -> anyhow::Result<()> {
        let found = self.machine.wait(SAVED).await?;
        let wanted = [format!("{SAVED}{slot} "), format!(" {slot}={left} "), format!(" trial={slot} ")];
        ensure!(
            wanted.iter().all(|wanted| found.contains(wanted)),
            "a trial of {slot} with {left} tries left is wanted: {found}"
        );
        Ok(())
    }

    /// A system comes up.
    async fn up(&mut self, system: System) -> anyhow::Result<()> {
        let found = self.machine.wait(READY).await?;
        ensure!(found.contains(&system.ready()), "{system} is wanted: {found}");
        Ok(())
    }

    async fn deploy(&mut self, image: Image) -> anyhow::Result<String> {
        let path = self.machine.image(image.name);
        let client = self.machine.client().await?;
        let file = UploadFile {
            signature: vec![path.with_extension("img.p7s")],
            image: path,
            version: format!("v{}", image.version),
            description: None,
            checksums: None,
            checksums_signature: Vec::new(),
            sha256: None,
        };
        let stored = client.upload(&file).await?.file.name;
        let verify =
            VerifyRequest { filename: stored.clone(), verify_signature: true, check_compatibility: true };
        ensure!(client.verify(&verify).await?.ready_for_deployment, "{} is not ready", image.name);
        let deploy = DeployRequest {
            filename: stored,
            version: None,
            target_partition: None,
            strategy: None,
            pin: None,
            reboot_after: true,
            rollback_on_failure: true,
        };
        Ok(client.deploy(&deploy).await?.job_id)
    }

    /// The job has ended so, and `system` is what runs.
    async fn ends(&mut self, job: &str, wanted: JobStatus, system: System) -> anyhow::Result<()> {
        let found = self.ended(job).await?;
        ensure!(found == wanted, "{job} ended as {}, {} is wanted", found.as_str(), wanted.as_str());
        self.rests(system).await
    }

    /// `system` was started last, the gateway says so, nothing is on trial, and the boot loader would start it again.
    async fn rests(&mut self, system: System) -> anyhow::Result<()> {
        let status = self.machine.client().await?.status().await?;
        let active = status.partitions.active.context("no running slot")?;
        ensure!(
            active.name == system.slot.into(),
            "the gateway runs from {:?}, {system} is right",
            active.name
        );
        let last = self.machine.last(READY)?;
        ensure!(last.contains(&system.ready()), "{system} is right: {last}");
        let environment = self.machine.environment()?;
        let next = power_on(&environment, |_| true).started;
        ensure!(
            next == Some(system.slot) && !on_trial(&environment),
            "{system} is not what starts next: {environment:?}"
        );
        self.runs = system;
        self.machine.look_from_now()
    }

    /// How a job ended, once it has.
    async fn ended(&mut self, job: &str) -> anyhow::Result<JobStatus> {
        for _ in 0..600 {
            if let Ok(client) = self.machine.client().await
                && let Ok(jobs) = client.jobs(&JobsQuery::default()).await
                && let Some(found) = jobs.jobs.into_iter().find(|found| found.job_id == job && found.ended)
            {
                return Ok(found.status);
            }
            self.machine.healthy()?;
            // tidy: waits for another machine
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        bail!("{job} does not end")
    }

    /// The cycle is over; what it has proven.
    fn proven(&mut self, what: &str) {
        let now = self.machine.seconds();
        proven(now, now.saturating_sub(self.began), what);
        self.began = now;
        self.cycles += 1;
    }
}

/// Whether a slot is on trial.
fn on_trial(environment: &Variables) -> bool {
    environment.get("ota_trial").is_some_and(|slot| !slot.is_empty())
}

/// What a console said last, without the time and place of a log line.
fn last_words(said: &str) -> String {
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
    let words = last.split_once(": ").map_or(last, |(_, words)| words);
    words.chars().filter(|c| !c.is_control() && *c != '"').take(72).collect()
}
