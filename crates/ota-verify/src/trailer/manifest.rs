//! What a one-file image says about itself. Text, line by line, in one order and one form; see `docs/image-trailer.md`.

use std::fmt::{self, Write as _};

use ota_core::{ByteCount, OtaError, Sha256Digest, Version, release::ImageKind};

use crate::error::Refusal;

/// The longest manifest, in bytes.
pub const MAX_MANIFEST: usize = 1 << 20;

const MAX_MODELS: usize = 64;
const MAX_NOTES: usize = 64;
/// Longest model name and longest line of notes, in bytes.
const MAX_TEXT: usize = 200;
const BLOCK_SIZES: std::ops::RangeInclusive<u64> = 1 << 16..=1 << 30;

/// The manifest of a one-file image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Version that the image brings.
    pub version: Version,
    /// Device models it is made for, 1–64; no control characters, 1–200 bytes each.
    pub models: Vec<String>,
    /// Format of the image.
    pub kind: ManifestKind,
    /// Length of the image without the trailer.
    pub size: ByteCount,
    /// Digest of the image without the trailer.
    pub sha256: Sha256Digest,
    /// Length of what a packed image unpacks to: a file system image, or an archive. A device unpacks no byte more.
    pub unpacked_size: Option<ByteCount>,
    /// Whether it takes a reboot to become active.
    pub requires_reboot: bool,
    /// Length of a block in bytes, a power of two from 64 KiB to 1 GiB; the last block may be shorter.
    pub block_size: u64,
    /// Digest of each block. They let a receiver notice damage before the end; what decides is `sha256`.
    pub blocks: Vec<Sha256Digest>,
    /// Release notes for people, up to 64 lines of up to 200 bytes.
    pub notes: Vec<String>,
}

/// Format of an image, as the manifest writes it: `raw`, `squashfs`, `tar-gz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestKind(pub ImageKind);

impl fmt::Display for ManifestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Manifest {
    /// The text that is signed and appended.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("ota-image 1\nversion {}\n", self.version);
        for model in &self.models {
            line(&mut text, "model", model);
        }
        line(&mut text, "kind", self.kind);
        line(&mut text, "size", self.size.get());
        line(&mut text, "sha256", self.sha256);
        if let Some(size) = self.unpacked_size {
            line(&mut text, "unpacked-size", size.get());
        }
        line(&mut text, "requires-reboot", if self.requires_reboot { "yes" } else { "no" });
        line(&mut text, "block-size", self.block_size);
        for block in &self.blocks {
            line(&mut text, "block", block);
        }
        for note in &self.notes {
            line(&mut text, "note", note);
        }
        text
    }

    /// Reads a manifest. Call it only on text whose signature holds.
    ///
    /// # Errors
    /// `Malformed`: every text but the one that [`Manifest::encode`] makes of the result.
    pub fn decode(text: &[u8]) -> Result<Self, Refusal> {
        if text.len() > MAX_MANIFEST {
            return Err(damaged("too long"));
        }
        let text = std::str::from_utf8(text).map_err(|_| damaged("not text"))?;
        let body = text.strip_suffix('\n').ok_or_else(|| damaged("cut short"))?;
        let mut lines = Lines(body.split('\n').peekable());
        if lines.one("ota-image")? != "1" {
            return Err(damaged("of a format that is not known here"));
        }
        let manifest = Self {
            version: lines.parsed("version")?,
            models: lines.many("model", MAX_MODELS)?,
            kind: kind(lines.one("kind")?)?,
            size: ByteCount(lines.parsed("size")?),
            sha256: lines.parsed("sha256")?,
            unpacked_size: lines.optional("unpacked-size")?.map(ByteCount),
            requires_reboot: lines.one("requires-reboot")? == "yes",
            block_size: lines.parsed("block-size")?,
            blocks: lines.digests()?,
            notes: lines.many("note", MAX_NOTES)?,
        };
        manifest.check()?;
        // One text for one manifest: no other spelling of a number, no line out of place, nothing unknown.
        if manifest.encode() == text { Ok(manifest) } else { Err(damaged("not in its one form")) }
    }

    /// Whether the image is made for a device of this model.
    ///
    /// # Errors
    /// `InvalidImage` (OTA_005), naming the models it is made for.
    pub fn check_model(&self, model: &str) -> Result<(), OtaError> {
        if self.models.iter().any(|made_for| made_for == model) {
            return Ok(());
        }
        let what = format!("made for {}, this device is a {model}", self.models.join(", "));
        Err(OtaError::InvalidImage { what })
    }

    fn check(&self) -> Result<(), Refusal> {
        let good =
            |text: &String| !text.is_empty() && text.len() <= MAX_TEXT && !text.contains(char::is_control);
        if self.models.is_empty() || !self.models.iter().all(good) || !self.notes.iter().all(good) {
            return Err(damaged("without a model, or with a text that is empty, too long or unprintable"));
        }
        if !BLOCK_SIZES.contains(&self.block_size) || !self.block_size.is_power_of_two() {
            return Err(damaged("with a block size that is no power of two from 64 KiB to 1 GiB"));
        }
        if self.blocks.len() as u64 != self.size.get().div_ceil(self.block_size) {
            return Err(damaged("with another number of blocks than its size has"));
        }
        Ok(())
    }
}

