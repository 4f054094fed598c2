//! The documentation is a book whose links resolve, and whose commands are real: what stands in a `console` block is run on a
//! simulated device, what needs a board (`console board`) or runs for ever (`console demo`) is parsed by the real programs.
//!
//! Output that a page shows is not compared: it has times and numbers of its own.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    watching::root,
    world::{Offer, binary, device_with_pin, settings},
};

/// Pages outside of the book that people read first.
const BESIDE: [&str; 2] = ["README.md", "CONTRIBUTING.md"];

/// Pages with scripts that are run by tests of their own: `ota-verify`'s of the trailer.
const RUN_ELSEWHERE: [&str; 1] = ["docs/image-trailer.md"];

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

/// The text without its code.
fn prose(text: &str) -> String {
    let mut code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    });
    lines.map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join("`")).collect::<Vec<_>>().join("\n")
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

/// A block of commands.
struct Block {
    page: String,
    line: usize,
    /// What stands behind `console`.
    kind: String,
    commands: String,
}

fn blocks() -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    for page in BESIDE.iter().map(|page| (*page).to_owned()).chain(contents()) {
        let mut open: Option<Block> = None;
        for (number, line) in read(&page).lines().enumerate() {
            if let Some(block) = open.as_mut() {
                if line.starts_with("```") {
                    found.extend(open.take());
                } else if let Some(command) = line.strip_prefix("$ ") {
                    block.commands.push_str(command);
                    block.commands.push('\n');
                }
            } else if let Some(kind) = line.strip_prefix("```console") {
                let (page, kind) = (page.clone(), kind.trim().to_owned());
                open = Some(Block { page, line: number + 1, kind, commands: String::new() });
            } else {
                let shell = ["```sh", "```bash", "```shell"].iter().any(|fence| line.starts_with(fence));
                let elsewhere = RUN_ELSEWHERE.contains(&page.as_str()) || page.contains("docs/design");
                assert!(!shell || elsewhere, "{page}:{}: commands belong into a console block", number + 1);
            }
        }
    }
    found
}

fn bash(script: &str, folder: &Path, environment: &[(&str, PathBuf)]) -> Result<String, String> {
    #[expect(clippy::disallowed_methods, reason = "what people type is run as they do")]
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).current_dir(folder).stdin(Stdio::null());
    for (name, value) in environment {
        bash.env(name, value);
    }
    let output = bash.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_book_runs_on_a_simulated_device() {
    let device = device_with_pin(Offer::Good, settings()).await;
    let dir = device.layout.dir().to_path_buf();
    fs::write(device.layout.url(), format!("{}\n", device.api.url)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&device.release.image, folder.path().join("rootfs.squashfs")).unwrap();
    let programs = binary("ota-admin").parent().unwrap().to_path_buf();
    let environment = [
        ("OTA_URL", PathBuf::from(&device.api.url)),
        ("OTA_TOKEN_FILE", device.layout.admin_token()),
        ("OTA_GATEWAYD_CONFIG", device.layout.gateway_toml()),
    ];
    let run: Vec<Block> = blocks().into_iter().filter(|block| block.kind.is_empty()).collect();
    assert!(run.len() > 15, "the book shows few commands: {}", run.len());
    for block in run {
        // The folder of the documentation's gateway is the one of this device.
        let commands = block.commands.replace("/tmp/gw", &dir.display().to_string());
        let script = format!("set -eu\nPATH={}:$PATH\n{commands}", programs.display());
        let folder = folder.path().to_path_buf();
        let environment = environment.clone();
        let ended = tokio::task::spawn_blocking(move || bash(&script, &folder, &environment)).await.unwrap();
        assert!(ended.is_ok(), "{}:{}: {}\n{}", block.page, block.line, block.commands, ended.unwrap_err());
    }
}

/// Programs of the system that a page may show for a board.
const SYSTEM: &str = "systemctl journalctl fw_printenv fw_setenv dpkg mkdir printf age tar mdbook";

#[test]
fn every_command_for_a_board_is_one_that_the_programs_know() {
    let programs = binary("ota-admin").parent().unwrap().to_path_buf();
    // `--help` behind the words: clap has taken every word before it, or has refused one.
    let ours = format!(
        "ours() {{ local program=$1 words=(); shift; for word; do [ \"$word\" = -- ] && break; words+=(\"$word\"); done
         \"{0}/$program\" \"${{words[@]}}\" --help >/dev/null; }}
         ota-admin() {{ ours ota-admin \"$@\"; }}
         ota-gatewayd() {{ ours ota-gatewayd \"$@\"; }}
         cargo() {{ [ \"$1\" = xtask ] || return 1; shift; ours xtask \"$@\"; }}
         for program in {SYSTEM}; do eval \"$program() {{ :; }}\"; done
         PATH=\n",
        programs.display()
    );
    let folder = tempfile::tempdir().unwrap();
    for wrong in
        ["ota-admin statuss", "ota-admin update --fast", "cargo xtask dists", "ota-gatewayd pins", "nobody"]
    {
        assert!(bash(&format!("set -eu\n{ours}{wrong}"), folder.path(), &[]).is_err(), "{wrong} is taken");
    }
    let shown: Vec<Block> = blocks().into_iter().filter(|block| !block.kind.is_empty()).collect();
    assert!(shown.len() > 5, "{}", shown.len());
    for block in shown {
        assert!(
            ["board", "demo"].contains(&&*block.kind),
            "{}:{}: console {}",
            block.page,
            block.line,
            block.kind
        );
        for command in block.commands.lines() {
            // Nothing is written where the page says.
            let command = command.split(" > ").next().unwrap().replace(" && systemctl", "\nsystemctl");
            let ended = bash(&format!("set -eu -o pipefail\n{ours}{command}"), folder.path(), &[]);
            assert!(ended.is_ok(), "{}:{}: {command}\n{}", block.page, block.line, ended.unwrap_err());
        }
    }
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
    let help =
        bash(&format!("{}/xtask --help", binary("ota-admin").parent().unwrap().display()), &root(), &[]);
    for command in crate::reference::commands(&help.unwrap()) {
        assert!(
            contributing.contains(&format!("`cargo xtask {command}")),
            "CONTRIBUTING.md does not name {command}"
        );
    }
}
