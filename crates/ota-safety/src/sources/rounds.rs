//! Readings that block a thread: small files, the gateway's own figures. One task knows which are due, one thread reads them
//! one after another and hands on what they say; no reading costs a timer, a task or a change of threads of its own.
//!
//! One that hangs (a driver, a network file system) keeps the thread that it is on, and another thread goes on with the rest.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{Feed, Taken};
use crate::reading::Fault;

/// How long something may wait for its turn before another thread helps.
const PATIENCE: Duration = Duration::from_millis(10);

/// Most threads that may hang at a time; beyond that what is due has no answer. Of the 128 that the unit file allows.
const MOST_THREADS: usize = 32;

type Read = Box<dyn FnMut() -> Result<Taken, Fault> + Send>;

/// A reading that blocks its thread, and how often it is made.
pub(crate) struct Reading {
    every: Duration,
    timeout: Duration,
    read: Read,
}

impl Reading {
    /// `read` is called every `every`, never twice at a time. After `timeout` without an answer it counts as none.
    pub(super) fn new(
        every: Duration,
        timeout: Duration,
        read: impl FnMut() -> Result<Taken, Fault> + Send + 'static,
    ) -> Self {
        Self { every, timeout, read: Box::new(read) }
    }
}

/// All sources that are read so.
#[derive(Default)]
pub(crate) struct Rounds {
    plans: Vec<Plan>,
}

/// When one is read next.
struct Plan {
    sensor: Arc<Sensor>,
    every: Duration,
    timeout: Duration,
    next: Instant,
    asked: Instant,
    /// Whether it was told that the reading under way has no answer.
    told: bool,
}

struct Sensor {
    feed: Feed,
    read: Mutex<Read>,
    /// Waits to be read, or is being read.
    busy: AtomicBool,
}

impl Rounds {
    /// One more, read for the first time at the start.
    pub(super) fn add(&mut self, reading: Reading, feed: Feed) {
        let Reading { every, timeout, read } = reading;
        let sensor = Arc::new(Sensor { feed, read: Mutex::new(read), busy: AtomicBool::new(false) });
        let now = Instant::now();
        self.plans.push(Plan { sensor, every, timeout, next: now, asked: now, told: false });
    }

    /// Reads whatever is due, for ever.
    pub(super) async fn run(mut self) {
        let crew = Crew::default();
        let now = Instant::now();
        let mut due: BinaryHeap<_> = (0..self.plans.len()).map(|index| Reverse((now, index))).collect();
        let mut waits_since = now;
        while let Some(&Reverse((first, _))) = due.peek() {
            let wake =
                if crew.lock().queue.is_empty() { first } else { first.min(Instant::now() + PATIENCE) };
            sleep_until(wake).await;
            let now = Instant::now();
            let mut asked = VecDeque::new();
            while let Some(mut top) = due.peek_mut() {
                let Reverse((at, index)) = *top;
                if at > now {
                    break;
                }
                *top = Reverse((self.plans[index].visit(now, &mut asked), index));
            }
            crew.ask(&mut asked, &mut waits_since, now);
        }
    }
}

impl Plan {
    /// Asks for a reading if it is time for one and none is under way. Returns when to look at it again.
    fn visit(&mut self, now: Instant, asked: &mut VecDeque<Arc<Sensor>>) -> Instant {
        let late_at = self.asked + self.timeout;
        if self.sensor.busy.load(Ordering::Acquire) {
            if now >= late_at && !self.told {
                self.told = true;
                self.sensor.feed.deliver(Err(Fault::TimedOut), self.sensor.feed.now());
            }
            let again = now + self.every;
            return if self.told { again } else { again.min(late_at) };
        }
        if now >= self.next {
            (self.asked, self.told) = (now, false);
            // In step with the others, unless one was missed.
            let planned = self.next + self.every;
            self.next = if planned > now { planned } else { now + self.every };
            self.sensor.busy.store(true, Ordering::Release);
            asked.push_back(Arc::clone(&self.sensor));
            return self.next.min(now + self.timeout);
        }
        self.next
    }
}

