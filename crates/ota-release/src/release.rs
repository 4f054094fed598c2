//! Adding a release: image, signature and delta targets, and the entry of the channel manifest (`update-sources.md` 2.3).

use std::{
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
        let image = format!("{folder}/{}", file_name(&add.image)?);
        let content = self.place(&add.image, &image, add.placement)?;
        draft.insert(image.clone(), content.into());

        let mut signatures = Vec::new();
        for (kind, file) in &add.signatures {
            let target = format!("{folder}/{}", file_name(file)?);
            if signatures.iter().any(|known: &Value| known["target"] == target.as_str()) {
                return Err(ReleaseError::Options("two signatures have the same file name"));
            }
            draft.insert(target.clone(), self.place(file, &target, Placement::Copy)?.into());
            signatures.push(json!({"type": kind, "target": target}));
        }
        let mut deltas = Vec::new();
        for delta in &add.deltas {
            let target = format!("{folder}/{}", file_name(&delta.file)?);
            draft.insert(target.clone(), self.place(&delta.file, &target, add.placement)?.into());
            deltas.push(json!({
                "from_version": delta.from_version, "from_sha256": delta.from_sha256, "target": target
            }));
        }
        let entry = entry(add, &image, signatures, deltas)?;
        let (manifest, file) = self.renew_manifest(add, entry, &draft)?;
        draft.insert(manifest.clone(), file);
        self.keep_draft(&draft)?;
        Ok(Added { target: image, size: content.length, sha256: content.sha256, manifest })
    }

    /// The manifest with `entry` in it, written as a new content-addressed file.
    fn renew_manifest(
        &self,
        add: &AddRelease,
        entry: Value,
        draft: &std::collections::BTreeMap<String, TargetFile>,
    ) -> Result<(String, TargetFile), ReleaseError> {
        let target = format!("channels/{}/{}.json", add.model, add.channel);
        let mut releases = match draft.get(&target) {
            Some(file) => self.releases_in(&self.targets().join(file.path_of(&target)))?,
            None => Vec::new(),
        };
        releases.retain(|release| release.get("id") != entry.get("id"));
        releases.push(entry);
        let manifest = json!({"format": 1, "model": add.model, "channel": add.channel, "releases": releases});
        let bytes = serde_json::to_vec_pretty(&manifest).map_err(ReleaseError::Encode)?;
        if bytes.len() > MANIFEST_MAX {
            return Err(ReleaseError::Options(
                "the channel manifest would exceed 256 KiB; remove old releases",
            ));
        }
        let content = Content { length: bytes.len() as u64, sha256: Sha256Digest::of(&bytes) };
        let file = TargetFile::from(content);
        let path = self.targets().join(file.path_of(&target));
        durable::make_folder(path.parent().unwrap_or(&path), false)?;
        durable::write(&path, &bytes, 0o644)?;
        Ok((target, file))
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
