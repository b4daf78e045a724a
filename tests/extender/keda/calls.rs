//! What is answered.

use filmgate::autoscaling::keda::wire::{MetricSpec, MetricValue, ScaledObjectRef};
use tonic::Code;

use super::world::{World, asked, is_active, labelled, metric, of_film, spec, value};
use crate::site::{Site, bound};
use crate::support::node;

const GIB: f64 = (1_u64 << 30) as f64;

#[tokio::test]
async fn values_are_those_of_the_picked_pods_of_the_scaled_objects_own_namespace() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    for (metric, expected) in [
        ("filmgate-pending-pods", 2.0),
        ("filmgate-pending-vram-bytes", 24.0 * GIB),
        ("filmgate-workload-vram-bytes-max", 3.0 * GIB),
        ("filmgate-gpu-utilization-ratio", 0.375),
    ] {
        let value = value(client, &of_film(metric)).await;
        assert_eq!(value.unwrap(), expected, "{metric}");
    }
    let everybody = asked(&[("metric", "filmgate-pending-pods"), ("target", "1")]);
    assert_eq!(value(client, &everybody).await.unwrap(), 3.0);
    let far = ScaledObjectRef { namespace: "far".to_owned(), ..everybody.clone() };
    assert_eq!(value(client, &far).await.unwrap(), 1.0);
    let nowhere = ScaledObjectRef { namespace: "nowhere".to_owned(), ..everybody };
    assert_eq!(value(client, &nowhere).await.unwrap(), 0.0);
}

#[tokio::test]
async fn figures_of_the_fleet_are_the_same_in_every_namespace() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    let here = asked(&[("metric", "filmgate-gpu-equivalents-needed"), ("target", "1")]);
    let there = ScaledObjectRef { namespace: "nowhere".to_owned(), ..here.clone() };
    // The bound pod is charged 12 of 23.5 GiB, and a second does not fit beside it.
    assert_eq!(value(client, &here).await.unwrap(), 4.0);
    assert_eq!(value(client, &there).await.unwrap(), 4.0);
}

#[tokio::test]
async fn numbers_come_as_a_float_and_as_an_integer() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    let name = "filmgate-gpu-utilization-ratio";
    let ratio = asked(&[("metric", name), ("selector", "app=film"), ("target", "250m")]);
    let expected =
        MetricSpec { metric_name: name.to_owned(), target_size: 1, target_size_float: 0.25 };
    assert_eq!(spec(client, &ratio).await.unwrap(), expected);
    let expected =
        MetricValue { metric_name: name.to_owned(), metric_value: 0, metric_value_float: 0.375 };
    assert_eq!(metric(client, &ratio, name).await.unwrap(), expected);

    let name = "filmgate-pending-vram-bytes";
    let bytes = asked(&[("metric", name), ("selector", "app=film"), ("target", "12Gi")]);
    let target = spec(client, &bytes).await.unwrap();
    assert_eq!((target.target_size, target.target_size_float), (12 << 30, 12.0 * GIB));
    let value = metric(client, &bytes, name).await.unwrap();
    assert_eq!((value.metric_value, value.metric_value_float), (24 << 30, 24.0 * GIB));
}

#[tokio::test]
async fn it_is_active_above_its_activation_target() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    let mut film = of_film("filmgate-pending-pods");
    for (activation_target, expected) in [(None, true), (Some("1.5"), true), (Some("2"), false)] {
        if let Some(target) = activation_target {
            film.scaler_metadata.insert("activationTarget".to_owned(), target.to_owned());
        }
        assert_eq!(is_active(client, &film).await.unwrap(), expected, "{activation_target:?}");
    }
    let nobody =
        asked(&[("metric", "filmgate-pending-pods"), ("selector", "app=nobody"), ("target", "1")]);
    assert!(!is_active(client, &nobody).await.unwrap());
}

#[tokio::test]
async fn a_figure_of_pods_that_nobody_knows_is_an_error_and_of_no_pods_zero() {
    let n0 = node("n0").gpus(1).replicas(8);
    let site = Site::with(std::slice::from_ref(&n0));
    let world = World::of(site).await;
    let client = &mut world.client().await;
    let held = of_film("filmgate-workload-vram-bytes-max");
    assert_eq!(value(client, &held).await.unwrap(), 0.0);
    assert!(!is_active(client, &held).await.unwrap());

    world.site.add(&bound(labelled("film-0"), "n0"));
    world.wait();
    for status in
        [value(client, &held).await.unwrap_err(), is_active(client, &held).await.unwrap_err()]
    {
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(
            status.message(),
            "filmgate-workload-vram-bytes-max is not known of any of the 1 pods that are picked: \
             no process is seen"
        );
    }

    world.site.read(&n0.uses("film-0", 0, 3));
    world.wait();
    assert_eq!(value(client, &held).await.unwrap(), 3.0 * GIB);
    assert!(is_active(client, &held).await.unwrap());
}

#[tokio::test]
async fn a_standby_answers_and_a_replica_that_does_not_know_the_cluster_does_not() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    let film = of_film("filmgate-pending-pods");
    world.site.gate.stand_by();
    assert!(is_active(client, &film).await.unwrap());
    assert_eq!(value(client, &film).await.unwrap(), 2.0);

    world.site.gate.set_ready(false);
    for status in [
        is_active(client, &film).await.unwrap_err(),
        value(client, &film).await.unwrap_err(),
        client.stream_is_active(film.clone()).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("has not seen all pods and nodes"), "{status}");
    }
    assert_eq!(spec(client, &film).await.unwrap().target_size, 1, "the author's word suffices");
}
