//! The port's adapter: takes the signature files apart, streams the image once, checks, and lets the policy decide.

use std::{fmt, num::NonZeroU32, sync::Arc};

use ota_core::{
    Timestamp,
    error::{PortError, SignatureFault},
    ports::{Clock, ImageExpectation, ImageReader, ImageVerifier, Observer, VerifyPolicy},
    release::{DetachedSignature, SignatureKind, Vouched},
};

use crate::{
    digest::{self, ContentDigests, HashKind},
    error::Refusal,
    keyring::Keyring,
    moment::Moment,
    openpgp,
    policy::{self, Finding, Found, Holder, Required},
    x509::{self, Authority, X509Policy},
};

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

/// Checks images against a keyring.
#[derive(Debug)]
pub struct KeyringVerifier {
    keyring: Keyring,
    config: VerifyConfig,
}

impl KeyringVerifier {
    /// With keys that were loaded before.
    #[must_use]
    pub const fn new(keyring: Keyring, config: VerifyConfig) -> Self {
        Self { keyring, config }
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

    /// Checks `signatures` over content that lies in memory: manifests, checksum files, key lists.
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
        self.conclude(&ContentDigests::of(content, digests(&parsed)), &parsed, policy)
    }

    /// What the signatures that were taken apart say about content whose digests are known.
    fn conclude(
        &self,
        content: &ContentDigests,
        parsed: &[Parsed],
        policy: VerifyPolicy,
    ) -> Result<Vouched, Refusal> {
        let moment = self.config.moment();
        let findings = parsed.iter().flat_map(|parsed| self.findings(parsed, content, moment)).collect();
        let required = Required {
            signature: policy.require_signature,
            threshold: self.config.threshold,
            development_keys: self.config.development_keys,
        };
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
        let several = outcomes.len() > 1;
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
        let parsed = Parsed::all(signatures)?;
        let content = digest::read_expected(image, expect, digests(&parsed), observer)?;
        Ok(self.conclude(&content, &parsed, policy)?)
    }
}

/// A signature file, taken apart.
struct Parsed {
    origin: String,
    statement: Result<Statement, Refusal>,
}

enum Statement {
    Cms(x509::Statement),
    Openpgp(openpgp::Statement),
}

impl Parsed {
    fn all(signatures: &[DetachedSignature]) -> Result<Vec<Self>, Refusal> {
        if signatures.len() > MAX_SIGNATURES {
            let what =
                format!("{} signature files, at most {MAX_SIGNATURES} are looked at", signatures.len());
            return Err(Refusal::malformed(what));
        }
        Ok(signatures.iter().enumerate().map(|(index, signature)| Self::one(index + 1, signature)).collect())
    }

    fn one(number: usize, signature: &DetachedSignature) -> Self {
        let kind = match signature.kind {
            SignatureKind::Cms => "cms",
            SignatureKind::Openpgp => "openpgp",
        };
        let statement = match signature.kind {
            _ if signature.bytes.is_empty() => Err(Refusal::new(SignatureFault::Missing, "is empty")),
            _ if signature.bytes.len() > MAX_SIGNATURE => {
                let what =
                    format!("is {} bytes long, at most {MAX_SIGNATURE} are looked at", signature.bytes.len());
                Err(Refusal::malformed(what))
            }
            SignatureKind::Cms => x509::Statement::parse(&signature.bytes).map(Statement::Cms),
            SignatureKind::Openpgp => openpgp::Statement::parse(&signature.bytes).map(Statement::Openpgp),
        };
        Self { origin: format!("signature {number} ({kind})"), statement }
    }
}

/// Every digest that any of the signatures needs.
fn digests(parsed: &[Parsed]) -> Vec<HashKind> {
    let of = |parsed: &Parsed| match &parsed.statement {
        Ok(Statement::Cms(statement)) => statement.digests().collect::<Vec<_>>(),
        Ok(Statement::Openpgp(statement)) => statement.digests().collect(),
        Err(_) => Vec::new(),
    };
    parsed.iter().flat_map(of).collect()
}
