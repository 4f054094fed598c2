//! `ota-admin repo`: the signed repository that gateways update from. Any HTTP server can hold its folder.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use ota_core::{
    ByteCount, Sha256Digest, Timestamp, UpdateId, Version,
    release::{ImageKind, SignatureKind},
};
use ota_release::{AddRelease, DeltaFile, Expiries, InitOptions, Placement, Published, RepoDir, Rollout};
use ota_verify::Trailer;
use serde_json::json;

use super::{Context, file};
use crate::{exit::Failure, output::facts};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// Make the keys and an empty, valid repository.
    Init(InitArgs),
    /// Put a release into the draft. Gateways see it after `publish`.
    Add(Box<AddArgs>),
    /// Take a release out of the draft. Gateways are not offered it any more after `publish`.
    Remove(RemoveArgs),
    /// Sign and write the draft; without one, sign everything anew.
    Publish(PublishArgs),
}

/// Where a repository and its keys are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// Folder of the repository: metadata/ and targets/ in it are what a server serves.
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    /// Folder of the private keys; never inside the repository.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
}

/// How long freshly signed metadata holds.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct ExpiryArgs {
    /// Days that a new root holds.
    #[arg(long, value_name = "DAYS", default_value = "730")]
    root_days: u32,
    /// Days that new targets hold.
    #[arg(long, value_name = "DAYS", default_value = "365")]
    targets_days: u32,
    /// Days that a new snapshot holds.
    #[arg(long, value_name = "DAYS", default_value = "90")]
    snapshot_days: u32,
    /// Days that a new timestamp holds: publish again before.
    #[arg(long, value_name = "DAYS", default_value = "14")]
    timestamp_days: u32,
}

impl From<ExpiryArgs> for Expiries {
    fn from(args: ExpiryArgs) -> Self {
        let days = |n: u32| Duration::from_secs(u64::from(n) * 86400);
        Self {
            root: days(args.root_days),
            targets: days(args.targets_days),
            snapshot: days(args.snapshot_days),
            timestamp: days(args.timestamp_days),
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    place: Place,
    /// How many root keys are made.
    #[arg(long, default_value = "3")]
    root_keys: usize,
    /// How many of them must sign a root.
    #[arg(long, default_value = "2")]
    root_threshold: usize,
    #[command(flatten)]
    expiries: ExpiryArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Image file.
    image: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Device model that the image is made for.
    #[arg(long)]
    model: String,
    /// Firmware version.
    #[arg(long)]
    release_version: Version,
    /// Channel.
    #[arg(long, default_value = "stable")]
    channel: String,
    /// Name of the release; MODEL-VERSION in lower case when not given.
    #[arg(long)]
    id: Option<UpdateId>,
    /// What it changes, for people.
    #[arg(long, default_value = "")]
    description: String,
    /// When it was released, RFC 3339; now when not given.
    #[arg(long, value_name = "TIME")]
    release_date: Option<jiff::Timestamp>,
    /// It should be installed soon.
    #[arg(long)]
    critical: bool,
    /// Oldest version that can take it.
    #[arg(long, value_name = "VERSION")]
    min_version: Option<Version>,
    /// Format; told from the file's ending when not given.
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// Detached signature: .p7s, or .sig or .asc of OpenPGP. May be given several times.
    #[arg(long, value_name = "FILE")]
    signature: Vec<PathBuf>,
    /// Delta from an older version. May be given several times.
    #[arg(long, value_name = "VERSION:SHA256:FILE", value_parser = delta)]
    delta: Vec<DeltaArg>,
    /// Offer it to this share of the fleet only.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    rollout_percent: Option<u8>,
    /// Text that decides which devices are among them; the release's id when not given.
    #[arg(long, value_name = "TEXT", requires = "rollout_percent")]
    rollout_salt: Option<String>,
    /// Offer it from this time on, RFC 3339.
    #[arg(long, value_name = "TIME", requires = "rollout_percent")]
    rollout_start: Option<jiff::Timestamp>,
    /// Link the image into the repository instead of copying it; it must not change afterwards.
    #[arg(long)]
    link: bool,
    /// Publish at once.
    #[arg(long)]
    publish: bool,
}

/// Format of an image, as it is typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum KindArg {
    Raw,
    Squashfs,
    TarGz,
}

impl From<KindArg> for ImageKind {
    fn from(arg: KindArg) -> Self {
        match arg {
            KindArg::Raw => Self::Raw,
            KindArg::Squashfs => Self::Squashfs,
            KindArg::TarGz => Self::TarGz,
        }
    }
}

/// A delta, as it is typed.
#[derive(Clone, Debug)]
pub(crate) struct DeltaArg(DeltaFile);

fn delta(text: &str) -> Result<DeltaArg, String> {
    let mut parts = text.splitn(3, ':');
    let (Some(version), Some(digest), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("VERSION:SHA256:FILE".into());
    };
    let from_version: Version = version.parse().map_err(|e| format!("{version}: {e}"))?;
    let from_sha256: Sha256Digest = digest.parse().map_err(|e| format!("{digest}: {e}"))?;
    Ok(DeltaArg(DeltaFile { from_version, from_sha256, file: file.into() }))
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Name of the release, as `repo add` printed it.
    id: UpdateId,
    #[command(flatten)]
    place: Place,
    /// Device model that the image is made for.
    #[arg(long)]
    model: String,
    /// Channel.
    #[arg(long, default_value = "stable")]
    channel: String,
    /// Publish at once.
    #[arg(long)]
    publish: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    expiries: ExpiryArgs,
    /// Only sign the timestamp anew, with nothing but its key.
    #[arg(long)]
    timestamp_only: bool,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.what {
        What::Init(args) => init(args, context),
        What::Add(args) => add(*args, context),
        What::Remove(args) => remove(args, context),
        What::Publish(args) => publish(&args, context),
    }
}

fn init(args: InitArgs, context: &mut Context) -> Result<(), Failure> {
    let options = InitOptions {
        repo: args.place.repo,
        keys: args.place.keys,
        root_keys: args.root_keys,
        root_threshold: args.root_threshold,
        expiries: args.expiries.into(),
    };
    let made = RepoDir::init(&options, context.now)?;
    let document = json!({
        "repo": options.repo, "keys": options.keys, "initial_root": made.initial_root(),
        "metadata": made.metadata(), "targets": made.targets(),
    });
    context.out.show(&document, |_| {
        facts([
            ("Serve", format!("{} and {}", made.metadata().display(), made.targets().display())),
            ("Ship with devices", made.initial_root().display().to_string()),
            ("Keep private", format!("{} (root keys belong offline)", options.keys.display())),
        ])
    })
}

fn add(args: AddArgs, context: &mut Context) -> Result<(), Failure> {
    let publish = args.publish;
    let repo = RepoDir::open(args.place.repo.clone(), args.place.keys.clone())?;
    let release = release(args, context.now)?;
    let added = repo.add_release(&release)?;
    let published = if publish { Some(repo.publish(context.now)?) } else { None };
    let document = json!({"id": release.id, "added": added, "published": published});
    context.out.show(&document, |_| {
        facts([
            ("Release", release.id.to_string()),
            ("Image", format!("{} ({} bytes)", added.target, added.size)),
            ("SHA-256", added.sha256.to_string()),
            ("State", state(published.as_ref())),
        ])
    })
}

fn remove(args: RemoveArgs, context: &mut Context) -> Result<(), Failure> {
    let repo = RepoDir::open(args.place.repo, args.place.keys)?;
    let removed = repo.remove_release(&args.model, &args.channel, &args.id)?;
    let published = if args.publish { Some(repo.publish(context.now)?) } else { None };
    let document = json!({"id": args.id, "removed": removed, "published": published});
    context.out.show(&document, |_| {
        let files = removed.files.iter().map(|path| ("No longer listed", path.display().to_string()));
        let release = [("Release", format!("{} is taken out of {}", args.id, removed.manifest))];
        facts(release.into_iter().chain(files).chain([("State", state(published.as_ref()))]))
    })
}

fn state(published: Option<&Published>) -> String {
    published.map_or_else(|| "draft: run `ota-admin repo publish`".into(), versions)
}

fn release(args: AddArgs, now: Timestamp) -> Result<AddRelease, Failure> {
    // The manifest of a one-file image says it itself.
    let (tail, length) = file::tail(&args.image)?;
    let plain = matches!(Trailer::decode(&tail, length), Ok(None));
    let unpacked =
        if plain { file::unpacked_size(&args.image, || file::measure(&args.image))? } else { None };
    let mut release = AddRelease::new(args.image, &args.model, args.release_version, now)?;
    release.unpacked_size = unpacked.map(ByteCount::get);
    release.channel = args.channel;
    release.description = args.description;
    release.critical = args.critical;
    release.min_version = args.min_version;
    release.deltas = args.delta.into_iter().map(|delta| delta.0).collect();
    release.placement = if args.link { Placement::HardLink } else { Placement::Copy };
    release.signatures = args.signature.into_iter().map(signature).collect::<Result<_, _>>()?;
    if let Some(id) = args.id {
        release.id = id;
    }
    if let Some(at) = args.release_date {
        release.release_date = time(at);
    }
    if let Some(kind) = args.kind {
        release.kind = kind.into();
    }
    release.rollout = args.rollout_percent.map(|percent| Rollout {
        percent,
        salt: args.rollout_salt.unwrap_or_else(|| release.id.to_string()),
        start: args.rollout_start.map(time),
    });
    Ok(release)
}

fn time(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millisecond())
}

