//! The real U-Boot as a Linux process, half a second a boot, with a redundant environment: does it choose the slot that our
//! stand-in chooses, and save what the stand-in saves? Written by our code, read by ours and by Debian's tool.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use fastrand::Rng;
use ota_core::Slot;
use ota_testkit::bootloader::{Variables, power_on};
use ota_tests::environment::BootEnvironment;

/// Names of the boot scheme; what else is in an environment belongs to the board.
const NAMES: [&str; 6] = ["BOOT_ORDER", "BOOT_A_LEFT", "BOOT_B_LEFT", "ota_trial", "ota_bad", "ota_canary"];
/// What each may hold, nonsense too; `""`: the variable does not exist.
const VALUES: [&[&str]; 6] = [
    &["A B", "B A", "A", "B", "", "C A"],
    &["3", "2", "1", "0", "", "9", "x"],
    &["3", "2", "1", "0", "", "9", "10"],
    &["", "", "A", "B", "C"],
    &["", "", "A", "B"],
    &["1", "1", ""],
];
/// Bytes of the first copy, and of the second.
const COPIES: [u64; 2] = [0x10_0000, 0x14_0000];
/// Bytes of one.
const COPY: u64 = 0x2_0000;
/// What U-Boot is started with.
const RUN_SCRIPT: &str = "load mmc 0:2 0x200000 boot.scr; source 0x200000";
/// Longest time until it is killed in the middle of it, in milliseconds: a boot takes about half a second.
const BOOT_MS: u64 = 700;
/// Where the super block of slot B begins; without it, the slot does not load.
const SUPER_BLOCK_B: u64 = (14 << 20) + 1024;

/// U-Boot's sandbox with its disk.
pub(crate) struct Sandbox {
    dir: PathBuf,
    uboot: PathBuf,
    environment: BootEnvironment,
}

impl Sandbox {
    pub(crate) fn new(dir: &Path) -> Self {
        let (uboot, dir) = (dir.join("build-sandbox"), dir.join("sandbox"));
        let environment =
            BootEnvironment::at(dir.join("disk.img"), dir.join("fw_env.config"), dir.join("lock"));
        Self { dir, uboot, environment }
    }

    /// Boots `times` environments; then copies that are bad. What it has proven.
    pub(crate) fn agrees(&self, times: u64) -> anyhow::Result<String> {
        let (mut random, mut fallbacks) = (Rng::with_seed(1), 0);
        for _ in 0..times {
            let wanted: Variables = NAMES
                .iter()
                .zip(VALUES)
                .filter_map(|(name, values)| Some(((*name).to_owned(), (*random.choice(values)?).to_owned())))
                .filter(|(_, value)| !value.is_empty())
                .collect();
            let b_loads = random.u8(..5) > 0;
            self.compare(&wanted, b_loads)?;
            fallbacks += u64::from(!b_loads);
        }
        self.old_slot_spoiled()?;
        self.bad_copies()?;
        self.spoil_b(false)?;
        let (tears, kills) = (times / 4, times / 4);
        let (mut older, mut saved) = (0, 0);
        for _ in 0..tears {
            older += u64::from(self.torn_save(&mut random)?);
        }
        for _ in 0..kills {
            saved += u64::from(self.killed(&mut random)?);
        }
        Ok(format!(
            "sandbox, two copies of the environment: U-Boot chose and saved as the stand-in does in {times} of {times} \
             environments, {fallbacks} of them with a slot that does not load, and a trial with the old slot spoiled; a bad copy gave way to the good one; {tears} saves \
             torn, {older} of them back to the older copy; {kills} times killed, {saved} of them after its save: 0 wrong slots"
        ))
    }

    fn compare(&self, wanted: &Variables, b_loads: bool) -> anyhow::Result<()> {
        self.write(wanted)?;
        self.spoil_b(!b_loads)?;
        self.boots_as_the_stand_in(wanted, b_loads)
    }

    /// The old slot's kernel went bad before the trial: U-Boot starts that all the same, each time that it may.
    fn old_slot_spoiled(&self) -> anyhow::Result<()> {
        let values = ["A B", "2", "3", "A", "", "1"];
        let mut wanted: Variables =
            NAMES.into_iter().zip(values).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        wanted.retain(|_, value| !value.is_empty());
        ensure!(
            power_on(&wanted, |slot| slot == Slot::A).started == Some(Slot::A),
            "the stand-in starts nothing"
        );
        self.compare(&wanted, false)?;
        for _ in 0..2 {
            self.boots_as_the_stand_in(&wanted, false)?;
        }
        Ok(())
    }

    /// Boots what is there; `wanted` is for people.
    fn boots_as_the_stand_in(&self, wanted: &Variables, b_loads: bool) -> anyhow::Result<()> {
        let before = self.environment.variables()?;
        let model = power_on(&before, |slot| slot == Slot::A || b_loads);
        let said = self.boot(RUN_SCRIPT)?;
        let started = ["A", "B"].into_iter().find(|slot| said.contains(&format!("OTA-BOOT slot={slot}")));
        let told = || format!("{wanted:?}, B loads: {b_loads}\n{said}");
        ensure!(started == model.started.map(Slot::as_str), "{model:?} is right for {}", told());
        let (after, saved) = (self.environment.variables()?, model.save.unwrap_or(before));
        for name in NAMES.into_iter().chain(["board_name"]) {
            let (real, right) = (after.get(name), saved.get(name).filter(|value| !value.is_empty()));
            ensure!(real == right, "{name} is {real:?}, {right:?} is right for {}", told());
        }
        ensure!(after == self.environment.printed()?, "fw_printenv sees something else: {}", told());
        Ok(())
    }

