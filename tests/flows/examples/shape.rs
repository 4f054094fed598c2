//! Compares an answer with an example: every field there, of the same type, in the same format, with the same words.

use serde_json::Value;

/// Strings whose words are this device's and not the API's, with the reason.
const FREE: [(&str, &str, &str); 4] = [
    (
        "Error Response Format",
        "$.code",
        "api-contract.md: the number of the condition; the spec's word is in `name`",
    ),
    ("Error Response Format", "$.request_id", "any id of [A-Za-z0-9_-]{1,64}"),
    ("Message Types / Safety Alerts", "$.message", "the device's configuration has the sentence"),
    ("Message Types / Safety Alerts", "$.suggested_action", "the device's configuration has the sentence"),
];

/// A name, and what is written so.
type Format = (&'static str, fn(&str) -> bool);

/// How a string is written that stands for something.
const FORMATS: [Format; 9] = [
    ("an RFC 3339 time in UTC", time),
    ("HH:MM:SS", clock),
    ("a job id", |text| after(text, "OTA-JOB-").is_some_and(|id| id.len() >= 5 && id.chars().all(crockford))),
    ("a deployment id", |text| after(text, "DEP-").is_some_and(digits)),
    ("a version", |text| {
        after(text, "v").is_some_and(|rest| {
            rest.split('.').count() == 3 && rest.starts_with(|c: char| c.is_ascii_digit())
        })
    }),
    ("a SHA-256 digest", |text| {
        after(text, "sha256:").is_some_and(|hex| hex == "abc123..." || hex.len() == 64)
    }),
    ("a speed", |text| {
        text.strip_suffix("MB/s")
            .is_some_and(|n| n.split_once('.').is_some_and(|(a, b)| digits(a) && b.len() == 1 && digits(b)))
    }),
    ("megabytes", |text| text.strip_suffix("MB").is_some_and(|n| n.split('.').all(digits))),
    ("a duration in words", |text| {
        text.split(' ').all(|part| part.strip_suffix(['h', 'm', 's']).is_some_and(digits))
    }),
];

fn after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start)
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

fn crockford(c: char) -> bool {
    c.is_ascii_digit() || (c.is_ascii_uppercase() && !"ILOU".contains(c))
}

/// `2025-03-15T10:30:45Z`, digit for digit.
fn time(text: &str) -> bool {
    like(text, "0000-00-00T00:00:00Z")
}

fn clock(text: &str) -> bool {
    like(text, "00:00:00")
}

fn like(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.chars().zip(pattern.chars()).all(|(c, p)| if p == '0' { c.is_ascii_digit() } else { c == p })
}

/// How many values of `example` were compared, and in what `live` differs from them.
pub(super) fn differences(key: &str, example: &Value, live: &Value) -> (usize, Vec<String>) {
    let mut compared = Compared { key, fields: 0, wrong: Vec::new() };
    compared.value("$", example, live);
    (compared.fields, compared.wrong)
}

struct Compared<'a> {
    key: &'a str,
    fields: usize,
    wrong: Vec<String>,
}

impl Compared<'_> {
    fn value(&mut self, path: &str, example: &Value, live: &Value) {
        self.fields += 1;
        match (example, live) {
            (Value::Object(fields), Value::Object(ours)) => {
                for (name, value) in fields {
                    let path = format!("{path}.{name}");
                    match ours.get(name) {
                        Some(ours) => self.value(&path, value, ours),
                        None => self.wrong.push(format!("{path} is missing")),
                    }
                }
            }
            (Value::Array(items), Value::Array(ours)) if items.len() <= ours.len() => {
                for (n, (item, ours)) in items.iter().zip(ours).enumerate() {
                    self.value(&format!("{path}.{n}"), item, ours);
                }
            }
            (Value::String(text), Value::String(ours)) => self.text(path, text, ours),
            // A whole number may stand where a fraction is possible, not the other way round.
            (Value::Number(number), Value::Number(ours))
                if number.is_f64() || ours.is_u64() || percent(path) => {}
            (Value::Bool(flag), Value::Bool(ours)) if flag == ours => {}
            _ => self.wrong.push(format!("{path}: {live} instead of {example}")),
        }
    }

    fn text(&mut self, path: &str, example: &str, live: &str) {
        let free = FREE.iter().any(|(key, free, _)| *key == self.key && path == *free);
        let format = FORMATS.iter().find(|(_, is)| is(example));
        let partition = path.ends_with(".name")
            && self.key.starts_with("Get System Status")
            && path.contains(".partitions.");
        match format {
            Some((name, is)) if !is(live) => self.wrong.push(format!("{path}: {live:?} is not {name}")),
            Some(_) => {}
            None if partition && ["A", "B"].contains(&live) => {}
            None if free && !live.is_empty() => {}
            None if live == example => {}
            None => self.wrong.push(format!("{path}: {live:?} instead of {example:?}")),
        }
    }
}

/// The one number that the spec writes once as a whole one (85) and once not (65.5).
fn percent(path: &str) -> bool {
    path == "$.progress"
}

#[test]
fn a_missing_field_another_type_format_or_wording_is_a_difference() {
    use serde_json::json;
    let example = json!({"status": "started", "job_id": "OTA-JOB-8821X", "size": 452, "at": "2025-03-15T10:30:45Z", "ok": true});
    let wrong = |change: fn(&mut Value)| {
        let mut live = example.clone();
        change(&mut live);
        differences("Download Update / Response", &example, &live).1
    };
    assert!(wrong(|live| live["more"] = json!(1)).is_empty());
    assert!(wrong(|live| live["job_id"] = json!("OTA-JOB-00001")).is_empty());
    let changes: [fn(&mut Value); 6] = [
        |live| drop(live.as_object_mut().unwrap().remove("size")),
        |live| live["size"] = json!("452"),
        |live| live["size"] = json!(0.5),
        |live| live["at"] = json!("2025-03-15 10:30:45"),
        |live| live["status"] = json!("begun"),
        |live| live["job_id"] = json!(null),
    ];
    for change in changes {
        assert_eq!(wrong(change).len(), 1);
    }
}
