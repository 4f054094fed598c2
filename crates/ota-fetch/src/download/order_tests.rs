//! The order of the system calls by which a download comes into staging, as `strace` (Debian package strace) sees them:
//! nothing is said to be there before it is durable. What a cut between two of them may leave follows from that order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use bytes::Bytes;
use ota_core::{ImageName, Sha256Digest};

use super::part::Part;
use crate::Staging;

/// Where the traced process works; set for it only.
const FOLDER: &str = "OTA_FETCH_ORDER_TEST_FOLDER";
const TEST: &str = "download::order_tests::nothing_in_staging_is_said_to_be_there_before_it_is_durable";
const MIB: usize = 1 << 20;
/// More than two records of what is durable are apart.
const SIZE: usize = 9 * MIB;
/// Where the first try ends.
const FIRST: usize = 5 * MIB;
const IMAGE: &str = "fw.img";
const PART: &str = ".fw.img.part";
const LOG: &str = ".fw.img.part.log";
const STAGING: &str = "staging";
/// What the traced process writes beside staging once it has been told that the image is there.
const SAID: &str = "said";

#[test]
fn nothing_in_staging_is_said_to_be_there_before_it_is_durable() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return download(Path::new(&folder));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut order = Order::default();
    for line in whole(&trace(dir.path())) {
        if let Some(call) = Call::parse(&line) {
            order.take(&call);
        }
    }
    assert!(order.said, "the download did not come to its end");
    let records = [4 * MIB, FIRST, SIZE].map(|bytes| bytes as u64);
    assert!(order.records.ends_with(&records), "{:?}", order.records);
}

/// What is traced: a download that is broken off, and one that goes on with it.
fn download(folder: &Path) {
    let staging = Staging::open(folder.join(STAGING)).unwrap();
    let name: ImageName = IMAGE.parse().unwrap();
    let image = Bytes::from(vec![7; SIZE]);
    let sha256 = Sha256Digest::of(&image);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let open = || Part::open(&staging, &name, SIZE as u64, sha256);
        let mut first = open().await.unwrap();
        for at in (0..FIRST).step_by(MIB) {
            first.write(image.slice(at..at + MIB)).await.unwrap();
        }
        drop(first);
        // Waits until the first one has ended.
        let mut second = open().await.unwrap();
        assert_eq!(second.have(), FIRST as u64);
        for at in (FIRST..SIZE).step_by(MIB) {
            second.write(image.slice(at..at + MIB)).await.unwrap();
        }
        second.finish(vec![("p7s".into(), b"signature".to_vec())]).await.unwrap();
    });
    fs::write(folder.join(SAID), "it is there").unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the process that is traced is this test")]
fn trace(folder: &Path) -> String {
    let trace = folder.join("trace");
    let output = Command::new("strace")
        .args(["-f", "-y", "-s", "64", "-e", "signal=none", "-o"])
        .arg(&trace)
        .args(["-e", "trace=write,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlinkat"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    fs::read_to_string(trace).unwrap()
}

/// One line for each call, also where another thread came in between.
fn whole(trace: &str) -> Vec<String> {
    let (mut begun, mut lines) = (BTreeMap::new(), Vec::new());
    for (thread, call) in trace.lines().filter_map(|line| line.split_once(' ')) {
        let call = call.trim_start();
        if let Some(first) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, first);
        } else if let Some((_, rest)) =
            call.strip_prefix("<... ").and_then(|call| call.split_once(" resumed>"))
        {
            lines.push(format!("{}{rest}", begun.remove(thread).unwrap_or_default()));
        } else {
            lines.push(call.to_owned());
        }
    }
    lines
}

/// A call that succeeded.
#[derive(Debug)]
struct Call<'a> {
    name: &'a str,
    /// Name of the file or folder that the first descriptor is of.
    file: &'a str,
    /// Texts among the arguments.
    texts: Vec<&'a str>,
    /// The last argument, where it is a number.
    last: u64,
    result: u64,
}

impl<'a> Call<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (call, result) = line.rsplit_once(" = ")?;
        let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
        let path = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let file = path.map_or("", |(path, _)| path.rsplit('/').next().unwrap_or(path));
        let texts = arguments.split('"').skip(1).step_by(2).collect();
        let last = arguments.rsplit(", ").next().and_then(|last| last.parse::<u64>().ok()).unwrap_or(0);
        // One that failed has -1.
        let result = result.split_whitespace().next()?.parse::<u64>().ok()?;
        Some(Self { name, file, texts, last, result })
    }
}

/// What is durable so far, and what was said.
#[derive(Default)]
struct Order {
    /// Bytes of the image that were written, and that were synced.
    written: u64,
    synced: u64,
    /// What the log said, in its order.
    records: Vec<u64>,
    /// Files with bytes that were not synced.
    dirty: BTreeSet<String>,
    /// Whether names have changed since the folder was synced.
    renamed: bool,
    /// Whether the image has its name.
    named: bool,
    said: bool,
}

impl Order {
    fn take(&mut self, call: &Call<'_>) {
        match (call.name, call.file) {
            ("write" | "pwrite64", SAID) => {
                assert!(self.named && !self.renamed, "it is said to be there before its name is durable");
                self.said = true;
            }
            ("write" | "pwrite64", file) => {
                if file == PART {
                    self.written += call.result;
                } else if file == LOG {
                    self.record(call.texts.first().copied().unwrap_or_default());
                }
                self.dirty.insert(file.to_owned());
            }
            ("ftruncate", PART) => {
                self.written = self.written.min(call.last);
                self.synced = self.synced.min(call.last);
            }
            ("fsync" | "fdatasync", STAGING) => self.renamed = false,
            ("fsync" | "fdatasync", file) => {
                self.dirty.remove(file);
                if file == PART {
                    self.synced = self.written;
                }
            }
            ("rename" | "renameat" | "renameat2", _) => self.rename(call),
            ("unlinkat", STAGING) => {
                if call.texts == [LOG] {
                    assert!(self.named, "the log goes before the image has its name");
                }
                self.renamed = true;
            }
            _ => {}
        }
    }

    /// The log counts what was synced before, and no more.
    fn record(&mut self, text: &str) {
        let have = text.strip_prefix("have ").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        if let Some(have) = have {
            assert!(have <= self.synced, "{have} bytes are said to be there, {} were synced", self.synced);
            self.records.push(have);
        }
    }

    fn rename(&mut self, call: &Call<'_>) {
        let [from, to] = call.texts.as_slice() else { panic!("{call:?}") };
        assert!(!self.dirty.contains(*from), "{from} gets the name {to} before it was synced");
        if *to == IMAGE {
            assert_eq!(
                (*from, self.synced),
                (PART, SIZE as u64),
                "the image gets its name before it is whole"
            );
            self.named = true;
        }
        self.renamed = true;
    }
}
