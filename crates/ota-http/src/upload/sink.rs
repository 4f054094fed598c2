//! Brings the bytes of an upload to the store: in large pieces, off the async threads, one being written while the next
//! one arrives.

use ota_core::{error::PortError, ports::UploadWriter, release::StagedImage};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{app::blocking, status::Refusal};

/// Bytes that are gathered before the store gets them. Two such pieces are the memory that an upload takes.
const PIECE: usize = 1 << 20;

type Writer = Box<dyn UploadWriter>;

/// An upload on its way to the store. Dropped, nothing of it is left there.
pub(crate) struct Sink {
    piece: Vec<u8>,
    store: Store,
}

/// Where the writer is. It is back, with an empty piece, before the next one is written.
enum Store {
    Idle(Writer, Vec<u8>),
    Writing(JoinHandle<(Writer, Vec<u8>, Result<(), PortError>)>),
    Failed,
}

impl Sink {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { piece: Vec::with_capacity(PIECE), store: Store::Idle(writer, Vec::with_capacity(PIECE)) }
    }

    /// Takes the next bytes; waits while the store cannot keep up.
    pub(crate) async fn push(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            let room = PIECE.saturating_sub(self.piece.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() >= PIECE {
                self.write().await?;
            }
        }
        Ok(())
    }

    /// Makes everything durable and tells what it is.
    pub(crate) async fn seal(mut self) -> Result<(Writer, StagedImage), Refusal> {
        self.write().await?;
        let (writer, _) = self.settle().await?;
        let (writer, sealed) = blocking(move || {
            let mut writer = writer;
            let sealed = writer.seal();
            // A refused one is dropped here, off the async threads.
            sealed.map(|image| (writer, image))
        })
        .await??;
        Ok((writer, sealed))
    }

    /// Removes what has arrived, and returns when it is gone.
    pub(crate) async fn abort(mut self) {
        if let Ok((writer, _)) = self.settle().await {
            let _ = blocking(move || drop(writer)).await;
        }
    }

    async fn write(&mut self) -> Result<(), Refusal> {
        let (mut writer, mut spare) = self.settle().await?;
        std::mem::swap(&mut spare, &mut self.piece);
        self.store = Store::Writing(tokio::task::spawn_blocking(move || {
            let outcome = writer.append(&spare);
            spare.clear();
            (writer, spare, outcome)
        }));
        Ok(())
    }

    /// Waits until the writer is back.
    async fn settle(&mut self) -> Result<(Writer, Vec<u8>), Refusal> {
        match std::mem::replace(&mut self.store, Store::Failed) {
            Store::Idle(writer, spare) => Ok((writer, spare)),
            Store::Failed => Err(Refusal::internal("an upload went on after it had failed")),
            Store::Writing(written) => {
                let (writer, spare, outcome) =
                    written.await.map_err(|error| Refusal::internal(error.to_string()))?;
                match outcome {
                    Ok(()) => Ok((writer, spare)),
                    Err(error) => {
                        blocking(move || drop(writer)).await?;
                        Err(error.into())
                    }
                }
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A writer that is writing is dropped where it writes.
        if let Store::Idle(writer, _) = std::mem::replace(&mut self.store, Store::Failed)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(writer));
        }
    }
}
