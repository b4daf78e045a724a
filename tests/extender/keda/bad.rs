//! What a ScaledObject's author may have got wrong.

use filmgate::autoscaling::catalogue::METRICS;
use filmgate::autoscaling::keda::wire::{GetMetricsRequest, ScaledObjectRef};
use tonic::{Code, Status};

use super::world::{Client, World, asked, is_active, metric, of_film, spec};

const PENDING: (&str, &str) = ("metric", "filmgate-pending-pods");

/// What every call says of it.
async fn complaint(client: &mut Client, asked: &ScaledObjectRef) -> String {
    let said = [
        spec(client, asked).await.unwrap_err(),
        metric(client, asked, "filmgate-pending-pods").await.unwrap_err(),
        is_active(client, asked).await.unwrap_err(),
        client.stream_is_active(asked.clone()).await.unwrap_err(),
    ];
    assert!(said.iter().all(|status| status.code() == Code::InvalidArgument), "{said:?}");
    let [text, others @ ..] = said.map(|status: Status| status.message().to_owned());
    assert!(others.iter().all(|other| *other == text), "{text} {others:?}");
    text
}

#[tokio::test]
async fn what_cannot_be_meant_is_named_with_a_right_example() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    for (metadata, says) in [
        (
            &[("metric", "filmgate-pending-pods")][..],
            r#"metadata.target is missing; write for example target: "2""#,
        ),
        (
            &[("target", "2")],
            r#"metadata.metric is missing; write for example metric: "filmgate-pending-pods""#,
        ),
        (
            &[PENDING, ("target", "0")],
            r#"metadata.target: "0" must be above zero, 1m or more; write for example target: "2""#,
        ),
        (&[PENDING, ("target", "two")], r#"metadata.target: "two" is not a quantity; write for"#),
        (
            &[PENDING, ("target", "1"), ("activationTarget", "-1")],
            r#"metadata.activationTarget: "-1" must not be below zero; write for example activationTarget: "0""#,
        ),
        (
            &[PENDING, ("target", "1"), ("selector", "app on (a)")],
            r#"metadata.selector: "app on (a)" is not of the form"#,
        ),
        (
            &[PENDING, ("target", "1"), ("threshold", "1"), ("zone", "a")],
            "metadata.threshold: there is no such key; there are metric, selector, target and \
             activationTarget, beside KEDA's own",
        ),
        (
            &[
                ("metric", "filmgate-gpu-equivalents-needed"),
                ("selector", "app=a"),
                ("target", "1"),
            ],
            "metadata.selector: filmgate-gpu-equivalents-needed is of the whole fleet and takes \
             no selector: leave it out",
        ),
    ] {
        let text = complaint(client, &asked(metadata)).await;
        assert!(text.starts_with(says), "{text}");
    }
}

#[tokio::test]
async fn an_unknown_metric_is_told_which_there_are() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    let text = complaint(client, &asked(&[("metric", "queue"), ("target", "1")])).await;
    assert!(text.starts_with(r#"metadata.metric: "queue" is not one of filmgate-"#), "{text}");
    assert!(METRICS.iter().all(|metric| text.contains(metric.name)), "{text}");
}

#[tokio::test]
async fn a_secret_in_the_wrong_place_is_not_repeated() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    for key in ["caCert", "tlsClientCert", "tlsClientKey"] {
        let text = complaint(client, &asked(&[PENDING, ("target", "1"), (key, "hush")])).await;
        assert!(text.starts_with(&format!("metadata.{key}: KEDA does not read it here")), "{text}");
        assert!(text.contains("TriggerAuthentication") && !text.contains("hush"), "{text}");
    }
}

#[tokio::test]
async fn a_long_value_is_cut_short() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    let long = "x".repeat(100_000);
    let text = complaint(client, &asked(&[PENDING, ("target", &long)])).await;
    assert!(text.len() < 300, "{}", text.len());
    let text = complaint(client, &asked(&[PENDING, ("target", "1"), ("selector", &long)])).await;
    assert!(text.len() < 300, "{}", text.len());
    let text = complaint(client, &asked(&[PENDING, ("target", "1"), (&long, "1")])).await;
    assert!(text.len() < 300, "{}", text.len());
}

#[tokio::test]
async fn calls_that_keda_does_not_make_are_refused() {
    let world = World::usual().await;
    let client = &mut world.client().await;
    let film = of_film("filmgate-pending-pods");
    let status = metric(client, &film, "s0-filmgate-pending-pods").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("is not metadata.metric"), "{status}");

    let nobodys = ScaledObjectRef { namespace: String::new(), ..film };
    let text = complaint(client, &nobodys).await;
    assert!(text.starts_with("scaledObjectRef.namespace is empty"), "{text}");
    let status = client.get_metrics(GetMetricsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
