//! What is pushed.

use std::time::Duration;

use filmgate::autoscaling::keda::wire::{IsActiveResponse, ScaledObjectRef};
use tokio::time::timeout;
use tonic::Streaming;

use super::world::{Client, DEADLINE, World, is_active, labelled, of_film};
use crate::eventually::eventually;
use crate::site::Site;
use crate::support::node;

/// KEDA has one connection for all its ScaledObjects.
const MANY: usize = 200;

/// A stream looks once a second, on a busy machine, too.
const LOOKED_AT: Duration = Duration::from_secs(4);

async fn open(client: &mut Client, asked: &ScaledObjectRef) -> Streaming<IsActiveResponse> {
    client.stream_is_active(asked.clone()).await.unwrap().into_inner()
}

/// What it says next; `None` where it ends.
async fn next(stream: &mut Streaming<IsActiveResponse>) -> Option<bool> {
    let message = timeout(DEADLINE, stream.message()).await.expect("a message in time");
    message.unwrap().map(|message| message.result)
}

async fn empty() -> World {
    World::of(Site::with(&[node("n0").gpus(1).replicas(8)])).await
}

#[tokio::test]
async fn a_stream_tells_what_is_and_each_change_of_it() {
    let world = empty().await;
    let client = &mut world.client().await;
    let mut film = open(client, &of_film("filmgate-pending-pods")).await;
    assert_eq!(next(&mut film).await, Some(false));

    world.site.add(&labelled("other"));
    world.site.add(&labelled("film-0"));
    world.wait();
    assert_eq!(next(&mut film).await, Some(true));
    world.site.add(&labelled("film-1"));
    world.wait();
    let again = timeout(Duration::from_millis(2500), film.message()).await;
    assert!(again.is_err(), "more of the same is no news: {again:?}");

    for name in ["film-0", "film-1"] {
        world.site.gate.delete_pod(&name.into(), None);
    }
    world.wait();
    assert_eq!(next(&mut film).await, Some(false));
}

#[tokio::test]
async fn a_stream_is_silent_while_nothing_is_known() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    let mut film = open(client, &of_film("filmgate-pending-pods")).await;
    assert_eq!(next(&mut film).await, Some(true));
    world.site.gate.set_ready(false);
    for name in ["film-0", "film-1"] {
        world.site.gate.delete_pod(&name.into(), None);
    }
    world.wait();
    let told = timeout(Duration::from_millis(2500), film.message()).await;
    assert!(told.is_err(), "{told:?}");
    world.site.gate.set_ready(true);
    assert_eq!(next(&mut film).await, Some(false));
}

#[tokio::test]
async fn streams_end_without_an_error_when_the_replica_does() {
    let mut world = World::usual().await;
    let client = &mut world.client().await;
    let film = of_film("filmgate-pending-pods");
    let mut drained = open(client, &film).await;
    assert_eq!(next(&mut drained).await, Some(true));
    world.site.gate.drain(Duration::ZERO).await;
    assert_eq!(next(&mut drained).await, None);

    let mut world_that_stops = World::usual().await;
    let client = &mut world_that_stops.client().await;
    let mut stopped = open(client, &film).await;
    assert_eq!(next(&mut stopped).await, Some(true));
    world_that_stops.end();
    assert_eq!(next(&mut stopped).await, None);
    world.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_streams_leave_a_connection_room_for_calls() {
    let world = empty().await;
    let client = &mut world.client().await;
    let film = of_film("filmgate-pending-pods");
    let mut streams = Vec::new();
    for _ in 0..=MANY {
        streams.push(open(client, &film).await);
    }
    for stream in &mut streams {
        assert_eq!(next(stream).await, Some(false));
    }
    let call = timeout(DEADLINE, is_active(client, &film)).await;
    assert!(!call.expect("an answer beside the streams").unwrap());
    world.site.add(&labelled("film-0"));
    world.wait();
    for stream in &mut streams {
        assert_eq!(next(stream).await, Some(true));
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_client() {
    let world = empty().await;
    let film = of_film("filmgate-pending-pods");
    let client = &mut world.client().await;
    let mut stream = open(client, &film).await;
    assert_eq!(next(&mut stream).await, Some(false));
    timeout(LOOKED_AT, stream.message()).await.expect_err("nothing new");
    assert!(world.idle_for() < LOOKED_AT, "a stream goes on looking");
    drop(stream);
    eventually(DEADLINE, "nobody looks", async || {
        let idle = world.idle_for();
        if idle > LOOKED_AT { Ok(()) } else { Err(format!("{idle:?}")) }
    })
    .await;
}
