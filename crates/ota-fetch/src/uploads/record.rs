//! What is kept of an upload, as JSON beside the image, and how it gets there in one piece with it.
//!
//! | file | is |
//! |---|---|
//! | `NAME` | the image |
//! | `.NAME.upload` | its record |
//! | `.NAME.upload.new` | the record of an image that is about to take the name |
//! | `.NAME.sig.new`, `.NAME.asc.new`, `.NAME.p7s.new`, `.NAME.sums.new`, … | what is about to lie beside the image |
//! | `.NAME.N.incoming` | an image, or a changed record, on its way |
//!
//! The rename of the image is the one step that decides: a new record names the inode of its image, so whoever finds
//! one after a power cut knows whether that step has happened, and either finishes or clears away.

use std::{
    fs::{File, Metadata},
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
};

use ota_core::{
    ByteCount, ImageName, Timestamp, Version,
    ports::{Upload, Verification},
    release::StagedImage,
};
use serde::{Deserialize, Serialize};

use crate::{FetchError, Staging, error::at, staging::beside};

/// Largest record that is read.
const RECORD_MAX: u64 = 256 * 1024;

/// Name of the record of an upload.
pub(crate) fn record_name(name: &ImageName) -> String {
    format!(".{name}.upload")
}

fn pending_name(name: &ImageName) -> String {
    format!(".{name}.upload.new")
}

fn pending_signature(name: &ImageName, ending: &str) -> String {
    format!(".{name}.{ending}.new")
}

/// By what a file is known again without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        Self { inode: file.ino(), size: file.size(), seconds: file.mtime(), nanoseconds: file.mtime_nsec() }
    }
}

/// The record of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) image: StagedImage,
    pub(super) version: Version,
    pub(super) description: Option<String>,
    pub(super) stored: Timestamp,
    pub(super) verification: Option<Verification>,
    pub(super) stamp: Stamp,
    /// Endings of what came with it: signatures, a checksum file.
    pub(super) signatures: Vec<String>,
    /// Endings of what does not belong to it and goes when it comes.
    pub(super) dropped: Vec<String>,
}

impl Record {
    /// As the port shows it. A verification counts only for the file that it was made of.
    pub(super) fn into_upload(self, unchanged: bool) -> Upload {
        Upload {
            image: self.image,
            version: self.version,
            description: self.description,
            stored: self.stored,
            verification: self.verification.filter(|_| unchanged),
        }
    }
}

/// The record of `name`, and whether its image is still the file it was made for; `None` without record or image.
pub(super) fn read(staging: &Staging, name: &ImageName) -> Result<Option<(Record, bool)>, FetchError> {
    let Some(image) = staging.find(name.as_str())? else { return Ok(None) };
    let Some(record) = load(staging, &record_name(name))? else { return Ok(None) };
    let stamp = stamp_of(staging, name.as_str(), &image)?;
    let unchanged = record.stamp == stamp;
    Ok(Some((record, unchanged)))
}

/// What the file is known by now.
pub(super) fn stamp_of(staging: &Staging, name: &str, file: &File) -> Result<Stamp, FetchError> {
    Ok(Stamp::from(&file.metadata().map_err(at("look at", staging.named(name)))?))
}

/// `None` when it is not there or is no record; that is then as if the image had none.
fn load(staging: &Staging, file: &str) -> Result<Option<Record>, FetchError> {
    let Some(found) = staging.find(file)? else { return Ok(None) };
    let mut text = Vec::new();
    found.take(RECORD_MAX).read_to_end(&mut text).map_err(at("read", staging.named(file)))?;
    match serde_json::from_slice(&text) {
        Ok(record) => Ok(Some(record)),
        Err(error) => {
            tracing::warn!(file, %error, "the record of an upload is damaged");
            Ok(None)
        }
    }
}

/// Writes a file that was not there, and syncs it.
fn write_new(staging: &Staging, file: &str, bytes: &[u8]) -> Result<(), FetchError> {
    staging.unlink(file)?;
    let mut out = staging.make_new(file)?;
    out.write_all(bytes).and_then(|()| out.sync_all()).map_err(at("write", staging.named(file)))
}

