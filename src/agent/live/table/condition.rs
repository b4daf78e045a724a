//! How GPUs are doing, as a person reads it: their power, what holds them back, and their errors.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::agent::hardware::{EccErrors, Gpu, Mig, RemappedRows};
use crate::columns::columns;
use crate::engine::GpuUuid;

const HEAD: [&str; 8] =
    ["GPU", "WATT", "ECC", "UNCORRECTED", "RETIRED", "REMAPPED", "XID", "HELD BACK BY"];

/// Columns of words: all but counts and power.
const WORDS: [usize; 4] = [0, 5, 6, 7];

/// A row for each GPU that tells any of it; nothing where none does.
pub(super) fn render(gpus: &[Gpu]) -> String {
    let tells = |row: &[String; 8]| row[1..].iter().any(|cell| !cell.is_empty());
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(gpus.iter().map(row).filter(tells));
    if rows.len() == 1 { String::new() } else { columns(&rows, &WORDS) }
}

fn row(gpu: &Gpu) -> [String; 8] {
    let number = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    [
        match &gpu.mig {
            Mig::Instance { profile, .. } => format!("{} {profile}", gpu.index),
            Mig::Off | Mig::Parent => gpu.index.to_string(),
        },
        gpu.power_watts.map(|watts| format!("{watts:.0}")).unwrap_or_default(),
        number(gpu.ecc_errors.map(|errors| errors.corrected)),
        number(gpu.ecc_errors.map(|errors| errors.uncorrected)),
        number(gpu.retired_pages.map(u64::from)),
        gpu.remapped_rows.map(remapped).unwrap_or_default(),
        gpu.xids.iter().map(times).collect::<Vec<_>>().join(", "),
        gpu.throttle_reasons.as_deref().unwrap_or_default().join(", "),
    ]
}

fn remapped(rows: RemappedRows) -> String {
    let count = u64::from(rows.corrected) + u64::from(rows.uncorrected);
    match (rows.has_failed, rows.is_pending) {
        (true, _) => format!("{count}, failed"),
        (false, true) => format!("{count}, reset it"),
        (false, false) => count.to_string(),
    }
}

fn times((xid, times): &(u64, u64)) -> String {
    if *times == 1 { xid.to_string() } else { format!("{xid} × {times}") }
}

/// The same for programs. What a GPU does not tell is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Condition<'a> {
    index: u32,
    uuid: &'a GpuUuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    pci_bus_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    power_watts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_reasons: Option<&'a [&'static str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ecc_errors: Option<EccErrors>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remapped_rows: Option<RemappedRows>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_pages: Option<u32>,
    /// How often, by number.
    xids: BTreeMap<u64, u64>,
}

/// Of every device, those included that pods cannot be given.
pub(super) fn json(gpus: &[Gpu]) -> Value {
    let condition = |gpu| json!(Condition::of(gpu));
    gpus.iter().map(condition).collect()
}

impl<'a> Condition<'a> {
    fn of(gpu: &'a Gpu) -> Self {
        Self {
            index: gpu.index,
            uuid: &gpu.uuid,
            pci_bus_id: gpu.pci_bus_id.as_deref(),
            power_watts: gpu.power_watts,
            throttle_reasons: gpu.throttle_reasons.as_deref(),
            ecc_errors: gpu.ecc_errors,
            remapped_rows: gpu.remapped_rows,
            retired_pages: gpu.retired_pages,
            xids: gpu.xids.iter().copied().collect(),
        }
    }
}
