//! What a browser may ask.
//!
//! Loopback keeps other machines out, and not the pages that a browser on this one has open:
//! any of them may send requests to 127.0.0.1, or to a name of its own that it lets point there.
//! kube-scheduler sends no `Origin`, and a browser does with every POST. A name that leads here
//! by somebody's DNS has a dot, and is none of a cluster's.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem;

/// Names that no public DNS answers.
const CLUSTER_DOMAINS: [&str; 2] = [".svc", ".cluster.local"];

/// For kube-scheduler's calls: no browser has any business there.
pub(super) async fn no_browser(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return problem(StatusCode::FORBIDDEN, "a web page may not call this");
    }
    next.run(request).await
}

/// For what people look at: only from the page that this listener serves, or from no page.
pub(super) async fn own_page(request: Request, next: Next) -> Response {
    let Some(host) = host(request.headers(), request.uri()) else {
        return problem(StatusCode::BAD_REQUEST, "the request names no host");
    };
    if !is_ours(&host) {
        let text = format!("{host} may be anybody's name: use 127.0.0.1 or localhost");
        return problem(StatusCode::FORBIDDEN, text);
    }
    let origin = request.headers().get(header::ORIGIN).map(|origin| origin.as_bytes());
    let is_same = |origin: &[u8]| {
        let scheme_and_host = [b"http://", host.as_bytes()].concat();
        origin == scheme_and_host
    };
    if origin.is_some_and(|origin| !is_same(origin)) {
        return problem(StatusCode::FORBIDDEN, "a page of another origin may not ask");
    }
    next.run(request).await
}

fn host(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let from_header = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    from_header.or_else(|| uri.authority().map(|one| one.as_str())).map(str::to_owned)
}

fn is_ours(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || CLUSTER_DOMAINS.iter().any(|domain| name.ends_with(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_anybody_may_have_is_not_ours() {
        for host in ["127.0.0.1:9110", "localhost", "localhost:80", "[::1]:9110", "10.1.2.3"] {
            assert!(is_ours(host), "{host}");
        }
        for host in ["filmgate:9110", "filmgate.filmgate.svc:9110", "f.f.svc.cluster.local"] {
            assert!(is_ours(host), "{host}");
        }
        for host in ["films.example:9110", "127.0.0.1.nip.io", "localhost.", "a.svc.example"] {
            assert!(!is_ours(host), "{host}");
        }
    }
}
