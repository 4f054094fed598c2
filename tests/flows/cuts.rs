//! Kill -9 and power cuts at random instants of a whole update, on an ext4 of its own.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, path::Path, sync::Mutex, time::Duration};

use ota_api::{jobs::JobInfo, words::JobStatus};
use ota_core::Slot;
use tokio::time::{Instant, sleep};

use crate::{
    partition::Partition,
    world::{Offer, PATIENCE, TestDevice, device_in, folder},
};

/// In CI; ten times as many with `cargo xtask test --long`. Source: issue 6.
const ROUNDS: u64 = 200;
/// MiB of the file system; a device takes about 100.
const FILE_SYSTEM: u64 = 1024;
/// Devices that are cut at the same time.
const AT_ONCE: u64 = 3;
/// Every other round the server is so slow that most cuts hit the download; in the others they hit what comes after.
const SLOW: u32 = 40_000_000;
/// Bytes that may be fetched twice for each cut.
const TWICE: u64 = 8 << 20;

/// When and how a round is cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    after: Duration,
    power: bool,
}

fn cuts(round: u64, whole: Duration) -> Vec<Cut> {
    let mut random = fastrand::Rng::with_seed(round);
    let micros = u64::try_from(whole.as_micros()).unwrap();
    let count = 1 + u64::from(random.u8(..3) == 0);
    let mut one = || Cut { after: Duration::from_micros(random.u64(..micros)), power: random.u8(..3) == 0 };
    (0..count).map(|_| one()).collect()
}

/// Where the job stood when it was last seen.
#[derive(Default)]
struct Seen(Mutex<String>);

impl Seen {
    fn note(&self, job: Option<&JobInfo>) {
        let text = job.map_or_else(
            || "no job".to_owned(),
            |job| format!("{:<11} {}", job.status.as_str(), job.current_operation),
        );
        *self.0.lock().unwrap() = text;
    }

    fn last(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// Does what an operator would: asks for what is missing until the job has ended, whatever happens to the daemon.
async fn drive(device: &TestDevice, seen: &Seen) -> JobInfo {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(newest) = device.newest().await {
            seen.note(newest.as_ref());
            match newest {
                Some(job) if job.ended => return job,
                // Refused while the daemon finds out that the crane stands still, lost when it is cut.
                Some(job) if job.status == JobStatus::Downloaded => drop(device.install(&job.job_id).await),
                Some(_) => {}
                None => drop(device.start_download().await),
            }
        }
        assert!(
            Instant::now() < deadline,
            "the update does not end: {}\n{}",
            seen.last(),
            device.log_tail(40)
        );
        // tidy: waits for another process
        sleep(Duration::from_millis(5)).await;
    }
}

async fn cut(device: &TestDevice, cuts: &[Cut], seen: &Seen) -> Vec<String> {
    let mut states = Vec::new();
    for cut in cuts {
        // tidy: waits for a random instant
        sleep(cut.after).await;
        states.push(seen.last());
        if cut.power {
            device.machine.cut_power().await;
        } else {
            device.machine.kill_daemon().await;
        }
    }
    states
}

/// One update with cuts; the states that were hit, and how the job ended.
async fn round(on: &Path, number: u64, speed: Option<u32>, whole: Duration) -> (Vec<String>, JobStatus) {
    let device = device_in(on, Offer::Good).await;
    device.server.slow_down(speed);
    let (seen, cuts) = (Seen::default(), cuts(number, whole));
    let (job, states) = tokio::join!(drive(&device, &seen), cut(&device, &cuts, &seen));
    let told = format!("round {number} {cuts:?} {states:?}");
    device.ready().await.unwrap();
    let jobs = device.client.jobs(&ota_api::jobs::JobsQuery::default()).await.unwrap();
    assert_eq!(jobs.total, 1, "{told}: {jobs:#?}");
    if job.status == JobStatus::Succeeded {
        device.check_rests_on(Slot::B).await;
        assert!(device.holds_the_image(Slot::B), "{told}");
    } else {
        println!("{told}: {:?} {:?}", job.status, job.failure);
        device.check_rests_on(Slot::A).await;
    }
    let (sent, size) = (device.server.sent("rootfs.squashfs"), device.release.size());
    let allowed = size + TWICE * cuts.len() as u64 + (64 << 10);
    assert!(sent <= allowed, "{told}: {sent} bytes of {size} sent, {:?}", device.server.starts("squashfs"));
    // Or its daemon keeps the file system busy.
    device.machine.power_off().await;
    (states, job.status)
}

/// How long an update takes that nobody disturbs.
async fn undisturbed(on: &Path, speed: Option<u32>) -> Duration {
    let device = device_in(on, Offer::Good).await;
    device.server.slow_down(speed);
    let started = Instant::now();
    assert_eq!(drive(&device, &Seen::default()).await.status, JobStatus::Succeeded);
    let took = started.elapsed();
    device.machine.power_off().await;
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_at_any_instant_ends_on_a_whole_slot_and_knows_its_job() {
    let rounds = if std::env::var_os("OTA_LONG").is_some() { 10 * ROUNDS } else { ROUNDS };
    let on = folder("cuts");
    let partition = Partition::make(&folder("devices").join("cuts.ext4"), FILE_SYSTEM, on.clone());
    partition.mount();
    let on = on.as_path();
    let speeds = [Some(SLOW), None];
    let wholes = [undisturbed(on, speeds[0]).await, undisturbed(on, speeds[1]).await];
    let workers = (0..AT_ONCE).map(|first| async move {
        let mut told = Vec::new();
        for number in (first..rounds).step_by(usize::try_from(AT_ONCE).unwrap()) {
            let kind = usize::from(number % 2 == 1);
            told.push(round(on, number, speeds[kind], wholes[kind]).await);
        }
        told
    });
    let (mut hit, mut ends) = (BTreeMap::<String, u32>::new(), BTreeMap::<&str, u32>::new());
    for (states, end) in futures_util::future::join_all(workers).await.into_iter().flatten() {
        states.into_iter().for_each(|state| *hit.entry(state).or_default() += 1);
        *ends.entry(end.as_str()).or_default() += 1;
    }
    let mut told = format!(
        "kill harness: {rounds} rounds on ext4, an undisturbed update takes {wholes:?}; killed in these states:\n"
    );
    for (state, times) in &hit {
        writeln!(told, "{times:4}  {state}").unwrap();
    }
    // Past the capture of the test's output: this is evidence.
    let _ = writeln!(std::io::stderr().lock(), "{told}and ended: {ends:?}");
    partition.unmount();
    partition.check();
}
