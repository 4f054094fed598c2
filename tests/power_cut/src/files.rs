//! A file system that keeps what was synced: data of a file with the file, names with their folder.
//!
//! Owns the model only; which calls are played on it is in [`crate::trace`]. Names that were not synced come back in the
//! order in which they were made, as a journal would replay them: all of them up to some point, none after it.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    medium::{BLOCK, Fate},
    random::Random,
    trace::{Call, LeftOut},
};

/// Equal for two outcomes that nothing can tell apart.
pub(crate) type Key = u64;

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

type Names = BTreeMap<String, usize>;

/// The folder of the store.
pub(crate) struct Files {
    folder: PathBuf,
    files: Vec<File>,
    names: Names,
    durable: Names,
    namings: Vec<Naming>,
    open: BTreeMap<i64, Handle>,
}

#[derive(Clone, Copy, Debug)]
enum Handle {
    Folder,
    File { file: usize, at: usize },
}

impl Files {
    pub(crate) fn new(folder: &Path) -> Self {
        let (names, durable) = (Names::new(), Names::new());
        Self {
            folder: folder.into(),
            files: Vec::new(),
            names,
            durable,
            namings: Vec::new(),
            open: BTreeMap::new(),
        }
    }

    fn name(&self, path: &Path) -> Option<String> {
        let name = path.strip_prefix(&self.folder).ok()?.to_str()?;
        // The shared memory of a log is made anew from the log.
        (!name.is_empty() && !name.ends_with("-shm")).then(|| name.to_owned())
    }

    /// Whether `call` is the sync that is left out.
    pub(crate) fn is_sync(&self, call: &Call, left_out: LeftOut) -> bool {
        let Call::Sync { fd } = call else { return false };
        let named =
            |end: fn(&str) -> bool, file: usize| self.names.iter().any(|(name, f)| *f == file && end(name));
        match (self.open.get(fd), left_out) {
            (Some(Handle::Folder), LeftOut::Folder) => true,
            (Some(Handle::File { file, .. }), LeftOut::TempFile) => {
                named(|name| name.contains(".new-"), *file)
            }
            (Some(Handle::File { file, .. }), LeftOut::Commit) => named(|name| name.ends_with("-wal"), *file),
            _ => false,
        }
    }

    /// Does what a call did; whether that was a durable operation.
    pub(crate) fn take(&mut self, call: &Call) -> anyhow::Result<bool> {
        match call {
            Call::Open { fd, path, creates, truncates } => self.open_file(*fd, path, *creates, *truncates),
            Call::Close { fd } => {
                self.open.remove(fd);
                Ok(false)
            }
            Call::Write { fd, offset, bytes } => self.write(*fd, *offset, bytes),
            Call::Truncate { fd, len } => self.truncate(*fd, *len),
            Call::Sync { fd } => Ok(self.sync(*fd)),
            Call::Rename { from, to } => {
                let (Some(from), Some(to)) = (self.name(from), self.name(to)) else { return Ok(false) };
                self.naming(Naming::Rename(from, to));
                Ok(true)
            }
            Call::Unlink { path } => {
                let Some(name) = self.name(path) else { return Ok(false) };
                self.naming(Naming::Unlink(name));
                Ok(true)
            }
            Call::MakeFolder | Call::Acknowledged(_) => Ok(false),
        }
    }

    fn open_file(&mut self, fd: i64, path: &Path, creates: bool, truncates: bool) -> anyhow::Result<bool> {
        if path == self.folder {
            self.open.insert(fd, Handle::Folder);
            return Ok(false);
        }
        let Some(name) = self.name(path) else { return Ok(false) };
        let known = self.names.get(&name).copied();
        let file = match known {
            Some(file) => file,
            None => {
                anyhow::ensure!(creates, "{name} is opened and is not there");
                self.files.push(File::default());
                let file = self.files.len() - 1;
                self.naming(Naming::Link(name, file));
                file
            }
        };
        self.open.insert(fd, Handle::File { file, at: 0 });
        if truncates && known.is_some() {
            self.truncate(fd, 0)?;
        }
        Ok(known.is_none())
    }

