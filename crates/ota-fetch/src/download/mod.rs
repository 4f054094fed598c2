//! A download that survives cuts: goes on at the last durable byte, never joins two files, never writes beyond the signed
//! length, and is believed only when its digest is the signed one (`update-sources.md` section 3).

mod answer;
mod log;
#[cfg(test)]
mod order_tests;
mod pace;
mod part;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use ota_core::{ByteCount, ImageName, Sha256Digest, job::Priority, ports::FetchObserver};
use reqwest::header::RETRY_AFTER;

use crate::{
    FetchError, RetryPolicy, SpeedLimit, Staging, StallPolicy, TransferError, TransferFault, Url,
    transport::{Answer, Ask, Transport, backoff, pause, seconds},
};
use answer::{Asked, Verdict};
use pace::Pace;
use part::Part;
pub(crate) use part::Signatures;

/// Less than this in a try is no progress.
const PROGRESS: u64 = 64 * 1024;
/// How often a server may answer with another length or encoding, or break its own ranges.
const LIES: u32 = 3;

/// What downloads with.
pub(crate) struct Downloader<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) staging: &'a Staging,
    pub(crate) stall: StallPolicy,
    pub(crate) retry: RetryPolicy,
    pub(crate) speed: &'a SpeedLimit,
}

/// What to download.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) url: Url,
    pub(crate) size: u64,
    pub(crate) sha256: Sha256Digest,
    pub(crate) name: &'a ImageName,
    pub(crate) priority: Priority,
    pub(crate) signatures: Signatures,
}

/// Why a try ended before the file was whole.
enum Cut {
    /// Worth another try.
    Again(TransferError),
    /// The server contradicts itself or the signed metadata; not for long.
    Lie(FetchError, TransferError),
    /// Not worth one.
    End(FetchError),
}

impl From<FetchError> for Cut {
    fn from(error: FetchError) -> Self {
        Self::End(error)
    }
}

