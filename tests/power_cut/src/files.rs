//! A file system that keeps what was synced: data of a file with the file, names with their folder.
//!
//! Owns the model only; which calls are played on it is in [`crate::calls`]. It promises less than ext4 does: a folder's
//! sync keeps the names in that folder and nothing else. Names that were not synced come back in the order in which they
//! were made, as a journal would replay them: all of them up to some point, none after it; and whether or not the data
//! that belongs to them does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;

use crate::{
    calls::{Call, Place},
    disk::fingerprint,
    medium::{self, BLOCK, Fate},
    trace::LeftOut,
};

/// What a cut leaves: paths below the root in their order; `None`: a folder.
pub(crate) type Left = Vec<(String, Option<Vec<u8>>)>;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Link(String, Node),
    Unlink(String),
    Rename(String, String),
}

type Names = BTreeMap<String, Node>;

/// A folder with all below it, while a program works in it.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
    files: Vec<File>,
    names: Names,
    durable: Names,
    namings: Vec<Naming>,
    open: BTreeMap<i64, Handle>,
}

#[derive(Clone, Debug)]
enum Handle {
    Folder(String),
    File { file: usize, at: usize },
}

/// One of the things that a cut can leave.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// How many of the names that wait for a sync are there.
    namings: usize,
    fates: Vec<Fate>,
}

impl Files {
    /// What is in `root` now, all of it durable.
    pub(crate) fn load(root: &Path) -> anyhow::Result<Self> {
        let mut files = Self {
            root: root.into(),
            files: Vec::new(),
            names: Names::new(),
            durable: Names::new(),
            namings: Vec::new(),
            open: BTreeMap::new(),
        };
        for (name, content) in read(root)? {
            let node = match content {
                None => Node::Folder,
                Some(bytes) => {
                    files.files.push(File { durable: bytes.clone(), seen: bytes, pending: Vec::new() });
                    Node::File(files.files.len() - 1)
                }
            };
            files.names.insert(name, node);
        }
        files.durable.clone_from(&files.names);
        Ok(files)
    }

    /// The path below the root; `None` for what is not of this folder.
    fn name(&self, place: &Place) -> Option<String> {
        let path = match place.folder.and_then(|fd| self.open.get(&fd)) {
            Some(Handle::Folder(base)) => self.root.join(base).join(&place.path),
            Some(Handle::File { .. }) => return None,
            None => place.path.clone(),
        };
        let name = path.strip_prefix(&self.root).ok()?;
        let name = name.components().collect::<PathBuf>().to_str()?.to_owned();
        // The shared memory of a log is made anew from the log.
        (!name.ends_with("-shm")).then_some(name)
    }

    /// Whether `call` is the sync that is left out.
    pub(crate) fn is_sync(&self, call: &Call, left_out: LeftOut) -> bool {
        let Call::Sync { fd } = call else { return false };
        let named = |part: &str, file: usize| {
            self.names.iter().any(|(name, node)| *node == Node::File(file) && name.contains(part))
        };
        match (self.open.get(fd), left_out) {
            (Some(Handle::Folder(_)), LeftOut::Folder) => true,
            (Some(Handle::File { file, .. }), LeftOut::TempFile) => named(".new", *file),
            (Some(Handle::File { file, .. }), LeftOut::Commit) => named("-wal", *file),
            _ => false,
        }
    }

    /// The file that `call` writes to by `write`, from where it stands on.
    pub(crate) fn written(&self, call: &Call) -> Option<String> {
        let Call::Write { fd, offset: None, .. } = call else { return None };
        let Handle::File { file, .. } = self.open.get(fd)? else { return None };
        self.names.iter().find(|(_, node)| **node == Node::File(*file)).map(|(name, _)| name.clone())
    }

    /// Where a file would have to end for half of what `call` writes to fit.
    pub(crate) fn half_of(&self, call: &Call) -> Option<usize> {
        let Call::Write { fd, offset, bytes } = call else { return None };
        let Handle::File { at, .. } = self.open.get(fd)? else { return None };
        Some(offset.unwrap_or(*at) + bytes.len() / 2)
    }

