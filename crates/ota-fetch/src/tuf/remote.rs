//! The verifier's view of the server.

use std::sync::Arc;

use sigstore_tuf::{Error, Repository, transport::FetchFuture};

use super::aliases;
use crate::{
    RetryPolicy, StallPolicy, TransferError, TransferFault, Url,
    transport::{Small, Transport, below, target_below},
};

/// Statuses that end the chain of roots: storage services answer 403 for what is not there.
const NO_MORE_ROOTS: &[u16] = &[403, 404, 410];

pub(crate) struct Remote {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) metadata_url: Url,
    pub(crate) targets_url: Url,
    pub(crate) stall: StallPolicy,
    pub(crate) retry: RetryPolicy,
}

impl Remote {
    async fn metadata(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let absent = if is_root(name) { NO_MORE_ROOTS } else { &[] };
        let bytes = self.small(&self.metadata_url, below(&self.metadata_url, name), limit, absent).await?;
        if let Some(bytes) = &bytes {
            aliases::refuse(bytes).map_err(|error| Error::transport_with_source(name, error))?;
        }
        Ok(bytes)
    }

    async fn small(
        &self,
        base: &Url,
        url: Option<Url>,
        limit: u64,
        absent: &[u16],
    ) -> Result<Option<Vec<u8>>, Error> {
        let small = Small { transport: &*self.transport, stall: self.stall, retry: self.retry };
        let outcome = match url {
            Some(url) => small.get(&url, limit, absent).await,
            None => {
                Err(TransferError::new(base, TransferFault::BadAnswer("a name that is no part of a URL")))
            }
        };
        outcome.map_err(|error| Error::transport_with_source("fetching", error))
    }
}

impl Repository for Remote {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.metadata(name, max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        let url = target_below(&self.targets_url, path);
        Box::pin(self.small(&self.targets_url, url, max_length, &[]))
    }
}

/// `<N>.root.json`. A delegated role called `1.root` is asked for as `<M>.1.root.json`.
fn is_root(name: &str) -> bool {
    name.strip_suffix(".root.json")
        .is_some_and(|version| !version.is_empty() && version.bytes().all(|c| c.is_ascii_digit()))
}
