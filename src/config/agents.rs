//! Where the agents are, and how they and the extender prove themselves to each other.

use std::path::PathBuf;

use super::check::setting;
use super::settings::{AgentsFile, Settings};
use super::{Agents, ConfigError};
use crate::readings::client::Trust;
use crate::readings::discovery;

const SERVER_NAME: &str = "filmgate-agent.filmgate.svc";
const CA_FILE: &str = "/etc/filmgate/agent-ca/ca.crt";
const TOKEN_FILE: &str = "/var/run/secrets/filmgate/agent-token";

/// `agents.tls`; without it agents speak plain HTTP.
pub(super) fn agents_trust(agents: Option<&AgentsFile>) -> Result<Option<Trust>, ConfigError> {
    let Some(tls) = agents.and_then(|agents| agents.tls.as_ref()) else { return Ok(None) };
    let roots = setting("agents.tls.caFile", CA_FILE, tls.ca_file.as_ref());
    let name = setting("agents.tls.serverName", SERVER_NAME, tls.server_name.as_ref());
    let token = setting("agents.tls.tokenFile", TOKEN_FILE, tls.token_file.as_ref());
    Ok(Some(Trust {
        roots: PathBuf::from(roots.text(CA_FILE)?),
        name: name.text(SERVER_NAME)?,
        token: PathBuf::from(token.text(TOKEN_FILE)?),
    }))
}

pub(super) fn agents(settings: &Settings) -> Result<Agents, ConfigError> {
    if !settings.agents.is_empty() {
        let flags = settings.agents.iter().map(|text| flag_agent(text));
        return listed(&flags.collect::<Result<Vec<_>, _>>()?);
    }
    match settings.file.agents.clone().unwrap_or_default() {
        AgentsFile { r#static: Some(_), endpoint_slices: Some(_), .. } => {
            Err(ConfigError::Both("agents.static", "agents.endpointSlices"))
        }
        AgentsFile { r#static: Some(agents), .. } => {
            let pairs = agents.iter().map(|agent| (agent.node.as_str(), agent.url.as_str()));
            listed(&pairs.collect::<Vec<_>>())
        }
        AgentsFile { endpoint_slices, .. } => {
            let slices = endpoint_slices.unwrap_or_default();
            let labels = "kubernetes.io/service-name=filmgate-agent";
            let namespace = slices.namespace.as_ref();
            let selector = slices.label_selector.as_ref();
            let port = slices.port.as_ref();
            Ok(Agents::EndpointSlices {
                namespace: setting("agents.endpointSlices.namespace", "filmgate", namespace)
                    .text("filmgate")?,
                label_selector: setting("agents.endpointSlices.labelSelector", labels, selector)
                    .text(labels)?,
                port: setting("agents.endpointSlices.port", "readings", port).text("readings")?,
            })
        }
    }
}

fn listed(agents: &[(&str, &str)]) -> Result<Agents, ConfigError> {
    Ok(Agents::Static(discovery::listed(agents.iter().copied())?))
}

fn flag_agent(text: &str) -> Result<(&str, &str), ConfigError> {
    let split = text.split_once('=').filter(|(node, url)| !node.is_empty() && !url.is_empty());
    split.ok_or_else(|| ConfigError::Value {
        key: "agent",
        value: text.to_owned(),
        problem: "is not NODE=URL".to_owned(),
        example: "gpu-1=http://127.0.0.1:9112",
    })
}
