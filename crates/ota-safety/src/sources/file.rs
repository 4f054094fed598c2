//! A small text file that holds a value: written by a PLC bridge, a script, or the kernel (`/sys/class/thermal`, hwmon).
//!
//! A writer should write a second file and rename it over this one; a half-written one is read as it is.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use ota_core::ports::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::{Polled, Probe, Source, Taken, check_period, payload};
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
    pub(super) fn source(&self) -> Result<Box<dyn Source>, String> {
        check_period(self.every, self.timeout)?;
        let probe = FileProbe { path: self.path.clone(), stamp_by_mtime: self.stamp_by_mtime, reading: None };
        Ok(Box::new(Polled { probe, every: self.every, timeout: self.timeout, back_off: false }))
    }
}

struct FileProbe {
    path: PathBuf,
    stamp_by_mtime: bool,
    /// A reading that is under way. On a medium that hangs it outlives its time-out, and no second one is started.
    reading: Option<JoinHandle<Result<Taken, Fault>>>,
}

impl Probe for FileProbe {
    fn read(&mut self) -> BoxFuture<'_, Result<Taken, Fault>> {
        Box::pin(async {
            let (path, by_mtime) = (self.path.clone(), self.stamp_by_mtime);
            let reading = self
                .reading
                .get_or_insert_with(|| tokio::task::spawn_blocking(move || read(&path, by_mtime)));
            let outcome = reading.await;
            self.reading = None;
            outcome.unwrap_or_else(|error| Err(Fault::Unreadable(error.to_string())))
        })
    }
}

/// Reads the value that a small file holds.
pub(super) fn read(path: &Path, by_mtime: bool) -> Result<Taken, Fault> {
    let told = fs::metadata(path).map_err(|error| fault(path, &error))?;
    // Opening a pipe would wait for its writer.
    if !told.is_file() {
        return Err(Fault::Unreadable(format!("{} is not a regular file", path.display())));
    }
    let file = File::open(path).map_err(|error| fault(path, &error))?;
    let age = if by_mtime { age(&file).map_err(|error| fault(path, &error))? } else { Some(Duration::ZERO) };
    let mut bytes = Vec::with_capacity(Value::MAX_TEXT + 1);
    let limit = u64::try_from(Value::MAX_TEXT + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| fault(path, &error))?;
    Ok(Taken { value: payload::text(&bytes)?, age: age.ok_or(Fault::FutureStamped)? })
}

/// How long ago the file was changed; `None` when it claims to be from the future.
#[expect(
    clippy::disallowed_methods,
    reason = "the file's stamp is of the system's clock, so its age is told by that one"
)]
fn age(file: &File) -> std::io::Result<Option<Duration>> {
    let changed = file.metadata()?.modified()?;
    Ok(match SystemTime::now().duration_since(changed) {
        Ok(age) => Some(age),
        Err(ahead) => (ahead.duration() <= FUTURE_TOLERANCE).then_some(Duration::ZERO),
    })
}

fn fault(path: &Path, error: &std::io::Error) -> Fault {
    let detail = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Fault::Absent(detail),
        _ => Fault::Unreadable(detail),
    }
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
