//! Files that fit in memory: metadata, the manifest, signatures. Bounded in size, time and tries.

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::StreamExt as _;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, RETRY_AFTER};

use super::{Answer, Ask, TransferError, TransferFault, Transport, Url};
use crate::{RetryPolicy, StallPolicy};

/// Fetches small files.
pub(crate) struct Small<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) stall: StallPolicy,
    pub(crate) retry: RetryPolicy,
}

impl Small<'_> {
    /// The file, at most `limit` bytes; `None` when the server says that it is not there and `absent` has that status.
    pub(crate) async fn get(
        &self,
        url: &Url,
        limit: u64,
        absent: &[u16],
    ) -> Result<Option<Vec<u8>>, TransferError> {
        let mut delays = backoff(self.retry, self.retry.metadata_tries);
        loop {
            let try_once = tokio::time::timeout(self.stall.metadata, self.once(url, limit, absent)).await;
            let error = match try_once {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) if !error.may_pass() => return Err(error),
                Ok(Err(error)) => error,
                // A server that drips once will drip again; a try costs the whole time-out.
                Err(_) => return Err(TransferError::new(url, TransferFault::TooSlow)),
            };
            match delays.next() {
                Some(delay) => tokio::time::sleep(pause(self.retry, delay, &error)).await,
                None => return Err(error),
            }
        }
    }

    async fn once(&self, url: &Url, limit: u64, absent: &[u16]) -> Result<Option<Vec<u8>>, TransferError> {
        let answer = self.transport.get(Ask::whole(url.clone())).await?;
        let status = answer.status.as_u16();
        if absent.contains(&status) {
            return Ok(None);
        }
        if status != 200 {
            let retry_after = answer.headers.get(RETRY_AFTER).and_then(seconds);
            return Err(TransferError {
                retry_after,
                ..TransferError::new(url, TransferFault::Status(status))
            });
        }
        whole(url, answer, limit).await.map(Some)
    }
}

async fn whole(url: &Url, mut answer: Answer, limit: u64) -> Result<Vec<u8>, TransferError> {
    let too_large = || TransferError::new(url, TransferFault::TooLarge(limit));
    if answer.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(TransferError::new(url, TransferFault::BadAnswer("content is encoded")));
    }
    let announced = answer.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.body.next().await {
        let chunk = chunk?;
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Delays between tries.
pub(crate) fn backoff(policy: RetryPolicy, tries: usize) -> impl Iterator<Item = std::time::Duration> {
    ExponentialBuilder::default()
        .with_min_delay(policy.min_delay)
        .with_max_delay(policy.max_delay)
        .with_max_times(tries.saturating_sub(1))
        .with_jitter()
        .build()
}

/// The delay before the next try: our own, or what the server asked for, which may not hold us for ever.
pub(crate) fn pause(
    policy: RetryPolicy,
    delay: std::time::Duration,
    error: &TransferError,
) -> std::time::Duration {
    error.retry_after.map_or(delay, |asked| asked.min(policy.max_delay).max(delay))
}

/// `Retry-After` in seconds; the form with a date is left to our own delay.
pub(crate) fn seconds(value: &reqwest::header::HeaderValue) -> Option<std::time::Duration> {
    value.to_str().ok()?.trim().parse().ok().map(std::time::Duration::from_secs)
}
