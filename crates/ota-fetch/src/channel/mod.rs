//! The channel manifest: read and judged, without any IO (`update-sources.md` 2.3).
//!
//! Lengths and digests are not here: they come from the TUF targets that the entries name.

mod select;

use ota_core::{
    Timestamp, UpdateId, Version,
    release::{ImageKind, SignatureKind},
};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use select::offered;

/// Format of manifests that this code reads.
const FORMAT: u64 = 1;

/// Why a manifest was refused as a whole, or an entry that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON of the agreed shape.
    #[error("not a channel manifest")]
    Json(#[from] serde_json::Error),
    /// A later or unknown format.
    #[error("format {0} is not known")]
    Format(u64),
    /// For another model.
    #[error("made for model {found:?}, this is {expected:?}")]
    Model {
        /// Model of this device.
        expected: String,
        /// Model in the manifest.
        found: String,
    },
    /// For another channel.
    #[error("made for channel {found:?}, not {expected:?}")]
    Channel {
        /// Channel of this device.
        expected: String,
        /// Channel in the manifest.
        found: String,
    },
    /// Trusted metadata lists no manifest for this model and channel.
    #[error("the repository has no target {0:?}")]
    Absent(String),
    /// A path in the manifest is no TUF target, or one without the needed digest.
    #[error("release {id}: {path:?} {why}")]
    Target {
        /// Release that names it.
        id: UpdateId,
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The manifest target is larger than devices read.
    #[error("the manifest has {0} bytes, more than 256 KiB")]
    TooLarge(u64),
}

/// A release as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: UpdateId,
    pub(crate) version: Version,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default, deserialize_with = "time")]
    pub(crate) release_date: Option<Timestamp>,
    #[serde(default)]
    pub(crate) critical: bool,
    #[serde(default = "yes")]
    pub(crate) requires_reboot: bool,
    #[serde(default)]
    pub(crate) min_version: Option<Version>,
    pub(crate) kind: ImageKind,
    pub(crate) target: String,
    #[serde(default)]
    pub(crate) unpacked_size: Option<u64>,
    #[serde(default)]
    pub(crate) signatures: Vec<SignatureEntry>,
    #[serde(default)]
    pub(crate) deltas: Vec<DeltaEntry>,
    #[serde(default)]
    pub(crate) rollout: Option<Rollout>,
}

/// A detached signature on offer. Types that we do not know are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct SignatureEntry {
    #[serde(rename = "type", deserialize_with = "known_kind")]
    pub(crate) kind: Option<SignatureKind>,
    pub(crate) target: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct DeltaEntry {
    pub(crate) from_version: Version,
}

/// Offer to a part of the fleet.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Rollout {
    #[serde(deserialize_with = "percent")]
    percent: f64,
    #[serde(default)]
    salt: String,
    #[serde(default, deserialize_with = "time")]
    start: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Manifest {
    format: u64,
    model: String,
    channel: String,
    releases: Vec<Value>,
}

/// Reads a manifest and checks that it is for this model and channel.
///
/// An entry that cannot be understood (a kind of image that came later, say) is left out with a warning, so that it does
/// not keep a device from the others.
///
/// # Errors
/// Every variant but `Absent`, `Target` and `TooLarge`.
pub(crate) fn parse(bytes: &[u8], model: &str, channel: &str) -> Result<Vec<Entry>, ManifestError> {
    #[derive(Deserialize)]
    struct Formatted {
        format: u64,
    }
    // The format first: a later one may have another shape.
    let Formatted { format } = serde_json::from_slice(bytes)?;
    if format != FORMAT {
        return Err(ManifestError::Format(format));
    }
    let manifest: Manifest = serde_json::from_slice(bytes)?;
    debug_assert_eq!(manifest.format, FORMAT);
    if manifest.model != model {
        return Err(ManifestError::Model { expected: model.into(), found: manifest.model });
    }
    if manifest.channel != channel {
        return Err(ManifestError::Channel { expected: channel.into(), found: manifest.channel });
    }
    Ok(manifest.releases.into_iter().filter_map(entry).collect())
}

