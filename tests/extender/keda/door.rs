//! Who is answered.

use std::fs;

use filmgate::autoscaling::Figures;
use filmgate::autoscaling::keda::serve;
use filmgate::tls::{MutualTls, Served};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Endpoint;

use super::world::{Client, DEADLINE, World, is_active, of_film};
use crate::authority::Authority;
use crate::eventually::eventually;
use crate::port::ReservedPort;
use crate::site::Site;

#[tokio::test]
async fn only_a_certificate_under_the_configured_roots_opens() {
    let world = World::usual().await;
    let film = of_film("filmgate-pending-pods");
    let strangers = Authority::create(world.files.path(), "strangers");
    let strangers = strangers.issued("keda-operator");
    for (shown, says) in
        [(None, "no certificate was shown"), (Some(&strangers), "invalid peer certificate")]
    {
        let client = &mut world.client_with(shown).await.unwrap();
        for status in [
            is_active(client, &film).await.unwrap_err(),
            client.stream_is_active(film.clone()).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::Unauthenticated, "{status}");
            assert!(status.message().contains(says), "{status}");
            assert!(status.message().contains("keda.clientCaFile"), "{status}");
        }
    }
    assert!(is_active(&mut world.client().await, &film).await.unwrap());
}

#[tokio::test]
async fn new_certificates_are_taken_on_both_sides_and_open_connections_live_on() {
    let world = World::usual().await;
    let film = of_film("filmgate-pending-pods");
    let before = &mut world.client().await;
    assert!(is_active(before, &film).await.unwrap());

    let next = Authority::create(world.files.path(), "next");
    let theirs = next.issued("keda-operator");
    let name = "filmgate-keda.filmgate.svc";
    fs::write(world.authority.roots(), fs::read(next.roots()).unwrap()).unwrap();
    next.issue(&world.identity, name);
    eventually(DEADLINE, "the next authority's certificates", async || {
        let client = &mut world.client_under(&next.roots(), &theirs).await?;
        is_active(client, &film).await.map_err(|status| status.to_string())
    })
    .await;
    // The connection is the same; whoever has the old certificate is not let in any more.
    assert_eq!(is_active(before, &film).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn plain_text_is_answered_where_no_certificates_are_configured() {
    let site = Site::with(&[]);
    let (port, stop) = (ReservedPort::reserve(), CancellationToken::new());
    let figures = Figures::of(site.gate.clone(), site.clock.clock());
    let served = Served { listen: port.address(), tls: None };
    serve(&served, figures, &stop).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", port.address())).unwrap();
    let client = &mut Client::new(endpoint.connect().await.unwrap());
    assert!(!is_active(client, &of_film("filmgate-pending-pods")).await.unwrap());
    stop.cancel();
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named_by_their_keys() {
    let world = World::usual().await;
    let problem = async |change: &dyn Fn(&mut MutualTls)| {
        let mut tls =
            MutualTls { identity: world.identity.clone(), client_roots: world.authority.roots() };
        change(&mut tls);
        let served = Served { listen: ReservedPort::reserve().address(), tls: Some(tls) };
        let figures = Figures::of(world.site.gate.clone(), world.site.clock.clock());
        let failed = serve(&served, figures, &CancellationToken::new()).await;
        failed.unwrap_err().to_string()
    };
    let text = problem(&|tls| tls.client_roots = "/nowhere/ca.crt".into()).await;
    assert!(text.starts_with("config key keda.clientCaFile: /nowhere/ca.crt: "), "{text}");
    let text = problem(&|tls| tls.identity.key = "/nowhere/tls.key".into()).await;
    let says = "config keys keda.certificateFile and keda.keyFile: /nowhere/tls.key: ";
    assert!(text.starts_with(says), "{text}");
}
