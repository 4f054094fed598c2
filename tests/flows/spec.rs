//! The spec's pages as they were copied, and the blocks of code in them.

use std::{fs, path::Path};

use ota_core::Sha256Digest;

/// The pages, by file name.
pub(crate) const API: Page = Page { name: "ota-api.rst", text: include_str!("../spec/ota-api.rst") };
pub(crate) const EXAMPLES: Page = Page {
    name: "ota-examples-cloud-integration.rst",
    text: include_str!("../spec/ota-examples-cloud-integration.rst"),
};
pub(crate) const PAGES: [Page; 2] = [API, EXAMPLES];

/// One page of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) name: &'static str,
    text: &'static str,
}

/// A block of code, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) page: Page,
    /// Line of its first line, from 1.
    pub(crate) line: usize,
    /// The heading above it, `Download Update`.
    pub(crate) heading: String,
    /// The label above it, `Request`; empty when there is none since the heading.
    pub(crate) label: String,
    /// Method and path of the `http` directive it belongs to, `post /api/v1/ota/updates/download`.
    pub(crate) route: Option<String>,
    /// `json`, `python`, `javascript`, `http`, `bash`.
    pub(crate) language: String,
    pub(crate) code: String,
}

impl Block {
    /// Heading and label: what a block is known by, the same on both pages.
    pub(crate) fn key(&self) -> String {
        format!("{} / {}", self.heading, self.label).trim_end_matches(" / ").to_owned()
    }

    /// For messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{} ({})", self.page.name, self.line, self.key())
    }
}

impl Page {
    /// Its blocks, in order.
    pub(crate) fn blocks(self) -> Vec<Block> {
        let lines: Vec<&str> = self.text.lines().collect();
        let (mut heading, mut label, mut route) = (String::new(), String::new(), None);
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < lines.len() {
            let line = lines[at].trim();
            if let Some(title) = title(&lines, at) {
                (heading, label, route) = (title.to_owned(), String::new(), None);
            } else if let Some(named) = line.strip_prefix("**").and_then(|rest| rest.strip_suffix("**:")) {
                label = named.to_owned();
            } else if let Some((method, path)) =
                line.strip_prefix(".. http:").and_then(|rest| rest.split_once(":: "))
            {
                route = Some(format!("{method} {path}"));
            } else if let Some(language) = language(line) {
                let (first, code) = code(&lines, at);
                blocks.push(Block {
                    page: self,
                    line: first + 1,
                    heading: heading.clone(),
                    label: label.clone(),
                    route: route.clone(),
                    language: language.to_owned(),
                    code,
                });
                // What a block holds is neither heading nor label.
                at = first + blocks[blocks.len() - 1].code.lines().count();
                continue;
            }
            at += 1;
        }
        blocks
    }

    /// The program below a heading.
    pub(crate) fn program(self, heading: &str) -> Block {
        let found = self.blocks().into_iter().find(|block| block.heading == heading);
        found.unwrap_or_else(|| panic!("{} has no block below {heading:?}", self.name))
    }
}

/// `### Title`, or a title with a line under it.
fn title<'a>(lines: &[&'a str], at: usize) -> Option<&'a str> {
    let under = lines.get(at + 1).copied().unwrap_or_default();
    let lined = |mark: char| under.len() > 3 && under.chars().all(|c| c == mark);
    let text = lines[at];
    text.strip_prefix("### ").or_else(|| {
        (!text.is_empty() && !text.starts_with(' ') && ['=', '-', '~'].into_iter().any(lined)).then_some(text)
    })
}

fn language(line: &str) -> Option<&str> {
    line.strip_prefix(".. code-block:: ").or_else(|| line.strip_prefix(".. sourcecode:: "))
}

/// The first line of the block whose directive stands at `at`, and its text without the indentation.
fn code(lines: &[&str], at: usize) -> (usize, String) {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let first = (at + 1..lines.len()).find(|n| !lines[*n].trim().is_empty()).unwrap_or(lines.len());
    let depth = lines.get(first).map_or(0, |line| indent(line));
    assert!(depth > indent(lines[at]), "line {}: a directive without a block", at + 1);
    let block = lines[first..].iter().take_while(|line| line.trim().is_empty() || indent(line) >= depth);
    let text: Vec<&str> = block.map(|line| line.get(depth..).unwrap_or_default()).collect();
    (first, text.join("\n").trim_end().to_owned())
}

#[test]
fn the_copies_of_the_spec_are_what_was_copied() {
    let folder = Path::new("spec");
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let named: Vec<(&str, &str)> = sums.lines().map(|line| line.split_once("  ").unwrap()).collect();
    assert_eq!(named.len(), PAGES.len());
    for (page, (sum, name)) in PAGES.iter().zip(named) {
        assert_eq!((page.name, Sha256Digest::of(page.text.as_bytes()).to_string().as_str()), (name, sum));
    }
}

#[test]
fn every_block_of_the_spec_is_found() {
    let all = |page: Page| {
        page.text.matches(".. code-block::").count() + page.text.matches(".. sourcecode::").count()
    };
    for page in PAGES {
        assert_eq!(page.blocks().len(), all(page), "{}", page.name);
    }
    let languages =
        |page: Page, name: &str| page.blocks().iter().filter(|block| block.language == name).count();
    for page in PAGES {
        assert_eq!((languages(page, "python"), languages(page, "javascript")), (3, 2), "{}", page.name);
    }
    let first = &API.blocks()[0];
    assert_eq!(first.key(), "Check for Updates / Response");
    assert_eq!(first.route.as_deref(), Some("get /api/v1/ota/updates/check"));
    assert!(first.code.starts_with("{\n  \"available\": true,") && first.code.ends_with('}'));
}
