//! Archives made header by header: what GNU tar does not make, and what it would not unpack either.

use std::io::{Cursor, Read as _, repeat};

use ota_core::ByteCount;
use tar::{EntryType, Header};

use super::{ArchivePolicy, Contents, Entry, EntryKind, walk};
use crate::error::ImageError;

pub(crate) const POLICY: ArchivePolicy = ArchivePolicy { device_nodes: false, capacity: ByteCount(1 << 20) };

/// One entry with everything it takes: header, data, padding.
pub(crate) fn entry(name: &[u8], kind: u8, link: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(EntryType::new(kind));
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    if matches!(kind, b'3' | b'4') {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A record of an extended header, with the length that it must have.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (body..).find(|length| body + length.to_string().len() == *length).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    entry(b"PaxHeaders/x", b'x', b"", &data)
}

pub(crate) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

fn seen(bytes: &[u8], policy: ArchivePolicy) -> (Vec<Entry>, Result<Contents, ImageError>) {
    let mut entries = Vec::new();
    let result = walk(Cursor::new(bytes), policy, |entry, data| {
        entries.push(entry.clone());
        drop(data.read_to_end(&mut Vec::new()));
        Ok(())
    });
    (entries, result)
}

/// Refused with this sentence, before the last entry acted.
fn refused(entries: &[Vec<u8>]) -> String {
    let (acted, result) = seen(&archive(entries), POLICY);
    assert!(acted.len() < entries.len(), "every entry has acted: {acted:?}");
    match result {
        Err(ImageError::Archive(what)) => what,
        other => panic!("{other:?}"),
    }
}

fn file(name: &[u8]) -> Vec<u8> {
    entry(name, b'0', b"", b"data")
}

#[test]
fn an_entry_that_leads_out_of_the_root_never_acts() {
    for (bad, why) in [
        (file(b"/etc/passwd"), "absolute name"),
        (file(b"../x"), "name with .."),
        (file(b"usr/../../x"), "name with .."),
        (entry(b"..", b'5', b"", b""), "name with .."),
        (entry(b"link", b'2', b"../x", b""), "links out of the root"),
        (entry(b"link", b'2', b"/../x", b""), "links out of the root"),
        (entry(b"link", b'2', b"", b""), "links to a name"),
        (entry(b"hard", b'1', b"/etc/passwd", b""), "absolute name"),
        (entry(b"hard", b'1', b"../etc/passwd", b""), "name with .."),
        (entry(b"hard", b'1', b"etc/shadow", b""), "did not come before"),
        (entry(b"null", b'3', b"", b""), "device node"),
        (entry(b"disk", b'4', b"", b""), "device node"),
        (entry(b"sparse", b'S', b"", b""), "--sparse"),
        (entry(b"odd", b'M', b"", b""), "not unpacked here"),
        (entry(b"folder", b'5', b"", b"data"), "has data"),
    ] {
        let what = refused(&[file(b"before"), bad]);
        assert!(what.contains(why), "{what}");
    }
}

#[test]
fn nothing_is_unpacked_below_a_link_twice_or_over_another_entry() {
    for (first, second, why) in [
        (entry(b"l", b'2', b"/etc", b""), file(b"l/passwd"), "no folder"),
        (entry(b"l", b'2', b"usr", b""), entry(b"l/", b'5', b"", b""), "twice"),
        (file(b"a"), file(b"a"), "twice"),
        (file(b"a"), file(b"./a"), "twice"),
        (file(b"a/b"), file(b"a"), "twice"),
        (entry(b"d", b'5', b"", b""), entry(b"d", b'5', b"", b""), "twice"),
        (entry(b"d", b'5', b"", b""), entry(b"h", b'1', b"d", b""), "did not come before"),
    ] {
        let what = refused(&[first, second]);
        assert!(what.contains(why), "{what}");
    }
    let (entries, result) = seen(&archive(&[file(b"a/b"), entry(b"a/", b'5', b"", b"")]), POLICY);
    result.unwrap();
    assert_eq!(entries.len(), 2, "a folder's own entry may come after what is in it");
}

#[test]
fn what_an_extended_header_says_counts_for_the_checks_too() {
    for (records, why) in [
        (&[("path", &b"../x"[..])][..], "name with .."),
        (&[("path", b"/x")], "absolute name"),
        (&[("size", b"5")], "two sizes"),
        (&[("SCHILY.acl.access", b"user::rw-")], "--acls"),
        (&[("GNU.sparse.major", b"1")], "--sparse"),
        (&[("SCHILY.xattr.user.x", &[7; 70_000])], "more extended attributes"),
        (&[("uid", b"5000000000")], "beyond all bounds"),
    ] {
        let what = refused(&[pax(records), file(b"x")]);
        assert!(what.contains(why), "{what}");
    }
    let named = [pax(&[("path", b"a\nb"), ("SCHILY.xattr.user.k", b"v\n=\0")]), file(b"x")];
    let (entries, result) = seen(&archive(&named), POLICY);
    result.unwrap();
    assert_eq!(entries[0].path.as_bytes(), b"a\nb");
    assert_eq!(entries[0].attributes, [(c"user.k".to_owned(), b"v\n=\0".to_vec())]);
    assert!(refused(&[pax(&[("linkpath", b"../../x")]), entry(b"l", b'2', b"ok", b"")]).contains("out of"));
    let global = entry(b"g", b'g', b"", &record("path", b"x"));
    assert!(refused(&[global, file(b"x")]).contains("for all of its entries"));
    let long = entry(b"././@LongLink", b'L', b"", b"../../evil\0");
    assert!(refused(&[long, file(b"x")]).contains("name with .."));
}

/// An entry whose header has no size; it is told otherwise.
fn without_size(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[124..136].copy_from_slice(b"00000000000\0");
    mend(&mut bytes[..512]);
    bytes
}

#[test]
fn a_size_that_no_header_has_room_for_is_taken_from_the_extended_one() {
    let small = [pax(&[("size", b"4")]), without_size(file(b"x")), file(b"y")];
    let mut read = Vec::new();
    let contents = walk(Cursor::new(archive(&small)), POLICY, |entry, data| {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).unwrap();
        read.push((entry.path.to_string(), entry.kind.clone(), bytes));
        Ok(())
    });
    let of = |name: &str| (name.to_owned(), EntryKind::File { size: 4 }, b"data".to_vec());
    assert_eq!((contents.unwrap().bytes, read), (8, vec![of("./x"), of("./y")]));
    let whole = archive(&small);
    for length in (0..whole.len()).step_by(256) {
        assert!(seen(&whole[..length], POLICY).1.is_err(), "cut at {length} of {}", whole.len());
    }

    // 8 GiB and a byte, whole: what follows is found behind it.
    let size = (8_u64 << 30) + 1;
    let told = size.to_string();
    let front = [pax(&[("size", told.as_bytes())]), without_size(entry(b"huge", b'0', b"", b""))].concat();
    let stream = || {
        let data = repeat(0).take(size.next_multiple_of(512));
        Cursor::new(front.clone()).chain(data).chain(Cursor::new(archive(&[file(b"after")])))
    };
    let large = ArchivePolicy { capacity: ByteCount(1 << 40), ..POLICY };
    let mut entries = Vec::new();
    let contents = walk(stream(), large, |entry, _| {
        entries.push((entry.path.to_string(), entry.kind.clone()));
        Ok(())
    });
    assert_eq!(contents.unwrap().bytes, size + 4);
    let kinds = [("./huge", size), ("./after", 4)];
    assert_eq!(entries, kinds.map(|(path, size)| (path.to_owned(), EntryKind::File { size })));
    // Not even begun where it does not fit, and no end is found in its data.
    let refused = walk(stream(), POLICY, |entry, _| panic!("{entry:?} has acted"));
    assert!(matches!(refused, Err(ImageError::TooLarge { required, .. }) if required == ByteCount(size)));
    let cut = walk(Cursor::new(front.clone()).chain(repeat(0).take(100_000)), large, |_, _| Ok(()));
    assert!(cut.unwrap_err().to_string().contains("cut short"));
}

