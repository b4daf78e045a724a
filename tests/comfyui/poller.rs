//! The pods of a gate are asked, as long as they are there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use filmgate::autoscaling::selector;
use filmgate::clock::ManualClock;
use filmgate::comfyui::{Poller, Settings};
use filmgate::engine::comfyui::{Queue, State};
use filmgate::extender::{Gate, GateSettings};
use tokio_util::task::AbortOnDropHandle;

use crate::comfyui::{ComfyUi, Fault, next_address};
use crate::engine::{node, pod};
use crate::eventually::eventually;
use crate::scripted::NoCluster;

const DEADLINE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(100);

struct World {
    gate: Arc<Gate>,
    clock: ManualClock,
    _polling: AbortOnDropHandle<()>,
}

impl World {
    /// Asks pods with `app=comfyui` at that port.
    fn asking(port: u16) -> Self {
        let clock = ManualClock::new();
        let gate = Gate::new(GateSettings::default(), Arc::new(NoCluster), clock.clock());
        gate.apply_node(node("n0").facts);
        let settings = Settings {
            pod_selector: selector::parse("app=comfyui").unwrap(),
            port,
            poll_interval: INTERVAL,
        };
        let poller = Poller::new(settings, gate.clone()).unwrap();
        let _polling = AbortOnDropHandle::new(tokio::spawn(poller.run()));
        Self { gate, clock, _polling }
    }

    /// The watch shows a pod that runs, or one that does not.
    fn add(&self, name: &str, app: &str, ip: Option<IpAddr>) {
        let mut facts = pod(name).on("n0").facts;
        facts.labels = Some(Arc::new([("app".to_owned(), app.to_owned())].into()));
        facts.address = ip.map(|ip| ip.to_string().into());
        self.gate.apply_pod(facts);
    }

    fn state(&self, pod: &str) -> Option<State> {
        let now = self.gate.now();
        self.gate.with_comfyui(|instances| instances.state(&pod.into(), now))
    }

    async fn sees(&self, what: &str, pod: &str, is_so: impl Fn(Option<&State>) -> bool) {
        eventually(DEADLINE, what, async || {
            let state = self.state(pod);
            is_so(state.as_ref()).then_some(()).ok_or(format!("{state:?}"))
        })
        .await;
    }
}

fn has(running: u64, pending: u64) -> impl Fn(Option<&State>) -> bool {
    move |state| state.and_then(|state| state.queue) == Some(Queue { running, pending })
}

async fn asked_times(comfyui: &ComfyUi, least: usize) {
    eventually(DEADLINE, "questions", async || {
        let asked = comfyui.asked().len();
        (asked >= least).then_some(()).ok_or(asked.to_string())
    })
    .await;
}

#[tokio::test]
async fn pods_that_run_and_are_selected_are_asked_and_no_others() {
    let comfyui = ComfyUi::start().await;
    let (address, port) = (comfyui.address().ip(), comfyui.address().port());
    let other = ComfyUi::start_at(next_address(), port).await;
    let world = World::asking(port);
    world.add("film", "comfyui", Some(address));
    world.add("other", "other", Some(other.address().ip()));
    world.add("pending", "comfyui", None);
    comfyui.set_queue(1, 2);
    world.sees("its prompts", "film", has(1, 2)).await;
    comfyui.set_queue(0, 0);
    world.sees("that they are done", "film", has(0, 0)).await;
    asked_times(&comfyui, 20).await;
    assert!(other.asked().is_empty());
    assert_eq!((world.state("other"), world.state("pending")), (None, None));
}

#[tokio::test]
async fn one_that_hangs_keeps_no_other_waiting() {
    let comfyui = ComfyUi::start().await;
    let port = comfyui.address().port();
    let hangs = ComfyUi::start_at(next_address(), port).await;
    hangs.fails("", Fault::Hang);
    let world = World::asking(port);
    world.add("hangs", "comfyui", Some(hangs.address().ip()));
    asked_times(&hangs, 1).await;
    world.add("film", "comfyui", Some(comfyui.address().ip()));
    asked_times(&comfyui, 10).await;
    assert_eq!(world.state("hangs"), None, "it has not been given up yet");
    world
        .sees("that it hangs", "hangs", |state| {
            state.is_some_and(|state| {
                !state.is_up && state.trouble.as_ref().is_some_and(|why| why.code == "timed_out")
            })
        })
        .await;
}

#[tokio::test]
async fn a_pod_that_is_gone_is_forgotten_and_one_that_moved_is_asked_there() {
    let first = ComfyUi::start().await;
    let second = ComfyUi::start_at(next_address(), first.address().port()).await;
    first.set_queue(1, 0);
    second.set_queue(1, 1);
    let world = World::asking(first.address().port());
    world.add("film", "comfyui", Some(first.address().ip()));
    world.sees("the first", "film", has(1, 0)).await;
    world.add("film", "comfyui", Some(second.address().ip()));
    world.sees("the second", "film", has(1, 1)).await;
    world.gate.delete_pod(&"film".into(), None);
    world.sees("nothing", "film", |state| state.is_none()).await;
    world.add("next", "comfyui", Some(first.address().ip()));
    world.sees("another pod", "next", has(1, 0)).await;
    let asked = second.asked().len();
    asked_times(&first, first.asked().len() + 20).await;
    assert_eq!(second.asked().len(), asked, "nobody is there to be asked");
}

#[tokio::test]
async fn an_answer_counts_for_three_polls_and_is_then_unknown() {
    let comfyui = ComfyUi::start().await;
    let world = World::asking(comfyui.address().port());
    world.add("film", "comfyui", Some(comfyui.address().ip()));
    comfyui.set_queue(1, 6);
    world.sees("its prompts", "film", has(1, 6)).await;
    comfyui.fails("", Fault::Status(503));
    world.sees("trouble", "film", |state| state.is_some_and(|state| !state.is_up)).await;
    assert!(has(1, 6)(world.state("film").as_ref()), "one lost answer is no news");
    world.clock.advance(INTERVAL * 3);
    let state = world.state("film").unwrap();
    assert_eq!((state.queue, &*state.devices), (None, &[][..]), "unknown, and not zero");
    assert_eq!(&*state.trouble.unwrap().text, "/prompt answers 503");
    comfyui.recovers();
    world.sees("its prompts again", "film", has(1, 6)).await;
}

#[tokio::test]
async fn so_many_and_no_more_are_asked_at_a_time() {
    let comfyui = ComfyUi::start().await;
    comfyui.takes(Duration::from_millis(300));
    let world = World::asking(comfyui.address().port());
    for number in 0..400 {
        world.add(&format!("film-{number}"), "comfyui", Some(comfyui.address().ip()));
    }
    asked_times(&comfyui, 800).await;
    let most = comfyui.most_open();
    assert!((64..=128).contains(&most), "{most} at a time");
}
