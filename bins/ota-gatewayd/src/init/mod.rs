//! `ota-gatewayd init`: writes a first configuration, with remarks, from options and, on a terminal, from questions.
//!
//! Owns what is asked and where the file goes; what stands in it is `text`. The configuration that packages ship is the same
//! text without answers; where nobody has touched it, it gives way.

mod text;

use std::{
    fs,
    io::{BufRead, IsTerminal as _, Write},
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, ValueEnum};

use crate::config::Config;

/// What the gateway is. What is not given is asked for on a terminal.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Its name; the host's by default.
    #[arg(long)]
    name: Option<String>,
    /// Its model, which releases name; that of the device tree by default.
    #[arg(long)]
    model: Option<String>,
    /// Its serial number; that of the device tree by default.
    #[arg(long)]
    serial: Option<String>,
    /// Block device of slot A.
    #[arg(long, value_name = "DEVICE")]
    slot_a: Option<PathBuf>,
    /// Block device of slot B.
    #[arg(long, value_name = "DEVICE")]
    slot_b: Option<PathBuf>,
    /// Folder that both slots share.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ota-gateway")]
    state_dir: PathBuf,
    /// Where the copies of the U-Boot environment are.
    #[arg(long, value_name = "FILE", default_value = "/etc/fw_env.config")]
    fw_env_config: PathBuf,
    /// Folder of the keys that may sign images.
    #[arg(long, value_name = "DIR", default_value = "/usr/share/ota-gateway/keys")]
    keys: PathBuf,
    /// Address and port of the API; off loopback it speaks TLS only.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Certificate chain of the API, PEM, with --key; self-signed without.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// A name by which browsers and clients call the gateway; may be given several times.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// The update server: `metadata/` and `targets/` are below it.
    #[arg(long, value_name = "URL")]
    source: Option<String>,
    /// The root metadata that the update server is believed by.
    #[arg(long, value_name = "FILE", default_value = "/usr/share/ota-gateway/root.json")]
    initial_root: PathBuf,
    /// Which channel of the update server is followed.
    #[arg(long, default_value = "stable")]
    channel: String,
    /// How far the gateway goes by itself with what is on offer.
    #[arg(long, value_enum, default_value = "notify")]
    policy: Policy,
    /// Hold updates back unless a file says a value, `crane_motion=/run/plc/crane_motion=stopped`; several times.
    #[arg(long, value_name = "NAME=FILE=VALUE", value_parser = constraint)]
    constraint: Vec<Constraint>,
    /// A systemd unit that must be active before a new version is confirmed; several times.
    #[arg(long, value_name = "UNIT")]
    health_unit: Vec<String>,
    /// Where to write it, `-` for standard output; where --config points by default.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// Ask nothing, even on a terminal.
    #[arg(long)]
    no_questions: bool,
}

/// The options by themselves.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
}

/// As `ota_core::policy::Initiative`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Policy {
    #[default]
    Notify,
    Download,
    #[value(name = "install_in_window")]
    InstallInWindow,
    Install,
}

/// A file that must say a value.
#[derive(Clone, Debug)]
pub(crate) struct Constraint {
    name: String,
    file: String,
    value: String,
}

fn constraint(text: &str) -> Result<Constraint, String> {
    let mut parts = text.splitn(3, '=').filter(|part| !part.is_empty()).map(str::to_owned);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(file), Some(value)) => Ok(Constraint { name, file, value }),
        _ => Err("NAME=FILE=VALUE is meant".into()),
    }
}

/// Writes the file; what to say about it.
pub(crate) fn run(args: Args, config: &Path) -> anyhow::Result<String> {
    let to = args.to.clone().unwrap_or_else(|| config.to_path_buf());
    let own = to != Path::new("-") && to.exists() && !is_as_shipped(&to);
    ensure!(args.force || !own, "{} is there already; --force replaces it", to.display());
    let stdin = std::io::stdin();
    let asking = stdin.is_terminal() && !args.no_questions;
    let answers = if asking {
        answer(args.clone(), Some((&mut stdin.lock(), &mut std::io::stderr().lock())))?
    } else {
        answer(args.clone(), None)?
    };
    let text = text::render(&answers);
    let parsed =
        Config::parse(&text).map_err(|error| anyhow::anyhow!("these answers do not fit: {error}"))?;
    parsed.check().context("these answers do not fit together")?;
    if to == Path::new("-") {
        return Ok(text);
    }
    write(&to, &text)?;
    Ok(next_steps(&to, &parsed))
}

/// What packages ship: the text without answers.
fn shipped() -> String {
    let args = Options::parse_from(["init"]).args;
    text::render(&Args { name: Some("gateway".into()), ..args })
}

/// Whether a file is what a package has put there. It is no board's own, so it needs no `--force` to go.
fn is_as_shipped(file: &Path) -> bool {
    fs::read(file).is_ok_and(|found| found == shipped().as_bytes())
}

