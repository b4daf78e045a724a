//! GPUs that cannot take work, and pods that are not on the GPU that they were sent to.

use crate::doctor::finding::{Outcome, Verdict};
use crate::doctor::ground::Ground;
use crate::top::answer::Fleet;

/// What an XID error means, in short, and what is done about it. Numbers and meanings are those of
/// NVIDIA's catalogue (<https://docs.nvidia.com/deploy/xid-errors/>).
const XIDS: [(u64, &str, &str); 18] = [
    (13, "a kernel of an application failed", "look at the application first"),
    (31, "an application reached for memory that is not its own", "look at the application first"),
    (43, "an application's channel was stopped", "look at the application first"),
    (45, "an application was ended while it used the GPU", "nothing, if it was meant to end"),
    (46, "the GPU stopped answering its driver", "reset the GPU"),
    (
        48,
        "a memory error that cannot be corrected (double bit ECC)",
        "reset the GPU; replace it if it comes back",
    ),
    (61, "the GPU's microcontroller stopped", "reset the GPU"),
    (62, "the GPU's microcontroller halted", "reset the GPU"),
    (63, "a faulty row of memory was noted, to be remapped", "reset the GPU when it is free"),
    (
        64,
        "a faulty row of memory could not be noted for remapping",
        "reset the GPU; replace it if it comes back",
    ),
    (68, "the video decoder failed", "look at the application first"),
    (69, "the graphics engine failed", "look at the application first"),
    (74, "an NVLink failed", "check the link's bridge or board, reset the GPU"),
    (
        79,
        "the GPU fell off the bus: power, heat or its seat",
        "drain the node, restart it, check the hardware",
    ),
    (
        94,
        "a memory error that was contained to one application",
        "restart the application; reset the GPU when it is free",
    ),
    (95, "a memory error that reached other applications", "reset the GPU now"),
    (119, "the GPU's system processor does not answer", "reset the GPU; update the driver"),
    (120, "the GPU's system processor failed", "reset the GPU; update the driver"),
];

/// Whether every GPU takes work, and the meaning of what keeps it from that.
pub(in super::super) async fn gpu_health(ground: &Ground) -> Outcome {
    Ok(judge_health(ground.fleet().await?))
}

fn judge_health(fleet: &Fleet) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for node in &fleet.nodes {
        for gpu in &node.gpus {
            let Some(why) = gpu.closed.as_deref().filter(|why| why.starts_with("unhealthy")) else {
                continue;
            };
            let found = format!("{} GPU {} ({}): {why}", node.node, gpu.index, gpu.uuid);
            let name = &node.node;
            let look = format!("kubectl drain {name} --ignore-daemonsets --delete-emptydir-data");
            verdicts.push(match xid_in(why) {
                Some((_, meaning, remedy)) => {
                    Verdict::fail(format!("{found}: {meaning}"), format!("{look} # {remedy}"))
                }
                None => Verdict::fail(found, format!("{look} # then, on it: nvidia-smi -q")),
            });
        }
    }
    if verdicts.is_empty() {
        let count = fleet.totals.gpus;
        verdicts.push(Verdict::ok(format!("all {count} GPUs take work")));
    }
    verdicts
}

/// The catalogue's entry for the XID that a text names.
fn xid_in(text: &str) -> Option<&'static (u64, &'static str, &'static str)> {
    let (_, after) = text.split_once("XID ")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().ok()?;
    XIDS.iter().find(|(xid, ..)| *xid == number)
}

/// Whether pods are where filmgate sent them, and whether it sent all of them.
pub(in super::super) async fn wrong_gpu(ground: &Ground) -> Outcome {
    Ok(judge_places(ground.fleet().await?))
}

fn judge_places(fleet: &Fleet) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for node in &fleet.nodes {
        for gpu in &node.gpus {
            for tenant in &gpu.tenants {
                let pod = &tenant.pod;
                let place = format!("{} GPU {}", node.node, gpu.index);
                let explain = format!("filmgate explain {pod}");
                if tenant.is_elsewhere {
                    verdicts.push(Verdict::warn(
                        format!("{pod} is not on the GPU that it was sent to (charged on {place}): its container does not take NVIDIA_VISIBLE_DEVICES from the annotation"),
                        explain,
                    ));
                } else if tenant.is_unmanaged {
                    verdicts.push(Verdict::warn(
                        format!("{pod} on {place} was placed by another scheduler, and may overdraw it"),
                        "kubectl apply -f deploy/admission.yaml # docs/security.md: keeps others off",
                    ));
                }
            }
        }
    }
    if verdicts.is_empty() {
        verdicts.push(Verdict::ok("every pod is on the GPU that it was sent to"));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    const FLEET: &str = include_str!("../../../../tests/extender/golden/fleet.json");

    #[test]
    fn an_unhealthy_gpu_is_told_with_the_meaning_of_its_xid() {
        let mut fleet: Fleet = serde_json::from_str(FLEET).unwrap();
        assert_eq!(judge_health(&fleet)[0].level, Level::Ok);
        fleet.nodes[0].gpus[0].closed = Some("unhealthy: XID 79".to_owned());
        fleet.nodes[1].gpus[0].closed = Some("unhealthy: the driver hangs".to_owned());
        fleet.nodes[1].gpus[1].closed =
            Some("a pod that declares no VRAM has all of it".to_owned());
        let verdicts = judge_health(&fleet);
        assert_eq!(verdicts.len(), 2, "a GPU that is taken is not sick: {verdicts:?}");
        assert!(
            verdicts[0].found.contains("gpu-1 GPU 0")
                && verdicts[0].found.contains("fell off the bus")
        );
        assert!(verdicts[1].found.ends_with("unhealthy: the driver hangs"));
    }

    #[test]
    fn a_number_is_not_taken_for_another() {
        assert_eq!(xid_in("XID 794"), None);
        assert_eq!(xid_in("XID 48").map(|xid| xid.0), Some(48));
        assert_eq!(xid_in("no number"), None);
    }

    #[test]
    fn pods_are_where_they_were_sent() {
        let mut fleet: Fleet = serde_json::from_str(FLEET).unwrap();
        assert_eq!(judge_places(&fleet)[0].level, Level::Ok);
        fleet.nodes[1].gpus[0].tenants[0].is_elsewhere = true;
        fleet.nodes[0].gpus[0].tenants[0].is_unmanaged = true;
        let verdicts = judge_places(&fleet);
        assert!(verdicts[0].found.contains("placed by another scheduler"));
        assert!(verdicts[1].found.starts_with("default/small is not on the GPU"));
    }
}
