//! The port's adapter: takes the signature files apart, streams the image once, checks, and lets the policy decide.

use std::{fmt, num::NonZeroU32, sync::Arc};

use ota_core::{
    OtaError, Timestamp,
    error::{PortError, PortErrorKind},
    ports::{Clock, ImageExpectation, ImageReader, ImageVerifier, Observer, Stated, VerifyPolicy},
    release::{DetachedSignature, Vouched},
};

use crate::{
    checksums::{Checksums, MAX_CHECKSUMS, Named},
    digest::{self, ContentDigests, ContentWithTail},
    error::{Refusal, VerifyError},
    keylist::KeyList,
    keyring::{self, Keyring},
    moment::Moment,
    policy::{self, Assurance, Finding, Found, Holder, Required},
    trailer::{MAX_TRAILER, Manifest, Trailer},
    x509::{Authority, X509Policy},
};

mod parsed;

use parsed::{Parsed, Statement, digests};

/// The longest signature file that is looked at, in bytes. Source: `ota_core::ports::ImageStore::signatures`.
pub const MAX_SIGNATURE: usize = 64 * 1024;

/// More signature files for one image than this are refused.
pub const MAX_SIGNATURES: usize = 16;

/// Gives the latest time that was ever seen in signed metadata, if one is stored.
pub type StoredFloor = Arc<dyn Fn() -> Option<Timestamp> + Send + Sync>;

/// How strict this device is.
#[derive(Clone)]
pub struct VerifyConfig {
    /// Wall clock; a floor beneath it keeps a wrong one from reviving what has expired.
    pub clock: Arc<dyn Clock>,
    /// When this program was built: the first floor.
    pub build_time: Timestamp,
    /// The second floor, asked at each use.
    pub stored_floor: StoredFloor,
    /// How many distinct keys must sign.
    pub threshold: NonZeroU32,
    /// Whether keys in `development/` count.
    pub development_keys: bool,
    /// What is asked of X.509 chains.
    pub x509: X509Policy,
    /// Model of this device. Where it is set, the manifest of a one-file image must name it.
    pub model: Option<String>,
}

impl VerifyConfig {
    /// The strict defaults: one release key, `codeSigning` required, no stored floor.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, build_time: Timestamp) -> Self {
        Self {
            clock,
            build_time,
            stored_floor: Arc::new(|| None),
            threshold: NonZeroU32::MIN,
            development_keys: false,
            x509: X509Policy::default(),
            model: None,
        }
    }

    /// The time that validity is judged at now.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment::latest(
            self.clock.wall(),
            self.clock.wall_is_trusted(),
            self.build_time,
            (self.stored_floor)(),
        )
    }
}

impl fmt::Debug for VerifyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyConfig")
            .field("build_time", &self.build_time)
            .field("threshold", &self.threshold)
            .field("development_keys", &self.development_keys)
            .field("x509", &self.x509)
            .finish_non_exhaustive()
    }
}

/// What is known of an image that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who vouches for which bytes. Of a one-file image these are the bytes in front of the trailer: what is written to
    /// the slot, and no more.
    pub vouched: Vouched,
    /// What a one-file image says about itself.
    pub manifest: Option<Manifest>,
}

/// A checksum file that names an image.
#[derive(Clone, Copy, Debug)]
pub struct SumsFile<'a> {
    /// The file, `SHA256SUMS` or `SHA512SUMS`.
    pub text: &'a [u8],
    /// Signatures over the file; without any it shows integrity only.
    pub signatures: &'a [DetachedSignature],
    /// Name of the image in it.
    pub name: &'a str,
}

/// Checks images against a keyring.
#[derive(Debug)]
pub struct KeyringVerifier {
    keyring: Keyring,
    config: VerifyConfig,
    key_list: KeyList,
}

impl KeyringVerifier {
    /// With keys that were loaded before.
    #[must_use]
    pub fn new(keyring: Keyring, config: VerifyConfig) -> Self {
        Self { keyring, config, key_list: KeyList::default() }
    }

    /// With the keys retired that `list` retires; see [`KeyringVerifier::accept_key_list`].
    #[must_use]
    pub fn with_key_list(self, list: KeyList) -> Self {
        Self { key_list: list, ..self }
    }

    /// The keys it trusts.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// How strict it is.
    #[must_use]
    pub const fn config(&self) -> &VerifyConfig {
        &self.config
    }

