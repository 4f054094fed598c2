//! What must not outlive a restart: the safety override.
//!
//! The PIN's half of the same promise (a try is counted before it is compared) is tested where it lives, in
//! `crates/ota-http/src/pin.rs`, with its own wrong order.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use ota_core::{
    ports::{SafetyGate as _, Settings as _},
    safety::SafetyStep,
};
use ota_safety::{SafetyConfig, SafetyEngine};
use ota_testkit::{FakeClock, MemJournal};

/// A source that never answers counts as violated.
const CONFIG: &str = r#"
    [[sources]]
    name = "crane"
    file = { path = "/nowhere/crane" }
    [[constraints]]
    name = "crane_motion"
    source = "crane"
    condition = { equals = "stopped" }
"#;
/// Where the mistaken daemon keeps its override.
const KEPT: &str = "override.reason";

/// What is broken when the power is cut while an override is on. `kept`: the mistake that it is written down.
pub(crate) fn override_after_a_cut(kept: bool) -> anyhow::Result<Option<String>> {
    let records = MemJournal::default();
    let daemon = || -> anyhow::Result<Arc<SafetyEngine>> {
        let config: SafetyConfig = toml::from_str(CONFIG)?;
        let engine = SafetyEngine::new(config, Arc::new(FakeClock::default()))?;
        if let Some(reason) = records.value(KEPT)?.filter(|_| kept) {
            engine.enable_override(&reason, Duration::from_secs(600))?;
        }
        Ok(engine)
    };
    let before = daemon()?;
    anyhow::ensure!(!before.judge(SafetyStep::Reboot).allowed(), "a silent sensor lets a reboot through");
    before.enable_override("crane is locked", Duration::from_secs(600)).context("enabling an override")?;
    anyhow::ensure!(before.judge(SafetyStep::Reboot).allowed(), "the override does nothing");
    if kept {
        records.set_value(KEPT, Some("crane is locked"))?;
    }
    drop(before);
    let after = daemon()?;
    let still = after.judge(SafetyStep::Reboot).allowed();
    Ok(still.then(|| "F3: the override is still on after the cut".to_owned()))
}
