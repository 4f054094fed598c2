//! The time of the newest good check: an update source whose good checks move the floor beneath the clock by which keys are judged.
//!
//! `ota-fetch` keeps a floor for the metadata of each source; a factory reset takes it away. This one is among what a reset
//! carries over, and one for the whole device.

use std::{path::PathBuf, sync::Arc};

use ota_core::{
    Version,
    error::PortError,
    ports::{BoxFuture, FetchObserver, FetchOrder, Settings, UpdateSource},
    release::{Release, StagedImage},
};

use crate::wire;

/// A source that notes the time of every good check.
pub(crate) struct Floored {
    /// The source.
    pub(crate) source: Arc<dyn UpdateSource>,
    /// Where it keeps its trusted metadata.
    pub(crate) store: PathBuf,
    /// Where the floor of the device is kept.
    pub(crate) settings: Arc<dyn Settings>,
}

impl Floored {
    /// The check was good in any case; a floor that is not raised now is raised by the next one.
    async fn note(&self) {
        let (store, settings) = (self.store.clone(), Arc::clone(&self.settings));
        let noted = tokio::task::spawn_blocking(move || match ota_fetch::time_floor(&store) {
            Some(seen) => wire::raise_clock_floor(&*settings, seen),
            None => Ok(()),
        });
        let outcome = noted.await.map_err(anyhow::Error::from).and_then(|outcome| outcome);
        if let Err(error) = outcome {
            tracing::warn!(error = format!("{error:#}"), "the time of this check is not kept");
        }
    }
}

impl UpdateSource for Floored {
    fn check<'a>(&'a self, running: &'a Version) -> BoxFuture<'a, Result<Vec<Release>, PortError>> {
        Box::pin(async {
            let releases = self.source.check(running).await?;
            self.note().await;
            Ok(releases)
        })
    }

    fn fetch<'a>(
        &'a self,
        order: &'a FetchOrder,
        observer: &'a dyn FetchObserver,
    ) -> BoxFuture<'a, Result<StagedImage, PortError>> {
        self.source.fetch(order, observer)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ota_core::{OtaError, Timestamp};

    use super::*;

    /// Offers nothing, and is away where there is no metadata.
    struct Source(PathBuf);

    impl UpdateSource for Source {
        fn check<'a>(&'a self, _: &'a Version) -> BoxFuture<'a, Result<Vec<Release>, PortError>> {
            let there = self.0.join("timestamp.json").exists();
            Box::pin(async move {
                if there { Ok(Vec::new()) } else { Err(OtaError::Network { what: "away".into() }.into()) }
            })
        }

        fn fetch<'a>(
            &'a self,
            _: &'a FetchOrder,
            _: &'a dyn FetchObserver,
        ) -> BoxFuture<'a, Result<StagedImage, PortError>> {
            Box::pin(async { Err(OtaError::Network { what: "nothing is offered".into() }.into()) })
        }
    }

    #[tokio::test]
    async fn a_good_check_raises_the_floor_by_which_keys_are_judged_and_never_lowers_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("sources/main");
        fs::create_dir_all(&store).unwrap();
        let settings: Arc<dyn Settings> =
            Arc::new(ota_store::SqliteStore::open(dir.path(), Timestamp::from_secs(0)).unwrap().store);
        let source = Arc::new(Source(store.clone()));
        let floored = Floored { source, store: store.clone(), settings: Arc::clone(&settings) };
        let running = "1.0.0".parse().unwrap();
        let floor = || wire::stored_floor(&*settings);

        fs::write(store.join("time_floor"), "1741617000000").unwrap();
        assert!(floored.check(&running).await.is_err());
        assert_eq!(floor(), None, "what was not verified says nothing about the time");
        fs::write(store.join("timestamp.json"), "").unwrap();
        for (seen, expected) in [("1741617000000", 1_741_617_000), ("1741616000000", 1_741_617_000)] {
            fs::write(store.join("time_floor"), seen).unwrap();
            assert!(floored.check(&running).await.unwrap().is_empty());
            assert_eq!(floor(), Some(Timestamp::from_secs(expected)));
        }
    }
}
