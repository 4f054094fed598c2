//! Whole images into whole slots.

use std::{fs, path::Path};

use ota_core::{
    ByteCount, ErrorCode, OtaError, Sha256Digest, Slot,
    ports::{Flow, WriteProgress},
    release::{ImageKind, Packing},
};

use super::{
    slots::{Board, condition, sha256sum, vouched},
    tools::{Mounted, compressed, pack, packing, read, run, tree},
};
use crate::{
    ArchivePolicy, FileSystemSpec, ImageError,
    archive::{
        EntryKind,
        tests::{archive, entry},
        walk,
    },
    tree::Tree,
};

#[test]
fn an_archive_becomes_a_fresh_file_system_that_gnu_tar_finds_the_same() {
    let tree = tree();
    for (format, compress) in [("posix", "gzip"), ("posix", "zstd"), ("gnu", "gzip")] {
        let image = read(&pack(&tree, format, compress));
        let board = Board::new(24);
        let mut told = Vec::new();
        let holds = board
            .install_watched(&image, &mut |progress| {
                told.push(progress);
                Flow::Continue
            })
            .unwrap();
        let slot = board.slot();
        assert_eq!(holds.size.get(), fs::metadata(&slot).unwrap().len());
        assert_eq!(holds.sha256.to_string(), sha256sum(&slot), "the recorded digest is the slot's");
        let path = slot.to_str().unwrap();
        run("e2fsprogs", "e2fsck", &["-f", "-n", path], Path::new("/"));
        let head = run("e2fsprogs", "dumpe2fs", &["-h", path], Path::new("/"));
        assert!(head.contains("Filesystem volume name:   rootfs-B\n"), "{head}");
        // Of this image on this slot, and of no other: the boot loader and fstab may go by either.
        let spec = FileSystemSpec::of("rootfs", Slot::B, &Sha256Digest::of(&image));
        assert!(head.contains(&format!("Filesystem UUID:          {}\n", spec.uuid)), "{head}");
        let probed =
            |what| run("util-linux", "blkid", &["-p", "-s", what, "-o", "value", path], Path::new("/"));
        assert_eq!((probed("LABEL"), probed("UUID")), ("rootfs-B\n".to_owned(), format!("{}\n", spec.uuid)));
        assert_ne!(spec.uuid, FileSystemSpec::of("rootfs", Slot::A, &Sha256Digest::of(&image)).uuid);
        assert!(head.contains("Filesystem state:         clean\n"), "{head}");
        assert!(matches!(told.last(), Some(WriteProgress::ReadBack(all)) if all.get() == image.len() as u64));
        let mounted = Mounted::new(&slot);
        let at = mounted.path().to_str().unwrap();
        let arguments = ["--compare", "--numeric-owner", "--file", "rootfs.tar", "--directory", at];
        run("tar", "tar", &arguments, tree.path());
        if format == "posix" {
            let attributes = |path: &str| {
                let folder = fs::File::open(mounted.path().join("usr/bin")).unwrap();
                crate::tree::attribute_of(&folder, path, c"security.capability").unwrap()
            };
            assert_eq!(attributes("big").len(), 20, "capabilities are kept");
            let time = fs::metadata(mounted.path().join("etc")).unwrap().modified().unwrap();
            assert_eq!(time, fs::metadata(tree.path().join("root/etc")).unwrap().modified().unwrap());
        }
        assert!(fs::read_dir(board.work()).unwrap().next().is_none(), "the mount point is gone");
    }
}

#[test]
fn a_packed_file_system_image_is_written_unpacked_with_both_digests_known() {
    let dir = tempfile::tempdir().unwrap();
    let made = "truncate -s 6M root.img && mkfs.ext4 -q -F root.img && mkdir t && head -c 900000 /dev/urandom > t/f \
        && mksquashfs t root.squashfs -quiet -no-progress";
    run("squashfs-tools", "sh", &["-ec", made], dir.path());
    for (name, kind) in [("root.img", ImageKind::Raw), ("root.squashfs", ImageKind::Squashfs)] {
        let plain = read(&dir.path().join(name));
        for (compress, packing) in [("gzip", Packing::Gzip), ("zstd", Packing::Zstd)] {
            let image = read(&compressed(&dir, name, compress));
            let board = Board::new(8);
            let facts = board.facts(&image).unwrap();
            assert_eq!((facts.kind, facts.packing), (kind, Some(packing)));
            let unpacked = facts.unpacked.unwrap();
            assert_eq!(unpacked.sha256.to_string(), sha256sum(&dir.path().join(name)));
            let holds = board.install(&image).unwrap();
            assert_eq!((holds.size, holds.sha256), (unpacked.size, unpacked.sha256));
            let slot = read(&board.slot());
            assert!(slot.starts_with(&plain) && slot[plain.len()..].iter().all(|byte| *byte == 0xbb));
        }
    }
}

