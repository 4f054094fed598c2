//! Adding a release: image, signature and delta targets, and the entry of the channel manifest (`update-sources.md` 2.3).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use ota_core::{
    Sha256Digest, Timestamp, UpdateId, Version,
    release::{ImageKind, SignatureKind},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    ReleaseError, RepoDir,
    durable::{self, Content},
    error::at,
    metadata::{self, TargetFile},
};

/// Largest channel manifest that devices read.
const MANIFEST_MAX: usize = 256 * 1024;

/// What the target paths of channel manifests begin with.
const CHANNELS: &str = "channels/";

/// The targets of the next publication, by their paths.
type Draft = BTreeMap<String, TargetFile>;

/// How the image gets into the repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// A copy, hashed while it is made.
    #[default]
    Copy,
    /// Another name of the same file, a copy where the file system refuses; the file must not be changed afterwards.
    HardLink,
}

/// Offer to a part of the fleet only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// 0 to 100.
    pub percent: u8,
    /// Text that decides which devices are among them.
    pub salt: String,
    /// From when on.
    #[serde(skip)]
    pub start: Option<Timestamp>,
}

/// A delta from an older version.
#[derive(Clone, Debug)]
pub struct DeltaFile {
    /// The version that the device runs.
    pub from_version: Version,
    /// Digest of the slot's image of that version.
    pub from_sha256: Sha256Digest,
    /// The delta.
    pub file: PathBuf,
}

/// A release to put into a channel.
#[derive(Clone, Debug)]
pub struct AddRelease {
    /// The image file.
    pub image: PathBuf,
    /// Device model, 1 to 64 characters of `[A-Za-z0-9._-]`.
    pub model: String,
    /// Channel, same shape.
    pub channel: String,
    /// Name of the release; the entry of the same name is replaced.
    pub id: UpdateId,
    /// Firmware version.
    pub version: Version,
    /// What it changes, for people.
    pub description: String,
    /// When it was published.
    pub release_date: Timestamp,
    /// Whether it should be installed soon.
    pub critical: bool,
    /// Whether it needs a reboot; true for slot images.
    pub requires_reboot: bool,
    /// Oldest version that can take it.
    pub min_version: Option<Version>,
    /// Format of the image.
    pub kind: ImageKind,
    /// Length of what a packed image unpacks to; devices unpack no byte more.
    pub unpacked_size: Option<u64>,
    /// Detached signature files with their encoding.
    pub signatures: Vec<(SignatureKind, PathBuf)>,
    /// Deltas from older versions.
    pub deltas: Vec<DeltaFile>,
    /// Offer to a part of the fleet only.
    pub rollout: Option<Rollout>,
    /// How files get into the repository.
    pub placement: Placement,
}

impl AddRelease {
    /// A release for everybody on channel `stable`, named `<model>-<version>` in lower case; the kind is told from the
    /// file's ending.
    ///
    /// # Errors
    /// [`ReleaseError::BadName`] when model and version do not make an update id.
    pub fn new(
        image: impl Into<PathBuf>,
        model: &str,
        version: Version,
        now: Timestamp,
    ) -> Result<Self, ReleaseError> {
        let image = image.into();
        let name = format!("{}-{}", model.to_lowercase(), version.semver());
        let id = name.parse().map_err(|_| bad("release id", &name))?;
        let file = image.to_string_lossy();
        let kind = if [".tar.gz", ".tgz", ".tar.zst"].iter().any(|ending| file.ends_with(ending)) {
            ImageKind::TarGz
        } else if [".squashfs", ".squashfs.gz", ".squashfs.zst"].iter().any(|ending| file.ends_with(ending)) {
            ImageKind::Squashfs
        } else {
            ImageKind::Raw
        };
        Ok(Self {
            image,
            model: model.into(),
            channel: "stable".into(),
            id,
            version,
            description: String::new(),
            release_date: now,
            critical: false,
            requires_reboot: true,
            min_version: None,
            kind,
            unpacked_size: None,
            signatures: Vec::new(),
            deltas: Vec::new(),
            rollout: None,
            placement: Placement::Copy,
        })
    }
}

/// What [`RepoDir::add_release`] put into the draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Added {
    /// Target path of the image.
    pub target: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Target path of the channel manifest.
    pub manifest: String,
}

/// What [`RepoDir::remove_release`] took out of the draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Target path of the channel manifest.
    pub manifest: String,
    /// Files that no release lists any more. They may be deleted when no gateway is still fetching them.
    pub files: Vec<PathBuf>,
}

