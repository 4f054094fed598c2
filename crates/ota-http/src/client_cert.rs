//! Client certificates: which name and role a verified one has.
//!
//! That the chain holds is rustls' work, done in the handshake; here only what stands in the certificate is looked up.
//! The configuration lists who may do what; a certificate that it does not list proves nothing beyond the connection.

use ota_core::ports::Role;
use rustls_pki_types::CertificateDer;
use x509_cert::{
    Certificate,
    der::{
        Decode as _, asn1::Ia5StringRef, asn1::PrintableStringRef, asn1::Utf8StringRef, oid::ObjectIdentifier,
    },
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// `commonName`. Source: RFC 5280, appendix A.1.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Who may do what with a client certificate. The first entry that fits counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCerts {
    /// The entries, in the order in which they are tried.
    pub entries: Vec<ClientCert>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// What a certificate must carry.
    pub subject: ClientSubject,
    /// Name in the audit, behind `cert:`.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
}

/// What a certificate must carry, compared byte by byte; DNS names without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientSubject {
    /// The common name of its subject.
    CommonName(String),
    /// A DNS name among its alternative names.
    Dns(String),
    /// A URI among its alternative names.
    Uri(String),
}

/// Who a connection comes from by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certified {
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl ClientCerts {
    /// Who holds the first certificate of a verified chain, if the configuration lists them.
    pub(crate) fn holder(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<Certified> {
        let leaf = Names::of(chain?.first()?)?;
        let entry = self.entries.iter().find(|entry| leaf.carry(&entry.subject))?;
        Some(Certified { name: entry.name.clone(), role: entry.role })
    }
}

/// What a certificate says of its holder.
#[derive(Debug, Default)]
struct Names {
    common: Vec<String>,
    dns: Vec<String>,
    uris: Vec<String>,
}

impl Names {
    /// `None` when it does not parse, which a verified one does.
    fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?.tbs_certificate;
        let mut names = Self::default();
        for attribute in certificate.subject.0.iter().flat_map(|set| set.0.iter()) {
            if attribute.oid != COMMON_NAME {
                continue;
            }
            let value = &attribute.value;
            let text = (value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned()))
                .or_else(|_| value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned()))
                .or_else(|_| value.decode_as::<Ia5StringRef<'_>>().map(|text| text.as_str().to_owned()));
            names.common.extend(text);
        }
        let alternative = certificate.get::<SubjectAltName>().ok()?;
        for name in alternative.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::DnsName(name) => names.dns.push(name.as_str().to_owned()),
                GeneralName::UniformResourceIdentifier(uri) => names.uris.push(uri.as_str().to_owned()),
                _ => {}
            }
        }
        Some(names)
    }

    fn carry(&self, wanted: &ClientSubject) -> bool {
        match wanted {
            ClientSubject::CommonName(name) => self.common.contains(name),
            ClientSubject::Dns(name) => self.dns.iter().any(|own| own.eq_ignore_ascii_case(name)),
            ClientSubject::Uri(uri) => self.uris.contains(uri),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(common: &str, alternative: &[rcgen::SanType]) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, common);
        params.subject_alt_names = alternative.to_vec();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn entry(subject: ClientSubject, role: Role) -> ClientCert {
        ClientCert { subject, name: role.as_str().into(), role }
    }

    #[test]
    fn common_name_dns_name_and_uri_are_found_and_the_first_entry_counts() {
        let certs = ClientCerts {
            entries: vec![
                entry(ClientSubject::Uri("spiffe://plant/ops".into()), Role::Admin),
                entry(ClientSubject::Dns("Laptop-7.plant.example".into()), Role::Operator),
                entry(ClientSubject::CommonName("Ops \u{e4}".into()), Role::Viewer),
            ],
        };
        let role = |der: CertificateDer<'static>| certs.holder(Some(&[der])).map(|holder| holder.role);
        let dns = rcgen::SanType::DnsName("laptop-7.plant.example".try_into().unwrap());
        let uri = rcgen::SanType::URI("spiffe://plant/ops".try_into().unwrap());
        assert_eq!(role(certificate("Ops \u{e4}", &[])), Some(Role::Viewer));
        assert_eq!(role(certificate("x", std::slice::from_ref(&dns))), Some(Role::Operator));
        assert_eq!(role(certificate("Ops \u{e4}", &[dns, uri])), Some(Role::Admin));
        assert_eq!(role(certificate("Ops", &[])), None);
        assert_eq!(certs.holder(None), None);
        assert_eq!(certs.holder(Some(&[CertificateDer::from(vec![0x30, 0])])), None);
    }
}