/// What is still to be done, in the order in which it is done.
fn next_steps(to: &Path, config: &Config) -> String {
    let mut out = format!("{} is written. Next:\n", to.display());
    let mut step = |text: &str| {
        out.push_str("  ");
        out.push_str(text);
        out.push('\n');
    };
    match crate::wire::dry_run(config) {
        Ok(warnings) => warnings.iter().for_each(|warning| step(&format!("to mend: {warning}"))),
        Err(error) => step(&format!("to mend: {error:#}")),
    }
    step("ota-gatewayd check-config");
    step(
        "ota-gatewayd provision --slot A --version VERSION --size BYTES --running   # what the factory wrote",
    );
    step("ota-gatewayd pin set");
    step("ota-gatewayd token create --name admin --role admin");
    step("systemctl enable --now ota-gatewayd");
    out
}

/// A whole file or none, for its owner and the group of its folder only: it may name where secrets are, and in /etc/ota-gateway
/// the group is that of the people who may check it.
fn write(to: &Path, text: &str) -> anyhow::Result<()> {
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let fresh = to.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(&fresh)
        .with_context(|| format!("writing {}", fresh.display()))?;
    // Without being root one gives a file to groups of one's own only; then the group is the writer's.
    let _ = fs::metadata(dir).and_then(|folder| fchown(&file, None, Some(folder.gid())));
    let put = file
        .set_permissions(fs::Permissions::from_mode(0o640))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&fresh, to));
    if put.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    put.and_then(|()| fs::File::open(dir)?.sync_all()).with_context(|| format!("writing {}", to.display()))
}

/// Answers by options, by what the system knows and, where there is somebody, by questions.
fn answer(mut args: Args, mut person: Option<(&mut dyn BufRead, &mut dyn Write)>) -> anyhow::Result<Args> {
    let found = Found::on_this_system();
    let mut missing = Vec::new();
    let mut ask = |what: &'static str, option: &'static str, given: Option<String>, known: Option<String>| {
        let answer = match (given, person.as_mut()) {
            (Some(given), _) => Some(given),
            (None, Some((input, output))) => question(*input, *output, what, known.as_deref())?,
            (None, None) => known,
        };
        if answer.is_none() {
            missing.push(option);
        }
        anyhow::Ok(answer)
    };
    let path = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
    args.name = ask("Name of the gateway", "--name", args.name, found.name)?;
    args.model = ask("Model, as releases name it", "--model", args.model, found.model)?;
    args.serial = ask("Serial number", "--serial", args.serial, found.serial)?;
    let (a, b) = found.slots.unzip();
    args.slot_a = ask("Block device of slot A", "--slot-a", path(args.slot_a), path(a))?.map(Into::into);
    args.slot_b = ask("Block device of slot B", "--slot-b", path(args.slot_b), path(b))?.map(Into::into);
    if !missing.is_empty() {
        bail!("not known: {}; give it by option, or run this on a terminal", missing.join(", "));
    }
    if let Some((input, output)) = person {
        if args.listen.is_none() {
            let text = question(input, output, "Address and port of the API", Some("127.0.0.1:8080"))?;
            args.listen = text
                .map(|text| text.parse().with_context(|| format!("{text}: address:port is meant")))
                .transpose()?;
        }
        if args.source.is_none() {
            args.source = question(input, output, "Update server, empty for none", Some(""))?
                .filter(|url| !url.is_empty());
        }
    }
    Ok(args)
}

/// One question; the empty answer is what is known.
fn question(
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    what: &str,
    known: Option<&str>,
) -> anyhow::Result<Option<String>> {
    loop {
        match known {
            Some(known) if !known.is_empty() => write!(output, "{what} [{known}]: ")?,
            _ => write!(output, "{what}: ")?,
        }
        output.flush()?;
        let mut line = String::new();
        ensure!(input.read_line(&mut line)? > 0, "the answers ended");
        match (line.trim(), known) {
            ("", Some(known)) => return Ok(Some(known.to_owned())),
            ("", None) => {}
            (answer, _) => return Ok(Some(answer.to_owned())),
        }
    }
}

/// What the system says of itself.
#[derive(Default)]
struct Found {
    name: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    slots: Option<(PathBuf, PathBuf)>,
}

/// Partition labels that boards use for the two root file systems.
const LABELS: [(&str, &str); 4] =
    [("root-a", "root-b"), ("rootfs-a", "rootfs-b"), ("rootfs_a", "rootfs_b"), ("system_a", "system_b")];

impl Found {
    fn on_this_system() -> Self {
        let line = |path: &str| {
            let text = fs::read_to_string(path).ok()?;
            let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
            (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
        };
        let folder = Path::new("/dev/disk/by-partlabel");
        let pair = LABELS.iter().map(|(a, b)| (folder.join(a), folder.join(b)));
        Self {
            name: line("/proc/sys/kernel/hostname"),
            model: line("/proc/device-tree/model"),
            serial: line("/proc/device-tree/serial-number"),
            slots: pair.into_iter().find(|(a, b)| a.exists() && b.exists()),
        }
    }
}

#[cfg(test)]
mod tests;
