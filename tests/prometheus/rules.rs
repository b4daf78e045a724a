//! `deploy/prometheus`: what promtool says, and that nothing is said twice or not at all.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::harness::prometheus::program;
use crate::{file, text, yaml};

/// Runs promtool; `None`, and a line about it, where there is none.
fn promtool(arguments: &[&str], path: &str) -> Option<()> {
    let output =
        Command::new(program("promtool")?).args(arguments).arg(file(path)).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Some(())
}

fn rules() -> Vec<Value> {
    let groups = &yaml("deploy/prometheus/rules.yaml")[0]["groups"];
    let rules = groups.as_array().unwrap().iter();
    rules.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

#[test]
fn promtool_reads_the_rules() {
    promtool(&["check", "rules"], "deploy/prometheus/rules.yaml");
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    promtool(&["test", "rules"], "tests/prometheus/alerts.yaml");
}

#[test]
fn each_alert_is_seen_to_fire() {
    let tests = text("tests/prometheus/alerts.yaml");
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let fires = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"");
        assert!(tests.contains(&fires), "no test in tests/prometheus/alerts.yaml fires {name}");
    }
}

#[test]
fn each_alert_says_what_it_is_and_has_a_page_and_a_line() {
    let pages: BTreeSet<_> = std::fs::read_dir(file("docs/runbooks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let overview = text("docs/monitoring.md");
    let mut expected = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        for annotation in ["summary", "description"] {
            assert!(alert["annotations"][annotation].is_string(), "{name} has no {annotation}");
        }
        let url = format!("https://filmgate.dev/runbooks/{name}");
        assert_eq!(alert["annotations"]["runbook_url"], *url);
        let severity = alert["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{name}: {severity:?}");
        let page = format!("{name}.md");
        assert!(
            overview.contains(&format!("[{name}](runbooks/{page})")),
            "{name} in monitoring.md"
        );
        expected.insert(page);
    }
    assert_eq!(pages, expected, "docs/runbooks has a page for each alert and no other");
}

#[test]
fn the_operator_gets_the_same_rules() {
    let documents = yaml("deploy/prometheus/operator.yaml");
    let of_kind = |kind: &str| documents.iter().find(|one| one["kind"] == kind).unwrap();
    let plain = &yaml("deploy/prometheus/rules.yaml")[0];
    assert_eq!(of_kind("PrometheusRule")["spec"]["groups"], plain["groups"]);
    assert_eq!(documents.len(), 4);
}

/// Debian's Prometheus is built without Kubernetes' service discovery.
#[test]
fn the_jobs_have_the_names_that_rules_know() {
    let [config] = &yaml("deploy/prometheus/scrape.yaml")[..] else { panic!("one document") };
    let jobs = config["scrape_configs"].as_array().unwrap();
    let names: Vec<_> = jobs.iter().map(|job| job["job_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["filmgate-extender", "filmgate-agent", "filmgate-certificates"]);
    assert_eq!(jobs[1]["honor_labels"], true);
    let mut without_discovery = config.clone();
    for job in without_discovery["scrape_configs"].as_array_mut().unwrap() {
        job.as_object_mut().unwrap().remove("kubernetes_sd_configs").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scrape.yaml");
    std::fs::write(&path, without_discovery.to_string()).unwrap();
    promtool(&["check", "config", "--syntax-only"], path.to_str().unwrap());
    let operator = text("deploy/prometheus/operator.yaml");
    for name in names {
        assert!(operator.contains(&format!("replacement: {name} ")), "{name} in operator.yaml");
    }
}
