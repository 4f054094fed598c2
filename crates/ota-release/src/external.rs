//! The one place that starts external programs (`openssl`, `gpg`, a command of the engineer's own) and keeps what they say when
//! they fail.

use std::{
    ffi::OsStr,
    fs::File,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::{ReleaseError, error::at};

/// An external tool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
}

pub(crate) const OPENSSL: Tool = Tool { program: "openssl", package: "openssl" };
pub(crate) const GPG: Tool = Tool { program: "gpg", package: "gpg" };

impl Tool {
    /// Runs it to its end, without a terminal.
    pub(crate) fn run<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Result<(), ReleaseError> {
        self.output(args).map(drop)
    }

    /// The same; gives what it writes to standard output.
    pub(crate) fn output<S: AsRef<OsStr>>(
        self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, ReleaseError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this module owns the signing tools of release engineers"
        )]
        let mut command = Command::new(self.program);
        let output = command
            .args(args)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ReleaseError::Start { program: self.program, package: self.package, source })?;
        said(self.program, output)
    }
}

/// Runs a command line in the shell with `input` on its standard input; gives what it writes to standard output. The terminal
/// stays its own: a token may ask for its PIN there.
pub(crate) fn shell(command: &str, input: &Path) -> Result<Vec<u8>, ReleaseError> {
    let input = File::open(input).map_err(at("read", input))?;
    #[expect(clippy::disallowed_methods, reason = "this module owns the signing tools of release engineers")]
    let mut sh = Command::new("sh");
    let output = sh.args(["-c", command]).stdin(input).output().map_err(|source| ReleaseError::Start {
        program: "sh",
        package: "dash",
        source,
    })?;
    said("the signing command", output)
}

fn said(program: &'static str, output: Output) -> Result<Vec<u8>, ReleaseError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ReleaseError::Failed { program, status: output.status, stderr })
}
