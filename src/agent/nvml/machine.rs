//! The machine from sampling to sampling: when NVML is opened, what is known while it is not, and
//! what a GPU that does not answer counts as.

use std::sync::Arc;

use tokio::time::Instant;

use super::Settings;
use super::board::Common;
use super::desk::{Desk, NoAnswer};
use super::fault::{Fault, Reach, overdue};
use super::known::Known;
use super::opener::Opener;
use super::retry::Retry;
use super::session::{self, Answer, Session};
use super::xids::XidBook;
use crate::agent::hardware::{Driver, Hardware, UnreadGpu};

type OpenerDesk = Desk<(), Result<Session, Arc<str>>>;

/// Everything that outlives a sampling.
pub(super) struct Machine {
    settings: Settings,
    xids: XidBook,
    known: Known,
    opener: Option<OpenerDesk>,
    session: Option<Session>,
    /// Why there is no session.
    away: Arc<str>,
    /// Tries to open NVML.
    opening: Retry,
    /// Tries to find GPUs that are missing, by opening it anew.
    finding: Retry,
}

impl Machine {
    pub(super) fn new(settings: Settings, xids: XidBook) -> Self {
        let (opening, finding) = (Retry::new(settings.reopen), Retry::new(settings.find));
        Self {
            settings,
            xids,
            known: Known::default(),
            opener: None,
            session: None,
            away: "".into(),
            opening,
            finding,
        }
    }

    /// Samples every GPU. One that is stuck costs the deadline once, and nothing from then on.
    pub(super) async fn sample(&mut self) -> Hardware {
        self.close_to_find_gpus();
        if self.session.is_none() {
            self.open().await;
        }
        match &mut self.session {
            Some(session) => {
                let answers = session.ask(self.settings.deadline).await;
                self.judge(answers)
            }
            None => self.without_driver(),
        }
    }

    /// Only NVML opened anew finds a GPU that it lost. While a call is under way it cannot be closed.
    fn close_to_find_gpus(&mut self) {
        let is_idle = |session: &mut Session| !session.is_busy();
        if self.finding.is_due(Instant::now()) && self.session.as_mut().is_some_and(is_idle) {
            self.finding.failed(Instant::now());
            self.session = None;
        }
    }

    async fn open(&mut self) {
        let (deadline, must_wait) =
            (self.settings.deadline, self.opening.must_wait(Instant::now()));
        let Some(desk) = self.opener() else { return };
        let answer = match (desk.late(), desk.busy()) {
            (Some(opened), _) => Ok(opened),
            (None, Some(since)) => Err(NoAnswer::Overdue(since)),
            (None, None) if must_wait => return,
            (None, None) => {
                desk.ask(());
                desk.answer(Instant::now() + deadline).await
            }
        };
        match answer {
            Ok(Ok(session)) => self.opened(session),
            Ok(Err(why)) => self.lose_driver(why),
            Err(NoAnswer::Overdue(since)) => {
                self.driver_is_away(overdue("opening NVML", since), Reach::Nothing);
            }
            Err(NoAnswer::Ended) => {
                self.opener = None;
                self.lose_driver("the thread that opens NVML has ended".into());
            }
        }
    }

    /// The desk of the thread that opens NVML, which is started if need be.
    fn opener(&mut self) -> Option<&mut OpenerDesk> {
        if self.opener.is_none() {
            let common =
                Common { wear_interval: self.settings.wear_interval, xids: self.xids.clone() };
            let mut opener = Opener::new(self.settings.library.clone(), common);
            match Desk::open("nvml".into(), move |()| opener.open()) {
                Ok((desk, _)) => self.opener = Some(desk),
                Err(error) => self.away = format!("no thread for NVML: {error}").into(),
            }
        }
        self.opener.as_mut()
    }

    fn opened(&mut self, session: Session) {
        tracing::info!(driver = %session.driver, gpus = session.len(), "NVML is open");
        self.session = Some(session);
    }

    fn lose_driver(&mut self, why: Arc<str>) {
        self.session = None;
        self.opening.failed(Instant::now());
        self.driver_is_away(why, Reach::Driver);
    }

    fn driver_is_away(&mut self, why: Arc<str>, reach: Reach) {
        if self.away != why {
            tracing::warn!(%why, "no GPU can be asked");
        }
        self.away = Arc::clone(&why);
        self.known.silence_all(&Fault { reach, why });
    }

    /// Takes what the GPUs answered.
    fn judge(&mut self, answers: Vec<Answer>) -> Hardware {
        if let Some(why) = session::end(&answers) {
            self.lose_driver(why);
            return self.without_driver();
        }
        let Some(session) = &self.session else { return self.without_driver() };
        let driver = Driver::Ready { version: Arc::clone(&session.driver) };
        self.opening.worked();
        self.away = "".into();
        let fails = |answer: &Answer| answer.as_ref().is_err_and(|it| it.reach != Reach::Nothing);
        let mut misses_gpus = answers.is_empty() || answers.iter().any(fails);
        let unread = hear(&mut self.known, &self.xids, session, answers);
        misses_gpus |= self.known.miss_all_but(&session.uuids(), unread.is_empty());
        match misses_gpus {
            true => self.finding.fails(Instant::now()),
            false => self.finding.worked(),
        }
        self.hardware(driver, unread)
    }

    fn without_driver(&self) -> Hardware {
        self.hardware(Driver::Away { why: Arc::clone(&self.away) }, Vec::new())
    }

    fn hardware(&self, driver: Driver, unread: Vec<UnreadGpu>) -> Hardware {
        let gpus = self.known.gpus(&self.xids, &self.settings.harmless_xids);
        Hardware { driver, gpus, unread }
    }
}

/// Returns those that have never told who they are.
fn hear(
    known: &mut Known,
    xids: &XidBook,
    session: &Session,
    answers: Vec<Answer>,
) -> Vec<UnreadGpu> {
    let mut unread = Vec::new();
    for ((index, answer), uuid) in (0..).zip(answers).zip(session.seats()) {
        match (answer, uuid) {
            (Ok(gpus), _) => known.heard(gpus, xids),
            (Err(fault), Some(uuid)) => known.silence(uuid, &fault),
            (Err(Fault { why, .. }), None) => unread.push(UnreadGpu { index, why }),
        }
    }
    unread
}

impl Drop for Machine {
    /// Lets NVML close, and waits for that: threads that are inside it when the process ends may
    /// crash it.
    fn drop(&mut self) {
        self.session = None;
        if let Some(opener) = self.opener.take() {
            opener.close(self.settings.deadline);
        }
    }
}
