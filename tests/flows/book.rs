//! The documentation is a book: every page is in its contents, and every link leads somewhere, in the pages as they stand and in
//! what mdBook makes of them. Its commands are the modules `commands` and `inline`.

mod commands;
mod inline;
mod rendered;

use std::{collections::BTreeSet, fs, path::Path};

use crate::world::{binary, root};

/// Pages outside of the book that people read first.
const BESIDE: [&str; 4] = ["README.md", "CONTRIBUTING.md", "dist/u-boot/README.md", "fuzz/README.md"];

/// The prelude of the emulated machine's boot loader.
const BOOT_LOADER: &str = "tests/vm/env-raw-virtio.cmd";

/// Pages of the book, by path from the root of the workspace, in the order of the contents.
fn contents() -> Vec<String> {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    links(&summary).into_iter().filter(|link| !link.is_empty()).map(|link| format!("docs/{link}")).collect()
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// Every Markdown file below a folder.
fn pages(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "md") {
            found.insert(path.strip_prefix(root()).unwrap().display().to_string());
        }
    }
}

/// The text outside of blocks, a paragraph at a time: a piece of code may go over the end of a line, but not over that of a paragraph.
fn paragraphs(text: &str) -> Vec<String> {
    let (mut block, mut found) = (false, vec![String::new()]);
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        block ^= fence;
        if fence || line.trim().is_empty() {
            found.push(String::new());
        } else if !block && let Some(paragraph) = found.last_mut() {
            paragraph.push_str(line);
            paragraph.push('\n');
        }
    }
    found
}

/// The text without its code.
fn prose(text: &str) -> String {
    let without =
        paragraphs(text).into_iter().map(|part| part.split('`').step_by(2).collect::<Vec<_>>().join("`"));
    without.collect::<Vec<_>>().join("\n")
}

/// Targets of links and pictures.
fn links(text: &str) -> Vec<String> {
    let text = prose(text);
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link.to_owned())
        .collect()
}

/// The anchors of a page's headings, as mdBook and GitHub make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let slug = |line: &str| {
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

#[test]
fn every_page_is_in_the_contents_once_and_every_link_leads_somewhere() {
    let listed = contents();
    let mut there = BTreeSet::new();
    pages(&root().join("docs"), &mut there);
    there.remove("docs/SUMMARY.md");
    let mut beside = BTreeSet::new();
    for folder in ["dist", "fuzz"] {
        pages(&root().join(folder), &mut beside);
    }
    assert!(beside.iter().all(|page| BESIDE.contains(&page.as_str())), "{beside:?} are not all looked into");
    let named: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(named.len(), listed.len(), "a page twice in docs/SUMMARY.md");
    assert_eq!(named, there, "docs/SUMMARY.md and the pages differ");
    let mut broken = Vec::new();
    for page in listed.iter().map(String::as_str).chain(BESIDE) {
        let folder = root().join(page).parent().unwrap().to_path_buf();
        for link in links(&read(page)) {
            if link.starts_with("http") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if file.is_empty() { root().join(page) } else { folder.join(file) };
            let found = path.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&path).unwrap()).contains(anchor));
            if !found {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

#[test]
fn a_piece_of_code_ends_in_the_paragraph_that_it_begins_in() {
    assert_eq!(paragraphs("a `b\nc` d\n\n```text\n`\n```\ne\n").concat(), "a `b\nc` d\ne\n");
    for page in contents().iter().map(String::as_str).chain(BESIDE) {
        let open = paragraphs(&read(page)).into_iter().find(|part| part.matches('`').count() % 2 == 1);
        assert!(open.is_none(), "{page}: {}", open.unwrap_or_default());
    }
}

/// What a page sets in italic or bold, outside of code: the labels that people look for on the screen.
fn labels(text: &str) -> Vec<String> {
    let text = prose(text).replace("**", "*");
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.split('*').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_label_of_the_first_update_in_the_quick_start_is_on_the_dashboard() {
    let page = read("docs/quick-start.md");
    let (_, rest) = page.split_once("\n## 2. ").unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let folder = root().join("crates/ota-http/ui");
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let files: String = files.collect();
    let there = |label: &str| files.contains(&format!("'{label}'"));
    let missing: Vec<String> = labels(section).into_iter().filter(|label| !there(label)).collect();
    assert!(missing.is_empty(), "the dashboard has no {missing:?}");
    assert!(labels(section).len() >= 4 && !there("restart when it is done"));
}

#[test]
fn troubleshooting_has_cause_check_and_cure_of_every_code() {
    let page = read("docs/troubleshooting.md");
    for code in ota_core::ErrorCode::ALL {
        let heading = format!("\n## {code} {}\n", code.name());
        let (_, rest) = page.split_once(&heading).unwrap_or_else(|| panic!("no heading{heading}"));
        let section = rest.split("\n## ").next().unwrap();
        for word in ["**Cause.**", "**Check.**", "**Cure.**"] {
            assert!(section.contains(word), "{code} has no {word}");
        }
    }
}

/// The words that a `match` of this part of a source gives.
fn words_of(file: &str, start: &str) -> Vec<String> {
    let source = read(file);
    let (_, part) = source.split_once(start).unwrap_or_else(|| panic!("{file} has no {start:?}"));
    let part = part.split("\n    }\n").next().unwrap();
    let given = part.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
    given.map(str::to_owned).collect()
}

#[test]
fn troubleshooting_has_every_word_of_a_refusal_where_it_is_looked_for() {
    let page = read("docs/troubleshooting.md");
    let core = "crates/ota-core/src/error.rs";
    for (heading, file, start, least) in [
        ("OTA_006 ", core, "\nimpl SignatureFault {\n", 15),
        ("OTA_009 ", core, "\nimpl ServerFault {\n", 7),
        ("Refusals without ", "crates/ota-http/src/status.rs", "\nimpl Transport {\n", 11),
    ] {
        let (_, rest) = page.split_once(&format!("\n## {heading}")).unwrap();
        let section = rest.split("\n## ").next().unwrap();
        let words = words_of(file, start);
        assert!(words.len() >= least, "{start}: {words:?}");
        let missing: Vec<&String> =
            words.iter().filter(|word| !section.contains(&format!("`{word}`"))).collect();
        assert!(missing.is_empty(), "{heading}does not tell of {missing:?}");
    }
}

#[test]
fn readme_and_architecture_name_every_crate_program_and_command() {
    let architecture = read("docs/architecture.md");
    for place in ["crates", "bins"] {
        for entry in fs::read_dir(root().join(place)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(architecture.contains(&name), "docs/architecture.md does not name {name}");
        }
    }
    let contributing = read("CONTRIBUTING.md");
    let help = commands::bash(
        &format!("{}/xtask --help", binary("ota-admin").parent().unwrap().display()),
        &root(),
        &[],
    );
    for command in crate::reference::commands(&help.unwrap()) {
        assert!(
            contributing.contains(&format!("`cargo xtask {command}")),
            "CONTRIBUTING.md does not name {command}"
        );
    }
}
