//! The only place that prints: tables for people, JSON for programs.
//!
//! Results go to standard output, everything else (errors, notes, progress) to standard error. Text that came from a
//! gateway may hold anything: control characters never reach the terminal.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use ota_client::{ApiError, ClientError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{connect, exit::Failure, terminal};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One indented JSON document; streams are printed as JSON lines.
    Json,
    /// JSON lines, one document on each.
    Jsonl,
}

impl Format {
    /// As it is typed.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
        }
    }
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default();

/// What becomes of a gateway that does not come back.
const STAYS_AWAY: &str = "a new version that does not come up is left by the boot loader after its tries: \
                          the previous one runs then";

/// Where results and messages go.
pub(crate) struct Output {
    format: Format,
    results: Box<dyn Write + Send>,
    messages: Box<dyn Write + Send>,
    terminal: bool,
    /// The terminal that results go to, past what takes colours away; none where they go elsewhere.
    screen: Option<Box<dyn Write + Send>>,
    /// Whether what is shown at a terminal can move.
    moves: bool,
    /// Whether somebody can be asked: what is read is typed at a terminal.
    answered: bool,
}

impl Output {
    /// To the process's standard output and error; colours only where a terminal shows them.
    pub(crate) fn to_process(format: Format) -> Self {
        let terminal = io::IsTerminal::is_terminal(&io::stderr());
        let screen = io::IsTerminal::is_terminal(&io::stdout());
        Self {
            format,
            results: Box::new(anstream::AutoStream::auto(io::stdout())),
            messages: Box::new(anstream::AutoStream::auto(io::stderr())),
            terminal,
            screen: screen.then(|| Box::new(io::stdout()) as Box<dyn Write + Send>),
            moves: terminal::moves(),
            answered: io::IsTerminal::is_terminal(&io::stdin()),
        }
    }

    /// Into memory, as without a terminal.
    #[cfg(test)]
    pub(crate) fn captured(format: Format) -> (Self, crate::tests::Seen) {
        let seen = crate::tests::Seen::default();
        let (results, messages) = (Box::new(seen.results.clone()), Box::new(seen.messages.clone()));
        let results = Box::new(anstream::StripStream::new(results as Box<dyn Write + Send>));
        let messages = Box::new(anstream::StripStream::new(messages as Box<dyn Write + Send>));
        let (terminal, moves, answered) = (false, false, false);
        (Self { format, results, messages, terminal, screen: None, moves, answered }, seen)
    }

    /// Into memory, as at a terminal that prints lines and no more, where somebody answers.
    #[cfg(test)]
    pub(crate) fn at_a_terminal(format: Format) -> (Self, crate::tests::Seen) {
        let (out, seen) = Self::captured(format);
        let screen: Option<Box<dyn Write + Send>> = Some(Box::new(seen.results.clone()));
        let results = Box::new(seen.results.clone());
        (Self { results, screen, terminal: true, answered: true, ..out }, seen)
    }

    /// How results are printed.
    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// Whether somebody watches standard error where lines can move: then progress is a bar, else lines.
    pub(crate) const fn is_watched(&self) -> bool {
        self.terminal && self.moves
    }

    /// Whether somebody can be asked for what is typed unseen: that question finds its terminal by itself.
    pub(crate) const fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether somebody sees a question on standard error and can answer it.
    pub(crate) const fn is_asked(&self) -> bool {
        self.answered && self.terminal
    }

    /// Whether a live screen can be drawn: people look at a terminal that can do that.
    pub(crate) fn opens_screen(&self) -> bool {
        self.screen.is_some() && self.moves && self.format == Format::Table
    }

    /// Takes a screen of its own, so that the terminal is afterwards as it was; long lines are cut, not wrapped.
    pub(crate) fn screen_on(&mut self) -> Result<(), Failure> {
        self.steer(b"\x1b[?1049h\x1b[?25l\x1b[?7l")
    }

    /// Gives it back.
    pub(crate) fn screen_off(&mut self) -> Result<(), Failure> {
        self.steer(b"\x1b[?7h\x1b[?25h\x1b[?1049l")
    }

    /// Rows that a live screen has, where the terminal says it. People make it larger and smaller.
    pub(crate) fn rows(&self) -> Option<usize> {
        self.screen.as_ref().and_then(|_| terminal::rows())
    }

