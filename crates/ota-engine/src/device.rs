//! The one thread that changes the device, and the order it keeps.
//!
//! Everything that reads or writes slots and the boot environment runs here, one after the other, in the order it was
//! asked for: an undo that was asked for after a switch happens after it.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use tracing::Span;

/// A piece of blocking work, and the span of who asked for it.
struct Work {
    span: Span,
    piece: Box<dyn FnOnce() + Send>,
}

/// The device thread. Dropping the last handle ends it after the work that was asked for.
#[derive(Clone)]
pub(crate) struct Device {
    queue: Arc<mpsc::Sender<Work>>,
}

impl Device {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (queue, work) = mpsc::channel::<Work>();
        thread::Builder::new().name("device".into()).spawn(move || {
            for Work { span, piece } in work {
                let _in_span = span.entered();
                // A panic in an adapter must not take the thread along: the job then waits for a restart, visibly.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(piece)).is_err() {
                    tracing::error!(
                        "work on the device panicked; the active job waits for a restart of the daemon"
                    );
                }
            }
        })?;
        Ok(Self { queue: Arc::new(queue) })
    }

    /// Asks for `work`, inside of the caller's span, after all that was asked for before.
    pub(crate) fn run(&self, work: impl FnOnce() + Send + 'static) {
        // The thread ends only with the last sender, so it is there.
        let _ = self.queue.send(Work { span: Span::current(), piece: Box::new(work) });
    }

    /// The result of `work`, once its turn came; `None` when it panicked.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.run(move || {
            let _ = tell.send(work());
        });
        told.await.ok()
    }
}