    /// The newest copy goes bad: U-Boot takes the older one, as we do.
    fn bad_copies(&self) -> anyhow::Result<()> {
        self.spoil_b(false)?;
        for (mark, copy) in [("one", COPIES[0]), ("two", COPIES[1])] {
            let mut both = Variables::new();
            both.insert("ota_mark".into(), format!("{mark}-older"));
            self.write(&both)?;
            both.insert("ota_mark".into(), format!("{mark}-newer"));
            self.write(&both)?;
            flip(&self.dir.join("disk.img"), copy + 100)?;
            let ours = self.environment.variables()?.get("ota_mark").cloned().context("no variable")?;
            let said = self.boot("printenv ota_mark; poweroff")?;
            ensure!(said.contains(&format!("ota_mark={ours}")), "we read {ours}, U-Boot: {said}");
            // The next write replaces the bad copy.
            self.write(&Variables::new())?;
        }
        Ok(())
    }

    /// A save from one slot to the other that the power cut short: some bytes are new, those behind them old. Whether the older
    /// copy counts.
    fn torn_save(&self, random: &mut Rng) -> anyhow::Result<bool> {
        let disk = self.dir.join("disk.img");
        let orders = if random.bool() { ["A B", "B A"] } else { ["B A", "A B"] };
        let [older, newer] = orders.map(|order| {
            variables(&[
                ("BOOT_ORDER", order),
                ("BOOT_A_LEFT", "3"),
                ("BOOT_B_LEFT", "3"),
                ("ota_canary", "1"),
            ])
        });
        self.write(&older)?;
        let before = COPIES.map(|at| bytes_at(&disk, at));
        self.write(&newer)?;
        for (at, before) in COPIES.into_iter().zip(before) {
            let (mut torn, before) = (bytes_at(&disk, at)?, before?);
            if torn != before {
                // Most of a copy is empty: half of the tears are where something stands.
                let most = if random.bool() { 256 } else { torn.len() };
                let new = random.usize(..most);
                torn[new..].copy_from_slice(&before[new..]);
                put_at(&disk, at, &torn)?;
            }
        }
        let found = self.environment.variables()?.get("BOOT_ORDER").cloned();
        ensure!(found.as_deref().is_some_and(|order| orders.contains(&order)), "a torn save left {found:?}");
        self.boots_as_the_stand_in(&newer, true)?;
        Ok(found.as_deref() == Some(orders[0]))
    }

    /// U-Boot killed at some instant of a boot that counts a trial, then started again. Whether it had saved.
    fn killed(&self, random: &mut Rng) -> anyhow::Result<bool> {
        let trial = variables(&[
            ("BOOT_ORDER", "B A"),
            ("BOOT_A_LEFT", "3"),
            ("BOOT_B_LEFT", "3"),
            ("ota_trial", "B"),
            ("ota_canary", "1"),
        ]);
        self.write(&trial)?;
        let before = self.environment.variables()?;
        let mut machine = self.command(&[], RUN_SCRIPT).spawn().context("starting U-Boot's sandbox")?;
        // tidy: waits for a random instant
        std::thread::sleep(std::time::Duration::from_millis(random.u64(..BOOT_MS)));
        machine.kill()?;
        machine.wait()?;
        let after = self.environment.variables()?;
        let left = |variables: &Variables| variables.get("BOOT_B_LEFT").cloned();
        let saved = after != before;
        ensure!(!saved || left(&after).as_deref() == Some("2"), "a killed save left {after:?}");
        self.boots_as_the_stand_in(&trial, true)?;
        Ok(saved)
    }

    /// One start of U-Boot; what it said.
    fn boot(&self, command: &str) -> anyhow::Result<String> {
        // For one that hangs; the prelude lets none start over.
        let output = self.command(&["timeout", "--signal=KILL", "20"], command).output();
        let output = output.context("starting U-Boot's sandbox")?;
        let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        if said.trim().is_empty() {
            bail!("U-Boot says nothing: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(said)
    }

    /// U-Boot that runs some commands, itself run by `by`.
    #[expect(clippy::disallowed_methods, reason = "the owner of U-Boot's process")]
    fn command(&self, by: &[&str], run: &str) -> Command {
        let uboot = self.uboot.join("u-boot");
        let words = by.iter().map(OsStr::new).chain([uboot.as_os_str()]).collect::<Vec<_>>();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("-d").arg(self.uboot.join("ota.dtb")).args(["-c", run]);
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The variables of the scheme and no others of it, in one generation.
    fn write(&self, wanted: &Variables) -> anyhow::Result<()> {
        let mut all = self.environment.variables()?;
        all.retain(|name, _| name == "board_name");
        all.extend(wanted.clone());
        self.environment.save(&all)
    }

    /// Whether slot B has a file system.
    fn spoil_b(&self, spoilt: bool) -> anyhow::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let good = std::fs::read(self.dir.join("slot.img"))?;
        let block = if spoilt { vec![0; 1024] } else { good[1024..2048].to_vec() };
        let disk = std::fs::OpenOptions::new().write(true).open(self.dir.join("disk.img"))?;
        Ok(disk.write_all_at(&block, SUPER_BLOCK_B)?)
    }
}

/// One copy of the environment.
fn bytes_at(file: &Path, at: u64) -> anyhow::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; usize::try_from(COPY)?];
    std::fs::File::open(file)?.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn put_at(file: &Path, at: u64, bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt as _;
    Ok(std::fs::OpenOptions::new().write(true).open(file)?.write_all_at(bytes, at)?)
}

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flip(file: &Path, at: u64) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(file.write_all_at(&[!byte[0]], at)?)
}