fn line(text: &mut String, name: &str, value: impl fmt::Display) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{name} {value}");
}

fn kind(word: &str) -> Result<ManifestKind, Refusal> {
    [ImageKind::Raw, ImageKind::Squashfs, ImageKind::TarGz]
        .map(ManifestKind)
        .into_iter()
        .find(|kind| kind.to_string() == word)
        .ok_or_else(|| damaged("with a kind of image that is not known here"))
}

fn damaged(what: &str) -> Refusal {
    Refusal::malformed(format!("the manifest of the trailer is {what}"))
}

struct Lines<'a>(std::iter::Peekable<std::str::Split<'a, char>>);

impl<'a> Lines<'a> {
    fn next_of(&mut self, name: &str) -> Option<&'a str> {
        let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(' ');
        let found = self.0.peek().and_then(|line| value(line))?;
        self.0.next();
        Some(found)
    }

    fn one(&mut self, name: &str) -> Result<&'a str, Refusal> {
        self.next_of(name).ok_or_else(|| damaged(&format!("without {name:?} in its place")))
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &str) -> Result<T, Refusal> {
        self.one(name)?.parse().map_err(|_| damaged(&format!("with a {name:?} that cannot be read")))
    }

    fn optional<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        let damaged = |_| damaged(&format!("with a {name:?} that cannot be read"));
        self.next_of(name).map(|value| value.parse().map_err(damaged)).transpose()
    }

    fn many(&mut self, name: &str, limit: usize) -> Result<Vec<String>, Refusal> {
        let mut found = Vec::new();
        while let Some(value) = self.next_of(name) {
            if found.len() == limit {
                return Err(damaged(&format!("with more than {limit} lines {name:?}")));
            }
            found.push(value.to_owned());
        }
        Ok(found)
    }

    fn digests(&mut self) -> Result<Vec<Sha256Digest>, Refusal> {
        let mut found = Vec::new();
        while let Some(value) = self.next_of("block") {
            found.push(value.parse().map_err(|_| damaged("with a block digest that cannot be read"))?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest {
            version: "v5.0.5".parse().unwrap(),
            models: vec!["IGW-5000".into(), "IGW 5100".into()],
            kind: ManifestKind(ImageKind::Squashfs),
            size: ByteCount(65_537),
            sha256: Sha256Digest::of(b"all"),
            unpacked_size: Some(ByteCount(99)),
            requires_reboot: true,
            block_size: 65_536,
            blocks: vec![Sha256Digest::of(b"1"), Sha256Digest::of(b"2")],
            notes: vec!["Fixes for the modem driver".into()],
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let manifest = sample();
        let text = manifest.encode();
        assert!(
            text.starts_with("ota-image 1\nversion v5.0.5\nmodel IGW-5000\nmodel IGW 5100\nkind squashfs\n"),
            "{text}"
        );
        assert_eq!(Manifest::decode(text.as_bytes()), Ok(manifest));
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let text = sample().encode();
        let changes = [
            ("ota-image 1", "ota-image 2"),
            ("size 65537", "size 065537"),
            ("size 65537", "size +65537"),
            ("unpacked-size 99", "unpacked-size 099"),
            ("unpacked-size 99", "unpacked-size"),
            ("requires-reboot yes", "requires-reboot true"),
            ("block-size 65536", "block-size 65535"),
            ("block-size 65536", "block-size 131072"),
            ("block-size 65536", "block-size 32768"),
            ("model IGW-5000\n", "model \n"),
            ("model IGW-5000\nmodel IGW 5100\n", ""),
            ("kind squashfs", "kind ext4"),
            ("sha256 ", "sha256 sha256:"),
            ("note ", "note \t"),
            ("\nnote", "\nextra 1\nnote"),
            ("version v5.0.5", "version five"),
            ("\nkind squashfs\nsize 65537", "\nsize 65537\nkind squashfs"),
        ];
        for (from, to) in changes {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert!(Manifest::decode(changed.as_bytes()).is_err(), "{from} as {to}");
        }
        assert!(Manifest::decode(text.trim_end().as_bytes()).is_err());
        assert!(Manifest::decode(format!("{text}\n").as_bytes()).is_err());
        assert!(Manifest::decode(b"").is_err());
    }

    #[test]
    fn an_image_for_another_model_is_refused_by_name() {
        assert_eq!(sample().check_model("IGW-5000"), Ok(()));
        let error = sample().check_model("IGW-4000").expect_err("refused").to_string();
        assert_eq!(error, "image refused: made for IGW-5000, IGW 5100, this device is a IGW-4000");
    }
}
