//! `ota-admin verify`: a device's verdict, without a device. The same code decides: `ota-verify`, then `ota-image`.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use ota_core::{
    ByteCount, OtaError, Timestamp,
    error::{PortError, PortErrorKind},
    ports::{Clock, Flow, Front, ImageFacts, ImageInspector as _, VerifyPolicy},
    release::{ChecksumFile, DetachedSignature, Evidence, SignatureKind},
};
use ota_image::{ArchivePolicy, PackedInspector};
use ota_verify::{
    EkuPolicy, HeadInspector, Keyring, KeyringVerifier, Verdict, VerifyConfig, X509Policy,
    keyring::signatures_beside, policy,
};
use serde_json::{Value, json};

use super::{Context, file};
use crate::{exit::Failure, output::facts};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Image file.
    pub(crate) file: PathBuf,
    /// Folder of the keys that the device trusts.
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: PathBuf,
    /// Detached signature (.p7s, .sig, .asc); those beside the image when none is given.
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Vec<PathBuf>,
    /// Checksum file (SHA256SUMS, SHA512SUMS) that names the image; signatures beside it are looked at.
    #[arg(long, value_name = "FILE")]
    pub(crate) checksums: Option<PathBuf>,
    /// Signed key list of the device.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_list: Option<PathBuf>,
    /// Model of the device; a one-file image must be made for it.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// How many distinct keys must have signed.
    #[arg(long, default_value = "1")]
    pub(crate) threshold: NonZeroU32,
    /// The device takes development keys.
    #[arg(long)]
    pub(crate) development_keys: bool,
    /// What the device asks of a signer's certificate.
    #[arg(long, value_enum, value_name = "USAGE", default_value = "code-signing")]
    pub(crate) extended_key_usage: Purpose,
    /// The device requires a revocation list of every CA.
    #[arg(long)]
    pub(crate) require_crl: bool,
    /// The device takes unsigned images.
    #[arg(long)]
    pub(crate) allow_unsigned: bool,
    /// Bytes that a slot of the device holds.
    #[arg(long, value_name = "BYTES")]
    pub(crate) slot_size: Option<u64>,
    /// The device makes the device nodes of archives.
    #[arg(long)]
    pub(crate) device_nodes: bool,
}

/// `verify.extended_key_usage` of the device, as it is typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Purpose {
    CodeSigning,
    CodeSigningIfPresent,
    Any,
}

impl From<Purpose> for EkuPolicy {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::CodeSigning => Self::CodeSigning,
            Purpose::CodeSigningIfPresent => Self::CodeSigningIfPresent,
            Purpose::Any => Self::Any,
        }
    }
}

/// The machine's clock, as it was when the program was started.
struct At(Timestamp);

