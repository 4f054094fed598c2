//! `ota-admin verify`: a device's verdict, without a device. The same code decides: `ota-verify`, then `ota-image`.

use std::{
    num::NonZeroU32,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use ota_core::{
    ByteCount, OtaError, Timestamp, Version,
    error::{PortError, PortErrorKind},
    ports::{Clock, Flow, Front, ImageFacts, ImageInspector as _, VerifyPolicy},
    release::{Assurance, ChecksumFile, DetachedSignature, Evidence, SignatureKind, refuse_below_floor},
};
use ota_image::{ArchivePolicy, PackedInspector};
use ota_verify::{
    EkuPolicy, HeadInspector, Keyring, KeyringVerifier, Verdict, VerifyConfig, VerifyError, X509Policy,
    digest::Expected, keyring::signatures_beside,
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
    /// Detached signature; may be given several times. When none is given, those beside the image (.p7s, .sig, .asc).
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Vec<PathBuf>,
    /// Checksum file (SHA256SUMS, SHA512SUMS) that names the image; signatures beside it are looked at. IMAGE.sums when
    /// neither this nor a signature is given.
    #[arg(long, value_name = "FILE")]
    pub(crate) checksums: Option<PathBuf>,
    /// Signed key list of the device.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_list: Option<PathBuf>,
    /// Number of the newest key list that the device has accepted, 0 for none: an older list, or none then, leaves no key
    /// that is trusted.
    #[arg(long, value_name = "SERIAL")]
    pub(crate) key_list_serial: Option<u64>,
    /// Latest time that the device knows to be past (its build, its newest key list, its newest good check of an update
    /// source): validity is not judged at an earlier one.
    #[arg(long, value_name = "TIME")]
    pub(crate) time_floor: Option<jiff::Timestamp>,
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
    /// Version label under which it will be uploaded or offered; a one-file image must be signed as that.
    #[arg(long, value_name = "VERSION")]
    pub(crate) release_version: Option<Version>,
    /// Security floor of the device: no version below it is taken.
    #[arg(long, value_name = "VERSION")]
    pub(crate) floor: Option<Version>,
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
    let (verifier, key_list) = verifier(&args, context.now)?;
    let refusal = match judge(&args, &verifier)? {
        Ok((verdict, found)) => {
            let mut document = accepted(&args, &verdict, &found);
            document["key_list"] = json!(key_list);
            return context.out.show(&document, table);
        }
        Err(refusal) => refusal,
    };
    let document = json!({
        "key_list": key_list,
        "verdict": "refused", "image": args.file, "code": refusal.code().to_string(), "message": refusal.to_string(),
        "reason": match &refusal { OtaError::SignatureInvalid { reason, .. } => Some(reason.as_str()), _ => None },
    });
    // The failure says it, too: the verdict counts, whatever becomes of the table.
    let _ = context.out.show(&document, table);
    Err(Failure::Verdict(refusal))
}

/// The outer result is about this machine, the inner one is the verdict.
fn judge(args: &Args, verifier: &KeyringVerifier) -> anyhow::Result<Result<(Verdict, ImageFacts), OtaError>> {
    let evidence = Evidence { signatures: signatures(args)?, checksums: checksums(args)? };
    let length =
        std::fs::metadata(&args.file).with_context(|| format!("reading {}", args.file.display()))?.len();
    let expect = Expected { size: ByteCount(length), sha256: None };
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
    let stated = verdict.stated();
    if let (Some(stated), Some(label)) = (&stated, &args.release_version) {
        stated.check_version(label)?;
    }
    if let Some(version) = version(args, verdict) {
        refuse_below_floor(args.floor.as_ref(), version)?;
    }
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
    stated.map_or(Ok(()), |stated| stated.check_kind(&facts))?;
    let required = facts.unpacked.as_ref().map_or(vouched.size, |unpacked| unpacked.space);
    if required > capacity {
        let place = "the slot".into();
        return Err(OtaError::InsufficientSpace { place, required, available: capacity }.into());
    }
    Ok(facts)
}

/// The version that the image would go by.
fn version<'a>(args: &'a Args, verdict: &'a Verdict) -> Option<&'a Version> {
    args.release_version.as_ref().or_else(|| verdict.manifest.as_ref().map(|manifest| &manifest.version))
}

/// What a device would also look at, and was not asked for here.
fn not_checked(args: &Args, verdict: &Verdict) -> Vec<&'static str> {
    let floor = args.floor.is_none() || version(args, verdict).is_none();
    let (list, serial) = (args.key_list.is_some(), args.key_list_serial.is_some());
    let open = [
        (!list && !serial, "key list"),
        (list && !serial, "key list serial"),
        (args.time_floor.is_none(), "time floor"),
        (args.model.is_none(), "model"),
        (args.release_version.is_none(), "release version"),
        (floor, "floor"),
        (args.slot_size.is_none(), "slot size"),
    ];
    open.into_iter().filter(|(open, _)| *open).map(|(_, what)| what).collect()
}

