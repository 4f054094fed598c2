//! Update servers.

use alloc::vec::Vec;

use crate::{
    ByteCount, ImageName, Version,
    error::PortError,
    job::Priority,
    ports::BoxFuture,
    release::{Release, StagedImage},
};

/// What to fetch, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOrder {
    /// The release, as `check` gave it.
    pub release: Release,
    /// Name in staging; a partial file of an earlier try stands under it.
    pub name: ImageName,
    /// Share of the configured speed limit.
    pub priority: Priority,
}

/// Told how a fetch goes on. Called from the async threads: must not block.
pub trait FetchObserver: Send + Sync {
    /// `have` of the image's bytes are durable in staging.
    fn durable(&self, have: ByteCount);

    /// `have` of the image's bytes have arrived. First with what was there already.
    fn arrived(&self, have: ByteCount);
}

/// A place where releases come from. Never installs anything. Source: `update-sources.md`.
///
/// Dropping a future stops the work; what is durable in staging stays and the next `fetch` goes on there.
pub trait UpdateSource: Send + Sync {
    /// Asks for the releases on offer that are newer than `running`; empty when there are none.
    ///
    /// # Errors
    /// `ServerUnreachable` (OTA_009), `SignatureInvalid` (OTA_006) for metadata, `InvalidImage` (OTA_005) for a manifest
    /// that is not for this device.
    fn check<'a>(&'a self, running: &'a Version) -> BoxFuture<'a, Result<Vec<Release>, PortError>>;

    /// Fetches the image of a release into staging, with its detached signatures beside it, and returns it whole and with
    /// the signed digest checked.
    ///
    /// # Errors
    /// `Network` (OTA_004) after the retries; `ChecksumMismatch` (OTA_007); `InsufficientSpace` (OTA_003), known before
    /// the first byte; `SignatureInvalid` (OTA_006) when the release is no longer covered by trusted metadata; `Io`.
    fn fetch<'a>(
        &'a self,
        order: &'a FetchOrder,
        observer: &'a dyn FetchObserver,
    ) -> BoxFuture<'a, Result<StagedImage, PortError>>;
}
