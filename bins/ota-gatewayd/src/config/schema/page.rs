//! The page that describes the configuration file: one heading for each table, one row for each key.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Described, Entry, RULES, Rule, tables};
use crate::config::schema::trace::Shape;

const HEAD: &str = "# Configuration reference

Every key of `/etc/ota-gateway/gateway.toml`. Made from the types that read the file, as is its
[JSON Schema](gateway.schema.json), which editors and CI can check a file with; `ota-gatewayd check-config` checks more: that keys can be read,
that rules fit together. `ota-gatewayd init` writes a first file, [operations.md](../operations.md) has a whole one.
An unknown key is an error everywhere. **Bold** keys must be there.
";

/// The whole page.
pub(super) fn page(all: &Described) -> String {
    let mut out = HEAD.to_owned();
    for (name, keys) in tables(&all.shape) {
        for entry in all.entries("", name, keys) {
            section(all, &mut out, 2, &entry);
        }
    }
    out
}

/// A table and those below it.
fn section(all: &Described, out: &mut String, level: usize, table: &Entry<'_>) {
    let list = matches!(table.key.shape, Shape::List(_));
    for (name, keys) in tables(&table.key.shape) {
        let place = if list { format!("{}[]", table.place) } else { table.place.clone() };
        let title = title(&table.place, list);
        let _ = writeln!(out, "\n{} {title}\n\n{}\n", "#".repeat(level.min(4)), table.text);
        if let Some((_, Rule::One(keys))) = RULES.iter().find(|(at, _)| *at == place) {
            let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            let _ = writeln!(out, "Exactly one of {}.\n", keys.join(", "));
        }
        let entries = all.entries(&place, name, keys);
        let (below, rows): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| tables(&entry.key.shape).next().is_some());
        if !rows.is_empty() {
            out.push_str("| key | takes | default | |\n|---|---|---|---|\n");
        }
        for entry in &rows {
            row(out, entry);
        }
        for entry in &below {
            section(all, out, level + 1, entry);
        }
    }
}

/// As it is written in the file; a table in a list is written inline.
fn title(place: &str, list: bool) -> String {
    let place = place.trim_end_matches("[]");
    match (place.contains("[]"), list) {
        (true, _) => {
            format!("`{}`", place.replace("[]", "").replace("safety.sources.", "[[safety.sources]] "))
        }
        (false, true) => format!("`[[{place}]]`"),
        (false, false) => format!("`[{place}]`"),
    }
}

fn row(out: &mut String, entry: &Entry<'_>) {
    let needed = RULES.iter().any(|(at, rule)| *at == entry.place && matches!(rule, Rule::Needed));
    let name = match entry.key.required || needed {
        true => format!("**`{}`**", entry.key.name),
        false => format!("`{}`", entry.key.name),
    };
    let default = match &entry.default {
        None => String::new(),
        Some(Value::Array(values)) if values.is_empty() => "none".into(),
        Some(value) => format!("`{value}`"),
    };
    let limits = RULES.iter().filter(|(at, _)| *at == entry.place).filter_map(|(_, rule)| match rule {
        Rule::Between(min, max) => Some(format!(", {min} to {max}")),
        Rule::AtLeast(min) => Some(format!(", at least {min}")),
        Rule::NotEmpty => Some(", not empty".into()),
        Rule::One(_) | Rule::Needed => None,
    });
    let takes = takes(&entry.key.shape, &entry.rust) + &limits.collect::<String>();
    let text = entry.text.replace('|', "\\|");
    let _ = writeln!(out, "| {name} | {takes} | {default} | {text} |");
}

fn takes(shape: &Shape, rust: &str) -> String {
    match shape {
        Shape::Table { .. } => "table".into(),
        Shape::List(each) => format!("list of {}", takes(each, rust)),
        Shape::Word { words, .. } => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Shape::Bool => "yes or no".into(),
        Shape::Integer { .. } => "whole number".into(),
        Shape::Number => "number".into(),
        Shape::Text("5s") => "duration".into(),
        Shape::Text("127.0.0.1:8080") => "address:port".into(),
        Shape::Text(_) if rust.contains("PathBuf") => "path".into(),
        Shape::Text(_) => "text".into(),
        Shape::Any(kinds) => kinds.iter().map(|kind| takes(kind, rust)).collect::<Vec<_>>().join(" or "),
    }
}
