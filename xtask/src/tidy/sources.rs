//! Rules for one Rust file.

use std::path::Path;

use super::Source;

/// Longest file, in lines: beyond it a second subject has moved in.
const MAX_LINES: usize = 800;

/// Words that say "not done". Put together here so that this file does not hold them.
const UNFINISHED: [&str; 4] =
    [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("TO", "DO")];

/// A remark that lets a wait between two looks at a condition pass, where nothing can be awaited (other processes).
const WAIT_REMARK: &str = "tidy: waits";

/// The folder that a package was compiled in. Cargo takes what it compiled in one checkout for the next one with the same target
/// directory, so that a test would read, or write, the files of another checkout.
const COMPILED_IN: &str = concat!("CARGO_", "MANIFEST_DIR\")");

/// All complaints about one file.
pub(super) fn check(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let path = source.path.display();
    if !source.text.starts_with("//!") {
        complaints.push(format!("{path}: does not open with //! (what it owns, what it leaves to others)"));
    }
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        complaints.push(format!("{path}: {lines} lines, more than {MAX_LINES}; which subject can move out?"));
    }
    for (number, line) in source.text.lines().enumerate() {
        for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
            complaints.push(format!("{path}:{}: holds {word}", number + 1));
        }
        if line.contains(COMPILED_IN) {
            complaints.push(format!(
                "{path}:{}: asks where it was compiled; a test runs in the folder of its package, so that \
                 \"../..\" is the checkout",
                number + 1
            ));
        }
    }
    complaints.extend(sleeps(source).into_iter().map(|line| {
        format!("{path}:{line}: sleeps in a test; wait for a condition (or remark `// {WAIT_REMARK} for …`)")
    }));
    complaints
}

/// Line numbers of real waits in test code. Paused tokio time does not wait, so files that pause it are let pass.
fn sleeps(source: &Source) -> Vec<usize> {
    const PAUSED: [&str; 2] = ["start_paused = true", "time::pause()"];
    let lines: Vec<&str> = source.text.lines().collect();
    let paused = PAUSED.iter().any(|word| source.text.contains(word));
    let tests_from = if is_test_file(&source.path) { 0 } else { first_test_line(&lines) };
    let remarked = |at: usize| (at.saturating_sub(1)..=at).any(|n| lines[n].contains(WAIT_REMARK));
    let sleeping = |line: &str| {
        line.contains(concat!("thread::", "sleep("))
            || (!paused && line.contains(concat!("time::", "sleep(")))
    };
    (tests_from..lines.len()).filter(|&at| sleeping(lines[at]) && !remarked(at)).map(|at| at + 1).collect()
}

/// Where the test module of a file begins; one in a file of its own does not count here.
fn first_test_line(lines: &[&str]) -> usize {
    let inline =
        |pair: &[&str]| pair[0].trim() == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].contains('{');
    lines.windows(2).position(inline).unwrap_or(lines.len())
}

fn is_test_file(path: &Path) -> bool {
    path.starts_with("tests")
        || path.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> String {
        check(&Source { path: path.into(), text: text.into() }).join("\n")
    }

    #[test]
    fn a_file_without_a_heading_is_named() {
        assert!(complaints("crates/x/src/a.rs", "use std::fs;\n").contains("does not open with //!"));
        assert_eq!(complaints("crates/x/src/a.rs", "//! Fine.\n"), "");
    }

    #[test]
    fn a_word_for_unfinished_is_named_with_its_line() {
        let text = format!("//! Fine.\nfn f() {{ {} }}\n", concat!("todo", "!()"));
        assert!(complaints("a.rs", &text).contains("a.rs:2:"));
    }

    #[test]
    fn a_file_of_801_lines_is_too_long() {
        assert!(complaints("a.rs", &"//! Fine.\n".repeat(801)).contains("801 lines"));
        assert_eq!(complaints("a.rs", &"//! Fine.\n".repeat(800)), "");
    }

    #[test]
    fn a_path_that_was_fixed_when_it_was_compiled_is_named() {
        let text = format!("//! Fine.\nconst HERE: &str = env!(\"{COMPILED_IN};\n");
        assert!(complaints("a.rs", &text).contains("a.rs:2: asks where it was compiled"));
    }

    #[test]
    fn a_sleep_counts_in_test_code_only_and_not_with_a_remark() {
        let wait = concat!("std::thread::", "sleep(pause);");
        let code = format!("//! Fine.\nfn f() {{\n    {wait}\n}}\n");
        assert_eq!(complaints("crates/x/src/a.rs", &code), "");
        assert!(complaints("tests/src/flow.rs", &code).contains("sleeps in a test"));
        let unit = format!("//! Fine.\n#[cfg(test)]\nmod tests {{ fn f() {{ {wait} }} }}\n");
        assert!(complaints("crates/x/src/a.rs", &unit).contains("a.rs:3:"));
        let apart = format!("//! Fine.\n#[cfg(test)]\nmod tests;\nfn f() {{ {wait} }}\n");
        assert_eq!(complaints("crates/x/src/a.rs", &apart), "");
        let remarked = format!("//! Fine.\n// tidy: waits for the daemon's port\n{wait}\n");
        assert_eq!(complaints("tests/src/flow.rs", &remarked), "");
    }
}
