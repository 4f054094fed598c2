//! The real engine in this process: fakes of every port, for tests that put their own in the place of some.

use std::{sync::Arc, time::Duration};

use ota_core::{
    ImageName, Slot, Timestamp, Version,
    job::{InstallOptions, Strategy},
    ports::{Clock, Verification},
    release::{Release, StagedImage},
};
use ota_engine::{DeployRequest, EngineConfig, GatewayIdentity, Ports, SecurityFloor, UserData};
use ota_testkit::{
    FakeBootControl, FakeClock, FakeGate, FakeHealth, FakeInspector, FakeProbe, FakeRebooter, FakeVerifier,
    MemJournal, MemSlots, MemStaging,
};
use ota_tests::release::MODEL;
use tokio::time::Instant;

/// A gateway on slot A, without update sources, that nothing holds back. `store`: everything that is kept.
pub(crate) fn ports(store: &Arc<MemJournal>) -> Ports {
    let slots = MemSlots::new(1 << 20);
    slots.set_booted(Some(Slot::A));
    Ports {
        boot: Arc::new(FakeBootControl::running(Slot::A)),
        slots: Arc::new(slots),
        images: Arc::new(MemStaging::default()),
        verifier: Arc::new(FakeVerifier::default()),
        inspector: Arc::new(FakeInspector),
        sources: Vec::new(),
        journal: Arc::clone(store) as _,
        facts: Arc::clone(store) as _,
        audit: Arc::clone(store) as _,
        settings: Arc::clone(store) as _,
        safety: Arc::new(FakeGate::default()),
        health: Arc::new(FakeHealth::default()),
        rebooter: Arc::new(FakeRebooter::default()),
        probe: Arc::new(FakeProbe::default()),
        clock: Arc::new(FakeClock::default()),
        // Nobody announces anything.
        safety_changes: tokio::sync::watch::Sender::new(0).subscribe(),
        user_data: UserData::default(),
    }
}

/// A gateway at v5.0.4 that takes signed images only, reboots at once, and asks its sources whenever it is asked.
pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        identity: GatewayIdentity { name: "gw".into(), model: MODEL.into(), serial: "SN1".into() },
        running_version: Some("v5.0.4".parse().unwrap()),
        tries: 3,
        allow_unsigned: false,
        reboot_countdown: 0,
        security_floor: SecurityFloor::Fixed,
        lowest_version: None,
        verify_slot_digest: true,
        check_pause: Duration::ZERO,
    }
}

/// The deployment of an image that was verified and fits; the HTTP interface makes the same of it.
pub(crate) fn deployment(
    name: ImageName,
    version: Version,
    found: Verification,
    reboot_after: bool,
) -> DeployRequest {
    let vouched = found.vouched;
    let release = Release {
        id: "upload:1".parse().unwrap(),
        version,
        description: String::new(),
        size: vouched.size,
        sha256: vouched.sha256,
        release_date: None,
        critical: false,
        requires_reboot: true,
        kind: found.facts.expect("it fits").kind,
        source: "upload".into(),
        deltas: Vec::new(),
        unpacked_size: None,
    };
    DeployRequest {
        release,
        image: StagedImage { name, size: vouched.size, sha256: vouched.sha256 },
        vouched,
        target: None,
        options: InstallOptions { strategy: Strategy::Seamless, reboot_after, rollback_on_failure: true },
    }
}

/// Tokio's clock as ours: paused with it, else that of this machine.
pub(crate) struct RunClock(Instant);

impl RunClock {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RunClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_secs(1_768_478_400) + self.0.elapsed()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(3600) + self.0.elapsed()
    }

    fn wall_is_trusted(&self) -> bool {
        true
    }
}
