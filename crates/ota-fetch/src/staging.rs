//! Images in staging: one folder, opened once, everything below reached through its handle and without following links.
//!
//! An image `NAME` has its detached signatures beside it as `NAME.sig`, `NAME.asc`, `NAME.p7s`, further ones of a kind as
//! `NAME.p7s.2` to `NAME.p7s.8`, a checksum file that lists it as `NAME.sums` with its own signatures `NAME.sums.sig` and so on; what is still arriving is hidden as `.NAME.part` with its log `.NAME.part.log`. What uploads add stands in [`crate::uploads`].

use std::{
    fs::{DirBuilder, File},
    io::{ErrorKind, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, FileExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag, fallocate, open, openat, renameat},
    sys::{stat::Mode, statvfs::fstatvfs},
    unistd::{UnlinkatFlags, fsync, unlinkat},
};
use ota_core::{
    ByteCount, ImageName, OtaError,
    error::{PortError, SignatureFault},
    ports::{FileEnd, ImageReader, ImageStore},
    release::{
        ChecksumFile, DetachedSignature, Evidence, SignatureKind, numbered_endings, signature_endings,
    },
};

use crate::{FetchError, error::at};

/// Largest detached signature.
pub(crate) const SIGNATURE_MAX: u64 = 64 * 1024;

/// Largest checksum file: room for a release of thousands of files. The verifier has the same limit.
pub(crate) const SUMS_MAX: u64 = 1 << 20;

/// Ending of a checksum file; its own signatures are beside it in turn, `NAME.sums.asc`.
pub(crate) const SUMS: &str = "sums";

/// Endings of everything that may lie beside an image. An image itself has none of them.
pub(crate) fn beside() -> impl Iterator<Item = String> {
    let signatures = || signature_endings().map(|(ending, _)| ending);
    let of_sums = signatures().map(|ending| format!("{SUMS}.{ending}"));
    signatures().chain([SUMS.to_owned()]).chain(of_sums)
}

/// The ending for one more signature beside those that have theirs; `None` when there are as many of its ending as there may be.
pub(crate) fn next_ending(taken: &[(String, Vec<u8>)], prefix: &str, ending: &str) -> Option<String> {
    let is_free = |wanted: &String| !taken.iter().any(|(known, _)| known == wanted);
    numbered_endings(&format!("{prefix}{ending}")).find(is_free)
}

/// The staging folder. Clones share its handle.
#[derive(Clone, Debug)]
pub struct Staging {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    handle: OwnedFd,
}

