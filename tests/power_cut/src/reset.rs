//! A factory reset, by the system calls that it really makes: asked for, carried out, taken note of.
//!
//! The real engine, the real order and erasing of `ota-userdata`, the real store and a real snapshot work in a folder while
//! a child is traced; what a cut after each call leaves is turned on again: what runs before the data is mounted, then the
//! first start. Of the boot only this is modelled; neither slots nor environment take part, which is checked.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, bail, ensure};
use ota_core::{
    ByteCount, Sha256Digest, Slot, Timestamp,
    job::JobState,
    ports::{
        AuditLog as _, Clock as _, FactoryReset as _, JobJournal as _, Role, Settings as _, SlotFacts as _,
        SlotRecord, SlotState, Snapshots as _,
    },
};
use ota_engine::{Actor, Engine, EngineConfig, GatewayIdentity, Ports, SecurityFloor, UserData};
use ota_store::{Condition, SqliteStore};
use ota_testkit::{
    FakeBootControl, FakeClock, FakeGate, FakeHealth, FakeInspector, FakeProbe, FakeRebooter, FakeVerifier,
    MemSlots, MemStaging, samples,
};
use ota_userdata::{
    FactoryResetConfig, Recipients, ResetFolder, SnapshotConfig, SnapshotFolder,
    reset::{ACTION, Applied, FreshStore},
    snapshot::Roots,
};
use tokio::runtime::Runtime;

use crate::{
    calls::{self, Call},
    files::{self, Files},
    trace::{Cut, Effort, Trace, Traced},
};

/// 2xx to the request.
pub(crate) const ASKED: u64 = 1;
/// The fresh gateway answers.
const RESET: u64 = 2;
/// Who asks.
const WHO: &str = "ada";
const FLOOR: (&str, &str) = ("floor.version", "5.0.0");
const SETTING: (&str, &str) = ("bandwidth.limit", "1000000");
const PLANT: &str = "speed = 3\n";

/// What was tried and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Resets {
    /// First cuts.
    pub(crate) first: Traced,
    /// Cuts while the gateway was being turned on after the first.
    pub(crate) more: Traced,
    /// How many of the states were turned on to a reset gateway; the others had lost an order that nobody was told of.
    pub(crate) erased: u64,
    /// Most outcomes of one cut.
    pub(crate) outcomes: usize,
    /// Most outcomes of another cut in the recovery, where one was made.
    pub(crate) again: Option<usize>,
}

/// Whether the backup in a folder is there and whole.
type Backup<'a> = dyn Fn(&Path) -> anyhow::Result<()> + 'a;

/// A gateway whose data are plain folders.
pub(crate) struct Site {
    root: PathBuf,
    slot: Slot,
}

/// A gateway that has come up.
struct On {
    store: Arc<SqliteStore>,
    /// Whether it was reset.
    erased: bool,
}

/// A whole reset as it was recorded.
pub(crate) struct Recorded {
    pub(crate) slot: Slot,
    pub(crate) trace: Trace,
    gateway: Mutex<Gateway>,
    /// Runtimes that were used before and have their threads.
    idle: Mutex<Vec<Runtime>>,
}

/// The gateway that a reset was recorded on. An archive names its files from `/`: here it is put back.
struct Gateway {
    root: tempfile::TempDir,
    /// Backups that were found whole, by their bytes.
    whole: HashSet<u64>,
}

impl Site {
    pub(crate) fn new(root: &Path, slot: Slot) -> Self {
        Self { root: root.into(), slot }
    }

    fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    fn plant(&self) -> PathBuf {
        self.root.join("plant")
    }

    fn keep(&self) -> PathBuf {
        self.root.join("keep")
    }

    fn reset(&self) -> ResetFolder {
        ResetFolder::new(FactoryResetConfig {
            enabled: true,
            dir: Some(self.keep()),
            partition: None,
            label: None,
            paths: vec![self.state(), self.plant()],
            state: self.state(),
        })
    }

    /// Archives of the plant's settings; those in `keep` outlive a reset.
    fn snapshots(&self, keep: &Path) -> anyhow::Result<SnapshotFolder> {
        Ok(SnapshotFolder::new(SnapshotConfig {
            roots: Roots::new(vec![self.plant()]).map_err(anyhow::Error::msg)?,
            dir: self.state().join("snapshots"),
            outliving: Some(keep.into()),
            recipients: Recipients::default(),
            identity: None,
            keep: 3,
            max: ByteCount(1 << 20),
        }))
    }

