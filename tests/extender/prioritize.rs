//! Prioritize.

use std::time::Duration;

use serde_json::json;

use crate::site::{Site, asking, plain};
use crate::support::node;

/// The pod fits both; `tight` is left fuller.
fn two() -> Site {
    Site::with(&[node("loose").gpus(1), node("tight").gpus(1).foreign(0, 10)])
}

#[tokio::test]
async fn the_best_node_alone_has_ten_and_is_held() {
    let site = two();
    let scores = site.scores(&asking("p", "12Gi"), &["loose", "tight"]).await;
    assert_eq!(scores[1], ("tight".to_owned(), 10));
    assert!(scores[0].1 <= 9 && scores[0].1 > 0, "{scores:?}");
    assert!(site.is_held_on("p", "tight"));
}

#[tokio::test]
async fn the_next_pods_filter_sees_the_hold() {
    let site = two();
    site.scores(&asking("p", "12Gi"), &["loose", "tight"]).await;
    assert_eq!(site.passing(&asking("q", "12Gi"), &["loose", "tight"]).await, ["loose"]);
}

#[tokio::test]
async fn of_equals_the_first_by_name_is_best_whatever_the_order() {
    for names in [["b", "a", "c"], ["c", "b", "a"]] {
        let site = Site::with(&["a", "b", "c"].map(|name| node(name).gpus(2)));
        let mut scores = site.scores(&asking("p", "12Gi"), &names).await;
        scores.sort();
        let expected = [("a", 10), ("b", 9), ("c", 9)];
        assert_eq!(scores, expected.map(|(name, score)| (name.to_owned(), score)));
        assert!(site.is_held_on("p", "a"));
    }
}

#[tokio::test]
async fn a_second_round_moves_the_hold() {
    let site = two();
    let pod = asking("p", "12Gi");
    site.scores(&pod, &["loose", "tight"]).await;
    site.read(&node("tight").gpus(1).foreign(0, 20));
    site.scores(&pod, &["loose", "tight"]).await;
    assert!(site.is_held_on("p", "loose"));
}

#[tokio::test]
async fn a_hold_ends_by_itself_and_is_counted() {
    let site = two();
    site.scores(&asking("p", "12Gi"), &["loose", "tight"]).await;
    assert_eq!(site.metric("filmgate_holds").await, "1");
    site.clock.advance(Duration::from_secs(31));
    site.gate.round();
    assert_eq!(site.claim("p"), None);
    assert_eq!(site.metric("filmgate_holds").await, "0");
    assert_eq!(site.metric("filmgate_holds_expired_total").await, "1");
}

#[tokio::test]
async fn nodes_that_do_not_fit_any_more_have_nothing() {
    let site = two();
    let scores = site.scores(&asking("p", "20Gi"), &["loose", "tight", "nowhere"]).await;
    let scores: Vec<_> = scores.into_iter().map(|(_, score)| score).collect();
    assert_eq!(scores, [10, 0, 0]);
    let before = site.state();
    let none = site.scores(&asking("q", "24Gi"), &["loose", "tight"]).await;
    assert!(none.iter().all(|(_, score)| *score == 0));
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn without_an_opinion_every_node_has_nothing() {
    let site = two();
    let before = site.state();
    for pod in [plain("p"), asking("p", "12GiB")] {
        let scores = site.scores(&pod, &["loose", "tight"]).await;
        assert!(scores.iter().all(|(_, score)| *score == 0));
    }
    assert_eq!(site.state(), before);
    site.gate.set_ready(false);
    let scores = site.scores(&asking("p", "12Gi"), &["loose", "tight"]).await;
    assert!(scores.iter().all(|(_, score)| *score == 0));
    assert_eq!(site.state(), before);
}

#[tokio::test]
async fn full_nodes_are_scored_by_name() {
    let site = two();
    let nodes = ["loose", "tight"].map(|name| json!({"metadata": {"name": name}}));
    let body = json!({"Pod": asking("p", "12Gi"), "Nodes": {"items": nodes}, "NodeNames": null});
    let answer = site.verb("/prioritize", &body).await;
    assert_eq!(answer[1], json!({"Host": "tight", "Score": 10}));
}

#[tokio::test]
async fn observing_has_no_opinion_and_holds_nothing() {
    let site = Site::observing(&[node("loose").gpus(1), node("tight").gpus(1).foreign(0, 10)]);
    let before = site.state();
    let scores = site.scores(&asking("p", "12Gi"), &["loose", "tight"]).await;
    assert!(scores.iter().all(|(_, score)| *score == 0));
    assert_eq!(site.state(), before);
}
