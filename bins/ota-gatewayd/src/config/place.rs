//! Where in the file a value stands that does not fit. What fits is decided by those who use the value.

use std::{fmt, fs, path::Path};

use anyhow::anyhow;
use ota_safety::{SafetyConfig, SafetyConfigError};
use toml::de::{DeTable, DeValue};

/// A value that does not fit: its key, `source[0].ca`, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Misfit {
    key: String,
    what: anyhow::Error,
}

impl Misfit {
    /// With what is wrong as a sentence that goes on from the key.
    pub(crate) fn new(key: impl Into<String>, what: impl fmt::Display) -> Self {
        Self { key: key.into(), what: anyhow!("{what}") }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:#}", self.key, self.what)
    }
}

impl std::error::Error for Misfit {}

/// Says the key of what failed.
pub(crate) trait AtKey<T> {
    /// The same with `key`.
    fn at_key(self, key: impl Into<String>) -> Result<T, Misfit>;
}

impl<T, E: Into<anyhow::Error>> AtKey<T> for Result<T, E> {
    fn at_key(self, key: impl Into<String>) -> Result<T, Misfit> {
        self.map_err(|what| Misfit { key: key.into(), what: what.into() })
    }
}

/// `Err` with `what` unless it holds.
pub(super) fn demand<W: fmt::Display>(
    holds: bool,
    key: impl Into<String>,
    what: impl FnOnce() -> W,
) -> Result<(), Misfit> {
    if holds { Ok(()) } else { Err(Misfit::new(key, what())) }
}

/// `path:line: key: what is wrong`; without the line where the file has nothing of the key.
pub(super) fn placed(path: &Path, text: &str, misfit: &Misfit) -> anyhow::Error {
    match line(text, &misfit.key) {
        Some(line) => anyhow!("{}:{line}: {misfit}", path.display()),
        None => anyhow!("{}: {misfit}", path.display()),
    }
}

/// Says where in the file at `path` the value stands that `error` is about, if it is about one.
pub(crate) fn located(path: &Path, error: anyhow::Error) -> anyhow::Error {
    match (error.downcast_ref::<Misfit>(), fs::read_to_string(path)) {
        (Some(misfit), Ok(text)) => placed(path, &text, misfit),
        _ => error,
    }
}

/// The line, from 1, on which a byte of the text stands.
pub(super) fn line_of(text: &str, byte: usize) -> usize {
    text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count() + 1
}

/// The line on which `key` begins, or the innermost of its tables that the file has.
fn line(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (mut table, mut found) = (document.get_ref(), None);
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((at, mut value)) = table.iter().find(|(at, _)| at.get_ref().as_ref() == name) else { break };
        found = Some(at.span().start);
        if let (Some(index), DeValue::Array(list)) = (index, value.get_ref()) {
            let Some(item) = list.get(index) else { break };
            found = Some(item.span().start);
            value = item;
        }
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    found.map(|byte| line_of(text, byte))
}

/// The key of what the rules, sources and windows of safety contradict themselves in.
pub(crate) fn in_safety(config: &SafetyConfig, error: SafetyConfigError) -> Misfit {
    let last = |names: Vec<&str>, wanted: &str| names.iter().rposition(|name| *name == wanted);
    let sources = || config.sources.iter().map(|source| source.name.as_str()).collect();
    let constraints = || config.constraints.iter().map(|constraint| constraint.name.as_str()).collect();
    let windows = || config.windows.iter().map(|window| window.name.as_str()).collect();
    let place = |list: &str, index: Option<usize>, field: &str| {
        index.map(|index| format!("safety.{list}[{index}]{field}"))
    };
    use SafetyConfigError::{
        BadConstraint, BadName, BadSource, BadWindow, DuplicateName, Outpaced, UnknownSource,
    };
    let key = match &error {
        BadName { name } | DuplicateName { name } => {
            // A list in which it stands twice, before one in which it stands.
            let often = |names: &Vec<&str>| names.iter().filter(|known| *known == name).count();
            let lists: [(&str, Vec<&str>); 3] =
                [("sources", sources()), ("constraints", constraints()), ("windows", windows())];
            let list = lists.into_iter().rev().max_by_key(|(_, names)| often(names));
            list.and_then(|(list, names)| place(list, last(names, name), ".name"))
        }
        UnknownSource { constraint, .. } => place("constraints", last(constraints(), constraint), ".source"),
        Outpaced { constraint, .. } => place("constraints", last(constraints(), constraint), ".max_age"),
        BadConstraint { constraint, .. } => place("constraints", last(constraints(), constraint), ""),
        BadSource { source_name, .. } => place("sources", last(sources(), source_name), ""),
        BadWindow { window, .. } => place("windows", last(windows(), window), ""),
    };
    Misfit { key: key.unwrap_or_else(|| "safety".into()), what: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A gateway.\n[gateway]\nname = 'g'\n\n[http.limits]\nconnections = 0\n\n[[source]]\nname = 'a'\n\n\
                        [[source]]\nname = 'b'\nca = '/nope'\npolicy = { normal = 'notify' }\n\n[health]\ncheck = [\n  { name = 'x' },\n  { name = 'y', \
                        timeout_seconds = 0 },\n]\n";

    #[test]
    fn a_key_is_found_on_its_line_and_one_that_is_not_there_on_that_of_its_table() {
        for (key, expected) in [
            ("gateway.name", Some(3)),
            ("http.limits.connections", Some(6)),
            ("http.limits.head_bytes", Some(5)),
            ("source[0].name", Some(9)),
            ("source[1].ca", Some(13)),
            ("source[1].policy.normal", Some(14)),
            ("source[1].proxy", Some(11)),
            ("source[7].ca", Some(8)),
            ("health.check[0].unit", Some(18)),
            ("health.check[1].timeout_seconds", Some(19)),
            ("slots.a", None),
        ] {
            assert_eq!(line(TEXT, key), expected, "{key}");
        }
    }

    #[test]
    fn what_safety_refuses_is_named_with_its_key() {
        let source = "[[sources]]\nname='s'\nfile={path='/f'}\n";
        let rule = "[[constraints]]\nname='c'\nsource='s'\ncondition={equals=1}\n";
        for (text, key) in [
            (format!("{source}{source}"), "safety.sources[1].name"),
            (source.replace("'s'", "'S!'"), "safety.sources[0].name"),
            (format!("{source}{rule}{rule}"), "safety.constraints[1].name"),
            (format!("{source}{rule}").replace("source='s'", "source='t'"), "safety.constraints[0].source"),
            (format!("{source}{rule}blocks=[]\n"), "safety.constraints[0]"),
        ] {
            let config: SafetyConfig = toml::from_str(&text).unwrap();
            let misfit = in_safety(&config, config.rules().unwrap_err());
            assert_eq!(misfit.key, key, "{misfit}");
        }
    }
}
