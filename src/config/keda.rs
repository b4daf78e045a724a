//! `keda`: KEDA's external scaler, off where the section is not there.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::ConfigError;
use super::check::setting;
use super::settings::KedaFile;
use crate::autoscaling::keda::{MutualTls, Served};
use crate::tls::Identity;

const LISTEN: &str = "0.0.0.0:9115";
const CERTIFICATE_FILE: &str = "/etc/filmgate/keda/tls.crt";
const KEY_FILE: &str = "/etc/filmgate/keda/tls.key";
const CLIENT_CA_FILE: &str = "/etc/filmgate/keda/ca.crt";

/// `taken`: addresses that are in use already, by their keys.
pub(super) fn keda(
    file: Option<&KedaFile>,
    taken: impl IntoIterator<Item = (&'static str, SocketAddr)>,
) -> Result<Option<Served>, ConfigError> {
    let Some(file) = file else { return Ok(None) };
    let listen = setting("keda.listen", LISTEN, file.listen.as_ref());
    let address = listen.parsed(SocketAddr::from(([0; 4], 9115)), "an address with a port")?;
    if let Some((key, _)) = taken.into_iter().find(|(_, other)| *other == address) {
        return Err(listen.wrong(format!("is the address of {key}, too")));
    }
    let files = [&file.certificate_file, &file.key_file, &file.client_ca_file];
    let is_plain = address.ip().is_loopback() && files.iter().all(|file| file.is_none());
    let tls = if is_plain { None } else { Some(mutual_tls(file)?) };
    Ok(Some(Served { listen: address, tls }))
}

fn mutual_tls(file: &KedaFile) -> Result<MutualTls, ConfigError> {
    let certificate = file.certificate_file.as_ref();
    let certificate = setting("keda.certificateFile", CERTIFICATE_FILE, certificate);
    let key = setting("keda.keyFile", KEY_FILE, file.key_file.as_ref());
    let roots = setting("keda.clientCaFile", CLIENT_CA_FILE, file.client_ca_file.as_ref());
    let identity = Identity {
        certificate: PathBuf::from(certificate.text(CERTIFICATE_FILE)?),
        key: PathBuf::from(key.text(KEY_FILE)?),
    };
    let client_roots = PathBuf::from(roots.text(CLIENT_CA_FILE)?);
    Ok(MutualTls { identity, client_roots })
}
