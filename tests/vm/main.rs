//! `ota-vm`: the real U-Boot, a Linux kernel and our daemon on an emulated machine, driven from outside over the API.
//!
//! `cargo xtask vm` makes what it boots (`make.sh`) and runs it. Owns the machine's process, its serial console and the
//! story that is played; what must hold is said at each step. Never the wrong slot, never U-Boot's prompt.

mod machine;
mod sandbox;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Parser;
use machine::{Machine, Seen};
use ota_api::{
    jobs::JobsQuery,
    upload::{DeployRequest, VerifyRequest},
    words::JobStatus,
};
use ota_client::UploadFile;
use ota_release::{CodeSigningOptions, SignMethod, make_code_signing_ca, sign_detached};

/// Drives a machine with the real boot loader through updates, failures and power cuts.
#[derive(Parser)]
struct Args {
    /// Folder with the disk and the images.
    #[arg(long)]
    dir: PathBuf,
    /// Script that starts the machine.
    #[arg(long)]
    boot: PathBuf,
    /// Times that the machine is killed, in the boot loader and during a trial.
    #[arg(long, default_value_t = 3)]
    cuts: u32,
    /// Boot so many environments in U-Boot's sandbox, and nothing else.
    #[arg(long)]
    sandbox: Option<u64>,
    /// Only make the keys that `make.sh` puts into the images.
    #[arg(long)]
    keys: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let made = args.dir.join("keys/made");
    if args.keys {
        let _ = std::fs::remove_dir_all(&made);
        let ca = make_code_signing_ca(&CodeSigningOptions::new(&made))?;
        std::fs::copy(&ca.ca_certificate, args.dir.join("keys/release-ca.pem"))?;
        return Ok(());
    }
    if let Some(times) = args.sandbox {
        return sandbox::Sandbox::new(&args.dir).agrees(times);
    }
    let (key, certificate) = (made.join("signer.key"), made.join("signer.pem"));
    let method = SignMethod::Cms { key, certificate, chain: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let on = |name| Machine::start(&args.dir, name, &args.boot);
    runtime.block_on(async {
        // Side by side: an emulated machine uses one processor, and the mute one mostly waits for its watchdog.
        let story = |name| anyhow::Ok(Story { machine: on(name)?, method: method.clone(), steps: 0 });
        let (mut updated, mut mute, mut cut) = (story("updates")?, story("mute")?, story("cuts")?);
        tokio::try_join!(updated.updates(), mute.mute(), cut.cuts(args.cuts))?;
        let (steps, seconds) = (updated.steps + mute.steps + cut.steps, updated.machine.seconds());
        say(&format!(
            "vm: {steps} steps passed, {} cuts, 0 wrong slots, never the prompt, {seconds} s; {}",
            args.cuts,
            updated.machine.loader()?
        ));
        Ok(())
    })
}

struct Story {
    machine: Machine,
    method: SignMethod,
    steps: u32,
}

impl Story {
    /// A good image, then one that panics.
    async fn updates(&mut self) -> anyhow::Result<()> {
        self.up("A", "1.0.0").await?;
        let status = self.machine.client().await?.status().await?;
        let loader = status.boot.as_ref().and_then(|boot| boot.loader_version.clone());
        say(&format!("vm: the boot loader says {loader:?}"));
        ensure!(status.degraded.is_empty(), "the gateway cannot update: {:?}", status.degraded);
        let job = self.deploy("good", "v2.0.0").await?;
        self.trial("B").await?;
        self.up("B", "2.0.0").await?;
        self.ends(&job, JobStatus::Succeeded, "B").await?;
        let job = self.deploy("panic", "v3.0.0").await?;
        for _ in 0..2 {
            self.trial("A").await?;
            self.machine.wait("OTA-INIT panics").await?;
        }
        self.up("B", "2.0.0").await?;
        self.ends(&job, JobStatus::RolledBack, "B").await
    }

    /// An image whose daemon never confirms: the watchdog restarts it until the boot loader gives up on it.
    async fn mute(&mut self) -> anyhow::Result<()> {
        self.up("A", "1.0.0").await?;
        let job = self.deploy("mute", "v4.0.0").await?;
        for _ in 0..2 {
            self.trial("B").await?;
            self.machine.wait("OTA-INIT the daemon stays away").await?;
        }
        self.up("A", "1.0.0").await?;
        self.ends(&job, JobStatus::RolledBack, "A").await
    }

