//! The JSON Schema of the configuration file and the page that describes it, made from the types that read it.
//!
//! Which keys there are, what each takes, what must be there and what else is refused is found out by reading (`trace`); the
//! defaults are those that a reading fills in; the words about each key stand over its field in the sources (`remarks`). Rules
//! that types cannot say stand in [`RULES`], each of which `Config::check` has to know, too. Owns no rule of its own.

mod page;
mod remarks;
mod trace;

use std::{collections::BTreeMap, fs, path::PathBuf};

use ota_http::{Limits, SessionLimits};
use serde_json::{Map, Value, json};

use super::Config;
use remarks::Remarks;
use trace::{Key, Shape, below};

/// What types cannot say.
#[derive(Clone, Copy)]
enum Rule {
    /// A number within limits.
    Between(i64, i64),
    /// A number that is at least this.
    AtLeast(i64),
    /// A list that is not empty.
    NotEmpty,
    /// Exactly one of these keys of a table.
    One(&'static [&'static str]),
    /// A key that must be there, whatever the type says.
    Needed,
}

const KINDS: &[&str] = &["file", "command", "http", "mqtt", "modbus", "systemd", "system", "hwmon", "power"];

/// By place.
const RULES: &[(&str, Rule)] = &[
    ("boot.tries", Rule::Between(1, 3)),
    ("verify.threshold", Rule::AtLeast(1)),
    ("reboot.command", Rule::NotEmpty),
    ("snapshot.keep", Rule::AtLeast(1)),
    ("snapshot.max_bytes", Rule::AtLeast(1)),
    ("http.limits.connections", Rule::AtLeast(1)),
    ("http.limits.head_bytes", Rule::Between(1, 49_152)),
    ("http.client[]", Rule::One(&["common_name", "dns", "uri"])),
    ("health.check[]", Rule::One(&["unit", "http", "command"])),
    ("health.check[].timeout_seconds", Rule::AtLeast(1)),
    ("safety.sources[]", Rule::One(KINDS)),
    ("safety.sources[].name", Rule::Needed),
];

/// One key with all that is known about it.
struct Entry<'a> {
    /// From the root, `[]` behind a list: `safety.sources[].name`.
    place: String,
    key: &'a Key,
    text: String,
    rust: String,
    default: Option<Value>,
}

/// All that is known.
struct Described {
    shape: Shape,
    remarks: BTreeMap<String, Remarks>,
    defaults: Value,
}

impl Described {
    fn new() -> Self {
        let shape = trace::shape::<Config>();
        let config: Config = serde_json::from_value(sample(&shape)).expect("the sample is read");
        let defaults = serde_json::to_value(&config).expect("the configuration is written");
        Self { shape, remarks: remarks::read(), defaults }
    }

    /// The keys of the table at `place`.
    fn entries<'a>(&self, place: &str, name: &str, keys: &'a [Key]) -> Vec<Entry<'a>> {
        let remarks = self.remarks.get(name).unwrap_or_else(|| panic!("no source of the type {name}"));
        let entry = |key: &'a Key| {
            let place = below(place, key.name);
            let field = remarks.fields.get(key.name).cloned().unwrap_or_default();
            let table = tables(&key.shape).next().is_some();
            let text = match tables(&key.shape).next() {
                Some((name, _)) if field.text.is_empty() => {
                    self.remarks.get(name).map(|remarks| remarks.own.clone()).unwrap_or_default()
                }
                _ => field.text,
            };
            let known = || limit(&place).or_else(|| at(&self.defaults, &place));
            let default = if key.required || table { None } else { known() };
            Entry { place, key, text: plain(&text), rust: field.rust, default }
        };
        keys.iter().map(entry).collect()
    }
}

