//! The agents' readings on their way into the gate, and its questions on their way to the agents.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use tokio::sync::{mpsc, watch};

use super::gate::{FreshReading, Gate, SamplingSource};
use crate::clock::Clock;
use crate::config::Agents;
use crate::engine::NodeName;
use crate::readings::client::{
    AgentEndpoint, Arrival, ClientConfig, Event, Heartbeat, Lost, ReadingsClient, Trust,
};
use crate::readings::discovery::{self, SliceSelector};
use crate::tls::TlsError;

/// Readings that wait for the gate. Streams are read no further while it is full.
const EVENTS: usize = 1024;
/// An agent that takes longer to sample is asked again later.
const SAMPLE_DEADLINE: Duration = Duration::from_secs(2);

/// The link to the agents.
#[derive(Clone)]
pub struct AgentLink(ReadingsClient);

impl AgentLink {
    /// Reads from the agents from now on, for as long as the link lives. To be called when the
    /// gate knows every pod: a sampling that ends a claim must be younger than that knowledge.
    ///
    /// # Errors
    /// When the agents' certificates cannot be checked.
    pub fn start(
        agents: &Agents,
        trust: Option<Trust>,
        cluster: &Client,
        clock: Clock,
        gate: Arc<Gate>,
    ) -> Result<Self, TlsError> {
        let is_tls = trust.is_some();
        let stale_after = gate.settings().policy.stale_after;
        let link = Self::connect(stale_after, trust, clock, gate)?;
        match agents {
            Agents::Static(agents) => link.0.set_endpoints(agents.clone()),
            Agents::EndpointSlices { namespace, label_selector, port } => {
                let selector = SliceSelector {
                    namespace: namespace.clone(),
                    labels: label_selector.clone(),
                    port: port.clone(),
                    is_tls,
                };
                follow(&link.0, cluster.clone(), selector);
            }
        }
        Ok(link)
    }

    /// The same from exactly these agents, without a cluster to find them in. `patience`: a stream
    /// that is silent for so long by `clock` is given up.
    ///
    /// # Errors
    /// When this build has no TLS.
    pub fn to(
        agents: Vec<AgentEndpoint>,
        patience: Duration,
        clock: Clock,
        gate: Arc<Gate>,
    ) -> Result<Self, TlsError> {
        let link = Self::connect(patience, None, clock, gate)?;
        link.0.set_endpoints(agents);
        Ok(link)
    }

    fn connect(
        stale_after: Duration,
        trust: Option<Trust>,
        clock: Clock,
        gate: Arc<Gate>,
    ) -> Result<Self, TlsError> {
        let (events, received) = mpsc::channel(EVENTS);
        let config = ClientConfig { stale_after, trust, ..ClientConfig::default() };
        let client = ReadingsClient::new(config, clock, events)?;
        tokio::spawn(carry(received, gate));
        Ok(Self(client))
    }
}

fn follow(client: &ReadingsClient, cluster: Client, selector: SliceSelector) {
    let (found, endpoints) = watch::channel(Vec::new());
    tokio::spawn(discovery::watch_slices(cluster, selector, found));
    let client = client.clone();
    tokio::spawn(async move { client.follow(endpoints).await });
}

/// Tells the gate, until the client is gone.
async fn carry(mut received: mpsc::Receiver<Event>, gate: Arc<Gate>) {
    while let Some(event) = received.recv().await {
        match event {
            Event::Arrival(Arrival { reading, received_at, began_after }) => {
                gate.apply_reading(reading, received_at, began_after);
            }
            Event::Heartbeat(Heartbeat { node, agent, sampling, received_at }) => {
                gate.apply_heartbeat(&node, &agent, sampling, received_at);
            }
            // The ledger goes by the reading's age.
            Event::Lost(Lost { node, why, .. }) => {
                tracing::warn!(%node, reason = why.reason(), %why, "no readings from the node");
            }
        }
    }
}

impl SamplingSource for AgentLink {
    fn sample_now<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<FreshReading, String>> {
        async move {
            let sampled = self.0.sample_now(node, SAMPLE_DEADLINE).await;
            let Arrival { reading, received_at, began_after } =
                sampled.map_err(|error| error.to_string())?;
            Ok(FreshReading { reading, received_at, began_after })
        }
        .boxed()
    }
}
