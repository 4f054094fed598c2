//! The commands, one file each: ask the gateway or `ota-release`, show the answer.

pub(crate) mod audit;
pub(crate) mod bandwidth;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod debug_bundle;
pub(crate) mod download;
mod embed;
pub(crate) mod explain;
pub(crate) mod factory_reset;
mod file;
pub(crate) mod inhibit;
pub(crate) mod inhibitors;
pub(crate) mod inspect;
pub(crate) mod install;
pub(crate) mod jobs;
pub(crate) mod judge;
pub(crate) mod keygen;
pub(crate) mod manual;
pub(crate) mod pause;
pub(crate) mod pin;
pub(crate) mod probe;
pub(crate) mod profile;
pub(crate) mod progress;
pub(crate) mod repo;
pub(crate) mod report;
pub(crate) mod rollback;
pub(crate) mod safety;
pub(crate) mod safety_override;
pub(crate) mod sign;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod upload;
pub(crate) mod verify;
pub(crate) mod watch;
pub(crate) mod windows;

use ota_client::Client;
use ota_core::Timestamp;

use crate::{
    cli::{Cli, Command},
    connect::{self, Connection, Environment},
    exit::Failure,
    follow::Pace,
    output::{Format, Output},
    profile::{Chosen, choose},
};

/// What every command is given.
pub(crate) struct Context {
    /// Where the gateway is.
    pub(crate) connection: Connection,
    /// What the environment says beside the options.
    pub(crate) environment: Environment,
    /// The profile that is in use.
    pub(crate) profile: Option<Chosen>,
    /// `-o` as the command line and the environment have it.
    pub(crate) typed_format: Option<Format>,
    /// Where results go.
    pub(crate) out: Output,
    /// The system clock when the program was started.
    pub(crate) now: Timestamp,
    /// How jobs are followed.
    pub(crate) pace: Pace,
}

impl Context {
    /// A client of the gateway.
    pub(crate) fn client(&mut self) -> Result<Client, Failure> {
        connect::client(&self.connection, &self.environment, self.profile.as_ref(), &mut self.out)
    }
}

/// Runs a command line: chooses the profile, makes the output, runs the command. The output comes back with the outcome, to say
/// what went wrong.
pub(crate) async fn start(
    cli: Cli,
    environment: Environment,
    output: impl FnOnce(Format) -> Output,
    now: Timestamp,
    pace: Pace,
) -> (Output, Result<(), Failure>) {
    let Cli { connection, format: typed_format, command } = cli;
    let chosen = if command.heeds_profile() { choose(&connection, &environment) } else { Ok(None) };
    let told = chosen.as_ref().ok().and_then(Option::as_ref).and_then(|chosen| chosen.profile.output);
    let out = output(typed_format.or(told).unwrap_or_default());
    let profile = match chosen {
        Ok(profile) => profile,
        Err(error) => return (out, Err(error.into())),
    };
    let mut context = Context { connection, environment, profile, typed_format, out, now, pace };
    let outcome = run(command, &mut context).await;
    (context.out, outcome)
}

/// Runs one command.
async fn run(command: Command, context: &mut Context) -> Result<(), Failure> {
    match command {
        Command::Status => status::run(context).await,
        Command::Check => check::run(context).await,
        Command::Download(args) => download::run(args, context).await,
        Command::Install(args) => install::run(args, context).await,
        Command::Progress(args) => progress::run(args, context).await,
        Command::Watch(args) => watch::run(args, context).await,
        Command::Top(args) => top::run(args, context).await,
        Command::Events(args) => probe::events(args, context).await,
        Command::Cancel(args) => cancel::run(args, context).await,
        Command::Pause(args) => pause::pause(args, context).await,
        Command::Resume(args) => pause::resume(args, context).await,
        Command::Confirm(args) => judge::confirm(args, context).await,
        Command::Reject(args) => judge::reject(args, context).await,
        Command::Jobs(args) => jobs::run(args, context).await,
        Command::Safety => safety::run(context).await,
        Command::Explain(args) => explain::run(args, context).await,
        Command::Inhibit(args) => inhibit::run(args, context).await,
        Command::Inhibitors(args) => inhibitors::run(args, context).await,
        Command::Windows(args) => windows::run(args, context).await,
        Command::Bandwidth(args) => bandwidth::run(args, context).await,
        Command::Upload(args) => upload::run(args, context).await,
        Command::Update(args) => update::run(args, context).await,
        Command::Rollback(args) => rollback::run(args, context).await,
        Command::FactoryReset(args) => factory_reset::run(args, context).await,
        Command::Snapshot(args) => snapshot::run(args, context).await,
        Command::Override(args) => safety_override::run(args, context).await,
        Command::Pin(args) => pin::run(args, context).await,
        Command::Audit(args) => audit::run(args, context).await,
        Command::Report(args) => report::run(args, context).await,
        Command::DebugBundle(args) => debug_bundle::run(args, context).await,
        Command::Health => probe::health(context).await,
        Command::Metrics => probe::metrics(context).await,
        Command::Openapi => probe::openapi(context).await,
        Command::Token(args) => token::run(args, context).await,
        Command::Profile(args) => profile::run(args, context),
        Command::Keygen(args) => keygen::run(args, context),
        Command::Sign(args) => sign::run(args, context),
        Command::Verify(args) => verify::run(args, context),
        Command::Inspect(args) => inspect::run(args, context),
        Command::Repo(args) => repo::run(args, context),
        Command::Completions(args) => completions::run(args, context),
        Command::Manual(args) => manual::run(&args, context),
    }
}
