//! `ota-admin inhibit -- COMMAND`: holds updates back while a command runs.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use ota_api::{inhibitors::InhibitRequest, words::Step};
use ota_client::Client;
use tokio::process::Child;

use super::Context;
use crate::{exit::Failure, output::Output};

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
    let ended = match start(&args.command) {
        Ok(child) => attend(child, &client, &request, &mut lease, &mut context.out).await,
        Err(error) => Err(error),
    };
    // Whatever became of the command: nobody holds updates back any more. A lease that cannot be given back runs out.
    if let Err(error) = client.release_inhibitor(lease).await {
        context.out.note(&format!("inhibitor {lease} was not given back: {}", error.chain()))?;
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

/// Waits for the command and renews the lease meanwhile. Ctrl-C reaches the command by the terminal; its end decides.
async fn attend(
    mut child: Child,
    client: &Client,
    request: &InhibitRequest,
    lease: &mut u64,
    out: &mut Output,
) -> Result<ExitStatus, Failure> {
    let mut renewals = tokio::time::interval(Duration::from_secs(request.ttl) / 2);
    renewals.tick().await;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status.context("waiting for the command")?),
            _ = tokio::signal::ctrl_c() => {}
            _ = renewals.tick() => renew(client, request, lease, out).await?,
        }
    }
}

/// After a restart of the gateway nobody knows the lease any more: then a new one is taken.
async fn renew(
    client: &Client,
    request: &InhibitRequest,
    lease: &mut u64,
    out: &mut Output,
) -> Result<(), Failure> {
    let renewal = InhibitRequest { id: Some(*lease), ttl: request.ttl, ..InhibitRequest::default() };
    let gone = match client.inhibit(&renewal).await {
        Ok(_) => return Ok(()),
        Err(error) if error.api().is_some_and(|api| api.status == 404) => client.inhibit(request).await,
        Err(error) => Err(error),
    };
    match gone {
        Ok(taken) => {
            *lease = taken.id;
            out.note("the gateway had let go of updates; they are held back again")
        }
        // The command matters more than the lease: it goes on, and the next renewal tries again.
        Err(error) => out.note(&format!("updates may not be held back any more: {}", error.chain())),
    }
}

/// As a shell has it: 128 and the number of the signal when one ended the command.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