    /// Draws over what the screen shows, without a flicker. No line feed follows the last line: it would scroll a full screen.
    pub(crate) fn frame(&mut self, text: &str) -> Result<(), Failure> {
        let lines: Vec<String> = plain(text).lines().map(|line| format!("{line}\x1b[K")).collect();
        self.steer(format!("\x1b[H{}\x1b[J", lines.join("\n")).as_bytes())
    }

    /// To the terminal itself: who wants no colours still wants each frame in the place of the last.
    fn steer(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        unless_closed(screen.write_all(bytes).and_then(|()| screen.flush()))
    }

    /// Prints one result: `human` for people, the value itself for programs.
    pub(crate) fn show<T: Serialize>(
        &mut self,
        value: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.text(&human(value)),
            Format::Json => self.document(&serde_json::to_string_pretty(value).map_err(io::Error::from)?),
            Format::Jsonl => self.document(&serde_json::to_string(value).map_err(io::Error::from)?),
        }
    }

    /// Prints one element of a stream: a line for people, a JSON line for programs.
    pub(crate) fn element<T: Serialize>(
        &mut self,
        value: &T,
        human: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.text(&human(value)),
            Format::Json | Format::Jsonl => {
                self.document(&serde_json::to_string(value).map_err(io::Error::from)?)
            }
        }
    }

    /// Prints text that is the same in every format (completions).
    pub(crate) fn verbatim(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        unless_closed(self.results.write_all(bytes).and_then(|()| self.results.flush()))
    }

    /// The same for text of a gateway: programs get it as it is, a terminal nothing that could steer it.
    pub(crate) fn foreign(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.screen.is_some() {
            return self.verbatim(plain(&String::from_utf8_lossy(bytes)).as_bytes());
        }
        self.verbatim(bytes)
    }

    /// Says something beside the result.
    pub(crate) fn note(&mut self, text: &str) -> Result<(), Failure> {
        unless_unheard(writeln!(self.messages, "{NOTE}note:{NOTE:#} {}", plain(text)))
    }

    /// A line about what is going on.
    pub(crate) fn progress(&mut self, text: &str) -> Result<(), Failure> {
        unless_unheard(writeln!(self.messages, "{}", plain(text)))
    }

    /// Asks a question whose answer the user types on the same line.
    pub(crate) fn ask(&mut self, question: &str) -> Result<(), Failure> {
        write!(self.messages, "{} ", plain(question))?;
        Ok(self.messages.flush()?)
    }

    /// Says why the run failed, and what can be done about it.
    pub(crate) fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        if self.format != Format::Table {
            return writeln!(self.messages, "{}", escaped(&failure_document(failure).to_string()));
        }
        writeln!(self.messages, "{ERROR}error:{ERROR:#} {}", plain(&chain(failure)))?;
        let actions = advice(failure).into_iter().map(|action| format!("- {action}"));
        let request = request_id(failure).map(|id| format!("request id: {id}"));
        for line in details(failure).into_iter().chain(actions).chain(request) {
            writeln!(self.messages, "  {}", plain(&line))?;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.line(plain(text).trim_end_matches('\n'))
    }

    fn document(&mut self, json: &str) -> Result<(), Failure> {
        self.line(&escaped(json))
    }

    fn line(&mut self, text: &str) -> Result<(), Failure> {
        unless_closed(writeln!(self.results, "{text}").and_then(|()| self.results.flush()))
    }
}

/// Who reads the results may have enough of them; the command says what that means.
fn unless_closed(outcome: io::Result<()>) -> Result<(), Failure> {
    outcome.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => error.into(),
    })
}

/// What nobody listens to is not said, and nothing is given up for it.
fn unless_unheard(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Whether a character steers a terminal or turns the direction of writing. Line feeds are what lines are made of.
fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text without control characters (line feeds stay) and without those that turn the direction of writing.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// The same document with those characters as JSON has them: they stand in strings only, and serde_json escapes but a few.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// The text on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// A table with a header, as wide as it needs to be, narrower on a terminal.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    laid_out(ContentArrangement::Dynamic, header, rows)
}

