//! Windows against the real zone data of ten years, and by example at its changes.

use jiff::{
    ToSpan as _,
    civil::DateTime,
    tz::{Offset, TimeZone},
};
use proptest::prelude::*;

use super::{schedule::Close, *};

fn window(text: &str) -> Result<Window, String> {
    let config: WindowConfig =
        toml::from_str(&format!("name = \"night\"\n{text}")).map_err(|e| e.to_string())?;
    config.parse()
}

fn berlin(kind: &str, rest: &str) -> Window {
    window(&format!("kind = {kind:?}\nzone = \"Europe/Berlin\"\n{rest}")).unwrap()
}

fn at(civil: &str, zone: &str) -> Timestamp {
    let civil: DateTime = civil.parse().unwrap();
    timestamp(civil.to_zoned(TimeZone::get(zone).unwrap()).unwrap().timestamp())
}

fn utc(civil: &str) -> Timestamp {
    at(civil, "UTC")
}

fn first(window: &Window, from: Timestamp) -> (Timestamp, Timestamp) {
    let opening = window.openings(from).next().unwrap();
    (opening.opens, opening.closes)
}

#[test]
fn cron_and_weekly_mean_the_same() {
    let cron = berlin("update", "cron = \"30 1 * * SAT,SUN\"\nduration = \"3h 30m\"");
    let weekly = berlin("update", "weekly = \"Sat,Sun 01:30-05:00\"");
    let from = utc("2026-05-04T00:00");
    let some = |window: &Window| window.openings(from).take(20).collect::<Vec<_>>();
    assert_eq!(some(&cron), some(&weekly));
    assert_eq!(first(&cron, from), (utc("2026-05-08T23:30"), utc("2026-05-09T03:00")));
}

#[test]
fn a_weekly_window_may_last_past_midnight() {
    let window = berlin("update", "weekly = \"Mon-Fri 22:00-06:00\"");
    let (opens, closes) = first(&window, utc("2026-01-10T00:00"));
    assert_eq!((opens, closes), (utc("2026-01-09T21:00"), utc("2026-01-10T05:00")), "Friday's is still open");
}

#[test]
fn a_range_of_days_may_go_over_the_end_of_a_week_and_an_end_may_be_midnight() {
    let days = |text: &str| -> Vec<String> {
        let window = berlin("update", &format!("weekly = \"{text}\""));
        let week = window.openings(utc("2026-05-03T22:00")).take_while(|o| o.opens < utc("2026-05-10T22:00"));
        week.map(|o| instant(o.opens).to_zoned(window.zone.clone()).strftime("%a").to_string()).collect()
    };
    assert_eq!(days("Sat-Sun 01:00-05:00"), ["Sat", "Sun"]);
    assert_eq!(days("Fri-Mon 01:00-05:00"), ["Mon", "Fri", "Sat", "Sun"]);
    assert_eq!(days("sun-mon,wed 01:00-05:00"), ["Mon", "Wed", "Sun"]);
    assert_eq!(days("Tue-Mon 01:00-05:00").len(), 7);
    assert_eq!(days("Thu-Thu 01:00-05:00"), ["Thu"]);
    let evening = berlin("update", "weekly = \"Fri-Mon 20:00-24:00\"");
    assert_eq!(
        first(&evening, utc("2026-05-04T00:00")),
        (at("2026-05-04T20:00", "Europe/Berlin"), at("2026-05-05T00:00", "Europe/Berlin"))
    );
    let whole_day = berlin("service", "weekly = \"Sun 00:00-24:00\"");
    let (opens, closes) = first(&whole_day, utc("2026-05-04T00:00"));
    assert_eq!(closes.since(opens), Duration::from_secs(24 * 3600));
}

#[test]
fn a_skipped_start_means_no_run_for_updates_and_an_early_one_for_service() {
    // On 2026-03-29 Berlin goes from 02:00 to 03:00.
    let update = berlin("update", "weekly = \"daily 02:30-04:00\"");
    assert_eq!(first(&update, utc("2026-03-28T23:00")).0, at("2026-03-30T02:30", "Europe/Berlin"));
    let service = berlin("service", "weekly = \"daily 02:30-04:00\"");
    assert_eq!(first(&service, utc("2026-03-28T23:00")), (utc("2026-03-29T00:30"), utc("2026-03-29T02:00")));
    let warnings = update.skipped(utc("2026-01-01T00:00"));
    assert!(warnings[0].contains("2026-03-29"), "{warnings:?}");
    assert_eq!(warnings.len(), 2);
}

#[test]
fn a_repeated_start_opens_once_at_the_first() {
    // On 2026-10-25 Berlin goes from 03:00 back to 02:00.
    let update = berlin("update", "cron = \"30 2 * * *\"\nduration = \"30m\"");
    let both: Vec<_> = update.openings(utc("2026-10-24T22:00")).take(2).map(|o| o.opens).collect();
    assert_eq!(both, [utc("2026-10-25T00:30"), utc("2026-10-26T01:30")]);
}

