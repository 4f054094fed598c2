//! Pages of the book that are made and not written: the commands of both programs, as clap shows them, and the HTTP interface, as
//! its document says. A page that is stale fails; `cargo xtask pages` writes it.

use std::{fmt::Write as _, fs, process::Command};

use serde_json::Value;

use crate::world::{binary, root};

#[expect(clippy::disallowed_methods, reason = "who changes a page says so by the environment")]
fn compare(name: &str, made: &str) {
    let path = root().join("docs/reference").join(name);
    if std::env::var("OTA_BLESS").is_ok() {
        fs::write(&path, made).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == made, "docs/reference/{name} is stale: `cargo xtask pages` writes it");
}

/// The commands that a help text lists.
pub(crate) fn commands(help: &str) -> Vec<String> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| !line.is_empty());
    // A continued description is indented further.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn help(program: &str, path: &[String]) -> String {
    #[expect(clippy::disallowed_methods, reason = "the program says what it takes")]
    let mut command = Command::new(binary(program));
    command.args(path).arg("--help").env_clear();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{program} {path:?} --help");
    String::from_utf8(output.stdout).unwrap()
}

fn describe(program: &str, path: &[String], out: &mut String) {
    let text = help(program, path);
    let title = std::iter::once(program).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let level = "#".repeat(path.len() + 1);
    // What every command takes is shown once, with the program.
    let own = if path.is_empty() { text.as_str() } else { text.split("\nGlobal options:").next().unwrap() };
    let _ = writeln!(out, "{level} {title}\n\n```text\n{}\n```\n", own.trim_end());
    for name in commands(&text) {
        describe(program, &[path, &[name]].concat(), out);
    }
}

#[test]
fn the_pages_of_the_programs_are_what_they_say_of_themselves() {
    for program in ["ota-admin", "ota-gatewayd"] {
        let mut page = String::new();
        describe(program, &[], &mut page);
        let note = format!("Made from the program's own help; `man {program}` has the same.\n\n");
        let (title, rest) = page.split_once("\n\n").unwrap();
        compare(&format!("{program}.md"), &format!("{title}\n\n{note}{}\n", rest.trim_end()));
    }
}

/// `Name` of a reference, the type otherwise.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(all) = schema["oneOf"].as_array().or_else(|| schema["allOf"].as_array()) {
        let all: Vec<String> = all.iter().map(kind).filter(|kind| kind != "null").collect();
        return all.join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("`{word}`").replace('"', "")).collect::<Vec<_>>().join(", ");
    }
    match &schema["type"] {
        Value::String(word) if word == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(word) => word.clone(),
        Value::Array(listed) => {
            let kinds: Vec<&str> =
                listed.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect();
            match kinds.as_slice() {
                ["array"] => format!("list of {}", kind(&schema["items"])),
                kinds => kinds.join(" or "),
            }
        }
        _ => "any".into(),
    }
}

fn cell(text: &Value) -> String {
    text.as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

fn operation(out: &mut String, method: &str, path: &str, operation: &Value) {
    let _ = writeln!(out, "\n### {} `{path}`\n\n{}", method.to_uppercase(), cell(&operation["summary"]));
    if let Some(more) = operation["description"].as_str() {
        let _ = writeln!(out, "{}", more.replace('\n', " "));
    }
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        out.push_str("\n| parameter | in | takes | |\n|---|---|---|---|\n");
    }
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap();
        let name = if parameter["required"] == true { format!("**`{name}`**") } else { format!("`{name}`") };
        let (place, takes) = (cell(&parameter["in"]), kind(&parameter["schema"]));
        let _ = writeln!(out, "| {name} | {place} | {takes} | {} |", cell(&parameter["description"]));
    }
    for (media, body) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "\nBody (`{media}`): {}", kind(&body["schema"]));
    }
    out.push_str("\n| answer | body | |\n|---|---|---|\n");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        let bodies = answer["content"].as_object().into_iter().flatten();
        let bodies: Vec<String> = bodies.map(|(_, body)| kind(&body["schema"])).collect();
        let _ = writeln!(out, "| {status} | {} | {} |", bodies.join(" or "), cell(&answer["description"]));
    }
}

#[test]
fn the_page_of_the_interface_is_what_its_document_says() {
    let document = fs::read_to_string(root().join("docs/api/openapi.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut out = String::from(
        "# HTTP interface\n\nMade from [openapi.json](../api/openapi.json), which the gateway serves at `/openapi.json`, and rendered at `/docs`. \
         Errors, roles, formats and what the interface promises: [the contract](../design/api-contract.md).\n\n## Operations\n",
    );
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            operation(&mut out, method, path, described);
            operations += 1;
        }
    }
    assert!(operations > 40, "{operations}");
    out.push_str("\n## Types\n");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let _ = writeln!(out, "\n### {name}\n\n{}", cell(&schema["description"]));
        let Some(fields) = schema["properties"].as_object() else {
            let _ = writeln!(out, "\n{}", kind(schema));
            continue;
        };
        out.push_str("\n| field | type | |\n|---|---|---|\n");
        let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (field, value) in fields {
            let must = required.iter().any(|name| name == field);
            let name = if must { format!("**`{field}`**") } else { format!("`{field}`") };
            let _ = writeln!(out, "| {name} | {} | {} |", kind(value), cell(&value["description"]));
        }
    }
    compare("api.md", &out);
}
