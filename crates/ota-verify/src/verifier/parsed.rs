//! Signature files taken apart, before any key is asked.

use ota_core::{
    error::SignatureFault,
    release::{DetachedSignature, SignatureKind},
};

use super::{MAX_SIGNATURE, MAX_SIGNATURES};
use crate::{digest::HashKind, error::Refusal, openpgp, x509};

/// A signature file, taken apart.
pub(super) struct Parsed {
    pub(super) origin: String,
    pub(super) statement: Result<Statement, Refusal>,
}

pub(super) enum Statement {
    Cms(x509::Statement),
    Openpgp(openpgp::Statement),
}

impl Statement {
    /// How many signatures the file holds.
    pub(super) const fn signers(&self) -> usize {
        match self {
            Self::Cms(statement) => statement.signers(),
            Self::Openpgp(statement) => statement.signers(),
        }
    }
}

impl Parsed {
    pub(super) fn all(signatures: &[DetachedSignature]) -> Result<Vec<Self>, Refusal> {
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
pub(super) fn digests(parsed: &[Parsed]) -> Vec<HashKind> {
    let of = |parsed: &Parsed| match &parsed.statement {
        Ok(Statement::Cms(statement)) => statement.digests().collect::<Vec<_>>(),
        Ok(Statement::Openpgp(statement)) => statement.digests().collect(),
        Err(_) => Vec::new(),
    };
    parsed.iter().flat_map(of).collect()
}