    /// A gateway that has been at work: a job, an audit, a floor, settings of the plant, an image in staging.
    pub(crate) fn furnish(&self) -> anyhow::Result<()> {
        fs::create_dir(self.plant())?;
        fs::write(self.plant().join("line.toml"), PLANT)?;
        fs::write(self.root.join("beside"), "nothing of ours")?;
        let store = SqliteStore::open(&self.state(), now())?.store;
        fs::create_dir(self.state().join("staging"))?;
        fs::write(self.state().join("staging/image"), "an image")?;
        let mut job = samples::job(store.next_number()?, samples::release("v5.0.4", b"image"));
        job.state = JobState::Succeeded;
        store.save(&job)?;
        store.append(now(), &samples::audit_entry("updates.install"))?;
        for (name, value) in [FLOOR, SETTING] {
            store.set_value(name, Some(value))?;
        }
        store.set_slot(Slot::A, &record())?;
        Ok(())
    }

    fn open(&self) -> anyhow::Result<Arc<SqliteStore>> {
        let opened = SqliteStore::open(&self.state(), now()).context("R2: the store does not open")?;
        let usual = matches!(opened.condition, Condition::Fresh | Condition::Normal);
        ensure!(usual && opened.audit_broken_at.is_none(), "R2: the store is found {:?}", opened.condition);
        Ok(Arc::new(opened.store))
    }

    /// Somebody asks for the reset, with a backup; then the gateway restarts by itself.
    async fn ask(&self) -> anyhow::Result<()> {
        let (boot, rebooter) =
            (Arc::new(FakeBootControl::running(self.slot)), Arc::new(FakeRebooter::default()));
        let engine = Engine::start(self.ports(self.open()?, &boot, &rebooter)?, config()).await?;
        let by = Actor { name: WHO.into(), role: Some(Role::Admin), address: None, request_id: None };
        engine.factory_reset(&by, true).await?;
        calls::acknowledge(ASKED)?;
        rebooter.until_reboots(1).await;
        engine.shutdown().await;
        ensure!(boot.writes() == 0, "the boot environment is written for a reset");
        Ok(())
    }

    /// The boot after it, up to a gateway that answers.
    async fn turn_on(&self) -> anyhow::Result<On> {
        self.reset().apply(now(), &mut |_| Ok(())).context("R2: the reset is not carried out")?;
        let store = self.open()?;
        let fresh = FreshStore {
            audit: &*store,
            settings: &*store,
            facts: &*store,
            raise_numbers: &|jobs, events| store.raise_numbers(jobs, events),
        };
        self.reset().take_note(&fresh, now()).context("R2: no note is taken of the reset")?;
        let (boot, rebooter) =
            (Arc::new(FakeBootControl::running(self.slot)), Arc::new(FakeRebooter::default()));
        let ports = self.ports(Arc::clone(&store), &boot, &rebooter)?;
        let engine = Engine::start(ports, config()).await?;
        engine.status().await.context("R7: the status is not answered")?;
        engine.jobs(0, 10).await.context("R7: the jobs are not answered")?;
        engine.shutdown().await;
        ensure!(boot.writes() == 0 && rebooter.reasons().is_empty(), "the gateway restarts again");
        let first = store.records(0, 1)?.into_iter().next();
        Ok(On { store, erased: first.is_some_and(|first| first.entry.action == ACTION) })
    }

    fn ports(
        &self,
        store: Arc<SqliteStore>,
        boot: &Arc<FakeBootControl>,
        rebooter: &Arc<FakeRebooter>,
    ) -> anyhow::Result<Ports> {
        Ok(Ports {
            boot: Arc::clone(boot) as _,
            slots: Arc::new(MemSlots::new(4096)),
            images: Arc::new(MemStaging::default()),
            verifier: Arc::new(FakeVerifier::default()),
            inspector: Arc::new(FakeInspector),
            sources: Vec::new(),
            journal: Arc::clone(&store) as _,
            facts: Arc::clone(&store) as _,
            audit: Arc::clone(&store) as _,
            settings: store,
            safety: Arc::new(FakeGate::default()),
            health: Arc::new(FakeHealth::default()),
            rebooter: Arc::clone(rebooter) as _,
            probe: Arc::new(FakeProbe::default()),
            clock: Arc::new(FakeClock::default()),
            safety_changes: tokio::sync::watch::Sender::new(0).subscribe(),
            user_data: UserData {
                snapshots: Some(Arc::new(self.snapshots(&self.keep())?)),
                reset: Some(Arc::new(self.reset())),
                before_install: false,
                reboot_for_reset: true,
            },
        })
    }