    fn write(&mut self, fd: i64, offset: Option<usize>, bytes: &[u8]) -> anyhow::Result<bool> {
        let Some(Handle::File { file, at }) = self.open.get_mut(&fd) else { return Ok(false) };
        let start = offset.unwrap_or(*at);
        if offset.is_none() {
            *at += bytes.len();
        }
        let file = self.files.get_mut(*file).context("a file without a place")?;
        put(&mut file.seen, start, bytes);
        let mut done = 0;
        while done < bytes.len() {
            let len = (BLOCK - (start + done) % BLOCK).min(bytes.len() - done);
            file.pending.push(Change::Bytes(start + done, bytes[done..done + len].to_vec()));
            done += len;
        }
        Ok(true)
    }

    fn truncate(&mut self, fd: i64, len: usize) -> anyhow::Result<bool> {
        let Some(Handle::File { file, .. }) = self.open.get(&fd) else { return Ok(false) };
        let file = self.files.get_mut(*file).context("a file without a place")?;
        file.seen.resize(len, 0);
        file.pending.push(Change::Length(len));
        Ok(true)
    }

    fn sync(&mut self, fd: i64) -> bool {
        match self.open.get(&fd) {
            Some(Handle::Folder) => {
                self.durable.clone_from(&self.names);
                self.namings.clear();
            }
            Some(Handle::File { file, .. }) => {
                if let Some(file) = self.files.get_mut(*file) {
                    file.durable.clone_from(&file.seen);
                    file.pending.clear();
                }
            }
            None => return false,
        }
        true
    }

    fn naming(&mut self, naming: Naming) {
        apply(&mut self.names, &naming);
        self.namings.push(naming);
    }

    /// How many pieces of data a cut decides about.
    pub(crate) fn pending(&self) -> usize {
        self.files.iter().map(|file| file.pending.len()).sum()
    }

    /// The files that a cut leaves.
    pub(crate) fn cut(
        &self,
        fates: &[Fate],
        acknowledged: u64,
        random: &mut Random,
    ) -> (Vec<(String, Vec<u8>)>, Key) {
        let mut names = self.durable.clone();
        // With everything lost, the names are too; with everything kept, they are there.
        let made = match (fates.iter().all(|f| *f == Fate::Lost), fates.iter().all(|f| *f == Fate::Kept)) {
            (true, false) => 0,
            (false, true) => self.namings.len(),
            _ => random.below(self.namings.len() + 1),
        };
        self.namings[..made].iter().for_each(|naming| apply(&mut names, naming));
        let mut fates = fates.iter();
        let contents: Vec<Vec<u8>> = self.files.iter().map(|file| file.cut(&mut fates, random)).collect();
        let mut hasher = DefaultHasher::new();
        acknowledged.hash(&mut hasher);
        let left: Vec<(String, Vec<u8>)> =
            names.into_iter().filter_map(|(name, file)| Some((name, contents.get(file)?.clone()))).collect();
        left.hash(&mut hasher);
        (left, hasher.finish())
    }
}

impl File {
    fn cut<'a>(&self, fates: &mut impl Iterator<Item = &'a Fate>, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (change, fate) in self.pending.iter().zip(fates) {
            match (change, fate) {
                (_, Fate::Lost) => {}
                (Change::Length(len), _) => bytes.resize(*len, 0),
                (Change::Bytes(at, new), Fate::Kept) => put(&mut bytes, *at, new),
                (Change::Bytes(at, new), Fate::Torn) => put(&mut bytes, *at, &new[..random.below(new.len())]),
            }
        }
        bytes
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn apply(names: &mut Names, naming: &Naming) {
    match naming {
        Naming::Link(name, file) => drop(names.insert(name.clone(), *file)),
        Naming::Unlink(name) => drop(names.remove(name)),
        Naming::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}
