//! What can go wrong while making a release. Display says this level only; the cause is the source.

use std::{path::PathBuf, process::ExitStatus};

/// A failed step of the release engineer's tools.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A file or folder could not be read, written, linked or synced.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A metadata, draft or manifest file does not have its shape.
    #[error("{} is not a valid {what} file", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Where it departs from it.
        source: serde_json::Error,
    },
    /// The value cannot be written as metadata.
    #[error("metadata cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// Metadata holds a number that TUF's canonical JSON does not know.
    #[error("only integers can be signed, found {0}")]
    NotAnInteger(String),
    /// There is a repository already.
    #[error("{} holds a repository already", .0.display())]
    AlreadyThere(PathBuf),
    /// There is no repository.
    #[error("{} holds no repository (no N.root.json)", .0.display())]
    NotARepository(PathBuf),
    /// Fewer keys than the role's threshold are in the key folder.
    #[error("role {role} needs {needed} of its keys to sign, {} holds {found}", folder.display())]
    KeysMissing {
        /// The role.
        role: String,
        /// Its threshold.
        needed: usize,
        /// How many of its keys were found.
        found: usize,
        /// Where they were looked for.
        folder: PathBuf,
    },
    /// The random generator failed or a key file does not hold an Ed25519 key in PKCS#8.
    #[error("{} is not a usable Ed25519 key ({why})", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The signer's certificate, or one of its chain, cannot be read.
    #[error("{} holds no usable certificate ({why})", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A CMS message cannot be put together.
    #[error("the signature cannot be encoded")]
    Cms(#[source] der::Error),
    /// A name that may not become part of a target path or of the manifest.
    #[error("{what} {text:?} is not allowed: {rule}")]
    BadName {
        /// Which name.
        what: &'static str,
        /// As it was given.
        text: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// The channel has no release of this name.
    #[error("{manifest} lists no release {id:?}; it has: {}", if there.is_empty() { "none".into() } else { there.join(", ") })]
    NotListed {
        /// The release that was asked for.
        id: String,
        /// Target path of the channel manifest.
        manifest: String,
        /// Its releases.
        there: Vec<String>,
    },
    /// Options that contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// A point in time that a calendar date cannot express.
    #[error("time {0} ms is outside of the calendar")]
    Time(i64),
    /// An external program could not be started.
    #[error("cannot start {program} (Debian package {package})")]
    Start {
        /// The program.
        program: &'static str,
        /// Where it comes from.
        package: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// An external program failed.
    #[error("{program} ended with {status}: {stderr}")]
    Failed {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
}

/// Names the file in an IO error.
pub(crate) fn at(
    doing: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> ReleaseError {
    let path = path.into();
    move |source| ReleaseError::Io { doing, path, source }
}
