//! Draws the picture of the dashboards in the documentation: a day of the demo, scraped by a real
//! Prometheus, which is asked what the dashboards ask.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::dashboards::dashboard;
use crate::draw::{Chart, Series, draw};
use crate::file;
use crate::harness::eventually::eventually;
use crate::harness::port::ReservedPort;
use crate::harness::process::Process;
use crate::harness::prometheus::program;

/// Virtual seconds per second: slow enough for Prometheus, fast enough for whoever waits.
const SPEED: f64 = 1000.0;
/// Two pods to a GPU by what they declare: too few at the day's height, so that pods wait.
const GPUS: &str = "16";
const PODS: usize = 150;
/// The trace's samples are this far apart.
const TICK_SECONDS: usize = 57;
const DAY_TICKS: usize = 24 * 3600 / TICK_SECONDS;
const GIB: u64 = 1 << 30;
const SCRAPE_MILLIS: u64 = 200;
/// Of the fleet's dashboard, whose figures are the extender's: here are no machines' agents.
const PANELS: [&str; 6] = [
    "What is promised",
    "How many more would fit",
    "Pods without a place, by namespace",
    "VRAM that they ask for",
    "Waiting line",
    "Fragmentation",
];

/// Pods that come and go, most of them around noon.
fn day() -> String {
    let mut random = StdRng::seed_from_u64(1);
    let mut csv = "container_ip,timestamp_anon,value\n".to_owned();
    for pod in 0..PODS {
        let noonish = (random.random::<f64>() + random.random::<f64>()) / 2.0;
        let begins = (noonish * 0.85 * DAY_TICKS as f64) as usize;
        let ends = (begins + random.random_range(60..320)).min(DAY_TICKS);
        let most = random.random_range(16..36_u64);
        for tick in begins..ends {
            let held = if (tick - begins) % 12 < 4 { most } else { most * 3 / 4 };
            writeln!(csv, "pod-{pod},{},{}", tick * TICK_SECONDS, held * GIB).unwrap();
        }
    }
    csv
}

struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Demo {
    /// It, and where its extender's metrics are.
    fn start(day: &Path) -> (Self, SocketAddr) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_filmgate"));
        command.args(["demo", "--gpus", GPUS, "--speed", &SPEED.to_string(), "--trace"]);
        command.arg(day).env_remove("FILMGATE_LOG").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let metrics = lines.find_map(|line| {
            let url = line.strip_prefix("its metrics")?.trim().strip_prefix("http://")?;
            url.strip_suffix("/metrics")?.parse().ok()
        });
        // Nobody else reads what it says, and a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        (Self(child), metrics.expect("the demo says where its metrics are"))
    }

    async fn ended(mut self) {
        eventually(Duration::from_secs(600), "the day's end", async || {
            self.0.try_wait().unwrap().ok_or("it goes on")
        })
        .await;
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Prometheus takes five seconds to begin with a target: so it begins with this one, which is there
/// before the demo, and leads to it.
async fn lead(from: TcpListener, to: SocketAddr) {
    while let Ok((mut caller, _)) = from.accept().await {
        tokio::spawn(async move {
            let mut demo = TcpStream::connect(to).await?;
            tokio::io::copy_bidirectional(&mut caller, &mut demo).await
        });
    }
}

/// Scrapes that address.
fn start_prometheus(target: SocketAddr, port: &ReservedPort, folder: &Path) -> Process {
    let config = folder.join("prometheus.yaml");
    let scrapes = format!(
        "global: {{scrape_interval: {SCRAPE_MILLIS}ms, scrape_timeout: {SCRAPE_MILLIS}ms}}\n\
         scrape_configs:\n\
         - {{job_name: filmgate-extender, static_configs: [{{targets: ['{target}']}}]}}\n"
    );
    std::fs::write(&config, scrapes).unwrap();
    let mut command = Command::new(program("prometheus").expect("a Prometheus"));
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    command.arg(format!("--web.listen-address={}", port.address()));
    Process::spawn("prometheus", command, folder)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes docs/images/dashboards.svg: make images"]
async fn draws_a_day_as_the_dashboards_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("day.csv");
    std::fs::write(&trace, day()).unwrap();
    let port = ReservedPort::reserve();
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _prometheus = start_prometheus(target.local_addr().unwrap(), &port, folder.path());
    target.accept().await.expect("a scrape");
    let (demo, metrics) = Demo::start(&trace);
    let began = seconds(SystemTime::now());
    let leading = tokio::spawn(lead(target, metrics));
    demo.ended().await;
    let ended = seconds(SystemTime::now());
    leading.abort();

    let asked =
        Asked { url: format!("http://{}/api/v1/query_range", port.address()), began, ended };
    let dashboard = dashboard("fleet.json");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut charts = Vec::new();
    for title in PANELS {
        let panel = panels.iter().find(|panel| panel["title"] == title);
        charts.push(asked.chart(panel.unwrap_or_else(|| panic!("no panel {title}"))).await);
    }
    assert!(charts.iter().all(|chart| !chart.series.is_empty()), "a panel without data");
    let explanation = format!(
        "A made-up day of {PODS} pods on {GPUS} GPUs of 80 GiB (filmgate demo, {SPEED} times as fast). Panels, queries and \
         legends are the dashboard's own, answered by Prometheus; drawn by filmgate's tests, not by Grafana."
    );
    let path = file("docs/images/dashboards.svg");
    draw(&path, "filmgate / Fleet", &explanation, asked.hours(ended), &charts);
}

/// The time that is asked for.
struct Asked {
    url: String,
    began: f64,
    ended: f64,
}

impl Asked {
    /// Of the day that was played.
    fn hours(&self, moment: f64) -> f64 {
        (moment - self.began) * SPEED / 3600.0
    }

    async fn chart(&self, panel: &Value) -> Chart {
        let defaults = &panel["fieldConfig"]["defaults"];
        let mut series = Vec::new();
        for target in panel["targets"].as_array().unwrap() {
            series.extend(self.ask(target).await);
        }
        Chart {
            title: panel["title"].as_str().unwrap().to_owned(),
            unit: defaults["unit"].as_str().unwrap().to_owned(),
            is_stacked: defaults["custom"]["stacking"]["mode"] == "normal",
            series,
        }
    }

    async fn ask(&self, target: &Value) -> Vec<Series> {
        let query = target["expr"].as_str().unwrap();
        let step = SCRAPE_MILLIS as f64 / 1000.0;
        let query = [
            ("query", query.to_owned()),
            ("start", self.began.to_string()),
            ("end", self.ended.to_string()),
            ("step", step.to_string()),
        ];
        let url = reqwest::Url::parse_with_params(&self.url, query).unwrap();
        let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        let legend = target["legendFormat"].as_str().unwrap();
        let found = answer["data"]["result"].as_array().unwrap().iter();
        let named = found.map(|one| (named(legend, &one["metric"]), self.points(&one["values"])));
        // `… or vector(0)` has no labels, and says nothing beside those that have.
        let named = named.filter(|(name, _)| !name.is_empty());
        let sorted: BTreeMap<_, _> = named.map(|(name, at)| ((name.len(), name), at)).collect();
        sorted.into_iter().map(|((_, name), points)| Series { name, points }).collect()
    }

    fn points(&self, values: &Value) -> Vec<(f64, f64)> {
        let point = |pair: &Value| {
            let value: f64 = pair[1].as_str().unwrap().parse().unwrap();
            (self.hours(pair[0].as_f64().unwrap()), value)
        };
        values.as_array().unwrap().iter().map(point).collect()
    }
}

/// The legend where `{{label}}` stands for the label's value, or for nothing.
fn named(legend: &str, labels: &Value) -> String {
    let mut parts = legend.split("{{");
    let mut name = parts.next().unwrap().to_owned();
    for part in parts {
        let (label, text) = part.split_once("}}").unwrap();
        name += labels[label].as_str().unwrap_or_default();
        name += text;
    }
    name.trim().to_owned()
}