fn entry(value: Value) -> Option<Entry> {
    let id = value.get("id").cloned().unwrap_or_default();
    match serde_json::from_value(value) {
        Ok(entry) => Some(entry),
        Err(error) => {
            tracing::warn!(%id, %error, "leaving out a release that cannot be understood");
            None
        }
    }
}

const fn yes() -> bool {
    true
}

fn time<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Timestamp>, D::Error> {
    let time = Option::<jiff::Timestamp>::deserialize(input)?;
    Ok(time.map(|time| Timestamp::from_millis(time.as_millisecond())))
}

fn percent<'de, D: serde::Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    let percent = f64::deserialize(input)?;
    if (0.0..=100.0).contains(&percent) {
        return Ok(percent);
    }
    Err(serde::de::Error::custom("a percentage lies between 0 and 100"))
}

fn known_kind<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<SignatureKind>, D::Error> {
    let text = String::deserialize(input)?;
    Ok(match text.as_str() {
        "cms" => Some(SignatureKind::Cms),
        "openpgp" => Some(SignatureKind::Openpgp),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of `update-sources.md`.
    pub(super) const EXAMPLE: &str = r#"{ "format": 1, "model": "IGW-5000", "channel": "stable", "later": [1.5],
      "releases": [ { "id": "igw5000-5.0.5", "version": "v5.0.5", "description": "Fixes for the modem driver",
        "release_date": "2025-03-10T14:30:00Z", "critical": false, "requires_reboot": true,
        "min_version": "v4.8.0", "kind": "squashfs", "target": "images/igw-5000/5.0.5/rootfs.squashfs",
        "signatures": [ { "type": "openpgp", "target": "images/igw-5000/5.0.5/rootfs.squashfs.asc" },
                        { "type": "minisign", "target": "x" } ],
        "deltas": [ { "from_version": "v5.0.4", "from_sha256": "9f3c", "target": "images/igw-5000/5.0.5/d504.bin" } ],
        "rollout": { "percent": 25, "salt": "r1", "start": "2025-03-11T00:00:00Z" } },
        { "id": "from-the-future", "version": "v9.0.0", "kind": "hologram", "target": "x" } ] }"#;

    #[test]
    fn the_documented_example_is_read_and_unknown_things_are_passed_over() {
        let entries = parse(EXAMPLE.as_bytes(), "IGW-5000", "stable").unwrap();
        assert_eq!(entries.len(), 1);
        let entry = &entries[0];
        assert_eq!(entry.release_date.unwrap().as_secs(), 1_741_617_000);
        assert_eq!(entry.signatures[0].kind, Some(SignatureKind::Openpgp));
        assert_eq!(entry.signatures[1].kind, None);
        assert_eq!(entry.deltas[0].from_version.to_string(), "v5.0.4");
    }

    #[test]
    fn a_manifest_for_another_device_or_format_is_refused_as_a_whole() {
        let refused = |text: &str| parse(text.as_bytes(), "IGW-5000", "stable").unwrap_err();
        assert!(matches!(
            refused(&EXAMPLE.replace("\"format\": 1", "\"format\": 2")),
            ManifestError::Format(2)
        ));
        assert!(matches!(refused(&EXAMPLE.replace("IGW-5000", "IGW-9")), ManifestError::Model { .. }));
        assert!(matches!(refused(&EXAMPLE.replace("stable", "beta")), ManifestError::Channel { .. }));
        assert!(matches!(refused("{\"format\": 1}"), ManifestError::Json(_)));
        assert!(matches!(refused("no"), ManifestError::Json(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn a_manifest_with_a_damaged_byte_never_panics(at in 0..EXAMPLE.len(), byte: u8) {
            let mut bytes = EXAMPLE.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse(&bytes, "IGW-5000", "stable");
        }
    }
}