fn encode(record: &Record) -> Result<Vec<u8>, FetchError> {
    serde_json::to_vec(record).map_err(|error| FetchError::Config {
        what: "the record of an upload cannot be written".into(),
        source: Some(error.into()),
    })
}

/// Replaces the record alone.
pub(super) fn replace(staging: &Staging, temp: &str, record: &Record) -> Result<(), FetchError> {
    write_new(staging, temp, &encode(record)?)?;
    staging.rename(temp, &record_name(&record.image.name))?;
    staging.sync()
}

/// Puts the synced file `incoming` in the place of the image, with `record` and, by their endings, the files `beside` it.
pub(super) fn commit(
    staging: &Staging,
    incoming: &str,
    record: &Record,
    beside: &[(String, Vec<u8>)],
) -> Result<(), FetchError> {
    let name = &record.image.name;
    let prepared = prepare(staging, record, beside)
        .and_then(|()| staging.sync())
        .and_then(|()| staging.rename(incoming, name.as_str()));
    if let Err(error) = prepared {
        let _ = clear(staging, name);
        return Err(error);
    }
    finish(staging, record)?;
    staging.sync()
}

fn prepare(staging: &Staging, record: &Record, beside: &[(String, Vec<u8>)]) -> Result<(), FetchError> {
    let name = &record.image.name;
    for (ending, bytes) in beside {
        write_new(staging, &pending_signature(name, ending), bytes)?;
    }
    write_new(staging, &pending_name(name), &encode(record)?)
}

/// What remains to be done once the image has its name. May be done again.
fn finish(staging: &Staging, record: &Record) -> Result<(), FetchError> {
    let name = &record.image.name;
    for ending in &record.dropped {
        staging.unlink(&format!("{name}.{ending}"))?;
    }
    for ending in &record.signatures {
        let pending = pending_signature(name, ending);
        if staging.find(&pending)?.is_some() {
            staging.rename(&pending, &format!("{name}.{ending}"))?;
        }
    }
    staging.rename(&pending_name(name), &record_name(name))
}

/// Forgets an image that did not take its name.
fn clear(staging: &Staging, name: &ImageName) -> Result<(), FetchError> {
    for ending in beside() {
        staging.unlink(&pending_signature(name, &ending))?;
    }
    staging.unlink(&pending_name(name))
}

/// Finishes or clears away what a power cut interrupted, and drops what is left of uploads without an image.
pub(super) fn recover(staging: &Staging) -> Result<(), FetchError> {
    let files = staging.names()?;
    for name in files.iter().filter_map(|file| image_of(file, ".upload.new")) {
        settle(staging, &name)?;
    }
    for file in &files {
        let gone = |name: ImageName| staging.find(name.as_str()).map(|image| image.is_none());
        let stale_signature = beside().any(|ending| image_of(file, &format!(".{ending}.new")).is_some());
        if file.starts_with('.') && file.ends_with(".incoming")
            || stale_signature
            || image_of(file, ".upload").map_or(Ok(false), gone)?
        {
            staging.unlink(file)?;
        }
    }
    staging.sync()
}

fn settle(staging: &Staging, name: &ImageName) -> Result<(), FetchError> {
    let pending = load(staging, &pending_name(name))?;
    let image = staging.find(name.as_str())?;
    if let (Some(record), Some(image)) = (pending, image)
        && record.image.name == *name
        && stamp_of(staging, name.as_str(), &image)? == record.stamp
    {
        return finish(staging, &record);
    }
    clear(staging, name)
}

/// The image that a hidden file with this ending belongs to.
pub(super) fn image_of(file: &str, ending: &str) -> Option<ImageName> {
    file.strip_prefix('.')?.strip_suffix(ending)?.parse().ok()
}

/// Total length of all uploads but `but`.
pub(super) fn stored_bytes(staging: &Staging, but: &ImageName) -> Result<ByteCount, FetchError> {
    let mut total = ByteCount::ZERO;
    for name in staging.names()?.iter().filter_map(|file| image_of(file, ".upload")) {
        if name != *but
            && let Some(image) = staging.find(name.as_str())?
        {
            let length = image.metadata().map_err(at("look at", staging.named(name.as_str())))?.len();
            total = total + ByteCount(length);
        }
    }
    Ok(total)
}
