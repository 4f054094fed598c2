//! The real U-Boot as a Linux process, half a second a boot, with a redundant environment: does it choose the slot that our
//! stand-in chooses, and save what the stand-in saves? Written by our code, read by ours and by Debian's tool.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use ota_boot::{
    BootError,
    device::OsDevices,
    uboot_env::{EnvSettings, EnvStore},
};
use ota_core::Slot;
use ota_testkit::bootloader::{Variables, power_on};
use ota_tests::process;

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
/// Where the super block of slot B begins; without it, the slot does not load.
const SUPER_BLOCK_B: u64 = (14 << 20) + 1024;

/// U-Boot's sandbox with its disk.
pub(crate) struct Sandbox {
    dir: PathBuf,
    uboot: PathBuf,
    store: EnvStore,
}

impl Sandbox {
    pub(crate) fn new(dir: &Path) -> Self {
        let (uboot, dir) = (dir.join("build-sandbox"), dir.join("sandbox"));
        let settings = EnvSettings {
            fw_env_config: dir.join("fw_env.config"),
            lock: dir.join("lock"),
            allow_single_copy: false,
        };
        Self { dir, uboot, store: EnvStore::new(settings, Arc::new(OsDevices::default())) }
    }

    /// Boots `times` environments; then copies that are bad.
    pub(crate) fn agrees(&self, times: u64) -> anyhow::Result<()> {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let (mut boots, mut fallbacks) = (0, 0);
        for _ in 0..times {
            let wanted: Variables = NAMES
                .iter()
                .zip(VALUES)
                .map(|(name, values)| ((*name).to_owned(), pick(&mut seed, values).to_owned()))
                .filter(|(_, value)| !value.is_empty())
                .collect();
            let b_loads = !next(&mut seed).is_multiple_of(5);
            self.compare(&wanted, b_loads)?;
            boots += 1;
            fallbacks += u64::from(!b_loads);
        }
        self.bad_copies()?;
        super::say(&format!(
            "vm: U-Boot's sandbox chose and saved as the stand-in does in {boots} of {boots} environments, {fallbacks} of them with \
             a slot that does not load; a bad copy gave way to the good one"
        ));
        Ok(())
    }

    fn compare(&self, wanted: &Variables, b_loads: bool) -> anyhow::Result<()> {
        self.write(wanted)?;
        self.spoil_b(!b_loads)?;
        let before = self.read()?;
        let model = power_on(&before, |slot| slot == Slot::A || b_loads);
        let said = self.boot("load mmc 0:2 0x200000 boot.scr; source 0x200000")?;
        let started = ["A", "B"].into_iter().find(|slot| said.contains(&format!("OTA-BOOT slot={slot}")));
        let told = || format!("{wanted:?}, B loads: {b_loads}\n{said}");
        ensure!(started == model.started.map(Slot::as_str), "{model:?} is right for {}", told());
        let (after, saved) = (self.read()?, model.save.unwrap_or(before));
        for name in NAMES.into_iter().chain(["board_name"]) {
            let (real, right) = (after.get(name), saved.get(name).filter(|value| !value.is_empty()));
            ensure!(real == right, "{name} is {real:?}, {right:?} is right for {}", told());
        }
        ensure!(after == self.printed()?, "fw_printenv sees something else: {}", told());
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
            let ours = self.read()?.get("ota_mark").cloned().context("no variable")?;
            let said = self.boot("printenv ota_mark; poweroff")?;
            ensure!(said.contains(&format!("ota_mark={ours}")), "we read {ours}, U-Boot: {said}");
            // The next write replaces the bad copy.
            self.write(&Variables::new())?;
        }
        Ok(())
    }

    /// One start of U-Boot; what it said.
    #[expect(clippy::disallowed_methods, reason = "the owner of U-Boot's process")]
    fn boot(&self, command: &str) -> anyhow::Result<String> {
        // For one that hangs; the prelude lets none start over.
        let output = Command::new("timeout")
            .args(["--signal=KILL", "20"])
            .arg(self.uboot.join("u-boot"))
            .arg("-d")
            .arg(self.uboot.join("ota.dtb"))
            .args(["-c", command])
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output()
            .context("starting U-Boot's sandbox")?;
        let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        if said.trim().is_empty() {
            bail!("U-Boot says nothing: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(said)
    }

    /// The variables of the scheme and no others of it, in one generation.
    fn write(&self, wanted: &Variables) -> anyhow::Result<()> {
        let update = self.store.update(|environment| {
            for entry in environment.clone().entries() {
                let name = String::from_utf8_lossy(entry).split('=').next().unwrap_or_default().to_owned();
                if name != "board_name" {
                    environment.unset(&name);
                }
            }
            wanted.iter().for_each(|(name, value)| environment.set(name, value));
            Ok::<(), BootError>(())
        });
        update.context("writing the environment")
    }

    fn read(&self) -> anyhow::Result<Variables> {
        let current = self.store.read()?;
        let text = |entry: &[u8]| String::from_utf8_lossy(entry).into_owned();
        Ok(pairs(current.environment.entries().map(text)))
    }

    fn printed(&self) -> anyhow::Result<Variables> {
        let config = self.dir.join("fw_env.config");
        let printed = process::read("fw_printenv", ["-c".as_ref(), config.as_os_str()])?;
        Ok(pairs(String::from_utf8(printed)?.lines().map(str::to_owned)))
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

fn pairs(entries: impl Iterator<Item = String>) -> Variables {
    entries.filter_map(|entry| entry.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()))).collect()
}

fn flip(file: &Path, at: u64) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(file.write_all_at(&[!byte[0]], at)?)
}

/// xorshift; the same environments in every run.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed >> 11
}

fn pick<'a>(seed: &mut u64, values: &[&'a str]) -> &'a str {
    let index = next(seed) % values.len() as u64;
    usize::try_from(index).ok().and_then(|index| values.get(index)).copied().unwrap_or_default()
}
