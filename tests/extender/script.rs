//! A cluster that answers as the test says.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use filmgate::engine::notice::Notice;
use filmgate::engine::{Admission, NodeName, PodFacts, PodRef};
use filmgate::extender::writer::{
    BindOutcome, ClusterWriter, FenceOutcome, SideWrites, WriteCounts,
};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What the cluster does with one Binding.
pub(crate) enum Answer {
    /// Answers at once.
    Now(BindOutcome),
    /// Answers when the test says.
    When(oneshot::Receiver<BindOutcome>),
    /// Never answers.
    Never,
    /// Has a defect.
    Panic,
}

/// One Binding that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) admission: Admission,
    pub(crate) node: NodeName,
    pub(crate) deadline: Duration,
}

#[derive(Default)]
pub(crate) struct Script {
    answers: Mutex<VecDeque<Answer>>,
    fences: Mutex<VecDeque<oneshot::Receiver<FenceOutcome>>>,
    pods: Mutex<HashMap<String, PodFacts>>,
    sent: Mutex<Vec<Sent>>,
    wakes: Mutex<Vec<String>>,
    reports: Mutex<Vec<(String, String)>>,
    notices: Mutex<Vec<(String, &'static str, String)>>,
    is_mute: Mutex<bool>,
    wants_no_refusals: Mutex<bool>,
    reads: Mutex<VecDeque<oneshot::Receiver<()>>>,
}

impl Script {
    /// The next Binding's answer; without one, Bindings take place.
    pub(crate) fn next(&self, answer: Answer) {
        self.answers.lock().push_back(answer);
    }

    pub(crate) fn next_outcome(&self, outcome: BindOutcome) {
        self.next(Answer::Now(outcome));
    }

    /// The next Binding waits for this sender.
    pub(crate) fn next_later(&self) -> oneshot::Sender<BindOutcome> {
        let (tell, told) = oneshot::channel();
        self.next(Answer::When(told));
        tell
    }

    /// The next fence waits for this sender.
    pub(crate) fn fence_later(&self) -> oneshot::Sender<FenceOutcome> {
        let (tell, told) = oneshot::channel();
        self.fences.lock().push_back(told);
        tell
    }

    /// The API server has this pod.
    pub(crate) fn has(&self, facts: PodFacts) {
        self.pods.lock().insert(facts.id.to_string(), facts);
    }

    /// The API server does not answer reads.
    pub(crate) fn fall_silent(&self) {
        *self.is_mute.lock() = true;
    }

    /// From now on nobody is to be told why pods wait, or everybody.
    pub(crate) fn want_refusals(&self, wants: bool) {
        *self.wants_no_refusals.lock() = !wants;
    }

    /// The next read of a pod waits for this sender.
    pub(crate) fn read_later(&self) -> oneshot::Sender<()> {
        let (tell, told) = oneshot::channel();
        self.reads.lock().push_back(told);
        tell
    }

    /// No read that is to wait is still to come.
    pub(crate) fn is_read(&self) -> bool {
        self.reads.lock().is_empty()
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().clone()
    }

    pub(crate) fn wakes(&self) -> Vec<String> {
        std::mem::take(&mut *self.wakes.lock())
    }

    /// Pods, reasons and texts.
    pub(crate) fn notices(&self) -> Vec<(String, &'static str, String)> {
        std::mem::take(&mut *self.notices.lock())
    }

    pub(crate) fn reports(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.reports.lock())
    }
}

impl ClusterWriter for Script {
    fn bind<'a>(
        &'a self,
        admission: &'a Admission,
        node: &'a NodeName,
        deadline: Duration,
    ) -> BoxFuture<'a, BindOutcome> {
        let sent = Sent { admission: admission.clone(), node: node.clone(), deadline };
        self.sent.lock().push(sent);
        let answer = self.answers.lock().pop_front();
        async move {
            match answer {
                None => BindOutcome::Bound,
                Some(Answer::Now(outcome)) => outcome,
                Some(Answer::When(told)) => told.await.unwrap(),
                Some(Answer::Never) => std::future::pending().await,
                Some(Answer::Panic) => panic!("the writer has a defect"),
            }
        }
        .boxed()
    }

    fn fence<'a>(&'a self, _: &'a PodRef) -> BoxFuture<'a, FenceOutcome> {
        let told = self.fences.lock().pop_front();
        async move {
            match told {
                Some(told) => told.await.unwrap(),
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn get<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<Option<PodFacts>, String>> {
        let is_mute = *self.is_mute.lock();
        let found = self.pods.lock().get(&pod.to_string()).cloned();
        let wait = self.reads.lock().pop_front();
        async move {
            if let Some(told) = wait {
                told.await.unwrap();
            }
            if is_mute { Err("connection refused".to_owned()) } else { Ok(found) }
        }
        .boxed()
    }

    fn wake(&self, pod: &PodRef) {
        self.wakes.lock().push(pod.name.to_string());
    }

    fn wants_refusal(&self, _: &PodRef) -> bool {
        !*self.wants_no_refusals.lock()
    }

    fn report_refusal(&self, pod: &PodRef, message: String) {
        self.reports.lock().push((pod.name.to_string(), message));
    }

    fn report_notice(&self, pod: &PodRef, notice: &Notice) {
        self.notices.lock().push((pod.name.to_string(), notice.reason(), notice.to_string()));
    }

    fn side_writes(&self) -> Option<SideWrites> {
        Some(SideWrites {
            wakes: WriteCounts { sent: 7, failed: 2, dropped: 1 },
            events: WriteCounts { sent: 3, ..WriteCounts::default() },
        })
    }
}
