//! The port's adapter: takes the signature files apart, streams the image once, checks, and lets the policy decide.

use std::{fmt, num::NonZeroU32, sync::Arc};

use ota_core::{
    ByteCount, OtaError, Timestamp,
    error::{PortError, PortErrorKind},
    ports::{Clock, FileEnd, ImageExpectation, ImageReader, ImageVerifier, Observer, Stated, VerifyPolicy},
    release::{Assurance, ChecksumFile, DetachedSignature, Evidence, Vouched},
};

use crate::{
    blocks::Blocks,
    checksums::{MAX_CHECKSUMS, Sums},
    digest::{self, ContentDigests, ContentWithTail, Expected, HashKind},
    error::{Refusal, VerifyError},
    keylist::KeyList,
    keyring::{self, Keyring},
    moment::Moment,
    policy::{self, Finding, Found, Holder, Required},
    trailer::{MAX_TRAILER, Manifest, Trailer},
    x509::{Authority, X509Policy},
};

mod mark;
mod parsed;

use parsed::{Parsed, Statement, digests};

/// The longest signature file that is looked at, in bytes. Source: `ota_core::ports::ImageStore::signatures`.
pub const MAX_SIGNATURE: usize = 64 * 1024;

/// More signature files for one image than this are refused.
pub const MAX_SIGNATURES: usize = 16;

/// Where the rest of what came with an image decides whether there are enough signatures.
const ANY: VerifyPolicy = VerifyPolicy { require_signature: false };

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

impl Verdict {
    /// What the image states of itself under a signature; without one a manifest is a claim by nobody.
    #[must_use]
    pub fn stated(&self) -> Option<Stated> {
        let manifest = self.manifest.as_ref();
        let signed = manifest.filter(|_| self.vouched.assurance() == Assurance::Authenticity);
        signed.map(|manifest| Stated {
            version: manifest.version.clone(),
            kind: manifest.kind.0,
            unpacked_size: manifest.unpacked_size,
        })
    }
}

/// Checks images against a keyring.
#[derive(Debug)]
pub struct KeyringVerifier {
    keyring: Keyring,
    config: VerifyConfig,
    key_list: KeyList,
    /// See [`ImageVerifier::trust`].
    trust: String,
}

impl KeyringVerifier {
    /// With keys that were loaded before.
    #[must_use]
    pub fn new(keyring: Keyring, config: VerifyConfig) -> Self {
        Self::with(keyring, config, KeyList::default())
    }

    fn with(keyring: Keyring, config: VerifyConfig, key_list: KeyList) -> Self {
        let trust = mark::of(&keyring, &config, &key_list);
        Self { keyring, config, key_list, trust }
    }

    /// With the keys retired that `list` retires; see [`KeyringVerifier::accept_key_list`].
    #[must_use]
    pub fn with_key_list(self, list: KeyList) -> Self {
        Self::with(self.keyring, self.config, list)
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
        self.judge_bytes(text, signatures, required)?;
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
        self.judge_bytes(content, signatures, self.required(policy))
    }

    fn judge_bytes(
        &self,
        content: &[u8],
        signatures: &[DetachedSignature],
        required: Required<'_>,
    ) -> Result<Vouched, Refusal> {
        let parsed = Parsed::all(signatures)?;
        let content = ContentDigests::of(content, digests(&parsed));
        let mut findings = Vec::new();
        self.collect(&content, &parsed, &mut findings);
        self.judge(&content, findings, false, required)
    }

