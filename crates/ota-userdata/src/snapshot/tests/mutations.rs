//! Ten thousand archives that were tampered with, by a seeded generator: no panic, and nothing beside the configured paths
//! changes. `OTA_MUTATIONS` asks for another number.

use ota_core::ports::Snapshots as _;

use super::{
    Device,
    hostile::{Raw, compressed, plant, tar},
};

/// How many a run tries.
const COUNT: u32 = 10_000;

/// xorshift64*: the same numbers every time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Entries with names, kinds and rights that somebody hostile might choose; the list agrees with them.
fn entries(dice: &mut Dice, device: &Device) -> Vec<Raw> {
    let (inside, outside) =
        (device.settings().display().to_string(), device.at("outside").display().to_string());
    let names = [
        format!("files{inside}/a"),
        format!("files{inside}/sub/b"),
        format!("files{inside}/sub"),
        format!("files{inside}/../settings-beside"),
        format!("files{inside}/sub/../../../outside/canary"),
        format!("files{outside}/canary"),
        format!("files/{outside}/canary"),
        format!("{outside}/canary"),
        format!("files{inside}-beside"),
        format!("files{inside}/./a"),
        format!("files{inside}"),
        "files/".into(),
        "manifest.json".into(),
        "../../../../../../tmp/x".into(),
    ];
    let kinds = b"\0\x30\x31\x32\x33\x34\x35\x36\x37LKxgSV";
    (0..1 + dice.below(4))
        .map(|_| {
            // Every other name is a good one, so that what is behind it is reached, too.
            let name = if dice.below(2) == 0 { dice.of(&names[..2]) } else { dice.of(&names) };
            let mut raw = Raw::file(name.as_bytes(), &vec![b'm'; dice.below(700)]);
            if dice.below(3) == 0 {
                raw.kind = tar::EntryType::new(*dice.of(kinds));
            }
            if dice.below(4) == 0 {
                raw.mode = u32::try_from(dice.below(0o10000)).unwrap();
            }
            if dice.below(4) == 0 {
                raw.link = Box::leak(outside.clone().into_boxed_str());
            }
            raw
        })
        .collect()
}

/// Changes bytes, blocks or the length. Every other time the check sums of the headers are made to fit again.
fn tamper(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..dice.below(4) {
        let blocks = bytes.len() / 512;
        match dice.below(5) {
            0 | 1 if !bytes.is_empty() => {
                let at = dice.below(bytes.len());
                bytes[at] = u8::try_from(dice.below(256)).unwrap();
            }
            2 if blocks > 1 => {
                let (from, to) = (dice.below(blocks) * 512, dice.below(blocks) * 512);
                bytes.copy_within(from..from + 512, to);
            }
            3 if blocks > 1 => bytes.truncate(dice.below(blocks) * 512 + dice.below(512)),
            _ if blocks > 0 => {
                let at = dice.below(blocks) * 512 + dice.below(156);
                let digits = b"01234567/. \0\x80\xff";
                if at < bytes.len() {
                    bytes[at] = *dice.of(digits);
                }
            }
            _ => {}
        }
    }
    if dice.below(2) == 0 {
        for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

#[test]
fn ten_thousand_tampered_archives_change_nothing_beside_the_configured_paths() {
    #[expect(clippy::disallowed_methods, reason = "a longer run on demand")]
    let count = std::env::var("OTA_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(COUNT);
    let device = Device::new();
    device.write("a", b"old");
    let beside = device.beside();
    let mut dice = Dice(0x5eed_0000_0000_0001);
    let mut accepted = 0_u32;
    for round in 0..count {
        let mut bytes = tar(&entries(&mut dice, &device));
        tamper(&mut dice, &mut bytes);
        let mut archive = compressed(&bytes);
        if dice.below(10) == 0 {
            let at = dice.below(archive.len());
            archive[at] ^= 1 << dice.below(8);
        }
        let id = plant(&device, &archive);
        accepted += u32::from(device.folder().restore(&id, None).is_ok());
        // A look at everything now and then, and at what is most likely to be hit each time.
        let canary = std::fs::read(device.at("outside/canary")).unwrap();
        assert_eq!(canary, b"untouched", "round {round}");
        if round % 64 == 0 || round + 1 == count {
            assert_eq!(device.beside(), beside, "round {round}");
        }
    }
    println!("{count} tampered archives, {accepted} of them harmless and accepted");
    assert!(accepted > 0 && accepted < count / 2, "{accepted}");
}