/// The encoding of a signature, told from the file's ending: `.p7s`, or `.p7s.2` of a second one.
fn signature(path: PathBuf) -> Result<(SignatureKind, PathBuf), Failure> {
    let is_number = |ending: &str| !ending.is_empty() && ending.bytes().all(|byte| byte.is_ascii_digit());
    let number = path.extension().and_then(|ending| ending.to_str()).is_some_and(is_number);
    let named = if number { path.with_extension("") } else { path.clone() };
    let kind = match named.extension().and_then(|ending| ending.to_str()) {
        Some("p7s") => SignatureKind::Cms,
        Some("sig" | "asc") => SignatureKind::Openpgp,
        _ => {
            let name = path.display();
            return Err(Failure::Usage(format!("{name}: a signature file ends in .p7s, .sig or .asc")));
        }
    };
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    if SignatureKind::of(&bytes) != kind {
        let what = if kind == SignatureKind::Cms { "CMS" } else { "OpenPGP" };
        return Err(Failure::Usage(format!(
            "{}: named like a signature of {what}, and is none",
            path.display()
        )));
    }
    Ok((kind, path))
}

fn publish(args: &PublishArgs, context: &mut Context) -> Result<(), Failure> {
    let repo =
        RepoDir::open(args.place.repo.clone(), args.place.keys.clone())?.with_expiries(args.expiries.into());
    let published =
        if args.timestamp_only { repo.refresh_timestamp(context.now)? } else { repo.publish(context.now)? };
    context.out.show(&published, versions)
}

/// What is current now.
pub(super) fn versions(published: &Published) -> String {
    let Published { root, targets, snapshot, timestamp } = published;
    format!("published: root {root}, targets {targets}, snapshot {snapshot}, timestamp {timestamp}")
}