    /// Does what a call did; whether that was a durable operation.
    pub(crate) fn take(&mut self, call: &Call) -> anyhow::Result<bool> {
        match call {
            Call::Open { fd, place, creates, truncates } => self.open_file(*fd, place, *creates, *truncates),
            Call::Close { fd } => {
                self.open.remove(fd);
                Ok(false)
            }
            Call::Write { fd, offset, bytes } => self.write(*fd, *offset, bytes),
            Call::Seek { fd, to } => {
                if let Some(Handle::File { at, .. }) = self.open.get_mut(fd) {
                    *at = *to;
                }
                Ok(false)
            }
            Call::Truncate { fd, len } => self.truncate(*fd, *len),
            Call::Sync { fd } => Ok(self.sync(*fd)),
            Call::MakeFolder { place } => {
                let Some(name) = self.name(place) else { return Ok(false) };
                Ok(self.naming(Naming::Link(name, Node::Folder)))
            }
            Call::Rename { from, to } => match (self.name(from), self.name(to)) {
                (Some(from), Some(to)) => Ok(self.naming(Naming::Rename(from, to))),
                (None, None) => Ok(false),
                _ => anyhow::bail!("a name goes out of the folder, or comes into it"),
            },
            Call::Unlink { place } => {
                let Some(name) = self.name(place) else { return Ok(false) };
                Ok(self.naming(Naming::Unlink(name)))
            }
            Call::Restart => {
                self.sync_all();
                Ok(false)
            }
            Call::Acknowledged(_) => Ok(false),
        }
    }

    fn open_file(&mut self, fd: i64, place: &Place, creates: bool, truncates: bool) -> anyhow::Result<bool> {
        self.open.remove(&fd);
        let Some(name) = self.name(place) else { return Ok(false) };
        let known = if name.is_empty() { Some(Node::Folder) } else { self.names.get(&name).copied() };
        let file = match known {
            Some(Node::Folder) => {
                self.open.insert(fd, Handle::Folder(name));
                return Ok(false);
            }
            Some(Node::File(file)) => file,
            None => {
                ensure!(creates, "{name} is opened and is not there");
                self.files.push(File::default());
                let file = self.files.len() - 1;
                self.naming(Naming::Link(name, Node::File(file)));
                file
            }
        };
        self.open.insert(fd, Handle::File { file, at: 0 });
        if truncates && known.is_some() {
            return self.truncate(fd, 0);
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
            Some(Handle::Folder(folder)) => {
                let (synced, waiting): (Vec<_>, Vec<_>) =
                    self.namings.drain(..).partition(|naming| naming.folder() == folder.as_str());
                synced.iter().for_each(|naming| apply(&mut self.durable, naming));
                self.namings = waiting;
            }
            Some(Handle::File { file, .. }) => {
                if let Some(file) = self.files.get_mut(*file) {
                    file.sync();
                }
            }
            None => return false,
        }
        true
    }

    fn sync_all(&mut self) {
        self.files.iter_mut().for_each(File::sync);
        self.durable.clone_from(&self.names);
        self.namings.clear();
        self.open.clear();
    }

    fn naming(&mut self, naming: Naming) -> bool {
        apply(&mut self.names, &naming);
        self.namings.push(naming);
        true
    }

    /// What a cut now can leave: all of it, or `most` outcomes by chance where there are more; with the corners in any
    /// case: names without data, data without names, both, neither.
    pub(crate) fn outcomes(&self, most: usize, random: &mut Rng) -> Vec<Outcome> {
        let (names, blocks) = (self.namings.len(), self.files.iter().map(|file| file.pending.len()).sum());
        let all = u32::try_from(blocks).ok().and_then(|n| 3_usize.checked_pow(n)?.checked_mul(names + 1));
        if all.is_some_and(|all| all <= most) {
            let fates = medium::choices(blocks, most, random);
            let with = |namings| fates.iter().map(move |fates| Outcome { namings, fates: fates.clone() });
            return (0..=names).flat_map(with).collect();
        }
        let corner = |namings, fate| Outcome { namings, fates: vec![fate; blocks] };
        let mut some: Vec<Outcome> =
            [0, names].into_iter().flat_map(|n| [corner(n, Fate::Lost), corner(n, Fate::Kept)]).collect();
        while some.len() < most {
            let fates = (0..blocks).map(|_| Fate::ALL[random.usize(..3)]).collect();
            some.push(Outcome { namings: random.usize(..=names), fates });
        }
        some
    }