#[test]
fn a_size_of_an_extended_header_is_refused_where_it_contradicts_or_does_not_belong() {
    let sized = |size: &'static [u8]| pax(&[("size", size)]);
    for (entries, why) in [
        ([sized(b"3"), file(b"x")], "two sizes"),
        ([sized(b"512"), without_size(entry(b"d", b'5', b"", b""))], "has data"),
        ([sized(b"512"), without_size(entry(b"l", b'2', b"x", b""))], "has data"),
        ([sized(b"18446744073709551615"), without_size(file(b"x"))], "beyond all bounds"),
        ([sized(b"18446744073709551616"), without_size(file(b"x"))], "cannot be read"),
        ([sized(b"-1"), without_size(file(b"x"))], "cannot be read"),
    ] {
        let what = refused(&entries);
        assert!(what.contains(why), "{what}");
    }
}

#[test]
fn device_nodes_are_let_through_where_they_are_allowed() {
    let policy = ArchivePolicy { device_nodes: true, ..POLICY };
    let (entries, result) = seen(&archive(&[entry(b"null", b'3', b"", b"")]), policy);
    result.unwrap();
    assert_eq!(entries[0].kind, EntryKind::Device { block: false, major: 1, minor: 3 });
}

#[test]
fn the_sizes_together_stay_within_what_the_slot_holds() {
    let policy = ArchivePolicy { capacity: ByteCount(7), ..POLICY };
    let (acted, result) = seen(&archive(&[file(b"a"), file(b"b")]), policy);
    assert!(matches!(result, Err(ImageError::TooLarge { required: ByteCount(8), .. })));
    assert_eq!(acted.len(), 1);
    // A size in a header alone sets no memory aside and is no promise.
    let mut header = Header::new_gnu();
    header.set_path("huge").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_size(u64::MAX - 1);
    header.set_cksum();
    let (_, result) = seen(&archive(&[header.as_bytes().to_vec()]), POLICY);
    assert!(result.is_err());
    let mut long = Header::new_gnu();
    long.set_path("././@LongLink").unwrap();
    long.set_entry_type(EntryType::GNULongName);
    long.set_size(1 << 40);
    long.set_cksum();
    let (_, result) = seen(&archive(&[long.as_bytes().to_vec()]), POLICY);
    assert!(result.unwrap_err().to_string().contains("an extended header of"));
}

