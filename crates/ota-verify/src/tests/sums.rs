//! Checksum files by coreutils, signed and not.

use ota_core::{
    OtaError,
    error::{PortErrorKind, SignatureFault},
    ports::{Flow, ImageVerifier as _, VerifyPolicy},
    release::{Assurance, ChecksumFile, DetachedSignature, Evidence, Vouched},
};

use super::{
    gpg::Gpg,
    world::{IMAGE, Keys, LAX, MemImage, STRICT, expectation, pgp, program, read, run},
};
use crate::KeyringVerifier;

fn check(
    verifier: &KeyringVerifier,
    image: &[u8],
    text: &[u8],
    signatures: &[DetachedSignature],
    policy: VerifyPolicy,
) -> Result<Vouched, OtaError> {
    let sums = ChecksumFile { text: text.to_vec(), signatures: signatures.to_vec(), name: "image".into() };
    let evidence = Evidence { signatures: Vec::new(), checksums: Some(sums) };
    let outcome =
        verifier
            .verify(&mut MemImage::of(image), expectation(image), &evidence, policy, &mut |_| Flow::Continue);
    outcome.map_err(|error| match error.kind() {
        PortErrorKind::Ota(error) => error.clone(),
        other => panic!("{other}"),
    })
}

fn sums(gpg: &Gpg, tool: &str, arguments: &[&str]) -> Vec<u8> {
    run("coreutils", program(tool).current_dir(gpg.dir()).args(arguments).arg("image")).stdout
}

#[test]
fn checksum_files_of_all_forms_show_integrity() {
    let gpg = Gpg::new();
    let verifier = Keys::of(&[]).verifier_now();
    for (tool, arguments) in [
        ("sha256sum", &[][..]),
        ("sha256sum", &["-b"]),
        ("sha256sum", &["--tag"]),
        ("sha512sum", &[]),
        ("sha512sum", &["--tag"]),
    ] {
        let text = sums(&gpg, tool, arguments);
        let vouched = check(&verifier, IMAGE, &text, &[], LAX).unwrap();
        assert_eq!(vouched.assurance(), Assurance::Integrity);
        let mut other = IMAGE.to_vec();
        other[0] ^= 1;
        let outcome = check(&verifier, &other, &text, &[], LAX);
        assert!(matches!(outcome, Err(OtaError::ChecksumMismatch { .. })), "{tool} {arguments:?}");
    }
}

#[test]
fn a_bare_checksum_is_not_enough_where_a_signature_is_required() {
    let gpg = Gpg::new();
    let outcome = check(&Keys::of(&[]).verifier_now(), IMAGE, &sums(&gpg, "sha256sum", &[]), &[], STRICT);
    assert!(
        matches!(outcome, Err(OtaError::SignatureInvalid { reason: SignatureFault::Missing, .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_signed_checksum_file_shows_authenticity() {
    let gpg = Gpg::with_signer("ed25519");
    let verifier = Keys::of(&[&gpg.export("signer")]).verifier_now();
    let text = sums(&gpg, "sha512sum", &[]);
    std::fs::write(gpg.dir().join("SHA512SUMS"), &text).unwrap();
    gpg.gpg(&["--armor", "--local-user", "signer", "--output", "sums.asc", "--detach-sign", "SHA512SUMS"]);
    let signature = [pgp(read(&gpg.dir().join("sums.asc")))];
    let vouched = check(&verifier, IMAGE, &text, &signature, STRICT).unwrap();
    assert_eq!((vouched.assurance(), vouched.signers.len()), (Assurance::Authenticity, 1));

    let changed = [text.as_slice(), b"\n"].concat();
    let outcome = check(&verifier, IMAGE, &changed, &signature, LAX);
    assert!(
        matches!(outcome, Err(OtaError::SignatureInvalid { reason: SignatureFault::Mismatch, .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_checksum_file_that_is_none_or_names_other_files_is_refused() {
    let verifier = Keys::of(&[]).verifier_now();
    let foreign = format!("{}  other\n", "0".repeat(64));
    for text in ["hello\n", foreign.as_str(), ""] {
        let outcome = check(&verifier, IMAGE, text.as_bytes(), &[], LAX);
        assert!(matches!(outcome, Err(OtaError::InvalidImage { .. })), "{outcome:?}");
    }
}
