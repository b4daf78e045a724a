//! Events on pods: where a waiting one came nearest to fitting, and what is odd about a bound one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::bind::within;
use super::identity::Identity;
use super::wake::{Tally, work_off};
use crate::engine::notice::Notice;
use crate::engine::{PodRef, PodUid};
use crate::extender::writer::WriteCounts;

const CONTROLLER: &str = "filmgate.dev/filmgate";
/// Events that may wait for the API server, one at a time: they must not delay Bindings.
const QUEUE_LENGTH: usize = 256;
const TRY_LIMIT: Duration = Duration::from_secs(2);
/// A pod's second event follows its first at least this much later, the third twice as much, and
/// so on.
const LEAST_INTERVAL: Duration = Duration::from_secs(60);
const MOST_INTERVAL: Duration = Duration::from_secs(16 * 60);
/// A message that is due is looked for at least this far apart while it turns out to be old news.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Pods whose last event is remembered.
const REMEMBERED_PODS: usize = 4096;
/// The API server takes notes of up to 1,024 bytes.
const LONGEST_NOTE: usize = 1024;
/// Names have up to 253 characters, 33 of which tell a pod's events apart.
const LONGEST_NAME: usize = 220;
/// What follows this in a message changes with every look and says nothing new.
const AGE: &str = "; read ";

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    reason: &'static str,
    action: &'static str,
}

impl Subject {
    /// A pod that was refused everywhere.
    pub(super) const WAITING: Self = Self { reason: "WaitingForGPU", action: "Scheduling" };

    pub(super) const fn of(notice: &Notice) -> Self {
        Self { reason: notice.reason(), action: "Accounting" }
    }
}

/// Decides which messages are worth an event: of a pod and subject the first at once, the others
/// ever more seldom, and only what says something new.
#[derive(Debug, Default)]
struct Limiter(HashMap<(PodUid, Subject), Said>);

/// The last message of a pod and subject, and when it was last compared with what there is to say.
#[derive(Debug)]
struct Said {
    at: Instant,
    news: String,
    interval: Duration,
    compared_at: Instant,
}

impl Said {
    fn first(news: String, now: Instant) -> Self {
        Self { at: now, news, interval: LEAST_INTERVAL, compared_at: now }
    }

    /// The next one may follow.
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= self.interval
    }

    /// Whether the next one follows, since it is due and says something else.
    fn is_followed_by(&mut self, news: &str, now: Instant) -> bool {
        self.compared_at = now;
        let is_followed = self.is_over(now) && self.news != news;
        if is_followed {
            (self.at, self.news) = (now, news.to_owned());
            self.interval = (self.interval * 2).min(MOST_INTERVAL);
        }
        is_followed
    }
}

impl Limiter {
    /// Whether to look what there is to say.
    fn wants(&mut self, pod: &PodUid, about: Subject, now: Instant) -> bool {
        let Some(said) = self.0.get(&(pod.clone(), about)) else { return self.has_room(now) };
        let since_compared = now.saturating_duration_since(said.compared_at);
        said.is_over(now) && since_compared >= LOOK_INTERVAL
    }

    fn allows(&mut self, pod: &PodUid, about: Subject, message: &str, now: Instant) -> bool {
        let key = (pod.clone(), about);
        let (news, _age) = message.rsplit_once(AGE).unwrap_or((message, ""));
        if let Some(said) = self.0.get_mut(&key) {
            return said.is_followed_by(news, now);
        }
        let has_room = self.has_room(now);
        if has_room {
            self.0.insert(key, Said::first(news.to_owned(), now));
        }
        has_room
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.0.len() >= REMEMBERED_PODS {
            let is_recent = |at| now.saturating_duration_since(at) < LEAST_INTERVAL;
            self.0.retain(|_, said| is_recent(said.at));
        }
        self.0.len() < REMEMBERED_PODS
    }
}

