//! What can go wrong while an image is unpacked, and what the domain makes of it.

use std::{io, path::PathBuf, process::ExitStatus};

use ota_core::{
    ByteCount, OtaError, Slot,
    error::{PortError, PortErrorKind},
    ports::ImageExpectation,
};

/// An image was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The compressed stream is damaged, cut short, or goes on behind its end.
    #[error("the {packing} stream is damaged: {what}")]
    Packing {
        /// `gzip` or `zstd`.
        packing: &'static str,
        /// What the decoder says.
        what: String,
    },
    /// The archive is damaged, or has an entry that is not unpacked here.
    #[error("{0}")]
    Archive(String),
    /// What was unpacked is not what was found before.
    #[error("it unpacks to {} with sha256:{}, not to {} with sha256:{}", actual.size, actual.sha256, expected.size, expected.sha256)]
    Unlike {
        /// What was promised, or found before.
        expected: ImageExpectation,
        /// What was found.
        actual: ImageExpectation,
    },
    /// What comes out is longer or shorter than was signed.
    #[error("it unpacks to {actual}, signed are {signed}")]
    Length {
        /// As signed.
        signed: ByteCount,
        /// As found; of what is longer, where it was left.
        actual: ByteCount,
    },
    /// A slot does not hold it.
    #[error("{required} are needed, a slot holds {available}")]
    TooLarge {
        /// Bytes needed, at least.
        required: ByteCount,
        /// Bytes there.
        available: ByteCount,
    },
    /// The observer asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// The image could not be read.
    #[error("the image cannot be read")]
    Source(#[source] PortError),
    /// A system call on the new file system failed.
    #[error("cannot {doing} {}", path.display())]
    System {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An entry reads back otherwise than it stands in the archive.
    #[error("{} reads back differently: {what}", path.display())]
    ReadBack {
        /// The entry.
        path: PathBuf,
        /// In what.
        what: &'static str,
    },
    /// A tool of the system could not be started.
    #[error("cannot start {program} (Debian package {package})")]
    Start {
        /// The program.
        program: &'static str,
        /// Where it comes from.
        package: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A tool of the system failed.
    #[error("{program} ended with {status}: {said}")]
    Tool {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// The thread that unpacks ended without a result.
    #[error("the unpacking thread panicked")]
    Thread,
}

/// Carries an error through readers that know only `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Carried(pub(crate) ImageError);

impl ImageError {
    /// What a reader below a decoder or the archive reader said; `otherwise` for what they say themselves.
    pub(crate) fn of_reading(error: io::Error, otherwise: impl FnOnce(String) -> Self) -> Self {
        match error.downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(error) => otherwise(error.to_string()),
        }
    }

    pub(crate) fn archive(what: impl Into<String>) -> Self {
        Self::Archive(what.into())
    }

    /// For use as `.map_err(ImageError::system("make", path))`.
    pub(crate) fn system<E: Into<io::Error>>(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::System { doing, path, source: source.into() }
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::System { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// The port's error, with the slot that it was about, where there was one. `space`: what the slot needs and has.
    pub(crate) fn into_port(self, slot: Option<Slot>, space: Option<(ByteCount, ByteCount)>) -> PortError {
        let place = || slot.map_or_else(|| "slot".to_owned(), |slot| format!("slot {slot}"));
        let kind = match &self {
            Self::Source(error) => error.kind().clone(),
            Self::Packing { .. } | Self::Archive(_) => {
                PortErrorKind::Ota(OtaError::InvalidImage { what: self.to_string() })
            }
            Self::Unlike { expected, actual } if expected.size == actual.size => {
                PortErrorKind::Ota(OtaError::digest_mismatch(&expected.sha256, &actual.sha256))
            }
            Self::Unlike { expected, actual } => PortErrorKind::Ota(OtaError::ChecksumMismatch {
                expected: expected.size.to_string(),
                actual: actual.size.to_string(),
            }),
            Self::Length { signed, actual } => PortErrorKind::Ota(OtaError::ChecksumMismatch {
                expected: format!("{signed} unpacked"),
                actual: actual.to_string(),
            }),
            Self::TooLarge { required, available } => PortErrorKind::Ota(OtaError::InsufficientSpace {
                place: place(),
                required: *required,
                available: *available,
            }),
            Self::Stopped => PortErrorKind::Ota(OtaError::SystemBusy { with: "stopped on request".into() }),
            Self::ReadBack { .. } => PortErrorKind::Ota(OtaError::ChecksumMismatch {
                expected: "the archive's entries".into(),
                actual: self.to_string(),
            }),
            Self::System { .. } if self.is_full() && space.is_some() => {
                let (required, available) = space.unwrap_or_default();
                PortErrorKind::Ota(OtaError::InsufficientSpace { place: place(), required, available })
            }
            Self::System { .. } | Self::Start { .. } | Self::Tool { .. } | Self::Thread => {
                PortErrorKind::Io(self.to_string())
            }
        };
        PortError::new(kind, self)
    }
}
