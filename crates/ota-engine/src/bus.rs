//! Events: a bounded ring that readers poll by sequence number.
//!
//! A reader that falls behind the ring is told how many it missed and goes on with what is there; the gateway's memory
//! never grows with slow readers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ota_core::{
    event::{Event, EventKind},
    ports::{Clock, JobJournal},
};
use tokio::sync::watch;

/// How many events the ring holds.
const CAPACITY: usize = 1024;
/// How many sequence numbers are reserved durably at a time.
const BLOCK: u64 = 4096;

/// The stream of events of this gateway.
pub struct Bus {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
    journal: Arc<dyn JobJournal>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Event>,
    next: u64,
    reserved_until: u64,
}

impl Bus {
    /// An empty stream that goes on after the numbers of the last run.
    #[must_use]
    pub fn new(journal: Arc<dyn JobJournal>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { ring: Mutex::default(), newest: watch::Sender::new(0), journal, clock })
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event and wakes the readers. Reserves numbers durably now and then: call off the async threads or
    /// accept one small commit in 4096 events.
    pub fn publish(&self, kind: EventKind) -> u64 {
        let at = self.clock.wall();
        let mut ring = self.ring();
        if ring.next >= ring.reserved_until {
            match self.journal.reserve_events(BLOCK) {
                Ok(first) => {
                    ring.next = first.max(ring.next);
                    ring.reserved_until = first.saturating_add(BLOCK);
                }
                // Readers matter more than gapless durability of the count: go on in memory.
                Err(error) => {
                    tracing::error!(error = error.chain(), "event numbers could not be reserved");
                    ring.reserved_until = ring.next.saturating_add(BLOCK);
                }
            }
        }
        let seq = ring.next;
        ring.next = seq.saturating_add(1);
        if ring.events.len() == CAPACITY {
            ring.events.pop_front();
        }
        ring.events.push_back(Event { seq, at, kind });
        drop(ring);
        self.newest.send_replace(seq);
        seq
    }

    /// Up to `limit` events after `since`, oldest first, and how many were missed because the ring dropped them.
    #[must_use]
    pub fn since(&self, since: u64, limit: usize) -> (u64, Vec<Event>) {
        let ring = self.ring();
        let missed = ring.events.front().map_or(0, |e| e.seq.saturating_sub(since.saturating_add(1)));
        (missed, ring.events.iter().filter(|e| e.seq > since).take(limit).cloned().collect())
    }

    /// The number of the newest event.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.ring().events.back().map_or(0, |e| e.seq)
    }

    /// A reader that starts after `since`.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, since: Option<u64>) -> Subscription {
        let last = since.unwrap_or_else(|| self.newest());
        Subscription { changed: self.newest.subscribe(), bus: Arc::clone(self), last, fresh: since.is_some() }
    }
}

/// A reader of the stream.
pub struct Subscription {
    bus: Arc<Bus>,
    changed: watch::Receiver<u64>,
    last: u64,
    /// A reader with a stale `since` is told what it missed once; gaps between runs are no loss.
    fresh: bool,
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// The next event.
    Event(Event),
    /// That many events were dropped before this reader took them.
    Dropped(u64),
}

impl Subscription {
    /// The next event, or the news that some were dropped. Waits; safe to cancel.
    pub async fn next(&mut self) -> Delivery {
        loop {
            self.changed.borrow_and_update();
            let (missed, events) = self.bus.since(self.last, 1);
            if let Some(event) = events.into_iter().next() {
                if missed > 0 && !self.fresh {
                    self.last = event.seq.saturating_sub(1);
                    return Delivery::Dropped(missed);
                }
                self.fresh = false;
                self.last = event.seq;
                return Delivery::Event(event);
            }
            if self.changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
