//! A node's truth as a person reads it: `filmgate agent --once`.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use super::Truth;
use super::metrics::names;
use crate::agent::hardware::Driver;
use crate::columns::columns;
use crate::engine::{Attribution, Bytes, GpuReading, Health};

mod condition;

const HEAD: [&str; 9] =
    ["GPU", "MODEL", "TOTAL", "USED", "RESERVED", "FOREIGN", "BUSY", "°C", "WHO"];

/// Columns of words: the model, and who.
const WORDS: [usize; 2] = [1, 8];

/// The whole text.
#[must_use]
pub fn render(truth: &Truth) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = head(&mut text, truth);
    if !truth.reading.gpus.is_empty() {
        text += "\nGiB; BUSY in percent\n";
        text += &columns(&rows(truth), &WORDS);
    }
    let condition = condition::render(&truth.hardware.gpus);
    if !condition.is_empty() {
        text.push('\n');
        text += &condition;
    }
    text
}

fn head(text: &mut String, truth: &Truth) -> fmt::Result {
    writeln!(
        text,
        "node {}, sampled in {:.0} ms",
        truth.reading.node,
        truth.took.as_secs_f64() * 1e3
    )?;
    match &truth.hardware.driver {
        Driver::Ready { version } => writeln!(text, "NVIDIA driver {version}")?,
        Driver::Away { why } => writeln!(text, "no NVIDIA driver: {why}")?,
    }
    for gpu in &truth.hardware.unread {
        writeln!(text, "GPU {} cannot be opened: {}", gpu.index, gpu.why)?;
    }
    if let Attribution::Degraded { why } = &truth.reading.attribution {
        writeln!(text, "memory cannot be told apart by pod: {why}")?;
    }
    if let Some(why) = &truth.no_book {
        writeln!(text, "{why}")?;
    }
    Ok(())
}

fn rows(truth: &Truth) -> Vec<[String; 9]> {
    let mut rows = vec![HEAD.map(str::to_owned)];
    for gpu in &truth.reading.gpus {
        rows.push(gpu_row(gpu));
        let holders = truth.holders.iter().filter(|holder| holder.gpu == gpu.uuid);
        rows.extend(holders.map(|holder| {
            let mut row = <[String; 9]>::default();
            row[3] = gib(holder.used);
            let named = names(holder, &truth.book).into_iter().filter(|name| !name.is_empty());
            row[8] = named.collect::<Vec<_>>().join("/");
            row
        }));
    }
    rows
}

fn gpu_row(gpu: &GpuReading) -> [String; 9] {
    let percent = |ratio: f64| format!("{:.0}", ratio * 100.0);
    let figure = |value: Option<f64>, text: fn(f64) -> String| value.map(text).unwrap_or_default();
    [
        gpu.index.to_string(),
        gpu.model.to_string(),
        gib(gpu.total),
        gib(gpu.used),
        gib(gpu.reserved),
        gib(gpu.foreign()),
        gpu.utilization_ratio.map(percent).unwrap_or_default(),
        figure(gpu.temperature_celsius, |celsius| format!("{celsius:.0}")),
        match &gpu.health {
            Health::Healthy => format!("{} × {}", gpu.replicas, gpu.resource),
            Health::Unhealthy { why } => format!("unhealthy: {why}"),
        },
    ]
}

fn gib(bytes: Bytes) -> String {
    format!("{:.1}", bytes.as_gib())
}

/// The same for programs: the reading as streams have it, the driver's state, how each GPU is doing,
/// and what each container holds.
#[must_use]
pub fn json(truth: &Truth) -> Value {
    let holders = truth.holders.iter().map(|holder| {
        let [namespace, pod, container] = names(holder, &truth.book);
        json!({
            "gpu": holder.gpu, "uid": holder.pod, "namespace": namespace, "pod": pod,
            "container": container, "usedBytes": holder.used, "peakBytes": holder.peak,
        })
    });
    json!({
        "driver": truth.hardware.driver,
        "kubelet": truth.no_book.as_ref().map_or_else(|| "ok".to_owned(), ToString::to_string),
        "sampledAt": truth.began_at.to_string(),
        "samplingSeconds": truth.took.as_secs_f64(),
        "reading": truth.reading,
        "gpus": condition::json(&truth.hardware.gpus),
        "containers": holders.collect::<Vec<_>>(),
    })
}
