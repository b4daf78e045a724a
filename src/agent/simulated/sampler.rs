//! The fleet as the agents' server sees it, faults included.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Loss, SimulatedFleet};
use crate::engine::{NodeName, Reading};
use crate::readings::server::{SampleError, Sampler};

impl Sampler for SimulatedFleet {
    fn nodes(&self) -> Vec<NodeName> {
        self.node_names()
    }

    async fn sample(&self, node: &NodeName) -> Result<Reading, SampleError> {
        loop {
            let unknown =
                |_| SampleError::UnknownNode { node: node.clone(), known: self.node_names() };
            let cell = self.cell(node.as_str()).map_err(unknown)?;
            let mut movement = cell.movement.subscribe();
            let faults = cell.node.lock().faults.clone();
            match faults.lost {
                Some(Loss::Refused) => {
                    return Err(SampleError::Unavailable {
                        node: node.clone(),
                        why: "simulated loss".into(),
                    });
                }
                // Any change of the node wakes us, its removal too.
                Some(Loss::Hung) => drop(movement.changed().await),
                None => {
                    let reading = cell.node.lock().sample(self.0.clock.now(), self.0.peak_window);
                    sleep(faults.late).await;
                    return Ok(reading);
                }
            }
        }
    }

    fn shown(&self, node: &NodeName, reading: Arc<Reading>) -> Arc<Reading> {
        match self.cell(node.as_str()) {
            Ok(cell) => cell.node.lock().show(reading),
            Err(_) => reading,
        }
    }

    fn movements(&self, node: &NodeName) -> Option<watch::Receiver<()>> {
        Some(self.cell(node.as_str()).ok()?.movement.subscribe())
    }
}
