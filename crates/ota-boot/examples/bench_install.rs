//! Measures installing a staged image: one JSON object a line, each beside the floor of the same run.
//!
//! `bench_install --dir DIR --mib N [--runs R] [--chunk-kib K] [--buffers B]`. Needs `dd`, and root with loop devices;
//! without those the slot is a plain file. Used by `cargo xtask bench install`.

use std::{
    error::Error,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use ota_boot::{
    Pipeline,
    device::{Access, Devices, OsDevices},
    slot_writer::{digest_device, write_image},
};
use ota_core::{
    ByteCount, Sha256Digest,
    error::PortError,
    ports::{Flow, ImageExpectation, ImageReader},
};
use ring::digest::{Context, SHA256};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Arguments {
    dir: PathBuf,
    mib: u64,
    runs: usize,
    pipeline: Pipeline,
}

fn main() -> Outcome<()> {
    let arguments = parse(std::env::args().skip(1))?;
    fs::create_dir_all(&arguments.dir)?;
    let staged = arguments.dir.join("staged.img");
    let expect = stage(&staged, arguments.mib)?;
    let slot = Slot::make(&arguments.dir.join("slot.img"), expect.size)?;
    let bench = Bench { staged, slot: slot.path.clone(), expect, pipeline: arguments.pipeline };
    let floor = median(arguments.runs, || bench.floor())?;
    let write = median(arguments.runs, || bench.measured(false))?;
    let both = median(arguments.runs, || bench.measured(true))?;
    for (name, of) in [("floor", &floor), ("write", &write), ("write_read_back", &both)] {
        report(name, of, &floor, &bench)?;
    }
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Arguments> {
    let mut arguments =
        Arguments { dir: std::env::temp_dir(), mib: 431, runs: 5, pipeline: Pipeline::default() };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--dir" => arguments.dir = value.into(),
            "--mib" => arguments.mib = value.parse()?,
            "--runs" => arguments.runs = value.parse()?,
            "--chunk-kib" => arguments.pipeline.chunk = value.parse::<usize>()? << 10,
            "--buffers" => arguments.pipeline.buffers = value.parse()?,
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    Ok(arguments)
}

/// What one run took.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu_seconds: f64,
    peak_kib: u64,
}

struct Bench {
    staged: PathBuf,
    slot: PathBuf,
    expect: ImageExpectation,
    pipeline: Pipeline,
}

impl Bench {
    /// The bare writing: what any installer has to take at least.
    fn floor(&self) -> Outcome<Cost> {
        let (input, output) =
            (format!("if={}", self.staged.display()), format!("of={}", self.slot.display()));
        let children = cpu_seconds(Who::Children)?;
        let start = now();
        #[expect(clippy::disallowed_methods, reason = "the floor is another program's")]
        let status = Command::new("dd")
            .args([&input, &output, "bs=1M", "oflag=direct", "conv=fsync,notrunc", "status=none"])
            .status()?;
        let wall = start.elapsed();
        if !status.success() {
            return Err("dd failed".into());
        }
        Ok(Cost { wall, cpu_seconds: cpu_seconds(Who::Children)? - children, peak_kib: 0 })
    }

    fn measured(&self, read_back: bool) -> Outcome<Cost> {
        fs::write("/proc/self/clear_refs", "5")?;
        let cpu = cpu_seconds(Who::Own)?;
        let start = now();
        self.install(read_back)?;
        let wall = start.elapsed();
        Ok(Cost { wall, cpu_seconds: cpu_seconds(Who::Own)? - cpu, peak_kib: peak_kib()? })
    }

    fn install(&self, read_back: bool) -> Outcome<()> {
        let dev = OsDevices::default().open(&self.slot, Access::Exclusive)?;
        let mut image = Staged(File::open(&self.staged)?);
        write_image(&*dev, &mut image, self.expect, self.pipeline, &mut |_| Flow::Continue)?;
        if read_back {
            let digest = digest_device(&*dev, self.expect.size, self.pipeline, &mut |_| Flow::Continue)?;
            if digest != self.expect.sha256 {
                return Err("the slot reads back differently".into());
            }
        }
        Ok(())
    }
}

struct Staged(File);

impl ImageReader for Staged {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        self.0.read(buf).map_err(|e| PortError::io("cannot read the staged image", e))
    }
}

/// Writes an image that does not compress and tells what it is.
fn stage(path: &Path, mib: u64) -> Outcome<ImageExpectation> {
    let (mut file, mut hash, mut state) =
        (File::create(path)?, Context::new(&SHA256), 0x9e37_79b9_7f4a_7c15_u64);
    let mut block = vec![0; 1 << 20];
    for _ in 0..mib {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        hash.update(&block);
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(hash.finish().as_ref());
    Ok(ImageExpectation { size: ByteCount(mib << 20), sha256: Sha256Digest(sha256) })
}

/// A loop device over a file, or the file itself where there are no loop devices.
struct Slot {
    path: PathBuf,
    device: bool,
}

impl Slot {
    fn make(file: &Path, size: ByteCount) -> Outcome<Self> {
        // Written once, so that no measure pays for allocating the file.
        let (mut out, block) = (File::create(file)?, vec![0xff; 1 << 20]);
        for _ in 0..size.get() >> 20 {
            out.write_all(&block)?;
        }
        out.sync_all()?;
        #[expect(clippy::disallowed_methods, reason = "loop devices are made by the system's own tool")]
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output();
        match made {
            Ok(output) if output.status.success() => {
                Ok(Self { path: String::from_utf8(output.stdout)?.trim().into(), device: true })
            }
            _ => Ok(Self { path: file.into(), device: false }),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.device {
            #[expect(clippy::disallowed_methods, reason = "loop devices are made by the system's own tool")]
            let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
        }
    }
}

fn report(name: &str, cost: &Cost, floor: &Cost, bench: &Bench) -> Outcome<()> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{{\"measure\":\"{name}\",\"bytes\":{},\"seconds\":{:.4},\"ratio\":{:.3},\"cpu_seconds\":{:.2},\
         \"peak_rss_kib\":{},\"chunk\":{},\"buffers\":{}}}",
        bench.expect.size.get(),
        cost.wall.as_secs_f64(),
        cost.wall.as_secs_f64() / floor.wall.as_secs_f64(),
        cost.cpu_seconds,
        cost.peak_kib,
        bench.pipeline.chunk,
        bench.pipeline.buffers,
    )?;
    Ok(())
}

/// The run of median wall time.
fn median(runs: usize, mut run: impl FnMut() -> Outcome<Cost>) -> Outcome<Cost> {
    let mut costs = (0..runs.max(1)).map(|_| run()).collect::<Outcome<Vec<_>>>()?;
    costs.sort_by_key(|c| c.wall);
    Ok(costs[costs.len() / 2])
}

#[derive(Clone, Copy)]
enum Who {
    Own,
    Children,
}

/// User and system time. Source: proc_pid_stat(5), fields 14–17, in ticks of 10 ms.
fn cpu_seconds(who: Who) -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let first = match who {
        Who::Own => 11,
        Who::Children => 13,
    };
    let ticks =
        |at: usize| fields.get(at).and_then(|t| t.parse::<f64>().ok()).ok_or("unreadable /proc/self/stat");
    Ok((ticks(first)? + ticks(first + 1)?) / 100.0)
}

fn peak_kib() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[expect(clippy::disallowed_methods, reason = "a measurement of elapsed time is what this program is for")]
fn now() -> Instant {
    Instant::now()
}
