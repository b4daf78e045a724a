//! Certificates for tests.

use std::fs;
use std::path::{Path, PathBuf};

use filmgate::tls::Identity;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};

/// A root, and what it has signed, as files.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new root, in a folder of that name.
    pub fn create(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        fs::create_dir(&folder).expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("a root");
        fs::write(folder.join("ca.crt"), root.pem()).expect("a file");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// The root's certificate.
    pub fn roots(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Writes a certificate for that name over the one that is there.
    pub fn issue(&self, to: &Identity, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        fs::write(&to.key, key.serialize_pem()).expect("a file");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        fs::write(&to.certificate, signed.pem()).expect("a file");
    }

    /// The same beside the root.
    pub fn issued(&self, name: &str) -> Identity {
        let file = |ending| self.folder.join(format!("{name}.{ending}"));
        let identity = Identity { certificate: file("crt"), key: file("key") };
        self.issue(&identity, name);
        identity
    }
}
