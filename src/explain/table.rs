//! An explanation as a person reads it.

use std::fmt::{self, Write as _};

use super::answer::{Answer, Ask, Gpu, Node};
use crate::columns::columns;
use crate::engine::Bytes;

const HEAD: [&str; 12] = [
    "NODE",
    "GPU",
    "TOTAL",
    "USED",
    "FOREIGN",
    "CHARGED",
    "HELD",
    "FREE",
    "SCORE",
    "TIGHT/AFTER/IDLE/FRESH",
    "READ",
    "VERDICT",
];

/// Columns of words: the node and the verdict.
const WORDS: [usize; 2] = [0, 11];

/// The whole text.
#[must_use]
pub fn render(answer: &Answer) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = head(&mut text, answer);
    if !answer.nodes.is_empty() {
        let _ = writeln!(text, "\nGiB per GPU; scores and their terms 0 to 1; * chosen");
        text += &columns(&rows(&answer.nodes), &WORDS);
    }
    text
}

fn head(text: &mut String, answer: &Answer) -> fmt::Result {
    writeln!(text, "{}/{}: {}", answer.pod.namespace, answer.pod.name, state(answer))?;
    if answer.mode == "observe" {
        writeln!(text, "mode observe: every node passes, whatever is said below")?;
    }
    if !answer.is_leading {
        writeln!(text, "this replica does not lead: another one decides, and knows what it holds")?;
    } else if !answer.is_answering {
        writeln!(text, "this extender does not answer kube-scheduler at present")?;
    }
    for ask in &answer.asks {
        writeln!(text, "asks: {}", describe(ask))?;
    }
    if let Some(problem) = &answer.problem {
        writeln!(text, "problem: {problem}")?;
    }
    if let Some(miss) = &answer.nearest_miss {
        writeln!(text, "nearest miss: {miss}")?;
    }
    if let Some(comfyui) = &answer.comfyui {
        writeln!(text, "ComfyUI: {}", comfyui.words())?;
    }
    Ok(())
}

fn state(answer: &Answer) -> String {
    let node = answer.node.as_deref().unwrap_or("?");
    match answer.state.as_str() {
        "whatIf" => "what if it were asked for now".to_owned(),
        "noGpu" => "asks for no GPU: filmgate lets it pass everywhere".to_owned(),
        "waiting" => {
            let kept = answer.reserved_on.as_ref();
            format!(
                "waits for {:.0} s, {} before it{}",
                answer.waiting_seconds.unwrap_or_default(),
                answer.before_it.unwrap_or_default(),
                kept.map(|node| format!(", a place on {node} is reserved")).unwrap_or_default(),
            )
        }
        "placed" => {
            let by = if answer.is_unmanaged { ", by others: filmgate was not asked" } else { "" };
            format!("{} on {node}{by}", answer.claim.as_deref().unwrap_or("placed"))
        }
        other => other.to_owned(),
    }
}

fn describe(ask: &Ask) -> String {
    let vram = match ask.vram.bytes() {
        Some(bytes) => format!("{bytes} each ({})", ask.vram.source()),
        None => "whole and empty, since it declares no VRAM".to_owned(),
    };
    let steering = if ask.is_steered { "steered" } else { "the device plugin chooses" };
    format!("{} × {} for {}, {vram}, {steering}", ask.gpus, ask.resource, ask.container)
}

fn rows(nodes: &[Node]) -> Vec<Vec<String>> {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for node in nodes {
        rows.push(node_row(node));
        for gpu in &node.gpus {
            rows.push(gpu_row(gpu, node));
            rows.extend(gpu.tenants.iter().map(|tenant| {
                let mut row = vec![String::new(); HEAD.len()];
                row[3] = gib(tenant.measured_bytes);
                row[5] = gib(tenant.charged_bytes);
                row[11] = format!("  {}", tenant.words());
                row
            }));
        }
    }
    rows
}

fn node_row(node: &Node) -> Vec<String> {
    let mut row = vec![String::new(); HEAD.len()];
    row[0].clone_from(&node.node);
    row[8] = node.score.map_or_else(String::new, |score| format!("{score:.2}"));
    row[10] =
        node.reading_age_seconds.map_or_else(|| "never".to_owned(), |age| format!("{age:.1} s"));
    row[11] = node.reason.as_ref().map_or_else(|| "fits".to_owned(), |reason| reason.text.clone());
    row
}

fn gpu_row(gpu: &Gpu, node: &Node) -> Vec<String> {
    let chosen = if node.chosen.contains(&gpu.uuid) { "*" } else { "" };
    let terms = gpu.terms.map_or_else(String::new, |terms| {
        format!(
            "{:.2}/{:.2}/{:.2}/{:.2}",
            terms.tightness, terms.free_after, terms.idleness, terms.freshness
        )
    });
    vec![
        String::new(),
        format!("{}{chosen}", gpu.index),
        gib(gpu.total_bytes),
        gib(gpu.used_bytes),
        gib(gpu.foreign_bytes),
        gib(gpu.charged_bytes),
        gib(gpu.held_bytes + gpu.kept_bytes),
        gib(gpu.free_bytes),
        gpu.score.map_or_else(String::new, |score| format!("{score:.2}")),
        terms,
        String::new(),
        gpu.reason.as_ref().map_or_else(|| "fits".to_owned(), |reason| reason.text.clone()),
    ]
}

fn gib(bytes: Bytes) -> String {
    format!("{:.1}", bytes.as_gib())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the extender's own test holds as its answer.
    const WAITING: &str = include_str!("../../tests/extender/golden/explain-waiting.json");

    #[test]
    fn shows_the_answer_that_the_extender_gives() {
        let mut answer: Answer = serde_json::from_str(WAITING).unwrap();
        let text = render(&answer);
        assert!(text.starts_with("default/p: waits for 2 s, 0 before it\n"), "{text}");
        assert!(text.contains("nearest miss: asked 30.0 GiB (declared); most free: "), "{text}");
        for node in &answer.nodes {
            assert!(text.lines().any(|line| line.starts_with(&node.node)), "{text}");
        }
        let widest = text.lines().map(str::len).max();
        assert!(widest < Some(200), "{text}");
        answer.reserved_on = Some("gpu-2".to_owned());
        let text = render(&answer);
        assert!(text.contains("0 before it, a place on gpu-2 is reserved\n"), "{text}");
    }
}
