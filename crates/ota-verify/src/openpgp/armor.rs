//! From the bytes of a file to `OpenPGP` packets: armoured or binary outside.
//!
//! The armour's checksum is not looked at, as RFC 9580 section 6.1 has it: what counts is the signature inside.

use std::io::{BufReader, Read as _};

use pgp::armor::{BlockType, Dearmor, DearmorOptions};

/// The packets inside a file; of armour exactly one block of the wanted kind, with nothing but blanks behind it.
///
/// Armour is a transport encoding: its comment lines are nobody's statement and not looked at.
pub(super) fn packets(file: &[u8], wanted: BlockType) -> Result<Vec<u8>, String> {
    if file.first().is_some_and(|first| first & 0x80 != 0) {
        return Ok(file.to_vec());
    }
    let block = only_block(file)
        .ok_or("is neither armoured nor binary OpenPGP data, or holds more than one block")?;
    let options = DearmorOptions::new().set_limit(file.len().max(1024));
    let mut armor = Dearmor::with_options(BufReader::new(block), options);
    armor.read_header().map_err(|error| format!("has damaged armour: {error}"))?;
    match armor.typ {
        Some(typ) if typ == wanted => {}
        Some(BlockType::PrivateKey) => return Err("holds a private key; take it off this device".into()),
        other => {
            return Err(format!(
                "holds {}, not {wanted}",
                other.map_or("nothing".into(), |typ| typ.to_string())
            ));
        }
    }
    let mut bytes = Vec::new();
    armor.read_to_end(&mut bytes).map_err(|error| format!("has damaged armour: {error}"))?;
    Ok(bytes)
}

fn only_block(file: &[u8]) -> Option<&[u8]> {
    let text = std::str::from_utf8(file).ok()?.trim();
    let whole = text.starts_with("-----BEGIN PGP ") && text.ends_with("-----");
    let alone = text.matches("-----BEGIN ").count() == 1 && text.matches("-----END ").count() == 1;
    (whole && alone).then_some(text.as_bytes())
}
