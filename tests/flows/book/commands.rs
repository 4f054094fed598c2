//! The commands of the book are real: what stands in a `console` block is run on a simulated device, and what the page shows of its
//! output is in it; what needs a board (`console board`) is parsed by the real programs here and run by `cargo xtask package`; what
//! is the project's own (`console demo`) is run here unless CI is that command. What a sentence or a table names is the module
//! `inline`. No other place of a page may hold a command.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ota_tests::config::Settings;

use super::{BESIDE, contents, inline::THEIRS, read};
use crate::world::{Offer, PATIENCE, TestDevice, binary, device_with_pin, root, settings};

/// Pages with scripts that are run by tests of their own: `ota-verify`'s of the trailer.
const RUN_ELSEWHERE: [&str; 1] = ["docs/image-trailer.md"];

/// Languages of blocks that hold no command.
const NO_COMMANDS: [&str; 6] = ["text", "toml", "json", "yaml", "rust", ""];

/// What begins a line of a command that people type, beside [`THEIRS`].
const OURS: [&str; 4] = ["ota-admin", "ota-gatewayd", "ota-simdevice", "cargo"];

/// Programs of the system that a page may show for a board.
const SYSTEM: &str = "systemctl journalctl fw_printenv fw_setenv dpkg mkdir printf age tar mdbook grep";

/// Whether people would type this line into a shell. What the boot loader's page shows of `fdt` is a script of U-Boot, which a test
/// of its own looks at; `age = 1` is a setting.
fn is_typed(line: &str) -> bool {
    let Some((program, rest)) = line.trim_start().split_once(' ') else { return false };
    program != "fdt" && !rest.starts_with("= ") && OURS.iter().chain(&THEIRS).any(|typed| program == *typed)
}

/// A block of commands.
#[derive(Debug, Default)]
struct Block {
    page: String,
    line: usize,
    /// What stands behind `console`; of another block its language.
    kind: String,
    commands: String,
    /// Lines of output that the page shows.
    shown: Vec<String>,
}

/// The blocks of a page; `Err` names a line with a command that would not be run.
fn blocks_of(page: &str, text: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut open: Option<(Block, bool)> = None;
    for (number, line) in text.lines().enumerate() {
        let at = |what: &str| Err(format!("{page}:{}: {what}", number + 1));
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, None) => {}
            (_, Some(_)) if !line.starts_with("```") => return at("an indented block is not looked into"),
            (Some((_, commands)), Some(_)) => {
                let commands = *commands;
                found.extend(open.take().map(|(block, _)| block).filter(|_| commands));
            }
            (None, Some(language)) => {
                let console = language.strip_prefix("console").map(str::trim);
                let elsewhere = language == "sh" && RUN_ELSEWHERE.contains(&page);
                if console.is_none() && !elsewhere && !NO_COMMANDS.contains(&language) {
                    return at("commands belong into a console block");
                }
                let kind = console.unwrap_or(language).to_owned();
                let block = Block { page: page.to_owned(), line: number + 1, kind, ..Block::default() };
                open = Some((block, console.is_some()));
            }
            (Some((block, true)), None) => match line.strip_prefix("$ ") {
                Some(command) if command.ends_with('\\') => return at("a command is one line"),
                Some(command) => block.commands.push_str(&format!("{command}\n")),
                None => block.shown.push(line.to_owned()),
            },
            (Some((block, false)), None) => {
                if line.starts_with("$ ") || (is_typed(line) && block.kind != "sh") {
                    return at("commands belong into a console block");
                }
            }
        }
    }
    Ok(found)
}

/// Every command line of a block, of whatever kind.
pub(super) fn lines_of_blocks() -> Vec<String> {
    blocks().iter().flat_map(|block| block.commands.lines()).map(str::to_owned).collect()
}

/// The lines of the scripts that tests of their own run.
pub(super) fn lines_of_scripts() -> Vec<String> {
    let pages = RUN_ELSEWHERE.map(read);
    let scripts = pages.iter().flat_map(|page| page.split("```sh\n").skip(1));
    let lines = scripts.filter_map(|rest| rest.split("\n```").next()).flat_map(str::lines);
    lines.map(str::to_owned).collect()
}

