//! The help texts, which are part of the interface.

use clap::CommandFactory as _;

use super::run;
use crate::cli::Cli;

fn help(path: &[&str]) -> String {
    let mut command = Cli::command();
    command.build();
    let mut at = &mut command;
    for name in path {
        at = at.find_subcommand_mut(name).unwrap_or_else(|| panic!("no command {name}"));
    }
    let text = at.render_help().to_string();
    // They are the same for every command, and shown once in the main help.
    let own = if path.is_empty() {
        text.as_str()
    } else {
        text.split("Global options:").next().unwrap_or_default()
    };
    own.trim_end().to_owned()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_format_of_a_file_is_not_the_format_of_the_output() {
    use clap::Parser as _;
    for words in ["report --file x --format csv", "audit export --file x --format csv"] {
        let all = ["ota-admin", "-o", "jsonl"].into_iter().chain(words.split(' '));
        assert_eq!(Cli::try_parse_from(all).unwrap().format, Some(crate::output::Format::Jsonl));
    }
}

#[test]
fn the_main_help_lists_commands_options_and_exit_codes() {
    insta::assert_snapshot!(help(&[]));
}

#[test]
fn the_help_of_every_command_is_as_it_was() {
    let mut all = String::new();
    let mut command = Cli::command();
    command.build();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        all.push_str(&format!("==== {}\n{}\n", sub.get_name(), help(&[sub.get_name()])));
        for inner in sub.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = [sub.get_name(), inner.get_name()];
            all.push_str(&format!("==== {}\n{}\n", path.join(" "), help(&path)));
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn the_page_of_the_command_line_names_every_command_and_exit_code() {
    let page = include_str!("../../../../docs/cli.md");
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("`{}", command.get_name());
        assert!(page.contains(&name), "docs/cli.md does not name {name}`");
    }
    let codes = crate::exit::TABLE.split_once('\n').unwrap().1;
    assert!(page.contains(codes), "docs/cli.md shows other exit codes");
}

/// Paths of the commands that have none below them.
fn leaves(command: &clap::Command, path: &[&str], all: &mut Vec<String>) {
    let mut below =
        command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help").peekable();
    if below.peek().is_none() {
        all.push(path.join(" "));
    }
    for sub in below {
        leaves(sub, &[path, &[sub.get_name()]].concat(), all);
    }
}

#[test]
fn the_page_says_of_every_command_what_programs_read_from_it() {
    let page = include_str!("../../../../docs/cli.md");
    let (_, table) = page.split_once("| with `-o jsonl` | lines | keys |\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let told: Vec<&str> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let mut all = Vec::new();
    leaves(&Cli::command(), &[], &mut all);
    assert!(all.len() > 50, "{all:?}");
    let is_told = |leaf: &&String| {
        told.iter().any(|command| {
            command.strip_prefix(leaf.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
    };
    let missing: Vec<&String> = all.iter().filter(|leaf| !is_told(leaf)).collect();
    assert!(missing.is_empty(), "docs/cli.md does not say what {missing:?} print");
}

#[test]
fn no_option_takes_a_pin_or_a_token_as_its_value() {
    fn check(command: &clap::Command) {
        for argument in command.get_arguments() {
            let name = argument.get_long().unwrap_or_default();
            let secret = ["pin", "token", "password", "secret"].contains(&name) || name == "new-pin";
            assert!(!secret, "{} --{name}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[tokio::test]
async fn completions_name_the_commands_in_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = run(&["completions", shell]).await;
        assert_eq!(run.exit, 0);
        assert!(run.out.contains("download") && run.out.contains("reboot-after"), "{shell}");
    }
}