    /// Reads a signed key list that may replace the one with the number `floor`.
    ///
    /// It must be signed by as many release keys as an image, also where unsigned images pass; neither keys that an
    /// earlier list retired nor those that it retires itself count.
    ///
    /// # Errors
    /// `SignatureInvalid` (OTA_006) at the port: form, signatures, `MetadataRollback`, `MetadataExpired`.
    pub fn accept_key_list(
        &self,
        text: &[u8],
        signatures: &[DetachedSignature],
        floor: u64,
    ) -> Result<KeyList, Refusal> {
        let list = KeyList::parse(text)?;
        let retired = self.key_list.retired().union(list.retired()).cloned().collect();
        let required = Required {
            signature: true,
            threshold: self.config.threshold,
            development_keys: false,
            retired: &retired,
        };
        let parsed = Parsed::all(signatures)?;
        self.judge(&ContentDigests::of(text, digests(&parsed)), &parsed, required)?;
        list.check(floor.max(self.key_list.serial()), self.config.moment())?;
        Ok(list)
    }

    /// The same from a file, with its signatures beside it (`.sig`, `.asc`, `.p7s`); `None` where there is no file.
    ///
    /// # Errors
    /// As [`KeyringVerifier::accept_key_list`], with the name of the file as the source of what cannot be read.
    pub fn load_key_list(&self, path: &std::path::Path, floor: u64) -> Result<Option<KeyList>, VerifyError> {
        if !path.exists() {
            return Ok(None);
        }
        let signatures = keyring::signatures_beside(path)?;
        self.accept_key_list(&keyring::read(path)?, &signatures, floor)
            .map(Some)
            .map_err(|refusal| VerifyError::content(path, refusal.to_string()))
    }

    /// Checks `signatures` over content that lies in memory: manifests, checksum files.
    ///
    /// # Errors
    /// The refusal, `SignatureInvalid` (OTA_006) at the port.
    pub fn verify_bytes(
        &self,
        content: &[u8],
        signatures: &[DetachedSignature],
        policy: VerifyPolicy,
    ) -> Result<Vouched, Refusal> {
        let parsed = Parsed::all(signatures)?;
        self.judge(&ContentDigests::of(content, digests(&parsed)), &parsed, self.required(policy))
    }