impl Clock for At {
    fn wall(&self) -> Timestamp {
        self.0
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn wall_is_trusted(&self) -> bool {
        true
    }
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let refusal = match judge(&args, context.now)? {
        Ok((verdict, found)) => return context.out.show(&accepted(&args, &verdict, &found), table),
        Err(refusal) => refusal,
    };
    let document = json!({
        "verdict": "refused", "image": args.file, "code": refusal.code().to_string(), "message": refusal.to_string(),
        "reason": match &refusal { OtaError::SignatureInvalid { reason, .. } => Some(reason.as_str()), _ => None },
    });
    context.out.show(&document, table)?;
    Err(Failure::Verdict(refusal))
}

/// The outer result is about this machine, the inner one is the verdict.
fn judge(args: &Args, now: Timestamp) -> anyhow::Result<Result<(Verdict, ImageFacts), OtaError>> {
    let verifier = verifier(args, now)?;
    let evidence = Evidence { signatures: signatures(args)?, checksums: checksums(args)? };
    let expect = file::measure(&args.file)?;
    let policy = VerifyPolicy { require_signature: !args.allow_unsigned };
    let mut image = file::FileReader::open(&args.file)?;
    let mut go_on = |_| Flow::Continue;
    let verified = verifier.verify_image(&mut image, expect, &evidence, policy, &mut go_on);
    let verdict = match condition(verified)? {
        Ok(verdict) => verdict,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let fits = look(args, &verdict);
    Ok(condition(fits)?.map(|facts| (verdict, facts)))
}

/// The format, as the device looks at it once the signature holds.
fn look(args: &Args, verdict: &Verdict) -> Result<ImageFacts, PortError> {
    let local = |error: anyhow::Error| PortError::from(PortErrorKind::Io(format!("{error:#}")));
    let vouched = &verdict.vouched;
    let capacity = ByteCount(args.slot_size.unwrap_or(u64::MAX));
    let archives = ArchivePolicy { device_nodes: args.device_nodes, capacity };
    let inspector = PackedInspector::new(Arc::new(HeadInspector), archives);
    let head = file::head(&args.file, inspector.head_len()).map_err(local)?;
    let mut facts = inspector.inspect(vouched, &head)?;
    if facts.packing.is_some() {
        let reader = file::FileReader::open(&args.file).map_err(local)?;
        let mut image = Front::new(reader, vouched.size);
        let signed = verdict.manifest.as_ref().and_then(|manifest| manifest.unpacked_size);
        facts = inspector.look_inside(facts, vouched, &mut image, signed, &mut |_| Flow::Continue)?;
    }
    let required = facts.unpacked.as_ref().map_or(vouched.size, |unpacked| unpacked.space);
    if required > capacity {
        let place = "the slot".into();
        return Err(OtaError::InsufficientSpace { place, required, available: capacity }.into());
    }
    Ok(facts)
}

fn verifier(args: &Args, now: Timestamp) -> anyhow::Result<KeyringVerifier> {
    let mut config = VerifyConfig::new(Arc::new(At(now)), Timestamp::from_secs(0));
    config.threshold = args.threshold;
    config.development_keys = args.development_keys;
    config.model.clone_from(&args.model);
    config.x509 =
        X509Policy { extended_key_usage: args.extended_key_usage.into(), require_crl: args.require_crl };
    let verifier = KeyringVerifier::new(Keyring::load(&args.keys)?, config);
    let Some(path) = &args.key_list else { return Ok(verifier) };
    let list = verifier.load_key_list(path, 0)?;
    let list = list.with_context(|| format!("{} is not there", path.display()))?;
    Ok(verifier.with_key_list(list))
}

fn signatures(args: &Args) -> anyhow::Result<Vec<DetachedSignature>> {
    if args.signature.is_empty() {
        return Ok(signatures_beside(&args.file)?);
    }
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let cms = path.extension().is_some_and(|extension| extension == "p7s");
        Ok(DetachedSignature { kind: if cms { SignatureKind::Cms } else { SignatureKind::Openpgp }, bytes })
    };
    args.signature.iter().map(read).collect()
}

/// As it comes with an upload: the image goes by its file name.
fn checksums(args: &Args) -> anyhow::Result<Option<ChecksumFile>> {
    let Some(path) = &args.checksums else { return Ok(None) };
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(ChecksumFile { text, signatures: signatures_beside(path)?, name }))
}

/// Tells what a device says of an image from what goes wrong on this machine.
fn condition<T>(result: Result<T, PortError>) -> anyhow::Result<Result<T, OtaError>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => match error.kind() {
            PortErrorKind::Ota(condition) => Ok(Err(condition.clone())),
            _ => Err(anyhow::anyhow!(error.chain())),
        },
    }
}

fn accepted(args: &Args, verdict: &Verdict, found: &ImageFacts) -> Value {
    let Verdict { vouched, manifest } = verdict;
    let assurance = match policy::assurance(vouched) {
        policy::Assurance::Authenticity => "authenticity",
        policy::Assurance::Integrity => "integrity only: nobody signed it",
    };
    json!({
        "verdict": "accepted", "image": args.file, "assurance": assurance,
        "signers": vouched.signers, "size": vouched.size, "sha256": vouched.sha256.to_string(),
        "format": found.format, "partition_layout": found.partition_layout,
        "unpacked_size": found.unpacked.as_ref().map(|unpacked| unpacked.size),
        "unpacked_sha256": found.unpacked.as_ref().map(|unpacked| unpacked.sha256.to_string()),
        "version": manifest.as_ref().map(|manifest| manifest.version.to_string()),
        "models": manifest.as_ref().map(|manifest| manifest.models.clone()),
    })
}

/// A line for each field that has something to say.
pub(super) fn table(document: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields = document.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    facts(fields.map(|(name, value)| (name.as_str(), text(value))))
}
