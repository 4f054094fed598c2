//! Whether a key may sign now: bound by its own signatures, not revoked, not expired, meant for signing, strong enough.

use ota_core::error::SignatureFault;
use pgp::{
    composed::{SignedPublicKey, SignedPublicSubKey},
    packet::{Signature, SignatureType, SignatureVersion},
    types::{Duration, KeyDetails, Tag},
};

use super::{digest, strong_enough};
use crate::{
    error::Refusal,
    moment::{Moment, Utc},
};

/// Whether the primary key may sign at `moment`.
pub(super) fn of_primary(key: &SignedPublicKey, moment: Moment) -> Result<(), Refusal> {
    let statements = primary_is_alive(key, moment)?;
    if !statements.iter().any(|statement| statement.key_flags().sign()) {
        return Err(Refusal::new(SignatureFault::KeyUsage, "the primary key is not meant for signing"));
    }
    strong_enough(&key.primary_key)
}

/// Whether a sub-key may sign at `moment`; its primary key must be alive, too.
pub(super) fn of_subkey(
    key: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    moment: Moment,
) -> Result<(), Refusal> {
    primary_is_alive(key, moment)?;
    not_expired("sub-key", &subkey.key, None, moment)?;
    let primary = &key.primary_key;
    let bound = |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
    let of = |typ| subkey.signatures.iter().filter(move |signature| signature.typ() == Some(typ));
    if of(SignatureType::SubkeyRevocation).any(|signature| bound(&signature)) {
        return Err(revoked("sub-key", &subkey.key));
    }
    let binding =
        newest(of(SignatureType::SubkeyBinding).filter(bound), moment).ok_or_else(|| unbound("sub-key"))?;
    not_expired("sub-key", &subkey.key, binding.key_expiration_time(), moment)?;
    if !binding.key_flags().sign() {
        return Err(Refusal::new(SignatureFault::KeyUsage, "the sub-key is not meant for signing"));
    }
    // The sub-key must say itself that it belongs to this primary key, or anyone could claim a foreign one.
    let back = binding.embedded_signature().filter(|back| counts(back)).ok_or_else(|| unbound("sub-key"))?;
    back.verify_primary_key_binding(&subkey.key, primary).map_err(|_| unbound("sub-key"))?;
    strong_enough(&subkey.key)
}

/// The newest statements that the primary key makes about itself, when it is neither revoked nor expired by any.
fn primary_is_alive(key: &SignedPublicKey, moment: Moment) -> Result<Vec<&Signature>, Refusal> {
    let primary = &key.primary_key;
    not_expired("key", primary, None, moment)?;
    let own = |signature: &&Signature| signature.verify_key(primary).is_ok();
    if key.details.revocation_signatures.iter().any(|signature| own(&signature)) {
        return Err(revoked("key", primary));
    }
    let direct =
        key.details.direct_signatures.iter().filter(|s| s.typ() == Some(SignatureType::Key)).filter(own);
    let mut statements: Vec<&Signature> = newest(direct, moment).into_iter().collect();
    for user in &key.details.users {
        let certifies =
            |signature: &&Signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok();
        let is_revocation = |signature: &&Signature| signature.typ() == Some(SignatureType::CertRevocation);
        if user.signatures.iter().filter(is_revocation).any(|signature| certifies(&signature)) {
            continue;
        }
        statements.extend(newest(user.signatures.iter().filter(certifies), moment));
    }
    if statements.is_empty() {
        return Err(unbound("key"));
    }
    for statement in &statements {
        not_expired("key", primary, statement.key_expiration_time(), moment)?;
    }
    Ok(statements)
}

/// The newest of the signatures that count now.
fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, moment: Moment) -> Option<&'a Signature> {
    let current = |signature: &&Signature| {
        let created = signature.created().map(|created| u64::from(created.as_secs()));
        let lasts = signature.signature_expiration_time().map_or(0, |span| u64::from(span.as_secs()));
        created.is_some_and(|from| from <= moment.secs() && (lasts == 0 || moment.secs() < from + lasts))
    };
    signatures
        .filter(|signature| counts(signature))
        .filter(current)
        .max_by_key(|signature| signature.created())
}

/// Whether a signature inside a key is of a version and with a digest that count.
fn counts(signature: &Signature) -> bool {
    signature.version() == SignatureVersion::V4
        && signature.hash_alg().is_some_and(|hash| digest(hash).is_ok())
}

fn not_expired(
    what: &str,
    key: &impl KeyDetails,
    lifetime: Option<Duration>,
    moment: Moment,
) -> Result<(), Refusal> {
    let created = u64::from(key.created_at().as_secs());
    if created > moment.secs() {
        let text = format!("the {what} is of {}, it is {moment}", Utc(created));
        return Err(Refusal::new(SignatureFault::NotYetValid, text));
    }
    match lifetime.map(|span| u64::from(span.as_secs())).filter(|span| *span > 0) {
        Some(span) if moment.secs() >= created + span => {
            let text = format!("the {what} expired at {}, it is {moment}", Utc(created + span));
            Err(Refusal::new(SignatureFault::Expired, text))
        }
        _ => Ok(()),
    }
}

fn revoked(what: &str, key: &impl KeyDetails) -> Refusal {
    Refusal::new(SignatureFault::Revoked, format!("the {what} {} was revoked", key.fingerprint()))
}

fn unbound(what: &str) -> Refusal {
    let text = format!("the {what} has no statement of its own that is valid now, with a digest that counts");
    Refusal::new(SignatureFault::Untrusted, text)
}