#[test]
fn an_archive_that_is_cut_at_any_block_is_refused() {
    let whole = archive(&[
        entry(b"d/", b'5', b"", b""),
        pax(&[("mtime", b"1.5")]),
        file(b"d/a"),
        entry(b"d/b", b'0', b"", &[1; 1500]),
        entry(b"d/l", b'2', b"a", b""),
    ]);
    seen(&whole, POLICY).1.unwrap();
    for length in (0..whole.len()).step_by(256) {
        assert!(seen(&whole[..length], POLICY).1.is_err(), "cut at {length} of {}", whole.len());
    }
    let more = [whole.clone(), file(b"more")].concat();
    assert!(seen(&more, POLICY).1.unwrap_err().to_string().contains("something follows"));
    seen(&[whole, vec![0; 8192]].concat(), POLICY).1.unwrap();
}

/// xorshift64*, seeded, so that a failure is found again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32).unwrap() % sides.max(1)
    }
}

/// Makes the checksum of a header right again, so that the mutant gets past it.
fn mend(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn no_mutation_of_an_archive_panics_or_gives_a_name_that_leads_elsewhere() {
    let seeds = [
        archive(&[entry(b"d/", b'5', b"", b""), file(b"d/a"), entry(b"h", b'1', b"d/a", b"")]),
        archive(&[pax(&[("path", b"abc"), ("mtime", b"-1.5"), ("SCHILY.xattr.user.a", b"b")]), file(b"x")]),
        archive(&[entry(b"././@LongLink", b'L', b"", b"long/name\0"), entry(b"l", b'2', b"../a", b"")]),
        archive(&[entry(b"g", b'g', b"", &record("comment", b"x")), entry(b"n", b'3', b"", b"")]),
    ];
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for round in 0..100_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        let at = dice.roll(bytes.len() - 1024);
        for _ in 0..=dice.roll(4) {
            let near = (at + dice.roll(8)).min(bytes.len() - 1);
            bytes[near] = u8::try_from(dice.roll(256)).unwrap();
        }
        let block = at / 512 * 512;
        if dice.roll(8) > 0 {
            mend(&mut bytes[block..block + 512]);
        }
        if dice.roll(16) == 0 {
            bytes.truncate(dice.roll(bytes.len()));
        }
        crate::fuzzing::tar_entries(&bytes);
    }
}
