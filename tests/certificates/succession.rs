//! One authority after another: nobody's certificate is doubted meanwhile.

use jiff::SignedDuration;

use crate::world::{AGENT, AUTHORITY, CLIENT, LEAVES, View, World, days};

const AN_HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test]
async fn an_ageing_authority_is_succeeded_and_nobody_is_doubted() {
    let world = World::start().await;
    world.round().await;
    let old = world.pair(AUTHORITY).await.certificate;
    world.pass(days(2_400));
    world.round().await;
    assert_eq!(world.pair(AUTHORITY).await.certificate, old);
    let before = world.look().await;

    world.pass(days(40));
    world.round().await;
    assert_ne!(world.pair(AUTHORITY).await.certificate, old);
    succeeds(&world, before).await;
}

#[tokio::test]
async fn an_authority_that_was_taken_away_is_succeeded_and_nobody_is_doubted() {
    let world = World::start().await;
    world.round().await;
    let before = world.look().await;
    world.pass(days(1));
    world.empty(AUTHORITY, None).await;
    world.round().await;
    succeeds(&world, before).await;
}

/// From the moment on in which there is a new authority.
async fn succeeds(world: &World, before: View) {
    let new = world.pair(AUTHORITY).await.certificate;
    let told = world.look().await;
    told.assert_goes_on_from(&before);
    for name in LEAVES {
        assert_eq!(told.shown[name], before.shown[name], "{name}: not yet");
        assert_eq!(told.believed[name][0], new);
        assert_eq!(told.believed[name].len(), 2);
    }
    // A new one is wanted at once, and is the new authority's.
    world.empty(CLIENT, Some("tls.key")).await;
    world.pass(AN_HOUR / 2);
    world.round().await;
    let halfway = world.look().await;
    halfway.assert_goes_on_from(&told);
    assert!(halfway.shown[CLIENT].is_signed_by(&new));
    assert_eq!(halfway.shown[AGENT], before.shown[AGENT]);

    world.pass(AN_HOUR / 2);
    world.round().await;
    let moved = world.look().await;
    moved.assert_goes_on_from(&halfway);
    for name in LEAVES {
        assert!(moved.shown[name].is_signed_by(&new), "{name}");
        assert_eq!(moved.believed[name].len(), 2, "{name}: the old one is still in use somewhere");
    }
    world.pass(AN_HOUR);
    world.round().await;
    for (name, believed) in world.look().await.believed {
        assert_eq!(believed, std::slice::from_ref(&new), "{name}");
    }
}
