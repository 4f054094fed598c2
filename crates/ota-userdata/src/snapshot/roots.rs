//! The configured paths, and which names in an archive lie in them.

use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use crate::{UserDataError, folder::Folder};

/// Longest path in an archive, and most folders in one.
const LONGEST: usize = 4096;
pub(crate) const DEEPEST: usize = 64;
const LONGEST_NAME: usize = 255;

/// Name under which a file is written before it replaces the old one.
pub(crate) const TEMP: &str = ".ota-restore.tmp";

/// The paths that snapshots are made of, and beside which nothing is ever restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots(Vec<PathBuf>);

impl Roots {
    /// `paths`: absolute, without `.` and `..`, none of them `/` or inside another.
    ///
    /// # Errors
    /// A sentence that names the path.
    pub fn new(paths: Vec<PathBuf>) -> Result<Self, String> {
        for path in &paths {
            let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
            let text = path.to_str().is_some_and(|text| text.len() < LONGEST && !text.contains('\0'));
            if !path.is_absolute() || !plain || !text || path.parent().is_none() {
                return Err(format!("{} is not an absolute path below /", path.display()));
            }
            if let Some(other) = paths.iter().find(|other| *other != path && path.starts_with(other)) {
                return Err(format!("{} lies in {}", path.display(), other.display()));
            }
        }
        if let Some(twice) = paths.iter().enumerate().find(|(n, path)| paths[..*n].contains(path)) {
            return Err(format!("{} is there twice", twice.1.display()));
        }
        Ok(Self(paths))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    /// The configured path that `entry` is or lies in, and the names below it.
    pub(crate) fn locate<'a>(&self, entry: &'a EntryPath) -> Option<(&Path, Vec<&'a str>)> {
        let whole = Path::new("/").join(&entry.0);
        let root = self.0.iter().find(|root| whole.starts_with(root))?;
        let below = root.components().count().saturating_sub(1);
        Some((root, entry.components().skip(below).collect()))
    }

    /// The folder that holds `entry`, made where it is missing, and its name there. Below the configured path no link is
    /// followed.
    pub(crate) fn open_parent<'a>(
        &'a self,
        entry: &'a EntryPath,
    ) -> Result<(Folder, &'a OsStr), UserDataError> {
        let outside = || UserDataError::Archive(format!("{} is in none of the configured paths", entry.0));
        let (root, below) = self.locate(entry).ok_or_else(outside)?;
        let (parent, name) = crate::folder::split(root).ok_or_else(outside)?;
        let mut folder = Folder::open_or_make(parent, 0o755)?;
        let Some((last, between)) = below.split_last() else { return Ok((folder, name)) };
        for name in std::iter::once(name).chain(between.iter().map(OsStr::new)) {
            let (inner, made) = folder.enter_or_make(name)?;
            if made {
                folder.sync()?;
            }
            folder = inner;
        }
        Ok((folder, OsStr::new(*last)))
    }
}

/// A path in an archive: relative to `/`, of plain names only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryPath(String);

impl EntryPath {
    /// Takes only what cannot lead anywhere else.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, UserDataError> {
        let refused = |why: &str| {
            UserDataError::Archive(format!(
                "{:?} {why}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(80)])
            ))
        };
        let text = std::str::from_utf8(bytes).map_err(|_| refused("is no text"))?;
        if text.is_empty() || text.len() > LONGEST {
            return Err(refused("has a length that no path has"));
        }
        if text.chars().any(|c| c == '\0') {
            return Err(refused("holds a zero byte"));
        }
        for name in text.split('/') {
            if name.is_empty() || name == "." || name == ".." || name.len() > LONGEST_NAME || name == TEMP {
                return Err(refused("is not made of plain names"));
            }
        }
        if text.split('/').count() > DEEPEST {
            return Err(refused("has too many folders"));
        }
        Ok(Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The paths of the folders it lies in, the outermost first.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_in_a_configured_path_are_located() {
        let roots = Roots::new(vec!["/etc/plant".into(), "/srv/label".into()]).unwrap();
        let at = |text: &str| EntryPath::parse(text.as_bytes()).ok();
        let inside = |text: &str| at(text).is_some_and(|entry| roots.locate(&entry).is_some());
        assert!(inside("etc/plant") && inside("etc/plant/a/b") && inside("srv/label"));
        for outside in ["etc", "etc/plants", "etc/plan", "etc/shadow", "srv/labels/x"] {
            assert!(!inside(outside), "{outside}");
        }
        for bad in
            ["", "/etc/plant", "etc//plant", "etc/plant/", "etc/plant/../x", "./etc/plant", "etc/plant/."]
        {
            assert!(at(bad).is_none(), "{bad}");
        }
        assert!(EntryPath::parse(b"etc/plant/\xff").is_err() && EntryPath::parse(b"etc/plant/a\0b").is_err());
        assert!(at(&format!("etc/plant/{}", "x".repeat(256))).is_none());
        assert!(at(&format!("etc/plant/{TEMP}")).is_none());
        let entry = at("etc/plant/a/b").unwrap();
        assert_eq!(roots.locate(&entry).unwrap(), (Path::new("/etc/plant"), vec!["a", "b"]));
        assert_eq!(entry.ancestors().collect::<Vec<_>>(), ["etc", "etc/plant", "etc/plant/a"]);
    }

    #[test]
    fn paths_that_cannot_be_meant_are_refused() {
        for bad in [vec!["/"], vec!["etc"], vec!["/etc/../x"], vec!["/etc", "/etc/x"], vec!["/a", "/a"]] {
            assert!(Roots::new(bad.iter().map(PathBuf::from).collect()).is_err(), "{bad:?}");
        }
    }
}
