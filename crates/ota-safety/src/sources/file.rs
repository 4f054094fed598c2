//! A small text file that holds a value: written by a PLC bridge, a script, or the kernel (`/sys/class/thermal`, hwmon).
//!
//! A writer should write a second file and rename it over this one; a half-written one is read as it is.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

use super::{Opened, Taken, check_period, payload, rounds::Reading};
use crate::{
    reading::{Fault, Value},
    track::FUTURE_TOLERANCE,
};

/// A file and how often it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Its path.
    pub path: PathBuf,
    /// Pause between two readings, default 50 ms, at least 10 ms.
    #[serde(with = "duration", default = "default_every")]
    pub every: Duration,
    /// Longest time for one reading, default 1 s.
    #[serde(with = "duration", default = "default_timeout")]
    pub timeout: Duration,
    /// Whether the sample is as old as the file's last change instead of as our reading of it. For writers that write at
    /// every sample; needs a clock that does not jump. Default no.
    #[serde(default)]
    pub stamp_by_mtime: bool,
}

fn default_every() -> Duration {
    Duration::from_millis(50)
}

fn default_timeout() -> Duration {
    Duration::from_secs(1)
}

impl FileConfig {
    pub(super) fn source(&self) -> Result<Opened, String> {
        check_period(self.every, self.timeout)?;
        let mut reader = Reader::new(&self.path, self.stamp_by_mtime);
        // As a count: a clock is not read for it.
        reader.lasts = HANDLE_LASTS.as_millis() / self.every.as_millis();
        Ok(Opened::Blocking(Reading::new(self.every, self.timeout, move || reader.read())))
    }
}

/// Reads the value that a small file holds.
pub(super) fn read(path: &Path, by_mtime: bool) -> Result<Taken, Fault> {
    Reader::new(path, by_mtime).read()
}

/// A network file system asks its server whether a file has changed when it is opened, and else only now and then.
const HANDLE_LASTS: Duration = Duration::from_secs(2);

/// One file, and the handle of its last reading: with it a reading is two system calls instead of four.
struct Reader {
    path: PathBuf,
    by_mtime: bool,
    /// For how many readings a handle is kept.
    lasts: u128,
    kept: Option<Kept>,
}

impl Reader {
    fn new(path: &Path, by_mtime: bool) -> Self {
        Self { path: path.to_owned(), by_mtime, lasts: 0, kept: None }
    }

    fn read(&mut self) -> Result<Taken, Fault> {
        let kept = self.kept.take();
        self.try_read(kept).map_err(|error| fault(&self.path, &error))?
    }

    /// The path is looked up each time: what was replaced is opened anew, what was removed is not read any more.
    fn try_read(&mut self, kept: Option<Kept>) -> io::Result<Result<Taken, Fault>> {
        let told = fs::metadata(&self.path)?;
        // Opening a pipe would wait for its writer.
        if !told.is_file() {
            return Ok(Err(Fault::Unreadable(format!("{} is not a regular file", self.path.display()))));
        }
        let age = if self.by_mtime { age(&told)? } else { Some(Duration::ZERO) };
        let mut buffer = [0; Value::MAX_TEXT + 1];
        let same = kept.filter(|kept| kept.is(&told));
        // A device that went away and came back, or a server that forgot the handle, says so: opened anew below.
        let again = same.and_then(|kept| Some((kept.fill(&mut buffer).ok()?, kept)));
        let (filled, mut kept) = match again {
            Some(done) => done,
            None => {
                let kept = Kept::open(&self.path)?;
                (kept.fill(&mut buffer)?, kept)
            }
        };
        kept.readings += 1;
        self.kept = Some(kept).filter(|kept| kept.readings < self.lasts);
        let value = payload::text(&buffer[..filled]);
        Ok(value.and_then(|value| Ok(Taken { value, age: age.ok_or(Fault::FutureStamped)? })))
    }
}

/// An open file.
struct Kept {
    file: File,
    device: u64,
    inode: u64,
    readings: u128,
}

impl Kept {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let told = file.metadata()?;
        Ok(Self { file, device: told.dev(), inode: told.ino(), readings: 0 })
    }

    /// Whether that is still the file of this name.
    fn is(&self, told: &Metadata) -> bool {
        (self.device, self.inode) == (told.dev(), told.ino())
    }

    /// Reads from the start, where the kernel asks a driver anew. Returns how many bytes there are, at most all of `buffer`;
    /// less is the end: files, unlike pipes, give what they have.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, 0) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }
}