#[test]
fn a_packed_image_that_is_cut_flipped_or_longer_is_refused_before_the_slot_is_touched() {
    let tree = tempfile::tempdir().unwrap();
    run("coreutils", "sh", &["-ec", "mkdir root; head -c 70000 /dev/urandom > root/f"], tree.path());
    let board = Board::new(8);
    for compress in ["gzip", "zstd"] {
        let image = read(&pack(&tree, "posix", compress));
        board.facts(&image).unwrap();
        for length in (8..image.len()).step_by(image.len() / 50) {
            let refused = board.facts(&image[..length]).unwrap_err();
            assert_eq!(refused.code(), ErrorCode::InvalidImage, "{compress} cut at {length}: {refused}");
        }
        let long = [image.as_slice(), b"more"].concat();
        assert_eq!(board.facts(&long).unwrap_err().code(), ErrorCode::InvalidImage);
        for at in (4..image.len()).step_by(image.len() / 40) {
            let mut flipped = image.clone();
            flipped[at] ^= 0x10;
            // What it was vouched for as: also where the decoder does not notice.
            let refused = board.facts_of(&flipped, &vouched(&image), None).unwrap_err();
            let code = refused.code();
            assert!(matches!(code, ErrorCode::InvalidImage | ErrorCode::ChecksumMismatch), "{at}: {refused}");
        }
    }
    assert!(read(&board.slot()).iter().all(|byte| *byte == 0xbb));
}

#[test]
fn an_image_that_unpacks_to_more_than_a_slot_holds_is_refused_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    // 16 GiB of zeros in a few hundred KiB: not to be waited for.
    run(
        "zstd",
        "sh",
        &["-ec", "head -c 512M /dev/zero | zstd -q > z; for i in $(seq 32); do cat z; done > bomb.zst"],
        dir.path(),
    );
    let refused = Board::new(8).facts(&read(&dir.path().join("bomb.zst"))).unwrap_err();
    assert!(matches!(refused, OtaError::InsufficientSpace { .. }), "{refused}");
    let archive = "mkdir root; truncate -s 9M root/hole; tar -C root -cf - . | gzip > a.tar.gz";
    run("tar", "sh", &["-ec", archive], dir.path());
    let refused = Board::new(8).facts(&read(&dir.path().join("a.tar.gz"))).unwrap_err();
    assert!(matches!(refused, OtaError::InsufficientSpace { .. }), "{refused}");
}

#[test]
fn nothing_is_unpacked_beyond_the_signed_length_and_no_byte_may_be_missing() {
    let tree = tree();
    let board = Board::new(24);
    for (format, compress) in [("posix", "gzip"), ("gnu", "zstd")] {
        let image = read(&pack(&tree, format, compress));
        let length = board.facts(&image).unwrap().unpacked.unwrap().size;
        let facts = |signed| board.facts_of(&image, &vouched(&image), Some(ByteCount(signed)));
        assert_eq!(facts(length.get()).unwrap().unpacked.unwrap().size, length);
        for signed in [0, 512, length.get() - 1, length.get() + 1] {
            let refused = facts(signed).unwrap_err();
            assert_eq!(refused.code(), ErrorCode::ChecksumMismatch, "{signed}: {refused}");
            assert!(refused.to_string().contains(&format!("{} unpacked", ByteCount(signed))), "{refused}");
        }
    }
}

