//! Commands that stand in a sentence or a table: the programs know them, and each is run. By a block of the book, by `inline.sh` on
//! a simulated device, by `project.sh` in the checkout, or where [`ELSEWHERE`] says; those of the system also by the life of the
//! package, by a page's own script or by the boot loader of the emulated machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use super::{
    BESIDE, BOOT_LOADER,
    commands::{Shell, bash, lines_of_blocks, lines_of_scripts},
    contents, paragraphs, read,
};
use crate::world::{Offer, binary, device_with_pin, root, settings};

/// Commands that no block shows.
const SCRIPT: &str = include_str!("inline.sh");

/// Those of them that are for people who change the project.
const PROJECT: &str = include_str!("project.sh");

/// What runs the commands of the system, below a systemd.
const PACKAGE: &str = "xtask/src/package.sh";

/// Programs that are not ours (`fdt` and `wdt` are the boot loader's); their commands are compared word by word.
pub(super) const THEIRS: [&str; 29] = [
    "systemctl",
    "journalctl",
    "cargo test",
    "age",
    "apt-get",
    "chmod",
    "curl",
    "dd",
    "dpkg",
    "e2fsck",
    "env",
    "fdt",
    "fw_printenv",
    "fw_setenv",
    "gpg",
    "losetup",
    "mdbook",
    "mke2fs",
    "mkfs.ext4",
    "mkimage",
    "mosquitto_pub",
    "mount",
    "openssl",
    "promtool",
    "systemd-analyze",
    "systemd-escape",
    "tar",
    "timedatectl",
    "wdt",
];

/// Commands that are run by something else: the command, the file, and what in it runs them.
const ELSEWHERE: [(&str, &str, &str); 25] = [
    ("cargo xtask ci", ".ci/run", "cargo xtask ci"),
    ("cargo xtask layers", "xtask/src/ci.rs", "layers::run"),
    ("cargo xtask tidy", "xtask/src/ci.rs", "tidy::run"),
    ("cargo xtask deny", "xtask/src/ci.rs", "deny::run"),
    ("cargo xtask probe", "xtask/src/ci.rs", "probe::run"),
    ("cargo xtask openapi", "xtask/src/ci.rs", "openapi::run"),
    ("cargo xtask power-cut --report FILE", "xtask/src/power_cut.rs", "report: Some(page"),
    ("cargo xtask vm", "xtask/src/ci.rs", "vm::once"),
    ("cargo xtask browser --docs docs/img", "xtask/src/browser.rs", "[\"xtask\", \"browser\", \"--docs\"]"),
    ("cargo xtask package", "xtask/src/test.rs", "package::suite("),
    ("cargo xtask dist", "xtask/src/ci.rs", "dist::once"),
    ("cargo xtask demo --port 8080", "tests/flows/book/commands.rs", "{words} --port 8080\""),
    ("ota-gatewayd factory-reset --apply", "tests/src/machine.rs", "\"--apply\""),
    (
        "ota-simdevice image --release-version 5.0.7 --behaviour unhealthy FILE",
        "tests/browser/device.js",
        "['image', '--release-version', version, '--behaviour', behaviour, file]",
    ),
    ("ota-simdevice make --dir DIR --size 1", "tests/browser/device.js", "['make', '--dir', dir, '--size'"),
    (
        "ota-simdevice run --dir DIR --gatewayd PROGRAM --with-stdin --bytes-per-second 1 --countdown 1 --safety FILE",
        "tests/browser/device.js",
        "['run', '--safety', path.join(dir, 'windows.toml'), '--dir', dir, '--gatewayd'",
    ),
    ("ota-simdevice run --port 8080", "xtask/src/demo/device.rs", "command.arg(\"--port\")"),
    (
        "mdbook build docs",
        "tests/flows/book/rendered.rs",
        "command.arg(\"build\").arg(root().join(\"docs\"))",
    ),
    ("promtool check metrics", "tests/flows/watching.rs", "&[\"check\", \"metrics\"]"),
    ("promtool check rules", "tests/flows/watching.rs", "&[\"check\", \"rules\""),
    (
        "gpg --detach-sign --output \"$work/signature\" \"$work/manifest\"",
        "tests/flows/book/inline.sh",
        "-v gpg=\"$with_gpg\"",
    ),
    ("dd bs=1M oflag=direct conv=fsync", "xtask/src/bench/install.rs", "\"conv=fsync,notrunc\""),
    ("dd bs=1M iflag=direct", "xtask/src/bench/install.rs", "\"iflag=direct\""),
    ("dd conv=fsync", "tests/examples/bench_upload.rs", "\"conv=fsync\""),
    ("ota-gatewayd --print-openapi", "xtask/src/openapi.rs", "\"--print-openapi\""),
];

