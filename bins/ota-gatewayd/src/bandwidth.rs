//! The download speed cap as an operator sets it: applied to running downloads at once, kept over a restart.

use std::sync::{Arc, Mutex, PoisonError};

use ota_core::{
    error::PortError,
    ports::{Bandwidth, Settings},
};
use ota_fetch::SpeedLimit;

/// Where an operator's choice is kept: bytes a second, or `none` for no limit.
const CHOICE: &str = "bandwidth.bytes_per_second";
const NO_LIMIT: &str = "none";

/// The cap of all sources, and where a choice is kept.
pub(crate) struct StoredBandwidth {
    speed: SpeedLimit,
    settings: Arc<dyn Settings>,
    /// One change at a time, so that what is kept is what applies.
    turn: Mutex<()>,
}

impl StoredBandwidth {
    /// Takes up an earlier choice; without one the configuration's cap stays. Blocking.
    pub(crate) fn open(speed: SpeedLimit, settings: Arc<dyn Settings>) -> Self {
        match settings.value(CHOICE) {
            Ok(Some(choice)) if choice == NO_LIMIT => speed.set(None),
            Ok(Some(choice)) => match choice.parse() {
                Ok(limit) => speed.set(Some(limit)),
                Err(_) => {
                    tracing::warn!(choice, "the kept speed limit is no number; the configuration's is used")
                }
            },
            Ok(None) => {}
            Err(error) => tracing::warn!(error = error.chain(), "the kept speed limit could not be read"),
        }
        Self { speed, settings, turn: Mutex::default() }
    }
}

impl Bandwidth for StoredBandwidth {
    fn limit(&self) -> Option<u64> {
        self.speed.get()
    }

    fn set_limit(&self, bytes_per_second: Option<u64>) -> Result<(), PortError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let choice = bytes_per_second.map_or_else(|| NO_LIMIT.to_owned(), |limit| limit.to_string());
        self.settings.set_value(CHOICE, Some(&choice))?;
        self.speed.set(bytes_per_second);
        tracing::info!(limit = choice, "download speed limit");
        Ok(())
    }
}
