//! One connection as the accept loop watches it: what it is doing, since when, and when it has taken too long.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::config::Limits;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for the first byte of a request.
    Silent,
    /// Bytes of a head have arrived.
    Head,
    /// Requests are being answered.
    Busy,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    requests: usize,
    /// Since when a write has been waiting for the reader.
    write_stuck: Option<Instant>,
}

/// Shared by the connection's IO, its requests and the registry.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) address: IpAddr,
    state: Mutex<State>,
    changed: Notify,
    /// Ended by the registry to make room.
    pub(crate) evicted: CancellationToken,
    /// The head of the present request says two different things about where its body ends.
    pub(crate) contradictory: AtomicBool,
}

impl Conn {
    pub(crate) fn new(address: IpAddr) -> Arc<Self> {
        let state = State { phase: Phase::Silent, since: Instant::now(), requests: 0, write_stuck: None };
        Arc::new(Self {
            address,
            state: Mutex::new(state),
            changed: Notify::new(),
            evicted: CancellationToken::new(),
            contradictory: AtomicBool::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's head is complete; the guard lives until its answer has been sent.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.requests += 1;
        state.phase = Phase::Busy;
        drop(state);
        self.changed.notify_one();
        Busy(Arc::clone(self))
    }

    /// It speaks another protocol from now on, with time-outs of its own: never silent again, never closed to make room.
    pub(crate) fn upgraded(&self) {
        self.state().requests += 1;
    }

    /// How long it has been waiting for its client, if it is; those are the ones that may be closed to make room.
    pub(crate) fn waiting(&self) -> Option<Duration> {
        let state = self.state();
        (state.phase != Phase::Busy).then(|| state.since.elapsed())
    }

    /// Waits until it has taken too long.
    pub(crate) async fn overdue(&self, limits: &Limits) {
        loop {
            let changed = self.changed.notified();
            let deadline = self.deadline(limits);
            tokio::select! {
                () = changed => {}
                () = sleep_until(deadline) => {
                    if self.deadline(limits).is_some_and(|at| at <= Instant::now()) {
                        return;
                    }
                }
            }
        }
    }

    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let state = self.state();
        let phase = match state.phase {
            Phase::Silent => Some(state.since + limits.silent_time),
            Phase::Head => Some(state.since + limits.head_time),
            Phase::Busy => None,
        };
        let write = state.write_stuck.map(|since| since + limits.body_time);
        [phase, write].into_iter().flatten().min()
    }

    pub(crate) fn has_read(&self, bytes: &[u8], head: &mut HeadScan) {
        let mut state = self.state();
        if state.phase == Phase::Silent {
            state.phase = Phase::Head;
            state.since = Instant::now();
            *head = HeadScan::default();
            drop(state);
            self.changed.notify_one();
        } else if state.phase == Phase::Busy {
            return;
        }
        if head.feed(bytes) {
            self.contradictory.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn write_is(&self, stuck: bool) {
        let mut state = self.state();
        if stuck != state.write_stuck.is_some() {
            state.write_stuck = stuck.then(Instant::now);
            drop(state);
            self.changed.notify_one();
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A request that is being answered.
pub(crate) struct Busy(Arc<Conn>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            state.phase = Phase::Silent;
            state.since = Instant::now();
            self.0.contradictory.store(false, Ordering::Relaxed);
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

/// An answer's body that keeps its request counted until it has been sent.
pub(crate) struct BusyBody {
    pub(crate) body: axum::body::Body,
    #[expect(dead_code, reason = "held until the answer has been sent")]
    pub(crate) busy: Busy,
}

impl Body for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Looks at the bytes of a head for both `Content-Length` and `Transfer-Encoding`: the parser below drops the former
/// silently, which is how requests are smuggled past a proxy that believes the other one.
#[derive(Default)]
pub(crate) struct HeadScan {
    line: Vec<u8>,
    length: bool,
    encoding: bool,
    done: bool,
}

/// Enough of a line to know its name.
const NAME_LENGTH: usize = 32;

impl HeadScan {
    /// Whether the head is known to contradict itself.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if self.done {
                break;
            }
            if *byte == b'\n' {
                self.end_line();
            } else if self.line.len() < NAME_LENGTH && *byte != b'\r' {
                self.line.push(byte.to_ascii_lowercase());
            }
        }
        self.length && self.encoding
    }

    fn end_line(&mut self) {
        let name = self.line.split(|byte| *byte == b':').next().unwrap_or_default();
        match name.trim_ascii() {
            b"" => self.done = true,
            b"content-length" => self.length = true,
            b"transfer-encoding" => self.encoding = true,
            _ => {}
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contradicts(head: &str) -> bool {
        HeadScan::default().feed(head.as_bytes())
    }

    #[test]
    fn a_head_with_both_lengths_contradicts_itself_in_any_order_and_spelling() {
        assert!(contradicts("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(contradicts(
            "POST / HTTP/1.1\r\ntransfer-ENCODING:chunked\r\nX: y\r\ncontent-length:3\r\n\r\n"
        ));
        assert!(!contradicts(
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(!contradicts("POST / HTTP/1.1\r\nX-Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(cut in 0usize..80) {
            let head = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
            let cut = cut % head.len();
            let mut scan = HeadScan::default();
            scan.feed(&head[..cut]);
            prop_assert!(scan.feed(&head[cut..]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_slow_heads_and_stuck_writes_end_and_a_running_request_does_not() {
        let limits = Limits::default();
        let start = Instant::now();
        let silent = Conn::new([127, 0, 0, 1].into());
        silent.overdue(&limits).await;
        assert_eq!(start.elapsed().as_secs(), 20);

        let start = Instant::now();
        let slow = Conn::new([127, 0, 0, 1].into());
        slow.has_read(b"GET", &mut HeadScan::default());
        slow.overdue(&limits).await;
        assert_eq!(start.elapsed().as_secs(), 10);

        let start = Instant::now();
        let dripping = Conn::new([127, 0, 0, 1].into());
        let mut head = HeadScan::default();
        let drips = async {
            loop {
                dripping.has_read(b"G", &mut head);
                // tidy: paused time
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        };
        tokio::select! {
            () = dripping.overdue(&limits) => {}
            () = drips => {}
        }
        assert_eq!(start.elapsed().as_secs(), 10, "every byte does not give it more time");

        let busy = Conn::new([127, 0, 0, 1].into());
        let request = busy.begin();
        assert!(tokio::time::timeout(Duration::from_secs(3600), busy.overdue(&limits)).await.is_err());
        assert_eq!(busy.waiting(), None);
        drop(request);
        assert!(busy.waiting().is_some());
        let request = busy.begin();
        busy.upgraded();
        drop(request);
        assert_eq!(busy.waiting(), None);

        let start = Instant::now();
        let stuck = Conn::new([127, 0, 0, 1].into());
        let _request = stuck.begin();
        stuck.write_is(true);
        stuck.overdue(&limits).await;
        assert_eq!(start.elapsed().as_secs(), 30);
    }
}