impl RepoDir {
    /// Puts the files of a release into `targets/` and its entry into the draft of the channel manifest. Nothing is
    /// offered before [`RepoDir::publish`].
    ///
    /// # Errors
    /// [`ReleaseError::BadName`]; [`ReleaseError::Malformed`] when the present manifest cannot be read;
    /// [`ReleaseError::Options`] for a rollout above 100 % or a manifest that would be too large; `Io`.
    pub fn add_release(&self, add: &AddRelease) -> Result<Added, ReleaseError> {
        named("model", &add.model)?;
        named("channel", &add.channel)?;
        if add.rollout.as_ref().is_some_and(|r| r.percent > 100) {
            return Err(ReleaseError::Options("a rollout goes from 0 to 100 percent"));
        }
        let mut draft = self.draft()?;
        let folder = format!("images/{}/{}", add.model.to_lowercase(), add.version.semver());
        let mut names = BTreeSet::new();
        let mut put = |file: &Path, placement| {
            let target = format!("{folder}/{}", file_name(file)?);
            if !names.insert(target.clone()) {
                return Err(ReleaseError::Options("two files of a release have the same name"));
            }
            let content = self.place(file, &target, placement)?;
            draft.insert(target.clone(), content.into());
            Ok((target, content))
        };
        let (image, content) = put(&add.image, add.placement)?;
        let mut signatures = Vec::new();
        for (kind, file) in &add.signatures {
            let (target, _) = put(file, Placement::Copy)?;
            signatures.push(json!({"type": kind, "target": target}));
        }
        let mut deltas = Vec::new();
        for delta in &add.deltas {
            let (target, _) = put(&delta.file, add.placement)?;
            deltas.push(json!({
                "from_version": delta.from_version, "from_sha256": delta.from_sha256, "target": target
            }));
        }
        let entry = entry(add, &image, signatures, deltas)?;
        let manifest = manifest_target(&add.model, &add.channel);
        let mut releases = self.listed(&draft, &manifest)?.unwrap_or_default();
        releases.retain(|release| release.get("id") != entry.get("id"));
        releases.push(entry);
        self.put_manifest(&mut draft, &add.model, &add.channel, &releases)?;
        self.keep_draft(&draft)?;
        Ok(Added { target: image, size: content.length, sha256: content.sha256, manifest })
    }

