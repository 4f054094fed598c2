//! Command line of the daemon: run it, check its configuration, local token management.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use ota_core::{ByteCount, Slot, Version, ports::Role};

use crate::{
    config::{Config, located},
    diagnostics::LogRing,
    init, keys, logs, sandbox, serve, tokens, user_data,
};

/// Over-the-air update daemon of an A/B gateway.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// Configuration file.
    #[arg(
        long,
        short,
        global = true,
        env = "OTA_GATEWAYD_CONFIG",
        default_value = "/etc/ota-gateway/gateway.toml"
    )]
    config: PathBuf,
    /// Print the OpenAPI document of the HTTP interface and exit.
    #[arg(long)]
    print_openapi: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default).
    Run,
    /// Read the configuration, say what is wrong with it, and exit.
    CheckConfig,
    /// Write a first configuration, with remarks, from options and, on a terminal, from questions.
    Init(Box<init::Args>),
    /// Print a drop-in of the systemd unit that opens what this configuration writes outside of its state folder.
    Sandbox,
    /// Manage API tokens on the device itself.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Record what the factory wrote to a slot, before the first start.
    Provision {
        /// A or B.
        #[arg(long)]
        slot: Slot,
        /// Version of the image in it.
        #[arg(long)]
        version: Version,
        /// Length of the image in bytes; so much of the slot is read for its digest.
        #[arg(long)]
        size: u64,
        /// The gateway starts from this slot.
        #[arg(long)]
        running: bool,
    },
    /// Try safety rules before they go live.
    Safety {
        #[command(subcommand)]
        command: SafetyCommand,
    },
    /// Write the manual pages, for packages.
    #[command(hide = true)]
    Manual {
        /// Folder for the pages; it must exist.
        dir: PathBuf,
    },
    /// Carry out, or take back, the factory reset that was asked for.
    FactoryReset(FactoryResetArgs),
    /// Show and check the keys that images are verified with.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Manage the PIN on the device itself.
    Pin {
        #[command(subcommand)]
        command: PinCommand,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
struct FactoryResetArgs {
    /// Erase what is configured, if it was asked for. Run before that is mounted: dist/systemd.
    #[arg(long, group = "what")]
    apply: bool,
    /// Take the order back, as long as nothing is erased; then restart the daemon.
    #[arg(long, group = "what")]
    cancel: bool,
    /// For tests: end as a power cut would, after so many durable steps.
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, requires = "apply")]
    cut_after: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum SafetyCommand {
    /// Replay a recorded sensor trace against the configured rules and print every change of a verdict.
    Simulate {
        /// JSON lines; docs/safety.md has the format, docs/safety/ two traces.
        #[arg(long)]
        trace: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Print every key: role, kind, fingerprint, name, how it stands, file.
    List,
    /// Fail when a key is expired, retired or not allowed, too few are left, or the key list cannot be used.
    Check,
}

#[derive(Debug, Subcommand)]
enum PinCommand {
    /// Set the PIN: asked for at a terminal, twice and without echo; otherwise a line of standard input, or a file. Ends a lock.
    Set {
        /// File that holds the PIN.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Accept the PIN of the documentation: for simulated devices only.
        #[arg(long)]
        documented: bool,
    },
    /// Forget failed tries and end a lock.
    Unlock,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token; it is printed once.
    Create {
        /// Its name, unique.
        #[arg(long)]
        name: String,
        /// viewer, operator or admin.
        #[arg(long, value_parser = parse_role)]
        role: Role,
        /// Days until it expires; without, it does not.
        #[arg(long)]
        days: Option<u32>,
    },
    /// List the tokens, without their secrets.
    List,
    /// Revoke a token.
    Revoke {
        /// Its name.
        #[arg(long)]
        name: String,
    },
}

fn parse_role(text: &str) -> Result<Role, String> {
    match text {
        "viewer" => Ok(Role::Viewer),
        "operator" => Ok(Role::Operator),
        "admin" => Ok(Role::Admin),
        other => Err(format!("{other:?} is no role; there are viewer, operator and admin")),
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.print_openapi {
        return say(&serve::openapi()?);
    }
    if let Some(Command::Manual { dir }) = args.command {
        let command = <Args as clap::CommandFactory>::command();
        return clap_mangen::generate_to(command, &dir)
            .with_context(|| format!("writing into {}", dir.display()));
    }
    if let Some(Command::Init(init)) = args.command {
        return say(&init::run(*init, &args.config)?);
    }
    let config = Config::load(&args.config)?;
    match args.command.unwrap_or(Command::Run) {
        Command::Run => {
            let ring = LogRing::default();
            logs::start(&config.log, &ring).map_err(|error| located(&args.config, error))?;
            ota_fetch::install_crypto_provider();
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .max_blocking_threads(16)
                .enable_all()
                .build()
                .context("starting the runtime")?
                .block_on(serve::serve(config, args.config.clone(), ring))
                .map_err(|error| located(&args.config, error))
        }
        Command::CheckConfig => {
            let warnings = crate::wire::dry_run(&config).map_err(|error| located(&args.config, error))?;
            warnings.iter().try_for_each(|warning| say(&format!("warning: {warning}")))?;
            say(&format!("{}: the configuration is good", args.config.display()))
        }
        Command::Provision { slot, version, size, running } => {
            let store = tokens::open(&config)?;
            say(&crate::provision::record(&config, &store, slot, version, ByteCount(size), running)?)
        }
        Command::Safety { command: SafetyCommand::Simulate { trace } } => simulate(&config, &trace),
        // Need no configuration: done above.
        Command::Manual { .. } | Command::Init(_) => Ok(()),
        Command::Sandbox => say(&sandbox::drop_in(&config)),
        Command::FactoryReset(args) => say(&factory_reset(&config, &args)?),
        Command::Keys { command } => {
            let settings = keys::settings(&config)?;
            match command {
                KeysCommand::List => say(&keys::list(&config, &settings)?),
                KeysCommand::Check => say(&keys::check(&config, &settings)?),
            }
        }
        Command::Pin { command } => pin(&config, &command),
        Command::Token { command } => {
            let store = tokens::open(&config)?;
            match command {
                TokenCommand::Create { name, role, days } => {
                    say(&tokens::create(&store, "cli", &name, role, days)?)
                }
                TokenCommand::List => say(&tokens::list(&store)?),
                TokenCommand::Revoke { name } => say(&tokens::revoke(&store, &name)?),
            }
        }
    }
}

fn factory_reset(config: &Config, args: &FactoryResetArgs) -> anyhow::Result<String> {
    if args.cancel {
        return user_data::cancel(config);
    }
    // So early in the boot the journal may not be there; what has to be done is done all the same.
    if let Err(error) = logs::start(&config.log, &LogRing::default()) {
        complain(&error);
    }
    #[cfg(debug_assertions)]
    let cut_after = args.cut_after;
    #[cfg(not(debug_assertions))]
    let cut_after = None;
    user_data::apply(config, cut_after)
}

fn simulate(config: &Config, trace: &std::path::Path) -> anyhow::Result<()> {
    let file = std::fs::File::open(trace).with_context(|| format!("opening {}", trace.display()))?;
    let changes = ota_safety::simulate::simulate(config.safety.clone(), std::io::BufReader::new(file))
        .with_context(|| trace.display().to_string())?;
    let lines: String = changes.iter().map(|change| format!("{change}\n")).collect();
    say(&lines)
}

fn pin(config: &Config, command: &PinCommand) -> anyhow::Result<()> {
    let store = tokens::open(config)?;
    match command {
        PinCommand::Set { file, documented } => {
            let pin = crate::pin::read(file.as_deref())?;
            // Before the audit says that it is set.
            ota_http::check_new_pin(&pin, *documented)?;
            tokens::note(&store, "auth.pin.set", "on the device")?;
            ota_http::set_pin_locally(&store, &pin, *documented)
                .map_err(|error| anyhow::anyhow!(error.chain()))?;
            say("the PIN is set")
        }
        PinCommand::Unlock => {
            tokens::note(&store, "auth.pin.unlock", "on the device")?;
            ota_http::unlock_pin_locally(&store)?;
            say("the PIN is unlocked")
        }
    }
}

/// To standard output, for people and scripts.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// To standard error, with the chain of causes.
pub(crate) fn complain(error: &anyhow::Error) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "ota-gatewayd: {error:#}");
}

#[cfg(test)]
mod tests {
    use ota_core::ports::AuditLog as _;

    use super::*;

    #[test]
    fn only_a_pin_that_can_be_one_is_in_the_audit_as_set() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::parse(&format!(
            "[gateway]\nname='g'\nmodel='M'\nserial='S'\n[slots]\na='/dev/a'\nb='/dev/b'\n[state]\ndir='{}'\n",
            dir.path().join("state").display()
        ))
        .unwrap();
        let file = dir.path().join("pin");
        let set = |text: &str| {
            std::fs::write(&file, text).unwrap();
            pin(&config, &PinCommand::Set { file: Some(file.clone()), documented: false })
        };
        let refused = set("1\n").unwrap_err().to_string();
        assert!(refused.contains("4 to 64 characters"), "{refused}");
        set("8305\n").unwrap();
        let records = tokens::open(&config).unwrap().records(0, 10).unwrap();
        let told: Vec<_> = records.iter().map(|record| record.entry.action.as_str()).collect();
        assert_eq!(told, ["auth.pin.set"]);
    }
}
