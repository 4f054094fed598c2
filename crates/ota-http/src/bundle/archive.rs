//! A gzipped tar archive, made on a blocking thread and sent piece by piece.

use std::{
    io::{self, Write},
    mem,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use ota_core::Timestamp;
use tokio::sync::mpsc;

use super::Redactor;

/// Bytes of a piece.
const PIECE: usize = 64 * 1024;

/// Texts on their way to a client. Every one goes through the redactor.
pub(super) struct Archive {
    tar: tar::Builder<GzEncoder<Pieces>>,
    folder: String,
    now: Timestamp,
    redactor: Redactor,
}

impl Archive {
    pub(super) fn new(
        to: mpsc::Sender<io::Result<Bytes>>,
        folder: String,
        now: Timestamp,
        redactor: Redactor,
    ) -> Self {
        let pieces = Pieces { to, piece: Vec::with_capacity(PIECE) };
        Self { tar: tar::Builder::new(GzEncoder::new(pieces, Compression::fast())), folder, now, redactor }
    }

    /// Adds a text under `name` below the bundle's folder.
    ///
    /// # Errors
    /// When the client is gone.
    pub(super) fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        let clean = self.redactor.clean(text.as_bytes());
        let mut header = tar::Header::new_gnu();
        header.set_size(clean.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.now.as_secs()).unwrap_or(0));
        self.tar.append_data(&mut header, format!("{}/{name}", self.folder), clean.as_slice())
    }

    /// Sends the rest.
    ///
    /// # Errors
    /// When the client is gone.
    pub(super) fn finish(self) -> io::Result<()> {
        self.tar.into_inner()?.finish()?.flush()
    }
}

/// Collects bytes into pieces of a useful size and waits for the client to take them.
struct Pieces {
    to: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.to.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