impl Sensor {
    fn read(&self) {
        // Stamped with the start: the value is no older than that.
        let started = self.feed.now();
        let read = || (self.read.lock().unwrap_or_else(PoisonError::into_inner))();
        // A reading that panics is a reading that fails: it is made again, and the thread goes on with the others.
        let outcome = panic::catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|_| Err(Fault::Unreadable("the reading panicked".into())));
        match outcome {
            Ok(taken) => self.feed.deliver_aged(taken, started),
            Err(fault) => self.feed.deliver(Err(fault), self.feed.now()),
        }
        self.busy.store(false, Ordering::Release);
    }
}

/// The threads that read.
#[derive(Clone, Default)]
struct Crew(Arc<Mutex<Work>>);

#[derive(Default)]
struct Work {
    queue: VecDeque<Arc<Sensor>>,
    /// Threads that read, or hang.
    threads: usize,
}

impl Crew {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what is due, and sees to it that the queue gets shorter. `waits_since`: since when it has not been empty.
    fn ask(&self, asked: &mut VecDeque<Arc<Sensor>>, waits_since: &mut Instant, now: Instant) {
        let (waiting, threads) = {
            let mut work = self.lock();
            if work.queue.is_empty() {
                *waits_since = now;
            }
            work.queue.append(asked);
            (!work.queue.is_empty(), work.threads)
        };
        let stuck = now.saturating_duration_since(*waits_since) >= PATIENCE;
        // Twice as many each time, so that many which hang at once are soon passed.
        let more = match threads {
            0 if waiting => 1,
            threads if waiting && stuck => threads.min(MOST_THREADS.saturating_sub(threads)),
            _ => return,
        };
        *waits_since = now;
        (0..more).for_each(|_| self.grow());
    }

    /// Puts one more thread to work. The first is one of the runtime's; while that hangs, or all of those are busy with
    /// other things, threads of our own: what hangs here must not keep the daemon from its disk.
    fn grow(&self) {
        let crew = self.clone();
        let first = {
            let mut work = self.lock();
            work.threads += 1;
            work.threads == 1
        };
        if first {
            drop(tokio::task::spawn_blocking(move || crew.work()));
            return;
        }
        let thread = std::thread::Builder::new().name("sensor".into()).spawn(move || crew.work());
        if let Err(error) = thread {
            tracing::error!(%error, "no thread to read sensors with");
            self.lock().threads -= 1;
        }
    }

    /// What a thread of the crew does: reads what is in the queue, until there is no more.
    fn work(&self) {
        while let Some(sensor) = self.take() {
            sensor.read();
        }
    }

