//! Making a simulated device: a folder with everything that a board leaves the factory with, and a server's repository.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use ota_core::Slot;

use crate::{
    Layout,
    environment::BootEnvironment,
    images::{self, Behaviour, ImageSpec, Payload},
    layout::MARK,
    release::{NEW_VERSION, OLD_VERSION, Publisher, SPARE_VERSION, SignedBy},
};

/// The PIN of every simulated device. No other device has one by default.
pub const PIN: &str = "7392";

/// The first of the ports that are given out, and how many of them a process has for itself.
const FIRST_PORT: u16 = 12_000;
const BLOCK: u16 = 1000;
/// So many processes can have ports; then the range begins that the kernel gives to clients.
const BLOCKS: u16 = 20;

/// Takes `dir`, which must not exist, be empty, or hold an earlier simulated device that is not running; that one goes.
///
/// # Errors
/// When something else is in it, or it cannot be made.
pub fn take_folder(dir: &Path) -> anyhow::Result<Layout> {
    if dir.exists() {
        let foreign = fs::read_dir(dir)?.next().is_some() && !dir.join(MARK).exists();
        ensure!(!foreign, "{} holds something that is no simulated device", dir.display());
        let running = lock(&dir.join(MARK)).is_ok_and(|lock| lock.is_none());
        ensure!(!running, "a simulated device runs in {}", dir.display());
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
    }
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let layout = Layout::new(dir)?;
    fs::write(layout.mark(), "A simulated device of ota-simdevice; may be made afresh at any time.\n")?;
    layout.make_folders()?;
    Ok(layout)
}

/// The lock of a device that is on; `None` when another process has it.
///
/// # Errors
/// When there is no mark.
pub fn lock(mark: &Path) -> anyhow::Result<Option<fs::File>> {
    let file = fs::File::open(mark).with_context(|| format!("{}: not a simulated device", mark.display()))?;
    Ok(file.try_lock().is_ok().then_some(file))
}

/// Makes everything in an empty folder: slot A with v5.0.4, slot B with v5.0.3, and v5.0.5 on offer.
///
/// # Errors
/// When a tool is missing or fails.
pub fn make(layout: &Layout, payload: Payload) -> anyhow::Result<()> {
    let tree = tempfile::tempdir_in(layout.images())?;
    let image = |version: &'static str| -> anyhow::Result<_> {
        let path = layout.images().join(format!("rootfs-v{version}.squashfs"));
        let spec = ImageSpec { version, payload, behaviour: Behaviour::Good };
        images::build(&spec, tree.path(), &path)?;
        Ok(path)
    };
    let (spare, old, new) = (image(SPARE_VERSION)?, image(OLD_VERSION)?, image(NEW_VERSION)?);
    make_board(layout, &old, slot_size(fs::metadata(&new)?.len()))?;
    fill_spare(layout, &spare)?;
    let publisher = Publisher::make(&layout.keys())?;
    let repo = publisher.publish("tuf", &layout.repo(), &new, SignedBy::Us)?;
    publisher.ship(&repo, layout)
}

/// A version to go back to in slot B, and the factory's note of it.
fn fill_spare(layout: &Layout, spare: &Path) -> anyhow::Result<()> {
    let mut slot = fs::OpenOptions::new().write(true).open(layout.slot(Slot::B))?;
    std::io::copy(&mut fs::File::open(spare)?, &mut slot).context("filling slot B")?;
    let mut factory = fs::OpenOptions::new().append(true).open(layout.factory())?;
    Ok(std::io::Write::write_all(&mut factory, note(Slot::B, SPARE_VERSION, spare)?.as_bytes())?)
}

/// Everything but keys and repository: slots, environment, sensors, PIN.
///
/// # Errors
/// What the operating system says.
pub fn make_board(layout: &Layout, old: &Path, slot_size: u64) -> anyhow::Result<()> {
    fs::copy(old, layout.slot(Slot::A)).context("filling slot A")?;
    for slot in Slot::ALL {
        let file = fs::OpenOptions::new().create(true).append(true).open(layout.slot(slot))?;
        ensure!(file.metadata()?.len() <= slot_size, "slot {slot} is too small for what it holds");
        file.set_len(slot_size)?;
    }
    BootEnvironment::new(layout).make()?;
    fs::write(layout.sensor("crane_motion"), "stopped\n")?;
    fs::write(layout.sensor("temperature"), "45\n")?;
    fs::write(layout.settings().join("site.toml"), "site = \"Quay 7\"\n")?;
    fs::write(layout.pin(), format!("{PIN}\n"))?;
    fs::write(layout.factory(), note(Slot::A, OLD_VERSION, old)?)?;
    Ok(())
}

/// The factory's note of a slot.
fn note(slot: Slot, version: &str, image: &Path) -> anyhow::Result<String> {
    let size = fs::metadata(image)?.len();
    let running = if slot == Slot::A { " --running" } else { "" };
    Ok(format!("--slot {slot} --version v{version} --size {size}{running}\n"))
}

/// A bit larger than the image, in whole 4 MiB.
#[must_use]
pub const fn slot_size(image: u64) -> u64 {
    (image + image / 4).next_multiple_of(4 << 20)
}

/// A port that nobody listens on: `wanted`, else another one outside of the range that the kernel gives to clients.
#[must_use]
pub fn free_port(wanted: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let others = (0..BLOCK).map(|_| own_ports() + NEXT.fetch_add(1, Ordering::Relaxed) % BLOCK);
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::once(wanted).filter(|port| *port != 0).chain(others).find(free).unwrap_or(0)
}

/// The first port of a block that no other process is given while this one runs, also while nobody listens there. The lock goes
/// with the process.
fn own_ports() -> u16 {
    static OWN: OnceLock<(u16, Option<fs::File>)> = OnceLock::new();
    let (block, _) = OWN.get_or_init(|| {
        // One for all, whatever they have for TMPDIR.
        let folder = Path::new("/tmp/ota-ports");
        let lock = |block: u16| {
            let file = fs::File::create(folder.join(block.to_string())).ok()?;
            file.try_lock().is_ok().then_some((block, Some(file)))
        };
        let first = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap_or(0);
        let made = fs::create_dir_all(folder);
        let own = made.ok().and_then(|()| (0..BLOCKS).find_map(|n| lock((first + n) % BLOCKS)));
        // Where nothing can be locked, or all is taken, it goes by chance.
        own.unwrap_or((first, None))
    });
    FIRST_PORT + block * BLOCK
}