#[test]
fn a_repeated_end_closes_updates_at_the_first_and_service_at_the_second() {
    let text = "weekly = \"daily 01:00-02:30\"";
    let day = utc("2026-10-24T22:00");
    assert_eq!(first(&berlin("update", text), day).1, utc("2026-10-25T00:30"));
    assert_eq!(first(&berlin("service", text), day).1, utc("2026-10-25T01:30"));
}

#[test]
fn no_window_opens_on_an_excepted_day_and_an_open_one_closes_before_it() {
    let window = berlin(
        "update",
        "weekly = \"daily 22:00-06:00\"\nexcept = [\"2026-12-24..2026-12-26\", \"01-01\", \"2027-01-03\"]",
    );
    let from = utc("2026-12-23T20:00");
    let openings: Vec<_> = window.openings(from).take(10).collect();
    assert_eq!(openings[0].closes, at("2026-12-24T00:00", "Europe/Berlin"));
    assert_eq!(openings[1].opens, at("2026-12-27T22:00", "Europe/Berlin"));
    let days: Vec<_> =
        openings.iter().map(|o| instant(o.opens).to_zoned(TimeZone::UTC).date().to_string()).collect();
    assert!(!days.contains(&"2027-01-01".to_owned()) && !days.contains(&"2027-01-03".to_owned()), "{days:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = [
        ("zone = \"Mars/Base\"\nweekly = \"daily 01:00-02:00\"", "not an IANA time zone"),
        ("zone = \"UTC\"\nweekly = \"daily 1-2\"", "is not like"),
        ("zone = \"UTC\"\nweekly = \"daily 24:00-02:00\"", "is not like"),
        ("zone = \"UTC\"\nweekly = \"Foo 01:00-02:00\"", "FOO"),
        ("zone = \"UTC\"\ncron = \"0 2 * * * UTC\"\nduration = \"1h\"", "five fields"),
        ("zone = \"UTC\"\ncron = \"0 2 * * *\"", "needs either"),
        ("zone = \"UTC\"\ncron = \"0 2 * * *\"\nduration = \"200h\"", "one minute to seven days"),
        ("zone = \"UTC\"\nweekly = \"daily 01:00-02:00\"\nexcept = [\"24.12.\"]", "is not like 2026-12-24"),
    ];
    for (text, complaint) in refused {
        let error = window(&format!("kind = \"update\"\n{text}")).unwrap_err();
        assert!(error.contains(complaint), "{text}: {error}");
    }
}

#[test]
fn the_cache_answers_as_the_schedule_does_also_when_the_clock_jumps() {
    let window = berlin("update", "weekly = \"Mon-Fri 22:00-06:00\"");
    let mut windows = Windows::new(vec![window.clone()]);
    let base = utc("2026-03-20T12:00").as_secs();
    let jumps = [0, 3600, 36_000, 37_000, 90_000, -500_000, 1_000_000, 1_000_001, 0, 70_000];
    for wall in jumps.map(|jump| Timestamp::from_secs(base + jump)) {
        let open = window.openings(wall).next().filter(|o| o.contains(wall));
        assert_eq!(windows.open(WindowKind::Update, wall), open, "{wall:?}");
        let next = window.openings(wall).find(|o| o.opens > wall);
        assert_eq!(windows.next(WindowKind::Update, wall), next);
        assert_eq!(windows.open(WindowKind::Service, wall), None);
    }
}

const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Asia/Kolkata",
    "America/Santiago",
];

/// A change of the clock of a zone.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Instant,
    before: Offset,
    after: Offset,
}

impl Change {
    fn all(zone: &TimeZone) -> Vec<Self> {
        let [from, until] =
            ["2020-01-01T00:00Z", "2030-01-01T00:00Z"].map(|at| at.parse::<Instant>().unwrap());
        let changes = zone.following(from).map(|change| change.timestamp()).take_while(|at| *at < until);
        let offsets = changes.map(|at| Self {
            at,
            before: zone.to_offset(at.checked_sub(1.second()).unwrap()),
            after: zone.to_offset(at),
        });
        offsets.filter(|change| change.before != change.after).collect()
    }

    /// Every quarter of an hour from two hours before what is skipped or repeated to two hours after it.
    fn quarters(self) -> impl Iterator<Item = DateTime> {
        let [one, other] = [self.before, self.after].map(|offset| offset.to_datetime(self.at));
        let (from, to) = (one.min(other) - 2.hours(), one.max(other) + 2.hours());
        from.series(15.minutes()).take_while(move |civil| *civil <= to)
    }

    /// That civil time by the clock that counts before the change, and by the one after it.
    fn readings(self, civil: DateTime) -> (Instant, Instant) {
        (self.before.to_timestamp(civil).unwrap(), self.after.to_timestamp(civil).unwrap())
    }

