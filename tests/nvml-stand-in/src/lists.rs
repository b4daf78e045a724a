//! The lists of processes, and samples: calls that are made once for the size and once for the data.

use crate::layout::{
    Code, INSUFFICIENT_SIZE, NONE, NOT_AVAILABLE, NOT_FOUND, NOT_SUPPORTED, ProcessInfo, Sample,
    UNSIGNED_INT,
};
use crate::machine::{Seen, machine};
use crate::scenario::Process;
use crate::{about, put};

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: usize,
    count: *mut u32,
    list: *mut ProcessInfo,
) -> Code {
    about(device, "nvmlDeviceGetComputeRunningProcesses_v3", |seen| {
        let mut processes = seen.device()?.compute.clone();
        processes.extend(seen.started);
        // SAFETY: NVML's contract with its caller.
        unsafe { fill(seen, &processes, count, list) }?;
        if !list.is_null() {
            machine().touch(seen.place);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: usize,
    count: *mut u32,
    list: *mut ProcessInfo,
) -> Code {
    about(device, "nvmlDeviceGetGraphicsRunningProcesses_v3", |seen| {
        // SAFETY: NVML's contract with its caller.
        unsafe { fill(seen, &seen.device()?.graphics, count, list) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    device: usize,
    count: *mut u32,
    list: *mut ProcessInfo,
) -> Code {
    about(device, "nvmlDeviceGetMPSComputeRunningProcesses_v3", |seen| {
        // SAFETY: NVML's contract with its caller.
        unsafe { fill(seen, &seen.device()?.mps, count, list) }
    })
}

/// # Safety
/// `count` is how many entries fit into `list`.
unsafe fn fill(
    seen: &Seen,
    processes: &[Process],
    count: *mut u32,
    list: *mut ProcessInfo,
) -> Result<(), Code> {
    let ids = seen.instance().map_or((NONE, NONE), |instance| instance.ids);
    let entries = processes.iter().map(|process| ProcessInfo {
        pid: process.pid,
        memory: process.memory.unwrap_or(NOT_AVAILABLE),
        gpu_instance: ids.0,
        compute_instance: ids.1,
    });
    // SAFETY: as the caller promises.
    unsafe { copy(entries.collect(), count, list) }
}

/// # Safety
/// `count` is how many entries fit into `list`.
pub unsafe fn copy<T>(entries: Vec<T>, count: *mut u32, list: *mut T) -> Result<(), Code> {
    // SAFETY: as the caller promises.
    unsafe {
        let room = count.replace(entries.len() as u32) as usize;
        if room < entries.len() {
            return Err(INSUFFICIENT_SIZE);
        }
        list.copy_from_nonoverlapping(entries.as_ptr(), entries.len());
    }
    Ok(())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSamples(
    device: usize,
    kind: u32,
    since: u64,
    value_type: *mut u32,
    count: *mut u32,
    list: *mut Sample,
) -> Code {
    about(device, "nvmlDeviceGetSamples", |seen| {
        let samples = seen.whole()?.samples.as_deref().ok_or(NOT_SUPPORTED)?.iter();
        let value = |sample: &crate::scenario::Sample| match kind {
            1 => Ok(sample.kernels),
            2 => Ok(sample.memory),
            _ => Err(NOT_SUPPORTED),
        };
        let new = samples.filter(|sample| sample.time > since);
        let new =
            new.map(|sample| Ok(Sample { time: sample.time, value: u64::from(value(sample)?) }));
        let new = new.collect::<Result<Vec<_>, Code>>()?;
        if new.is_empty() {
            return Err(NOT_FOUND);
        }
        // SAFETY: NVML's contract with its caller; without a list only the count is asked for.
        unsafe {
            put(value_type, Some(UNSIGNED_INT))?;
            if list.is_null() { put(count, Some(new.len() as u32)) } else { copy(new, count, list) }
        }
    })
}