    /// What must hold once the gateway is on, `acknowledged` having been said before the cut. `backup` looks into the folder of
    /// what outlives a reset.
    fn judge(&self, on: &On, acknowledged: u64, backup: &Backup<'_>) -> anyhow::Result<()> {
        let beside = fs::read_to_string(self.root.join("beside")).unwrap_or_default();
        ensure!(beside == "nothing of ours", "R2: a file that is no business of a reset is gone");
        ensure!(self.reset().marker()?.is_none(), "R2: the order is still there");
        if on.erased {
            return self.judge_reset(&on.store, backup);
        }
        ensure!(acknowledged == 0, "R2: the reset was answered with 2xx and is lost");
        let store = &on.store;
        let kept = store.value(SETTING.0)?.is_some() && store.page(0, 10)?.total == 1;
        let files = [("plant/line.toml", PLANT), ("state/staging/image", "an image")];
        let whole =
            |(name, text): &(&str, &str)| fs::read_to_string(self.root.join(name)).is_ok_and(|t| t == *text);
        ensure!(kept && files.iter().all(whole), "R2: data are gone without a reset");
        Ok(())
    }

    fn judge_reset(&self, store: &SqliteStore, backup: &Backup<'_>) -> anyhow::Result<()> {
        let records = store.records(0, 10)?;
        let noted = records.iter().filter(|record| record.entry.action == ACTION).count();
        ensure!(noted == 1 && records[0].entry.actor == WHO, "R2: the audit begins with {records:?}");
        let end = records[0].entry.reason.as_deref().unwrap_or_default();
        ensure!(end.contains("ended with record 1"), "A6: the end of the erased audit is not told: {end}");
        ensure!(store.page(0, 10)?.total == 0 && store.value(SETTING.0)?.is_none(), "data outlive the reset");
        ensure!(store.value(FLOOR.0)?.as_deref() == Some(FLOOR.1), "R5: the floor is lowered by the reset");
        ensure!(store.slot(Slot::A)?.sha256 == record().sha256, "R2: what is known of the slots is lost");
        ensure!(store.next_number()? > 1, "R2: a job number is given twice");
        ensure!(!self.state().join("staging").exists(), "staging outlives the reset");
        ensure!(fs::read_dir(self.plant())?.next().is_none(), "settings of the plant outlive the reset");
        backup(&self.keep())
    }

    /// Whether the backup in `keep`, made on this gateway, is there and whole. An archive names its files from `/`.
    fn puts_back(&self, keep: &Path) -> anyhow::Result<()> {
        let snapshots = self.snapshots(keep)?;
        let all = snapshots.list()?;
        let backup = all.first().context("R2: the backup is lost")?;
        ensure!(all.len() == 1 && backup.outlives_reset, "R2: not one backup is there: {all:?}");
        fs::create_dir_all(self.plant())?;
        snapshots.restore(&backup.id, None).context("R2: the backup does not open")?;
        ensure!(fs::read_to_string(self.plant().join("line.toml"))? == PLANT, "R2: the backup is not whole");
        fs::remove_dir_all(self.plant())?;
        Ok(())
    }

    /// Turns it on, without failures, and looks whether it is as `acknowledged` said.
    pub(crate) fn turns_on_as_told(&self, acknowledged: u64) -> anyhow::Result<()> {
        let on = runtime()?.block_on(self.turn_on())?;
        self.judge(&on, acknowledged, &|keep| self.puts_back(keep))?;
        ensure!(self.reset().pending()?.is_none(), "R2: another reset waits");
        Ok(())
    }
}

fn record() -> SlotRecord {
    let sha256 = Some(Sha256Digest::of(b"image"));
    SlotRecord { sha256, state: SlotState::Good, ..SlotRecord::default() }
}

fn now() -> Timestamp {
    FakeClock::default().wall()
}

fn config() -> EngineConfig {
    EngineConfig {
        identity: GatewayIdentity { name: "gw".into(), model: "IGW-5000".into(), serial: "SN1".into() },
        running_version: Some("v5.0.4".parse().unwrap_or_else(|_| unreachable!("a constant version"))),
        tries: 3,
        allow_unsigned: false,
        reboot_countdown: 0,
        security_floor: SecurityFloor::Fixed,
        lowest_version: None,
        verify_slot_digest: true,
        check_pause: std::time::Duration::ZERO,
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_time().build()?)
}

