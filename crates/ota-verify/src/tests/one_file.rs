//! One-file images: trailers signed by openssl and gpg, made by us and by the script of `docs/image-trailer.md`.

use ota_core::{
    ByteCount, OtaError, Sha256Digest,
    error::{PortErrorKind, SignatureFault},
    ports::{FileEnd, Flow, ImageReader, ImageVerifier as _, Stated, VerifyPolicy},
    release::{DetachedSignature, Evidence, ImageKind},
};

use super::{
    gpg::Gpg,
    openssl::Pki,
    world::{
        IMAGE, Keys, LAX, MemImage, STRICT, cms, config_at, expectation, flips, now, pgp, program, read, run,
        write,
    },
};
use crate::{KeyringVerifier, Manifest, Trailer, Verdict, VerifyConfig, trailer::ManifestKind};

fn manifest(image: &[u8]) -> Manifest {
    Manifest {
        version: "v5.0.5".parse().unwrap(),
        models: vec!["IGW-5000".into()],
        kind: ManifestKind(ImageKind::Raw),
        size: ByteCount(image.len() as u64),
        sha256: Sha256Digest::of(image),
        unpacked_size: None,
        requires_reboot: true,
        block_size: 65_536,
        blocks: image.chunks(65_536).map(Sha256Digest::of).collect(),
        notes: vec![],
    }
}

fn file_of(image: &[u8], manifest: &str, signatures: Vec<DetachedSignature>) -> Vec<u8> {
    let trailer = Trailer { manifest: manifest.into(), signatures };
    [image, &trailer.encode(image.len() as u64).unwrap()].concat()
}

fn signed(pki: &Pki, image: &[u8], manifest: &str) -> Vec<u8> {
    write(pki.dir(), "manifest", manifest.as_bytes());
    file_of(image, manifest, vec![cms(pki.sign_file("manifest", &["signer"], &[]))])
}

fn check(verifier: &KeyringVerifier, file: &[u8], policy: VerifyPolicy) -> Result<Verdict, OtaError> {
    let outcome = verifier.verify_image(
        &mut MemImage::of(file),
        expectation(file),
        &Evidence::default(),
        policy,
        &mut |_| Flow::Continue,
    );
    outcome.map_err(|error| match error.kind() {
        PortErrorKind::Ota(error) => error.clone(),
        other => panic!("{other}"),
    })
}

