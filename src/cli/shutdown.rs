//! The end of a service: the first SIGTERM or SIGINT asks for it, the second does not wait.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status after a second signal.
const IMPATIENT: i32 = 130;

/// A token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be caught.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let asked = shutdown.clone();
    tokio::spawn(async move {
        either(&mut term, &mut int).await;
        tracing::info!("shutting down");
        asked.cancel();
        either(&mut term, &mut int).await;
        std::process::exit(IMPATIENT);
    });
    Ok(shutdown)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
