//! Who is asked, and when: one task for each pod, which ends when the pod is gone.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kube::core::{Selector, SelectorExt as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::client::{Answers, Client};
use super::error::AskError;
use crate::engine::PodUid;
use crate::engine::comfyui::Poll;
use crate::extender::Gate;

/// ComfyUIs that are asked at the same time; those that hang take one place each for a deadline.
const AT_ONCE: usize = 128;
/// How often pods are looked for at least.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// An answer counts until so many more were due.
const ANSWER_LASTS: u32 = 3;
/// Polls are spread by this part of their interval, so that many pods do not fall into step.
const JITTER: f64 = 0.1;

/// Whom to ask, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Labels of the pods.
    pub pod_selector: Selector,
    /// Where ComfyUI listens in them.
    pub port: u16,
    /// Time from one question to the next.
    pub poll_interval: Duration,
}

/// Asks the pods of one gate.
#[derive(Clone)]
pub struct Poller {
    settings: Arc<Settings>,
    client: Client,
    gate: Arc<Gate>,
    places: Arc<Semaphore>,
}

struct Asked {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Poller {
    /// One that asks nobody yet.
    ///
    /// # Errors
    /// When the system has no resources for an HTTP client.
    pub fn new(settings: Settings, gate: Arc<Gate>) -> Result<Self, reqwest::Error> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self { settings: Arc::new(settings), client: Client::new()?, gate, places })
    }

    /// Asks, for as long as this is waited for.
    pub async fn run(self) {
        let mut asked = HashMap::new();
        let mut looks = interval(self.settings.poll_interval.min(LONGEST_LOOK));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.follow(&mut asked);
        }
    }

    /// Asks exactly the pods that are there.
    fn follow(&self, asked: &mut HashMap<PodUid, Asked>) {
        let wanted = self.wanted();
        asked.retain(|pod, one| wanted.get(pod) == Some(&one.address));
        for (pod, address) in wanted {
            asked.entry(pod.clone()).or_insert_with(|| {
                let task = tokio::spawn(self.clone().keep_asking(pod, address));
                Asked { address, _task: AbortOnDropHandle::new(task) }
            });
        }
        self.gate.keep_comfyui(|pod| asked.contains_key(pod));
    }

    fn wanted(&self) -> HashMap<PodUid, SocketAddr> {
        let selector = &self.settings.pod_selector;
        let pods = self.gate.running_pods(|labels| selector.matches(labels)).into_iter();
        let addressed = pods.filter_map(|(pod, address)| {
            let ip: IpAddr = address.parse().ok()?;
            Some((pod, SocketAddr::new(ip, self.settings.port)))
        });
        addressed.collect()
    }

    async fn keep_asking(self, pod: PodUid, address: SocketAddr) {
        // Those that are found together do not ask together.
        sleep(self.settings.poll_interval.mul_f64(rand::random())).await;
        let mut outcome = "";
        loop {
            let began = Instant::now();
            let error = self.ask(&pod, address).await.err();
            let before =
                std::mem::replace(&mut outcome, error.as_ref().map_or("ok", AskError::reason));
            match error {
                _ if outcome == before => {}
                Some(error) => tracing::warn!(%pod, %address, reason = outcome, %error, "ComfyUI"),
                None => tracing::info!(%pod, %address, "ComfyUI answers"),
            }
            sleep_until(began + self.pause()).await;
        }
    }

    async fn ask(&self, pod: &PodUid, address: SocketAddr) -> Result<(), AskError> {
        // Nobody closes the semaphore.
        let _place = self.places.acquire().await;
        let asked_at = self.gate.now();
        let Answers { queue, devices } = self.client.ask(address).await;
        let error = queue.as_ref().err().or(devices.as_ref().err()).cloned();
        self.gate.metrics().comfyui_poll(error.as_ref().map_or("ok", AskError::reason));
        let until = asked_at + self.settings.poll_interval * ANSWER_LASTS;
        let queue = queue.map_err(Into::into);
        let devices = devices.map_err(Into::into);
        self.gate.note_comfyui(pod, Poll { asked_at, until, queue, devices });
        error.map_or(Ok(()), Err)
    }

    fn pause(&self) -> Duration {
        let part = 1.0 - JITTER + 2.0 * JITTER * rand::random::<f64>();
        self.settings.poll_interval.mul_f64(part)
    }
}
