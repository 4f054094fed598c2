//! What moves bytes right now: written by the workers, read by the runner and by those who ask.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ota_core::{ByteCount, event::Operation};

use crate::LiveProgress;

/// How far back the speed looks.
const WINDOW: Duration = Duration::from_secs(5);

/// The live numbers of the active job.
#[derive(Default)]
pub(crate) struct Live {
    inner: Mutex<Option<Moving>>,
}

struct Moving {
    progress: LiveProgress,
    samples: VecDeque<(Duration, u64)>,
    /// What was last published, to say only what is new.
    told: Option<(Operation, ByteCount)>,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Option<Moving>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new operation starts at `current` of `total`.
    pub(crate) fn begin(&self, operation: Operation, current: ByteCount, total: ByteCount) {
        let progress = LiveProgress { operation, current, total, bytes_per_second: None };
        *self.lock() = Some(Moving { progress, samples: VecDeque::new(), told: None });
    }

    /// The operation is at `current`; a change of operation keeps the total.
    pub(crate) fn at(&self, operation: Operation, current: ByteCount) {
        if let Some(moving) = self.lock().as_mut() {
            if moving.progress.operation != operation {
                moving.samples.clear();
                moving.progress.bytes_per_second = None;
            }
            moving.progress.operation = operation;
            moving.progress.current = current.min(moving.progress.total);
        }
    }

    /// Nothing moves any more; gives the last numbers, so that they can be told once more.
    pub(crate) fn end(&self) -> Option<LiveProgress> {
        self.lock().take().map(|moving| moving.progress)
    }

    /// The numbers as they are.
    pub(crate) fn now(&self) -> Option<LiveProgress> {
        self.lock().as_ref().map(|moving| moving.progress)
    }

    /// Takes a sample for the speed; gives the numbers when they are news.
    pub(crate) fn sample(&self, monotonic: Duration) -> Option<LiveProgress> {
        let mut guard = self.lock();
        let moving = guard.as_mut()?;
        let current = moving.progress.current;
        moving.samples.push_back((monotonic, current.get()));
        while moving.samples.len() > 2 && moving.samples[1].0 + WINDOW < monotonic {
            moving.samples.pop_front();
        }
        if let Some((then, bytes)) = moving.samples.front() {
            let millis = monotonic.saturating_sub(*then).as_millis();
            let moved = u128::from(current.get().saturating_sub(*bytes));
            let speed = (moved * 1000).checked_div(millis).and_then(|speed| u64::try_from(speed).ok());
            moving.progress.bytes_per_second = speed.or(moving.progress.bytes_per_second);
        }
        let news = Some((moving.progress.operation, current));
        (moving.told != news).then(|| {
            moving.told = news;
            moving.progress
        })
    }
}