impl Staging {
    /// Opens the folder; makes it, for the owner only, when it is not there.
    ///
    /// # Errors
    /// `Io`, also when the path is a symbolic link.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FetchError> {
        let path = path.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(at("create", &path))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = open(&path, flags, Mode::empty()).map_err(|e| at("open", &path)(e.into()))?;
        Ok(Self { folder: Arc::new(Folder { path, handle }) })
    }

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder.path
    }

    pub(crate) fn named(&self, file: &str) -> PathBuf {
        self.folder.path.join(file)
    }

    fn open_with(&self, file: &str, flags: OFlag) -> Result<File, FetchError> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let mode = Mode::from_bits_truncate(0o600);
        let handle = openat(&self.folder.handle, file, flags, mode)
            .map_err(|errno| at("open", self.named(file))(errno.into()))?;
        let opened = File::from(handle);
        let kind = opened.metadata().map_err(at("look at", self.named(file)))?;
        if kind.is_file() {
            return Ok(opened);
        }
        Err(at("open", self.named(file))(std::io::Error::other("not a regular file")))
    }

    /// An existing file for reading; `None` when there is none of that name.
    pub(crate) fn find(&self, file: &str) -> Result<Option<File>, FetchError> {
        match self.open_with(file, OFlag::O_RDONLY) {
            Ok(found) => Ok(Some(found)),
            Err(FetchError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A file to go on with, made when it is not there.
    pub(crate) fn open_or_make(&self, file: &str) -> Result<File, FetchError> {
        self.open_with(file, OFlag::O_RDWR | OFlag::O_CREAT)
    }

    /// A file that was not there before, for writing and reading.
    pub(crate) fn make_new(&self, file: &str) -> Result<File, FetchError> {
        self.open_with(file, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL)
    }

    /// The names of everything in the folder that has one in UTF-8, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, FetchError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let failed = |errno: Errno| at("list", self.path())(errno.into());
        let mut folder =
            nix::dir::Dir::openat(&self.folder.handle, ".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            let entry = entry.map_err(failed)?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether `opened` is still what `file` names.
    pub(crate) fn is_still(&self, file: &str, opened: &File) -> Result<bool, FetchError> {
        use std::os::unix::fs::MetadataExt as _;
        let Some(named) = self.find(file)? else { return Ok(false) };
        let look = |file_: &File| file_.metadata().map_err(at("look at", self.named(file)));
        let (named, opened) = (look(&named)?, look(opened)?);
        Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino()))
    }

    pub(crate) fn unlink(&self, file: &str) -> Result<(), FetchError> {
        match unlinkat(&self.folder.handle, file, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(at("remove", self.named(file))(errno.into())),
        }
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), FetchError> {
        let handle = self.folder.handle.as_fd();
        renameat(handle, from, handle, to).map_err(|e| at("rename", self.named(to))(e.into()))
    }

    /// Makes the names durable.
    pub(crate) fn sync(&self) -> Result<(), FetchError> {
        fsync(&self.folder.handle).map_err(|e| at("sync", &self.folder.path)(e.into()))
    }

    /// Replaces what lies beside an image by its detached signatures: temp file, sync, rename. A checksum file belongs to
    /// another image of the name, and would speak against this one. The folder is not synced.
    pub(crate) fn put_signatures(
        &self,
        name: &ImageName,
        signatures: &[(String, Vec<u8>)],
    ) -> Result<(), FetchError> {
        for ending in beside() {
            let file = format!("{name}.{ending}");
            let Some((_, bytes)) = signatures.iter().find(|(known, _)| *known == ending) else {
                self.unlink(&file)?;
                continue;
            };
            let temp = format!(".{file}.part");
            self.unlink(&temp)?;
            let mut out = self.open_with(&temp, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
            out.write_all(bytes).and_then(|()| out.sync_all()).map_err(at("write", self.named(&temp)))?;
            self.rename(&temp, &file)?;
        }
        Ok(())
    }

    /// What lies beside an image, without the files of the named endings.
    pub(crate) fn evidence_but(&self, name: &ImageName, without: &[String]) -> Result<Evidence, PortError> {
        let signatures = self.signatures_beside(name.as_str(), "", without)?;
        let sums = format!("{name}.{SUMS}");
        let text =
            if without.iter().any(|skipped| skipped == SUMS) { None } else { self.small(&sums, SUMS_MAX)? };
        let checksums = match text {
            Some(text) => {
                let signatures = self.signatures_beside(&sums, "sums.", without)?;
                Some(ChecksumFile { text, signatures, name: name.to_string() })
            }
            None => None,
        };
        Ok(Evidence { signatures, checksums })
    }

    fn signatures_beside(
        &self,
        file: &str,
        prefix: &str,
        without: &[String],
    ) -> Result<Vec<DetachedSignature>, PortError> {
        let mut found = Vec::new();
        for (ending, kind) in signature_endings() {
            if without.iter().any(|skipped| skipped.strip_prefix(prefix) == Some(&*ending)) {
                continue;
            }
            if let Some(bytes) = self.small(&format!("{file}.{ending}"), SIGNATURE_MAX)? {
                found.push(DetachedSignature { kind, bytes });
            }
        }
        Ok(found)
    }

    /// A whole file of at most `most` bytes.
    fn small(&self, file: &str, most: u64) -> Result<Option<Vec<u8>>, PortError> {
        let Some(opened) = self.find(file).map_err(port)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = opened.take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| port(at("read", self.named(file))(error)))?;
        if bytes.len() as u64 > most {
            let what = format!("{file} is larger than {} KiB", most / 1024);
            return Err(OtaError::SignatureInvalid { reason: SignatureFault::Malformed, what }.into());
        }
        Ok(Some(bytes))
    }

    /// Sets blocks aside for the first `size` bytes of `file` without changing its length.
    pub(crate) fn reserve(&self, file: &File, have: u64, size: u64) -> Result<(), FetchError> {
        let required = ByteCount(size.saturating_sub(have));
        let available = self.free_bytes()?;
        let length = i64::try_from(size).unwrap_or(i64::MAX);
        if size == 0 {
            return Ok(());
        }
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
            Ok(()) => Ok(()),
            Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => {
                Err(FetchError::Space { required, available })
            }
            // A file system that cannot: go by its count of free bytes.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) if available >= required => Ok(()),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                Err(FetchError::Space { required, available })
            }
            Err(errno) => Err(at("reserve space in", &self.folder.path)(errno.into())),
        }
    }

    /// What a file takes of the medium, with what is set aside for it; 0 when it is not there.
    fn blocks(&self, file: &str) -> Result<ByteCount, FetchError> {
        use std::os::unix::fs::MetadataExt as _;
        let Some(found) = self.find(file)? else { return Ok(ByteCount::ZERO) };
        let meta = found.metadata().map_err(at("look at", self.named(file)))?;
        // In this unit whatever the file system's is.
        Ok(ByteCount(meta.blocks().saturating_mul(512)))
    }

    pub(crate) fn free_bytes(&self) -> Result<ByteCount, FetchError> {
        let stat =
            fstatvfs(&self.folder.handle).map_err(|e| at("ask for free space of", self.path())(e.into()))?;
        Ok(ByteCount(stat.blocks_available().saturating_mul(stat.fragment_size())))
    }

    /// Names of the partial file of an image and of its log.
    pub(crate) fn partial(name: &ImageName) -> (String, String) {
        (format!(".{name}.part"), format!(".{name}.part.log"))
    }
}

