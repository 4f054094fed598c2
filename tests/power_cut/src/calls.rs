//! The system calls that a program really makes on a folder, written down by `strace` with all their bytes.
//!
//! Owns starting a child of this program under `strace` and reading the trace. What the calls leave on a medium is in
//! [`crate::files`]; what is asked of it in [`crate::trace`] and [`crate::reset`].

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

/// Calls that change a file or a folder, or say which one is meant. One that the model does not know ends the recording.
const TRACED: &str = "trace=openat,close,write,writev,pwrite64,pwritev,lseek,ftruncate,fallocate,copy_file_range,sendfile,\
                      fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat";

/// A path as a call names it: from an open folder, or absolute.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) folder: Option<i64>,
    pub(crate) path: PathBuf,
}

/// A system call that matters.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Open {
        fd: i64,
        place: Place,
        creates: bool,
        truncates: bool,
    },
    Close {
        fd: i64,
    },
    Write {
        fd: i64,
        offset: Option<usize>,
        bytes: Vec<u8>,
    },
    Seek {
        fd: i64,
        to: usize,
    },
    Truncate {
        fd: i64,
        len: usize,
    },
    Sync {
        fd: i64,
    },
    MakeFolder {
        place: Place,
    },
    Rename {
        from: Place,
        to: Place,
    },
    Unlink {
        place: Place,
    },
    /// The child has said that it has got so far.
    Acknowledged(u64),
    /// An orderly restart: the kernel writes back all that it holds, and nothing is open any more.
    Restart,
}

/// Says that the child has got so far; what was done before must hold from now on.
pub(crate) fn acknowledge(number: u64) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(format!("acknowledged {number}\n").as_bytes())?;
    out.flush()
}

/// Runs this program with `args` under `strace`: its calls, in the order in which they returned.
#[expect(clippy::disallowed_methods, reason = "the process that is traced is this program")]
pub(crate) fn record<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> anyhow::Result<Vec<Call>> {
    let dir = tempfile::tempdir()?;
    let trace = dir.path().join("trace");
    let output = Command::new("strace")
        .args(["-f", "-xx", "-s", "10000000", "-e", "signal=none", "-e", TRACED, "-o"])
        .arg(&trace)
        .arg(std::env::current_exe()?)
        .args(args)
        .output()
        .context("starting strace (Debian package strace)")?;
    ensure!(output.status.success(), "strace: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&trace)?;
    let calls = whole(&text)?.iter().map(|line| parse(line)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(calls.into_iter().flatten().collect())
}

/// One line for each call, also where another thread came in between.
fn whole(text: &str) -> anyhow::Result<Vec<String>> {
    let mut begun = BTreeMap::<&str, &str>::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        // With -f each line begins with the thread.
        let (thread, call) = line.split_once(' ').context("a line without a thread")?;
        let call = call.trim_start();
        if let Some(first) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, first);
        } else if let Some((_, rest)) =
            call.strip_prefix("<... ").and_then(|call| call.split_once(" resumed>"))
        {
            let first = begun.remove(thread).context("the end of a call that did not begin")?;
            lines.push(format!("{first}{rest}"));
        } else {
            lines.push(call.to_owned());
        }
    }
    Ok(lines)
}

/// One call; `None`: one that failed or does not matter.
fn parse(line: &str) -> anyhow::Result<Option<Call>> {
    let Some((call, result)) = line.rsplit_once(" = ") else { return Ok(None) };
    let result: i64 = result.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(-1);
    let Some((name, rest)) = call.split_once('(') else { return Ok(None) };
    if result < 0 {
        return Ok(None);
    }
    // strace writes each byte of a text as `\x41`, so that a comma is always one between arguments.
    let arguments = rest.trim_end().strip_suffix(')').context("a call without an end")?;
    Arguments(arguments.split(", ").collect()).call(name, result).with_context(|| format!("{name}({rest}"))
}

struct Arguments<'a>(Vec<&'a str>);

