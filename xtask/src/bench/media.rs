//! Where a bench of installing works: a staged image and a loop device as its slot, in one folder, gone afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::process;

/// The image, the slot, and room for what else is needed.
pub(super) struct Medium {
    /// Folder of all of it.
    pub(super) dir: PathBuf,
    /// The staged image.
    pub(super) image: PathBuf,
    /// SHA-256 of the image, hexadecimal.
    pub(super) sha256: String,
    /// The loop device.
    pub(super) slot: PathBuf,
    /// Whether the loop device writes its file past the page cache, as flash has no second cache either.
    pub(super) direct: bool,
    /// Size of image and slot.
    pub(super) mib: u32,
}

impl Medium {
    /// Makes them in a new folder below `dir`.
    pub(super) fn make(dir: &Path, mib: u32, program: &Path) -> anyhow::Result<Self> {
        let dir = dir.join(format!("ota-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        let mut medium = Self {
            image: dir.join("image.img"),
            dir,
            sha256: String::new(),
            slot: PathBuf::new(),
            direct: true,
            mib,
        };
        let size = mib.to_string();
        let mut stage = process::command(program);
        stage.args(["stage", "--mib", &size, "--image"]).arg(&medium.image);
        medium.sha256 = line(&mut stage)?;
        medium.attach()?;
        Ok(medium)
    }

    fn attach(&mut self) -> anyhow::Result<()> {
        // Written once, so that no run pays for allocating the file.
        let file = self.dir.join("slot.img");
        let fill = [format!("of={}", file.display()), format!("count={}", self.mib)];
        process::read(process::command("dd").args(["if=/dev/zero", "bs=1M", "conv=fsync"]).args(fill))?;
        let device = |direct: &str| {
            line(process::command("losetup").args(["--find", "--show", direct]).arg(&file))
                .context("loop devices need root and the loop driver")
        };
        let made = device("--direct-io=on").or_else(|_| {
            self.direct = false;
            device("--direct-io=off")
        });
        self.slot = made?.into();
        Ok(())
    }

    /// Makes the front of the slot differ from the image, so that an installer that does nothing is found out.
    pub(super) fn spoil(&self) -> anyhow::Result<()> {
        let slot = format!("of={}", self.slot.display());
        let how = ["if=/dev/zero", "bs=1M", "count=1", "conv=notrunc,fsync", "status=none"];
        process::read(process::command("dd").args(how).arg(slot)).map(drop)
    }

    /// Whether the slot holds the image.
    pub(super) fn compare(&self) -> anyhow::Result<()> {
        let bytes = (u64::from(self.mib) << 20).to_string();
        process::read(process::command("cmp").args(["-n", &bytes]).arg(&self.image).arg(&self.slot)).map(drop)
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        if !self.slot.as_os_str().is_empty() {
            let _ = process::outcome(process::command("losetup").arg("--detach").arg(&self.slot));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// MiB that a folder's file system can still take; for one in memory not more than the memory that is free.
pub(super) fn room(dir: &Path) -> anyhow::Result<u64> {
    let text = process::read(process::command("df").args(["-BM", "--output=avail,fstype"]).arg(dir))?;
    let text = String::from_utf8(text)?;
    let mut words = text.lines().nth(1).unwrap_or_default().split_whitespace();
    let free: u64 = words.next().unwrap_or_default().trim_end_matches('M').parse().context("df")?;
    if words.next() != Some("tmpfs") {
        return Ok(free);
    }
    let memory = fs::read_to_string("/proc/meminfo")?;
    let available = memory.lines().find_map(|l| l.strip_prefix("MemAvailable:")).unwrap_or_default();
    let kib: u64 = available.trim().trim_end_matches(" kB").parse().context("MemAvailable")?;
    Ok(free.min(kib >> 10))
}

fn line(command: &mut std::process::Command) -> anyhow::Result<String> {
    let text = String::from_utf8(process::read(command)?)?;
    ensure!(!text.trim().is_empty(), "{command:?} said nothing");
    Ok(text.trim().to_owned())
}
