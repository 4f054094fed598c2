//! Images made at test time by the tools that make them.

use ota_core::{
    ByteCount, OtaError, Sha256Digest,
    ports::{ImageFacts, ImageInspector as _},
    release::{ImageKind, Vouched},
};
use tempfile::TempDir;

use super::{HEAD_LEN, HeadInspector, ImageFormat, Inspection, inspect};
use crate::tests::world::{program, read, run, write};

pub(crate) fn vouched(size: u64) -> Vouched {
    Vouched {
        sha256: Sha256Digest::of(b""),
        size: ByteCount(size),
        signers: vec![],
        checksummed: false,
        trust: String::new(),
    }
}

fn of(image: &[u8]) -> Result<Inspection, OtaError> {
    inspect(&vouched(image.len() as u64), &image[..image.len().min(HEAD_LEN)])
}

fn refusal(image: &[u8]) -> String {
    match of(image) {
        Err(OtaError::InvalidImage { what }) => what,
        other => panic!("{other:?}"),
    }
}

/// A squashfs image of one small file.
pub(crate) fn squashfs(compressor: &str) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    write(dir.path(), "root/file", &b"some content ".repeat(1000));
    let arguments = ["root", "image", "-comp", compressor, "-quiet", "-no-progress"];
    run("squashfs-tools", program("mksquashfs").current_dir(dir.path()).args(arguments));
    read(&dir.path().join("image"))
}

fn made(size: u64, package: &str, tool: &str, arguments: &[&str]) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image");
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    run(package, program(tool).current_dir(dir.path()).args(arguments).arg("image"));
    read(&path)
}

fn ext(arguments: &[&str]) -> Vec<u8> {
    made(4 << 20, "e2fsprogs", "/sbin/mke2fs", &[&["-q", "-F"], arguments].concat())
}

fn partitioned(table: &str) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk");
    std::fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
    write(dir.path(), "table", table.as_bytes());
    let input = std::fs::File::open(dir.path().join("table")).unwrap();
    run("fdisk", program("/sbin/sfdisk").current_dir(dir.path()).args(["-q", "disk"]).stdin(input));
    read(&path)
}

#[test]
fn squashfs_images_of_all_compressors_are_standard() {
    for compressor in ["gzip", "xz", "zstd", "lz4", "lzo"] {
        let image = squashfs(compressor);
        let inspection = of(&image).unwrap();
        assert_eq!(inspection.format.to_string(), format!("squashfs ({compressor})"));
        assert_eq!(
            (inspection.format.kind(), inspection.partition_layout),
            (ImageKind::Squashfs, "standard")
        );
        assert!(inspection.content.unwrap().get() <= image.len() as u64);
    }
}

#[test]
fn the_port_says_format_and_layout_in_words() {
    let image = squashfs("zstd");
    let facts = HeadInspector.inspect(&vouched(image.len() as u64), &image).unwrap();
    let expected = ImageFacts {
        kind: ImageKind::Squashfs,
        format: "squashfs (zstd)".into(),
        partition_layout: "standard".into(),
        packing: None,
        unpacked: None,
    };
    assert_eq!((facts, HeadInspector.head_len()), (expected, HEAD_LEN));
}

#[test]
fn a_squashfs_image_cut_anywhere_in_its_content_is_refused() {
    let image = squashfs("gzip");
    let used = usize::try_from(of(&image).unwrap().content.unwrap().get()).unwrap();
    assert!(of(&image[..used]).is_ok(), "what mksquashfs pads may be missing");
    for length in 0..used {
        refusal(&image[..length]);
    }
    assert!(refusal(&image[..used - 1]).contains("cut short"));
}

#[test]
fn a_damaged_squashfs_superblock_is_refused() {
    let image = squashfs("gzip");
    for (at, value) in
        [(12, 1), (20, 9), (22, 9), (28, 3), (34, 0xff), (47, 1), (55, 1), (71, 1), (79, 1), (95, 1)]
    {
        let mut copy = image.clone();
        copy[at] = value;
        assert!(refusal(&copy).contains("squashfs"), "byte {at}");
    }
}

#[test]
fn ext_file_systems_are_standard_and_show_their_label() {
    for name in ["ext2", "ext3", "ext4"] {
        let inspection = of(&ext(&["-t", name, "-L", "rootfs"])).unwrap();
        let expected = Inspection {
            format: ImageFormat::Ext(name),
            content: Some(ByteCount(4 << 20)),
            label: Some("rootfs".into()),
            partition_layout: "standard",
        };
        assert_eq!(inspection, expected);
    }
}

#[test]
fn an_ext_image_that_is_cut_short_or_was_mounted_is_refused() {
    let image = ext(&["-t", "ext4"]);
    assert!(refusal(&image[..image.len() - 1]).contains("cut short"));
    assert!(refusal(&image[..1500]).contains("superblock"));
    let mut mounted = image;
    mounted[1024 + 96] |= 0x4;
    assert!(refusal(&mounted).contains("journal"));
}

#[test]
fn a_whole_disk_is_refused_with_the_partition_to_take() {
    let gpt = refusal(&partitioned("label: gpt\nsize=2MiB\nsize=8MiB\n"));
    assert!(gpt.contains("GUID partition table and 2 partition(s)"), "{gpt}");
    assert!(gpt.contains("number 2 perhaps: dd if=DISK of=rootfs.img bs=512 skip=6144 count=16384"), "{gpt}");
    let mbr = refusal(&partitioned("label: dos\nsize=2MiB,type=c\nsize=8MiB,type=83\n"));
    assert!(mbr.contains("(MBR) and 2 partition(s)"), "{mbr}");
    assert!(mbr.contains("skip=6144 count=16384"), "{mbr}");
}

#[test]
fn archives_are_told_by_their_compression() {
    let compressed = |package: &str, tool: &str| {
        let dir = TempDir::new().unwrap();
        write(dir.path(), "file", b"content");
        run(package, program(tool).current_dir(dir.path()).args(["-c", "file"])).stdout
    };
    let gzip = of(&compressed("gzip", "gzip")).unwrap();
    assert_eq!((gzip.format, gzip.format.kind()), (ImageFormat::Gzip, ImageKind::TarGz));
    assert_eq!(of(&compressed("zstd", "zstd")).unwrap().format, ImageFormat::Zstd);
    assert!(refusal(&compressed("xz-utils", "xz")).contains("xz"));
}

#[test]
fn what_no_slot_takes_is_refused_by_name() {
    // ECMA-119, 8.4: the primary volume descriptor is sector 16.
    let mut iso = vec![0; 64 * 1024];
    iso[0x8000..0x8007].copy_from_slice(b"\x01CD001\x01");
    assert!(refusal(&iso).contains("an ISO 9660 image"), "{}", refusal(&iso));
    assert!(refusal(b"").contains("no known format"));
    assert!(refusal(&[0; 4096]).contains("no known format"));
    assert!(refusal(&[b"\x7fELF".as_slice(), &[0; 4096]].concat()).contains("a program"));
    let short = inspect(&vouched(100_000), b"hsqs");
    assert!(short.is_err(), "the front must be there whole");
}
