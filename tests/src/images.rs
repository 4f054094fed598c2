//! Root file systems: real squashfs images, and what the simulated board reads from the one it boots.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use crate::process;

/// What makes up the bulk of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Files of this machine, at least so many bytes of them.
    RealFiles(u64),
    /// So many bytes that do not repeat.
    Noise(u64),
    /// Zeros behind the file system, up to this length of the whole image. They take no space on disk.
    Zeros(u64),
}

/// How a slot with this image behaves when it is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Behaviour {
    /// Comes up healthy.
    Good,
    /// Its kernel starts and nothing more happens: only the watchdog ends it.
    Hangs,
    /// Comes up, and its health check fails.
    Unhealthy,
    /// A damaged file system: nothing loads.
    DoesNotLoad,
    /// No file system at all: whoever looks at its first bytes sees that.
    NoImage,
}

/// An image to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSpec<'a> {
    /// Version, without a leading v.
    pub version: &'a str,
    /// Its bulk.
    pub payload: Payload,
    /// What comes of booting it.
    pub behaviour: Behaviour,
}

/// Builds `image`, by way of the folder `tree`, which is left for the next image of the same payload.
///
/// # Errors
/// When `mksquashfs` is missing or fails.
pub fn build(spec: &ImageSpec<'_>, tree: &Path, image: &Path) -> anyhow::Result<()> {
    fill(spec, tree).with_context(|| format!("filling {}", tree.display()))?;
    let plain = "-noappend -noI -noD -noF -noX -no-xattrs -all-root -no-progress -quiet";
    let mut args: Vec<&std::ffi::OsStr> = vec![tree.as_os_str(), image.as_os_str()];
    args.extend(plain.split(' ').map(AsRef::<std::ffi::OsStr>::as_ref));
    process::read("mksquashfs", args)?;
    if let Payload::Zeros(length) = spec.payload {
        let file = fs::OpenOptions::new().write(true).open(image)?;
        ensure!(file.metadata()?.len() <= length, "the file system is longer than {length} bytes");
        file.set_len(length)?;
    }
    match spec.behaviour {
        Behaviour::DoesNotLoad => spoil(image),
        Behaviour::NoImage => overwrite(image),
        Behaviour::Good | Behaviour::Hangs | Behaviour::Unhealthy => Ok(()),
    }
}

/// Puts text where a superblock has to be.
fn overwrite(image: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt as _;
    Ok(fs::OpenOptions::new().write(true).open(image)?.write_all_at(&[b'x'; 4096], 0)?)
}

/// Destroys the table of inodes: the superblock is sound, and nothing can be read.
fn spoil(image: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().read(true).write(true).open(image)?;
    let mut table = [0; 8];
    file.read_exact_at(&mut table, 64)?;
    Ok(file.write_all_at(&[0xff; 64], u64::from_le_bytes(table))?)
}

fn fill(spec: &ImageSpec<'_>, tree: &Path) -> anyhow::Result<()> {
    let put = |name: &str, text: &str| -> anyhow::Result<()> {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().unwrap_or(tree))?;
        Ok(fs::write(path, text)?)
    };
    let ImageSpec { version, payload, behaviour } = *spec;
    put(
        "etc/os-release",
        &format!(
            "ID=igw\nNAME=\"Industrial gateway (simulated)\"\nVERSION_ID={version}\nIMAGE_ID=igw-5000\nIMAGE_VERSION={version}\n"
        ),
    )?;
    put("etc/ota-sim/boot", if behaviour == Behaviour::Hangs { "hang\n" } else { "ok\n" })?;
    put("etc/ota-sim/health", if behaviour == Behaviour::Unhealthy { "bad\n" } else { "ok\n" })?;
    match payload {
        Payload::RealFiles(bytes) if !tree.join("usr").exists() => copy_real_files(bytes, tree),
        Payload::Noise(bytes) => {
            fs::create_dir_all(tree.join("usr/share"))?;
            Ok(fs::write(tree.join("usr/share/payload"), noise(bytes, version))?)
        }
        _ => Ok(()),
    }
}

/// Copies files of this machine's system until there are enough bytes.
fn copy_real_files(bytes: u64, tree: &Path) -> anyhow::Result<()> {
    let mut copied = 0;
    for root in ["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/share"] {
        let mut open = vec![PathBuf::from(root)];
        while let Some(dir) = open.pop() {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
            paths.sort();
            for path in paths {
                let Ok(meta) = path.symlink_metadata() else { continue };
                if meta.is_dir() {
                    open.push(path);
                } else if meta.is_file() && meta.len() < 16 << 20 {
                    let to = tree.join(path.strip_prefix("/")?);
                    fs::create_dir_all(to.parent().unwrap_or(tree))?;
                    copied += fs::copy(&path, &to).unwrap_or(0);
                }
                if copied >= bytes {
                    return Ok(());
                }
            }
        }
    }
    anyhow::bail!("this machine has no {bytes} bytes of files below /usr")
}

/// Bytes of a xorshift generator, another row for every version.
fn noise(bytes: u64, version: &str) -> Vec<u8> {
    let mut state = version.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |s, b| s.rotate_left(8) ^ u64::from(b));
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let count = usize::try_from(bytes / 8).unwrap_or(0);
    words.take(count).flatten().collect()
}

/// What the board finds in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The file `etc/os-release`.
    pub os_release: String,
    /// Whether the system comes up once its kernel runs.
    pub comes_up: bool,
    /// The file `etc/ota-sim/health`.
    pub health: String,
}

fn cat_squashfs(slot: &Path, name: &str) -> Option<String> {
    let output = process::read("unsquashfs", ["-cat".as_ref(), slot.as_os_str(), name.as_ref()]).ok()?;
    String::from_utf8(output).ok()
}

fn is_ext4(slot: &Path) -> bool {
    use std::os::unix::fs::FileExt as _;
    let mut magic = [0; 2];
    let read = fs::File::open(slot).and_then(|file| file.read_exact_at(&mut magic, 1080));
    read.is_ok() && magic == [0x53, 0xef]
}

/// `debugfs` says nothing of a file that is not there, and succeeds.
fn cat_ext4(slot: &Path, name: &str) -> Option<String> {
    let request = format!("cat /{name}");
    let command = ["-R".as_ref(), request.as_ref(), slot.as_os_str()];
    let output =
        process::read("debugfs", command).or_else(|_| process::read("/sbin/debugfs", command)).ok()?;
    String::from_utf8(output).ok().filter(|text| !text.is_empty())
}

/// Loads what the board needs of a slot; `None` when there is no file system with it.
#[must_use]
pub fn load(slot: &Path) -> Option<Loaded> {
    let cat = |name: &str| if is_ext4(slot) { cat_ext4(slot, name) } else { cat_squashfs(slot, name) };
    Some(Loaded {
        os_release: cat("etc/os-release")?,
        comes_up: cat("etc/ota-sim/boot").is_none_or(|text| text.trim() != "hang"),
        health: cat("etc/ota-sim/health").unwrap_or_else(|| "ok\n".into()),
    })
}
