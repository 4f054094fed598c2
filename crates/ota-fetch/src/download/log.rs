//! The log beside a partial file: whose bytes they are and how many of them are durable.
//!
//! Append-only lines `<record> <check>`, the check being the first 8 hexadecimal digits of the record's SHA-256; a torn last
//! line is cut off. Records: `ota-part 1 <size> <sha256>` (first), `boot <boot id>` of the kernel that the writer runs under,
//! `tag <etag>` or `tag`, `have <bytes>`.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
};

use ota_core::Sha256Digest;

/// A log that is longer than any honest one is started anew.
const LONGEST: u64 = 8 << 20;

/// What a log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Bytes that are durable in the partial file.
    pub(crate) have: u64,
    /// Strong ETag of the file they are from.
    pub(crate) tag: Option<String>,
    /// Boot under which the file was last written.
    pub(crate) boot: Option<String>,
}

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
}

impl Log {
    /// Goes on with the log, if it is for this content, else starts it anew.
    pub(crate) fn resume(
        mut file: File,
        size: u64,
        sha256: &Sha256Digest,
    ) -> std::io::Result<(Self, Standing)> {
        let head = format!("ota-part 1 {size} {sha256}");
        let mut text = Vec::new();
        (&mut file).take(LONGEST + 1).read_to_end(&mut text)?;
        let (standing, valid) = if text.len() as u64 > LONGEST { (None, 0) } else { read(&text, &head) };
        file.set_len(valid)?;
        file.seek(SeekFrom::End(0))?;
        let mut log = Self { file };
        if standing.is_none() {
            log.append(&head)?;
        }
        Ok((log, standing.unwrap_or_default()))
    }

    /// `bytes` of the partial file are durable.
    pub(crate) fn have(&mut self, bytes: u64) -> std::io::Result<()> {
        self.append(&format!("have {bytes}"))
    }

    /// The file is written under this boot from now on.
    pub(crate) fn boot(&mut self, id: &str) -> std::io::Result<()> {
        self.append(&format!("boot {id}"))
    }

    /// The bytes are from the file with this strong ETag.
    pub(crate) fn tag(&mut self, tag: Option<&str>) -> std::io::Result<()> {
        match tag {
            Some(tag) => self.append(&format!("tag {tag}")),
            None => self.append("tag"),
        }
    }

    fn append(&mut self, record: &str) -> std::io::Result<()> {
        self.file.write_all(format!("{record} {}\n", check(record)).as_bytes())?;
        self.file.sync_data()
    }
}

/// The standing, if the log starts with `head`, and how many bytes of it are whole lines.
fn read(text: &[u8], head: &str) -> (Option<Standing>, u64) {
    let mut standing: Option<Standing> = None;
    let mut valid = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(record) = record(line) else { break };
        match (&mut standing, record.split_once(' ').unwrap_or((record, ""))) {
            (None, _) if record == head => standing = Some(Standing::default()),
            (None, _) => return (None, 0),
            (Some(standing), ("have", bytes)) => standing.have = bytes.parse().unwrap_or(0),
            (Some(standing), ("boot", id)) => standing.boot = Some(id.into()),
            (Some(standing), ("tag", "")) => standing.tag = None,
            (Some(standing), ("tag", tag)) => standing.tag = Some(tag.into()),
            (Some(_), _) => break,
        }
        valid += line.len() as u64;
    }
    (standing, valid)
}

fn record(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (record, found) = line.rsplit_once(' ')?;
    (found == check(record)).then_some(record)
}

fn check(record: &str) -> String {
    Sha256Digest::of(record.as_bytes()).to_string()[..8].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_log_cut_anywhere_says_what_its_last_whole_line_said() {
        let digest = Sha256Digest([7; 32]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let open =
            || File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let mut haves = vec![(0, 0)];
        {
            let (mut log, standing) = Log::resume(open(), 100, &digest).unwrap();
            assert_eq!(standing, Standing::default());
            log.tag(Some("\"v 1\"")).unwrap();
            for have in [10, 20, 0, 30] {
                log.have(have).unwrap();
                haves.push((fs::metadata(&path).unwrap().len(), have));
            }
        }
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut log, standing) = Log::resume(open(), 100, &digest).unwrap();
            let expected = haves.iter().rev().find(|(end, _)| *end <= cut as u64).unwrap().1;
            assert_eq!(standing.have, expected, "cut at {cut}");
            log.have(99).unwrap();
            assert_eq!(Log::resume(open(), 100, &digest).unwrap().1.have, 99);
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(Log::resume(open(), 100, &digest).unwrap().1.tag.unwrap(), "\"v 1\"");
        // Another image under the same name.
        assert_eq!(Log::resume(open(), 101, &digest).unwrap().1, Standing::default());
    }
}
