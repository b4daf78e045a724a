//! The listener's connections: few, short, one question each.
//!
//! Whoever can reach it may open them, so what is slow is cut off at every step, before anybody
//! looks at what it says.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Connections at a time; others wait, as the kernel lets them.
const MOST_CONNECTIONS: usize = 64;
/// For the lines before the body.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// For all of it: a probe of 10 s may wait for another one's, and writes follow.
const DEADLINE: Duration = Duration::from_secs(60);

/// Serves until it is stopped.
pub async fn serve(mut listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        // Nobody closes the semaphore.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            // axum's own, which bears with errors of single connections.
            (stream, _) = Listener::accept(&mut listener) => stream,
        };
        let router = router.clone();
        tokio::spawn(async move {
            // What breaks off is the other side's loss.
            let _ended = timeout(DEADLINE, answer(stream, router)).await;
            drop(place);
        });
    }
}

async fn answer(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    connection.await
}
