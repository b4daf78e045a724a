//! Certificates that are made anew.

use filmgate::certificates::material::{CERTIFICATE, KEY};
use filmgate::certificates::plan::Subject;

use crate::world::{AGENT, AUTHORITY, CLIENT, LEAVES, SERVICE, World, days, settings};

#[tokio::test]
async fn certificates_are_renewed_when_they_age_and_their_authority_stays() {
    let world = World::start().await;
    world.round().await;
    let (first, authority) = (world.look().await, world.data(AUTHORITY).await);
    world.pass(days(59));
    world.round().await;
    assert_eq!(world.look().await.shown, first.shown);

    let old_key = world.data(AGENT).await[KEY].clone();
    world.pass(days(2));
    let expiries = world.round().await;
    let second = world.look().await;
    second.assert_goes_on_from(&first);
    for name in LEAVES {
        assert_ne!(second.shown[name], first.shown[name], "{name}");
        assert_eq!(expiries[name], second.shown[name].ends);
        assert!(second.shown[name].ends > world.now() + days(89));
    }
    assert_ne!(world.data(AGENT).await[KEY], old_key);
    assert_eq!(world.data(AUTHORITY).await, authority);
}

#[tokio::test]
async fn what_somebody_took_away_or_broke_is_made_anew_and_nothing_else() {
    let world = World::start().await;
    world.round().await;
    let first = world.look().await;
    world.empty(AGENT, None).await;
    world.empty(SERVICE, Some(CERTIFICATE)).await;
    world.round().await;
    let second = world.look().await;
    second.assert_goes_on_from(&first);
    assert_ne!(second.shown[AGENT], first.shown[AGENT]);
    assert_ne!(second.shown[SERVICE], first.shown[SERVICE]);
    assert_eq!(second.shown[CLIENT], first.shown[CLIENT]);

    world.empty(CLIENT, Some("ca.crt")).await;
    world.round().await;
    assert_eq!(world.look().await.believed[CLIENT], first.believed[CLIENT]);
}

#[tokio::test]
async fn other_names_are_another_certificate() {
    let world = World::start().await;
    world.round().await;
    let mut settings = settings();
    let names = vec!["filmgate-agent.elsewhere.svc".to_owned(), "filmgate-agent".to_owned()];
    settings.leaves[0].1 = Subject::Server(names.clone());
    world.keeper_with(settings).await.round().await.unwrap();
    let now = world.look().await.shown[AGENT].clone();
    assert_eq!(now.dns_names, names.into_iter().collect());
}
