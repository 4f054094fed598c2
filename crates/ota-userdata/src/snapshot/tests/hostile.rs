//! Archives that somebody else wrote: whatever is in them, nothing beside the configured paths changes.

use std::{fs, io::Write as _};

use ota_core::{ByteCount, Sha256Digest, SnapshotId, ports::Snapshots as _};
use tar::{EntryType, Header};

use super::{Device, ota};
use crate::{
    folder::Owner,
    snapshot::manifest::{Listed, ListedKind, Manifest, SCHEMA},
};

/// One entry as it stands in a tar, however wrong.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) name: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) link: &'static str,
    pub(super) data: Vec<u8>,
}

impl Raw {
    pub(super) fn file(name: impl Into<Vec<u8>>, data: &[u8]) -> Self {
        Self { name: name.into(), kind: EntryType::Regular, mode: 0o644, link: "", data: data.into() }
    }

    fn of(kind: EntryType, name: impl Into<Vec<u8>>, link: &'static str) -> Self {
        Self { kind, link, ..Self::file(name, b"") }
    }

    fn blocks(&self) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(self.data.len() as u64);
        let field = &mut header.as_gnu_mut().unwrap().name;
        let length = self.name.len().min(field.len());
        field[..length].copy_from_slice(&self.name[..length]);
        let field = &mut header.as_gnu_mut().unwrap().linkname;
        field[..self.link.len()].copy_from_slice(self.link.as_bytes());
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(&self.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    /// What an honest list would say of it.
    fn listed(&self) -> Listed {
        let name = String::from_utf8_lossy(&self.name).into_owned();
        let path = name.strip_prefix("files/").unwrap_or(&name).trim_end_matches('/').to_owned();
        let kind = if self.kind == EntryType::Directory {
            ListedKind::Folder
        } else {
            ListedKind::File { size: self.data.len() as u64, sha256: Sha256Digest::of(&self.data) }
        };
        Listed::new(&path, kind, Owner { mode: self.mode, uid: 0, gid: 0 })
    }
}

/// An archive whose list agrees with its entries.
pub(super) fn tar(entries: &[Raw]) -> Vec<u8> {
    let entries_bytes: Vec<u8> = entries.iter().flat_map(Raw::blocks).collect();
    let listed = entries.iter().map(Raw::listed).collect();
    let manifest =
        Manifest { schema: SCHEMA, created: Default::default(), paths: Vec::new(), entries: listed };
    let list = Raw::file("manifest.json", &serde_json::to_vec(&manifest).unwrap());
    [entries_bytes, list.blocks(), vec![0; 1024]].concat()
}

pub(super) fn compressed(tar: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

/// Puts an archive where the device finds it.
pub(super) fn plant(device: &Device, archive: &[u8]) -> SnapshotId {
    fs::create_dir_all(device.at("snapshots")).unwrap();
    fs::write(device.at("snapshots/SNAP-7.tar.zst"), archive).unwrap();
    SnapshotId::from_number(7)
}

#[test]
fn an_honest_archive_of_somebody_else_is_listed_and_put_back() {
    let device = Device::new();
    let inside = device.settings().display().to_string();
    let archive = compressed(&tar(&[Raw::file(format!("files{inside}/a"), b"mine")]));
    let id = plant(&device, &archive);
    let listed = device.folder().list().unwrap();
    assert_eq!((listed[0].id.clone(), listed[0].cause, listed[0].files), (id.clone(), None, None));
    device.folder().restore(&id, None).unwrap();
    assert_eq!(fs::read(device.settings().join("a")).unwrap(), b"mine");
}

#[test]
fn entries_that_lead_out_of_the_configured_paths_are_refused() {
    let device = Device::new();
    device.write("a", b"old");
    let (inside, outside) =
        (device.settings().display().to_string(), device.at("outside").display().to_string());
    let good = Raw::file(format!("files{inside}/a"), b"new");
    let canary = format!("{outside}/canary");
    let link: &'static str = Box::leak(outside.clone().into_boxed_str());
    let target: &'static str = Box::leak(canary.clone().into_boxed_str());
    let setuid = Raw { mode: 0o4755, ..Raw::file(format!("files{inside}/b"), b"x") };
    let folder = Raw { kind: EntryType::Directory, ..Raw::file(format!("files{inside}/b/"), b"") };
    let cases: Vec<(&str, Vec<Raw>)> = vec![
        ("absolute", vec![Raw::file(canary.clone(), b"x")]),
        ("absolute below files", vec![Raw::file(format!("files/{canary}"), b"x")]),
        ("up", vec![Raw::file(format!("files{inside}/../../outside/canary"), b"x")]),
        ("up from files", vec![Raw::file(format!("files/../{canary}"), b"x")]),
        ("another folder", vec![Raw::file(format!("files{canary}"), b"x")]),
        ("beside, with the same start", vec![Raw::file(format!("files{inside}-beside"), b"x")]),
        (
            "the folder above",
            vec![Raw::of(EntryType::Directory, format!("files{}/", device.at("inside").display()), "")],
        ),
        ("a symbolic link", vec![Raw::of(EntryType::Symlink, format!("files{inside}/b"), link)]),
        (
            "a file through a link",
            vec![
                Raw::of(EntryType::Symlink, format!("files{inside}/b"), link),
                Raw::file(format!("files{inside}/b/canary"), b"x"),
            ],
        ),
        ("a hard link", vec![Raw::of(EntryType::Link, format!("files{inside}/b"), target)]),
        ("a device", vec![Raw::of(EntryType::Block, format!("files{inside}/b"), "")]),
        ("a character device", vec![Raw::of(EntryType::Char, format!("files{inside}/b"), "")]),
        ("a pipe", vec![Raw::of(EntryType::Fifo, format!("files{inside}/b"), "")]),
        ("a sparse file", vec![Raw::of(EntryType::GNUSparse, format!("files{inside}/b"), "")]),
        ("a pax header", vec![Raw::of(EntryType::XHeader, format!("files{inside}/b"), "")]),
        ("a set-user-id file", vec![setuid]),
        ("twice the same", vec![good.clone(), good.clone()]),
        (
            "a file in a file",
            vec![Raw::file(format!("files{inside}/b"), b"x"), Raw::file(format!("files{inside}/b/c"), b"x")],
        ),
        ("a file that is a folder", vec![folder, Raw::file(format!("files{inside}/b"), b"x")]),
        ("an empty name", vec![Raw::file("files/", b"x")]),
        ("the temp file itself", vec![Raw::file(format!("files{inside}/.ota-restore.tmp"), b"x")]),
        ("a second list", vec![Raw::file("manifest.json", b"{}")]),
    ];
    let (before, beside) = (device.picture("inside/settings"), device.beside());
    for (what, hostile) in cases {
        for entries in [hostile.clone(), [vec![good.clone()], hostile].concat()] {
            let id = plant(&device, &compressed(&tar(&entries)));
            let error = device.folder().restore(&id, None).expect_err(what);
            assert!(matches!(ota(&error).code().number(), 5 | 7), "{what}: {}", error.chain());
            assert_eq!(device.picture("inside/settings"), before, "{what}");
            assert_eq!(device.beside(), beside, "{what}");
        }
    }
}

#[test]
fn an_archive_without_a_list_or_with_something_behind_it_is_refused() {
    let device = Device::new();
    let good = Raw::file(format!("files{}/a", device.settings().display()), b"new");
    let bare = [good.blocks(), vec![0; 1024]].concat();
    let whole = tar(std::slice::from_ref(&good));
    let behind = [&whole[..whole.len() - 1024], &good.blocks(), &vec![0; 1024]].concat();
    let mut other = whole.clone();
    let at = other.windows(3).position(|bytes| bytes == b"new").unwrap();
    other[at..at + 3].copy_from_slice(b"NEW");
    for (what, archive) in
        [("no list", bare), ("behind", behind), ("other bytes", other), ("nothing", Vec::new())]
    {
        let id = plant(&device, &compressed(&archive));
        assert!(device.folder().restore(&id, None).is_err(), "{what}");
        assert!(fs::read_dir(device.settings()).unwrap().next().is_none(), "{what}");
    }
}

#[test]
fn an_archive_that_unpacks_to_more_than_is_allowed_is_refused_with_little_memory() {
    let mut device = Device::new();
    device.config.max = ByteCount(1 << 20);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = Header::new_gnu();
    header.set_path(format!("files{}/a", device.settings().display()).trim_start_matches('/')).unwrap();
    header.set_size(4 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 200 << 20), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let id = plant(&device, &bomb);
    assert_eq!(ota(&device.folder().restore(&id, None).unwrap_err()).code().number(), 5);
}
