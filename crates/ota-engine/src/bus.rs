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
    /// Number of the first event since the start.
    first: Option<u64>,
    next: u64,
    reserved_until: u64,
}

impl Ring {
    /// The first event after `reader.last`, and how many were lost before it: those that the ring dropped, and those that did
    /// not fit into the reader's queue.
    fn after(&self, reader: &Position) -> Option<(u64, &Event)> {
        let mut at = self.events.partition_point(|event| event.seq <= reader.last);
        let mut lost = self.dropped_after(reader.last);
        // What a reader asked to have repeated waits in the ring; its queue is what came after that.
        let queued = self.events.partition_point(|event| event.seq <= reader.replay_to).max(at);
        let over = self.events.len().saturating_sub(queued).saturating_sub(reader.queue);
        if at == queued {
            at += over;
            lost += u64::try_from(over).unwrap_or(u64::MAX);
        }
        Some((lost, self.events.get(at)?))
    }

    /// How many events after `last` the ring no longer has. Gaps between two runs of the daemon are no loss.
    fn dropped_after(&self, last: u64) -> u64 {
        let wanted = last.saturating_add(1).max(self.first.unwrap_or_default());
        self.events.front().map_or(0, |front| front.seq.saturating_sub(wanted))
    }
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
        ring.first.get_or_insert(seq);
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
        (
            ring.dropped_after(since),
            ring.events.iter().filter(|e| e.seq > since).take(limit).cloned().collect(),
        )
    }

    /// The number of the newest event.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.ring().events.back().map_or(0, |e| e.seq)
    }

    /// A reader that starts after `since`.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, since: Option<u64>) -> Subscription {
        let newest = self.newest();
        let at = Position { last: since.unwrap_or(newest), replay_to: newest, queue: CAPACITY };
        Subscription { changed: self.newest.subscribe(), bus: Arc::clone(self), at }
    }
}

/// A reader of the stream.
pub struct Subscription {
    bus: Arc<Bus>,
    changed: watch::Receiver<u64>,
    at: Position,
}

/// How far a reader is, and how much may wait for it.
struct Position {
    /// The last event that it has, or has been told it lost.
    last: u64,
    /// The newest event when it came.
    replay_to: u64,
    /// How many events that came since may wait for it.
    queue: usize,
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
    /// At most so many new events wait for this reader; it loses the oldest of more. What `since` asked for does not count.
    #[must_use]
    pub const fn with_queue(mut self, most: usize) -> Self {
        self.at.queue = most;
        self
    }

    /// Number of the last event that was delivered, or told to be lost: where a reader would go on.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.at.last
    }

    /// The next event, or the news that some were dropped. Waits; safe to cancel.
    pub async fn next(&mut self) -> Delivery {
        loop {
            self.changed.borrow_and_update();
            if let Some(delivery) = self.take() {
                return delivery;
            }
            if self.changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn take(&mut self) -> Option<Delivery> {
        let ring = self.bus.ring();
        let (lost, event) = ring.after(&self.at)?;
        if lost > 0 {
            self.at.last = event.seq.saturating_sub(1);
            return Some(Delivery::Dropped(lost));
        }
        self.at.last = event.seq;
        Some(Delivery::Event(event.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ota_testkit::{FakeClock, MemJournal};

    fn bus() -> Arc<Bus> {
        Bus::new(Arc::new(MemJournal::default()), Arc::new(FakeClock::default()))
    }

    fn publish(bus: &Bus, count: usize) -> u64 {
        let notice = || EventKind::System { event: "x".into(), message: String::new(), countdown: None };
        (0..count).map(|_| bus.publish(notice())).last().unwrap_or_default()
    }

    /// What waits for a reader: how many it is told to have lost, and the numbers of the events.
    async fn waiting(reader: &mut Subscription, newest: u64) -> (u64, Vec<u64>) {
        let (mut lost, mut events) = (0, Vec::new());
        while events.last() != Some(&newest) {
            match reader.next().await {
                Delivery::Dropped(count) => lost += count,
                Delivery::Event(event) => {
                    assert_eq!(event.seq, reader.position());
                    events.push(event.seq);
                }
            }
        }
        (lost, events)
    }

    #[tokio::test]
    async fn as_many_events_wait_for_a_reader_as_its_queue_holds_and_it_is_told_of_the_rest() {
        let bus = bus();
        let mut reader = bus.subscribe(None).with_queue(256);
        let newest = publish(&bus, 256);
        let (lost, events) = waiting(&mut reader, newest).await;
        assert_eq!((lost, events.len()), (0, 256));
        let newest = publish(&bus, 257);
        let (lost, events) = waiting(&mut reader, newest).await;
        assert_eq!((lost, events.len()), (1, 256));
        // More than the ring holds.
        let newest = publish(&bus, 5000);
        let (lost, events) = waiting(&mut reader, newest).await;
        assert_eq!((lost, events.len()), (5000 - 256, 256));
        assert!(events.is_sorted_by(|a, b| a + 1 == *b));
    }

    #[tokio::test]
    async fn what_a_reader_asks_to_have_repeated_is_not_bounded_by_its_queue_and_what_comes_meanwhile_is() {
        let bus = bus();
        let first = publish(&bus, 1);
        publish(&bus, 600);
        let mut reader = bus.subscribe(Some(first)).with_queue(256);
        let newest = publish(&bus, 300);
        let (lost, events) = waiting(&mut reader, newest).await;
        assert_eq!((lost, events.len()), (300 - 256, 600 + 256));
    }

    #[tokio::test]
    async fn a_position_that_the_ring_has_left_behind_is_told_and_one_of_an_earlier_run_is_not_made_up() {
        let journal = Arc::new(MemJournal::default());
        let clock = Arc::new(FakeClock::default());
        let before = Bus::new(Arc::clone(&journal) as _, Arc::clone(&clock) as _);
        let old = publish(&before, 10);
        let bus = Bus::new(journal, clock);
        let newest = publish(&bus, 3);
        assert!(newest > old + 3, "numbers are reserved in blocks");
        let (lost, events) = waiting(&mut bus.subscribe(Some(old)), newest).await;
        assert_eq!((lost, events.len()), (0, 3));
        assert_eq!(bus.since(old, 10).0, 0, "asked for in pieces, it is the same");
        let newest = publish(&bus, CAPACITY);
        let (lost, events) = waiting(&mut bus.subscribe(Some(events[0])), newest).await;
        assert_eq!((lost, events.len()), (2, CAPACITY));
    }
}
