//! The cases of x509-limbo that apply to a code signer; see `vectors/x509-limbo/README.md`.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use der::{DateTime, Decode as _};
use ota_core::Timestamp;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject as _};
use serde::Deserialize;
use x509_cert::Certificate;

use crate::{
    moment::Moment,
    policy::KeyRole,
    x509::{Anchor, Authority, Crl, EkuPolicy, X509Policy},
};

#[derive(Deserialize)]
struct Limbo {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    validation_time: Option<String>,
    expected_result: String,
    crls: Vec<String>,
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

impl Case {
    fn accepted(&self) -> Result<(), String> {
        let file = Path::new("limbo");
        let anchors: Vec<Anchor> = self
            .trusted_certs
            .iter()
            .filter_map(|pem| Anchor::from_der(der(pem).to_vec(), KeyRole::Release, file).ok())
            .collect();
        let crls = self.crls.iter().map(|pem| {
            let list = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap();
            Crl::from_der(&list, file)
        });
        let crls: Vec<Crl> = crls.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let time = self.validation_time.as_deref().unwrap_or("2025-01-01T00:00:00");
        let date: DateTime = format!("{}Z", &time[..19]).parse().unwrap();
        let at = Timestamp::from_secs(i64::try_from(date.unix_duration().as_secs()).unwrap());
        let authority = Authority {
            anchors: &anchors,
            crls: &crls,
            policy: X509Policy { extended_key_usage: EkuPolicy::Any, require_crl: false },
            moment: Moment::latest(at, true, Timestamp::from_secs(0), None),
        };
        let leaf = Certificate::from_der(&der(&self.peer_certificate)).map_err(|error| error.to_string())?;
        let others: Vec<CertificateDer<'_>> =
            self.untrusted_intermediates.iter().map(|pem| der(pem)).collect();
        authority.accept(&leaf, &others).map(drop).map_err(|refusal| refusal.what)
    }
}

/// Case and outcome here, with the reason behind it.
fn explained() -> BTreeMap<&'static str, &'static str> {
    let text = include_str!("../../vectors/x509-limbo/deviations.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").expect("CASE: what we do, because")).collect()
}

#[test]
fn every_case_of_x509_limbo_ends_as_published_or_is_explained() {
    let limbo: Limbo = serde_json::from_str(include_str!("../../vectors/x509-limbo/limbo.json")).unwrap();
    assert_eq!(limbo.testcases.len(), 148);
    let mut explained = explained();
    let mut unexplained = String::new();
    for case in &limbo.testcases {
        let outcome = case.accepted();
        let as_published = outcome.is_ok() == (case.expected_result == "SUCCESS");
        if !as_published && explained.remove(case.id.as_str()).is_none() {
            let _ = writeln!(unexplained, "{}: {outcome:?}, published {}", case.id, case.expected_result);
        }
    }
    assert!(unexplained.is_empty(), "not explained:\n{unexplained}");
    assert!(explained.is_empty(), "explained, but as published: {:?}", explained.keys());
}