    /// The instants at which clocks show it, in order: one, none, or two.
    fn shown(self, civil: DateTime) -> Vec<Instant> {
        let (old, new) = self.readings(civil);
        let shown = [Some(old).filter(|at| *at < self.at), Some(new).filter(|at| *at >= self.at)];
        shown.into_iter().flatten().collect()
    }

    /// When a window from `start` to `end` is open, line by line as the table of the module has it.
    fn open(self, kind: WindowKind, start: DateTime, end: DateTime) -> Option<(Timestamp, Timestamp)> {
        let as_if_changed = self.readings(start).1;
        let opens = match (self.shown(start).as_slice(), kind) {
            ([], WindowKind::Update) => return None,
            ([], WindowKind::Service) => {
                assert!(as_if_changed < self.at, "before the change");
                as_if_changed
            }
            ([first, ..], _) => *first,
        };
        let (as_if_not, as_if_changed) = self.readings(end);
        let closes = match (self.shown(end).as_slice(), kind) {
            ([], WindowKind::Update) => {
                assert!(as_if_changed < self.at, "before the change");
                as_if_changed
            }
            ([], WindowKind::Service) => {
                assert!(as_if_not >= self.at, "after it");
                as_if_not
            }
            ([first, ..], WindowKind::Update) => *first,
            ([.., last], WindowKind::Service) => *last,
        };
        (opens < closes).then(|| (timestamp(opens), timestamp(closes)))
    }
}

#[test]
fn around_every_change_of_ten_years_each_quarter_of_an_hour_is_as_the_table_says() {
    let (mut changes, mut skipped, mut repeated) = (0, 0, 0);
    for zone in ZONES {
        let tz = TimeZone::get(zone).unwrap();
        let plain = |kind: &str| format!("kind = {kind:?}\nzone = {zone:?}\nweekly = \"daily 00:00-01:00\"");
        let mut windows = ["update", "service"].map(|kind| window(&plain(kind)).unwrap());
        for change in Change::all(&tz) {
            changes += 1;
            for start in change.quarters() {
                skipped += usize::from(change.shown(start).is_empty());
                repeated += usize::from(change.shown(start).len() == 2);
                for end in change.quarters().map(DateTime::time) {
                    let next_day = end <= start.time();
                    let day = if next_day { start.date().tomorrow().unwrap() } else { start.date() };
                    for window in &mut windows {
                        window.close = Close::At { end, next_day };
                        let open = window.opening(start).map(|opening| (opening.opens, opening.closes));
                        let expected = change.open(window.kind, start, day.to_datetime(end));
                        assert_eq!(
                            open, expected,
                            "{zone}, {:?} from {start} to {end}, {change:?}",
                            window.kind
                        );
                    }
                }
            }
        }
    }
    println!("{changes} changes, {skipped} starts skipped, {repeated} repeated");
    assert!(changes >= 80 && skipped >= 100 && repeated >= 100, "{changes} {skipped} {repeated}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ten years of real zone data: every opening has the civil start that was asked for, none opens twice a day, the
    /// length differs from the asked one by a change of the clock at most, and service contains update.
    #[test]
    fn openings_are_what_was_asked_for_in_every_zone_over_ten_years(
        zone in prop::sample::select(ZONES.as_slice()), start in 0u32..1440, length in 1u32..1440, month in 0i64..120
    ) {
        let end = (start + length) % 1440;
        let clock = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let text = |kind: &str| {
            format!("kind = {kind:?}\nzone = {zone:?}\nweekly = \"daily {}-{}\"", clock(start), clock(end))
        };
        let (update, service) = (window(&text("update")).unwrap(), window(&text("service")).unwrap());
        let from = Timestamp::from_secs(utc("2020-01-01T00:00").as_secs() + month * 30 * 86_400);
        let until = Timestamp::from_secs(from.as_secs() + 35 * 86_400);
        let services: Vec<_> = service.openings(from).take_while(|o| o.opens < until).collect();
        let mut last_day = None;
        for opening in update.openings(from).take_while(|o| o.opens < until) {
            let opens = instant(opening.opens).to_zoned(TimeZone::get(zone).unwrap());
            prop_assert_eq!(opens.hour().unsigned_abs() as u32 * 60 + opens.minute().unsigned_abs() as u32, start);
            prop_assert!(last_day < Some(opens.date()), "twice on {}", opens.date());
            last_day = Some(opens.date());
            let lasts = opening.closes.since(opening.opens).as_secs() / 60;
            prop_assert!(lasts.abs_diff(u64::from(length)) <= 120, "{} minutes", lasts);
            prop_assert!(
                services.iter().any(|s| s.opens <= opening.opens && opening.closes <= s.closes),
                "no service window around {:?}", opening
            );
        }
        // Every day of the span has one, but for days whose start is skipped.
        let skipped = 2;
        prop_assert!(services.len() >= 34 && services.len() <= 37 + skipped, "{}", services.len());
    }
}
