//! What the agent shows is what the catalogue says, neither more nor less.

use std::sync::Arc;
use std::time::Duration;

use filmgate::agent::book::{Book, Bookkeeper, NoBook};
use filmgate::agent::live::{LiveNode, metrics};
use filmgate::agent::owner::{Owner, OwnerLookup, Owners};
use filmgate::clock::ManualClock;
use filmgate::metrics::catalogue::CHAPTERS;

use crate::figures::working_gpu;
use crate::support::metrics::Metrics;
use crate::support::nvml::{StandIn, machine};
use crate::xids::{after, errors, listening};

/// A kubelet without pods, and processes that are all one pod's.
struct Nobody;

impl Bookkeeper for Nobody {
    async fn look(&self) -> Result<Book, NoBook> {
        Ok(Book::default())
    }
}

impl OwnerLookup for Nobody {
    fn owner(&mut self, _: u32) -> Owner {
        Owner::Pod { uid: "u1".into(), container: None }
    }
}

impl Owners for Nobody {
    fn begin(&self) -> impl OwnerLookup + Send {
        Nobody
    }

    fn blindness(&self, _: &str) -> Option<Arc<str>> {
        None
    }
}

#[tokio::test]
async fn the_agent_shows_the_catalogue_and_nothing_else() {
    let [_, _, agent, ..] = CHAPTERS;
    let scenario = machine([working_gpu(0)]);
    let library = StandIn::new(&scenario);
    let source = listening(&library, &scenario).await;
    library.set(&after(&scenario, &[(0, 13)]));
    errors(&source, &[(0, &[(13, 1)])]).await;
    let parts = (source, Nobody, Nobody);
    let node =
        LiveNode::new("n0".into(), ManualClock::new().clock(), Duration::from_secs(600), parts);
    let page = Metrics::of(metrics::render(&*node.observe().await));
    let differences = page.differences(&[agent]);
    assert!(differences.is_empty(), "{differences:#?}");
}