struct StagedFile {
    file: File,
    path: PathBuf,
}

impl ImageReader for StagedFile {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, PortError> {
        loop {
            match self.file.read(buf) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome.map_err(|e| port(at("read", &self.path)(e))),
            }
        }
    }
}

impl ImageStore for Staging {
    fn open(&self, name: &ImageName) -> Result<Box<dyn ImageReader>, PortError> {
        let file = self.open_with(name.as_str(), OFlag::O_RDONLY).map_err(port)?;
        Ok(Box::new(StagedFile { file, path: self.named(name.as_str()) }))
    }

    fn end(&self, name: &ImageName, most: usize) -> Result<FileEnd, PortError> {
        let file = self.open_with(name.as_str(), OFlag::O_RDONLY).map_err(port)?;
        let read = || -> std::io::Result<FileEnd> {
            let length = file.metadata()?.len();
            let mut bytes = vec![0; most.min(usize::try_from(length).unwrap_or(usize::MAX))];
            let from = length - bytes.len() as u64;
            file.read_exact_at(&mut bytes, from)?;
            Ok(FileEnd { bytes, length: ByteCount(length) })
        };
        read().map_err(|error| port(at("read", self.named(name.as_str()))(error)))
    }

    fn evidence(&self, name: &ImageName) -> Result<Evidence, PortError> {
        self.evidence_but(name, &[])
    }

    fn remove(&self, name: &ImageName) -> Result<(), PortError> {
        let (part, log) = Self::partial(name);
        let mut files = vec![part, log, name.to_string(), crate::uploads::record_name(name)];
        files.extend(beside().map(|ending| format!("{name}.{ending}")));
        files.iter().try_for_each(|file| self.unlink(file)).and_then(|()| self.sync()).map_err(port)
    }

    fn free(&self) -> Result<ByteCount, PortError> {
        self.free_bytes().map_err(port)
    }