    /// Power cuts while U-Boot saves its environment, while the kernel of the trial starts, and while the daemon on trial
    /// judges and confirms, by turns. Good images only, so that either slot is right as long as it is whole.
    async fn cuts(&mut self, cuts: u32) -> anyhow::Result<()> {
        self.up("A", "1.0.0").await?;
        let mut running = "A";
        for cut in 0..cuts {
            let (other, image, version) =
                if running == "B" { ("A", "again", "v5.0.0") } else { ("B", "good", "v2.0.0") };
            let job = self.deploy(image, version).await?;
            let cut_in = self.cut(cut).await?;
            let found = self.machine.wait("OTA-READY").await?;
            let on = if found.line.contains("slot=A") { "A" } else { "B" };
            let label = version.trim_start_matches('v');
            ensure!(on != other || found.line.contains(label), "a wrong image on {on}: {}", found.line);
            let job = self.ended(&job).await?;
            let right = match job {
                JobStatus::Succeeded => other,
                JobStatus::RolledBack => running,
                end => anyhow::bail!("cut {cut}: the job ended as {end:?}"),
            };
            let status = self.machine.client().await?.status().await?;
            let active = status.partitions.active.context("no running slot")?;
            let active = if active.name == ota_core::Slot::A.into() { "A" } else { "B" };
            ensure!(active == right, "cut {cut}: the gateway runs from {active}, {right} is right");
            say(&format!(
                "vm: {:>4} s  cut {} {cut_in}: {} on {active}",
                self.machine.seconds(),
                cut + 1,
                job.as_str()
            ));
            running = active;
            self.steps += 1;
        }
        Ok(())
    }

    /// Cuts the power at the `number`-th instant; where that was.
    async fn cut(&mut self, number: u32) -> anyhow::Result<String> {
        let after = |most: u64| u64::from((number + 1).wrapping_mul(2_654_435_761)) % most;
        let (mark, pause) = match number % 3 {
            0 => ("OTA-UBOOT saves the environment", after(12)),
            1 => ("OTA-UBOOT starting the kernel of slot", after(9000)),
            _ => ("OTA-READY", after(7000)),
        };
        // Its first words, seconds before it looks at the environment.
        self.machine.wait("U-Boot 20").await?;
        let before = self.machine.environment()?;
        self.machine.wait_closely(mark).await?;
        // tidy: waits for a random instant
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.machine.lose_power()?;
        let after = self.machine.environment()?;
        ensure!(
            !after.is_empty(),
            "the only copy of the environment is torn, which Debian's build cannot survive"
        );
        self.machine.power_on()?;
        let saved = if after == before { "before" } else { "after" };
        Ok(format!("{pause} ms after {mark:?}, {saved} the environment was saved"))
    }

    /// The boot loader starts the trial of a slot.
    async fn trial(&mut self, slot: &str) -> anyhow::Result<()> {
        let found: Seen = self.machine.wait("OTA-UBOOT slot=").await?;
        let wanted = format!("OTA-UBOOT slot={slot} ");
        ensure!(
            found.line.contains(&wanted) && found.line.contains(&format!("trial={slot}")),
            "{}",
            found.line
        );
        self.steps += 1;
        Ok(())
    }

    /// A system comes up on `slot` with `version`.
    async fn up(&mut self, slot: &str, version: &str) -> anyhow::Result<()> {
        let found = self.machine.wait("OTA-READY").await?;
        let wanted = format!("slot={slot} version={version}");
        ensure!(found.line.contains(&wanted), "{wanted} is wanted: {}", found.line);
        self.steps += 1;
        Ok(())
    }

    async fn deploy(&mut self, image: &str, version: &str) -> anyhow::Result<String> {
        let path = self.machine.image(image);
        let signature = self.machine.dir().join("image.p7s");
        let signature = sign_detached(&path, &self.method, Some(&signature))?;
        let client = self.machine.client().await?;
        let file = UploadFile {
            image: path,
            version: version.into(),
            description: None,
            signature: vec![signature],
            checksums: None,
            checksums_signature: Vec::new(),
            sha256: None,
        };
        let stored = client.upload(&file).await?.file.name;
        let verify =
            VerifyRequest { filename: stored.clone(), verify_signature: true, check_compatibility: true };
        ensure!(client.verify(&verify).await?.ready_for_deployment, "{image} is not ready");
        let deploy = DeployRequest {
            filename: stored,
            version: None,
            target_partition: None,
            strategy: None,
            pin: None,
            reboot_after: true,
            rollback_on_failure: true,
        };
        let job = client.deploy(&deploy).await?.job_id;
        say(&format!("vm: {:>4} s  {image} {version} is being installed as {job}", self.machine.seconds()));
        Ok(job)
    }

    async fn ends(&mut self, job: &str, wanted: JobStatus, slot: &str) -> anyhow::Result<()> {
        let found = self.ended(job).await?;
        ensure!(found == wanted, "{job} ended as {found:?}, {wanted:?} is wanted");
        say(&format!("vm: {:>4} s  {job} {} on {slot}", self.machine.seconds(), found.as_str()));
        self.steps += 1;
        Ok(())
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
        anyhow::bail!("{job} does not end")
    }
}

/// A line on standard output.
fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
