//! The keys that this device trusts: loading them with the list that retires some, showing them, checking them.

mod standing;

use std::{fmt::Write as _, sync::Arc};

use anyhow::{Context as _, ensure};
use ota_core::{
    error::{PortError, PortErrorKind},
    ports::{Clock, Settings},
};
use ota_verify::{EkuPolicy, Keyring, KeyringVerifier, VerifyConfig, X509Policy};
use standing::{Rows, rows};

use crate::{
    config::{Config, Purpose},
    wire,
};

/// Number of the newest key list that was ever accepted.
const SERIAL: &str = "keys.list_serial";

/// The verifier that every image goes through.
///
/// Where a key list was accepted once, there has to be one that is at least as new: without it nothing is trusted, so that
/// taking the list away brings no retired key back.
pub(crate) fn open_verifier(
    config: &Config,
    clock: &Arc<dyn Clock>,
    settings: &Arc<dyn Settings>,
) -> anyhow::Result<KeyringVerifier> {
    let verifier = KeyringVerifier::new(load(config)?, strict(config, clock, settings));
    let floor = serial(&**settings)?;
    match list_of(config, &verifier, floor) {
        Ok(None) if floor == 0 => Ok(verifier),
        Ok(Some(list)) => {
            match note(&**settings, &list, floor) {
                // In a run that changes nothing it counts all the same: it takes keys away, and the next start notes it.
                Err(error) if writes_nothing(&error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the number of the key list is not recorded"
                    );
                }
                noted => noted?,
            }
            tracing::info!(serial = list.serial(), retired = list.retired().len(), "key list accepted");
            Ok(verifier.with_key_list(list))
        }
        unusable => {
            let why = unusable.map_or_else(|error| format!("{error:#}"), |_| "it is not there".into());
            tracing::error!(floor, why, "no usable key list: no key is trusted until there is one");
            Ok(KeyringVerifier::new(Keyring::default(), strict(config, clock, settings)))
        }
    }
}

/// From now on no older list is accepted.
fn note(settings: &dyn Settings, list: &ota_verify::KeyList, floor: u64) -> anyhow::Result<()> {
    if list.serial() > floor {
        settings.set_value(SERIAL, Some(&list.serial().to_string()))?;
    }
    wire::raise_clock_floor(settings, list.issued())
}

/// Whether the store takes no writes in all of this run, unlike one that only failed just now.
fn writes_nothing(error: &anyhow::Error) -> bool {
    let port = error.chain().find_map(|cause| cause.downcast_ref::<PortError>());
    port.is_some_and(|error| matches!(error.kind(), PortErrorKind::Unavailable { .. }))
}

fn load(config: &Config) -> anyhow::Result<Keyring> {
    let keyring = Keyring::load(&config.verify.keys)?;
    if keyring.is_empty() {
        tracing::warn!(folder = %config.verify.keys.display(), "no trusted keys: every signature will be refused");
    }
    Ok(keyring)
}

fn strict(config: &Config, clock: &Arc<dyn Clock>, settings: &Arc<dyn Settings>) -> VerifyConfig {
    let mut strict = VerifyConfig::new(Arc::clone(clock), wire::built());
    let settings = Arc::clone(settings);
    strict.stored_floor = Arc::new(move || wire::stored_floor(&*settings));
    strict.threshold = config.verify.threshold.try_into().unwrap_or(std::num::NonZeroU32::MIN);
    strict.development_keys = config.verify.development_keys;
    let extended_key_usage = match config.verify.extended_key_usage {
        Purpose::CodeSigning => EkuPolicy::CodeSigning,
        Purpose::CodeSigningIfPresent => EkuPolicy::CodeSigningIfPresent,
        Purpose::Any => EkuPolicy::Any,
    };
    strict.x509 = X509Policy { extended_key_usage, require_crl: config.verify.require_crl };
    strict.model = Some(config.gateway.model.clone());
    strict
}

/// 0 where none was ever accepted. A store that does not read is not the same: it may know of retired keys.
fn serial(settings: &dyn Settings) -> anyhow::Result<u64> {
    let known = settings.value(SERIAL).context("reading which key list was accepted")?;
    known.map_or(Ok(0), |text| text.parse().with_context(|| format!("{SERIAL} is {text:?}, no number")))
}

fn list_of(
    config: &Config,
    verifier: &KeyringVerifier,
    floor: u64,
) -> anyhow::Result<Option<ota_verify::KeyList>> {
    let Some(path) = &config.verify.key_list else { return Ok(None) };
    Ok(verifier.load_key_list(path, floor)?)
}

/// Every key and revocation list of the device, a line each, with how it stands.
pub(crate) fn list(config: &Config, settings: &Arc<dyn Settings>) -> anyhow::Result<String> {
    let Rows { keys, crls, moment, list } = rows(config, settings)?;
    let mut text = String::new();
    for row in keys.iter().chain(&crls) {
        let state = row.state.as_ref().unwrap_or_else(|why| why);
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{}  {}  {}  {}  {state}  {}",
            row.role, row.kind, row.fingerprint, row.name, row.file
        );
    }
    let list = match list {
        Ok(None) => "none".into(),
        Ok(Some(serial)) => format!("number {serial}"),
        Err(why) => why,
    };
    let _ = writeln!(text, "key list: {list}\njudged at: {moment}");
    Ok(text)
}

/// What is wrong with the keys as an error; one sentence when images can be verified with them.
pub(crate) fn check(config: &Config, settings: &Arc<dyn Settings>) -> anyhow::Result<String> {
    let Rows { keys, crls, list, .. } = rows(config, settings)?;
    if let Err(why) = list {
        anyhow::bail!("the key list: {why}; until there is a good one, no key is trusted");
    }
    let good = keys.iter().filter(|row| row.state.is_ok()).count();
    let bad: Vec<String> = keys
        .iter()
        .chain(&crls)
        .filter_map(|row| Some(format!("{} ({}): {}", row.name, row.file, row.state.as_ref().err()?)))
        .collect();
    let threshold = usize::try_from(config.verify.threshold).unwrap_or(usize::MAX);
    // Below one authority there are as many signers as it likes; OpenPGP keys sign themselves.
    let signers = keys.iter().any(|row| row.state.is_ok() && row.kind == "x509");
    ensure!(
        good >= threshold || (signers && good > 0),
        "{good} usable key(s), {threshold} must sign: {}",
        if bad.is_empty() { "the folder is empty".to_owned() } else { bad.join("; ") }
    );
    ensure!(bad.is_empty(), "{good} key(s) are good, {} are not: {}", bad.len(), bad.join("; "));
    Ok(format!("{good} key(s) are good"))
}

/// The settings of the device's store, for commands beside the daemon.
pub(crate) fn settings(config: &Config) -> anyhow::Result<Arc<dyn Settings>> {
    Ok(Arc::new(crate::tokens::open(config).context("opening the store")?))
}

#[cfg(test)]
mod tests;