#[derive(Debug)]
struct Report {
    pod: PodRef,
    about: Subject,
    message: String,
}

/// The queue's near end.
#[derive(Debug)]
pub(super) struct Reports {
    queue: mpsc::Sender<Report>,
    limiter: Mutex<Limiter>,
    tally: Arc<Tally>,
}

impl Reports {
    /// The queue, and its worker in a task of its own that ends with the queue.
    pub(super) fn start(client: Client, identity: Arc<Identity>) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_LENGTH);
        let tally = Arc::new(Tally::default());
        let kept = tally.clone();
        tokio::spawn(async move {
            work_off(queue, 1, |report| send(&client, &identity, &kept, report)).await;
        });
        Self { queue: sender, limiter: Mutex::default(), tally }
    }

    /// Whether a message may go out, so that it is worth its making. One that may, and would find
    /// the queue full, counts as dropped.
    pub(super) fn wants(&self, pod: &PodRef, about: Subject) -> bool {
        let is_wanted = self.limiter.lock().wants(&pod.uid, about, Instant::now());
        let has_room = self.queue.capacity() > 0;
        if is_wanted && !has_room {
            self.tally.drop_one();
        }
        is_wanted && has_room
    }

    pub(super) fn push(&self, pod: &PodRef, about: Subject, message: String) {
        // Room first: a message that is dropped must not count as said.
        let Ok(place) = self.queue.try_reserve() else {
            self.tally.drop_one();
            return;
        };
        if self.limiter.lock().allows(&pod.uid, about, &message, Instant::now()) {
            place.send(Report { pod: pod.clone(), about, message });
        }
    }

    pub(super) fn counts(&self) -> WriteCounts {
        self.tally.counts()
    }
}

async fn send(client: &Client, identity: &Identity, tally: &Tally, report: Report) {
    let events: Api<Event> = Api::namespaced(client.clone(), &report.pod.namespace);
    let event = event(&report, identity, Timestamp::now());
    let sent = within(TRY_LIMIT, events.create(&PostParams::default(), &event)).await;
    tally.note(&sent);
    if let Err(failure) = sent {
        tracing::debug!(pod = %report.pod, %failure, "event not written");
    }
}

fn event(report: &Report, identity: &Identity, now: Timestamp) -> Event {
    let Report { pod, about, message } = report;
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", cut(&pod.name, LONGEST_NAME), now.as_nanosecond())),
            namespace: Some(pod.namespace.to_string()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some("Warning".to_owned()),
        reason: Some(about.reason.to_owned()),
        action: Some(about.action.to_owned()),
        note: Some(cut(message, LONGEST_NOTE).to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace.to_string()),
            name: Some(pod.name.to_string()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(identity.holder(), 128).to_owned()),
        ..Event::default()
    }
}

