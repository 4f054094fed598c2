//! The one place that starts external programs (`openssl`, `gpg`) and keeps what they say when they fail.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

use crate::ReleaseError;

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
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(ReleaseError::Failed { program: self.program, status: output.status, stderr })
    }
}
