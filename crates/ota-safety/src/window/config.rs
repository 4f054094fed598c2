//! Windows as they are written, and what that means.

use std::{str::FromStr, time::Duration};

use jiff::{
    civil::{Date, Time},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

use super::{
    LONGEST, Window, WindowKind,
    schedule::{Close, Exception},
};

/// One window. When it opens is said by `cron` with `duration`, or by `weekly`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    /// Its name, unique among windows.
    pub name: String,
    /// What it is for.
    pub kind: WindowKind,
    /// Its time zone by IANA name, `Europe/Berlin`.
    pub zone: String,
    /// When it opens: minute, hour, day of month, month, day of week, `0 2 * * SUN`. Needs `duration`.
    #[serde(default)]
    pub cron: Option<String>,
    /// Days and times, `Mon-Fri 22:00-06:00`, `Fri-Mon 20:00-24:00`, `Sat,Sun 01:00-05:00`, `daily 02:00-04:00`. An end that is
    /// not after the start is one of the next day.
    #[serde(default)]
    pub weekly: Option<String>,
    /// How long it stays open, elapsed time, one minute to seven days.
    #[serde(default, with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional")]
    pub duration: Option<Duration>,
    /// Days on which it does not open and, for `update` windows, is not open: `2026-12-24`, `2026-12-24..2027-01-06`,
    /// `12-25` for every year.
    #[serde(default)]
    pub except: Vec<String>,
}

impl WindowConfig {
    /// The window it means.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(&self) -> Result<Window, String> {
        let zone =
            TimeZone::get(&self.zone).map_err(|_| format!("{:?} is not an IANA time zone", self.zone))?;
        let (cron, close) = match (&self.cron, &self.weekly, self.duration) {
            (Some(cron), None, Some(duration)) => (cron_of(cron)?, Close::After(checked(duration)?)),
            (None, Some(weekly), None) => weekly_of(weekly)?,
            _ => return Err("needs either cron and duration, or weekly".into()),
        };
        let except = self.except.iter().map(|text| text.parse()).collect::<Result<_, String>>()?;
        Ok(Window { name: self.name.clone(), kind: self.kind, zone, cron, close, except })
    }
}

fn checked(duration: Duration) -> Result<Duration, String> {
    if duration < Duration::from_secs(60) || duration > LONGEST {
        return Err("duration must be one minute to seven days".into());
    }
    Ok(duration)
}

/// The expression on the civil clock: which instants those are is decided by [`super::schedule`], not by cron.
fn cron_of(text: &str) -> Result<cronexpr::Crontab, String> {
    if text.split_whitespace().count() != 5 {
        return Err(format!(
            "{text:?} has not the five fields of a cron expression (the zone is said by `zone`)"
        ));
    }
    cronexpr::parse_crontab(&format!("{text} UTC")).map_err(|error| format!("{text:?}: {error}"))
}

fn weekly_of(text: &str) -> Result<(cronexpr::Crontab, Close), String> {
    let bad = || format!("{text:?} is not like \"Mon-Fri 22:00-06:00\"");
    let (days, times) = text.trim().split_once(' ').ok_or_else(bad)?;
    let (start, end) = times.trim().split_once('-').ok_or_else(bad)?;
    let time = |text: &str| Time::strptime("%H:%M", text.trim()).map_err(|_| bad());
    let start = time(start)?;
    let end = if end.trim() == "24:00" { Time::midnight() } else { time(end)? };
    let cron = cron_of(&format!("{} {} * * {}", start.minute(), start.hour(), days_of(days)))?;
    Ok((cron, Close::At { end, next_day: end <= start }))
}

const DAYS: [&str; 7] = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];

/// The days as cron has them, whose ranges do not go over the end of a week.
fn days_of(text: &str) -> String {
    let text = text.to_ascii_uppercase();
    if text == "DAILY" {
        return "*".into();
    }
    let number = |day: &str| DAYS.iter().position(|name| *name == day);
    let expanded = text.split(',').map(|days| {
        let range = days.split_once('-').and_then(|(from, to)| Some((number(from)?, number(to)?)));
        let Some((from, to)) = range else { return days.to_owned() };
        let last = if from <= to { to } else { to + DAYS.len() };
        (from..=last).map(|day| DAYS[day % DAYS.len()]).collect::<Vec<_>>().join(",")
    });
    expanded.collect::<Vec<_>>().join(",")
}

impl FromStr for Exception {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not like 2026-12-24, 2026-12-24..2027-01-06 or 12-25");
        let date = |text: &str| Date::strptime("%Y-%m-%d", text.trim()).map_err(|_| bad());
        if let Some((from, to)) = text.split_once("..") {
            let (from, to) = (date(from)?, date(to)?);
            return if from <= to { Ok(Self::Range(from, to)) } else { Err(bad()) };
        }
        if text.len() == "12-25".len() {
            // A leap year, so that 02-29 is a day.
            let day = date(&format!("2024-{text}"))?;
            return Ok(Self::EveryYear { month: day.month(), day: day.day() });
        }
        date(text).map(|day| Self::Range(day, day))
    }
}