/// Remarks are written for rustdoc; links to items mean nothing to a reader of the file.
fn plain(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`")
}

/// The table of a shape, behind a list too.
fn tables(shape: &Shape) -> impl Iterator<Item = (&'static str, &[Key])> {
    let shape = match shape {
        Shape::List(each) => each,
        shape => shape,
    };
    let table = match shape {
        Shape::Table { name, keys, .. } => Some((*name, keys.as_slice())),
        _ => None,
    };
    table.into_iter()
}

/// A file with every table once and in them only what must be there, so that reading it fills in every default.
fn sample(shape: &Shape) -> Value {
    match shape {
        Shape::Table { keys, .. } => {
            let given = keys.iter().filter(|key| key.required || tables(&key.shape).next().is_some());
            Value::Object(given.map(|key| (key.name.to_owned(), sample(&key.shape))).collect())
        }
        Shape::List(each) => json!([sample(each)]),
        Shape::Word { words, .. } => json!(words[0]),
        Shape::Bool => json!(true),
        Shape::Integer { .. } => json!(1),
        Shape::Number => json!(1.5),
        Shape::Text(text) => json!(text),
        Shape::Any(kinds) => sample(&kinds[0]),
    }
}

/// What stands at a place.
fn at(value: &Value, place: &str) -> Option<Value> {
    let mut value = value;
    for part in place.split('.') {
        let name = part.trim_end_matches("[]");
        value = value.get(name)?;
        if part.ends_with("[]") {
            value = value.get(0)?;
        }
    }
    (!value.is_null()).then(|| value.clone())
}

/// The limits of the server, whose defaults are those of `ota-http`.
fn limit(place: &str) -> Option<Value> {
    let name = place.strip_prefix("http.limits.")?;
    let (limits, sessions) = (Limits::default(), SessionLimits::default());
    Some(match name {
        "head_bytes" => json!(limits.head_bytes),
        "head_seconds" => json!(limits.head_time.as_secs()),
        "silent_seconds" => json!(limits.silent_time.as_secs()),
        "json_bytes" => json!(limits.json_bytes),
        "json_depth" => json!(limits.json_depth),
        "body_seconds" => json!(limits.body_time.as_secs()),
        "uploads" => json!(limits.uploads),
        "upload_bytes_per_second" => json!(limits.upload_bytes_per_second),
        "upload_window_seconds" => json!(limits.upload_window.as_secs()),
        "connections" => json!(limits.connections),
        "connections_per_address" => json!(limits.connections_per_address),
        "websockets" => json!(limits.web_sockets),
        "websocket_queue" => json!(limits.ws_queue),
        "websocket_message_bytes" => json!(limits.ws_message_bytes),
        "websocket_ping_seconds" => json!(limits.ws_ping.as_secs()),
        "session_idle_seconds" => json!(sessions.idle.as_secs()),
        "session_seconds" => json!(sessions.absolute.as_secs()),
        other => panic!("http.limits.{other} has a default that this test does not know"),
    })
}

/// JSON Schema of a shape at a place.
fn schema(all: &Described, place: &str, shape: &Shape) -> Map<String, Value> {
    let mut out = match shape {
        Shape::Table { name, keys, closed } => table(all, place, name, keys, *closed),
        Shape::List(each) => {
            object(json!({"type": "array", "items": schema(all, &format!("{place}[]"), each)}))
        }
        Shape::Word { name, words } => {
            let remarks = all.remarks.get(*name).unwrap_or_else(|| panic!("no source of the type {name}"));
            let word = |word: &&str| match remarks.fields.get(*word) {
                Some(field) if !field.text.is_empty() => {
                    json!({"const": word, "description": plain(&field.text)})
                }
                _ => json!({"const": word}),
            };
            object(json!({"oneOf": words.iter().map(word).collect::<Vec<_>>()}))
        }
        Shape::Bool => object(json!({"type": "boolean"})),
        Shape::Integer { max } => match i64::try_from(*max) {
            Ok(max) => object(json!({"type": "integer", "minimum": 0, "maximum": max})),
            Err(_) => object(json!({"type": "integer", "minimum": 0})),
        },
        Shape::Number => object(json!({"type": "number"})),
        Shape::Text("text") => object(json!({"type": "string"})),
        Shape::Text(text) => object(json!({"type": "string", "examples": [text]})),
        Shape::Any(kinds) => {
            let kinds: Vec<Value> =
                kinds.iter().map(|kind| schema(all, place, kind)["type"].clone()).collect();
            object(json!({"type": kinds}))
        }
    };
    for (_, rule) in RULES.iter().filter(|(at, _)| *at == place) {
        match rule {
            Rule::Between(min, max) => out.extend(object(json!({"minimum": min, "maximum": max}))),
            Rule::AtLeast(min) => out.extend(object(json!({"minimum": min}))),
            Rule::NotEmpty => out.extend(object(json!({"minItems": 1}))),
            Rule::One(keys) => {
                let one = |key: &&str| json!({"required": [key]});
                out.insert("oneOf".into(), keys.iter().map(one).collect());
            }
            Rule::Needed => {}
        }
    }
    out
}

fn table(all: &Described, place: &str, name: &str, keys: &[Key], closed: bool) -> Map<String, Value> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for entry in all.entries(place, name, keys) {
        let mut schema = schema(all, &entry.place, &entry.key.shape);
        schema.insert("description".into(), json!(entry.text));
        if let Some(default) = &entry.default {
            schema.insert("default".into(), default.clone());
        }
        let needed = RULES.iter().any(|(at, rule)| *at == entry.place && matches!(rule, Rule::Needed));
        if entry.key.required || needed {
            required.push(entry.key.name);
        }
        properties.insert(entry.key.name.into(), Value::Object(schema));
    }
    let mut out = object(json!({"type": "object", "properties": properties}));
    if closed {
        out.insert("additionalProperties".into(), json!(false));
    }
    if !required.is_empty() {
        out.insert("required".into(), json!(required));
    }
    out
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// The whole document.
fn document(all: &Described) -> String {
    let mut out = object(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gateway.toml",
        "description": "Configuration of ota-gatewayd. Made from the types that read it; `ota-gatewayd check-config` says more.",
    }));
    out.extend(schema(all, "", &all.shape));
    serde_json::to_string_pretty(&out).unwrap() + "\n"
}

/// A file of the documentation.
fn kept(name: &str) -> PathBuf {
    PathBuf::from("../../docs").join(name)
}

#[expect(clippy::disallowed_methods, reason = "who changes the configuration says so by the environment")]
fn compare(name: &str, made: &str) {
    if std::env::var("OTA_BLESS").is_ok() {
        fs::create_dir_all(kept(name).parent().unwrap()).unwrap();
        fs::write(kept(name), made).unwrap();
    }
    let found = fs::read_to_string(kept(name)).unwrap_or_default();
    assert!(found == made, "docs/{name} is stale: `cargo xtask pages` writes it");
}

mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_the_one_that_the_types_have() {
        compare("reference/gateway.schema.json", &document(&Described::new()));
    }

    #[test]
    fn the_committed_page_describes_the_keys_that_the_types_have() {
        compare("reference/configuration.md", &page::page(&Described::new()));
    }

    #[test]
    fn every_key_and_every_table_of_the_file_is_described_in_the_sources() {
        fn walk(all: &Described, place: &str, shape: &Shape, silent: &mut Vec<String>) {
            for (name, keys) in tables(shape) {
                let place =
                    if matches!(shape, Shape::List(_)) { format!("{place}[]") } else { place.to_owned() };
                for entry in all.entries(&place, name, keys) {
                    if entry.text.is_empty() {
                        silent.push(entry.place.clone());
                    }
                    walk(all, &entry.place, &entry.key.shape, silent);
                }
            }
        }
        let (all, mut silent) = (Described::new(), Vec::new());
        walk(&all, "", &all.shape, &mut silent);
        assert!(silent.is_empty(), "no remark over: {}", silent.join(", "));
    }

    #[test]
    fn every_table_refuses_a_key_that_it_does_not_know() {
        fn walk(place: &str, shape: &Shape) {
            match shape {
                Shape::Table { closed, keys, .. } => {
                    assert!(*closed, "{place} takes any key");
                    keys.iter().for_each(|key| walk(&below(place, key.name), &key.shape));
                }
                Shape::List(each) => walk(place, each),
                _ => {}
            }
        }
        walk("", &trace::shape::<Config>());
    }

    /// The smallest file, with something else at a place.
    fn with(place: &str, value: &str) -> String {
        let minimal = "gateway = {name='g', model='M', serial='S'}\nslots = {a='/dev/a', b='/dev/b'}\n";
        match place.rsplit_once("[]") {
            Some((list, "")) => format!("{minimal}{list} = [{value}]\n"),
            // Of the lists with such a rule, this is all that their items need.
            Some((list, key)) => format!(
                "{minimal}{list} = [{{name='x', unit='u', {} = {value}}}]\n",
                key.trim_start_matches('.')
            ),
            _ => format!("{minimal}{place} = {value}\n"),
        }
    }

    #[test]
    fn every_rule_of_the_schema_is_one_of_the_daemon() {
        let (keys, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let good = |config: Config| {
            config.check().map_err(anyhow::Error::from)?;
            crate::wire::dry_run(&config).map(drop)
        };
        let parse = |text: &str| Config::parse(&format!("{text}verify.keys = '{}'\n", keys.path().display()));
        let refused = |text: String| match parse(&text) {
            Ok(config) => assert!(good(config).is_err(), "{text} is taken"),
            Err(error) => {
                assert!(error.contains("out of range") || error.contains("invalid"), "{text}: {error}");
            }
        };
        let taken =
            |text: String| good(parse(&text).unwrap()).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        for (place, rule) in RULES {
            match rule {
                Rule::Between(min, max) => {
                    for good in [min, max] {
                        taken(with(place, &good.to_string()));
                    }
                    refused(with(place, &(min - 1).to_string()));
                    refused(with(place, &(max + 1).to_string()));
                }
                Rule::AtLeast(min) => {
                    taken(with(place, &min.to_string()));
                    refused(with(place, &(min - 1).to_string()));
                }
                Rule::NotEmpty => refused(with(place, "[]")),
                Rule::One(_) | Rule::Needed => {}
            }
        }
        let made = ota_http::self_signed(&["gw".into()]).unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = files.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let (chain, key) = (file("tls.pem", &made.chain), file("tls.key", &made.key));
        let tls = format!("http.client_ca = '{chain}'\nhttp.certificate = '{chain}'\nhttp.key = '{key}'\n");
        for (list, none, two, one, more) in [
            (
                "http.client",
                "role='viewer'",
                "role='viewer', dns='x', uri='y'",
                "role='viewer', dns='x'",
                tls.as_str(),
            ),
            ("health.check", "name='x'", "name='x', unit='u', http='h'", "name='x', unit='u'", ""),
            (
                "safety.sources",
                "name='x'",
                "name='x', file={path='/f'}, systemd={unit='u'}",
                "name='x', file={path='/f'}",
                "",
            ),
        ] {
            let text = |inner: &str| with(&format!("{list}[]"), &format!("{{{inner}}}")) + more;
            taken(text(one));
            refused(text(none));
            refused(text(two));
        }
        refused(with("safety.sources[]", "{file={path='/f'}}"));
    }
}
