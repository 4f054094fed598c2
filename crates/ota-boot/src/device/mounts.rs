//! Whether something has a device or file in use: the kernel's mount table and the loop devices.
//!
//! Owns reading them. A block device in use is refused by the kernel too (`O_EXCL`); this says by what, and covers
//! plain files, for which the kernel has no such refusal.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::stat::{major, minor};

/// Where the block device `rdev` is mounted.
pub(super) fn mount_point(rdev: u64) -> Option<PathBuf> {
    mounted_at(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), major(rdev), minor(rdev))
}

/// Where a loop device made of the file `path` is mounted.
pub(super) fn loop_mount_point(path: &Path) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let loops = fs::read_dir("/sys/block").ok()?.flatten();
    loops.filter(|entry| backing_file(&entry.path()).as_deref() == Some(path)).find_map(|entry| {
        let numbers = fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = numbers.trim().split_once(':')?;
        mounted_at(&mounts, major.parse().ok()?, minor.parse().ok()?)
    })
}

fn backing_file(block: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(block.join("loop/backing_file")).ok()?;
    fs::canonicalize(text.trim_end_matches('\n')).ok()
}

/// Mount point of a device in the text of a `mountinfo`. Source: proc_pid_mountinfo(5): field 3 is `major:minor`,
/// field 5 the mount point.
fn mounted_at(mountinfo: &str, major: u64, minor: u64) -> Option<PathBuf> {
    let wanted = format!("{major}:{minor}");
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(2)? == wanted).then(|| fields.nth(1).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_device_is_found_by_its_numbers() {
        let text =
            "21 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n30 21 7:3 / /mnt/b ro - squashfs /dev/loop3 ro\n";
        assert_eq!(mounted_at(text, 7, 3), Some("/mnt/b".into()));
        assert_eq!(mounted_at(text, 7, 30), None);
        assert_eq!(mounted_at("", 7, 3), None);
    }
}
