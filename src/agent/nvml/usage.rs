//! Who holds how much of a device's memory.

use std::collections::BTreeMap;

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::{MemoryInfo, ProcessInfo};

use super::fault::{Reach, describe, figure, reach};
use super::raw;
use crate::agent::hardware::{Memory, Process, Processes};
use crate::engine::Bytes;

/// Processes may start between the question how many there are and the one which.
const LIST_TRIES: usize = 5;

/// The processes of a device and then its memory. In this order: memory of a process that starts in
/// between is nobody's for one sampling, where the other order would make it free.
pub(super) fn usage(
    device: &Device<'_>,
    driver: &str,
) -> Result<(Processes, Result<Memory, NvmlError>), NvmlError> {
    let processes = processes(device, driver)?;
    let memory = memory(device);
    Ok((processes, memory))
}

fn processes(device: &Device<'_>, driver: &str) -> Result<Processes, NvmlError> {
    if has_broken_list(driver) {
        let why = format!(
            "driver {driver} lists processes in a layout of its own; drivers from 535.104 on do not"
        );
        return Ok(Processes::Hidden { why: why.into() });
    }
    let compute = match list(|| device.running_compute_processes()) {
        Ok(compute) => compute,
        Err(error) if reach(&error) == Reach::Call => {
            let why = format!("the driver does not list processes: {}", describe(&error));
            return Ok(Processes::Hidden { why: why.into() });
        }
        Err(error) => return Err(error),
    };
    // Where one of these is missing, what its processes hold is nobody's, which is safe.
    let graphics = figure(list(|| device.running_graphics_processes()))?;
    let mps = figure(list(|| device.mps_running_compute_processes()))?;
    let all = [Some(compute), graphics, mps].into_iter().flatten().flatten();
    Ok(Processes::Known(each_once(all)))
}

/// From 535.43 to before 535.104 drivers write larger entries than the call's header declares
/// (github.com/XuehaiPan/nvitop, issues 79, 88 and 89): past the end of the list given to them.
fn has_broken_list(driver: &str) -> bool {
    let mut parts = driver.split('.').map(str::parse::<u32>);
    let (Some(Ok(535)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return false };
    (43..104).contains(&minor)
}

fn list(
    read: impl Fn() -> Result<Vec<ProcessInfo>, NvmlError>,
) -> Result<Vec<ProcessInfo>, NvmlError> {
    for _ in 1..LIST_TRIES {
        match read() {
            Err(NvmlError::InsufficientSize(_)) => {}
            answer => return answer,
        }
    }
    read()
}

/// A process that is in several lists is one and the same, with all that it holds in each.
fn each_once(listed: impl Iterator<Item = ProcessInfo>) -> Vec<Process> {
    let mut held = BTreeMap::<u32, Option<Bytes>>::new();
    for process in listed {
        let memory = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(Bytes::new(bytes)),
            UsedGpuMemory::Unavailable => None,
        };
        let known = held.entry(process.pid).or_default();
        *known = memory.max(*known);
    }
    held.into_iter().map(|(pid, memory)| Process { pid, memory }).collect()
}

fn memory(device: &Device<'_>) -> Result<Memory, NvmlError> {
    match figure(device.memory_info())? {
        Some(info) => Ok(from_v2(&info)),
        None => {
            let v1 = raw::memory_v1(device)?;
            let used = v1.used.max(v1.total.saturating_sub(v1.free));
            Ok(Memory {
                total: Bytes::new(v1.total),
                used: Bytes::new(used),
                reserved: Bytes::ZERO,
                free: Bytes::new(v1.free),
            })
        }
    }
}

/// Drivers differ in whether `used` contains what is reserved, so `free` decides; where the figures
/// do not fit each other, the larger one does.
fn from_v2(info: &MemoryInfo) -> Memory {
    let (total, reserved) = (Bytes::new(info.total), Bytes::new(info.reserved));
    let (used, free) = (Bytes::new(info.used), Bytes::new(info.free));
    let left = total - free - reserved;
    let contains_reserved = used == total - free;
    let used = if contains_reserved { left } else { used.max(left) };
    Memory { total, used, reserved, free }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(total: u64, reserved: u64, free: u64, used: u64) -> MemoryInfo {
        MemoryInfo { total, reserved, free, used, version: 2 }
    }

    #[test]
    fn used_memory_leaves_out_what_is_reserved_and_is_never_below_what_the_driver_says() {
        for (info, used) in [
            (info(100, 10, 60, 30), 30),
            (info(100, 10, 60, 40), 30),
            (info(100, 10, 60, 35), 35),
            (info(100, 10, 20, 30), 70),
            (info(100, 0, 60, 40), 40),
            (info(100, 0, 60, 150), 150),
            (info(100, 10, u64::MAX, 30), 30),
            (info(0, 0, 0, 0), 0),
            (info(u64::MAX, u64::MAX, u64::MAX, u64::MAX), u64::MAX),
        ] {
            assert_eq!(from_v2(&info).used, Bytes::new(used), "{info:?}");
        }
    }

    #[test]
    fn knows_the_drivers_with_broken_lists() {
        for (driver, broken) in [
            ("535.54.03", true),
            ("535.86.10", true),
            ("535.98", true),
            ("535.43.02", true),
            ("535.104.05", false),
            ("535.36", false),
            ("530.54.03", false),
            ("580.95.05", false),
            ("535", false),
            ("garbage", false),
        ] {
            assert_eq!(has_broken_list(driver), broken, "{driver}");
        }
    }
}
