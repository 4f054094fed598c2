//! `ota-admin inhibit -- COMMAND`: holds updates back while a command runs.

use std::{
    convert::Infallible,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal as ToCommand, kill},
    unistd::Pid,
};
use ota_api::{inhibitors::InhibitRequest, words::Step};
use ota_client::Client;
use tokio::{
    process::Child,
    signal::unix::{Signal, SignalKind, signal},
};

use super::Context;
use crate::{exit::Failure, output::Output};

/// Longest pause before a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Steps to hold back, separated by commas: download, write, switch, reboot, rollback, reset, deploy. All but the
    /// download when it is not given.
    #[arg(long, value_delimiter = ',', value_parser = step)]
    pub(crate) scope: Vec<Step>,
    /// Why, for the people who have to wait; the command when it is not given.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Who holds updates back, in words; the name of the token when it is not given.
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// Seconds after which the gateway lets go when this program does not renew in time, because it or the network died.
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub(crate) ttl: u64,
    /// The command, behind `--`; its exit code is the one of this program.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

fn step(text: &str) -> Result<Step, String> {
    let found = Step::ALL.iter().find(|step| step.as_str() == text).copied();
    found.ok_or_else(|| Step::ALL.iter().map(|step| step.as_str()).collect::<Vec<_>>().join(", "))
}

pub(crate) async fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let request = InhibitRequest {
        id: None,
        owner: args.owner.clone(),
        reason: Some(
            args.reason.clone().unwrap_or_else(|| args.command.join(" ").chars().take(200).collect()),
        ),
        scope: (!args.scope.is_empty()).then(|| args.scope.clone()),
        ttl: args.ttl,
    };
    let mut lease = client.inhibit(&request).await?.id;
    let started = Signals::listen().and_then(|signals| Ok((start(&args.command)?, signals)));
    let ended = match started {
        Ok((child, signals)) => {
            let keep = keep(&client, &request, &mut lease, &mut context.out);
            tokio::select! {
                ended = attend(child, signals) => ended,
                never = keep => match never {},
            }
        }
        Err(error) => Err(error),
    };
    // Whatever became of the command: nobody holds updates back any more. A lease that cannot be given back runs out, and the
    // command's exit code is ours also where that cannot be said.
    if let Err(error) = client.release_inhibitor(lease).await {
        let _ = context.out.note(&format!("inhibitor {lease} was not given back: {}", error.chain()));
    }
    match exit_code(ended?) {
        0 => Ok(()),
        code => Err(Failure::Command { code }),
    }
}

#[expect(clippy::disallowed_methods, reason = "running a command is what this command is for")]
fn start(command: &[String]) -> Result<Child, Failure> {
    let (program, args) =
        command.split_first().ok_or_else(|| Failure::Usage("no command is given".into()))?;
    let mut process = tokio::process::Command::new(program);
    process.args(args).stdin(Stdio::inherit());
    Ok(process.spawn().with_context(|| format!("starting {program}"))?)
}

/// What ends this program when nobody listens. Listened to before the command starts, so that none is lost.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).context("listening to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

/// Waits for the command, whose end decides. Ctrl-C reaches it by the terminal; other signals are passed on.
async fn attend(mut child: Child, mut signals: Signals) -> Result<ExitStatus, Failure> {
    loop {
        let passed_on = tokio::select! {
            status = child.wait() => return Ok(status.context("waiting for the command")?),
            _ = signals.interrupt.recv() => continue,
            _ = signals.terminate.recv() => ToCommand::SIGTERM,
            _ = signals.hang_up.recv() => ToCommand::SIGHUP,
        };
        // Not waited for yet, so the number is its own. It may just have ended: then the next round says so.
        if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(pid), passed_on);
        }
    }
}

/// Renews the lease for ever, also when nobody hears what is said: at a third of its time, so that one renewal may be lost and
/// there is time for more.
async fn keep(client: &Client, request: &InhibitRequest, lease: &mut u64, out: &mut Output) -> Infallible {
    let period = Duration::from_secs(request.ttl) / 3;
    let again = RETRY.min(period / 2);
    let (mut pause, mut lost) = (period, false);
    loop {
        tokio::time::sleep(pause).await;
        let renewed = tokio::time::timeout(period, renew(client, request, *lease)).await;
        let renewed = renewed.unwrap_or_else(|_| Err("no answer in time".into()));
        let said = match &renewed {
            Ok(id) if *id != *lease => {
                Some("the gateway had let go of updates; they are held back again".to_owned())
            }
            Ok(_) if lost => Some("updates are still held back".to_owned()),
            Ok(_) => None,
            // The command matters more than the lease: it goes on, and so do the renewals.
            Err(why) => (!lost).then(|| format!("updates may not be held back any more: {why}")),
        };
        (pause, lost) = if renewed.is_ok() { (period, false) } else { (again, true) };
        *lease = renewed.unwrap_or(*lease);
        if let Some(said) = said {
            let _ = out.note(&said);
        }
    }
}

/// The lease as it is now: after a restart of the gateway nobody knows the old one any more, and a new one is taken.
async fn renew(client: &Client, request: &InhibitRequest, lease: u64) -> Result<u64, String> {
    let renewal = InhibitRequest { id: Some(lease), ttl: request.ttl, ..InhibitRequest::default() };
    let held = match client.inhibit(&renewal).await {
        Err(error) if error.api().is_some_and(|api| api.status == 404) => client.inhibit(request).await,
        outcome => outcome,
    };
    held.map(|held| held.id).map_err(|error| error.chain())
}

/// As a shell has it: 128 and the number of the signal when one ended the command.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