/// The longest start of the text with so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "asked 12 GiB; most free: 9.2; read 0.4 s ago";
    const OLDER: &str = "asked 12 GiB; most free: 9.2; read 7.0 s ago";
    const OTHER: &str = "asked 12 GiB; most free: 8.0; read 0.4 s ago";

    fn report(name: &str, message: &str) -> Report {
        let pod = PodRef { namespace: "art".into(), name: name.into(), uid: "u1".into() };
        Report { pod, about: Subject::WAITING, message: message.to_owned() }
    }

    #[test]
    fn the_first_message_goes_out_at_once_and_the_next_after_a_minute_if_it_is_news() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let pod = PodUid::from("u1");
        assert!(limiter.allows(&pod, Subject::WAITING, FIRST, start));
        assert!(!limiter.allows(&pod, Subject::WAITING, OTHER, start + LEAST_INTERVAL / 2));
        assert!(!limiter.allows(&pod, Subject::WAITING, OLDER, start + LEAST_INTERVAL));
        assert!(limiter.allows(&pod, Subject::WAITING, OTHER, start + LEAST_INTERVAL));
        assert!(!limiter.allows(&pod, Subject::WAITING, FIRST, start + LEAST_INTERVAL * 3 / 2));
        assert!(limiter.allows(&"u2".into(), Subject::WAITING, FIRST, start));
    }

    #[test]
    fn a_pod_that_waits_long_is_written_about_ever_more_seldom() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let pod = PodUid::from("u1");
        let mut told_at = Vec::new();
        for minute in 0..64 {
            let (news, now) = (format!("{minute} GiB free"), start + LEAST_INTERVAL * minute);
            if limiter.allows(&pod, Subject::WAITING, &news, now) {
                told_at.push(minute);
            }
        }
        assert_eq!(told_at, [0, 1, 3, 7, 15, 31, 47, 63]);
    }

    #[test]
    fn what_there_is_to_say_is_looked_for_at_once_and_then_only_when_a_message_is_due() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let pod = PodUid::from("u1");
        assert!(limiter.wants(&pod, Subject::WAITING, start));
        assert!(limiter.allows(&pod, Subject::WAITING, FIRST, start));
        assert!(!limiter.wants(&pod, Subject::WAITING, start));
        assert!(!limiter.wants(&pod, Subject::WAITING, start + LEAST_INTERVAL / 2));
        let due = start + LEAST_INTERVAL;
        assert!(limiter.wants(&pod, Subject::WAITING, due));
        assert!(!limiter.allows(&pod, Subject::WAITING, OLDER, due));
        assert!(!limiter.wants(&pod, Subject::WAITING, due + LOOK_INTERVAL / 2));
        assert!(limiter.wants(&pod, Subject::WAITING, due + LOOK_INTERVAL));
        assert!(limiter.allows(&pod, Subject::WAITING, OTHER, due + LOOK_INTERVAL));
        assert!(!limiter.wants(&pod, Subject::WAITING, due + LEAST_INTERVAL));
    }

    #[test]
    fn what_is_said_of_one_subject_does_not_silence_another() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let pod = PodUid::from("u1");
        let forged = Subject { reason: "ForgedAnnotations", action: "Accounting" };
        assert!(limiter.allows(&pod, Subject::WAITING, FIRST, start));
        assert!(limiter.allows(&pod, forged, "ignored filmgate.dev/gpu", start));
        assert!(!limiter.allows(&pod, forged, "ignored filmgate.dev/wake", start));
    }

    #[test]
    fn remembers_a_bounded_number_of_pods() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let pod = |number: usize| PodUid::from(format!("u{number}"));
        for number in 0..REMEMBERED_PODS {
            assert!(limiter.allows(&pod(number), Subject::WAITING, FIRST, start));
        }
        assert!(!limiter.wants(&"late".into(), Subject::WAITING, start));
        assert!(!limiter.allows(&"late".into(), Subject::WAITING, FIRST, start));
        assert!(limiter.allows(&"late".into(), Subject::WAITING, FIRST, start + LEAST_INTERVAL));
        assert_eq!(limiter.0.len(), 1);
    }

    #[test]
    fn an_event_keeps_to_the_api_servers_limits() {
        let report = report(&"p".repeat(253), &"é".repeat(1000));
        let event = event(&report, &Identity::new("h".repeat(200)), Timestamp::now());
        assert!(event.metadata.name.unwrap().len() <= 253);
        assert!(event.note.unwrap().len() <= LONGEST_NOTE);
        assert_eq!(event.reporting_instance.unwrap().len(), 128);
    }

    #[test]
    fn an_event_names_its_pod_by_uid() {
        let event = event(&report("comfy", FIRST), &Identity::new("gate-0"), Timestamp::now());
        let pod = event.regarding.unwrap();
        let name = (pod.kind.as_deref(), pod.name.as_deref(), pod.uid.as_deref());
        assert_eq!(name, (Some("Pod"), Some("comfy"), Some("u1")));
        assert_eq!(event.note.as_deref(), Some(FIRST));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
    }
}
