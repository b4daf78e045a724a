//! Makes keys and certificates: ECDSA on P-256, which everyone reads.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use super::material::{Certificate, Key, Pair};
use super::plan::{AUTHORITY_LIFE, BACKDATED, LEAF_LIFE, Subject};

/// Why none was made. No text of these has anything of a key.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The names cannot be a certificate's, or this machine has no random numbers.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What was made cannot be read.
    #[error("a certificate was made that cannot be read")]
    Unreadable,
}

/// The longest common name that a certificate may have.
const LONGEST_COMMON_NAME: usize = 64;

/// A new authority.
///
/// # Errors
/// When it cannot be made.
pub fn authority(now: Timestamp) -> Result<Pair, IssueError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Two authorities are told apart by their names.
    let name = format!("filmgate authority {:016x}", rand::random::<u64>());
    let mut params = params(&name, now, AUTHORITY_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    pair(&params.self_signed(&key)?, &key)
}

/// A new certificate that the authority signs.
///
/// # Errors
/// When it cannot be made, or the authority's pair is none.
pub fn leaf(authority: &Pair, subject: &Subject, now: Timestamp) -> Result<Pair, IssueError> {
    let signs = KeyPair::from_pem(authority.key.pem())?;
    let issuer = Issuer::from_ca_cert_der(authority.certificate.der(), signs)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let (name, purpose) = match subject {
        Subject::Server(names) => {
            let short = names.first().filter(|name| name.len() <= LONGEST_COMMON_NAME);
            (short.map_or("filmgate", String::as_str), ExtendedKeyUsagePurpose::ServerAuth)
        }
        Subject::Client(name) => (name.as_str(), ExtendedKeyUsagePurpose::ClientAuth),
    };
    let mut params = params(name, now, LEAF_LIFE);
    if let Subject::Server(names) = subject {
        params.subject_alt_names = CertificateParams::new(names.clone())?.subject_alt_names;
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    pair(&params.signed_by(&key, &issuer)?, &key)
}

fn params(name: &str, now: Timestamp, life: SignedDuration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = SystemTime::from(now - BACKDATED).into();
    params.not_after = SystemTime::from(now - BACKDATED + life).into();
    params
}

fn pair(made: &rcgen::Certificate, key: &KeyPair) -> Result<Pair, IssueError> {
    let certificate = Certificate::from_der(made.der()).ok_or(IssueError::Unreadable)?;
    Ok(Pair { certificate, key: Key::new(key.serialize_pem()) })
}
