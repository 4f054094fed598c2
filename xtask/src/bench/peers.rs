//! Other installers on the same bytes: Debian's SWUpdate and RAUC.
//!
//! Owns how each is made to run without a system of its own: keys, package of the image, configuration, and for RAUC a
//! private message bus. One that cannot run here is a reason in the table, not a failure.

mod rauc;
mod swupdate;

use std::path::Path;

use anyhow::ensure;

use self::{rauc::Rauc, swupdate::Swupdate};
use super::{media::Medium, meter::Cost};
use crate::process;

/// An installer that can be started again and again.
trait Installer {
    /// Installs the image into the slot.
    fn install(&self, medium: &Medium) -> anyhow::Result<Cost>;
}

/// The outcome of one installer.
pub(super) struct Peer {
    /// As the table calls it.
    pub(super) name: &'static str,
    /// Its rounds, or why there are none.
    pub(super) runs: Result<Vec<Cost>, String>,
}

/// All of them.
pub(super) struct Peers(Vec<(Peer, Option<Box<dyn Installer>>)>);

impl Peers {
    /// Makes ready what is installed.
    pub(super) fn prepare(medium: &Medium) -> Self {
        let swupdate = Swupdate::prepare(medium).map(|s| Box::new(s) as Box<dyn Installer>);
        let rauc = Rauc::prepare(medium).map(|r| Box::new(r) as Box<dyn Installer>);
        let peer = |(name, made): (&'static str, anyhow::Result<Box<dyn Installer>>)| match made {
            Ok(installer) => (Peer { name, runs: Ok(Vec::new()) }, Some(installer)),
            Err(why) => (Peer { name, runs: Err(reason(&why)) }, None),
        };
        Self([("SWUpdate, raw handler", swupdate), ("RAUC, plain bundle", rauc)].map(peer).into())
    }

    /// One round of each.
    pub(super) fn round(&mut self, medium: &Medium) {
        for (peer, installer) in &mut self.0 {
            let (Some(program), Ok(runs)) = (installer.as_ref(), &mut peer.runs) else { continue };
            let outcome = medium.spoil().and_then(|()| program.install(medium));
            match outcome.and_then(|cost| medium.compare().map(|()| cost)) {
                Ok(cost) => runs.push(cost),
                Err(why) => {
                    peer.runs = Err(reason(&why));
                    *installer = None;
                }
            }
        }
    }

    /// Ends their services.
    pub(super) fn done(self) -> Vec<Peer> {
        self.0.into_iter().map(|(peer, _)| peer).collect()
    }
}

/// Installs them from Debian, unless they are there.
pub(super) fn install() -> anyhow::Result<()> {
    if ["swupdate", "rauc", "dbus-daemon", "mksquashfs"].iter().all(|program| process::installed(program)) {
        return Ok(());
    }
    crate::tools::apt(&["swupdate", "rauc", "dbus-daemon", "squashfs-tools"])
}

fn require(program: &str, package: &str) -> anyhow::Result<()> {
    ensure!(process::installed(program), "no {program} here; --peers installs Debian's package {package}");
    Ok(())
}

/// A key and its certificate, `key.pem` and `cert.pem` in `dir`.
fn keys(dir: &Path) -> anyhow::Result<()> {
    let mut openssl = process::command("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=bench"]);
    openssl.args(["-addext", "extendedKeyUsage=emailProtection,codeSigning", "-keyout", "key.pem"]);
    process::read(openssl.args(["-out", "cert.pem"]).current_dir(dir)).map(drop)
}

/// On one line, because it stands in a table.
fn reason(why: &anyhow::Error) -> String {
    let text = format!("{why:#}").replace('\n', " ").replace('|', "/");
    text.chars().take(300).collect()
}
