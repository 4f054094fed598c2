//! From civil times to instants: which openings a window has, whatever the clock does with summer time.

use std::time::Duration;

use jiff::{
    SignedDuration, ToSpan, Zoned,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};
use ota_core::Timestamp;

use super::{LONGEST, Opening, WindowKind, instant, timestamp};

/// How far ahead is looked.
const HORIZON: SignedDuration = SignedDuration::from_hours(2 * 366 * 24);

/// A window, checked.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) name: String,
    pub(crate) kind: WindowKind,
    pub(super) zone: TimeZone,
    /// Civil times at which it opens, written as if they were UTC.
    pub(super) cron: cronexpr::Crontab,
    pub(super) close: Close,
    pub(super) except: Vec<Exception>,
}

/// When it closes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Close {
    /// That much elapsed time after it opened.
    After(Duration),
    /// At a civil time of the same or the next day.
    At { end: Time, next_day: bool },
}

/// Days without the window.
#[derive(Clone, Debug)]
pub(super) enum Exception {
    /// From the first to the second, both included.
    Range(Date, Date),
    /// That day of every year.
    EveryYear { month: i8, day: i8 },
}

impl Exception {
    fn covers(&self, date: Date) -> bool {
        match self {
            Self::Range(from, to) => (*from..=*to).contains(&date),
            Self::EveryYear { month, day } => (date.month(), date.day()) == (*month, *day),
        }
    }
}

impl Window {
    /// The openings that close after `wall`, in the order of their start, for two years.
    pub(super) fn openings(&self, wall: Timestamp) -> impl Iterator<Item = Opening> {
        let from = instant(wall).to_zoned(self.zone.clone()).datetime();
        // The longest window, a day for an end on the next day, and the largest change of a clock.
        let back = SignedDuration::try_from(LONGEST).unwrap_or_default() + SignedDuration::from_hours(48);
        let start = from.saturating_sub(back);
        self.starts(start, from.saturating_add(HORIZON))
            .filter_map(|start| self.opening(start))
            .filter(move |opening| opening.closes > wall)
    }

    /// Sentences about starts that are skipped, of which there is a run less than the expression says.
    pub(super) fn skipped(&self, wall: Timestamp) -> Vec<String> {
        if self.kind == WindowKind::Service {
            return Vec::new();
        }
        let from = instant(wall).to_zoned(self.zone.clone()).datetime();
        let starts = self.starts(from, from.saturating_add(HORIZON));
        let skipped = starts.filter(|start| in_gap(self.zone.to_ambiguous_timestamp(*start).offset()));
        let sentence = |start: DateTime| {
            format!(
                "window {:?} does not open on {}: summer time skips {}",
                self.name,
                start.date(),
                start.time()
            )
        };
        skipped.map(sentence).collect()
    }

    fn starts(&self, from: DateTime, to: DateTime) -> impl Iterator<Item = DateTime> + use<> {
        let mut at = from.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
        let cron = self.cron.clone();
        std::iter::from_fn(move || {
            let next = cron.find_next(cronexpr::MakeTimestamp(at?)).ok().map(|next: Zoned| next);
            at = next.as_ref().map(Zoned::timestamp);
            next.map(|next| next.datetime()).filter(|next| *next <= to)
        })
    }

    pub(super) fn opening(&self, start: DateTime) -> Option<Opening> {
        if self.excepted(start.date()) {
            return None;
        }
        let opens = self.zone.to_ambiguous_timestamp(start);
        if in_gap(opens.offset()) && self.kind == WindowKind::Update {
            return None;
        }
        let opens = opens.earlier().ok()?;
        let closes = match self.close {
            Close::After(duration) => opens.checked_add(SignedDuration::try_from(duration).ok()?).ok()?,
            Close::At { end, next_day } => {
                let day = if next_day { start.date().tomorrow().ok()? } else { start.date() };
                self.closing(day.to_datetime(end))?
            }
        };
        let closes = self.cut(start.date(), closes);
        let opening = Opening {
            window: self.name.clone(),
            kind: self.kind,
            opens: timestamp(opens),
            closes: timestamp(closes),
        };
        (opening.opens < opening.closes).then_some(opening)
    }

    fn closing(&self, end: DateTime) -> Option<jiff::Timestamp> {
        let closes = self.zone.to_ambiguous_timestamp(end);
        match self.kind {
            WindowKind::Update => closes.earlier().ok(),
            WindowKind::Service => closes.later().ok(),
        }
    }

    /// An `update` window that runs into an excepted day closes at its midnight.
    fn cut(&self, opened: Date, closes: jiff::Timestamp) -> jiff::Timestamp {
        if self.kind == WindowKind::Service || self.except.is_empty() {
            return closes;
        }
        let days = opened.series(1.day()).skip(1).take(9);
        let excepted = days
            .filter(|day| self.excepted(*day))
            .filter_map(|day| self.closing(day.to_datetime(Time::midnight())));
        excepted.min().map_or(closes, |midnight| midnight.min(closes))
    }

    fn excepted(&self, date: Date) -> bool {
        self.except.iter().any(|exception| exception.covers(date))
    }
}

fn in_gap(offset: AmbiguousOffset) -> bool {
    matches!(offset, AmbiguousOffset::Gap { .. })
}