/// How long ago the file was changed; `None` when it claims to be from the future.
#[expect(
    clippy::disallowed_methods,
    reason = "the file's stamp is of the system's clock, so its age is told by that one"
)]
fn age(told: &Metadata) -> io::Result<Option<Duration>> {
    let changed = told.modified()?;
    Ok(match SystemTime::now().duration_since(changed) {
        Ok(age) => Some(age),
        Err(ahead) => (ahead.duration() <= FUTURE_TOLERANCE).then_some(Duration::ZERO),
    })
}

fn fault(path: &Path, error: &io::Error) -> Fault {
    let detail = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Fault::Absent(detail),
        _ => Fault::Unreadable(detail),
    }
}

/// A single name, so that a configuration cannot point outside by accident.
pub(super) fn plain(name: &str) -> Result<&str, String> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(format!("{name:?} is not a plain name"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &[u8]) -> Result<Value, Fault> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crane_motion");
        fs::write(&path, text).unwrap();
        read(&path, true).map(|taken| taken.value)
    }

    #[test]
    fn a_file_gives_the_value_it_holds() {
        assert_eq!(read_text(b"moving\n"), Ok(Value::Text("moving".into())));
        assert_eq!(read_text(b"48500\n"), Ok(Value::Number(48500.0)));
    }

    #[test]
    fn a_file_without_a_usable_value_is_a_fault() {
        assert_eq!(read_text(b" \n"), Err(Fault::Malformed("empty".into())));
        assert_eq!(read_text(&[0xff]), Err(Fault::Malformed("not UTF-8".into())));
        assert_eq!(read_text(&[b'1'; 5000]), Err(Fault::TooLarge));
        assert!(matches!(read(Path::new("/nowhere/x"), false), Err(Fault::Absent(_))));
        assert!(matches!(read(Path::new("/dev"), false), Err(Fault::Unreadable(_))));
    }

    fn reader(path: &Path) -> impl FnMut() -> Result<Value, Fault> {
        let mut reader = Reader { lasts: 3, ..Reader::new(path, false) };
        move || reader.read().map(|taken| taken.value)
    }

    #[test]
    fn whatever_happens_to_a_file_between_two_readings_the_second_one_tells() {
        let dir = tempfile::tempdir().unwrap();
        let [path, other] = ["crane_motion", "other"].map(|name| dir.path().join(name));
        let mut reads = reader(&path);
        let word = |word: &str| Ok(Value::Text(word.into()));
        fs::write(&path, "stopped\n").unwrap();
        assert_eq!((reads(), reads()), (word("stopped"), word("stopped")));
        fs::write(&path, "moving\n").unwrap();
        assert_eq!(reads(), word("moving"), "written over");
        fs::write(&other, "stopped\n").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(reads(), word("stopped"), "replaced");
        fs::rename(&path, &other).unwrap();
        assert!(matches!(reads(), Err(Fault::Absent(_))), "moved away, though it still is");
        fs::write(&path, "moving\n").unwrap();
        assert_eq!(reads(), word("moving"), "another one of that name");
        File::create(&path).unwrap();
        assert_eq!(reads(), Err(Fault::Malformed("empty".into())), "truncated");
        fs::remove_file(&path).unwrap();
        assert!(matches!(reads(), Err(Fault::Absent(_))), "removed");
        fs::create_dir(&path).unwrap();
        assert!(matches!(reads(), Err(Fault::Unreadable(_))), "a folder");
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert_eq!(reads(), word("stopped"), "a link");
    }

    #[test]
    fn the_kernel_is_asked_anew_at_every_reading() {
        let mut reads = reader(Path::new("/proc/sys/kernel/random/uuid"));
        let told = [reads(), reads(), reads()].map(Result::unwrap);
        assert!(told[0] != told[1] && told[1] != told[2], "{told:?}");
    }

    #[test]
    fn a_file_of_the_future_is_a_fault_when_it_stamps_the_sample() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "1").unwrap();
        let ahead = fs::metadata(&path).unwrap().modified().unwrap() + Duration::from_secs(3600);
        File::options().write(true).open(&path).unwrap().set_modified(ahead).unwrap();
        assert!(matches!(read(&path, true), Err(Fault::FutureStamped)));
        assert!(read(&path, false).is_ok());
    }
}
