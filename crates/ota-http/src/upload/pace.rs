//! How slowly an upload may arrive.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use crate::status::Transport;

/// Counts the time that is spent waiting for the client, in windows; one that brings too little ends the upload. Time
/// that the disk takes is not the client's.
pub(crate) struct Pace {
    window: Duration,
    /// Bytes that each window must bring.
    least: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// At least `bytes_per_second` over each `window`.
    pub(crate) fn new(bytes_per_second: u64, window: Duration) -> Self {
        let least = bytes_per_second.saturating_mul(window.as_secs());
        Self { window, least, waited: Duration::ZERO, bytes: 0 }
    }

    /// Waits for what the client sends next.
    ///
    /// # Errors
    /// `RequestTimeout` at the end of a window that brought too little.
    pub(crate) async fn wait<T>(&mut self, arrival: impl Future<Output = T>) -> Result<T, Transport> {
        tokio::pin!(arrival);
        loop {
            let since = Instant::now();
            match timeout(self.window.saturating_sub(self.waited), arrival.as_mut()).await {
                Ok(arrived) => {
                    self.waited += since.elapsed();
                    return Ok(arrived);
                }
                Err(_) if self.bytes < self.least => return Err(Transport::RequestTimeout),
                Err(_) => (self.waited, self.bytes) = (Duration::ZERO, 0),
            }
        }
    }

    /// So many bytes have come.
    pub(crate) fn arrived(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    fn default_pace() -> Pace {
        let limits = crate::Limits::default();
        Pace::new(limits.upload_bytes_per_second, limits.upload_window)
    }

    /// How long a client is put up with that sends `bytes` every `pause`; an hour at most.
    async fn put_up_with(bytes: usize, pause: Duration) -> u64 {
        let mut pace = default_pace();
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(3600) {
            // tidy: paused time
            if pace.wait(sleep(pause)).await.is_err() {
                break;
            }
            pace.arrived(bytes);
        }
        since.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_and_slow_clients_are_given_up_after_a_window_and_steady_ones_are_not() {
        assert_eq!(put_up_with(0, Duration::from_secs(7200)).await, 30);
        assert_eq!(put_up_with(10_000, Duration::from_secs(1)).await, 30);
        assert_eq!(put_up_with(63 * 1024, Duration::from_secs(1)).await, 30);
        assert!(put_up_with(64 * 1024, Duration::from_secs(1)).await >= 3600);
        assert!(put_up_with(2_000_000, Duration::from_secs(25)).await >= 3600);
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_the_disk_takes_is_not_held_against_the_client() {
        let mut pace = default_pace();
        for _ in 0..10 {
            pace.wait(std::future::ready(())).await.unwrap();
            pace.arrived(10);
            // tidy: paused time
            sleep(Duration::from_secs(60)).await;
        }
    }
}
