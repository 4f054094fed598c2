//! The trailer of a one-file image: manifest and signatures behind the image, so that one file is all there is to move.
//!
//! ```text
//! image | manifest | signature records | footer (64 bytes)
//! ```
//!
//! Byte by byte in `docs/image-trailer.md`. Pure: reads and writes memory only. The signatures are over the bytes of the
//! manifest; the manifest holds the digest of the image. Everything else is lengths that must fit to the byte, so
//! nothing can be changed, added or left out. [`crate::KeyringVerifier`] checks the signatures and strips the trailer.

mod footer;
mod manifest;

use ota_core::release::{DetachedSignature, SignatureKind};

pub use footer::{FOOTER_LEN, Footer};
pub use manifest::{MAX_MANIFEST, Manifest, ManifestKind};

use crate::error::Refusal;

/// The most that all signature records take, in bytes.
pub const MAX_RECORDS: usize = 256 * 1024;

/// The longest trailer, in bytes. Whoever looks for one needs no more of the end of a file.
pub const MAX_TRAILER: usize = MAX_MANIFEST + MAX_RECORDS + FOOTER_LEN;

/// Length of the line in front of each signature: kind, padded to 7, blank, length as 7 digits, line feed.
const RECORD_HEAD: usize = 16;

/// The parts of a trailer. Nothing of it is checked against keys yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The manifest as it was signed.
    pub manifest: Vec<u8>,
    /// The signatures over it.
    pub signatures: Vec<DetachedSignature>,
}

impl Trailer {
    /// The bytes to append to an image of `image_len` bytes.
    ///
    /// # Errors
    /// When a part is longer than a trailer may have.
    pub fn encode(&self, image_len: u64) -> Result<Vec<u8>, Refusal> {
        let mut records = Vec::new();
        for signature in &self.signatures {
            if signature.bytes.len() > crate::verifier::MAX_SIGNATURE {
                return Err(Refusal::malformed("a signature is too long for a trailer"));
            }
            let kind = word(signature.kind);
            records.extend(format!("{kind:<7} {:07x}\n", signature.bytes.len()).bytes());
            records.extend(&signature.bytes);
        }
        let footer = Footer::new(self.manifest.len(), records.len(), image_len)?;
        Ok([self.manifest.as_slice(), &records, &footer.encode()].concat())
    }

    /// Takes the trailer off the end of a file.
    ///
    /// `tail`: the last bytes of the file, all of them or at least [`MAX_TRAILER`]; `file_len`: its length. `None` when
    /// the file does not end with a footer; else the trailer and the length of the image in front of it.
    ///
    /// # Errors
    /// `Malformed` when there is a footer that does not fit the file.
    pub fn decode(tail: &[u8], file_len: u64) -> Result<Option<(Self, u64)>, Refusal> {
        let Some((rest, footer)) = tail.split_last_chunk::<FOOTER_LEN>() else { return Ok(None) };
        let Some(footer) = Footer::decode(footer, file_len)? else { return Ok(None) };
        let missing = || Refusal::malformed("the trailer is longer than the file");
        let (rest, records) = split_end(rest, footer.records_len()).ok_or_else(missing)?;
        let (_, manifest) = split_end(rest, footer.manifest_len()).ok_or_else(missing)?;
        let trailer = Self { manifest: manifest.to_vec(), signatures: signatures(records)? };
        Ok(Some((trailer, footer.image_len())))
    }
}

fn split_end(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.len().checked_sub(length)?)
}

fn signatures(mut records: &[u8]) -> Result<Vec<DetachedSignature>, Refusal> {
    let damaged = || Refusal::malformed("a signature record of the trailer is damaged");
    let mut found = Vec::new();
    while let Some((head, rest)) = records.split_first_chunk::<RECORD_HEAD>() {
        let kind = [SignatureKind::Cms, SignatureKind::Openpgp]
            .into_iter()
            .find(|kind| head.starts_with(format!("{:<7} ", word(*kind)).as_bytes()))
            .ok_or_else(damaged)?;
        let length = head.get(8..15).and_then(footer::hex_number).filter(|_| head.ends_with(b"\n"));
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or_else(damaged)?;
        let (bytes, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        found.push(DetachedSignature { kind, bytes: bytes.to_vec() });
        records = rest;
    }
    if records.is_empty() { Ok(found) } else { Err(damaged()) }
}

const fn word(kind: SignatureKind) -> &'static str {
    match kind {
        SignatureKind::Cms => "cms",
        SignatureKind::Openpgp => "openpgp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Trailer {
        let signature = |kind, bytes: &[u8]| DetachedSignature { kind, bytes: bytes.to_vec() };
        Trailer {
            manifest: b"a manifest\n".to_vec(),
            signatures: vec![signature(SignatureKind::Cms, b"one"), signature(SignatureKind::Openpgp, b"")],
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = sample().encode(1000).unwrap();
        let expected = "a manifest\ncms     0000003\noneopenpgp 0000000\n\
            OTA-TRAILER 0001 0000000b 00000023 00000000000003e8------------\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn a_file_without_a_footer_has_no_trailer() {
        for file in [&b""[..], b"short", &[0; 4096]] {
            assert_eq!(Trailer::decode(file, file.len() as u64), Ok(None));
        }
    }

    #[test]
    fn every_flipped_byte_outside_of_manifest_and_signatures_is_noticed() {
        let image = vec![7; 1000];
        let trailer = sample();
        let file = [image, trailer.encode(1000).unwrap()].concat();
        let good = Trailer::decode(&file, file.len() as u64).unwrap();
        assert_eq!(good, Some((trailer, 1000)));
        for index in 1000..file.len() {
            let mut copy = file.clone();
            copy[index] ^= 1;
            assert_ne!(Trailer::decode(&copy, copy.len() as u64), Ok(good.clone()), "byte {index}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_encoded_is_decoded(
            image in proptest::collection::vec(any::<u8>(), 0..300),
            manifest in proptest::collection::vec(any::<u8>(), 0..300),
            parts in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..50)), 0..4),
        ) {
            let kind = |cms| if cms { SignatureKind::Cms } else { SignatureKind::Openpgp };
            let signatures = parts.into_iter().map(|(cms, bytes)| DetachedSignature { kind: kind(cms), bytes });
            let trailer = Trailer { manifest, signatures: signatures.collect() };
            let length = image.len() as u64;
            let file = [image, trailer.encode(length).unwrap()].concat();
            prop_assert_eq!(Trailer::decode(&file, file.len() as u64), Ok(Some((trailer.clone(), length))));
            prop_assert_ne!(Trailer::decode(&file[1..], file.len() as u64 - 1), Ok(Some((trailer, length))));
        }
    }
}
