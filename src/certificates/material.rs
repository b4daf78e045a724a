//! What lies in a Secret: certificates as far as decisions need them, and keys that are never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

/// Where a Secret has its certificate.
pub const CERTIFICATE: &str = "tls.crt";
/// Where it has that one's key.
pub const KEY: &str = "tls.key";
/// Where it has the authorities whose certificates are to be believed.
pub const AUTHORITIES: &str = "ca.crt";

/// The data of a Secret.
pub type Data = BTreeMap<String, ByteString>;

/// A private key in PEM. It is wiped from memory when it is dropped, and no text shows it.
#[derive(Clone)]
pub struct Key(Zeroizing<String>);

impl Key {
    pub(super) fn new(pem: String) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// For the Secret, and nowhere else.
    pub(super) fn pem(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(hidden)")
    }
}

/// What a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It signs others.
    Authority,
    /// A server shows it.
    Server,
    /// A client shows it.
    Client,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    /// The first moment in which it is valid.
    pub begins: Timestamp,
    /// The last one.
    pub ends: Timestamp,
    /// The name of a client or an authority.
    pub common_name: String,
    /// The names of a server.
    pub dns_names: BTreeSet<String>,
    /// `None`: for something that is not ours.
    pub purpose: Option<Purpose>,
}

impl Certificate {
    /// Reads one; `None` where it is none.
    #[must_use]
    pub fn from_der(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        let moment = |seconds| Timestamp::from_second(seconds).ok();
        Some(Self {
            begins: moment(parsed.validity().not_before.timestamp())?,
            ends: moment(parsed.validity().not_after.timestamp())?,
            common_name: common_name(&parsed).unwrap_or_default(),
            dns_names: dns_names(&parsed),
            purpose: purpose(&parsed),
            der: der.clone().into_owned(),
        })
    }

    /// Those in a file of PEM that can be read.
    #[must_use]
    pub fn all_in(pem: &[u8]) -> Vec<Self> {
        let found = CertificateDer::pem_slice_iter(pem).flatten();
        found.filter_map(|der| Self::from_der(&der)).collect()
    }

    /// How long it is valid in all.
    #[must_use]
    pub fn life(&self) -> SignedDuration {
        self.ends.duration_since(self.begins)
    }

    /// Whether that authority has signed it.
    #[must_use]
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let own = x509_parser::parse_x509_certificate(&self.der);
        let theirs = x509_parser::parse_x509_certificate(&authority.der);
        let (Ok((_, own)), Ok((_, theirs))) = (own, theirs) else { return false };
        own.issuer() == theirs.subject() && own.verify_signature(Some(theirs.public_key())).is_ok()
    }

    /// In PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode_config(
            &pem::Pem::new("CERTIFICATE", self.der.to_vec()),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        )
    }

    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    fn has_key(&self, key: &KeyPair) -> bool {
        let parsed = x509_parser::parse_x509_certificate(&self.der);
        parsed.is_ok_and(|(_, own)| own.public_key().raw == key.subject_public_key_info())
    }
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: Key,
}

impl Pair {
    /// The pair in a Secret; `None` where it is missing, broken, or no pair.
    #[must_use]
    pub fn in_data(data: &Data) -> Option<Self> {
        let certificate = Certificate::all_in(&data.get(CERTIFICATE)?.0).into_iter().next()?;
        let key = Key::new(std::str::from_utf8(&data.get(KEY)?.0).ok()?.to_owned());
        let pair = KeyPair::from_pem(key.pem()).ok()?;
        certificate.has_key(&pair).then_some(Self { certificate, key })
    }

    /// Puts it into a Secret.
    pub(super) fn put_into(&self, data: &mut Data) {
        data.insert(CERTIFICATE.into(), ByteString(self.certificate.pem().into_bytes()));
        data.insert(KEY.into(), ByteString(self.key.pem().as_bytes().to_vec()));
    }
}

/// The authorities that a Secret says are to be believed.
#[must_use]
pub fn authorities_in(data: &Data) -> Vec<Certificate> {
    data.get(AUTHORITIES).map(|pem| Certificate::all_in(&pem.0)).unwrap_or_default()
}

/// As a Secret or an APIService has them.
#[must_use]
pub fn bundle_of(authorities: &[Certificate]) -> ByteString {
    ByteString(authorities.iter().map(Certificate::pem).collect::<String>().into_bytes())
}

fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().next()?;
    Some(name.as_str().ok()?.to_owned())
}

fn dns_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    dns.collect()
}

fn purpose(certificate: &X509Certificate<'_>) -> Option<Purpose> {
    if certificate.is_ca() {
        return Some(Purpose::Authority);
    }
    let usage = certificate.extended_key_usage().ok()??.value;
    match (usage.server_auth, usage.client_auth) {
        (true, _) => Some(Purpose::Server),
        (false, true) => Some(Purpose::Client),
        (false, false) => None,
    }
}