/// The same with one line a row, however long it is: a live screen has few lines, and cuts them.
pub(crate) fn flat_table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows = rows.into_iter().map(|row| row.map(|cell| one_line(&cell)));
    laid_out(ContentArrangement::Disabled, header, rows)
}

fn laid_out<const N: usize>(
    arrangement: ContentArrangement,
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(arrangement);
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| plain(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Names and values, one a line, values aligned.
pub(crate) fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:<width$}  {value}").trim_end().to_owned();
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn chain(failure: &Failure) -> String {
    match failure {
        Failure::Client(error) => error.chain(),
        Failure::NotInstalled { failure, .. } => chain(failure),
        Failure::Local(error) => format!("{error:#}"),
        other => ota_core::error::chain(other),
    }
}

/// What the user can do next.
fn advice(failure: &Failure) -> Vec<String> {
    match failure {
        Failure::Client(error) => advice_on(error),
        Failure::Job(ended) => ended.actions.clone(),
        Failure::Lost { job, source, .. } => {
            let mut lines = if source.may_pass() { vec![STAYS_AWAY.into()] } else { advice_on(source) };
            lines.push(format!(
                "`ota-admin progress {job}` tells how the job stands once the gateway answers it"
            ));
            lines
        }
        Failure::NotInstalled { failure, next, .. } => {
            advice(failure).into_iter().chain([next.clone()]).collect()
        }
        _ => Vec::new(),
    }
}

fn advice_on(error: &ClientError) -> Vec<String> {
    let Some(api) = error.api() else {
        return connect::next_step(error).into_iter().map(str::to_owned).collect();
    };
    let mut lines = api.suggested_actions.clone();
    if api.status == 401 {
        lines.push("name a token with --token-file, OTA_TOKEN or OTA_TOKEN_FILE, or in a profile".into());
    }
    if let Some(wait) = api.retry_after {
        lines.push(format!("try again in {} s", wait.as_secs()));
    }
    lines
}

/// The gateway's refusal, when it is one.
fn refusal(failure: &Failure) -> Option<&ApiError> {
    match failure {
        Failure::Client(error) => error.api(),
        // Of one that stays away, what a front end last said in its place says less than that.
        Failure::Lost { source, .. } if !source.may_pass() => source.api(),
        Failure::NotInstalled { failure, .. } => refusal(failure),
        _ => None,
    }
}

/// What the gateway says beside the message.
fn details(failure: &Failure) -> Vec<String> {
    let all = refusal(failure).and_then(|api| api.details.as_object());
    let mut lines: Vec<String> = all.into_iter().flatten().filter_map(detail).collect();
    // The order of a JSON object means nothing; ours does not change from run to run.
    lines.sort_unstable();
    lines
}

/// Name of the request in the gateway's log and audit.
fn request_id(failure: &Failure) -> Option<&str> {
    match failure {
        Failure::Job(ended) => ended.request_id.as_deref(),
        failure => refusal(failure).map(|api| api.request_id.as_str()).filter(|id| !id.is_empty()),
    }
}

/// A detail that fits on a line; lists and objects are in the JSON output.
fn detail((name, value): (&String, &Value)) -> Option<String> {
    match value {
        Value::String(text) => Some(format!("{name}: {text}")),
        Value::Number(_) | Value::Bool(_) => Some(format!("{name}: {value}")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The failure as a document: the gateway's envelope when there is one, always with `exit_code` and with what can be done.
fn failure_document(failure: &Failure) -> Value {
    let mut document = match (refusal(failure), failure) {
        (Some(api), _) => serde_json::to_value(api).unwrap_or_else(|_| json!({})),
        (None, Failure::Job(ended)) => json!({
            "code": ended.code.map(|code| code.to_string()),
            "status": ended.status.as_str(),
            "message": if ended.why.is_empty() { ended.to_string() } else { ended.why.clone() },
            "request_id": ended.request_id,
        }),
        (None, other) => json!({"message": chain(other)}),
    };
    if let Some(job) = failure.job() {
        document["job_id"] = json!(job);
    }
    document["suggested_actions"] = json!(advice(failure));
    document["error"] = json!(true);
    document["exit_code"] = json!(failure.exit().number());
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{JobEnded, Left};

    #[test]
    fn text_of_a_gateway_reaches_a_program_as_it_is_and_a_terminal_without_what_steers_it() {
        let told = "ota_up{note=\"\u{1b}[2J\u{9b}2J\u{202e}\"} 1\n";
        let (mut out, seen) = Output::at_a_terminal(Format::Table);
        out.foreign(told.as_bytes()).unwrap();
        assert_eq!(seen.results(), "ota_up{note=\"\u{fffd}[2J\u{fffd}2J\u{fffd}\"} 1\n");
        let (mut out, seen) = Output::at_a_terminal(Format::Table);
        out.screen = None;
        out.foreign(told.as_bytes()).unwrap();
        assert_eq!(seen.results(), told);
    }

    #[test]
    fn a_document_means_the_same_and_holds_nothing_that_steers_a_terminal() {
        let value = json!({"note": "\u{1b}[2J\u{7f}\u{9b}2J \u{202e}\u{2066} é\n"});
        for format in [Format::Json, Format::Jsonl] {
            let (mut out, seen) = Output::at_a_terminal(format);
            out.show(&value, |_| String::new()).unwrap();
            assert!(!seen.results().contains(is_hidden), "{:?}", seen.results());
            assert_eq!(serde_json::from_str::<Value>(&seen.results()).unwrap(), value);
        }
        let (mut out, seen) = Output::at_a_terminal(Format::Json);
        out.fail(&Failure::Usage("\u{9b}2J".into())).unwrap();
        let failure: Value = serde_json::from_str(&seen.messages()).unwrap();
        assert_eq!(failure["message"], "\u{9b}2J");
        assert!(!seen.messages().contains(is_hidden), "{:?}", seen.messages());
    }

    #[test]
    fn the_last_line_of_a_frame_does_not_scroll_the_screen_and_no_colour_filter_takes_its_place_away() {
        let (mut out, seen) = Output::at_a_terminal(Format::Table);
        out.results = Box::new(io::sink());
        out.frame("one\ntwo").unwrap();
        assert_eq!(seen.results(), "\x1b[Hone\x1b[K\ntwo\x1b[K\x1b[J");
    }

    #[test]
    fn a_document_of_a_failure_has_its_words_its_job_and_what_to_do() {
        let cancelled = JobEnded {
            job: "OTA-JOB-8821X".into(),
            status: ota_core::job::JobStatus::Cancelled,
            code: None,
            why: String::new(),
            actions: Vec::new(),
            request_id: None,
        };
        let document = failure_document(&Box::new(cancelled).into());
        assert_eq!(document["message"], "job OTA-JOB-8821X was cancelled");
        assert_eq!((&document["job_id"], &document["exit_code"]), (&json!("OTA-JOB-8821X"), &json!(9)));

        let left = Left { job: Some("OTA-JOB-8821X".into()), next: "; it goes on".into() };
        let interrupted = Failure::NotInstalled {
            failure: Box::new(Failure::Interrupted(left)),
            job: "OTA-JOB-8821X".into(),
            next: "install it".into(),
        };
        let document = failure_document(&interrupted);
        assert_eq!(document["message"], "interrupted; it goes on");
        assert_eq!((&document["job_id"], &document["exit_code"]), (&json!("OTA-JOB-8821X"), &json!(130)));
        assert_eq!(document["suggested_actions"], json!(["install it"]));

        let unauthorized = ApiError { status: 401, code: "UNAUTHORIZED".into(), ..ApiError::default() };
        let document = failure_document(&ClientError::Api(Box::new(unauthorized)).into());
        assert!(document["suggested_actions"][0].as_str().unwrap().contains("OTA_TOKEN_FILE"), "{document}");
    }

    #[test]
    fn what_cannot_move_gets_no_screen_and_a_question_that_nobody_would_see_is_not_asked() {
        let (mut out, seen) = Output::at_a_terminal(Format::Table);
        assert!(!out.opens_screen() && !out.is_watched());
        out.moves = true;
        assert!(out.opens_screen() && out.is_watched() && out.is_asked());
        // Standard error goes into a file.
        out.terminal = false;
        for asked in [
            crate::ask::yes(&mut out, "Sure?").map(drop),
            crate::ask::line(&mut out, "Why?", "--why").map(drop),
        ] {
            assert_eq!(asked.unwrap_err().exit().number(), 2);
        }
        assert_eq!(seen.messages(), "");
    }
}