/// The verifier of the device; and, where its key list cannot be used, why.
fn verifier(args: &Args, now: Timestamp) -> anyhow::Result<(KeyringVerifier, Option<String>)> {
    let floor = Arc::new(AtomicI64::new(args.time_floor.map_or(i64::MIN, jiff::Timestamp::as_millisecond)));
    let stored = Arc::clone(&floor);
    let mut config = VerifyConfig::new(Arc::new(At(now)), Timestamp::from_secs(0));
    config.stored_floor = Arc::new(move || Some(Timestamp::from_millis(stored.load(Ordering::Relaxed))));
    config.threshold = args.threshold;
    config.development_keys = args.development_keys;
    config.model.clone_from(&args.model);
    config.x509 =
        X509Policy { extended_key_usage: args.extended_key_usage.into(), require_crl: args.require_crl };
    let verifier = KeyringVerifier::new(Keyring::load(&args.keys)?, config.clone());
    let accepted = args.key_list_serial.unwrap_or(0);
    let list = match &args.key_list {
        Some(path) if !path.exists() => bail!("{} is not there", path.display()),
        Some(path) => verifier.load_key_list(path, accepted),
        None => Ok(None),
    };
    // As on the device: where a list cannot be used, or one was accepted once and there is none, no key is trusted.
    let without_keys = |why: String| {
        (KeyringVerifier::new(Keyring::default(), config), Some(format!("{why}; no key is trusted")))
    };
    Ok(match list {
        Ok(Some(list)) => {
            floor.fetch_max(list.issued().as_millis(), Ordering::Relaxed);
            (verifier.with_key_list(list), None)
        }
        Ok(None) if accepted == 0 => (verifier, None),
        Ok(None) => without_keys(format!("key list {accepted} was accepted once, and now there is none")),
        Err(refused @ (VerifyError::Content { .. } | VerifyError::TooLarge { .. })) => {
            without_keys(refused.to_string())
        }
        Err(error) => return Err(error.into()),
    })
}

fn signatures(args: &Args) -> anyhow::Result<Vec<DetachedSignature>> {
    if args.signature.is_empty() {
        return Ok(signatures_beside(&args.file)?);
    }
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(DetachedSignature { kind: SignatureKind::of(&bytes), bytes })
    };
    args.signature.iter().map(read).collect()
}

/// As it comes with an upload: the image goes by its file name.
fn checksums(args: &Args) -> anyhow::Result<Option<ChecksumFile>> {
    let mut beside = args.file.as_os_str().to_owned();
    beside.push(".sums");
    let beside = Some(PathBuf::from(beside)).filter(|path| args.signature.is_empty() && path.exists());
    let Some(path) = &args.checksums.clone().or(beside) else { return Ok(None) };
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
    let assurance = match vouched.assurance() {
        Assurance::Authenticity => "authenticity",
        Assurance::Integrity => "integrity only: nobody signed it",
        Assurance::Nothing => "none: nobody signed it, and no checksum file names it",
    };
    json!({
        "verdict": "accepted", "image": args.file, "assurance": assurance,
        "signers": vouched.signers, "size": vouched.size, "sha256": vouched.sha256.to_string(),
        "format": found.format, "partition_layout": found.partition_layout,
        "unpacked_size": found.unpacked.as_ref().map(|unpacked| unpacked.size),
        "unpacked_sha256": found.unpacked.as_ref().map(|unpacked| unpacked.sha256.to_string()),
        "version": manifest.as_ref().map(|manifest| manifest.version.to_string()),
        "models": manifest.as_ref().map(|manifest| manifest.models.clone()),
        "not_checked": not_checked(args, verdict),
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