impl Downloader<'_> {
    /// Brings the file into staging, whole and checked.
    pub(crate) async fn fetch(
        &self,
        wanted: &Wanted<'_>,
        observer: &dyn FetchObserver,
    ) -> Result<(), FetchError> {
        let mut fresh_try_left = true;
        loop {
            let part = Part::open(self.staging, wanted.name, wanted.size, wanted.sha256).await?;
            let mut filling = Filling::new(self, wanted, observer, part);
            filling.fill().await?;
            let resumed = filling.resumed;
            match filling.part.finish(wanted.signatures.clone()).await {
                Err(FetchError::Digest { .. }) if resumed && fresh_try_left => {
                    tracing::warn!(name = %wanted.name, "a resumed download has a wrong digest; fetching it afresh");
                    fresh_try_left = false;
                }
                Ok(()) => {
                    observer.durable(ByteCount(wanted.size));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// One partial file being filled.
struct Filling<'a> {
    tools: &'a Downloader<'a>,
    wanted: &'a Wanted<'a>,
    observer: &'a dyn FetchObserver,
    part: Part,
    /// Whether bytes of more than one answer are joined.
    resumed: bool,
    /// Ranges have proved unusable with this server.
    no_ranges: bool,
    /// Most bytes that were here at once.
    furthest: u64,
    lies: u32,
    told_durable: u64,
}

impl<'a> Filling<'a> {
    fn new(
        tools: &'a Downloader<'a>,
        wanted: &'a Wanted<'a>,
        observer: &'a dyn FetchObserver,
        part: Part,
    ) -> Self {
        let have = part.have();
        observer.durable(ByteCount(have));
        observer.arrived(ByteCount(have));
        Self {
            tools,
            wanted,
            observer,
            part,
            resumed: have > 0,
            no_ranges: false,
            furthest: have,
            lies: 0,
            told_durable: have,
        }
    }

    async fn fill(&mut self) -> Result<(), FetchError> {
        let retry = self.tools.retry;
        let mut delays = backoff(retry, retry.tries);
        while self.part.have() < self.wanted.size {
            let before = self.furthest;
            let error = match self.try_once().await {
                Ok(()) => continue,
                Err(Cut::End(error)) => return Err(error),
                Err(Cut::Lie(error, cause)) => {
                    self.lies += 1;
                    if self.lies >= LIES {
                        return Err(error);
                    }
                    cause
                }
                Err(Cut::Again(error)) => error,
            };
            if self.furthest >= before + PROGRESS {
                delays = backoff(retry, retry.tries);
            }
            let Some(delay) = delays.next() else { return Err(self.given_up(error)) };
            let delay = pause(retry, delay, &error);
            tracing::info!(name = %self.wanted.name, have = self.part.have(), ?delay, %error, "trying again");
            self.wait(delay).await;
        }
        Ok(())
    }

    /// Waits while what was written goes on becoming durable.
    async fn wait(&mut self, delay: Duration) {
        tokio::time::sleep(delay).await;
        self.tell_durable();
    }

    fn given_up(&self, source: TransferError) -> FetchError {
        FetchError::GivenUp {
            tries: self.tools.retry.tries,
            have: ByteCount(self.part.have()),
            size: ByteCount(self.wanted.size),
            source,
        }
    }

    /// One question and its answer, to the end of the body.
    async fn try_once(&mut self) -> Result<(), Cut> {
        let from = if self.no_ranges { 0 } else { self.part.have() };
        let if_range = self.part.tag().map(String::from);
        let ask = Ask { url: self.wanted.url.clone(), from, if_range };
        let answer = tokio::time::timeout(self.tools.stall.window, self.tools.transport.get(ask)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(self.fault(TransferFault::TooSlow)))
            .map_err(|error| self.cut(error))?;
        let asked = Asked { from, size: self.wanted.size, tag: self.part.tag() };
        match answer::judge(answer.status, &answer.headers, asked) {
            Verdict::Append { tag } => {
                self.resumed = true;
                self.part.set_tag(tag).await?;
            }
            Verdict::StartOver { tag } => {
                if self.part.have() > 0 {
                    self.part.start_over().await?;
                    self.resumed = false;
                }
                self.part.set_tag(tag).await?;
            }
            Verdict::Drop(why) => {
                self.no_ranges = true;
                self.part.start_over().await?;
                let error = self.fault(TransferFault::BadAnswer(why));
                return Err(Cut::Lie(FetchError::Transfer(error), self.fault(TransferFault::BadAnswer(why))));
            }
            Verdict::Length(actual) => {
                let error = FetchError::Length { expected: self.wanted.size, actual: actual.to_string() };
                return Err(Cut::Lie(error, self.fault(TransferFault::BadAnswer("another length"))));
            }
            Verdict::Fault(fault) => return Err(self.refused(fault, &answer)),
        }
        self.receive(answer).await
    }

    async fn receive(&mut self, mut answer: Answer) -> Result<(), Cut> {
        let mut pace = Pace::new(self.tools.stall);
        let length = |item: &Result<Bytes, TransferError>| item.as_ref().map_or(0, Bytes::len);
        while self.part.have() < self.wanted.size {
            let item = pace.next(&mut answer.body, length).await;
            let item = item.map_err(|_| Cut::Again(self.fault(TransferFault::TooSlow)))?;
            let Some(item) = item else { return Err(Cut::Again(self.fault(TransferFault::Reset))) };
            let mut chunk = item.map_err(|error| self.cut(error))?;
            // Whatever the server goes on to send, nothing is written beyond the signed length.
            let room = self.wanted.size - self.part.have();
            chunk.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            self.tools.speed.charge(chunk.len(), self.wanted.priority).await;
            self.part.write(chunk).await?;
            self.furthest = self.furthest.max(self.part.have());
            self.observer.arrived(ByteCount(self.part.have()));
            self.tell_durable();
        }
        Ok(())
    }

    fn tell_durable(&mut self) {
        let durable = self.part.durable();
        if durable != self.told_durable {
            self.told_durable = durable;
            self.observer.durable(ByteCount(durable));
        }
    }

    fn fault(&self, fault: TransferFault) -> TransferError {
        TransferError::new(&self.wanted.url, fault)
    }

    fn cut(&self, error: TransferError) -> Cut {
        if error.may_pass() { Cut::Again(error) } else { Cut::End(FetchError::Transfer(error)) }
    }

    fn refused(&self, fault: TransferFault, answer: &Answer) -> Cut {
        let retry_after = answer.headers.get(RETRY_AFTER).and_then(seconds);
        let error = TransferError { retry_after, ..self.fault(fault) };
        match fault {
            TransferFault::BadAnswer(_) => Cut::Lie(FetchError::Transfer(error), self.fault(fault)),
            _ => self.cut(error),
        }
    }
}