/// Of more than 8 GiB: GNU tar has its size in an extended header (posix) or in another form (gnu). Only its front is read here, for
/// time; an archive header by header goes on behind such a file in `archive/tests.rs`.
#[test]
fn a_file_of_more_than_8_gib_has_its_size_in_an_archive_of_gnu_tar() {
    let dir = tempfile::tempdir().unwrap();
    run("coreutils", "sh", &["-ec", "mkdir root; truncate -s 8589934593 root/huge"], dir.path());
    for format in ["posix", "gnu"] {
        for (capacity, fits) in [(1 << 40, true), (8_589_934_592, false)] {
            let mut tar = packing(dir.path(), format);
            let policy = ArchivePolicy { device_nodes: false, capacity: ByteCount(capacity) };
            let mut found = Vec::new();
            let ended = walk(tar.stdout.take().unwrap(), policy, |entry, data| {
                found.push((entry.path.to_string(), entry.kind.clone()));
                if entry.kind == EntryKind::Folder {
                    return Ok(());
                }
                let mut front = vec![1; 1 << 20];
                data.read_exact(&mut front).unwrap();
                assert!(front.iter().all(|byte| *byte == 0));
                Err(ImageError::Stopped)
            });
            drop(tar.wait());
            let huge = ("./huge".to_owned(), EntryKind::File { size: 8_589_934_593 });
            assert_eq!(found.contains(&huge), fits, "{format}: {found:?}");
            match ended {
                Err(ImageError::Stopped) => assert!(fits),
                Err(ImageError::TooLarge { required, .. }) => {
                    assert!(!fits && required == ByteCount(8_589_934_593))
                }
                other => panic!("{format}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_archive_that_the_new_file_system_cannot_hold_after_all_is_told_as_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let archive =
        "mkdir root; head -c 7900000 /dev/urandom > root/f; tar -C root -cf - . | gzip -1 > a.tar.gz";
    run("tar", "sh", &["-ec", archive], dir.path());
    let board = Board::new(8);
    let refused = condition(board.install(&read(&dir.path().join("a.tar.gz"))).unwrap_err());
    assert!(matches!(refused, OtaError::InsufficientSpace { .. }), "{refused}");
    assert!(fs::read_dir(board.work()).unwrap().next().is_none(), "nothing stays mounted");
    // And the slot can be written again at once.
    let small = "rm root/f; echo x > root/f; tar -C root -cf - . | gzip > b.tar.gz";
    run("tar", "sh", &["-ec", small], dir.path());
    board.install(&read(&dir.path().join("b.tar.gz"))).unwrap();
}

#[test]
fn device_nodes_are_made_where_they_are_allowed_and_refused_where_not() {
    let dir = tempfile::tempdir().unwrap();
    run(
        "coreutils",
        "sh",
        &["-ec", "mkdir -p root/dev; mknod root/dev/null c 1 3; mknod root/dev/d b 8 1"],
        dir.path(),
    );
    let image = read(&pack(&dir, "gnu", "gzip"));
    let refused = Board::new(8).facts(&image).unwrap_err();
    assert!(refused.to_string().contains("dev/d is a device node"), "{refused}");
    let board = Board::with(8, true);
    board.install(&image).unwrap();
    let mounted = Mounted::new(&board.slot());
    let said = run("coreutils", "stat", &["-c", "%F %t %T", "dev/null", "dev/d"], mounted.path());
    assert_eq!(said, "character special file 1 3\nblock special file 8 1\n");
}

#[test]
fn the_observer_stops_an_unpacking_and_nothing_stays_mounted() {
    let tree = tree();
    let image = read(&pack(&tree, "posix", "gzip"));
    let board = Board::new(24);
    let mut calls = 0;
    let stopped = board.install_watched(&image, &mut |_| {
        calls += 1;
        if calls > 2 { Flow::Stop } else { Flow::Continue }
    });
    assert!(matches!(condition(stopped.unwrap_err()), OtaError::SystemBusy { .. }));
    assert!(fs::read_dir(board.work()).unwrap().next().is_none());
    board.install(&image).unwrap();
}

#[test]
fn an_entry_that_the_medium_changed_is_found_by_the_comparison() {
    let bytes = archive(&[
        entry(b"d/", b'5', b"", b""),
        entry(b"d/f", b'0', b"", b"content"),
        entry(b"d/l", b'2', b"f", b""),
        entry(b"h", b'1', b"d/f", b""),
    ]);
    let policy = crate::archive::tests::POLICY;
    let make = |root: &Path| {
        let tree = Tree::open(root).unwrap();
        walk(bytes.as_slice(), policy, |entry, data| tree.make(entry, data)).unwrap();
    };
    let compare = |root: &Path| {
        let tree = Tree::open(root).unwrap();
        walk(bytes.as_slice(), policy, |entry, data| tree.compare(entry, data)).map(drop)
    };
    type Spoil = fn(&Path);
    let changes: [(&str, Spoil); 6] = [
        ("its data", |root| {
            let file = fs::OpenOptions::new().write(true).open(root.join("d/f")).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"X", 3).unwrap();
            file.set_modified(time).unwrap();
        }),
        ("its owner", |root| std::os::unix::fs::chown(root.join("d/f"), Some(5), None).unwrap()),
        ("its length", |root| {
            let file = fs::OpenOptions::new().write(true).open(root.join("d/f")).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            file.set_len(3).unwrap();
            file.set_modified(time).unwrap();
        }),
        ("its time of change", |root| {
            fs::File::open(root.join("d")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("no hard link", |root| {
            fs::remove_file(root.join("h")).unwrap();
            fs::write(root.join("h"), b"content").unwrap();
        }),
        ("look at", |root| fs::remove_file(root.join("h")).unwrap()),
    ];
    for (what, spoil) in changes {
        let root = tempfile::tempdir().unwrap();
        make(root.path());
        compare(root.path()).unwrap();
        spoil(root.path());
        let error = compare(root.path()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}
