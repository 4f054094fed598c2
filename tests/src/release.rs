//! The publisher: code-signing authority, detached signature, signed repository with one release on offer.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use ota_core::{Timestamp, release::SignatureKind};
use ota_release::{
    AddRelease, CodeSigningCa, CodeSigningOptions, InitOptions, Placement, RepoDir, SignMethod,
    make_code_signing_ca, sign_detached,
};

/// Model of the device that releases are made for.
pub const MODEL: &str = "IGW-5000";
/// Name of the release on offer.
pub const UPDATE_ID: &str = "update_12345";
/// Its version.
pub const NEW_VERSION: &str = "5.0.5";
/// Version that the factory left in the other slot.
pub const SPARE_VERSION: &str = "5.0.3";
/// Version that the device is shipped with.
pub const OLD_VERSION: &str = "5.0.4";

/// 2025-03-10T14:30:00Z, the date in the API's examples.
const RELEASE_DATE: Timestamp = Timestamp::from_secs(1_741_617_000);

/// Who signs an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBy {
    /// The authority that the device trusts.
    Us,
    /// An authority that the device does not know.
    Stranger,
    /// Nobody.
    Nobody,
}

/// Keys of the publisher below one folder.
#[derive(Clone, Debug)]
pub struct Publisher {
    keys: PathBuf,
    ca: CodeSigningCa,
}

impl Publisher {
    /// Makes the code-signing authority in `keys/release`.
    ///
    /// # Errors
    /// When `openssl` is missing or fails.
    pub fn make(keys: &Path) -> anyhow::Result<Self> {
        let ca = make_code_signing_ca(&CodeSigningOptions::new(keys.join("release")))?;
        Ok(Self { keys: keys.into(), ca })
    }

    /// Certificate of the authority: what devices trust.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.ca.ca_certificate
    }

    /// Makes the repository `repo` with `image` on offer, TUF keys in `keys/<name>`. The image must not change afterwards.
    ///
    /// # Errors
    /// What signing and publishing say.
    pub fn publish(
        &self,
        name: &str,
        repo: &Path,
        image: &Path,
        signed_by: SignedBy,
    ) -> anyhow::Result<RepoDir> {
        self.publish_packed(name, repo, image, signed_by, None)
    }

    /// The same with the length that a packed image unpacks to, if the channel's manifest is to say it.
    ///
    /// # Errors
    /// What signing and publishing say.
    pub fn publish_packed(
        &self,
        name: &str,
        repo: &Path,
        image: &Path,
        signed_by: SignedBy,
        unpacked_size: Option<u64>,
    ) -> anyhow::Result<RepoDir> {
        let repo = RepoDir::init(&InitOptions::new(repo, self.keys.join(name)), clock())?;
        let mut add = AddRelease::new(image, MODEL, format!("v{NEW_VERSION}").parse()?, RELEASE_DATE)?;
        add.id = UPDATE_ID.parse()?;
        add.description = "Security patches and performance improvements".into();
        add.critical = true;
        add.unpacked_size = unpacked_size;
        add.placement = Placement::HardLink;
        if let Some(signature) = self.sign(image, signed_by)? {
            add.signatures = vec![(SignatureKind::Cms, signature)];
        }
        repo.add_release(&add)?;
        repo.publish(clock())?;
        Ok(repo)
    }

    /// Signs a file beside it, unless nobody does; gives where the signature is.
    ///
    /// # Errors
    /// When `openssl` is missing or fails.
    pub fn sign(&self, image: &Path, signed_by: SignedBy) -> anyhow::Result<Option<PathBuf>> {
        let ca = match signed_by {
            SignedBy::Us => self.ca.clone(),
            SignedBy::Stranger => make_code_signing_ca(&CodeSigningOptions::new(self.keys.join("stranger")))?,
            SignedBy::Nobody => return Ok(None),
        };
        let method = SignMethod::Cms { key: ca.signer_key, certificate: ca.signer_certificate, chain: None };
        Ok(Some(sign_detached(image, &method, None)?))
    }

    /// Gives a device what it trusts: the authority's certificate and the first root of `repo`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn ship(&self, repo: &RepoDir, layout: &crate::Layout) -> anyhow::Result<()> {
        fs::copy(self.certificate(), layout.trusted_keys().join("release-ca.pem"))?;
        fs::copy(repo.initial_root(), layout.initial_root()).context("shipping the first root")?;
        Ok(())
    }
}

/// The wall clock of the publisher's machine: what openssl and gpg date by.
#[expect(clippy::disallowed_methods, reason = "the publisher's machine has a clock")]
#[must_use]
pub fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_secs(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
