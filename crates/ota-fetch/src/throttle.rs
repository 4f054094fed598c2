//! The download speed cap: one shared handle, adjustable while transfers run.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use ota_core::job::Priority;
use tokio::sync::Notify;

/// Runtime time, so that tests can pause it.
#[derive(Clone, Debug)]
struct TokioClock;

impl Clock for TokioClock {
    type Instant = std::time::Instant;
    fn now(&self) -> Self::Instant {
        tokio::time::Instant::now().into_std()
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<std::time::Instant>>;

#[derive(Debug, Default)]
struct Shared {
    current: Mutex<Option<Rate>>,
    changed: Notify,
}

#[derive(Clone, Debug)]
struct Rate {
    bytes_per_second: u64,
    burst: NonZeroU32,
    limiter: Arc<Limiter>,
}

/// A cap on the speed of downloads. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SpeedLimit {
    shared: Arc<Shared>,
}

impl SpeedLimit {
    /// With this many bytes a second; `None` for no limit.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        let limit = Self::default();
        limit.set(bytes_per_second);
        limit
    }

    /// Changes the cap, also of transfers that are under way. At least 1024 bytes a second.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        *self.lock() = bytes_per_second.map(Rate::of);
        self.shared.changed.notify_waiters();
    }

    /// The present cap in bytes a second.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.lock().as_ref().map(|rate| rate.bytes_per_second)
    }

    /// Waits until `bytes` more may have arrived for a transfer of this priority.
    pub(crate) async fn charge(&self, bytes: usize, priority: Priority) {
        // A lower share pays more for each byte.
        let mut owed = (bytes as u64).saturating_mul(100) / share(priority);
        while owed > 0 {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let Some(rate) = self.lock().clone() else { return };
            let piece = rate
                .burst
                .min(NonZeroU32::new(u32::try_from(owed).unwrap_or(u32::MAX)).unwrap_or(rate.burst));
            match rate.limiter.check_n(piece) {
                Ok(Ok(())) => owed -= u64::from(piece.get()),
                Ok(Err(until)) => {
                    let wait = until.wait_time_from(TokioClock.now());
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = changed => {}
                    }
                }
                // Cannot be: a piece never exceeds the burst.
                Err(_) => return,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Rate>> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rate {
    fn of(bytes_per_second: u64) -> Self {
        let rate = u32::try_from(bytes_per_second.max(1024)).unwrap_or(u32::MAX);
        let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MAX);
        // A quarter of a second at once: smooth enough for a link, coarse enough for the timer.
        let burst = NonZeroU32::new((rate.get() / 4).clamp(1024, 4 << 20)).unwrap_or(rate);
        let quota = Quota::per_second(rate).allow_burst(burst);
        let limiter = Arc::new(RateLimiter::direct_with_clock(quota, TokioClock));
        Self { bytes_per_second: u64::from(rate.get()), burst, limiter }
    }
}

/// Percent of the cap. There is one download at a time: only one that may take its time leaves something to others.
const fn share(priority: Priority) -> u64 {
    match priority {
        Priority::Low => 25,
        Priority::Normal | Priority::High | Priority::Critical => 100,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_transfer_keeps_to_its_share_of_the_cap() {
        for (priority, seconds) in
            [(Priority::Critical, 10.0), (Priority::Normal, 10.0), (Priority::Low, 40.0)]
        {
            let limit = SpeedLimit::new(Some(1_000_000));
            let start = Instant::now();
            for _ in 0..100 {
                limit.charge(100_000, priority).await;
            }
            let took = start.elapsed().as_secs_f64();
            assert!((took - seconds).abs() < 0.5, "{priority:?}: {took}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lifting_the_cap_frees_a_waiting_transfer_at_once() {
        let limit = SpeedLimit::new(Some(1024));
        let start = Instant::now();
        let waiting = tokio::spawn({
            let limit = limit.clone();
            async move { limit.charge(10_000_000, Priority::Critical).await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        limit.set(None);
        waiting.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 2);
        assert_eq!(limit.get(), None);
    }
}
