//! From the bytes of a signature file to DER: PEM or DER outside, and not more elements than a signature has.

use crate::error::Refusal;

/// More elements than any chain of certificates needs. Sorting and comparing sets costs the square of their length, so
/// the number is bounded before anything is decoded.
const MAX_ELEMENTS: usize = 1500;

/// Labels that stand for CMS in PEM: RFC 7468 section 9, and the older ones of section 8.
const LABELS: [&str; 3] = ["CMS", "PKCS7", "PKCS #7 SIGNED DATA"];

/// The DER of a CMS file. PEM is a transport encoding: what stands around it is not looked at.
pub(super) fn cms_der(file: &[u8]) -> Result<Vec<u8>, Refusal> {
    let der = if file.starts_with(b"-----BEGIN ") { pem(file)? } else { file.to_vec() };
    if elements(&der).is_none_or(|count| count > MAX_ELEMENTS) {
        return Err(Refusal::malformed("is neither the DER nor the PEM encoding of a CMS message"));
    }
    Ok(der)
}

fn pem(file: &[u8]) -> Result<Vec<u8>, Refusal> {
    match der::pem::decode_vec(file) {
        Ok((label, der)) if LABELS.contains(&label) => Ok(der),
        Ok((label, _)) => Err(Refusal::malformed(format!("is PEM of {label}, not of CMS"))),
        Err(error) => Err(Refusal::malformed(format!("is not sound PEM: {error}"))),
    }
}

/// How many tag-length-value elements there are, at all depths; `None` where the lengths do not fit.
fn elements(mut der: &[u8]) -> Option<usize> {
    let mut count = 0;
    while let [tag, length, rest @ ..] = der {
        let (length, rest) = match *length {
            short @ 0..=0x7f => (usize::from(short), rest),
            long @ 0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let constructed = tag & 0x20 != 0;
        der = if constructed && length <= rest.len() { rest } else { rest.get(length..)? };
        count += 1;
    }
    der.is_empty().then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted_at_all_depths() {
        assert_eq!(elements(&[0x30, 0x05, 0x02, 0x01, 0x07, 0x05, 0x00]), Some(3));
        assert_eq!(elements(&[0x30, 0x81, 0x02, 0x05, 0x00]), Some(2));
    }

    #[test]
    fn lengths_that_do_not_fit_are_no_encoding() {
        for bytes in
            [&[0x02, 0x05, 0x00][..], &[0x30, 0x80, 0x00, 0x00], &[0x02], &[0x02, 0x85, 1, 1, 1, 1, 1]]
        {
            assert_eq!(elements(bytes), None, "{bytes:02x?}");
        }
    }

    #[test]
    fn a_file_with_too_many_elements_is_refused_before_it_is_decoded() {
        let nulls = [0x05, 0x00].repeat(MAX_ELEMENTS + 1);
        assert!(cms_der(&nulls).is_err());
    }
}
