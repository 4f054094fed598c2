//! Signatures by X.509 certificates: CMS `SignedData` without content, checked against configured CAs.
//!
//! `cms` and `x509-cert` only parse; every signature is checked by `rustls-webpki` on ring. The profile is strict, so
//! that no byte of a signature file can change without it being refused: DER only, signed attributes required, no
//! unsigned attributes, no revocation lists inside, no certificate that no signature needs.

mod algorithm;
mod anchor;
mod chain;
mod cms;
mod encoding;
#[cfg(test)]
mod vectors;

pub(crate) use algorithm::MIN_RSA_BITS;
pub use anchor::{Anchor, Crl};
pub(crate) use chain::Authority;
pub use chain::{EkuPolicy, X509Policy};
pub(crate) use cms::Statement;
