//! Times in which this machine did nothing at all, such as while its host was busy with others: what is measured meanwhile says
//! nothing of a gateway.
#![allow(clippy::disallowed_methods, reason = "it is the time of this machine that is looked at")]

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::world::PATIENCE;

/// How often it is looked whether a CPU stands still.
const LOOK: Duration = Duration::from_millis(5);
/// How long one stands still before what is measured meanwhile measures nothing: then it is made again, however it ended.
const STALL: Duration = Duration::from_millis(50);
/// So often at most; what comes then counts.
pub(crate) const AGAIN: usize = 5;

/// Looks at every CPU for as long as somebody has it.
pub(crate) struct Stalls {
    /// Ends of the times in which one of them did nothing at all.
    ends: Mutex<Vec<Instant>>,
    /// When each of them was looked at last.
    looks: Vec<Mutex<Instant>>,
}

impl Stalls {
    /// A thread for each CPU that this process may use, which stays on it: another one would not notice.
    pub(crate) fn watch() -> Arc<Self> {
        let usable = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpus: Vec<usize> = (0..CpuSet::count()).filter(|cpu| usable.is_set(*cpu).unwrap()).collect();
        let began = Instant::now();
        let looks = cpus.iter().map(|_| Mutex::new(began)).collect();
        let stalls = Arc::new(Self { ends: Mutex::default(), looks });
        for (index, cpu) in cpus.into_iter().enumerate() {
            let watching = Arc::downgrade(&stalls);
            thread::spawn(move || {
                let mut own = CpuSet::new();
                own.set(cpu).unwrap();
                sched_setaffinity(Pid::from_raw(0), &own).unwrap();
                let mut before = began;
                while let Some(stalls) = watching.upgrade() {
                    // tidy: waits for the next look
                    thread::sleep(LOOK);
                    let now = Instant::now();
                    if now.duration_since(before) >= LOOK + STALL {
                        stalls.ends.lock().unwrap().push(now);
                    }
                    *stalls.looks[index].lock().unwrap() = now;
                    before = now;
                }
            });
        }
        stalls
    }

    /// Whether one has ended since then.
    pub(crate) async fn any_since(&self, from: Instant) -> bool {
        let asked = Instant::now();
        // A CPU that has just gone on may not have been looked at yet.
        while self.looks.iter().any(|look| *look.lock().unwrap() < asked) {
            assert!(asked.elapsed() < PATIENCE, "a CPU is not looked at");
            // tidy: waits for the next look
            tokio::time::sleep(LOOK).await;
        }
        self.ends.lock().unwrap().iter().any(|end| *end >= from)
    }
}
