//! What a source is told by the device's configuration, as parsed types. Reads no file and no environment.

use std::{path::PathBuf, time::Duration};

use ota_core::Timestamp;

use crate::{SpeedLimit, Staging, Url};

/// One TUF update source. Source: `update-sources.md` section 2.
#[derive(Clone, Debug)]
pub struct TufConfig {
    /// Name of the source, shown with its releases.
    pub name: String,
    /// Folder of the metadata: `https`, `http`, or `file` for repair in the field.
    pub metadata_url: Url,
    /// Folder of the target files.
    pub targets_url: Url,
    /// The root metadata that the firmware was shipped with (the file's bytes).
    pub initial_root: Vec<u8>,
    /// Model of this device; the manifest must name it.
    pub model: String,
    /// Channel to follow.
    pub channel: String,
    /// Identity for staged rollouts.
    pub device_id: String,
    /// Folder for trusted metadata and the time floor; created with mode 0700.
    pub store: PathBuf,
    /// Where images are staged.
    pub staging: Staging,
    /// Least time that any clock reading counts as: when this program was built.
    pub built: Timestamp,
    /// Certificates (PEM, one or more) of the only CAs that are trusted; the system's when absent.
    pub ca: Option<Vec<u8>>,
    /// Certificate for mutual TLS, shown to the configured origins only.
    pub client_cert: Option<ClientIdentity>,
    /// Headers such as `Authorization`, sent to the configured origins only.
    pub headers: Vec<(String, String)>,
    /// How to get out.
    pub proxy: Proxy,
    /// When a transfer counts as stalled.
    pub stall: StallPolicy,
    /// How long to try.
    pub retry: RetryPolicy,
    /// Shared handle on the download speed.
    pub speed: SpeedLimit,
}

impl TufConfig {
    /// Channel `stable`, no credentials, the system's CAs and proxy, default policies, no speed limit.
    #[must_use]
    pub fn new(
        metadata_url: Url,
        targets_url: Url,
        initial_root: Vec<u8>,
        model: &str,
        store: PathBuf,
        staging: Staging,
    ) -> Self {
        Self {
            name: "tuf".into(),
            metadata_url,
            targets_url,
            initial_root,
            model: model.into(),
            channel: "stable".into(),
            device_id: String::new(),
            store,
            staging,
            built: Timestamp::from_millis(0),
            ca: None,
            client_cert: None,
            headers: Vec::new(),
            proxy: Proxy::System,
            stall: StallPolicy::default(),
            retry: RetryPolicy::default(),
            speed: SpeedLimit::default(),
        }
    }
}

/// A client certificate.
#[derive(Clone)]
pub struct ClientIdentity {
    /// Private key and certificate chain, PEM, in one piece.
    pub pem: Vec<u8>,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientIdentity(***)")
    }
}

/// How to reach servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// As the environment of the daemon says (`HTTPS_PROXY`, `NO_PROXY` …).
    #[default]
    System,
    /// Never through a proxy.
    Direct,
    /// Through this one.
    Via(Url),
}

/// When a transfer is too slow to go on waiting. Time that our own speed limit or disk takes does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallPolicy {
    /// Least number of bytes a second, averaged over `window`.
    pub min_speed: u64,
    /// Over how long; also the longest wait for a first answer.
    pub window: Duration,
    /// Longest time for one metadata file.
    pub metadata: Duration,
    /// Longest time for a connection to come up.
    pub connect: Duration,
}

impl Default for StallPolicy {
    /// Below 1 kB/s for 60 s; 60 s a metadata file; 30 s to connect.
    fn default() -> Self {
        Self {
            min_speed: 1000,
            window: Duration::from_secs(60),
            metadata: Duration::from_secs(60),
            connect: Duration::from_secs(30),
        }
    }
}

/// How often and how far apart failed transfers are tried again. Delays double and carry up to as much again as jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// First delay.
    pub min_delay: Duration,
    /// Longest delay; a server's `Retry-After` counts up to this much, too.
    pub max_delay: Duration,
    /// How many tries of an image in a row may end without progress.
    pub tries: usize,
    /// The same for one metadata file.
    pub metadata_tries: usize,
}

impl Default for RetryPolicy {
    /// From 1 s to 5 min; 10 tries, 3 for metadata.
    fn default() -> Self {
        Self {
            min_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(300),
            tries: 10,
            metadata_tries: 3,
        }
    }
}
