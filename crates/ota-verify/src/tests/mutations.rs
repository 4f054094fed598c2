//! 100,000 mutations for each parser: whatever comes in, an answer comes out.
//!
//! The generator is our own and seeded, so that a failure is found again; each mutant is also judged against keys, so
//! that what still parses goes the whole way. What is fed is what the targets below `fuzz/` feed, [`fuzzing`].

use ota_core::ports::VerifyPolicy;

use super::{
    gpg::Gpg,
    openssl::{ED25519, Pki, SIGNER},
    world::{IMAGE, Keys, STRICT, cms, config_at, now, pgp},
};
use crate::{KeyList, KeyringVerifier, Trailer, checksums::Checksums, format, fuzzing};

const ROUNDS: u32 = 100_000;

/// xorshift64*, good enough to pick bytes.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from(high).unwrap() % sides.max(1)
    }

    fn byte(&mut self) -> u8 {
        const LIKELY: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0x81, 0x84, 0xfe, 0xff];
        if self.roll(3) == 0 {
            LIKELY[self.roll(LIKELY.len())]
        } else {
            u8::try_from(self.roll(256)).unwrap()
        }
    }

    /// One to four changes: bits, bytes, lengths, pieces doubled, dropped or moved.
    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.roll(4) {
            let (at, end) = (self.roll(bytes.len()), self.roll(bytes.len()));
            let (from, to) = (at.min(end), at.max(end));
            match self.roll(8) {
                _ if bytes.is_empty() => bytes.push(self.byte()),
                0..=2 => bytes[at] = self.byte(),
                3 => bytes[at] ^= 1 << self.roll(8),
                4 => bytes[at] = bytes[at].wrapping_add(1),
                5 => bytes.insert(at, self.byte()),
                6 => drop(bytes.drain(from..to.min(from + 40))),
                _ => {
                    let piece = bytes[from..to.min(from + 40)].to_vec();
                    bytes.splice(end..end, piece);
                }
            }
        }
        bytes
    }
}

fn run(seeds: &[Vec<u8>], mut parse: impl FnMut(&[u8])) {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for round in 0..ROUNDS {
        let seed = &seeds[round as usize % seeds.len()];
        parse(&dice.mutate(seed));
    }
}

fn judge_all(
    verifier: &KeyringVerifier,
    seeds: &[Vec<u8>],
    of: impl Fn(&[u8]) -> ota_core::release::DetachedSignature,
) {
    run(seeds, |bytes| {
        // No mutant may pass but one that says the same: armour has comments and line ends that nobody signs.
        fuzzing::judge(verifier, STRICT, &of(bytes));
        drop(verifier.verify_bytes(IMAGE, &[of(bytes)], VerifyPolicy { require_signature: false }));
    });
}

#[test]
fn no_mutation_of_a_cms_file_panics_or_passes_for_another_image() {
    let pki = Pki::with_signer();
    pki.issue("ed", ED25519, "root", SIGNER);
    let verifier = Keys::of(&[&pki.pem("root")]).verifier(config_at(now()));
    let seeds = [
        pki.sign("signer"),
        pki.sign_with(&["signer"], &["-outform", "PEM"]),
        pki.sign_ed25519("ed"),
        pki.sign_with(&["signer"], &["-noattr", "-nocerts"]),
    ];
    judge_all(&verifier, &seeds, |bytes| cms(bytes));
}

#[test]
fn no_mutation_of_an_openpgp_file_panics_or_passes_for_another_image() {
    let gpg = Gpg::with_signer("ed25519");
    gpg.key("second", "nistp256", "sign", "2y");
    let verifier = Keys::of(&[&gpg.export("signer"), &gpg.export("second")]).verifier(config_at(now()));
    let seeds = [
        gpg.sign("signer"),
        gpg.sign("second"),
        gpg.sign_with("signer", &["--armor"]),
        [gpg.sign("signer"), gpg.sign("second")].concat(),
    ];
    judge_all(&verifier, &seeds, |bytes| pgp(bytes));
}

#[test]
fn no_mutation_of_a_trailer_panics_and_what_is_read_is_written_the_same() {
    let manifest = "ota-image 1\nversion v5.0.5\nmodel IGW-5000\nkind raw\nsize 65537\nsha256 \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nrequires-reboot yes\nblock-size 65536\nblock \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nblock \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nnote hello\n";
    let trailer = Trailer { manifest: manifest.into(), signatures: vec![cms(*b"one"), pgp(*b"two")] };
    let file = [b"image".as_slice(), &trailer.encode(5).unwrap()].concat();
    run(&[file], fuzzing::trailer);
    run(&[manifest.into()], fuzzing::trailer);
}

#[test]
fn no_mutation_of_a_key_list_or_a_checksum_file_panics() {
    let list = "ota-key-list 1\nserial 7\nissued 2025-03-10T14:30:00Z\nexpires 2026-03-10T14:30:00Z\n\
        retire 00000000000000000000000000000000000000ff\n";
    run(&[list.into()], |bytes| drop(KeyList::parse(bytes)));
    let sums = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
        SHA256 (b) = e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
    run(&[sums.into()], |bytes| {
        drop(Checksums::parse(bytes).map(|sums| sums.digest_of("a").map(<[u8]>::to_vec)));
    });
}

/// What fills the largest file with the most there may be in it, of attacker's choice: still far below a second.
#[test]
fn the_most_expensive_files_are_refused_in_time() {
    let pki = Pki::with_signer();
    let verifier = Keys::of(&[&pki.pem("root")]).verifier(config_at(now()));
    let certificates: Vec<String> = (0..40).map(|index| format!("extra{index}")).collect();
    let mut bundle = Vec::new();
    for name in &certificates {
        pki.certify(name, "signer", "root", SIGNER, &[]);
        bundle.extend(super::world::read(&pki.pem(name)));
    }
    super::world::write(pki.dir(), "bundle.pem", &bundle);
    let crowded = pki.sign_with(&["signer"], &["-certfile", "bundle.pem"]);
    let nested = [0x30, 0x80].repeat(32_000);
    let wide = [vec![0x31, 0x83, 0x00, 0xff, 0xf0], [0x30, 0x00].repeat(32_000)].concat();
    for file in [crowded, nested, wide, vec![0x30; 65_536], b"-----BEGIN CMS-----\n".repeat(3000)] {
        assert!(verifier.verify_bytes(IMAGE, &[cms(file)], STRICT).is_err());
    }
    let packets = [0x88, 0x00].repeat(32_000);
    for file in [packets, vec![0x88; 65_536], b"-----BEGIN PGP SIGNATURE-----\n\n".repeat(2000)] {
        assert!(verifier.verify_bytes(IMAGE, &[pgp(file)], STRICT).is_err());
    }
}

#[test]
fn no_mutation_of_an_image_header_panics() {
    let mut head = format::tests::squashfs("gzip");
    head.truncate(200);
    let mut ext = vec![0; 2048];
    ext[1024..1032].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
    ext[1080..1082].copy_from_slice(&[0x53, 0xef]);
    let mut gpt = vec![0; 2048];
    gpt[512..520].copy_from_slice(b"EFI PART");
    gpt[1024] = 1;
    let mut mbr = vec![0; 512];
    mbr[446 + 4] = 0x83;
    mbr[446 + 8..446 + 16].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
    mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
    run(&[head], fuzzing::image_header);
    run(&[ext, gpt, mbr], fuzzing::image_header);
}
