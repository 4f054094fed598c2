//! What the daemon adds to a debug bundle: logs, boot environment, configuration, versions.
//!
//! Every text here is made without secrets; the server's last pass over the bundle is the second net, not the first.

mod process;
mod ring;
mod settings;

use std::{
    fs,
    io::Read as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::Context as _;
use ota_boot::UbootBootControl;
use ota_core::ports::Settings as _;
use ota_http::{Diagnostics, ProcessFigures, Secret};
use ota_store::SqliteStore;

pub(crate) use self::ring::LogRing;
use self::settings::Cleaned;

/// Most that is taken of the journal.
const JOURNAL_BYTES: u64 = 4 << 20;
/// Most that is taken of a small file.
const FILE_BYTES: u64 = 64 << 10;

/// Reads them when they are asked for.
pub(crate) struct DaemonDiagnostics {
    pub(crate) ring: LogRing,
    pub(crate) boot: Arc<UbootBootControl>,
    pub(crate) store: Arc<SqliteStore>,
    /// The configuration file; read again for a bundle, as it is now.
    pub(crate) config: PathBuf,
    /// Folder of the state, which holds the first token.
    pub(crate) state: PathBuf,
}

impl Diagnostics for DaemonDiagnostics {
    fn collect(&self, put: &mut dyn FnMut(&str, Result<String, String>) -> bool) {
        let config = Cleaned::read(&self.config).map(|cleaned| cleaned.text);
        let _ = put("versions.txt", Ok(versions()))
            && put("gateway.toml", config.map_err(|error| format!("{error:#}")))
            && put("boot-environment.txt", self.environment())
            && put("log.txt", Ok(self.ring.text()))
            && put("journal.txt", journal())
            && put("kernel-command-line.txt", small("/proc/cmdline"))
            && put("mounts.txt", small("/proc/self/mounts"))
            && put("memory.txt", small("/proc/meminfo"))
            && put("daemon.txt", small("/proc/self/status"));
    }

    fn process(&self) -> Option<ProcessFigures> {
        process::figures()
    }

    fn secrets(&self) -> Vec<Secret> {
        let mut secrets = Cleaned::read(&self.config).map(|cleaned| cleaned.secrets).unwrap_or_default();
        for file in ["admin.token", "tls.key"] {
            secrets.extend(fs::read_to_string(self.state.join(file)).map(|text| text.trim().to_owned()));
        }
        let hash = self.store.value("pin.hash").ok().flatten();
        secrets.extend(hash.map(|json| json.trim_matches('"').to_owned()));
        secrets.into_iter().map(Secret::from).collect()
    }
}

impl DaemonDiagnostics {
    /// The variables, one a line; those whose name says so without their value.
    fn environment(&self) -> Result<String, String> {
        let variables = self.boot.variables().map_err(|error| error.chain())?;
        Ok(variables.iter().map(|line| settings::clean_variable(line) + "\n").collect())
    }
}

fn versions() -> String {
    let release = small("/etc/os-release").unwrap_or_else(|why| why);
    let kernel = small("/proc/version").unwrap_or_else(|why| why);
    format!("ota-gatewayd {}\n{kernel}\n{release}", env!("CARGO_PKG_VERSION"))
}

fn small(path: &str) -> Result<String, String> {
    let read = || -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(|error| format!("{path}: {error}"))
}

/// What systemd's journal has of this service, earlier runs included; without a journal only [`LogRing`] tells.
fn journal() -> Result<String, String> {
    let read = || -> anyhow::Result<String> {
        #[expect(clippy::disallowed_methods, reason = "the owner of the journal's reader")]
        let mut child = Command::new("journalctl")
            .args([
                "--unit",
                "ota-gatewayd",
                "--lines",
                "20000",
                "--no-pager",
                "--quiet",
                "--output",
                "short-iso",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting journalctl")?;
        let mut bytes = Vec::new();
        if let Some(out) = child.stdout.take() {
            // The end is what matters; the number of lines keeps it near.
            out.take(JOURNAL_BYTES).read_to_end(&mut bytes)?;
        }
        let _ = child.kill();
        child.wait()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().map_err(|error| format!("{error:#}"))?;
    if text.is_empty() { Err("the journal has nothing of ota-gatewayd".into()) } else { Ok(text) }
}