fn reason(outcome: Result<Verdict, OtaError>) -> SignatureFault {
    match outcome {
        Err(OtaError::SignatureInvalid { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_one_file_image_vouches_for_the_bytes_in_front_of_the_trailer() {
    let (pki, gpg) = (Pki::with_signer(), Gpg::with_signer("ed25519"));
    let manifest = manifest(IMAGE);
    let text = manifest.encode();
    write(pki.dir(), "manifest", text.as_bytes());
    write(gpg.dir(), "image", text.as_bytes());
    let signatures = vec![cms(pki.sign_file("manifest", &["signer"], &[])), pgp(gpg.sign("signer"))];
    let verifier = Keys::of(&[&pki.pem("root"), &gpg.export("signer")]).verifier_now();
    let verdict = check(&verifier, &file_of(IMAGE, &text, signatures), STRICT).unwrap();
    assert_eq!(verdict.manifest, Some(manifest));
    assert_eq!(
        (verdict.vouched.size.get(), verdict.vouched.sha256),
        (IMAGE.len() as u64, Sha256Digest::of(IMAGE))
    );
    assert_eq!(verdict.vouched.signers.len(), 2);
}

#[test]
fn the_port_tells_what_a_one_file_image_states_only_under_a_signature() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let stated = |file: &[u8]| {
        verifier
            .verify_stated(&mut MemImage::of(file), expectation(file), &Evidence::default(), LAX, &mut |_| {
                Flow::Continue
            })
            .map(|(_, stated)| stated)
            .unwrap()
    };
    let text = manifest(IMAGE).encode();
    let expected = Stated { version: "v5.0.5".parse().unwrap(), kind: ImageKind::Raw, unpacked_size: None };
    assert_eq!(stated(&signed(&pki, IMAGE, &text)), Some(expected));
    assert_eq!(stated(&file_of(IMAGE, &text, vec![])), None);
    assert_eq!(stated(IMAGE), None);
}

#[test]
fn every_flipped_byte_of_a_one_file_image_is_refused() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let file = signed(&pki, IMAGE, &manifest(IMAGE).encode());
    check(&verifier, &file, STRICT).unwrap();
    for (index, damaged) in flips(&file) {
        assert!(check(&verifier, &damaged, STRICT).is_err(), "byte {index} of {} may be changed", file.len());
    }
    for length in 0..file.len() {
        assert!(check(&verifier, &file[..length], STRICT).is_err(), "cut at {length}");
    }
    assert!(check(&verifier, &[&file[..], b"\n"].concat(), STRICT).is_err());
    assert!(check(&verifier, &[b"\n", &file[..]].concat(), STRICT).is_err());
}

#[test]
fn a_trailer_of_another_image_or_model_is_refused() {
    let pki = Pki::with_signer();
    let keys = Keys::of(&[&pki.pem("root")]);
    let mut other = IMAGE.to_vec();
    other[3] ^= 1;
    let file = signed(&pki, &other, &manifest(IMAGE).encode());
    assert!(matches!(check(&keys.verifier_now(), &file, STRICT), Err(OtaError::ChecksumMismatch { .. })));
    let file = signed(&pki, IMAGE, &manifest(IMAGE).encode());
    let of_model =
        |model: &str| keys.verifier(VerifyConfig { model: Some(model.into()), ..config_at(now()) });
    assert!(check(&of_model("IGW-5000"), &file, STRICT).is_ok());
    let outcome = check(&of_model("IGW-4000"), &file, STRICT);
    assert!(
        matches!(&outcome, Err(OtaError::InvalidImage { what }) if what.contains("IGW-4000")),
        "{outcome:?}"
    );
}

#[test]
fn a_trailer_without_a_signature_that_holds_is_refused_before_its_manifest_is_read() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    assert_eq!(
        reason(check(&verifier, &file_of(IMAGE, "not a manifest", vec![]), STRICT)),
        SignatureFault::Missing
    );
    let forged = file_of(IMAGE, "not a manifest", vec![cms(pki.sign("signer"))]);
    assert_eq!(reason(check(&verifier, &forged, STRICT)), SignatureFault::Mismatch);
    let unsigned = file_of(IMAGE, &manifest(IMAGE).encode(), vec![]);
    assert_eq!(check(&verifier, &unsigned, LAX).unwrap().vouched.signers.len(), 0);
    let nonsense = signed(&pki, IMAGE, "not a manifest");
    assert_eq!(reason(check(&verifier, &nonsense, STRICT)), SignatureFault::Malformed);
}

#[test]
fn a_trailer_of_a_later_version_is_refused_and_not_taken_for_a_part_of_the_image() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let mut file = signed(&pki, IMAGE, &manifest(IMAGE).encode());
    let version = file.len() - 64 + 15;
    file[version] = b'2';
    assert_eq!(reason(check(&verifier, &file, LAX)), SignatureFault::Malformed);
}

/// Reads to the end; gives what came before it failed, and why it did.
fn read_all(mut image: Box<dyn ImageReader>) -> (usize, Option<String>) {
    let (mut buffer, mut have) = (vec![0; 7000], 0);
    loop {
        match image.read(&mut buffer) {
            Ok(0) => return (have, None),
            Ok(read) => have += read,
            Err(error) => return (have, Some(error.to_string())),
        }
    }
}

