//! One key under two ids must not count twice towards a threshold. Ids are opaque, so the verifier cannot see it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sigstore_tuf::Error;

#[derive(Deserialize)]
struct File {
    signed: Signed,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    keys: BTreeMap<String, AKey>,
    #[serde(default)]
    roles: BTreeMap<String, Binding>,
    delegations: Option<Delegations>,
}

#[derive(Deserialize)]
struct Delegations {
    #[serde(default)]
    keys: BTreeMap<String, AKey>,
    #[serde(default)]
    roles: Vec<Binding>,
}

#[derive(Deserialize)]
struct Binding {
    #[serde(default)]
    keyids: BTreeSet<String>,
    #[serde(default)]
    threshold: u64,
}

#[derive(Deserialize)]
struct AKey {
    keyval: Value,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Value {
    public: String,
}

/// Refuses root or targets metadata in which a role that needs several signatures lists one key under several ids.
pub(crate) fn refuse(bytes: &[u8]) -> Result<(), Error> {
    // What does not have this shape is refused by the verifier, with a better word for it.
    let Ok(File { signed }) = serde_json::from_slice::<File>(bytes) else { return Ok(()) };
    for (name, role) in &signed.roles {
        distinct(&signed.keys, role, name)?;
    }
    for delegations in signed.delegations.iter() {
        for role in &delegations.roles {
            distinct(&delegations.keys, role, "delegated")?;
        }
    }
    Ok(())
}

fn distinct(keys: &BTreeMap<String, AKey>, role: &Binding, name: &str) -> Result<(), Error> {
    let known: Vec<_> =
        role.keyids.iter().filter_map(|id| keys.get(id)).map(|key| key.keyval.public.trim()).collect();
    let distinct: BTreeSet<_> = known.iter().collect();
    if role.threshold > 1 && distinct.len() < known.len() {
        return Err(Error::ThresholdNotMet {
            role: name.into(),
            found: distinct.len(),
            threshold: usize::try_from(role.threshold).unwrap_or(usize::MAX),
        });
    }
    Ok(())
}
