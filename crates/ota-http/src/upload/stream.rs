//! The body of an upload on its way into the parser of forms, which would else hold as much in memory as a client sends.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures_util::Stream;

/// Most that the parser may hold without giving any of it on: boundaries and heads of parts.
const HELD: u64 = 2 << 20;

/// What the parser was given and has given on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    fed: AtomicU64,
    taken: AtomicU64,
    discarding: AtomicBool,
}

impl Meter {
    /// So many bytes came out of the parser.
    pub(crate) fn took(&self, bytes: usize) {
        self.0.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What comes from now on is thrown away, so nothing is held.
    pub(crate) fn discard(&self) {
        self.0.discarding.store(true, Ordering::Relaxed);
    }

    fn held(&self) -> u64 {
        self.0.fed.load(Ordering::Relaxed).saturating_sub(self.0.taken.load(Ordering::Relaxed))
    }
}

/// Why the body was cut off.
#[derive(Debug, thiserror::Error)]
#[error("a part of the form has a head that is too long, or is not one that is known and too long")]
pub(crate) struct HoldsTooMuch;

/// The body, piece by piece.
pub(crate) struct Metered {
    body: BodyDataStream,
    meter: Meter,
    /// After each piece the parser gets a chance to give it on: it asks as long as there is something to get.
    pausing: bool,
}

impl Metered {
    pub(crate) fn new(body: BodyDataStream, meter: Meter) -> Self {
        Self { body, meter, pausing: false }
    }
}

impl Stream for Metered {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pausing) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = match Pin::new(&mut self.body).poll_next(cx) {
            Poll::Ready(Some(Ok(piece))) => piece,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        self.pausing = true;
        let counts = &self.meter.0;
        counts.fed.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if self.meter.held() > HELD && !counts.discarding.load(Ordering::Relaxed) {
            return Poll::Ready(Some(Err(HoldsTooMuch.into())));
        }
        Poll::Ready(Some(Ok(piece)))
    }
}
