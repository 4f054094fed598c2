//! A connection's bytes on their way in and out: watched for silence, slow heads, stuck writes and bare answers.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    bare::BareAnswers,
    conn::{Conn, HeadScan},
};

/// The connection's bytes, watched. Dropping it gives its place back, also after an upgrade.
pub(crate) struct WatchedIo<I> {
    pub(crate) io: I,
    pub(crate) conn: Arc<Conn>,
    head: HeadScan,
    bare: BareAnswers,
    _place: Place,
}

/// Gives the place in the registry back.
pub(crate) struct Place(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Place {
    pub(crate) fn new(give_back: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(give_back)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

impl<I> WatchedIo<I> {
    pub(crate) fn new(io: I, conn: Arc<Conn>, place: Place, bare: BareAnswers) -> Self {
        Self { io, conn, head: HeadScan::default(), bare, _place: place }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for WatchedIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        let fresh = &buf.filled()[before..];
        if !fresh.is_empty() {
            this.conn.has_read(fresh, &mut this.head);
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> WatchedIo<I> {
    /// Sends an envelope in the place of a bare answer; `None`: `first` is none.
    fn poll_instead(&mut self, cx: &mut Context<'_>, first: &[u8]) -> Option<Poll<io::Result<()>>> {
        loop {
            let instead = self.bare.instead_of(first);
            if instead.is_empty() {
                return None;
            }
            let count = match Pin::new(&mut self.io).poll_write(cx, instead) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => {
                    self.conn.write_is(true);
                    return Some(Poll::Pending);
                }
            };
            let last = count >= instead.len();
            self.bare.sent(count);
            if last {
                self.conn.write_is(false);
                return Some(Poll::Ready(Ok(())));
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(sent) = self.poll_instead(cx, buf) {
            return sent.map_ok(|()| buf.len());
        }
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.conn.write_is(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        if let Some(sent) = self.poll_instead(cx, first) {
            return sent.map_ok(|()| bufs.iter().map(|buf| buf.len()).sum());
        }
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.conn.write_is(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        // The head's time-out ends this, too.
        while *this.bare.linger() > 0 {
            let mut scratch = [0; 4096];
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut buf))?;
            let count = buf.filled().len();
            let left = this.bare.linger();
            *left = if count == 0 { 0 } else { left.saturating_sub(count) };
        }
        Poll::Ready(Ok(()))
    }
}
