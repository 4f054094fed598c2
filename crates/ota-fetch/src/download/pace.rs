//! Whether a transfer is still worth waiting for: bytes over time spent waiting for the server, and for nothing else.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, timeout};

use crate::StallPolicy;

/// Measures one answer.
#[derive(Debug)]
pub(crate) struct Pace {
    policy: StallPolicy,
    waited: Duration,
    bytes: u64,
}

/// Too little arrived in the window.
#[derive(Debug)]
pub(crate) struct TooSlow;

impl Pace {
    pub(crate) const fn new(policy: StallPolicy) -> Self {
        Self { policy, waited: Duration::ZERO, bytes: 0 }
    }

    /// The next item of the body.
    pub(crate) async fn next<S: Stream + Unpin>(
        &mut self,
        body: &mut S,
        length: impl Fn(&S::Item) -> usize,
    ) -> Result<Option<S::Item>, TooSlow> {
        loop {
            let start = Instant::now();
            let outcome = timeout(self.policy.window.saturating_sub(self.waited), body.next()).await;
            self.waited += start.elapsed();
            if let Ok(item) = &outcome {
                self.bytes += item.as_ref().map_or(0, &length) as u64;
            }
            if self.waited >= self.policy.window {
                self.judge()?;
            }
            if let Ok(item) = outcome {
                return Ok(item);
            }
        }
    }

    fn judge(&mut self) -> Result<(), TooSlow> {
        let least = self.policy.window.as_secs_f64() * self.policy.min_speed as f64;
        if (self.bytes as f64) < least {
            return Err(TooSlow);
        }
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    /// How long a server that sends `chunk` bytes every `every` is listened to, for at most `chunks` of them.
    async fn listened(chunk: usize, every: Duration, chunks: usize) -> (Duration, bool) {
        let mut body = Box::pin(stream::unfold(chunks, |left| async move {
            if left == 0 {
                return None;
            }
            tokio::time::sleep(every).await;
            Some((vec![0_u8; chunk], left - 1))
        }));
        let start = Instant::now();
        let mut pace = Pace::new(StallPolicy::default());
        loop {
            match pace.next(&mut body, Vec::len).await {
                Ok(Some(_)) => {}
                Ok(None) => return (start.elapsed(), true),
                Err(TooSlow) => return (start.elapsed(), false),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_or_dripping_server_is_left_after_a_window_and_a_slow_one_is_not() {
        let minute = Duration::from_secs(60);
        assert_eq!(listened(1, Duration::from_secs(3600), 1).await, (minute, false));
        assert_eq!(listened(900, Duration::from_secs(1), 600).await, (minute, false));
        assert_eq!(listened(1100, Duration::from_secs(1), 600).await, (10 * minute, true));
        assert_eq!(listened(60_000, Duration::from_secs(59), 10).await, (Duration::from_secs(590), true));
    }
}