/// A command that a sentence names: the program, the words that lead to the command, the options.
type Mention = (&'static str, Vec<String>, BTreeSet<String>);

/// What a piece of code in a sentence says of a command; `create|list` of a program of ours is two.
fn mentions(code: &str) -> Vec<Mention> {
    // Of `OTA_URL=http://gateway ota-admin status` the command.
    let is_setting = |word: &str| {
        let name = word.split('=').next().unwrap_or_default();
        name != word && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    };
    let mut code = code;
    while let Some((_, rest)) = code.split_once(' ').filter(|(first, _)| is_setting(first)) {
        code = rest;
    }
    let programs = [
        ("ota-admin ", "ota-admin"),
        ("ota-gatewayd ", "ota-gatewayd"),
        ("ota-simdevice ", "ota-simdevice"),
        ("cargo xtask ", "xtask"),
    ];
    let Some((rest, program)) =
        programs.into_iter().find_map(|(start, program)| Some((code.strip_prefix(start)?, program)))
    else {
        // A name alone is no command, and what stands for another word ends what can be compared.
        let theirs = runs([code]).into_iter().filter(|run| THEIRS.contains(&run.program));
        let words = |run: Run| run.words.into_iter().take_while(|word| !stands_for(word)).collect::<Vec<_>>();
        return theirs
            .filter(|run| !run.words.is_empty())
            .map(|run| (run.program, words(run), BTreeSet::new()))
            .collect();
    };
    let is_word = |word: &&str| {
        word.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '|') && !word.starts_with('-')
    };
    let words: Vec<&str> = rest.split(' ').take_while(is_word).collect();
    let options: BTreeSet<String> = rest
        .split(|c: char| c.is_whitespace() || "[]=…".contains(c))
        .take_while(|word| *word != "--")
        .filter(|word| word.starts_with("--"))
        .map(str::to_owned)
        .collect();
    let mut paths = vec![Vec::new()];
    for word in words {
        paths = paths
            .into_iter()
            .flat_map(|path: Vec<String>| {
                word.split('|').map(move |one| [path.clone(), vec![one.to_owned()]].concat())
            })
            .collect();
    }
    paths.into_iter().map(|path| (program, path, options.clone())).collect()
}

/// Whether a word stands for another one: `FILE`, `DIR/fw_env.config`, `…`.
fn stands_for(word: &str) -> bool {
    let capitals = |part: &str| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase());
    word == "…" || word.split('/').any(capitals)
}

/// Why the programs do not know a command that is named.
fn unknown(
    (program, path, options): &Mention,
    helps: &mut BTreeMap<(&'static str, Vec<String>), Option<String>>,
) -> Option<String> {
    let key = (*program, path.clone());
    let help = helps.entry(key).or_insert_with(|| {
        #[expect(clippy::disallowed_methods, reason = "the program says what it takes")]
        let output = Command::new(binary(program)).args(path).arg("--help").env_clear().output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    });
    let Some(help) = help else { return Some(format!("{program} has no {path:?}")) };
    let takes = |option: &&String| {
        !help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == *option)
    };
    options.iter().find(takes).map(|option| format!("{program} {path:?} has no {option}"))
}

/// The pages that are not made from the programs' own words.
fn pages_by_hand() -> Vec<String> {
    let all = BESIDE.iter().map(|page| (*page).to_owned()).chain(contents());
    all.filter(|page| !page.starts_with("docs/reference/")).collect()
}

/// Pieces of code outside of blocks; those of the commands' own page say the program by their place.
fn named(page: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for paragraph in paragraphs(text) {
        found.extend(pieces(&paragraph));
        if page == "docs/cli.md" {
            found.extend(paragraph.lines().flat_map(of_a_row));
        }
    }
    found
}

