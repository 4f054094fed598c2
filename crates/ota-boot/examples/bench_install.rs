//! Measures installing a staged image: one JSON object a line, each beside the floor of the same run.
//!
//! `floor` is `dd` of the same bytes, `hash` SHA-256 alone, `write` the slot written and hashed, `write_read_back` the
//! whole. `ratio` compares medians with the floor, `best_ratio` the shortest runs, which a busy machine disturbs least.
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
    let mut measures =
        [Measure::new("floor"), Measure::new("hash"), Measure::new("write"), Measure::new("write_read_back")];
    // Round by round, so that a busy neighbour hits all alike.
    for _ in 0..arguments.runs.max(1) {
        let [floor, hash, write, both] = &mut measures;
        floor.runs.push(bench.floor()?);
        hash.runs.push(bench.measured(|b| b.hash())?);
        write.runs.push(bench.measured(|b| b.install(false))?);
        both.runs.push(bench.measured(|b| b.install(true))?);
    }
    let floor = measures[0].clone();
    measures.iter().try_for_each(|measure| measure.report(&floor, &bench))
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

    fn measured(&self, run: impl Fn(&Self) -> Outcome<()>) -> Outcome<Cost> {
        fs::write("/proc/self/clear_refs", "5")?;
        let cpu = cpu_seconds(Who::Own)?;
        let start = now();
        run(self)?;
        let wall = start.elapsed();
        Ok(Cost { wall, cpu_seconds: cpu_seconds(Who::Own)? - cpu, peak_kib: peak_kib()? })
    }

    /// The digest alone, of a buffer that stays hot: the second floor, whatever the medium.
    fn hash(&self) -> Outcome<()> {
        let (mut hash, block) = (Context::new(&SHA256), vec![0x5a; 1 << 20]);
        (0..self.expect.size.get() >> 20).for_each(|_| hash.update(&block));
        if hash.finish().as_ref() == self.expect.sha256.as_bytes() {
            Err("impossible digest".into())
        } else {
            Ok(())
        }
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

/// All runs of one measure.
#[derive(Clone)]
struct Measure {
    name: &'static str,
    runs: Vec<Cost>,
}

impl Measure {
    const fn new(name: &'static str) -> Self {
        Self { name, runs: Vec::new() }
    }

    /// The run of median wall time, and the shortest.
    fn median_and_best(&self) -> (Cost, Cost) {
        let mut runs = self.runs.clone();
        runs.sort_by_key(|c| c.wall);
        (runs[runs.len() / 2], runs[0])
    }

    fn report(&self, floor: &Self, bench: &Bench) -> Outcome<()> {
        let ((median, best), (floor_median, floor_best)) = (self.median_and_best(), floor.median_and_best());
        writeln!(
            std::io::stdout(),
            "{{\"measure\":\"{}\",\"bytes\":{},\"seconds\":{:.4},\"ratio\":{:.3},\"best_seconds\":{:.4},\
             \"best_ratio\":{:.3},\"cpu_seconds\":{:.2},\"peak_rss_kib\":{},\"chunk\":{},\"buffers\":{}}}",
            self.name,
            bench.expect.size.get(),
            median.wall.as_secs_f64(),
            median.wall.as_secs_f64() / floor_median.wall.as_secs_f64(),
            best.wall.as_secs_f64(),
            best.wall.as_secs_f64() / floor_best.wall.as_secs_f64(),
            median.cpu_seconds,
            median.peak_kib,
            bench.pipeline.chunk,
            bench.pipeline.buffers,
        )?;
        Ok(())
    }
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