/// What the traced child does: asks for the reset, or turns the gateway on.
pub(crate) fn child(folder: &Path, slot: Slot, asks: bool) -> anyhow::Result<()> {
    let site = Site::new(folder, slot);
    if asks {
        return runtime()?.block_on(site.ask());
    }
    if runtime()?.block_on(site.turn_on())?.erased {
        calls::acknowledge(RESET)?;
    }
    Ok(())
}

/// Records a whole reset: asked for, the restart, the boot after it.
pub(crate) fn record_reset(slot: Slot) -> anyhow::Result<Recorded> {
    let root = files::scratch()?;
    Site::new(root.path(), slot).furnish()?;
    let files = Files::load(root.path())?;
    let mut all = traced_child(root.path(), slot, true)?;
    all.push(Call::Restart);
    all.extend(traced_child(root.path(), slot, false)?);
    let said = |number| all.iter().any(|call| matches!(call, Call::Acknowledged(n) if *n == number));
    ensure!(said(ASKED) && said(RESET), "the trace does not show a whole reset");
    let trace = Trace { calls: all, files, acknowledged: 0 };
    let gateway = Mutex::new(Gateway { root, whole: HashSet::new() });
    Ok(Recorded { slot, trace, gateway, idle: Mutex::default() })
}

fn traced_child(root: &Path, slot: Slot, asks: bool) -> anyhow::Result<Vec<Call>> {
    let what = if asks { "ask-for-reset" } else { "turn-on" };
    calls::record([what.as_ref(), root.as_os_str(), slot.as_str().as_ref()])
}

impl Recorded {
    /// Plays the reset, with a cut after each call; with `again`, some of what is left is cut once more while it is turned
    /// on, with so many outcomes at most.
    pub(crate) fn play(&self, effort: Effort, again: Option<usize>) -> anyhow::Result<Resets> {
        let (chosen, erased) = (Mutex::new(Vec::new()), AtomicU64::new(0));
        let first = self.trace.play(effort, &|cut| {
            if cut.again && again.is_some() {
                lock(&chosen).push((cut.left.clone(), cut.acknowledged));
            }
            erased.fetch_add(u64::from(self.turn_on(cut)?), Ordering::Relaxed);
            Ok(())
        })?;
        let mut more = Traced::default();
        for (left, acknowledged) in chosen.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let root = files::scratch()?;
            files::put_into(root.path(), &left)?;
            let files = Files::load(root.path())?;
            let calls = traced_child(root.path(), self.slot, false)?;
            let effort = Effort { outcomes: again.unwrap_or(effort.outcomes), ..effort };
            let recovery = Trace { calls, files, acknowledged };
            let Traced { operations, states, bad } =
                recovery.play(effort, &|cut| self.turn_on(cut).map(drop))?;
            more.operations += operations;
            more.states += states;
            more.bad.extend(bad);
        }
        Ok(Resets { first, more, erased: erased.into_inner(), outcomes: effort.outcomes, again })
    }

    /// Turns on what a cut left; whether it was reset.
    fn turn_on(&self, cut: &Cut) -> anyhow::Result<bool> {
        let root = files::scratch()?;
        files::put_into(root.path(), &cut.left)?;
        let site = Site::new(root.path(), self.slot);
        let idle = lock(&self.idle).pop();
        let runtime = idle.map_or_else(runtime, Ok)?;
        let on = runtime.block_on(site.turn_on())?;
        lock(&self.idle).push(runtime);
        site.judge(&on, cut.acknowledged, &|keep| self.puts_back(keep))?;
        ensure!(site.reset().pending()?.is_none(), "R2: another reset waits");
        match site.reset().apply(now(), &mut |_| Ok(()))? {
            Applied::Nothing => Ok(on.erased),
            other => bail!("R2: the next boot resets again: {other:?}"),
        }
    }

    /// Whether the backup in `keep` is there and whole. It is the same one after nearly every cut: the same bytes are put back
    /// once.
    fn puts_back(&self, keep: &Path) -> anyhow::Result<()> {
        let bytes = files::key(&files::read(keep)?, 0);
        let mut gateway = lock(&self.gateway);
        if !gateway.whole.contains(&bytes) {
            Site::new(gateway.root.path(), self.slot).puts_back(keep)?;
            gateway.whole.insert(bytes);
        }
        Ok(())
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
