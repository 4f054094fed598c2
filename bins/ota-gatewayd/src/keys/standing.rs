//! How the keys and revocation lists of the device stand: valid, expired, retired, allowed.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use ota_core::{
    Timestamp,
    ports::{Clock, Settings},
};
use ota_verify::{
    Keyring, KeyringVerifier,
    moment::Moment,
    policy::KeyRole,
    x509::{Anchor, Crl},
};

use super::{list_of, serial, strict};
use crate::{clock::SystemClock, config::Config};

/// One key or list as it stands.
pub(super) struct Row {
    pub(super) role: &'static str,
    pub(super) kind: &'static str,
    pub(super) fingerprint: String,
    pub(super) name: String,
    pub(super) state: Result<String, String>,
    pub(super) file: String,
}

/// All of them.
pub(super) struct Rows {
    pub(super) keys: Vec<Row>,
    pub(super) crls: Vec<Row>,
    pub(super) moment: String,
    /// Number of the key list; why it cannot be used.
    pub(super) list: Result<Option<u64>, String>,
}

pub(super) fn rows(config: &Config, settings: &Arc<dyn Settings>) -> anyhow::Result<Rows> {
    let clock: Arc<dyn Clock> =
        Arc::new(SystemClock::new(config.clock.trust, config.clock.synchronized_file.clone()));
    let verifier =
        KeyringVerifier::new(Keyring::load(&config.verify.keys)?, strict(config, &clock, settings));
    let moment = verifier.config().moment();
    let floor = serial(&**settings)?;
    let list = match list_of(config, &verifier, floor).map_err(|error| format!("{error:#}")) {
        Ok(None) if floor > 0 => Err(format!("list {floor} was accepted once, and there is none now")),
        other => other,
    };
    let nothing = BTreeSet::new();
    let retired = list.as_ref().ok().and_then(Option::as_ref).map_or(&nothing, |list| list.retired());
    let judge = Judge { config, moment, retired, crls: verifier.keyring().crls() };
    let anchors = verifier.keyring().anchors().iter().map(|anchor| judge.anchor(anchor));
    let openpgp = verifier.keyring().openpgp().iter().map(|key| Row {
        role: word(key.role()),
        kind: "openpgp",
        fingerprint: key.fingerprint(),
        name: key.name(),
        state: judge.allowed(key.role(), key.usable(moment, retired).map_err(|refusal| refusal.to_string())),
        file: shown(key.file()),
    });
    let keys = anchors.chain(openpgp).collect();
    let crls = judge.crls.iter().enumerate().map(|(index, crl)| judge.crl(index, crl)).collect();
    let list = list.as_ref().map(|list| list.as_ref().map(|list| list.serial())).map_err(Clone::clone);
    Ok(Rows { keys, crls, moment: moment.to_string(), list })
}

/// What keys and lists are held against.
struct Judge<'a> {
    config: &'a Config,
    moment: Moment,
    retired: &'a BTreeSet<String>,
    /// Newest first: of several of one CA the first one counts.
    crls: &'a [Crl],
}

impl Judge<'_> {
    fn anchor(&self, anchor: &Anchor) -> Row {
        let (from, until) = anchor.validity();
        let valid = match self.now() {
            _ if anchor.marks().iter().any(|mark| self.retired.contains(mark)) => {
                Err("retired by the key list".into())
            }
            now if now < from => Err(format!("not valid before {}", date(from))),
            now if now > until => Err(format!("expired at {}", date(until))),
            _ => self.crl_of(anchor).map(|()| format!("until {}", date(until))),
        };
        Row {
            role: word(anchor.role()),
            kind: "x509",
            fingerprint: anchor.fingerprint(),
            name: anchor.subject(),
            state: self.allowed(anchor.role(), valid),
            file: shown(anchor.file()),
        }
    }

    /// Where lists are required, one that has not run out must be there for each CA.
    fn crl_of(&self, anchor: &Anchor) -> Result<(), String> {
        if !self.config.verify.require_crl {
            return Ok(());
        }
        let subject = anchor.subject();
        match self.crls.iter().find(|crl| crl.issuer() == subject) {
            None => Err("no revocation list of it is here, and verify.require_crl asks for one".into()),
            Some(crl) => match crl.next().filter(|next| self.now() > *next) {
                None => Ok(()),
                Some(next) => Err(format!(
                    "its revocation list ran out at {}, and verify.require_crl asks for a current one",
                    date(next)
                )),
            },
        }
    }

    fn crl(&self, index: usize, crl: &Crl) -> Row {
        let newer = self.crls.iter().take(index).find(|newer| newer.issuer() == crl.issuer());
        let state = match (newer, crl.next()) {
            (Some(newer), _) => Ok(format!("replaced by the newer {}", shown(newer.file()))),
            (None, None) => Ok(format!("of {}, without an end", date(crl.made()))),
            (None, Some(next)) if self.now() <= next => {
                Ok(format!("of {}, until {}", date(crl.made()), date(next)))
            }
            (None, Some(next)) if self.config.verify.require_crl => Err(format!("ran out at {}", date(next))),
            (None, Some(next)) => Ok(format!("ran out at {}, still looked at", date(next))),
        };
        Row {
            role: "revoked",
            kind: "crl",
            fingerprint: crl.fingerprint().to_owned(),
            name: crl.issuer().to_owned(),
            state,
            file: shown(crl.file()),
        }
    }

    fn allowed(&self, role: KeyRole, valid: Result<String, String>) -> Result<String, String> {
        if valid.is_ok() && role == KeyRole::Development && !self.config.verify.development_keys {
            return Err("a development key, which verify.development_keys does not allow".into());
        }
        valid
    }

    fn now(&self) -> u64 {
        u64::try_from(self.moment.at.as_secs()).unwrap_or(0)
    }
}

const fn word(role: KeyRole) -> &'static str {
    match role {
        KeyRole::Release => "release",
        KeyRole::Development => "development",
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Seconds since 1970 as a date.
fn date(secs: u64) -> String {
    let at = Timestamp::from_secs(i64::try_from(secs).unwrap_or(i64::MAX));
    Moment::latest(at, true, at, None).to_string().chars().take(20).collect()
}