    /// Checks an image by its detached `signatures` or, where there are none, by the trailer at its end.
    ///
    /// # Errors
    /// As the port; also `InvalidImage` (OTA_005) for a one-file image of another model.
    pub fn verify_image(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        signatures: &[DetachedSignature],
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<Verdict, PortError> {
        if signatures.is_empty() {
            let read = digest::read_expected_with_tail(image, expect, MAX_TRAILER, observer)?;
            if let Some((trailer, image_len)) = Trailer::decode(&read.tail, expect.size.get())? {
                return self.verify_one_file(&read, &trailer, image_len, policy);
            }
            let vouched = self.judge(&read.content, &[], self.required(policy))?;
            return Ok(Verdict { vouched, manifest: None });
        }
        let parsed = Parsed::all(signatures)?;
        let content = digest::read_expected(image, expect, digests(&parsed), observer)?;
        let vouched = self.judge(&content, &parsed, self.required(policy))?;
        Ok(Verdict { vouched, manifest: None })
    }

    /// Checks an image by a checksum file, and the checksum file by its signatures.
    ///
    /// # Errors
    /// As the port; also `InvalidImage` (OTA_005) when the file is no checksum file or does not name the image.
    pub fn verify_with_sums(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        sums: SumsFile<'_>,
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<Vouched, PortError> {
        if sums.text.len() > MAX_CHECKSUMS {
            return Err(invalid(format!("the checksum file is longer than {MAX_CHECKSUMS} bytes")));
        }
        let signers = self.verify_bytes(sums.text, sums.signatures, policy)?.signers;
        let list = Checksums::parse(sums.text).map_err(|error| invalid(error.to_string()))?;
        let promised = list
            .digest_of(sums.name)
            .ok_or_else(|| invalid(format!("the checksum file does not name {}", sums.name)))?;
        let content = digest::read_expected(image, expect, [list.kind()], observer)?;
        let found = content.get(list.kind()).unwrap_or_default();
        if found != promised {
            let (expected, actual) = (Named(list.kind(), promised), Named(list.kind(), &found));
            let (expected, actual) = (expected.to_string(), actual.to_string());
            return Err(OtaError::ChecksumMismatch { expected, actual }.into());
        }
        Ok(Vouched { sha256: content.sha256, size: content.size, signers })
    }

    /// The signatures first; only then is the manifest read, and only then does the image count by what it says.
    fn verify_one_file(
        &self,
        read: &ContentWithTail,
        trailer: &Trailer,
        image_len: u64,
        policy: VerifyPolicy,
    ) -> Result<Verdict, PortError> {
        let signers = self.verify_bytes(&trailer.manifest, &trailer.signatures, policy)?.signers;
        let manifest = Manifest::decode(&trailer.manifest)?;
        let image =
            read.first(image_len).ok_or_else(|| Refusal::malformed("the trailer is longer than the file"))?;
        if image.size != manifest.size {
            let (expected, actual) = (manifest.size.to_string(), image.size.to_string());
            return Err(OtaError::ChecksumMismatch { expected, actual }.into());
        }
        if image.sha256 != manifest.sha256 {
            return Err(OtaError::digest_mismatch(&manifest.sha256, &image.sha256).into());
        }
        if let Some(model) = &self.config.model {
            manifest.check_model(model).map_err(PortErrorKind::Ota)?;
        }
        let vouched = Vouched { sha256: image.sha256, size: image.size, signers };
        Ok(Verdict { vouched, manifest: Some(manifest) })
    }

    fn required(&self, policy: VerifyPolicy) -> Required<'_> {
        Required {
            signature: policy.require_signature,
            threshold: self.config.threshold,
            development_keys: self.config.development_keys,
            retired: self.key_list.retired(),
        }
    }

    /// What the signatures that were taken apart say about content whose digests are known.
    fn judge(
        &self,
        content: &ContentDigests,
        parsed: &[Parsed],
        required: Required<'_>,
    ) -> Result<Vouched, Refusal> {
        let moment = self.config.moment();
        let mut findings: Vec<Finding> = Vec::new();
        for parsed in parsed {
            if findings.last().is_none_or(|finding| finding.outcome.is_ok()) {
                findings.extend(self.findings(parsed, content, moment));
            }
        }
        let verdict =
            policy::judge(&Found { size: content.size, sha256: content.sha256, findings }, required);
        match &verdict {
            Ok(vouched) => {
                tracing::info!(sha256 = %vouched.sha256, signers = ?vouched.signers, %moment, "accepted")
            }
            Err(refusal) => {
                tracing::warn!(reason = refusal.reason.as_str(), what = %refusal, %moment, "refused")
            }
        }
        verdict
    }

    fn findings(&self, parsed: &Parsed, content: &ContentDigests, moment: Moment) -> Vec<Finding> {
        let outcomes: Vec<Result<Holder, Refusal>> = match &parsed.statement {
            Err(refusal) => vec![Err(refusal.clone())],
            Ok(Statement::Cms(statement)) => statement.check(content, self.authority(moment)),
            Ok(Statement::Openpgp(statement)) => statement.check(content, &self.keyring.openpgp, moment),
        };
        let several = parsed.statement.as_ref().is_ok_and(|statement| statement.signers() > 1);
        let origin = |index: usize| match several {
            true => format!("{}, signer {}", parsed.origin, index + 1),
            false => parsed.origin.clone(),
        };
        outcomes
            .into_iter()
            .enumerate()
            .map(|(index, outcome)| Finding { origin: origin(index), outcome })
            .collect()
    }

    fn authority(&self, moment: Moment) -> Authority<'_> {
        Authority {
            anchors: &self.keyring.anchors,
            crls: &self.keyring.crls,
            policy: self.config.x509,
            moment,
        }
    }
}

impl ImageVerifier for KeyringVerifier {
    fn verify(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        signatures: &[DetachedSignature],
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<Vouched, PortError> {
        self.verify_image(image, expect, signatures, policy, observer).map(|verdict| verdict.vouched)
    }

    fn verify_stated(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        signatures: &[DetachedSignature],
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<(Vouched, Option<Stated>), PortError> {
        let Verdict { vouched, manifest } = self.verify_image(image, expect, signatures, policy, observer)?;
        // Without a signature a manifest is a claim by nobody.
        let manifest = manifest.filter(|_| policy::assurance(&vouched) == Assurance::Authenticity);
        let stated = manifest.map(|manifest| Stated { version: manifest.version, kind: manifest.kind.0 });
        Ok((vouched, stated))
    }
}

fn invalid(what: String) -> PortError {
    OtaError::InvalidImage { what }.into()
}
