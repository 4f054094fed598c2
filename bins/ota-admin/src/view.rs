//! How a running job is shown: one moving bar on a terminal, else a line whenever something changed.

use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ota_api::{updates::ProgressResponse, words::JobStatus};

use crate::{
    exit::Failure,
    output::{Format, Output, plain},
};

/// How often a line moves on which nothing else changes.
const TICK: Duration = Duration::from_millis(200);

/// What the bar's length stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// The current phase.
    Phase,
    /// A whole update, from the download to the confirmed boot.
    Whole,
}

/// Shows one job.
pub(crate) struct View<'a> {
    out: &'a mut Output,
    scale: Scale,
    bar: Option<ProgressBar>,
    /// Furthest position shown; a bar never goes back.
    reached: f64,
    /// What the last line said, without its speed.
    said: Option<Said>,
    away: bool,
}

#[derive(PartialEq, Eq)]
struct Said {
    status: JobStatus,
    operation: String,
    tenth: u8,
    waiting: String,
}

impl<'a> View<'a> {
    /// A bar where somebody watches, lines otherwise.
    pub(crate) fn new(out: &'a mut Output, scale: Scale) -> Self {
        let bar = moves(out).then(bar);
        Self { out, scale, bar, reached: 0.0, said: None, away: false }
    }

    /// Shows where the job is now.
    pub(crate) fn show(&mut self, progress: &ProgressResponse) -> Result<(), Failure> {
        if std::mem::take(&mut self.away) {
            self.line("the gateway is back")?;
        }
        if let Some(bar) = &self.bar {
            self.reached = self.reached.max(position(self.scale, progress));
            bar.set_position(thousandths(self.reached));
            bar.set_prefix(progress.status.as_str());
            bar.set_message(plain(&short(progress)));
            return Ok(());
        }
        let said = Said::from(progress);
        if self.said.as_ref() == Some(&said) {
            return Ok(());
        }
        self.said = Some(said);
        if self.out.format() == Format::Jsonl {
            return self.out.element(progress, |_| String::new());
        }
        let percent = progress.progress.percentage;
        self.out.progress(&format!("{:<12} {percent:>5.1} %  {}", progress.status, message(progress)))
    }

    /// Shows that the gateway does not answer at the moment.
    pub(crate) fn away(&mut self, why: &str) -> Result<(), Failure> {
        if std::mem::replace(&mut self.away, true) {
            return Ok(());
        }
        match &self.bar {
            Some(bar) => bar.set_message("the gateway does not answer (rebooting?)"),
            None => self.line(&format!("the gateway does not answer (rebooting?): {why}"))?,
        }
        Ok(())
    }

    /// Takes the bar away, so that a question stands on a clean line; the next look brings it back.
    pub(crate) fn step_aside(&mut self) -> &Output {
        if let Some(shown) = &mut self.bar {
            std::mem::replace(shown, bar()).finish_and_clear();
        }
        self.out
    }

    /// Takes the bar away, so that what follows stands on clean lines.
    pub(crate) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, text: &str) -> Result<(), Failure> {
        if self.bar.is_none() && self.out.format() != Format::Jsonl {
            self.out.progress(text)?;
        }
        Ok(())
    }
}

/// How far a file is that is sent: as a job, a bar or a line with every tenth. Nothing for programs.
pub(crate) struct Sending<'a> {
    out: &'a mut Output,
    name: String,
    bar: Option<ProgressBar>,
    /// Tenths that the last line said.
    said: u64,
}

impl<'a> Sending<'a> {
    /// Of the file `name`.
    pub(crate) fn new(out: &'a mut Output, name: String) -> Self {
        let bar = moves(out).then(bar);
        if let Some(bar) = &bar {
            bar.set_prefix("sending");
            bar.set_message(plain(&name));
        }
        Self { out, name, bar, said: 0 }
    }

    /// Shows that `sent` of `total` bytes are on their way.
    pub(crate) fn show(&mut self, sent: u64, total: u64) {
        let share = sent.saturating_mul(1000).checked_div(total).unwrap_or(1000).min(1000);
        let text = format!("{}, {} of {}", self.name, HumanBytes(sent), HumanBytes(total));
        if let Some(bar) = &self.bar {
            bar.set_position(share);
            bar.set_message(plain(&text));
        } else if self.out.format() == Format::Table && share / 100 > self.said {
            self.said = share / 100;
            // Nothing is given up because nobody can be told how far it is.
            let _ = self.out.progress(&format!("{:<12} {:>3} %  {text}", "sending", self.said * 10));
        }
    }

