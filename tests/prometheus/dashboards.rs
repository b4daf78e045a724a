//! `deploy/grafana`: what Grafana needs of a dashboard, and what is asked in it.

use std::collections::BTreeSet;

use filmgate::metrics::catalogue::CHAPTERS;
use serde_json::Value;

use crate::{text, yaml};

/// The dashboards' files.
pub(crate) const DASHBOARDS: [&str; 3] = ["fleet.json", "node.json", "workload.json"];

/// A query of a panel, as Prometheus gets it when every variable stands for everything.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The dashboard and the panel.
    pub(crate) place: String,
    pub(crate) query: String,
}

pub(crate) fn dashboard(name: &str) -> Value {
    serde_json::from_str(&text(&format!("deploy/grafana/{name}"))).unwrap()
}

fn variables(dashboard: &Value) -> &Vec<Value> {
    dashboard["templating"]["list"].as_array().unwrap()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let all = dashboard["panels"].as_array().unwrap().iter();
    all.filter(|panel| panel["type"] != "row")
}

/// Every query of every panel.
pub(crate) fn queries(name: &str) -> Vec<Asked> {
    let dashboard = dashboard(name);
    let mut all = Vec::new();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().unwrap() {
            let mut query = target["expr"].as_str().unwrap().to_owned();
            for variable in variables(&dashboard) {
                let name = variable["name"].as_str().unwrap();
                query = query.replace(&format!("${name}"), ".*");
            }
            let place = format!("{name}: {}", panel["title"].as_str().unwrap());
            all.push(Asked { place, query });
        }
    }
    all
}

/// What the variables' lists are made of: a metric and its label.
pub(crate) fn lists(name: &str) -> Vec<(String, String)> {
    let dashboard = dashboard(name);
    let queries = variables(&dashboard).iter().filter(|one| one["type"] == "query");
    let list = |variable: &Value| {
        let query = variable["definition"].as_str().unwrap();
        let inner = query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
        let (series, label) = inner.rsplit_once(", ").unwrap();
        let series = ["$node", "$namespace"]
            .iter()
            .fold(series.to_owned(), |series, variable| series.replace(variable, ".*"));
        (series, label.to_owned())
    };
    queries.map(list).collect()
}

#[test]
fn a_dashboard_can_be_imported_anywhere() {
    let mut uids = BTreeSet::new();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{name}: its uid");
        let source = &variables(&dashboard)[0];
        assert_eq!(
            (&source["name"], &source["type"]),
            (&"datasource".into(), &"datasource".into())
        );
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: panel ids");
        }
        for panel in panels(&dashboard) {
            let title = &panel["title"];
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{name}: {title}");
            let right =
                panel["gridPos"]["x"].as_u64().unwrap() + panel["gridPos"]["w"].as_u64().unwrap();
            assert!(right <= 24, "{name}: {title} is off the grid");
        }
    }
}

#[test]
fn the_configmap_has_every_dashboard() {
    let kustomization = &yaml("deploy/grafana/kustomization.yaml")[0];
    assert_eq!(kustomization["configMapGenerator"][0]["files"], serde_json::json!(DASHBOARDS));
    assert_eq!(kustomization["generatorOptions"]["labels"]["grafana_dashboard"], "1");
}

#[test]
fn every_metric_that_is_asked_for_is_one_of_ours() {
    let ours: BTreeSet<_> =
        CHAPTERS.iter().flat_map(|chapter| chapter.metrics).map(|metric| metric.name).collect();
    for name in DASHBOARDS {
        for Asked { place, query } in queries(name) {
            for asked in names(&query) {
                let family = ["_bucket", "_count", "_sum"].iter().fold(&*asked, |name, suffix| {
                    name.strip_suffix(suffix).filter(|name| ours.contains(name)).unwrap_or(name)
                });
                assert!(ours.contains(family), "{place}: there is no {asked}");
            }
        }
    }
}

fn names(query: &str) -> Vec<String> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("filmgate_")).map(str::to_owned).collect()
}
