//! `externalMetrics`: figures for autoscalers, off where the section is not there.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::ConfigError;
use super::check::setting;
use super::settings::ExternalMetricsFile;
use crate::autoscaling::Served;
use crate::tls::Identity;

const LISTEN: &str = "0.0.0.0:9114";
const CERTIFICATE_FILE: &str = "/etc/filmgate/external-metrics/tls.crt";
const KEY_FILE: &str = "/etc/filmgate/external-metrics/tls.key";

/// `taken`: addresses that are in use already, by their keys.
pub(super) fn external_metrics(
    file: Option<&ExternalMetricsFile>,
    taken: [(&str, SocketAddr); 2],
) -> Result<Option<Served>, ConfigError> {
    let Some(file) = file else { return Ok(None) };
    let listen = setting("externalMetrics.listen", LISTEN, file.listen.as_ref());
    let address = listen.parsed(SocketAddr::from(([0; 4], 9114)), "an address with a port")?;
    if let Some((key, _)) = taken.into_iter().find(|(_, other)| *other == address) {
        return Err(listen.wrong(format!("is the address of {key}, too")));
    }
    let certificate = file.certificate_file.as_ref();
    let certificate = setting("externalMetrics.certificateFile", CERTIFICATE_FILE, certificate);
    let key = setting("externalMetrics.keyFile", KEY_FILE, file.key_file.as_ref());
    let identity = Identity {
        certificate: PathBuf::from(certificate.text(CERTIFICATE_FILE)?),
        key: PathBuf::from(key.text(KEY_FILE)?),
    };
    Ok(Some(Served { listen: address, identity }))
}
