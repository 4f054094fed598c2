//! The command line: global options and the list of commands. Arguments of a command stand in its own file.

use std::ffi::{OsStr, OsString};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum as _};

use crate::{cmd, connect::Connection, exit, output::Format};

/// Operates an OTA gateway and makes the releases that gateways take.
#[derive(Debug, Parser)]
#[command(name = "ota-admin", version, after_help = exit::TABLE, term_width = 100, propagate_version = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// How results are printed [default: table].
    // A name of its own: commands have a --format, and one name is one value to clap.
    #[arg(id = "output", short = 'o', long = "output", value_enum, global = true, env = "OTA_OUTPUT")]
    #[arg(help_heading = "Global options", hide_env_values = true)]
    pub(crate) format: Option<Format>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The command line, with what of it was typed told from what comes from the environment.
    pub(crate) fn read(
        words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let matches = without_empty(Self::command(), is_empty).try_get_matches_from(words)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.connection.trace(&matches);
        Ok(cli)
    }
}

/// The same command line with the variables that are empty left out: they count as absent, and clap would read their values.
fn without_empty(command: clap::Command, is_empty: impl Fn(&OsStr) -> bool) -> clap::Command {
    command.mut_args(|option| {
        let is_absent = option.get_env().is_some_and(&is_empty);
        if is_absent { option.env(None::<&str>) } else { option }
    })
}

/// The format that a command line asks for, also where it cannot be read as a whole; otherwise that of the environment.
pub(crate) fn format_in(words: &[OsString], variable: Option<&str>) -> Option<Format> {
    let typed = words.iter().map_while(|word| word.to_str()).take_while(|word| *word != "--");
    let mut format = variable;
    let mut is_value = false;
    for word in typed {
        if std::mem::replace(&mut is_value, false) {
            format = Some(word);
        } else if matches!(word, "-o" | "--output") {
            is_value = true;
        } else if let Some(value) = word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o")) {
            format = Some(value.trim_start_matches('='));
        }
    }
    format.and_then(|format| Format::from_str(format, false).ok())
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show versions, partitions, boot state and resources of the gateway.
    Status,
    /// Ask the update server for releases newer than the running version.
    Check,
    /// Start the download of an update.
    Download(cmd::download::Args),
    /// Install a downloaded update.
    Install(cmd::install::Args),
    /// Show how far a job is.
    Progress(cmd::progress::Args),
    /// Print events as they happen.
    Watch(cmd::watch::Args),
    /// Show the gateway on one live screen.
    Top(cmd::top::Args),
    /// Show the events that the gateway still has.
    Events(cmd::probe::Events),
    /// Cancel a job.
    Cancel(cmd::cancel::Args),
    /// Pause a download.
    Pause(cmd::pause::Args),
    /// Go on with a paused download.
    Resume(cmd::pause::Args),
    /// Judge the trial of a new version as good.
    Confirm(cmd::judge::Args),
    /// Judge the trial of a new version as bad: the previous one comes back.
    Reject(cmd::judge::Args),
    /// Show past and present jobs, or one in detail.
    Jobs(cmd::jobs::Args),
    /// Show the safety constraints and what they hold back.
    Safety,
    /// Tell what an update would do now, what holds it back, until when, and what to do.
    Explain(cmd::explain::Args),
    /// Hold updates back while a command runs.
    Inhibit(cmd::inhibit::Args),
    /// Show what people and programs hold updates back with, or give one back.
    Inhibitors(cmd::inhibitors::Args),
    /// Show when scheduled work may run, and when people are at the machine.
    Windows(cmd::windows::Args),
    /// Show or change how fast downloads may be.
    Bandwidth(cmd::bandwidth::Args),
    /// Send an image of your own, verify and deploy it.
    Upload(cmd::upload::Args),
    /// Update the gateway: check, download, install, reboot, until the new version is confirmed.
    Update(cmd::update::Args),
    /// Go back to the version in the other partition (needs the PIN).
    Rollback(cmd::rollback::Args),
    /// Erase all data and settings at the next boot (needs the PIN and a sentence).
    FactoryReset(cmd::factory_reset::Args),
    /// Save the settings, list what is saved, put it back.
    Snapshot(cmd::snapshot::Args),
    /// Switch the override of safety constraints on (needs the PIN) or off.
    Override(cmd::safety_override::Args),
    /// Set the PIN.
    Pin(cmd::pin::Args),
    /// Read, export and check the record of who did what.
    Audit(cmd::audit::Args),
    /// Report what became of updates, overrides and PIN failures, per period.
    Report(cmd::report::Args),
    /// Fetch logs, status, configuration and records of the gateway in one archive, without secrets.
    DebugBundle(cmd::debug_bundle::Args),
    /// Say whether the gateway answers and whether it can install.
    Health,
    /// Print the gateway's numbers as Prometheus reads them.
    Metrics,
    /// Print the OpenAPI document of the gateway.
    Openapi,
    /// Create, list and revoke access tokens.
    Token(cmd::token::Args),
    /// Keep gateways by name, so that --profile NAME says where one is and who asks.
    Profile(cmd::profile::Args),
    /// Make keys: a code-signing authority for images, or fresh keys of a repository.
    Keygen(cmd::keygen::Args),
    /// Sign an image; the signature is written beside it, or into it.
    Sign(cmd::sign::Args),
    /// Say what a device with these keys would say of an image, without a device.
    Verify(cmd::verify::Args),
    /// Show what an image file is: format, trailer, manifest, blocks. Checks no signature.
    Inspect(cmd::inspect::Args),
    /// Keep the signed repository that gateways update from.
    Repo(cmd::repo::Args),
    /// Print the completion script of a shell.
    Completions(cmd::completions::Args),
    /// Write the manual pages, for packages.
    #[command(hide = true)]
    Manual(cmd::manual::Args),
}

impl Command {
    /// Whether the command is run as a profile says. Those that keep the profiles are not, nor those that packages are built with.
    pub(crate) const fn heeds_profile(&self) -> bool {
        !matches!(self, Self::Profile(_) | Self::Completions(_) | Self::Manual(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_no_value_of_its_option_and_another_one_still_is() {
        let command = without_empty(Cli::command(), |name| name != "OTA_URL");
        let variables = command.get_arguments().filter_map(|option| option.get_env());
        assert_eq!(variables.collect::<Vec<_>>(), ["OTA_URL"]);
    }

    #[test]
    fn the_format_is_found_in_a_line_that_cannot_be_read() {
        let check = |line: &str, variable, expected| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(format_in(&words, variable), expected, "{line}");
        };
        check("ota-admin -o json download", None, Some(Format::Json));
        check("ota-admin download --output=jsonl", None, Some(Format::Jsonl));
        check("ota-admin -ojson statuss", None, Some(Format::Json));
        check("ota-admin statuss", Some("json"), Some(Format::Json));
        check("ota-admin -o table statuss", Some("json"), Some(Format::Table));
        check("ota-admin -o yaml status", None, None);
        check("ota-admin inhibit --fast -- jq -o json", None, None);
        check("ota-admin download", None, None);
    }
}
