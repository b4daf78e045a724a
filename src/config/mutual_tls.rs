//! `keda` and `service`: what is served to callers who prove themselves by a certificate. Each is off
//! where its section is not there.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::ConfigError;
use super::check::setting;
use super::settings::MutualTlsFile;
use crate::tls::{Identity, MutualTls, Served};

/// A key and its default.
type Key = (&'static str, &'static str);

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    port: u16,
    listen: Key,
    certificate_file: Key,
    key_file: Key,
    client_ca_file: Key,
}

macro_rules! section {
    ($name:literal, $port:literal) => {
        Section {
            port: $port,
            listen: (concat!($name, ".listen"), concat!("0.0.0.0:", $port)),
            certificate_file: (
                concat!($name, ".certificateFile"),
                concat!("/etc/filmgate/", $name, "/tls.crt"),
            ),
            key_file: (concat!($name, ".keyFile"), concat!("/etc/filmgate/", $name, "/tls.key")),
            client_ca_file: (
                concat!($name, ".clientCaFile"),
                concat!("/etc/filmgate/", $name, "/ca.crt"),
            ),
        }
    };
}

/// KEDA's external scaler.
pub(super) const KEDA: Section = section!("keda", 9115);
/// The verbs for a kube-scheduler that is not in the same pod.
pub(super) const SERVICE: Section = section!("service", 9116);

/// `taken`: addresses that are in use already, by their keys.
pub(super) fn served(
    section: Section,
    file: Option<&MutualTlsFile>,
    taken: impl IntoIterator<Item = (&'static str, SocketAddr)>,
) -> Result<Option<Served>, ConfigError> {
    let Some(file) = file else { return Ok(None) };
    let (key, default) = section.listen;
    let listen = setting(key, default, file.listen.as_ref());
    let everywhere = SocketAddr::from(([0; 4], section.port));
    let address = listen.parsed(everywhere, "an address with a port")?;
    if let Some((key, _)) = taken.into_iter().find(|(_, other)| *other == address) {
        return Err(listen.wrong(format!("is the address of {key}, too")));
    }
    let files = [&file.certificate_file, &file.key_file, &file.client_ca_file];
    let is_plain = address.ip().is_loopback() && files.iter().all(|file| file.is_none());
    let tls = if is_plain { None } else { Some(mutual_tls(section, file)?) };
    Ok(Some(Served { listen: address, tls }))
}

fn mutual_tls(section: Section, file: &MutualTlsFile) -> Result<MutualTls, ConfigError> {
    let path =
        |(key, default), value| setting(key, default, value).text(default).map(PathBuf::from);
    Ok(MutualTls {
        identity: Identity {
            certificate: path(section.certificate_file, file.certificate_file.as_ref())?,
            key: path(section.key_file, file.key_file.as_ref())?,
        },
        client_roots: path(section.client_ca_file, file.client_ca_file.as_ref())?,
    })
}