#[test]
fn a_block_that_changed_since_the_verification_ends_the_reading_of_the_image_there() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let image: Vec<u8> = (0..200_000_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let file = signed(&pki, &image, &manifest(&image).encode());
    let vouched = check(&verifier, &file, STRICT).unwrap().vouched;
    let guarded = |bytes: &[u8], end: &[u8]| {
        let end = FileEnd { bytes: end.to_vec(), length: ByteCount(file.len() as u64) };
        read_all(verifier.guarded(Box::new(MemImage::of(bytes)), &vouched, &end))
    };
    let end = &file[file.len() - 4000..];
    assert_eq!(guarded(&image, end), (image.len(), None));
    for (at, block) in [(0, 0), (65_535, 0), (65_536, 1), (199_999, 3)] {
        let mut damaged = image.clone();
        damaged[at] ^= 1;
        let (have, why) = guarded(&damaged, end);
        let why = why.expect("must fail");
        assert!(why.contains(&format!("block {block} (from byte {})", block * 65_536)), "{why}");
        assert!(have < (block + 1) * 65_536, "{have} bytes came, byte {at} was changed");
        // Without the manifest nothing is compared here: the digest of the whole decides.
        assert_eq!(guarded(&damaged, &file[file.len() - 10..]).1, None);
    }
    let mut foreign = end.to_vec();
    foreign[100] ^= 1;
    assert_eq!(guarded(&image, &foreign), (image.len(), None), "a manifest whose signature does not hold");
}

#[test]
fn what_comes_beside_a_one_file_image_must_hold_too_and_the_trailer_is_still_taken_off() {
    let (pki, gpg) = (Pki::with_signer(), Gpg::with_signer("ed25519"));
    let verifier = Keys::of(&[&pki.pem("root"), &gpg.export("signer")]).verifier_now();
    let file = signed(&pki, IMAGE, &manifest(IMAGE).encode());
    write(gpg.dir(), "image", &file);
    let detached = vec![pgp(gpg.sign("signer"))];
    let verify = |file: &[u8], signatures: &[DetachedSignature]| {
        let evidence = Evidence::signatures(signatures.to_vec());
        let mut image = MemImage::of(file);
        verifier.verify_image(&mut image, expectation(file), &evidence, STRICT, &mut |_| Flow::Continue)
    };
    let verdict = verify(&file, &detached).unwrap();
    assert_eq!((verdict.vouched.size.get(), verdict.vouched.signers.len()), (IMAGE.len() as u64, 2));
    assert!(verify(&file, &[pgp(b"no signature".to_vec())]).is_err(), "also a good trailer");
    for index in 0..file.len() {
        let mut damaged = file.clone();
        damaged[index] ^= 1;
        assert!(verify(&damaged, &detached).is_err(), "byte {index}");
    }
}

/// The script that the document gives to third parties, as it stands there.
fn script() -> String {
    let text = std::fs::read_to_string("../../docs/image-trailer.md").unwrap();
    let (_, rest) = text.split_once("```sh\n").expect("the document has a script");
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_script_of_the_document_makes_what_we_accept() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier_now();
    let image: Vec<u8> = (0..2_500_000_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
    write(pki.dir(), "rootfs.squashfs", &image);
    let script = write(pki.dir(), "embed.sh", script().as_bytes());
    let arguments = [
        "rootfs.squashfs",
        "v5.0.5",
        "squashfs",
        "signer.pem",
        "signer.key",
        "out.img",
        "IGW-5000",
        "IGW-5100",
    ];
    run(
        "openssl",
        program("sh").current_dir(pki.dir()).arg(script).args(arguments).env("NOTE", "Fixes for the modem"),
    );
    let verdict = check(&verifier, &read(&pki.path("out.img")), STRICT).unwrap();
    let expected = Manifest {
        models: vec!["IGW-5000".into(), "IGW-5100".into()],
        kind: ManifestKind(ImageKind::Squashfs),
        block_size: 1 << 20,
        blocks: image.chunks(1 << 20).map(Sha256Digest::of).collect(),
        notes: vec!["Fixes for the modem".into()],
        ..manifest(&image)
    };
    assert_eq!(verdict.manifest, Some(expected));
    assert_eq!(verdict.vouched.signers[0].name, "CN=signer");
}