    fn room_for(&self, name: &ImageName) -> Result<ByteCount, PortError> {
        let (part, _) = Self::partial(name);
        let run = || -> Result<ByteCount, FetchError> {
            let mut room = self.free_bytes()?;
            for file in [part.as_str(), name.as_str()] {
                room = room + self.blocks(file)?;
            }
            Ok(room)
        };
        run().map_err(port)
    }

    fn forget_unfinished(&self, keep: &ImageName) -> Result<(), PortError> {
        let (kept, _) = Self::partial(keep);
        let run = || -> Result<(), FetchError> {
            // Uploads and signatures that arrive have no log.
            let names = self.names()?;
            let parts = names.iter().filter_map(|name| name.strip_suffix(".log"));
            let others: Vec<&str> = parts.filter(|part| part.ends_with(".part") && *part != kept).collect();
            if others.is_empty() {
                return Ok(());
            }
            for part in others {
                tracing::info!(part, "an unfinished download of another image is deleted");
                self.unlink(part)?;
                self.unlink(&format!("{part}.log"))?;
            }
            self.sync()
        };
        run().map_err(port)
    }
}

pub(crate) fn port(error: FetchError) -> PortError {
    PortError::io(error.to_string(), error)
}

/// Ending under which a signature of this kind, offered under this target path, is kept.
pub(crate) fn ending(kind: SignatureKind, target: &str) -> &'static str {
    match kind {
        SignatureKind::Cms => "p7s",
        SignatureKind::Openpgp if target.to_ascii_lowercase().ends_with(".asc") => "asc",
        SignatureKind::Openpgp => "sig",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn staging() -> (tempfile::TempDir, Staging) {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::open(dir.path().join("staging")).unwrap();
        (dir, staging)
    }

    fn read(mut reader: Box<dyn ImageReader>) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buf = [0; 7];
        while let got @ 1.. = reader.read(&mut buf).unwrap() {
            all.extend_from_slice(&buf[..got]);
        }
        all
    }

    #[test]
    fn an_image_is_read_with_its_signatures_and_goes_with_them() {
        let (_dir, staging) = staging();
        let name: ImageName = "fw-1.img".parse().unwrap();
        assert!(staging.open(&name).is_err());
        for file in
            ["fw-1.img", "fw-1.img.sig", "fw-1.img.p7s", ".fw-1.img.part", ".fw-1.img.part.log", "other"]
        {
            fs::write(staging.path().join(file), file).unwrap();
        }
        assert_eq!(read(staging.open(&name).unwrap()), b"fw-1.img");
        let kinds: Vec<_> = staging.evidence(&name).unwrap().signatures.iter().map(|s| s.kind).collect();
        assert_eq!(kinds, [SignatureKind::Openpgp, SignatureKind::Cms]);
        assert!(staging.free().unwrap() > ByteCount::ZERO);
        staging.remove(&name).unwrap();
        staging.remove(&name).unwrap();
        let left: Vec<_> = fs::read_dir(staging.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
    }

    #[test]
    fn new_signatures_leave_nothing_beside_the_image_that_vouched_for_another_one_of_its_name() {
        let (_dir, staging) = staging();
        let name: ImageName = "fw-1.img".parse().unwrap();
        for ending in beside() {
            fs::write(staging.path().join(format!("fw-1.img.{ending}")), "of an earlier one").unwrap();
        }
        staging.put_signatures(&name, &[("p7s".into(), b"new".to_vec())]).unwrap();
        let evidence = staging.evidence(&name).unwrap();
        assert_eq!(evidence.checksums, None);
        let signatures: Vec<_> = evidence.signatures.iter().map(|s| (s.kind, &*s.bytes)).collect();
        assert_eq!(signatures, [(SignatureKind::Cms, &b"new"[..])]);
        let left: Vec<_> = fs::read_dir(staging.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["fw-1.img.p7s"]);
    }

    #[test]
    fn links_pipes_and_folders_are_not_opened() {
        let (dir, staging) = staging();
        fs::write(dir.path().join("secret"), "x").unwrap();
        symlink(dir.path().join("secret"), staging.path().join("link.img")).unwrap();
        symlink(dir.path().join("secret"), staging.path().join("a.img.sig")).unwrap();
        fs::create_dir(staging.path().join("folder.img")).unwrap();
        nix::unistd::mkfifo(&staging.path().join("pipe.img"), Mode::S_IRWXU).unwrap();
        for name in ["link.img", "folder.img", "pipe.img"] {
            assert!(staging.open(&name.parse().unwrap()).is_err(), "{name}");
        }
        assert!(staging.evidence(&"a.img".parse().unwrap()).is_err());
        symlink(staging.path(), dir.path().join("alias")).unwrap();
        assert!(Staging::open(dir.path().join("alias")).is_err());
    }

    #[test]
    fn an_oversized_signature_is_malformed_and_an_exchanged_image_does_not_change_a_reader() {
        let (_dir, staging) = staging();
        let name: ImageName = "a.img".parse().unwrap();
        fs::write(staging.path().join("a.img"), "first").unwrap();
        let reader = staging.open(&name).unwrap();
        fs::write(staging.path().join("b"), "second").unwrap();
        fs::rename(staging.path().join("b"), staging.path().join("a.img")).unwrap();
        assert_eq!(read(reader), b"first");
        fs::write(staging.path().join("a.img.sums"), vec![b'0'; 1 << 20]).unwrap();
        assert_eq!(staging.evidence(&name).unwrap().checksums.map(|sums| sums.text.len()), Some(1 << 20));
        fs::write(staging.path().join("a.img.sums"), vec![b'0'; (1 << 20) + 1]).unwrap();
        let error = staging.evidence(&name).unwrap_err();
        assert!(error.to_string().contains("malformed"), "{error}");
        fs::remove_file(staging.path().join("a.img.sums")).unwrap();
        fs::write(staging.path().join("a.img.sig"), vec![0; 65 * 1024]).unwrap();
        let error = staging.evidence(&name).unwrap_err();
        assert!(error.to_string().contains("malformed"), "{error}");
    }

    #[test]
    fn there_is_room_for_what_is_set_aside_for_it_already() {
        let (_dir, staging) = staging();
        let name: ImageName = "fw-1.img".parse().unwrap();
        let file = staging.open_or_make(".fw-1.img.part").unwrap();
        staging.reserve(&file, 0, 8 << 20).unwrap();
        let (room, free) = (staging.room_for(&name).unwrap(), staging.free().unwrap());
        // Others write to the medium, too.
        assert!(room.get() >= free.get() + (7 << 20), "{room:?} {free:?}");
        assert!(staging.room_for(&"other.img".parse().unwrap()).unwrap() < room);
    }

    #[test]
    fn unfinished_downloads_of_other_images_are_forgotten_and_nothing_else() {
        let (_dir, staging) = staging();
        let stays = [
            ".update-1.img.part",
            ".update-1.img.part.log",
            ".custom.img.3.incoming",
            ".custom.img.p7s.part",
            "update-2.squashfs",
            "custom.img",
        ];
        let goes = [".update-2.squashfs.part", ".update-2.squashfs.part.log", ".update-3.img.part.log"];
        for file in stays.iter().chain(&goes) {
            fs::write(staging.path().join(file), file).unwrap();
        }
        for _ in 0..2 {
            staging.forget_unfinished(&"update-1.img".parse().unwrap()).unwrap();
            let mut left: Vec<_> = staging.names().unwrap();
            left.retain(|name| name != "." && name != "..");
            let mut expected = stays.map(str::to_owned);
            expected.sort_unstable();
            assert_eq!(left, expected);
        }
    }

    #[test]
    fn space_that_is_not_there_cannot_be_reserved() {
        let (_dir, staging) = staging();
        let file = staging.open_or_make(".x.part").unwrap();
        staging.reserve(&file, 0, 1 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        let outcome = staging.reserve(&file, 0, 1 << 60);
        assert!(matches!(outcome, Err(FetchError::Space { required: ByteCount(r), .. }) if r == 1 << 60));
    }
}
