//! Windows: when scheduled work may run (`update`), and when people are at the machine (`service`).
//!
//! Defined at the changes of summer time, by civil time in the window's own zone:
//!
//! | | `update` windows err on the short side | `service` windows err on the long side |
//! |---|---|---|
//! | the start is skipped | no window that day | opens before the change, as if the clock had been changed already |
//! | the start comes twice | opens at the first, once | opens at the first, once |
//! | the end is skipped | closes before the change, as if the clock had been changed already | closes after it, as if it had not |
//! | the end comes twice | closes at the first | closes at the second |
//!
//! One that would close no later than it opens is none that day. A window with a `duration` closes that much elapsed time after it
//! opened. With an untrusted clock no window is open.

mod config;
mod schedule;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp as Instant;
use ota_core::{
    Timestamp,
    safety::{Opening, WindowKind},
};

pub use config::WindowConfig;
pub(crate) use schedule::Window;

/// All configured windows, with the last answer of each: asked at every verdict, computed once an opening.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    windows: Vec<Cached>,
}

#[derive(Debug)]
struct Cached {
    window: Window,
    /// The openings that close after `asked`, the first ones.
    answer: Option<Answer>,
}

#[derive(Debug)]
struct Answer {
    asked: Timestamp,
    /// The one that is open or comes next, and the next one after it that is not open yet.
    first: Option<Opening>,
    second: Option<Opening>,
}

impl Windows {
    pub(crate) fn new(windows: Vec<Window>) -> Self {
        Self { windows: windows.into_iter().map(|window| Cached { window, answer: None }).collect() }
    }

    /// The opening of that kind that holds `wall`; of several the one that closes last.
    pub(crate) fn open(&mut self, kind: WindowKind, wall: Timestamp) -> Option<Opening> {
        let of_kind = self.windows.iter_mut().filter(|cached| cached.window.kind == kind);
        let open =
            of_kind.filter_map(|cached| cached.answer(wall).first.clone()).filter(|o| o.contains(wall));
        open.max_by_key(|opening| opening.closes)
    }

    /// The opening of that kind that comes next, after `wall`.
    pub(crate) fn next(&mut self, kind: WindowKind, wall: Timestamp) -> Option<Opening> {
        let of_kind = self.windows.iter_mut().filter(|cached| cached.window.kind == kind);
        let coming = of_kind.filter_map(|cached| {
            let Answer { first, second, .. } = cached.answer(wall);
            [first, second].into_iter().flatten().find(|opening| opening.opens > wall).cloned()
        });
        coming.min_by_key(|opening| opening.opens)
    }

    pub(crate) fn has(&self, kind: WindowKind) -> bool {
        self.windows.iter().any(|cached| cached.window.kind == kind)
    }

    /// The next instant at which anything opens or closes.
    pub(crate) fn next_edge(&mut self, wall: Timestamp) -> Option<Timestamp> {
        let edges = self.windows.iter_mut().filter_map(|cached| {
            let first = cached.answer(wall).first.as_ref()?;
            Some(if first.opens > wall { first.opens } else { first.closes })
        });
        edges.min()
    }

    /// The next `count` openings of all windows that close after `wall`, by the time they open.
    pub(crate) fn preview(&self, wall: Timestamp, count: usize) -> Vec<Opening> {
        let each = self.windows.iter().flat_map(|cached| cached.window.openings(wall).take(count));
        let mut openings: Vec<Opening> = each.collect();
        openings.sort_by_key(|opening| opening.opens);
        openings.truncate(count);
        openings
    }

    /// What the operator should know: days of the next two years on which a window has no run, for its start is skipped.
    pub(crate) fn warnings(&self, wall: Timestamp) -> Vec<String> {
        self.windows.iter().flat_map(|cached| cached.window.skipped(wall)).collect()
    }
}

impl Cached {
    fn answer(&mut self, wall: Timestamp) -> &Answer {
        let holds = self.answer.as_ref().is_some_and(|answer| {
            answer.asked <= wall
                && answer.first.as_ref().is_none_or(|first| wall < first.closes)
                && answer.second.as_ref().is_none_or(|second| wall < second.opens)
        });
        let window = &self.window;
        let compute = || {
            let mut openings = window.openings(wall);
            let first = openings.next();
            // Of a window that overlaps itself several may be open already.
            Answer { asked: wall, first, second: openings.find(|opening| opening.opens > wall) }
        };
        if !holds {
            self.answer = None;
        }
        self.answer.get_or_insert_with(compute)
    }
}

/// Ours to jiff's; the ends of time stay inside what jiff can tell.
fn instant(wall: Timestamp) -> Instant {
    Instant::from_millisecond(wall.as_millis()).unwrap_or(if wall.as_millis() < 0 {
        Instant::MIN
    } else {
        Instant::MAX
    })
}

fn timestamp(instant: Instant) -> Timestamp {
    Timestamp::from_millis(instant.as_millisecond())
}

/// Longest window.
pub(crate) const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
