//! The forms that an image may have on its way to a device, made by GNU tar, gzip, zstd and mkfs.ext4 of the tree behind a
//! squashfs image; and the trailer of one-file images.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use ota_core::{
    ByteCount, Sha256Digest,
    release::{DetachedSignature, ImageKind, SignatureKind},
};
use ota_tests::{
    process,
    release::{MODEL, NEW_VERSION, Publisher, SignedBy},
};
use ota_verify::{Manifest, Trailer, trailer::ManifestKind};

use crate::world::Offer;

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    TarGz,
    TarZst,
    ImgGz,
    ImgZst,
}

impl Form {
    pub(crate) const ALL: [Self; 4] = [Self::TarGz, Self::TarZst, Self::ImgGz, Self::ImgZst];

    const fn ending(self) -> &'static str {
        match self {
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
            Self::ImgGz => "img.gz",
            Self::ImgZst => "img.zst",
        }
    }
}

/// Whether a slot needs more than the length of what is on offer.
pub(crate) fn is_packed(offer: Offer) -> bool {
    matches!(offer, Offer::Packed(_) | Offer::OneFile(Some(_)) | Offer::Escapes | Offer::LongerThanSigned)
}

/// Gives `image`, or what is on offer in its place: who signs it beside, and what it unpacks to by the server's word.
pub(crate) fn shape(
    offer: Offer,
    publisher: &Publisher,
    image: &Path,
    signed_by: SignedBy,
) -> (PathBuf, SignedBy, Option<u64>) {
    let packed = |form| pack(form, image);
    match offer {
        Offer::Packed(form) => {
            let (path, length) = packed(form);
            (path, signed_by, Some(length))
        }
        Offer::LongerThanSigned => {
            let (path, length) = packed(Form::TarGz);
            (path, signed_by, Some(length - 512))
        }
        Offer::Escapes => {
            let tree = image.with_file_name("tree");
            std::os::unix::fs::symlink("../../outside", tree.join("evil")).unwrap();
            (packed(Form::TarGz).0, signed_by, None)
        }
        Offer::OneFile(form) => {
            let (path, unpacked) = form.map_or_else(
                || (image.to_owned(), None),
                |form| {
                    let (path, length) = packed(form);
                    (path, Some(length))
                },
            );
            append_trailer(publisher, &path, unpacked);
            (path, SignedBy::Nobody, None)
        }
        _ => (image.to_owned(), signed_by, None),
    }
}

fn shell(line: &str) {
    process::read("sh", ["-ec", line]).unwrap();
}

/// The tree behind `image`, packed; and how long that is unpacked.
fn pack(form: Form, image: &Path) -> (PathBuf, u64) {
    let dir = image.parent().unwrap();
    let at = dir.display();
    let (make, file) = match form {
        Form::TarGz | Form::TarZst => {
            ("tar -C tree --sort=name --numeric-owner --owner=0 --group=0 -cf rootfs.tar .", "rootfs.tar")
        }
        Form::ImgGz | Form::ImgZst => {
            ("truncate -s 8M rootfs.img; mkfs.ext4 -q -F -d tree rootfs.img", "rootfs.img")
        }
    };
    let compress = match form {
        Form::TarGz | Form::ImgGz => "gzip -kf",
        Form::TarZst | Form::ImgZst => "zstd -qf",
    };
    shell(&format!("cd {at}; export PATH=$PATH:/usr/sbin:/sbin; {make}; {compress} {file}"));
    (dir.join(format!("rootfs.{}", form.ending())), fs::metadata(dir.join(file)).unwrap().len())
}

/// What `ota-admin sign --embed` does.
fn append_trailer(publisher: &Publisher, path: &Path, unpacked: Option<u64>) {
    let bytes = fs::read(path).unwrap();
    let kind = match path.extension().unwrap().to_str().unwrap() {
        "squashfs" => ImageKind::Squashfs,
        _ if path.to_string_lossy().contains(".tar.") => ImageKind::TarGz,
        _ => ImageKind::Raw,
    };
    let manifest = Manifest {
        version: format!("v{NEW_VERSION}").parse().unwrap(),
        models: vec![MODEL.into()],
        kind: ManifestKind(kind),
        size: ByteCount(bytes.len() as u64),
        sha256: Sha256Digest::of(&bytes),
        unpacked_size: unpacked.map(ByteCount),
        requires_reboot: true,
        block_size: 1 << 16,
        blocks: bytes.chunks(1 << 16).map(Sha256Digest::of).collect(),
        notes: vec![],
    };
    let manifest = manifest.encode().into_bytes();
    let file = path.with_file_name("manifest");
    fs::write(&file, &manifest).unwrap();
    let signature = publisher.sign(&file, SignedBy::Us).unwrap().unwrap();
    let signatures =
        vec![DetachedSignature { kind: SignatureKind::Cms, bytes: fs::read(signature).unwrap() }];
    let trailer = Trailer { manifest, signatures }.encode(bytes.len() as u64).unwrap();
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(&trailer).unwrap();
}
