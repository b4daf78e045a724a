//! What may befall a request on its way, and which requests it befalls.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::{Method, Request};
use filmgate::cluster::FENCE_ANNOTATION;

/// What filmgate asks about one pod while it binds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// The Binding.
    Bind,
    /// The patch that keeps earlier Bindings out.
    Fence,
    /// A look at the pod.
    Get,
}

/// What befalls a request: how it gets to the API server, and what its sender hears.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// When the API server gets it.
    pub commit: Commit,
    /// What its sender is answered.
    pub answer: Answer,
}

/// When the API server gets a request.
#[derive(Clone, Copy, Debug)]
pub enum Commit {
    /// That long after it came, and before any answer.
    Before(Duration),
    /// That long after it came, whatever its sender has been answered meanwhile.
    After(Duration),
    /// When the test lets it go (see [`super::FaultProxy::release`]).
    Held,
    /// Not at all.
    Never,
}

/// What the sender of a request is answered.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// What the API server says, once it does.
    Own,
    /// The same, that much later.
    Late(Duration),
    /// Nothing: the connection is reset.
    Reset,
    /// A status that the API server did not give.
    Faked(u16),
}

impl Fault {
    /// It goes its way.
    pub const NONE: Self = Self::delayed(Duration::ZERO);
    /// It waits for the test to let it go.
    pub const HELD: Self = Self { commit: Commit::Held, answer: Answer::Own };

    /// It reaches the API server later.
    pub const fn delayed(by: Duration) -> Self {
        Self { commit: Commit::Before(by), answer: Answer::Own }
    }

    /// The API server carries it out, and its sender is not told that.
    pub const fn carried_out(answer: Answer) -> Self {
        Self { commit: Commit::Before(Duration::ZERO), answer }
    }

    /// The API server never hears of it.
    pub const fn lost(answer: Answer) -> Self {
        Self { commit: Commit::Never, answer }
    }
}

/// Tells from a pod's name what befalls a request about it.
type Rule = Box<dyn FnMut(&str) -> Fault + Send>;

/// What befalls which requests.
#[derive(Default)]
pub(super) struct Rules {
    rules: HashMap<Verb, Rule>,
    /// These befall the next request of the kind and then no other.
    next: Vec<(Call, Fault)>,
}

impl Rules {
    pub(super) fn set(&mut self, verb: Verb, rule: Rule) {
        self.rules.insert(verb, rule);
    }

    pub(super) fn add_next(&mut self, call: Call, fault: Fault) {
        self.next.push((call, fault));
    }

    pub(super) fn befalls(&mut self, call: &Call) -> Fault {
        if let Some(at) = self.next.iter().position(|(next, _)| next == call) {
            return self.next.remove(at).1;
        }
        self.rules.get_mut(&call.verb).map_or(Fault::NONE, |rule| rule(&call.pod))
    }
}

/// A request that a fault may befall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) pod: String,
}

impl Call {
    pub(super) fn of(request: &Request<Vec<u8>>) -> Option<Self> {
        let path = request.uri().path();
        let binding = path.strip_suffix("/binding");
        let (kind, pod) = binding.unwrap_or(path).rsplit_once('/')?;
        let is_about_pod = kind.ends_with("/pods");
        let verb = match *request.method() {
            Method::POST if binding.is_some() => Verb::Bind,
            Method::PATCH if is_about_pod && is_fence(request.body()) => Verb::Fence,
            Method::GET if is_about_pod => Verb::Get,
            _ => return None,
        };
        Some(Self { verb, pod: pod.to_owned() })
    }
}

fn is_fence(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains(FENCE_ANNOTATION)
}
