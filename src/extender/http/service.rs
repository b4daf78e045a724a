//! The verbs for a kube-scheduler that is not in the same pod: they are served to other machines, so
//! over TLS, to whoever has a certificate of the cluster's operator, and nothing else is served there.

use std::io;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use axum::{Router, middleware};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{problem, unknown_path, verbs_alone};
use crate::extender::Gate;
use crate::tls::{Door, Opened, PeerCertificates, Seldom, ServeError, Served, Speaks};

/// Serves until `stop`.
///
/// # Errors
/// When the address or a certificate cannot be used.
pub async fn serve(
    served: &Served,
    gate: Arc<Gate>,
    stop: &CancellationToken,
) -> Result<JoinHandle<io::Result<()>>, ServeError> {
    let router = verbs_alone(gate).fallback(unknown_path);
    let (listener, door) = match served.open("service", Speaks::Http1).await? {
        Opened::Plain(listener) => return Ok(super::serve(listener, router, stop)),
        Opened::Guarded(listener, door) => (listener, door),
    };
    let router = guarded(router, door).into_make_service_with_connect_info::<PeerCertificates>();
    let stop = stop.clone().cancelled_owned();
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
    Ok(tokio::spawn(async move { serving.await }))
}

fn guarded(router: Router, door: Door) -> Router {
    let guard = Arc::new(Guard { door, refusals: Seldom::default() });
    router.layer(middleware::from_fn_with_state(guard, known_caller))
}

struct Guard {
    door: Door,
    refusals: Seldom,
}

async fn known_caller(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(shown): ConnectInfo<PeerCertificates>,
    request: Request,
    next: Next,
) -> Response {
    let Err(why) = guard.door.check(&shown) else { return next.run(request).await };
    let text = format!(
        "the client's certificate: {why}; tlsConfig.certFile and keyFile of kube-scheduler's \
         extender have to be signed under service.clientCaFile"
    );
    // kube-scheduler shows the status and not the text.
    if let Some(untold) = guard.refusals.due() {
        tracing::warn!(path = request.uri().path(), untold, "a caller is refused: {text}");
    }
    problem(StatusCode::UNAUTHORIZED, text)
}
