//! A feed for tests of single sources: what they deliver can be waited for.

use std::{sync::Arc, time::Duration};

use ota_testkit::{FakeClock, FakeProbe};
use tokio::{sync::mpsc, task::JoinSet};

use super::{Env, Feed, Opened, SourceConfig, rounds::Rounds, start};
use crate::reading::{Fault, Sample, Value};

/// A gateway whose clock stands still, an hour after its start.
pub(super) fn env() -> Env {
    env_at(Duration::from_secs(3600))
}

/// The same that long after its start.
pub(super) fn env_at(monotonic: Duration) -> Env {
    let clock = FakeClock::default();
    clock.set_monotonic(monotonic);
    Env { clock: Arc::new(clock), system: Some(Arc::new(FakeProbe::default())) }
}

fn feed(env: &Env) -> (Feed, mpsc::UnboundedReceiver<Sample>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Feed::new(Arc::clone(&env.clock), move |sample| drop(sender.send(sample))), receiver)
}

/// The first thing that a source says, be it a value or why there is none.
pub(super) async fn one_sample(open: impl FnOnce(&Env) -> Result<Opened, String>) -> Result<Value, Fault> {
    one_sample_in(&env(), open).await
}

/// The same on another gateway.
pub(super) async fn one_sample_in(
    env: &Env,
    open: impl FnOnce(&Env) -> Result<Opened, String>,
) -> Result<Value, Fault> {
    let opened = open(env).unwrap();
    let (feed, mut samples) = feed(env);
    let source = async {
        match opened {
            Opened::Task(mut source) => source.follow(&feed).await,
            Opened::Blocking(reading) => {
                let mut rounds = Rounds::default();
                rounds.add(reading, feed);
                rounds.run().await;
                Fault::NoSample
            }
        }
    };
    tokio::select! {
        fault = source => Err(fault),
        Some(sample) = samples.recv() => sample.outcome,
    }
}

/// A source under supervision, as in the engine.
pub(super) struct Followed {
    samples: mpsc::UnboundedReceiver<Sample>,
    _running: JoinSet<()>,
}

impl Followed {
    /// From its configuration.
    pub(super) fn new(config: &str) -> Self {
        let config: SourceConfig = toml::from_str(config).unwrap();
        let env = env();
        config.check(&env).unwrap();
        let (feed, samples) = feed(&env);
        Self { samples, _running: start([(&config, feed)], &env) }
    }

    /// Waits until it says something that `wanted` takes.
    pub(super) async fn until(&mut self, what: &str, wanted: impl Fn(&Result<Value, Fault>) -> bool) {
        let mut last = None;
        let found = async {
            while let Some(sample) = self.samples.recv().await {
                if wanted(&sample.outcome) {
                    return;
                }
                last = Some(sample.outcome);
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), found).await.is_ok();
        assert!(in_time, "never said {what}, last {last:?}");
    }

    /// Waits for a value.
    pub(super) async fn until_value(&mut self, value: Value) {
        self.until(&value.to_string(), |outcome| outcome.as_ref() == Ok(&value)).await;
    }

    /// Whether it says a value before `wait` is over.
    pub(super) async fn says_a_value_within(&mut self, wait: Duration) -> bool {
        let heard = async {
            while let Some(sample) = self.samples.recv().await {
                if sample.outcome.is_ok() {
                    return;
                }
            }
        };
        tokio::time::timeout(wait, heard).await.is_ok()
    }
}
