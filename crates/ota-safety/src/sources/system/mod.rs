//! The gateway itself as a sensor; what is measured through [`SystemProbe`] is the daemon's own figures.
//!
//! [`SystemProbe`]: ota_core::ports::SystemProbe

mod clock;
mod disk;
mod load;
mod memory;

use std::{sync::Arc, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use ota_core::safety::Resources;
use serde::{Deserialize, Serialize};

use super::{Env, Opened, check_period, rounds::Reading, second};
use crate::reading::{Fault, Value};

/// What of the gateway itself is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// One-minute load average divided by the number of processors.
    Load,
    /// Available memory in bytes.
    MemoryFree,
    /// Free bytes where images are staged.
    DiskFree,
    /// Whether the wall clock has been set from a trusted source: `true` or `false`.
    ClockTrusted,
}

/// A figure of the gateway and how often it is taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemConfig {
    /// Which one.
    pub figure: Figure,
    /// Pause between two readings, default 1 s.
    #[serde(with = "duration", default = "second")]
    pub every: Duration,
}

/// Longest time for one reading of the kernel's files.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

impl SystemConfig {
    pub(super) fn source(&self, env: &Env) -> Result<Opened, String> {
        check_period(self.every, TIMEOUT)?;
        let of: fn(&Resources) -> Value = match self.figure {
            Figure::ClockTrusted => {
                let clock = Arc::clone(&env.clock);
                let read = move || Ok(clock::trust(&*clock).into());
                return Ok(Opened::Blocking(Reading::new(self.every, TIMEOUT, read)));
            }
            Figure::Load => load::of,
            Figure::MemoryFree => memory::free,
            Figure::DiskFree => disk::free,
        };
        let system = env.system.clone().ok_or("the gateway's own figures are not available here")?;
        let read = move || {
            let resources = system.resources().map_err(|error| Fault::Unreadable(error.chain()))?;
            Ok(of(&resources).into())
        };
        Ok(Opened::Blocking(Reading::new(self.every, TIMEOUT, read)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a byte more or less in petabytes decides nothing")]
const fn bytes(count: ota_core::ByteCount) -> Value {
    Value::Number(count.get() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::test_feed::{env, one_sample};

    #[tokio::test]
    async fn the_gateways_own_figures_are_values() {
        let take = async |figure| {
            let config = SystemConfig { figure, every: second() };
            one_sample(|env| config.source(env)).await
        };
        assert_eq!(take(Figure::ClockTrusted).await, Ok(Value::Bool(true)));
        assert!(matches!(take(Figure::DiskFree).await, Ok(Value::Number(free)) if free >= 0.0));
        assert!(matches!(take(Figure::Load).await, Ok(Value::Number(_))));
    }

    #[test]
    fn without_a_probe_the_figures_are_refused_at_once() {
        let without = Env { system: None, ..env() };
        assert!(SystemConfig { figure: Figure::Load, every: second() }.source(&without).is_err());
    }
}
