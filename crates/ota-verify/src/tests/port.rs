//! The port itself: one pass, digest and length, stopping, what is required.

use ota_core::{
    ByteCount, OtaError, Sha256Digest,
    error::{PortErrorKind, SignatureFault},
    ports::{Flow, ImageExpectation, ImageVerifier as _, WriteProgress},
    release::Evidence,
};

use super::world::{IMAGE, Keys, LAX, MemImage, STRICT, cms, expectation, refused, verify};
use crate::{digest::READ_SIZE, verifier::MAX_SIGNATURES};

fn outcome(bytes: &[u8], expect: ImageExpectation) -> OtaError {
    let verifier = Keys::of(&[]).verifier_now();
    let error = verifier
        .verify(&mut MemImage::of(bytes), expect, &Evidence::default(), LAX, &mut |_| Flow::Continue)
        .expect_err("must be refused");
    match error.kind() {
        PortErrorKind::Ota(error) => error.clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn an_unsigned_image_is_let_through_where_no_signature_is_required() {
    let verifier = Keys::of(&[]).verifier_now();
    let vouched = verify(&verifier, IMAGE, &[], LAX).unwrap();
    assert_eq!((vouched.signers.len(), vouched.sha256), (0, Sha256Digest::of(IMAGE)));
    assert_eq!(refused(&verifier, IMAGE, &[]).0, SignatureFault::Missing);
}

#[test]
fn other_bytes_than_expected_are_a_checksum_mismatch() {
    let expect = expectation(IMAGE);
    for (_, image) in super::world::flips(IMAGE) {
        assert!(matches!(outcome(&image, expect), OtaError::ChecksumMismatch { .. }));
    }
    let short = outcome(&IMAGE[1..], expect);
    assert_eq!(
        short,
        OtaError::ChecksumMismatch { expected: "74 bytes".into(), actual: "73 bytes".into() },
        "{} bytes",
        IMAGE.len()
    );
    let long = outcome(&[IMAGE, b"\0"].concat(), expect);
    assert_eq!(
        long,
        OtaError::ChecksumMismatch { expected: "74 bytes".into(), actual: "at least 75 bytes".into() }
    );
}

#[test]
fn the_bytes_are_checked_before_the_signatures() {
    let verifier = Keys::of(&[]).verifier_now();
    let mut image = MemImage::of(b"another image");
    let evidence = Evidence::signatures(vec![cms(*b"no signature")]);
    let result = verifier.verify(&mut image, expectation(IMAGE), &evidence, STRICT, &mut |_| Flow::Continue);
    assert!(matches!(
        result.expect_err("must be refused").kind(),
        PortErrorKind::Ota(OtaError::ChecksumMismatch { .. })
    ));
}

#[test]
fn the_image_is_read_once_in_steps_and_the_observer_sees_each() {
    let bytes: Vec<u8> = (0..3 * READ_SIZE + 5).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let mut image = MemImage { bytes: bytes.clone(), at: 0, step: 70_000 };
    let mut seen = Vec::new();
    let verifier = Keys::of(&[]).verifier_now();
    verifier
        .verify(&mut image, expectation(&bytes), &Evidence::default(), LAX, &mut |progress| {
            let WriteProgress::ReadBack(ByteCount(read)) = progress else {
                panic!("nothing is written here")
            };
            seen.push(read);
            Flow::Continue
        })
        .unwrap();
    let step = READ_SIZE as u64;
    assert_eq!(seen, [step, 2 * step, 3 * step, 3 * step + 5]);
}

#[test]
fn the_observer_stops_it() {
    let verifier = Keys::of(&[]).verifier_now();
    let result =
        verifier.verify(&mut MemImage::of(IMAGE), expectation(IMAGE), &Evidence::default(), LAX, &mut |_| {
            Flow::Stop
        });
    assert!(matches!(result.expect_err("stopped").kind(), PortErrorKind::Ota(OtaError::SystemBusy { .. })));
}

#[test]
fn an_image_longer_than_expected_is_not_read_to_its_end() {
    let mut image = MemImage::of(&vec![0; 8 * READ_SIZE]);
    let verifier = Keys::of(&[]).verifier_now();
    let result =
        verifier.verify(&mut image, expectation(IMAGE), &Evidence::default(), LAX, &mut |_| Flow::Continue);
    assert!(result.is_err());
    assert_eq!(image.at, READ_SIZE);
}

#[test]
fn too_many_or_too_large_signature_files_are_refused() {
    let verifier = Keys::of(&[]).verifier_now();
    let many = vec![cms(*b"x"); MAX_SIGNATURES + 1];
    assert_eq!(refused(&verifier, IMAGE, &many).0, SignatureFault::Malformed);
    let large = cms(vec![0x30; crate::verifier::MAX_SIGNATURE + 1]);
    assert_eq!(refused(&verifier, IMAGE, &[large]).0, SignatureFault::Malformed);
}