/// Each piece of code, on one line.
fn pieces(text: &str) -> Vec<String> {
    let pieces = text.split('`').skip(1).step_by(2);
    pieces.map(|piece| piece.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The commands of a row, and the options that stand alone behind them, which are those of the first one.
fn of_a_row(line: &str) -> Vec<String> {
    if !line.starts_with("| `") || line.starts_with("| `-") {
        return Vec::new();
    }
    let (first, about) = line.split_once(" | ").unwrap_or((line, ""));
    let commands = pieces(first);
    let alone = pieces(about).into_iter().filter(|piece| piece.starts_with("--"));
    let alone = alone.map(|option| format!("{} {option}", commands[0]));
    alone.chain(commands.iter().cloned()).map(|command| format!("ota-admin {command}")).collect()
}

#[test]
fn every_command_that_a_sentence_names_is_one_that_the_programs_know() {
    let mut helps = BTreeMap::new();
    for wrong in
        ["ota-admin statuss", "ota-admin update --fast", "cargo xtask dists", "ota-gatewayd token create|lst"]
    {
        let found = mentions(wrong).iter().filter_map(|mention| unknown(mention, &mut helps)).count();
        assert_eq!(found, 1, "{wrong} is taken");
    }
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in pages_by_hand() {
        let all = named(&page, &read(&page));
        let mentions = all.iter().flat_map(|code| mentions(code));
        for mention in mentions.filter(|(program, ..)| !THEIRS.contains(program)) {
            seen += 1;
            wrong.extend(unknown(&mention, &mut helps).map(|why| format!("{page}: {why}")));
        }
    }
    assert!(wrong.is_empty() && seen > 150, "{seen} named: {wrong:#?}");
}

/// A command that is run: the program, its words without the options in front, its long options; of one of [`THEIRS`] all words.
#[derive(Clone)]
struct Run {
    program: &'static str,
    words: Vec<String>,
    options: BTreeSet<String>,
}

/// The commands of ours and [`THEIRS`] in lines of a shell.
fn runs<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Run> {
    let mut found = Vec::new();
    for line in lines.into_iter().filter(|line| !line.trim_start().starts_with('#')) {
        let line = line.replace("$(", " $( ").replace(')', " ) ");
        let words: Vec<&str> = line.split_whitespace().collect();
        found.extend((0..words.len()).filter_map(|at| run_at(&words[at..])));
    }
    found
}

/// The command that these words begin with.
fn run_at(words: &[&str]) -> Option<Run> {
    let (program, rest) = match words {
        ["ota-admin", rest @ ..] => ("ota-admin", rest),
        ["ota-gatewayd", rest @ ..] => ("ota-gatewayd", rest),
        ["ota-simdevice", rest @ ..] => ("ota-simdevice", rest),
        ["cargo", "xtask", rest @ ..] => ("xtask", rest),
        ["cargo", "test", rest @ ..] => ("cargo test", rest),
        [first, rest @ ..] => (THEIRS.into_iter().find(|program| program == first)?, rest),
        [] => return None,
    };
    let (mut depth, mut own) = (0_usize, Vec::new());
    for word in rest {
        match *word {
            "$(" => depth += 1,
            ")" if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            ")" | "|" | "||" | "&&" | ">" | ";" | "--" => break,
            word => own.push(word),
        }
    }
    if THEIRS.contains(&program) {
        // The ending of a service may be left out.
        let words = own.iter().map(|word| word.strip_suffix(".service").unwrap_or(word).to_owned()).collect();
        return Some(Run { program, words, options: BTreeSet::new() });
    }
    let long = own.iter().filter(|word| word.starts_with("--"));
    let options = long.map(|word| word.split('=').next().unwrap_or_default().to_owned()).collect();
    // Each of those in front of the command has a value.
    let in_front = 2 * own.iter().step_by(2).take_while(|word| word.starts_with('-')).count();
    let words = own.iter().skip(in_front).map(|word| (*word).to_owned()).collect();
    Some(Run { program, words, options })
}

/// What of a command that is named nobody runs; the help of each is asked for by the test above.
fn lacks((program, path, options): &Mention, all: &[Run]) -> Option<String> {
    let same: Vec<&Run> =
        all.iter().filter(|run| run.program == *program && run.words.starts_with(path)).collect();
    let name = format!("{program} {}", path.join(" "));
    if same.is_empty() {
        return Some(name);
    }
    let run = |option: &&String| *option != "--help" && !same.iter().any(|run| run.options.contains(*option));
    let missing: Vec<&str> = options.iter().filter(run).map(String::as_str).collect();
    (!missing.is_empty()).then(|| format!("{name} {}", missing.join(" ")))
}

#[test]
fn every_command_that_a_sentence_names_is_run() {
    // The test of the test.
    let some = runs([
        "echo 1 | ota-admin -o jsonl jobs --limit 1 | cat",
        "ends 6 ota-admin pause $(a --x) --y=2 # z",
        "[ \"$(in_root systemctl reload ota-gatewayd.service || true)\" = x ]",
        "    # systemctl stop ota-gatewayd",
        "journalctl -u ota-gatewayd -n 5",
        "in_root fw_printenv -c /srv/fw_env.config",
        "ota-simdevice make --dir /tmp/gw",
    ]);
    for (named, wanted) in [
        ("ota-admin jobs --limit", None),
        ("ota-admin jobs --offset", Some("ota-admin jobs --offset")),
        ("ota-admin pause JOB --y", None),
        ("ota-admin pause --x", Some("ota-admin pause --x")),
        ("ota-admin resume", Some("ota-admin resume")),
        ("ota-gatewayd jobs", Some("ota-gatewayd jobs")),
        ("systemctl reload ota-gatewayd", None),
        ("systemctl stop ota-gatewayd", Some("systemctl stop ota-gatewayd")),
        ("journalctl -u ota-gatewayd", None),
        ("journalctl -u another", Some("journalctl -u another")),
        ("A=1 cargo test -p a", Some("cargo test -p a")),
        ("fw_printenv -c DIR/fw_env.config", None),
        ("fw_printenv -n DIR", Some("fw_printenv -n")),
        ("ota-simdevice make --dir DIR [--size MIB]", Some("ota-simdevice make --size")),
        ("A=1 B= ota-admin resume", Some("ota-admin resume")),
    ] {
        assert_eq!(lacks(&mentions(named)[0], &some).as_deref(), wanted, "{named}");
    }
    for (command, file, how) in ELSEWHERE {
        let text = read(file);
        assert!(text.contains(how), "{file} does not run {command}");
    }
    let mut all = runs(SCRIPT.lines().chain(PROJECT.lines()));
    all.extend(runs(lines_of_blocks().iter().map(String::as_str)));
    let theirs = [read(PACKAGE), read(BOOT_LOADER), lines_of_scripts().join("\n")].join("\n");
    all.extend(runs(theirs.lines()).into_iter().filter(|run| THEIRS.contains(&run.program)));
    let mut named_by = BTreeMap::new();
    for page in pages_by_hand() {
        for mention in named(&page, &read(&page)).iter().flat_map(|code| mentions(code)) {
            named_by.entry(mention).or_insert_with(|| page.clone());
        }
    }
    let unrun = |told: &[&str]| {
        let mut with = runs(told.iter().copied());
        with.extend(all.iter().cloned());
        let lacking = named_by.iter().filter_map(|(mention, page)| Some((page, lacks(mention, &with)?)));
        lacking.map(|(page, lack)| format!("{page}: {lack}")).collect::<Vec<_>>()
    };
    let elsewhere = ELSEWHERE.map(|(command, ..)| command);
    let left = unrun(&elsewhere);
    assert!(left.is_empty() && named_by.len() > 100, "{} are named, nobody runs {left:#?}", named_by.len());
    // What the list says is still named, and run by nothing else.
    for command in elsewhere {
        let rest: Vec<&str> = elsewhere.into_iter().filter(|one| *one != command).collect();
        assert_ne!(unrun(&rest), left, "{command} is run, or not named any more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sentences_name_and_no_block_shows_runs_on_a_simulated_device() {
    let device = device_with_pin(Offer::Small, settings()).await;
    let folder = tempfile::tempdir().unwrap();
    fs::copy(device.release.signature(), folder.path().join("rootfs.squashfs.p7s")).unwrap();
    let ended = Shell::at(&device, folder.path()).script(SCRIPT).await;
    assert!(ended.is_ok(), "{}", ended.unwrap_err());
}

#[test]
fn what_the_book_names_for_those_who_change_the_project_runs_in_the_checkout() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("project.sh"), PROJECT).unwrap();
    let environment = [("XTASK", binary("xtask")), ("ROOT", root())];
    // The figures are of no interest here, and other tests run beside this one.
    let ended =
        bash("exec setsid --wait unshare --mount nice -n 19 bash project.sh", folder.path(), &environment);
    assert!(ended.is_ok(), "{}", ended.unwrap_err());
}