    /// Takes the bar away, so that what follows stands on clean lines.
    pub(crate) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A moving line at a terminal while an answer is waited for whose end nobody knows; nothing elsewhere.
pub(crate) struct Waiting {
    what: String,
    line: Option<ProgressBar>,
}

impl Waiting {
    /// What is done meanwhile.
    pub(crate) fn new(out: &Output, what: String) -> Self {
        let what = plain(&what);
        let line = moves(out).then(|| {
            let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
            let line = line.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            line.set_message(what.clone());
            line.enable_steady_tick(TICK);
            line
        });
        Self { what, line }
    }

    /// Shows how many bytes have come.
    pub(crate) fn moved(&self, bytes: u64) {
        if let Some(line) = &self.line {
            line.set_message(format!("{}, {}", self.what, HumanBytes(bytes)));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}

/// Whether progress moves: somebody watches, and no program reads.
fn moves(out: &Output) -> bool {
    out.is_watched() && out.format() == Format::Table
}

fn bar() -> ProgressBar {
    bar_on(ProgressDrawTarget::stderr())
}

fn bar_on(target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1000), target);
    // The template is constant and well formed; the default look would do, too.
    let style = ProgressStyle::with_template("{prefix:12} [{bar:20}] {percent:>3} %  {wide_msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl From<&ProgressResponse> for Said {
    fn from(progress: &ProgressResponse) -> Self {
        let tenth = (0..10).rev().find(|n| progress.progress.percentage >= f64::from(*n) * 10.0);
        Self {
            status: progress.status,
            operation: progress.current_operation.clone(),
            tenth: if progress.progress.percentage >= 100.0 { 10 } else { tenth.unwrap_or(0) },
            waiting: waiting(progress).unwrap_or_default(),
        }
    }
}

/// What the job does or waits for, with speed and time left while bytes move.
fn message(progress: &ProgressResponse) -> String {
    let operation = &progress.current_operation;
    match (waiting(progress), pace(progress)) {
        (Some(waiting), _) => format!("{operation} ({waiting})"),
        (None, Some(pace)) => format!("{operation}, {pace}"),
        (None, None) => operation.clone(),
    }
}

/// The same for a line that is cut at its end: what people look for first.
fn short(progress: &ProgressResponse) -> String {
    let operation = &progress.current_operation;
    match waiting(progress).or_else(|| pace(progress)) {
        Some(first) => format!("{first}, {operation}"),
        None => operation.clone(),
    }
}

/// Speed and time left while bytes move.
fn pace(progress: &ProgressResponse) -> Option<String> {
    let numbers = &progress.progress;
    let moves = numbers.bytes_per_second > 0 && !progress.ended;
    moves.then(|| format!("{}, {} left", numbers.speed, progress.eta))
}

/// What holds the job, in words.
fn waiting(progress: &ProgressResponse) -> Option<String> {
    let waiting = progress.waiting_for.as_ref()?;
    Some(match waiting.reason.as_str() {
        "safety" => {
            let names = waiting.constraints.iter().map(|c| format!("{}: {}", c.constraint, c.message));
            format!("safety: {}", names.collect::<Vec<_>>().join("; "))
        }
        "reboot" => "waits for somebody to reboot the gateway".into(),
        "window" => "waits for the next update window".into(),
        "judgement" => "waits for `ota-admin confirm` or `reject`".into(),
        "resume" => "waits for `ota-admin resume`".into(),
        other => format!("waits for {other}"),
    })
}

/// 0.0 to 1.0.
fn position(scale: Scale, progress: &ProgressResponse) -> f64 {
    let share = (progress.progress.percentage / 100.0).clamp(0.0, 1.0);
    if scale == Scale::Phase {
        return share;
    }
    let (from, to) = match progress.status {
        JobStatus::Queued => (0.0, 0.0),
        JobStatus::Downloading | JobStatus::Paused => (0.0, 0.5),
        JobStatus::Verifying => (0.5, 0.55),
        JobStatus::Downloaded | JobStatus::Scheduled => (0.55, 0.55),
        JobStatus::Installing => (0.55, 0.9),
        JobStatus::Rebooting => (0.9, 0.9),
        JobStatus::Confirming => (0.95, 0.95),
        JobStatus::Succeeded => (1.0, 1.0),
        // Where it got to is where it stays.
        JobStatus::Failed | JobStatus::Cancelled | JobStatus::RolledBack => (0.0, 0.0),
    };
    from + (to - from) * share
}

fn thousandths(share: f64) -> u64 {
    (0..=1000u16).rev().find(|n| f64::from(*n) <= share * 1000.0).map_or(0, u64::from)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use indicatif::TermLike;
    use serde_json::json;

    use super::*;
    use crate::tests::{progress, progress_json};

    /// A terminal of 80 columns that keeps what is written and forgets where.
    #[derive(Clone, Debug, Default)]
    struct Paper(Arc<Mutex<Vec<String>>>);

    impl Paper {
        fn keep(&self, text: &str) {
            self.0.lock().unwrap().extend(Some(text.trim_end().to_owned()).filter(|text| !text.is_empty()));
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.keep(text);
            Ok(())
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.keep(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_bar_says_where_a_job_is_and_is_cut_to_the_terminal() {
        let (mut out, seen) = Output::captured(Format::Table);
        let paper = Paper::default();
        let bar = bar_on(ProgressDrawTarget::term_like(Box::new(paper.clone())));
        let mut view = View { bar: Some(bar.clone()), ..View::new(&mut out, Scale::Whole) };
        let mut drawn = |progress: &ProgressResponse| {
            view.show(progress).unwrap();
            bar.force_draw();
            paper.0.lock().unwrap().last().cloned().unwrap()
        };
        let moving = drawn(&progress("downloading", 50.0));
        assert!(moving.contains("5.2MB/s, 00:02:15 left"), "{moving}");
        insta::assert_snapshot!(moving);
        let mut held = progress_json("scheduled", 100.0);
        held["waiting_for"] = json!({"reason": "window"});
        let held = drawn(&serde_json::from_value(held).unwrap());
        assert!(held.contains("waits for the next update window"), "{held}");
        insta::assert_snapshot!(held);
        view.end();
        assert_eq!((seen.results(), seen.messages()), (String::new(), String::new()));
    }

    #[test]
    fn a_terminal_that_cannot_move_gets_lines() {
        let (mut out, seen) = Output::at_a_terminal(Format::Table);
        let mut view = View::new(&mut out, Scale::Whole);
        view.show(&progress("downloading", 50.0)).unwrap();
        view.end();
        assert!(seen.messages().starts_with("downloading   50.0 %  Downloading"), "{}", seen.messages());
    }

    #[test]
    fn the_whole_scale_grows_from_phase_to_phase() {
        let walk = [
            ("queued", 0.0),
            ("downloading", 0.0),
            ("downloading", 100.0),
            ("verifying", 100.0),
            ("downloaded", 100.0),
            ("installing", 0.0),
            ("installing", 100.0),
            ("rebooting", 0.0),
            ("confirming", 0.0),
            ("succeeded", 0.0),
        ];
        let at: Vec<f64> = walk.iter().map(|(s, p)| position(Scale::Whole, &progress(s, *p))).collect();
        assert!(at.is_sorted(), "{at:?}");
        assert_eq!(at.last(), Some(&1.0));
    }

    #[test]
    fn a_file_that_is_sent_is_told_with_every_tenth_and_to_people_only() {
        for (format, lines) in [(Format::Table, 3), (Format::Json, 0), (Format::Jsonl, 0)] {
            let (mut out, seen) = Output::captured(format);
            let mut view = Sending::new(&mut out, "image.bin".into());
            for sent in [0, 5, 10, 19, 50, 51, 100] {
                view.show(sent << 20, 100 << 20);
            }
            view.end();
            let told = seen.messages();
            assert_eq!((told.lines().count(), seen.results().as_str()), (lines, ""), "{told}");
            let last = "sending      100 %  image.bin, 100.00 MiB of 100.00 MiB\n";
            assert!(lines == 0 || told.ends_with(last), "{told}");
        }
    }

    #[test]
    fn a_line_comes_with_every_tenth_and_every_change() {
        let (mut out, seen) = Output::captured(Format::Table);
        let mut view = View::new(&mut out, Scale::Whole);
        for (status, percent) in [
            ("downloading", 0.0),
            ("downloading", 4.0),
            ("downloading", 11.0),
            ("downloading", 19.9),
            ("verifying", 0.0),
        ] {
            view.show(&progress(status, percent)).unwrap();
        }
        view.away("connection refused").unwrap();
        view.away("connection refused").unwrap();
        view.show(&progress("confirming", 0.0)).unwrap();
        view.end();
        insta::assert_snapshot!(seen.messages(), @r"
        downloading    0.0 %  Downloading update package, 5.2MB/s, 00:02:15 left
        downloading   11.0 %  Downloading update package, 5.2MB/s, 00:02:15 left
        verifying      0.0 %  Downloading update package, 5.2MB/s, 00:02:15 left
        the gateway does not answer (rebooting?): connection refused
        the gateway is back
        confirming     0.0 %  Downloading update package, 5.2MB/s, 00:02:15 left
        ");
        assert_eq!(seen.results(), "");
    }
}
