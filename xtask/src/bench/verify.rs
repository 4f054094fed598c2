//! `cargo xtask bench verify`: bytes a second of a verification, beside `openssl dgst -sha256` of the same file.
//!
//! Owns the keys and the signatures it is measured with, made by openssl. Ratios compare figures of one run only, round by round.

use std::{fs, path::Path};

use super::{
    media::room,
    meter::{Cost, Urgency, measured, urgent},
};
use crate::{build::Profile, process, tools, workspace::Workspace};

/// How the bench is run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Size of the image.
    #[arg(long, default_value_t = 431)]
    mib: u32,
    /// Rounds; the table tells medians.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Measure the development build, which is there already. The figures say so.
    #[arg(long)]
    dev: bool,
}

/// Least speed of a verification, as a part of the floor's.
const BAR: f64 = 0.95;

/// Its name, the file of the signature, and whether the bar is for it.
const ROWS: [(&str, Option<&str>, bool); 3] = [
    ("CMS signature, SHA-256", Some("sha256.p7s"), true),
    ("no signature, length and digest", None, true),
    // Two digests of every byte: that of the signature, and the one by which the image is known.
    ("CMS signature, SHA-512", Some("sha512.p7s"), false),
];

/// A CA and a signer below it.
const CONFIG: &str = "[req]\ndistinguished_name=n\n[n]\n[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
    [signer]\nbasicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n";

/// Runs the bench.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    tools::debian_for(&["openssl"])?;
    let profile = Profile::of(args.dev);
    profile.build(&["--example", "bench_verify"])?;
    let target = Workspace::read()?.target;
    let program = profile.folder(&target).join("examples/bench_verify");
    let memory = Path::new("/dev/shm");
    let place = if room(memory).is_ok_and(|mib| mib >= u64::from(args.mib) * 2) { memory } else { &target };
    let dir = place.join(format!("bench-verify-{}", std::process::id()));
    fs::create_dir_all(dir.join("keys"))?;
    let outcome = on(&dir, args, &program, &target.join("bench-verify.log"));
    let _ = fs::remove_dir_all(&dir);
    outcome
}

fn on(dir: &Path, args: &Args, program: &Path, log: &Path) -> anyhow::Result<()> {
    let sha256 = make(dir, args.mib)?;
    let image = dir.join("image");
    let urgency = Urgency::of_this_session();
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); ROWS.len() + 1];
    for _ in 0..args.runs.max(1) {
        let mut floor = urgent("openssl");
        floor.args(["dgst", "-sha256"]).arg(&image);
        let mut commands = vec![floor];
        commands.extend(ROWS.iter().map(|(_, signature, _)| {
            let mut command = urgent(program);
            command.arg(dir.join("keys")).arg(&image).arg(&sha256);
            command.args(signature.map(|name| dir.join(name)));
            command
        }));
        for (command, costs) in commands.iter_mut().zip(&mut costs) {
            costs.push(measured(command, &[], log)?);
        }
    }
    drop(urgency);
    print(dir, args, &costs);
    Ok(())
}

/// Image, keys and signatures; gives the image's digest.
fn make(dir: &Path, mib: u32) -> anyhow::Result<String> {
    let openssl =
        |line: &str| process::read(process::command("openssl").current_dir(dir).args(line.split(' ')));
    openssl(&format!("rand -out image {}", u64::from(mib) << 20))?;
    fs::write(dir.join("cnf"), CONFIG)?;
    let (fixed, curve) = ("req -x509 -config cnf -nodes -days 2", "ec -pkeyopt ec_paramgen_curve:P-256");
    let ca = "-extensions ca -subj /CN=ca -keyout ca.key -out keys/ca.pem";
    openssl(&format!("{fixed} -newkey {curve} {ca}"))?;
    // SHA-512 goes with RSA: ring has no ECDSA over it.
    for (digest, key) in [("sha256", curve), ("sha512", "rsa:3072")] {
        let below = "-extensions signer -CA keys/ca.pem -CAkey ca.key -subj /CN=signer";
        openssl(&format!("{fixed} -newkey {key} {below} -keyout {digest}.key -out {digest}.pem"))?;
        let sign =
            format!("cms -sign -binary -outform DER -in image -signer {digest}.pem -inkey {digest}.key");
        openssl(&format!("{sign} -md {digest} -out {digest}.p7s"))?;
    }
    let said = String::from_utf8(openssl("dgst -sha256 -r image")?)?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}

fn print(dir: &Path, args: &Args, costs: &[Vec<Cost>]) {
    let bytes = f64::from(args.mib) * f64::from(1 << 20);
    let build = Profile::of(args.dev).sentence();
    println!("{} MiB in {}, {} rounds, medians, {build}", args.mib, dir.display(), args.runs);
    println!("{:<34} {:>10} {:>9} {:>8}   bar", "", "MB/s", "x floor", "CPU s");
    let wall = |costs: &[Cost]| median(costs.iter().map(|cost| cost.wall.as_secs_f64()));
    let floor = costs.first().map(Vec::as_slice).unwrap_or_default();
    let titles = std::iter::once(("floor: openssl dgst -sha256", false));
    let titles = titles.chain(ROWS.iter().map(|(title, _, bar)| (*title, *bar)));
    for ((title, bar), costs) in titles.zip(costs) {
        // Against the floor of its own round: a busy neighbour hits both.
        let ratios =
            floor.iter().zip(costs).map(|(floor, cost)| floor.wall.as_secs_f64() / cost.wall.as_secs_f64());
        let ratio = median(ratios);
        let cpu = median(costs.iter().map(|cost| cost.cpu));
        let verdict = match bar {
            true if ratio >= BAR => format!(">= {BAR}: met"),
            true => format!(">= {BAR}: not met"),
            false => String::new(),
        };
        println!("{title:<34} {:>10.0} {ratio:>9.2} {cpu:>8.2}   {verdict}", bytes / wall(costs) / 1e6);
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
