//! Certificates that clients show.
//!
//! Whose certificates count may change while a server runs, and a client with a wrong one is to
//! read why it is refused. So the handshake only proves that the client has its certificate's key;
//! whoever uses [`PeerCertificates`] checks who signed it.

use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

use super::{TlsListener, provider};

/// What a client has shown, its own certificate first; empty where it has shown none. Nobody has
/// checked who signed them: [`PeerCertificates::check_signed_by`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerCertificates(Arc<[CertificateDer<'static>]>);

impl PeerCertificates {
    /// Those, the client's own first.
    #[must_use]
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self(certificates.into())
    }

    /// The client's own.
    #[must_use]
    pub fn own(&self) -> Option<&CertificateDer<'static>> {
        self.0.first()
    }

    /// Whether the client's own is in force and leads to one of the roots.
    ///
    /// # Errors
    /// Why not.
    pub fn check_signed_by(&self, roots: &Arc<RootCertStore>) -> Result<(), String> {
        let (own, others) = self.0.split_first().ok_or("no certificate was shown")?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider());
        let verifier = verifier.build().map_err(|error| error.to_string())?;
        let verified = verifier.verify_client_cert(own, others, UnixTime::now());
        verified.map(drop).map_err(|error| error.to_string())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for PeerCertificates {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        let (_, session) = stream.io().get_ref();
        let shown = session.peer_certificates().unwrap_or_default();
        Self::new(shown.iter().map(|one| one.clone().into_owned()).collect())
    }
}

/// Asks for a certificate, bears with none, and takes any.
#[derive(Debug)]
pub(super) struct Anyone(Arc<CryptoProvider>);

impl Anyone {
    pub(super) fn verifier() -> Arc<dyn ClientCertVerifier> {
        Arc::new(Self(provider()))
    }
}

impl ClientCertVerifier for Anyone {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _own: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
