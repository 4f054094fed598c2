//! The same store on a real ext4 that loses power: the file system is shut down without writing its journal.
//!
//! The kernel's `FS_IOC_SHUTDOWN` (what `xfs_io -x -c shutdown` and xfstests use) makes ext4 drop all that it has not yet
//! given to the device. A child works with the store on it and acknowledges each round; at a random instant the file system
//! is shut down under it, mounted again, which replays the journal, and opened with the real store. It shows on a real
//! file system what [`crate::trace`] shows on the model: a commit of SQLite is one durable step.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;

use crate::{files, trace};

/// Bytes of the file system.
const SIZE: u64 = 32 << 20;
/// Its file, and where it is mounted, in a scratch folder.
const IMAGE: &str = "ext4";
const POINT: &str = "mnt";
/// Rounds that are waited for at most before the power goes.
const MOST_WAITED: usize = 6;
/// Longest pause after the last of them, in microseconds: about as long as a round takes.
const LONGEST_PAUSE: u64 = 1500;

/// What was tried and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Real {
    /// How often the power went.
    pub(crate) cuts: u64,
    /// Rounds that were acknowledged, four commits each.
    pub(crate) acknowledged: u64,
    /// Cuts that hit a round which was there and had not been acknowledged.
    pub(crate) between: u64,
    /// What was broken.
    pub(crate) bad: Vec<String>,
}

/// What the child does until its file system is gone.
pub(crate) fn child(folder: &Path) -> anyhow::Result<()> {
    loop_rounds(folder).or(Ok(()))
}

fn loop_rounds(folder: &Path) -> anyhow::Result<()> {
    let store = trace::open(folder)?;
    loop {
        let round = trace::write_round(&store)?;
        crate::calls::acknowledge(round)?;
    }
}

/// Cuts the power `cuts` times.
pub(crate) fn run(cuts: u64) -> anyhow::Result<Real> {
    let disk = Disk::make()?;
    let (mut real, mut random) = (Real::default(), Rng::with_seed(4));
    let mut last = 0;
    for cut in 1..=cuts {
        let mount = disk.mount()?;
        let folder = mount.path.join("state");
        let (from, until) = (last, disk.lose_power(&folder, &mut random)?.max(last));
        drop(mount);
        let mount = disk.mount()?;
        match trace::rounds_are_there(&folder, until) {
            Ok(found) => {
                real.between += u64::from(found > until);
                last = found;
            }
            Err(error) => {
                real.bad.push(format!("power cut {cut} on ext4: {error:#}"));
                break;
            }
        }
        drop(mount);
        real.cuts = cut;
        real.acknowledged += until - from;
    }
    Ok(real)
}

/// Gives back the mount and the loop device of a run that was killed, if `dir` is its folder.
pub(crate) fn give_back(dir: &Path) {
    let image = dir.join(IMAGE);
    if !image.exists() {
        return;
    }
    let _ = tool("umount", &[&dir.join(POINT)]);
    let list = ["--noheadings", "--output=NAME", "--associated"].map(Path::new);
    let devices = tool("losetup", &[&list[..], &[image.as_path()][..]].concat()).unwrap_or_default();
    for device in devices.lines() {
        let _ = tool("losetup", &[Path::new("--detach"), Path::new(device.trim())]);
    }
}

/// A file system on a loop device.
struct Disk {
    dir: tempfile::TempDir,
    device: PathBuf,
}

impl Disk {
    fn make() -> anyhow::Result<Self> {
        let dir = files::scratch()?;
        let image = dir.path().join(IMAGE);
        File::create(&image)?.set_len(SIZE)?;
        fs::create_dir(dir.path().join(POINT))?;
        let device = tool("losetup", &["--find".as_ref(), "--show".as_ref(), &image])?;
        let disk = Self { dir, device: device.trim().into() };
        tool("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &disk.device])?;
        Ok(disk)
    }

    fn mount(&self) -> anyhow::Result<Mount> {
        let path = self.mount_point();
        tool("mount", &[&self.device, &path])?;
        Ok(Mount { path })
    }

    /// Lets a child work in `folder` and takes its file system away at some instant; the last round that it acknowledged.
    #[expect(clippy::disallowed_methods, reason = "the process that loses its disk is this program")]
    fn lose_power(&self, folder: &Path, random: &mut Rng) -> anyhow::Result<u64> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("write-for-ever")
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().context("the child has no output")?;
        let heard = Arc::new(Mutex::new((0_usize, 0_u64)));
        let listener = {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || {
                for round in
                    BufReader::new(said).lines().map_while(Result::ok).filter_map(|line| number(&line))
                {
                    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    *heard = (heard.0 + 1, round);
                }
            })
        };
        let heard = || *heard.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = 1 + random.usize(..MOST_WAITED);
        while heard().0 < wanted && !listener.is_finished() {
            // tidy: waits for the rounds of another process
            std::thread::sleep(Duration::from_micros(50));
        }
        // tidy: waits for a random instant of a round
        std::thread::sleep(Duration::from_micros(random.u64(..LONGEST_PAUSE)));
        // What is said from now on is said by a machine without power: ext4 may let a sync that is under way return
        // although its journal was just given up.
        let (rounds, last) = heard();
        sys::shut_down(&File::open(self.mount_point())?).context("FS_IOC_SHUTDOWN")?;
        // Its next sync fails, and it ends.
        child.wait()?;
        ensure!(listener.join().is_ok() && rounds >= wanted, "the child acknowledged {rounds} rounds only");
        Ok(last)
    }

    fn mount_point(&self) -> PathBuf {
        self.dir.path().join(POINT)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = tool("losetup", &["--detach".as_ref(), &self.device]);
    }
}

/// Mounted until it is dropped.
struct Mount {
    path: PathBuf,
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = tool("umount", &[&self.path]);
    }
}

fn number(line: &str) -> Option<u64> {
    line.strip_prefix("acknowledged ")?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "mount, losetup, mkfs.ext4")]
fn tool(program: &str, args: &[&Path]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("starting {program} (Debian packages mount, e2fsprogs)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {args:?} (needs root): {}", said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

mod sys {
    //! The one system call that has no safe form.
    #![expect(unsafe_code, reason = "FS_IOC_SHUTDOWN has no safe wrapper")]

    use std::{fs::File, io, os::fd::AsRawFd};

    mod raw {
        nix::ioctl_read!(fs_ioc_shutdown, b'X', 125, u32);
    }

    /// Nothing more is written, not even the journal. Source: the kernel's `include/uapi/linux/fs.h`, `fs/ext4/ioctl.c`.
    const NO_LOG_FLUSH: u32 = 2;

    /// Shuts the file system down that `folder` is on.
    pub(super) fn shut_down(folder: &File) -> io::Result<()> {
        let mut flags = NO_LOG_FLUSH;
        // SAFETY: the kernel reads one u32 from the pointer, which is valid for the call; the descriptor is open.
        unsafe { raw::fs_ioc_shutdown(folder.as_raw_fd(), &raw mut flags) }?;
        Ok(())
    }
}
