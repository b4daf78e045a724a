//! The fleet as text, for scripts and pipes.

use super::answer::{Fleet, Node, Pending};
use crate::columns::columns;
use crate::engine::Bytes;
use crate::explain::answer::{Gpu, Tenant};

const HEAD: [&str; 11] =
    ["NODE", "GPU", "TOTAL", "USED", "PODS", "FOREIGN", "HELD", "FREE", "UTIL", "READ", ""];
/// Columns of words: the node, and what is said of it.
const WORDS: [usize; 2] = [0, 10];

const PENDING_HEAD: [&str; 4] = ["PENDING", "ASKS", "STATE", "WHY"];

/// The whole text.
#[must_use]
pub fn render(fleet: &Fleet) -> String {
    let mut text = format!("{}\n\nGiB per GPU\n", head(fleet));
    let mut rows = vec![HEAD.map(str::to_owned)];
    fleet.nodes.iter().for_each(|node| rows.extend(node_rows(node)));
    text += &columns(&rows, &WORDS);
    if !fleet.pending.is_empty() {
        let mut rows = vec![PENDING_HEAD.map(str::to_owned)];
        rows.extend(fleet.pending.iter().map(pending_row));
        text += "\n";
        text += &columns(&rows, &[0, 1, 2, 3]);
    }
    text
}

/// The first line: sums, and what is odd about the answer.
#[must_use]
pub fn head(fleet: &Fleet) -> String {
    let totals = &fleet.totals;
    let mut line = format!(
        "{} GPUs on {} nodes: {} used, {} free of {}; {} pods without a place",
        totals.gpus,
        totals.nodes,
        totals.used_bytes,
        totals.free_bytes,
        totals.total_bytes,
        totals.pending_pods,
    );
    if fleet.mode == "observe" {
        line += "; mode observe: every node passes";
    }
    if !fleet.is_leading {
        line += "; this replica stands by: another one decides, and knows what it holds";
    } else if !fleet.is_answering {
        line += "; kube-scheduler is not answered at present";
    }
    line
}

fn node_rows(node: &Node) -> Vec<[String; 11]> {
    let mut first: [String; 11] = Default::default();
    first[0].clone_from(&node.node);
    first[9] = age(node);
    first[10] = node.trouble();
    let mut rows = vec![first];
    for gpu in &node.gpus {
        rows.push(gpu_row(gpu));
        rows.extend(gpu.tenants.iter().map(tenant_row));
    }
    rows
}

/// Age of the node's reading.
pub(super) fn age(node: &Node) -> String {
    node.reading_age_seconds.map_or_else(|| "never".to_owned(), |age| format!("{age:.1} s"))
}

fn gpu_row(gpu: &Gpu) -> [String; 11] {
    [
        String::new(),
        gpu.index.to_string(),
        gib(gpu.total_bytes),
        gib(gpu.used_bytes),
        gib(gpu.charged_bytes),
        gib(gpu.foreign_bytes),
        gib(gpu.held_bytes + gpu.kept_bytes),
        gib(gpu.free_bytes),
        format!("{:.0} %", gpu.utilization_ratio * 100.0),
        String::new(),
        gpu.closed.clone().unwrap_or_default(),
    ]
}

fn tenant_row(tenant: &Tenant) -> [String; 11] {
    let mut row: [String; 11] = Default::default();
    row[3] = gib(tenant.measured_bytes);
    row[4] = gib(tenant.charged_bytes);
    row[10] = format!("  {}", tenant.words());
    row
}

fn pending_row(pod: &Pending) -> [String; 4] {
    [pod.name(), pod.asks(), pod.state(), pod.why().to_owned()]
}

/// GiB to a tenth.
pub(super) fn gib(bytes: Bytes) -> String {
    format!("{:.1}", bytes.as_gib())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the extender's own test holds as its answer.
    const FLEET: &str = include_str!("../../tests/extender/golden/fleet.json");

    #[test]
    fn shows_the_answer_that_the_extender_gives() {
        let fleet: Fleet = serde_json::from_str(FLEET).unwrap();
        let text = render(&fleet);
        assert!(text.starts_with("3 GPUs on 2 nodes: "), "{text}");
        for node in &fleet.nodes {
            assert!(text.lines().any(|line| line.starts_with(&node.node)), "{text}");
        }
        let of_pending = |line: &&str| line.starts_with("default/big ");
        let line = text.lines().find(of_pending).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains("30.0 GiB") && line.contains("most free: "), "{line}");
    }

    #[test]
    fn says_what_is_odd_about_the_replica() {
        let mut fleet: Fleet = serde_json::from_str(FLEET).unwrap();
        assert!(!head(&fleet).contains("stands by"));
        fleet.is_answering = false;
        assert!(head(&fleet).ends_with("kube-scheduler is not answered at present"));
        fleet.is_leading = false;
        fleet.mode = "observe".to_owned();
        let line = head(&fleet);
        assert!(line.contains("mode observe") && line.contains("stands by"), "{line}");
    }
}
