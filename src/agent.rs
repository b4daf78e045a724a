//! The node agent: what samples GPUs, behind [`crate::readings::server::Sampler`].
//!
//! [`simulated`] stands in for NVML, the kubelet and the processes of a whole fleet; [`scenario`]
//! is the file that drives it. A backend that samples real GPUs through NVML goes beside them and
//! shares [`peaks`].

use std::time::Duration;

use crate::engine::GpuUuid;

pub mod book;
pub mod curve;
pub mod hardware;
pub mod kubelet;
pub mod live;
pub mod nvml;
pub mod owner;
pub mod peaks;
pub mod procfs;
pub mod scenario;
pub mod simulated;

/// How far back peaks reach, in steps of [`COVER_STEP`]: rounded down, so never more than is true.
#[must_use]
pub fn peaks_cover(since_start: Duration, window: Duration) -> Duration {
    if since_start >= window {
        return window;
    }
    let steps = since_start.as_secs() / COVER_STEP.as_secs();
    Duration::from_secs(steps * COVER_STEP.as_secs())
}

/// Step of [`peaks_cover`] while the window fills. A cover that grew with every sampling would turn
/// each heartbeat of an agent's first minutes into a change.
pub const COVER_STEP: Duration = Duration::from_secs(10);

/// The UUID of a simulated GPU: the same for the same node and index, on every machine.
#[must_use]
pub fn gpu_uuid(node: &str, index: u32) -> GpuUuid {
    let hash = mix(fnv1a(format!("{node}/{index}").as_bytes()));
    let hex = format!("{hash:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    GpuUuid::from(format!("GPU-{}", parts.join("-")))
}

/// FNV-1a over 128 bits: the standard library's hashers may change between releases.
fn fnv1a(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = (1 << 88) + 0x13b;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// Spreads what names that differ in their last letters share.
fn mix(hash: u128) -> u128 {
    const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    let hash = (hash ^ (hash >> 64)).wrapping_mul(ODD);
    hash ^ (hash >> 61)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn simulated_uuids_are_stable_and_distinct() {
        assert_eq!(gpu_uuid("n0", 0), gpu_uuid("n0", 0));
        let text = gpu_uuid("n0", 0).to_string();
        let lengths: Vec<_> = text.split('-').map(str::len).collect();
        assert_eq!(lengths, [3, 8, 4, 4, 4, 12], "{text}");
        let all: HashSet<_> = (0..1000)
            .flat_map(|node| (0..8).map(move |gpu| gpu_uuid(&format!("n{node}"), gpu)))
            .collect();
        assert_eq!(all.len(), 8000);
    }

    #[test]
    fn peaks_never_claim_to_cover_more_than_they_do() {
        let window = Duration::from_secs(600);
        for (seconds, covered) in [(0, 0), (9, 0), (10, 10), (599, 590), (600, 600), (6000, 600)] {
            assert_eq!(
                peaks_cover(Duration::from_secs(seconds), window),
                Duration::from_secs(covered)
            );
        }
        assert_eq!(
            peaks_cover(Duration::from_secs(3), Duration::from_secs(2)),
            Duration::from_secs(2)
        );
    }
}
