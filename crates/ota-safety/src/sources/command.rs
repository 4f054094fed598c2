//! A program that prints a value: the way in for everything without a module of its own.

use std::{path::PathBuf, process::Stdio, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use ota_core::ports::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
};

use super::{
    Env, Opened, Polled, Probe, Taken, check_period,
    payload::{self, JsonConfig, MAX_DOCUMENT},
};
use crate::{program::Group, reading::Fault};

/// A program and how often it is run. It gets no standard input, only `PATH` of the environment, and is killed with all that it
/// has started when it takes too long. Exit status 0 and a value on standard output, everything else is a fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Where the value stands, if the output is JSON.
    #[serde(default)]
    pub json: Option<JsonConfig>,
    /// Pause between two runs, default 1 s.
    #[serde(with = "duration", default = "default_every")]
    pub every: Duration,
    /// Longest run, default 2 s.
    #[serde(with = "duration", default = "default_timeout")]
    pub timeout: Duration,
}

fn default_every() -> Duration {
    Duration::from_secs(1)
}

fn default_timeout() -> Duration {
    Duration::from_secs(2)
}

impl CommandConfig {
    pub(super) fn source(&self, env: &Env) -> Result<Opened, String> {
        check_period(self.every, self.timeout)?;
        if !self.program.is_absolute() {
            return Err("program must be an absolute path".into());
        }
        let probe = CommandProbe { config: self.clone(), env: env.clone() };
        Ok(Polled { probe, every: self.every, timeout: self.timeout, back_off: false }.into())
    }
}

struct CommandProbe {
    config: CommandConfig,
    env: Env,
}

impl Probe for CommandProbe {
    fn read(&mut self) -> BoxFuture<'_, Result<Taken, Fault>> {
        Box::pin(async {
            let output = run(&self.config).await?;
            payload::decode(&output, self.config.json.as_ref(), self.env.clock.wall())
        })
    }
}

/// What the program prints, once it has ended well.
pub(super) async fn run(config: &CommandConfig) -> Result<Vec<u8>, Fault> {
    let failed = |error: std::io::Error| Fault::Unreadable(format!("{}: {error}", config.program.display()));
    let (mut child, group) = start(config).map_err(failed)?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let limit = u64::try_from(MAX_DOCUMENT + 1).unwrap_or(u64::MAX);
        stdout.take(limit).read_to_end(&mut output).await.map_err(failed)?;
    }
    if output.len() > MAX_DOCUMENT {
        return Err(Fault::TooLarge);
    }
    let status = child.wait().await.map_err(failed)?;
    group.ended();
    if status.success() {
        Ok(output)
    } else {
        Err(Fault::Unreadable(format!("{}: {status}", config.program.display())))
    }
}

#[expect(clippy::disallowed_methods, reason = "the operator configured this program as a sensor")]
fn start(config: &CommandConfig) -> std::io::Result<(Child, Group)> {
    let mut command = Command::new(&config.program);
    command
        .args(&config.args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Group::start(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reading::Value, sources::test_feed::one_sample};

    async fn run_shell(script: &str) -> Result<Value, Fault> {
        run_shell_for("20s", script).await
    }

    async fn run_shell_for(timeout: &str, script: &str) -> Result<Value, Fault> {
        let text = format!("program = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\ntimeout = {timeout:?}");
        let config: CommandConfig = toml::from_str(&text).unwrap();
        one_sample(|env| config.source(env)).await
    }

    #[tokio::test]
    async fn a_program_gives_the_value_it_prints() {
        assert_eq!(run_shell("echo 42.5").await, Ok(Value::Number(42.5)));
    }

    #[tokio::test]
    async fn a_program_that_fails_hangs_or_floods_is_a_fault() {
        assert!(matches!(run_shell("echo 1; exit 3").await, Err(Fault::Unreadable(_))));
        assert_eq!(run_shell_for("300ms", "exec sleep 60").await, Err(Fault::TimedOut));
        assert_eq!(run_shell("yes").await, Err(Fault::TooLarge));
        assert!(matches!(run_shell("true").await, Err(Fault::Malformed(_))));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_all_that_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! >{}; wait; echo 1", told.display());
        assert_eq!(run_shell_for("5s", &script).await, Err(Fault::TimedOut));
        let pid = std::fs::read_to_string(told).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        // Who inherits it may not wait for it: a dead one counts as gone.
        let runs = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let gone = async {
            while runs() {
                // tidy: waits for another process
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    }

    #[test]
    fn a_program_is_not_searched_for() {
        let config: CommandConfig = toml::from_str("program = \"sh\"").unwrap();
        assert!(config.source(&crate::sources::test_feed::env()).is_err());
    }
}