fn blocks() -> Vec<Block> {
    let pages = BESIDE.iter().map(|page| (*page).to_owned()).chain(contents());
    pages.flat_map(|page| blocks_of(&page, &read(&page)).unwrap_or_else(|why| panic!("{why}"))).collect()
}

pub(super) fn bash(script: &str, folder: &Path, environment: &[(&str, PathBuf)]) -> Result<String, String> {
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

/// Where and with what blocks are run.
#[derive(Clone)]
pub(super) struct Shell {
    programs: PathBuf,
    folder: PathBuf,
    /// The folder of the documentation's gateway is this one.
    device: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Shell {
    /// With `device` as the gateway, in a folder that has its image.
    pub(super) fn at(device: &TestDevice, folder: &Path) -> Self {
        std::fs::write(device.layout.url(), format!("{}\n", device.api.url)).unwrap();
        std::fs::copy(&device.release.image, folder.join("rootfs.squashfs")).unwrap();
        Self {
            programs: binary("ota-admin").parent().unwrap().to_path_buf(),
            folder: folder.to_path_buf(),
            device: device.layout.dir().to_path_buf(),
            environment: vec![
                ("OTA_URL", PathBuf::from(&device.api.url)),
                ("OTA_TOKEN_FILE", device.layout.admin_token()),
                ("OTA_GATEWAYD_CONFIG", device.layout.gateway_toml()),
                ("HOME", folder.join("home")),
                ("BOOK", root().join("docs")),
            ],
        }
    }

    /// Runs commands up to the first that fails; gives what they said.
    pub(super) async fn script(&self, commands: &str) -> Result<String, String> {
        let commands = commands.replace("/tmp/gw", &self.device.display().to_string());
        let script = format!("set -eu -o pipefail\nPATH={}:$PATH\n{commands}", self.programs.display());
        let shell = self.clone();
        let run = move || bash(&script, &shell.folder, &shell.environment);
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    /// Runs a block as a person would who stops at the first failure; `Err` says what is wrong with it.
    async fn run(&self, block: &Block) -> Result<(), String> {
        if block.commands.contains("||") && block.shown.is_empty() {
            return Err("what is allowed to fail shows with what".to_owned());
        }
        let said = self.script(&block.commands).await?;
        let missing: Vec<&String> = block.shown.iter().filter(|line| !said.contains(*line)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} is not in\n{said}")) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_book_runs_on_a_simulated_device() {
    // Safety takes as long to settle as on the demo, whose reader may paste a block whole.
    let demo = Settings { debounce: Settings::new(0, 0).debounce, ..settings() };
    let device = device_with_pin(Offer::Good, demo).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("dist/u-boot/ota-boot.cmd"), folder.path().join("ota-boot.cmd")).unwrap();
    std::fs::write(folder.path().join("PRELUDE.cmd"), "setenv ota_dev mmc 0\n").unwrap();
    let shell = Shell::at(&device, folder.path());
    // The test of the test: what is wrong is noticed.
    for wrong in [
        "$ ota-admin statuss",
        "$ ota-admin status --fast",
        "$ ota-admin status\n$ nobody",
        "$ nobody | cat",
        "$ ota-admin jobs nothing | cat",
        "$ ota-admin install nothing || echo refused",
        "$ ota-admin install nothing || echo \"refused with $?\"\nrefused with 12",
        "$ ota-admin status\nanother-gateway",
        "$ cat /tmp/gw/nothing",
    ] {
        let page = format!("```console\n{wrong}\n```\n");
        let block = blocks_of("a page", &page).unwrap().remove(0);
        assert!(shell.run(&block).await.is_err(), "{wrong} is taken");
    }
    let run: Vec<Block> = blocks().into_iter().filter(|block| block.kind.is_empty()).collect();
    assert!(run.len() > 15, "the book shows few commands: {}", run.len());
    for block in run {
        let ended = shell.run(&block).await;
        assert!(ended.is_ok(), "{}:{}: {}\n{}", block.page, block.line, block.commands, ended.unwrap_err());
    }
}

/// Commands of the project that CI itself is made of: `cargo xtask ci` has them as steps.
const STEPS_OF_CI: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];

/// Ends the demo, and with its standard input the device that it runs.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_that_the_book_begins_with_comes_up_where_it_says_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = folder.path().join("gw");
    let demos = blocks().into_iter().filter(|block| block.kind == "demo");
    let commands: BTreeSet<String> =
        demos.flat_map(|block| block.commands.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let own: Vec<&String> = commands.iter().filter(|line| !STEPS_OF_CI.contains(&line.as_str())).collect();
    let [command] = own[..] else { panic!("one demo is run here: {own:?}") };
    let words = command.strip_prefix("cargo xtask ").unwrap();
    let words = words.replace("/tmp/gw", &gateway.display().to_string());
    // With the port that a table names, in a network of its own: here somebody else may have it.
    let start = format!("ip link set lo up; exec {} {words} --port 8080", binary("xtask").display());
    #[expect(clippy::disallowed_methods, reason = "what people type is run as they do")]
    let mut demo = Command::new("unshare");
    let demo = demo.args(["--net", "bash", "-euc", &start]).stdout(Stdio::null()).spawn().unwrap();
    let mut demo = Demo(demo);
    let token = gateway.join("admin.token");
    let ready = async {
        loop {
            assert!(demo.0.try_wait().unwrap().is_none(), "the demo has ended");
            let ask = format!(
                "nsenter --net --target {} curl -sf -H \"Authorization: Bearer $(cat {})\" http://127.0.0.1:8080/api/v1/ota/updates/check",
                demo.0.id(),
                token.display(),
            );
            if let Ok(said) =
                tokio::task::spawn_blocking(move || bash(&ask, Path::new("/"), &[])).await.unwrap()
            {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(200)).await; // tidy: waits for another process
        }
    };
    let said = tokio::time::timeout(2 * PATIENCE, ready).await.expect("the demo's gateway answers");
    assert!(said.contains("v5.0.5"), "{said}");
}

/// On the device of the part before, nothing would be on offer any more: above, the blocks of a page run on a fresh one.
#[test]
fn the_shell_part_of_the_quick_start_begins_with_a_device_that_is_made_afresh() {
    let page = "docs/quick-start.md";
    let text = read(page);
    let parts = text.split("\n## ").map(|part| blocks_of(page, part).unwrap());
    let with_blocks: Vec<Vec<Block>> = parts.filter(|blocks| !blocks.is_empty()).collect();
    let [gateway, shell] = &with_blocks[..] else { panic!("{with_blocks:#?}") };
    let start = &gateway[0];
    assert_eq!((start.kind.as_str(), start.commands.as_str()), (&*shell[0].kind, &*shell[0].commands));
    assert_eq!(start.kind, "demo");
    assert!(shell[1..].iter().all(|block| block.kind.is_empty()) && shell.len() > 3, "{shell:#?}");
}

#[test]
fn a_command_outside_of_a_console_block_is_found() {
    for hidden in [
        "```sh\nota-admin status\n```\n",
        "```bash\nota-admin status\n```\n",
        "```text\n$ ota-admin status\n```\n",
        "```\n$ ota-admin status\n```\n",
        "```text\nota-admin status\n```\n",
        "```yaml\n  systemd-escape --path /data\n```\n",
        "```\n  cargo xtask test\n```\n",
        "1. so:\n   ```console\n   $ ota-admin status\n   ```\n",
        "```console\n$ ota-admin status \\\n  -o json\n```\n",
    ] {
        assert!(blocks_of("a page", hidden).is_err(), "{hidden}");
    }
}

#[test]
fn what_the_boot_loaders_page_shows_of_its_version_is_what_the_emulated_machine_runs() {
    let page = read("dist/u-boot/README.md");
    let (_, rest) = page.split_once("```\nfdt move ").unwrap();
    let shown = format!("fdt move {}", rest.split("```").next().unwrap());
    // The address, and how it is saved, are those of that machine.
    let shown = shown.replace("ADDRESS", "0x8100000").replace("saveenv", "run ota_save");
    let script = read(super::BOOT_LOADER);
    let missing: Vec<&str> = shown.lines().filter(|line| !script.lines().any(|run| run == *line)).collect();
    assert!(missing.is_empty() && shown.lines().count() > 5, "{missing:?} is not in the script");
}

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
