//! Links ota-core with core and alloc only, and makes it work: parses a version, takes a digest, walks a job.
//!
//! Everything that std would bring is here by hand, so a dependency that brings std back collides with it when linking.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use core::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    panic::PanicInfo,
    sync::atomic::{AtomicUsize, Ordering},
};

use ota_core::{
    ByteCount, JobId, Sha256Digest, Slot, Timestamp,
    job::{Counters, Input, Job, JobKind, JobState, Priority, step},
    release::{ImageKind, Release},
};

#[link(name = "c")]
unsafe extern "C" {
    fn _exit(status: i32) -> !;
}

/// The C runtime's entry. 0 when the core did what it should.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    i32::from(!(versions_compare() && a_job_starts()))
}

fn versions_compare() -> bool {
    let version = |text: &str| text.parse::<ota_core::Version>().ok();
    version("v5.0.5") > version("5.0.4") && version("no version").is_none()
}

fn a_job_starts() -> bool {
    let Some(job) = job() else { return false };
    let Ok(started) = step(&job, Input::Start, Timestamp::from_secs(1)) else { return false };
    matches!(started.job.state, JobState::Downloading { have: ByteCount::ZERO, .. })
        && !started.effects.is_empty()
}

fn job() -> Option<Job> {
    let release = Release {
        unpacked_size: None,
        id: "UPD-1".parse().ok()?,
        version: "v5.0.5".parse().ok()?,
        description: String::new(),
        size: ByteCount(4),
        sha256: Sha256Digest::of(b"boot"),
        release_date: None,
        critical: false,
        requires_reboot: true,
        kind: ImageKind::Squashfs,
        source: String::from("probe"),
        deltas: alloc::vec![],
    };
    Some(Job {
        id: JobId::from_number(1),
        deployment: None,
        kind: JobKind::Update,
        release,
        source: Slot::A,
        target: Slot::B,
        priority: Priority::Normal,
        verify_signature: true,
        image: None,
        vouched: None,
        install: None,
        state: JobState::Queued,
        confirmed_by_hand: false,
        by_itself: false,
        request_id: None,
        counters: Counters::default(),
        boot_id: String::new(),
        created: Timestamp::from_secs(0),
        install_started: None,
        updated: Timestamp::from_secs(0),
    })
}

/// Hands out pieces of one fixed block and takes nothing back.
struct Bump {
    block: UnsafeCell<[u8; Self::SIZE]>,
    used: AtomicUsize,
}

impl Bump {
    const SIZE: usize = 256 * 1024;
}

// SAFETY: the block is reached through `alloc` only, which gives every byte out once.
unsafe impl Sync for Bump {}

// SAFETY: the pieces are disjoint, aligned as asked and inside the block; null when it is used up.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.block.get().cast::<u8>();
        let taken = self.used.fetch_add(layout.size() + layout.align(), Ordering::Relaxed);
        let aligned = (start as usize + taken).next_multiple_of(layout.align()) - start as usize;
        if aligned + layout.size() > Self::SIZE {
            return core::ptr::null_mut();
        }
        start.wrapping_add(aligned)
    }

    unsafe fn dealloc(&self, _piece: *mut u8, _layout: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump { block: UnsafeCell::new([0; Bump::SIZE]), used: AtomicUsize::new(0) };

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    // SAFETY: ends the process, returns never.
    unsafe { _exit(101) }
}

/// The shipped liballoc names it; with `panic = "abort"` nobody calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}
