//! The loop: an answer a second, and keys as they come.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::answer::Fleet;
use super::screen::{self, Shown};
use super::view::{Key, View};
use crate::bridge::seen::Seen;
use crate::query::{Extender, QueryError};

/// Readings come once a second.
const PACE: Duration = Duration::from_secs(1);
/// How long the thread that reads keys may be deaf to the end.
const KEY_PATIENCE: Duration = Duration::from_millis(100);

enum Input {
    Key(Key),
    /// The terminal has another size.
    Resized,
    /// Ctrl-C.
    End,
}

/// Shows the fleet until somebody presses `q`.
///
/// # Errors
/// When the terminal cannot be used.
pub async fn run(extender: &Extender, bridge: Option<&Extender>) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let ended = follow(&mut terminal, extender, bridge).await;
    ratatui::restore();
    ended
}

async fn follow(
    terminal: &mut DefaultTerminal,
    extender: &Extender,
    bridge: Option<&Extender>,
) -> io::Result<()> {
    let mut inputs = inputs();
    let mut pace = tokio::time::interval(PACE);
    let (mut view, mut fleet, mut problem) = (View::default(), None, None);
    let mut row = None;
    loop {
        let (fleet_now, problem_now) = (fleet.as_ref(), problem.as_deref());
        let shown = Shown { fleet: fleet_now, problem: problem_now, bridge: row.as_deref() };
        terminal.draw(|frame| screen::draw(frame, &mut view, &shown))?;
        tokio::select! {
            input = inputs.recv() => match input {
                Some(Input::Key(key)) if view.press(key) => return Ok(()),
                Some(Input::End) | None => return Ok(()),
                Some(Input::Key(_) | Input::Resized) => {}
            },
            (answer, said) = next(&mut pace, extender, bridge) => {
                row = said;
                match answer {
                    Ok(news) => (fleet, problem) = (Some(news), None),
                    Err(error) => problem = Some(error.to_string()),
                }
            }
        }
    }
}

/// The fleet at the next second, and what the bridge says then.
async fn next(
    pace: &mut tokio::time::Interval,
    extender: &Extender,
    bridge: Option<&Extender>,
) -> (Result<Fleet, QueryError>, Option<String>) {
    pace.tick().await;
    let row = async { Some(row(bridge?).await) };
    tokio::join!(extender.get("/fleet", &[]), row)
}

/// What a bridge says of itself, or why it says nothing.
pub async fn row(bridge: &Extender) -> String {
    let state = bridge.get::<Seen>("/state", &[]).await;
    state.map_or_else(|_| format!("bridge: no answer at {}", bridge.url()), |seen| seen.to_string())
}

/// Keys, from a thread that ends when nobody listens.
fn inputs() -> mpsc::UnboundedReceiver<Input> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let input = match event::poll(KEY_PATIENCE) {
                Ok(true) => event::read().ok().and_then(|event| meaning(&event)),
                Ok(false) => None,
                Err(_) => Some(Input::End),
            };
            if input.is_some_and(|input| sender.send(input).is_err()) {
                return;
            }
        }
    });
    receiver
}

fn meaning(event: &Event) -> Option<Input> {
    let key = match event {
        Event::Key(key) if key.kind == KeyEventKind::Press => key,
        Event::Resize(..) => return Some(Input::Resized),
        _ => return None,
    };
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(Input::Key(match key.code {
        KeyCode::Char('c') if is_control => return Some(Input::End),
        KeyCode::Char(letter) => Key::Char(letter),
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Tab => Key::Tab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    }))
}