    /// The files that a cut leaves.
    pub(crate) fn cut(&self, outcome: &Outcome, random: &mut Rng) -> Left {
        let mut names = self.durable.clone();
        self.namings[..outcome.namings].iter().for_each(|naming| apply(&mut names, naming));
        let mut fates = outcome.fates.iter();
        let contents: Vec<Vec<u8>> = self.files.iter().map(|file| file.cut(&mut fates, random)).collect();
        let mut folders = BTreeSet::from([String::new()]);
        let mut left = Left::new();
        for (name, node) in names {
            // What is in a folder that is not there is not there either.
            if !folders.contains(folder_of(&name)) {
                continue;
            }
            match node {
                Node::Folder => {
                    folders.insert(name.clone());
                    left.push((name, None));
                }
                Node::File(file) => left.push((name, contents.get(file).cloned())),
            }
        }
        left
    }
}

/// A number that two outcomes share when nothing can tell them apart.
pub(crate) fn key(left: &Left, acknowledged: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    acknowledged.hash(&mut hasher);
    for (name, content) in left {
        let content = content.as_ref().map(|bytes| (bytes.len(), fingerprint(bytes)));
        (name, content).hash(&mut hasher);
    }
    hasher.finish()
}

/// Puts what was left into `root`, which is there and empty.
pub(crate) fn put_into(root: &Path, left: &Left) -> anyhow::Result<()> {
    for (name, content) in left {
        match content {
            None => fs::create_dir(root.join(name))?,
            Some(bytes) => fs::write(root.join(name), bytes)?,
        }
    }
    Ok(())
}

/// How the names of all scratch folders begin; then comes whose process they are.
const SCRATCH: &str = "ota-power-cut-";

/// Where they are: in memory, where there is such a place.
fn scratches() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// A folder in memory, for one outcome.
pub(crate) fn scratch() -> anyhow::Result<tempfile::TempDir> {
    let prefix = format!("{SCRATCH}{}-", std::process::id());
    Ok(tempfile::Builder::new().prefix(&prefix).tempdir_in(scratches())?)
}

/// Removes what runs that were killed have left in memory; `give_back` first what else a folder of theirs holds.
pub(crate) fn remove_leftovers(give_back: impl Fn(&Path)) {
    for entry in fs::read_dir(scratches()).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let owner = name.to_str().and_then(|name| name.strip_prefix(SCRATCH)?.split('-').next());
        let owner = owner.and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            give_back(&path);
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Everything below `root`, in the order of the names.
pub(crate) fn read(root: &Path) -> anyhow::Result<Left> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let name = path.to_str().context("a name that is no text")?.to_owned();
            let kind = entry.file_type()?;
            ensure!(kind.is_dir() || kind.is_file(), "{name} is neither a file nor a folder");
            if kind.is_dir() {
                found.insert(name, None);
                folders.push(path);
            } else if !name.ends_with("-shm") {
                found.insert(name, Some(fs::read(entry.path())?));
            }
        }
    }
    Ok(found.into_iter().collect())
}

impl Naming {
    /// The folder whose sync keeps it.
    fn folder(&self) -> &str {
        match self {
            Self::Link(name, _) | Self::Unlink(name) | Self::Rename(_, name) => folder_of(name),
        }
    }
}

impl File {
    fn sync(&mut self) {
        self.durable.clone_from(&self.seen);
        self.pending.clear();
    }

    fn cut<'a>(&self, fates: &mut impl Iterator<Item = &'a Fate>, random: &mut Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (change, fate) in self.pending.iter().zip(fates) {
            match (change, fate) {
                (_, Fate::Lost) => {}
                (Change::Length(len), _) => bytes.resize(*len, 0),
                (Change::Bytes(at, new), Fate::Kept) => put(&mut bytes, *at, new),
                (Change::Bytes(at, new), Fate::Torn) => {
                    put(&mut bytes, *at, &new[..random.usize(..new.len().max(1))])
                }
            }
        }
        bytes
    }
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn apply(names: &mut Names, naming: &Naming) {
    match naming {
        Naming::Link(name, node) => drop(names.insert(name.clone(), *node)),
        Naming::Unlink(name) => {
            // What was in a folder does not come back with another one of its name.
            names.retain(|known, _| {
                !known
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
        }
        Naming::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}