    /// Takes a release out of the draft of the channel manifest, and whatever only this release listed out of the targets.
    /// Gateways do not see it any more after [`RepoDir::publish`]. Its files stay, so that a download that has begun can
    /// end.
    ///
    /// # Errors
    /// [`ReleaseError::BadName`]; [`ReleaseError::NotListed`] when there is no such release;
    /// [`ReleaseError::Malformed`] when a present manifest cannot be read; `Io`.
    pub fn remove_release(&self, model: &str, channel: &str, id: &UpdateId) -> Result<Removed, ReleaseError> {
        named("model", model)?;
        named("channel", channel)?;
        let mut draft = self.draft()?;
        let manifest = manifest_target(model, channel);
        let listed = self.listed(&draft, &manifest)?.unwrap_or_default();
        let (gone, stay): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|release| release["id"].as_str() == Some(id.as_str()));
        if gone.is_empty() {
            return Err(ReleaseError::NotListed {
                id: id.to_string(),
                manifest,
                there: stay.iter().filter_map(|release| release["id"].as_str()).map(str::to_owned).collect(),
            });
        }
        self.put_manifest(&mut draft, model, channel, &stay)?;
        // Channels may share an image.
        let channels = draft.keys().filter(|target| target.starts_with(CHANNELS));
        let mut used = BTreeSet::new();
        for channel in channels {
            let releases = self.listed(&draft, channel)?.unwrap_or_default();
            used.extend(releases.iter().flat_map(targets_of));
        }
        let unlisted = gone.iter().flat_map(targets_of).filter(|target| !used.contains(target));
        let unlisted: BTreeSet<String> = unlisted.collect();
        let files = draft
            .extract_if(.., |target, _| unlisted.contains(target))
            .map(|(target, file)| self.targets().join(file.path_of(&target)))
            .collect();
        self.keep_draft(&draft)?;
        Ok(Removed { manifest, files })
    }

    /// The releases of a channel as the draft has them; `None` where there is no such channel.
    fn listed(&self, draft: &Draft, manifest: &str) -> Result<Option<Vec<Value>>, ReleaseError> {
        let file = draft.get(manifest).map(|file| self.targets().join(file.path_of(manifest)));
        file.map(|path| self.releases_in(&path)).transpose()
    }

    /// Writes the manifest as a new content-addressed file and names it in `draft`.
    fn put_manifest(
        &self,
        draft: &mut Draft,
        model: &str,
        channel: &str,
        releases: &[Value],
    ) -> Result<(), ReleaseError> {
        let manifest = json!({"format": 1, "model": model, "channel": channel, "releases": releases});
        let bytes = serde_json::to_vec_pretty(&manifest).map_err(ReleaseError::Encode)?;
        if bytes.len() > MANIFEST_MAX {
            return Err(ReleaseError::Options(
                "the channel manifest would exceed 256 KiB; take old releases out with `ota-admin repo remove`",
            ));
        }
        let content = Content { length: bytes.len() as u64, sha256: Sha256Digest::of(&bytes) };
        let (target, file) = (manifest_target(model, channel), TargetFile::from(content));
        let path = self.targets().join(file.path_of(&target));
        durable::make_folder(path.parent().unwrap_or(&path), false)?;
        durable::write(&path, &bytes, 0o644)?;
        draft.insert(target, file);
        Ok(())
    }

    fn releases_in(&self, path: &Path) -> Result<Vec<Value>, ReleaseError> {
        #[derive(Deserialize)]
        struct Manifest {
            releases: Vec<Value>,
        }
        let bytes = fs::read(path).map_err(at("read", path))?;
        let manifest: Manifest = metadata::parse(path, "channel manifest", &bytes)?;
        Ok(manifest.releases)
    }

    /// Puts `file` where the server finds `target`.
    fn place(&self, file: &Path, target: &str, placement: Placement) -> Result<Content, ReleaseError> {
        let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
        let folder = self.targets().join(folder);
        durable::make_folder(&folder, false)?;
        if placement == Placement::HardLink {
            let content = durable::digest(file)?;
            if durable::link(file, &folder.join(format!("{}.{name}", content.sha256)))? {
                return Ok(content);
            }
        }
        durable::copy_in(file, &folder, |content| format!("{}.{name}", content.sha256))
    }
}

fn entry(
    add: &AddRelease,
    image: &str,
    signatures: Vec<Value>,
    deltas: Vec<Value>,
) -> Result<Value, ReleaseError> {
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| entry.insert(name.into(), value);
    put("id", json!(add.id));
    put("version", json!(add.version));
    put("description", json!(add.description));
    put("release_date", json!(metadata::date(add.release_date)?));
    put("critical", json!(add.critical));
    put("requires_reboot", json!(add.requires_reboot));
    if let Some(min) = &add.min_version {
        put("min_version", json!(min));
    }
    put("kind", json!(add.kind));
    put("target", json!(image));
    if let Some(size) = add.unpacked_size {
        put("unpacked_size", json!(size));
    }
    put("signatures", Value::Array(signatures));
    put("deltas", Value::Array(deltas));
    if let Some(rollout) = &add.rollout {
        let mut value = json!({"percent": rollout.percent, "salt": rollout.salt});
        if let Some(start) = rollout.start {
            value["start"] = json!(metadata::date(start)?);
        }
        put("rollout", value);
    }
    Ok(Value::Object(entry))
}

fn manifest_target(model: &str, channel: &str) -> String {
    format!("{CHANNELS}{model}/{channel}.json")
}

/// Image, signatures and deltas of an entry.
fn targets_of(entry: &Value) -> Vec<String> {
    let parts = ["signatures", "deltas"].iter().filter_map(|part| entry[part].as_array()).flatten();
    let targets = std::iter::once(entry).chain(parts).filter_map(|part| part["target"].as_str());
    targets.map(str::to_owned).collect()
}

fn file_name(path: &Path) -> Result<&str, ReleaseError> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    named("file name", name)
}

/// Names become parts of target paths, URLs and file names: nothing that any of them would read differently.
fn named<'a>(what: &'static str, text: &'a str) -> Result<&'a str, ReleaseError> {
    let fine = (1..=128).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._+-".contains(&c));
    if fine { Ok(text) } else { Err(bad(what, text)) }
}

fn bad(what: &'static str, text: &str) -> ReleaseError {
    let rule = "1 to 128 characters A-Z a-z 0-9 . _ + -, not starting with a dot";
    ReleaseError::BadName { what, text: text.into(), rule }
}
