//! What the sources say about each type that is read from the file: the remarks over its fields and words, and their Rust types.

use std::{collections::BTreeMap, fs, path::Path};

/// Folders with types of the configuration, below the root of the workspace.
const PLACES: [&str; 4] =
    ["bins/ota-gatewayd/src/config", "crates/ota-safety/src", "crates/ota-http/src", "crates/ota-core/src"];

/// Of one type.
#[derive(Clone, Debug, Default)]
pub(super) struct Remarks {
    pub(super) own: String,
    pub(super) fields: BTreeMap<String, Field>,
}

/// Of one field or word.
#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    pub(super) text: String,
    /// Empty for a word.
    pub(super) rust: String,
}

/// By the name of the type.
pub(super) fn read() -> BTreeMap<String, Remarks> {
    let mut all = BTreeMap::new();
    let root = Path::new("../..");
    for place in PLACES {
        walk(&root.join(place), &mut all);
    }
    all
}

fn walk(dir: &Path, all: &mut BTreeMap<String, Remarks>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, all);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            scan(&fs::read_to_string(&path).unwrap(), all);
        }
    }
}

/// As rustfmt writes them: an attribute, a remark or a field to a line, the end of an item at the margin.
fn scan(source: &str, all: &mut BTreeMap<String, Remarks>) {
    let (mut text, mut attributes) = (String::new(), String::new());
    let mut within: Option<(String, Remarks, String)> = None;
    for line in source.lines() {
        let trimmed = line.trim();
        if let Some(remark) = trimmed.strip_prefix("///") {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(remark.trim());
            continue;
        }
        if trimmed.starts_with("#[") {
            attributes.push_str(trimmed);
            continue;
        }
        if let Some((name, mut remarks, case)) = within.take() {
            if line == "}" {
                all.insert(name, remarks);
            } else {
                if let Some((key, rust)) = member(trimmed, &attributes, &case) {
                    remarks.fields.insert(key, Field { text: std::mem::take(&mut text), rust });
                }
                within = Some((name, remarks, case));
            }
        } else if let Some(name) = opened(line).filter(|_| attributes.contains("Deserialize")) {
            let remarks = Remarks { own: std::mem::take(&mut text), fields: BTreeMap::new() };
            within = Some((name, remarks, value(&attributes, "rename_all").unwrap_or_default()));
        }
        text.clear();
        attributes.clear();
    }
}

/// The name of a type whose body begins on this line.
fn opened(line: &str) -> Option<String> {
    let rest = line.strip_suffix(" {")?;
    let rest = rest.strip_prefix("pub(crate) ").or_else(|| rest.strip_prefix("pub ")).unwrap_or(rest);
    let name = rest.strip_prefix("struct ").or_else(|| rest.strip_prefix("enum "))?;
    name.chars().all(char::is_alphanumeric).then(|| name.to_owned())
}

/// A field with its type, or a word of an enumeration as it is written in the file.
fn member(line: &str, attributes: &str, case: &str) -> Option<(String, String)> {
    let line = line.strip_suffix(',')?;
    let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
    let Some((name, rust)) = line.split_once(": ") else {
        let word = match case {
            "snake_case" => snake(line),
            "lowercase" => line.to_lowercase(),
            _ => line.to_owned(),
        };
        return Some((word, String::new()));
    };
    let name = value(attributes, "rename").unwrap_or_else(|| name.to_owned());
    Some((name, rust.to_owned()))
}

/// `word = "…"` among attributes.
fn value(attributes: &str, word: &str) -> Option<String> {
    let (_, rest) = attributes.split_once(&format!("{word} = \""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_uppercase() && index > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}
