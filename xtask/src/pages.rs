//! `cargo xtask pages`: the pages and files that are made from the code and committed. Owns the names of the tests that compare
//! them; docs/api/openapi.json is [`openapi`]'s.

use anyhow::ensure;

use crate::{openapi, process};

/// Each compares pages with what the code makes of them, and writes them when it is asked to.
const TESTS: [&str; 6] = [
    // docs/job-states.md
    "the_document_is_what_the_function_does",
    // docs/reference/gateway.schema.json and configuration.md
    "the_committed_schema_is_the_one_that_the_types_have",
    "the_committed_page_describes_the_keys_that_the_types_have",
    // dist/config/gateway.toml
    "the_shipped_configuration_is_the_text_without_answers",
    // docs/reference: the two programs and the interface
    "the_pages_of_the_programs_are_what_they_say_of_themselves",
    "the_page_of_the_interface_is_what_its_document_says",
];

/// Writes all of them.
pub(crate) fn run() -> anyhow::Result<()> {
    openapi::run(&openapi::Args::default())?;
    println!("pages: building and running the tests that compare them");
    let mut tests = process::cargo();
    // The first `--` is the end of our own options.
    tests.args(["xtask", "test", "--", "--"]).args(TESTS).env("OTA_BLESS", "1");
    let told = process::read(&mut tests)?;
    let told = String::from_utf8_lossy(&told);
    for name in TESTS {
        ensure!(told.contains(&format!("{name} ... ok")), "no test is called {name}:\n{told}");
    }
    println!("pages: written; `git diff` shows what has changed");
    Ok(())
}
