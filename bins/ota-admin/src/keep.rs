//! Answers that go into a file: whole or not at all, for the user alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Serialize;

use crate::{exit::Failure, output::Output, view::Waiting};

/// A file that is being written, under another name until it is whole.
pub(crate) struct Kept {
    path: PathBuf,
    part: PathBuf,
    file: File,
    bytes: u64,
    whole: bool,
    waiting: Waiting,
}

/// What was written.
#[derive(Serialize)]
pub(crate) struct Written {
    pub(crate) file: String,
    pub(crate) bytes: u64,
}

impl Kept {
    /// Starts `path`, which must not exist. A moving line at the terminal says how much has come.
    pub(crate) fn start(path: &Path, out: &Output) -> Result<Self, Failure> {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::Usage(format!("{} exists already", path.display())));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let named = || format!("cannot write {}", part.display());
        // What lies there may lead elsewhere or be open to others: it is taken away, not written into.
        let gone = fs::remove_file(&part);
        gone.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .with_context(named)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let file = file.with_context(named)?;
        let waiting = Waiting::new(out, format!("receiving {}", path.display()));
        Ok(Self { path: path.into(), part, file, bytes: 0, whole: false, waiting })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.waiting.moved(self.bytes);
        self.file.write_all(bytes)
    }

    /// Gives it its name.
    pub(crate) fn finish(mut self) -> Result<Written, Failure> {
        let named = || format!("cannot write {}", self.path.display());
        self.file.sync_all().with_context(named)?;
        fs::rename(&self.part, &self.path).with_context(named)?;
        self.whole = true;
        Ok(Written { file: self.path.display().to_string(), bytes: self.bytes })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.whole {
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::output::Format;

    #[test]
    fn what_was_left_under_the_other_name_is_replaced_and_not_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("elsewhere"), "theirs").unwrap();
        symlink(at("elsewhere"), at("bundle.part")).unwrap();
        let (out, _) = Output::captured(Format::Table);
        let mut kept = Kept::start(&at("bundle"), &out).unwrap();
        kept.write(b"ours").unwrap();
        kept.finish().unwrap();
        assert_eq!(fs::read_to_string(at("elsewhere")).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(at("bundle")).unwrap(), "ours");
        let found = at("bundle").symlink_metadata().unwrap();
        assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600, "{found:?}");
    }
}
