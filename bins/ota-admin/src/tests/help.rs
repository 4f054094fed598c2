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