impl Arguments<'_> {
    fn call(&self, name: &str, result: i64) -> anyhow::Result<Option<Call>> {
        Ok(Some(match name {
            "openat" => {
                let has = |flag: &str| self.0.get(2).is_some_and(|flags| flags.contains(flag));
                let (creates, truncates) = (has("O_CREAT"), has("O_TRUNC"));
                Call::Open { fd: result, place: self.place(0)?, creates, truncates }
            }
            "close" => Call::Close { fd: self.number(0)? },
            "write" | "pwrite64" => return self.written(name == "pwrite64", result).map(Some),
            "lseek" => Call::Seek { fd: self.number(0)?, to: usize::try_from(result)? },
            "ftruncate" => Call::Truncate { fd: self.number(0)?, len: usize::try_from(self.number(1)?)? },
            "fsync" | "fdatasync" => Call::Sync { fd: self.number(0)? },
            "rename" => Call::Rename { from: self.absolute(0)?, to: self.absolute(1)? },
            "renameat" | "renameat2" => Call::Rename { from: self.place(0)?, to: self.place(2)? },
            "unlink" | "rmdir" => Call::Unlink { place: self.absolute(0)? },
            "unlinkat" => Call::Unlink { place: self.place(0)? },
            "mkdir" => Call::MakeFolder { place: self.absolute(0)? },
            "mkdirat" => Call::MakeFolder { place: self.place(0)? },
            other => bail!("a call that the model does not know: {other}"),
        }))
    }

    fn written(&self, at_offset: bool, result: i64) -> anyhow::Result<Call> {
        let (fd, mut bytes) = (self.number(0)?, self.bytes(1)?);
        bytes.truncate(usize::try_from(result)?);
        let said =
            std::str::from_utf8(&bytes).ok().and_then(|said| said.trim().strip_prefix("acknowledged "));
        if let (1, Some(number)) = (fd, said.and_then(|number| number.parse().ok())) {
            return Ok(Call::Acknowledged(number));
        }
        let offset = if at_offset { Some(usize::try_from(self.number(3)?)?) } else { None };
        Ok(Call::Write { fd, offset, bytes })
    }

    fn text(&self, n: usize) -> anyhow::Result<&str> {
        self.0.get(n).copied().with_context(|| format!("no argument {n}"))
    }

    fn number(&self, n: usize) -> anyhow::Result<i64> {
        self.text(n)?.parse().with_context(|| format!("argument {n} is no number"))
    }

    /// A quoted text as bytes.
    fn bytes(&self, n: usize) -> anyhow::Result<Vec<u8>> {
        let text = self.text(n)?;
        let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let quoted = quoted.with_context(|| format!("argument {n} is no whole text"))?;
        quoted.split("\\x").skip(1).map(|pair| u8::from_str_radix(pair, 16).context("not a byte")).collect()
    }

    fn path(&self, n: usize) -> anyhow::Result<PathBuf> {
        Ok(Path::new(std::str::from_utf8(&self.bytes(n)?)?).to_owned())
    }

    /// A folder and the path after it. The working folder is nothing of ours.
    fn place(&self, n: usize) -> anyhow::Result<Place> {
        Ok(Place { folder: self.number(n).ok(), path: self.path(n + 1)? })
    }

    fn absolute(&self, n: usize) -> anyhow::Result<Place> {
        Ok(Place { folder: None, path: self.path(n)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_another_thread_interrupts_is_put_together() {
        let trace = "7 openat(AT_FDCWD, \"\\x2f\\x61\", O_RDWR|O_CREAT, 0600 <unfinished ...>\n\
                     8 close(9) = 0\n\
                     7 <... openat resumed>) = 3\n\
                     7 pwrite64(3, \"\\x2c\\x20\\x62\", 3, 4096) = 2\n\
                     7 unlinkat(5, \"\\x63\", 0) = -1 ENOENT (No such file or directory)\n\
                     7 +++ exited with 0 +++";
        let lines = whole(trace).unwrap();
        let calls: Vec<Call> = lines.iter().filter_map(|line| parse(line).unwrap()).collect();
        let [
            Call::Close { fd: 9 },
            Call::Open { fd: 3, place, creates: true, truncates: false },
            Call::Write { fd: 3, offset: Some(4096), bytes },
        ] = calls.as_slice()
        else {
            panic!("{calls:?}");
        };
        assert_eq!(
            (place.folder, place.path.as_path(), bytes.as_slice()),
            (None, Path::new("/a"), &b", "[..])
        );
    }

    #[test]
    fn an_unknown_call_is_an_error_and_not_passed_over() {
        assert!(parse("sendfile(3, 4, NULL, 10) = 10").is_err());
        assert!(parse("write(3, \"\\x61\"..., 10) = 10").is_err());
    }
}