    /// The next to be read; without one the thread that asks is done.
    fn take(&self) -> Option<Arc<Sensor>> {
        let mut work = self.lock();
        let next = work.queue.pop_front();
        work.threads -= usize::from(next.is_none());
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use ota_testkit::FakeClock;
    use tokio::sync::mpsc;

    use super::*;
    use crate::reading::{Sample, Value};

    const EVERY: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    /// Rounds whose samples can be waited for, each with the number of its reading.
    struct Bench {
        rounds: Rounds,
        added: usize,
        clock: Arc<FakeClock>,
        sender: mpsc::UnboundedSender<(usize, Sample)>,
        samples: mpsc::UnboundedReceiver<(usize, Sample)>,
    }

    impl Bench {
        fn new() -> Self {
            let (sender, samples) = mpsc::unbounded_channel();
            Self { rounds: Rounds::default(), added: 0, clock: Arc::default(), sender, samples }
        }

        fn add(&mut self, every: Duration, timeout: Duration, mut hang: impl FnMut() + Send + 'static) {
            let (number, sender) = (self.added, self.sender.clone());
            let feed = Feed::new(self.clock.clone(), move |sample| drop(sender.send((number, sample))));
            let read = move || {
                hang();
                Ok(Value::Number(1.0).into())
            };
            self.rounds.add(Reading::new(every, timeout, read), feed);
            self.added += 1;
        }

        fn run(&mut self) {
            tokio::spawn(std::mem::take(&mut self.rounds).run());
        }

        /// Waits until every reading has said `times` times something that `wanted` takes. Returns the last of each.
        async fn until(&mut self, times: usize, wanted: impl Fn(usize, &Sample) -> bool) -> Vec<Sample> {
            let mut heard = vec![Vec::new(); self.added];
            let all = async {
                while heard.iter().any(|samples: &Vec<Sample>| samples.len() < times) {
                    let (number, sample) = self.samples.recv().await.unwrap();
                    if wanted(number, &sample) {
                        heard[number].push(sample);
                    }
                }
            };
            tokio::time::timeout(LONG, all).await.unwrap();
            heard.into_iter().map(|mut samples| samples.pop().unwrap()).collect()
        }
    }

    #[test]
    fn readings_that_hang_hold_back_no_other_one_and_nothing_else_of_the_daemon() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let gate: Arc<OnceLock<()>> = Arc::default();
            let mut bench = Bench::new();
            for _ in 0..20 {
                let gate = Arc::clone(&gate);
                bench.add(EVERY, EVERY, move || *gate.wait());
            }
            bench.add(EVERY, LONG, || ());
            bench.run();
            let says = |number, sample: &Sample| match number {
                20 => sample.outcome.is_ok(),
                _ => sample.outcome == Err(Fault::TimedOut),
            };
            bench.until(1, says).await;
            let others = tokio::task::spawn_blocking(|| ());
            tokio::time::timeout(LONG, others).await.unwrap().unwrap();
            // It goes on, and those that hang are not asked again meanwhile.
            while bench.samples.try_recv().is_ok() {}
            for _ in 0..5 {
                assert!(matches!(bench.samples.recv().await, Some((20, Sample { outcome: Ok(_), .. }))));
            }
            gate.set(()).unwrap();
            bench.until(3, |_, sample| sample.outcome.is_ok()).await;
        });
    }

    #[tokio::test]
    async fn a_reading_that_panics_is_one_that_fails_and_is_made_again() {
        let mut bench = Bench::new();
        let mut first = true;
        bench.add(EVERY, LONG, move || assert!(!std::mem::take(&mut first), "as the test wants it"));
        bench.run();
        bench.until(1, |_, sample| matches!(sample.outcome, Err(Fault::Unreadable(_)))).await;
        bench.until(2, |_, sample| sample.outcome.is_ok()).await;
    }

    #[tokio::test]
    async fn what_is_answered_late_is_as_old_as_its_question() {
        let gate: Arc<OnceLock<()>> = Arc::default();
        let mut bench = Bench::new();
        let hangs = Arc::clone(&gate);
        let (begins, mut begun) = mpsc::unbounded_channel();
        bench.add(EVERY, EVERY, move || {
            let _ = begins.send(());
            *hangs.wait()
        });
        let asked = ota_core::ports::Clock::monotonic(&*bench.clock);
        bench.run();
        // No answer in time is also that of a reading whose thread is not there yet.
        begun.recv().await.unwrap();
        bench.until(1, |_, sample| sample.outcome == Err(Fault::TimedOut)).await;
        bench.clock.advance(Duration::from_secs(7));
        gate.set(()).unwrap();
        assert_eq!(bench.until(1, |_, sample| sample.outcome.is_ok()).await[0].taken_at, asked);
        let fresh = bench.until(1, |_, sample| sample.outcome.is_ok()).await;
        assert_eq!(fresh[0].taken_at, asked + Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn every_reading_keeps_its_own_pace() {
        let mut bench = Bench::new();
        let paces = [10, 100, 250, 1000, 3_600_000];
        for millis in paces {
            bench.add(Duration::from_millis(millis), Duration::from_millis(200), || ());
        }
        bench.run();
        tokio::time::sleep(Duration::from_millis(9995)).await;
        let mut heard = [0; 5];
        while let Ok((number, sample)) = bench.samples.try_recv() {
            assert!(sample.outcome.is_ok());
            heard[number] += 1;
        }
        assert_eq!(heard, [1000, 100, 40, 10, 1]);
    }
}