    /// Checks an image by what came with it, and by the trailer at its end where it has one. All that is there must hold: detached
    /// signatures, the checksum file and its signatures, the trailer's signatures. The image is read once; whoever does not know
    /// its digest before need not read it for that.
    ///
    /// # Errors
    /// As the port; also `InvalidImage` (OTA_005) for a one-file image of another model, and for a checksum file that is none or
    /// does not name the image.
    pub fn verify_image(
        &self,
        image: &mut dyn ImageReader,
        expect: impl Into<Expected>,
        evidence: &Evidence,
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<Verdict, PortError> {
        let expect: Expected = expect.into();
        self.verify_read(expect.size, evidence, policy, |kinds| {
            digest::read_expected_with_tail(image, expect, kinds, MAX_TRAILER, observer)
        })
    }

    /// The same of an image that `read` reads: with the digests that it is asked for, and its last [`MAX_TRAILER`] bytes.
    pub(crate) fn verify_read(
        &self,
        length: ByteCount,
        evidence: &Evidence,
        policy: VerifyPolicy,
        read: impl FnOnce(Vec<HashKind>) -> Result<ContentWithTail, PortError>,
    ) -> Result<Verdict, PortError> {
        let required = self.required(policy);
        let parsed = Parsed::all(&evidence.signatures)?;
        let (sums, mut findings) = match &evidence.checksums {
            Some(file) => self.read_sums(file).map(|(sums, findings)| (Some(sums), findings))?,
            None => (None, Vec::new()),
        };
        let kinds = digests(&parsed).into_iter().chain(sums.as_ref().map(Sums::kind));
        let read = read(kinds.collect())?;
        self.collect(&read.content, &parsed, &mut findings);
        if let Some((trailer, image_len)) = Trailer::decode(&read.tail, length.get())? {
            let signed = Parsed::all(&trailer.signatures)?;
            let manifest = ContentDigests::of(&trailer.manifest, digests(&signed));
            self.collect(&manifest, &signed, &mut findings);
            let front = read
                .first(image_len)
                .ok_or_else(|| Refusal::malformed("the trailer is longer than the file"))?;
            let vouched = self.judge(&front, findings, sums.is_some(), required)?;
            sums.map_or(Ok(()), |sums| sums.check(&read.content))?;
            return self.in_one_file(vouched, &trailer);
        }
        let vouched = self.judge(&read.content, findings, sums.is_some(), required)?;
        sums.map_or(Ok(()), |sums| sums.check(&read.content))?;
        Ok(Verdict { vouched, manifest: None })
    }

    /// Reads a checksum file; its signatures first. One that does not hold refuses the image, and nothing of the file is read.
    fn read_sums(&self, file: &ChecksumFile) -> Result<(Sums, Vec<Finding>), PortError> {
        if file.text.len() > MAX_CHECKSUMS {
            return Err(invalid(format!("the checksum file is longer than {MAX_CHECKSUMS} bytes")));
        }
        let parsed = Parsed::all(&file.signatures)?;
        let mut findings = Vec::new();
        let content = ContentDigests::of(&file.text, digests(&parsed));
        self.collect(&content, &parsed, &mut findings);
        for finding in &mut findings {
            finding.origin.insert_str(0, "checksum file, ");
        }
        // Whether they are enough is asked of all that came with the image together.
        let any = Required { signature: false, threshold: NonZeroU32::MIN, ..self.required(ANY) };
        self.judge(&content, findings.clone(), false, any)?;
        Ok((Sums::read(file)?, findings))
    }

    /// The signatures hold; only now is the manifest read, and only now does the image count by what it says.
    fn in_one_file(&self, vouched: Vouched, trailer: &Trailer) -> Result<Verdict, PortError> {
        let manifest = Manifest::decode(&trailer.manifest)?;
        if vouched.size != manifest.size {
            let (expected, actual) = (manifest.size.to_string(), vouched.size.to_string());
            return Err(OtaError::ChecksumMismatch { expected, actual }.into());
        }
        if vouched.sha256 != manifest.sha256 {
            return Err(OtaError::digest_mismatch(&manifest.sha256, &vouched.sha256).into());
        }
        if let Some(model) = &self.config.model {
            manifest.check_model(model).map_err(PortErrorKind::Ota)?;
        }
        Ok(Verdict { vouched, manifest: Some(manifest) })
    }

    /// The manifest of an image that was vouched for, if the file still ends with it and its signatures still hold.
    fn manifest_of(&self, vouched: &Vouched, end: &FileEnd) -> Result<Option<Manifest>, Refusal> {
        let Some((trailer, image_len)) = Trailer::decode(&end.bytes, end.length.get())? else {
            return Ok(None);
        };
        self.verify_bytes(&trailer.manifest, &trailer.signatures, ANY)?;
        let manifest = Manifest::decode(&trailer.manifest)?;
        let same = manifest.sha256 == vouched.sha256 && manifest.size == vouched.size;
        Ok((same && image_len == vouched.size.get()).then_some(manifest))
    }

    fn required(&self, policy: VerifyPolicy) -> Required<'_> {
        Required {
            signature: policy.require_signature,
            threshold: self.config.threshold,
            development_keys: self.config.development_keys,
            retired: self.key_list.retired(),
        }
    }

    /// What the signatures that were taken apart say about content whose digests are known; nothing more after the first that
    /// does not hold.
    fn collect(&self, content: &ContentDigests, parsed: &[Parsed], findings: &mut Vec<Finding>) {
        let moment = self.config.moment();
        for parsed in parsed {
            if findings.last().is_none_or(|finding| finding.outcome.is_ok()) {
                findings.extend(self.findings(parsed, content, moment));
            }
        }
    }

    fn judge(
        &self,
        content: &ContentDigests,
        findings: Vec<Finding>,
        checksummed: bool,
        required: Required<'_>,
    ) -> Result<Vouched, Refusal> {
        let moment = self.config.moment();
        let found = Found { size: content.size, sha256: content.sha256, checksummed, findings };
        let verdict = policy::judge(&found, required);
        let verdict = verdict.map(|vouched| Vouched { trust: self.trust.clone(), ..vouched });
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
        evidence: &Evidence,
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<Vouched, PortError> {
        self.verify_image(image, expect, evidence, policy, observer).map(|verdict| verdict.vouched)
    }

    fn verify_stated(
        &self,
        image: &mut dyn ImageReader,
        expect: ImageExpectation,
        evidence: &Evidence,
        policy: VerifyPolicy,
        observer: Observer<'_>,
    ) -> Result<(Vouched, Option<Stated>), PortError> {
        let verdict = self.verify_image(image, expect, evidence, policy, observer)?;
        let stated = verdict.stated();
        Ok((verdict.vouched, stated))
    }

    fn trust(&self) -> String {
        self.trust.clone()
    }

    fn end_len(&self) -> usize {
        MAX_TRAILER
    }

    fn guarded(&self, image: Box<dyn ImageReader>, vouched: &Vouched, end: &FileEnd) -> Box<dyn ImageReader> {
        match self.manifest_of(vouched, end) {
            Ok(Some(manifest)) => Box::new(Blocks::new(image, manifest)),
            Ok(None) => image,
            Err(refusal) => {
                // The digest of the whole decides in any case.
                tracing::warn!(what = %refusal, "the digests of blocks are not compared");
                image
            }
        }
    }
}

pub(crate) fn invalid(what: String) -> PortError {
    OtaError::InvalidImage { what }.into()
}
