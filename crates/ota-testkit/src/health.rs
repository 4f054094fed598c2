//! Health checks that answer as they are told.

use ota_core::ports::{BoxFuture, HealthChecks};

use crate::watch::Watch;

/// Healthy until it is told otherwise.
#[derive(Debug, Default)]
pub struct FakeHealth {
    state: Watch<State>,
}

#[derive(Debug, Default)]
struct State {
    failure: Option<String>,
    held: bool,
    runs: u32,
}

impl FakeHealth {
    /// Every run fails with this sentence from now on.
    pub fn fail(&self, sentence: &str) {
        self.state.update(|state| state.failure = Some(sentence.into()));
    }

    /// Every run passes from now on.
    pub fn pass(&self) {
        self.state.update(|state| state.failure = None);
    }

    /// Runs wait (`true`) until they are let go on (`false`).
    pub fn hold(&self, held: bool) {
        self.state.update(|state| state.held = held);
    }

    /// How many runs were started.
    pub fn runs(&self) -> u32 {
        self.state.with(|state| state.runs)
    }

    /// Waits until `n` runs have been started.
    pub async fn until_runs(&self, n: u32) {
        self.state.until(|state| (state.runs >= n).then_some(())).await;
    }
}

impl HealthChecks for FakeHealth {
    fn run(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            self.state.update(|state| state.runs += 1);
            self.state.until(|state| (!state.held).then(|| state.failure.clone().map_or(Ok(()), Err))).await
        })
    }
}
