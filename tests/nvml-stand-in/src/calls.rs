//! Calls that ask for one thing.

use std::ffi::{c_char, c_int};
use std::slice::from_raw_parts_mut;

use crate::layout::{
    Attributes, Code, FieldValue, INVALID_ARGUMENT, MEMORY_V2, MemoryV1, MemoryV2, NOT_FOUND,
    NOT_SUPPORTED, PciInfo, SUCCESS, UNSIGNED_INT, Utilization,
};
use crate::lists::copy;
use crate::machine::{Place, Seen, machine, pass};
use crate::scenario::Memory;
use crate::{about, code, put, put_text};

/// Field ids of remapped rows: corrected, uncorrected, pending, failed.
const REMAPPED_ROWS: [u32; 4] = [142, 143, 144, 145];

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Code {
    code(pass("nvmlInit_v2", None).map(|()| machine().open()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Code {
    code(pass("nvmlShutdown", None).and_then(|()| machine().close()))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: u32) -> Code {
    code(pass("nvmlSystemGetDriverVersion", None).and_then(|()| {
        let scenario = machine().seen();
        // SAFETY: NVML's contract with its caller.
        unsafe { put_text(version, length, &scenario.driver) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut u32) -> Code {
    code(pass("nvmlDeviceGetCount_v2", None).and_then(|()| {
        let gpus = machine().count()?;
        // SAFETY: NVML's contract with its caller.
        unsafe { put(count, Some(gpus as u32)) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: u32, device: *mut usize) -> Code {
    let handle = Place { gpu: index as usize, slot: None }.handle();
    // SAFETY: NVML's contract with its caller.
    about(handle, "nvmlDeviceGetHandleByIndex_v2", |_| unsafe { put(device, Some(handle)) })
}

/// Functions about a device that write one value.
macro_rules! figures {
    ($($function:ident: $kind:ty = |$seen:ident| $figure:expr;)*) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $function(device: usize, figure: *mut $kind) -> Code {
            about(device, stringify!($function), |$seen| {
                let found: Option<$kind> = $figure;
                // SAFETY: NVML's contract with its caller.
                unsafe { put(figure, found) }
            })
        }
    )* };
}

figures! {
    nvmlDeviceGetPowerUsage: u32 = |seen| seen.whole()?.power;
    nvmlDeviceGetCurrentClocksThrottleReasons: u64 = |seen| seen.whole()?.throttle;
    nvmlDeviceGetUtilizationRates: Utilization = |seen| {
        seen.whole()?.rates.map(|(kernels, memory)| Utilization { kernels, memory })
    };
    nvmlDeviceGetMaxMigDeviceCount: u32 = |seen| seen.whole()?.mig.as_ref().map(|it| it.len() as u32);
    nvmlDeviceGetGpuInstanceId: u32 = |seen| Some(seen.instance()?.ids.0);
    nvmlDeviceGetComputeInstanceId: u32 = |seen| Some(seen.instance()?.ids.1);
    nvmlDeviceGetMemoryInfo: MemoryV1 = |seen| {
        let Memory { total, free, .. } = memory(seen)?;
        Some(MemoryV1 { total, free, used: total.saturating_sub(free) })
    };
    nvmlDeviceGetPciInfo_v3: PciInfo = |seen| Some(pci(&seen.whole()?.pci));
    nvmlDeviceGetAttributes_v2: Attributes = |seen| {
        seen.instance()?.attributes.map(|(gpu_slices, compute_slices, memory_mb)| Attributes {
            multiprocessors: 0,
            copy_engines: 0,
            decoders: 0,
            encoders: 0,
            jpeg: 0,
            ofa: 0,
            gpu_slices,
            compute_slices,
            memory_mb,
        })
    };
}

fn memory(seen: &Seen) -> Result<Memory, Code> {
    let memory = seen.device()?.memory;
    let more = seen.started.and_then(|process| process.memory).unwrap_or_default();
    machine().touch(seen.place);
    Ok(Memory { used: memory.used + more, free: memory.free - more, ..memory })
}

fn pci(text: &str) -> PciInfo {
    let mut bus_id = [0; 32];
    for (byte, letter) in bus_id.iter_mut().take(31).zip(text.bytes()) {
        *byte = letter as c_char;
    }
    PciInfo { legacy_bus_id: [0; 16], domain: 0, bus: 0, device: 0, id: 0, subsystem: 0, bus_id }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: usize, info: *mut MemoryV2) -> Code {
    about(device, "nvmlDeviceGetMemoryInfo_v2", |seen| {
        // SAFETY: NVML's contract with its caller.
        unsafe {
            if (*info).version != MEMORY_V2 {
                return Err(INVALID_ARGUMENT);
            }
            let Memory { total, reserved, free, used } = memory(seen)?;
            put(info, Some(MemoryV2 { version: MEMORY_V2, total, reserved, free, used }))
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(device: usize, uuid: *mut c_char, length: u32) -> Code {
    about(device, "nvmlDeviceGetUUID", |seen| {
        // SAFETY: NVML's contract with its caller.
        unsafe { put_text(uuid, length, &seen.device()?.uuid) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(device: usize, name: *mut c_char, length: u32) -> Code {
    about(device, "nvmlDeviceGetName", |seen| {
        // SAFETY: NVML's contract with its caller.
        unsafe { put_text(name, length, &seen.device()?.name) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: usize,
    _sensor: u32,
    degrees: *mut u32,
) -> Code {
    about(device, "nvmlDeviceGetTemperature", |seen| {
        // SAFETY: NVML's contract with its caller.
        unsafe { put(degrees, seen.whole()?.temperature) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: usize,
    kind: u32,
    _counter: u32,
    count: *mut u64,
) -> Code {
    about(device, "nvmlDeviceGetTotalEccErrors", |seen| {
        let errors = seen.whole()?.ecc;
        let errors = errors.map(|(corrected, not)| if kind == 0 { corrected } else { not });
        // SAFETY: NVML's contract with its caller.
        unsafe { put(count, errors) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: usize,
    count: c_int,
    values: *mut FieldValue,
) -> Code {
    about(device, "nvmlDeviceGetFieldValues", |seen| {
        let rows = seen.whole()?.remapped.map(|rows| [rows.0, rows.1, rows.2, rows.3]);
        // SAFETY: NVML's contract with its caller.
        for value in unsafe { from_raw_parts_mut(values, count as usize) } {
            let row = REMAPPED_ROWS.iter().position(|field| *field == value.field);
            let number = row.zip(rows).map(|(row, rows)| rows[row]);
            value.code = if number.is_some() { SUCCESS } else { NOT_SUPPORTED };
            value.value_type = UNSIGNED_INT;
            value.value = u64::from(number.unwrap_or_default());
        }
        Ok(())
    })
}

fn retired(seen: &Seen, cause: u32) -> Result<Vec<u64>, Code> {
    let (single, double) = seen.whole()?.retired.ok_or(NOT_SUPPORTED)?;
    Ok((0..u64::from(if cause == 0 { single } else { double })).collect())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetRetiredPages(
    device: usize,
    cause: u32,
    count: *mut u32,
    addresses: *mut u64,
) -> Code {
    about(device, "nvmlDeviceGetRetiredPages", |seen| {
        // SAFETY: NVML's contract with its caller.
        unsafe { copy(retired(seen, cause)?, count, addresses) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetRetiredPages_v2(
    device: usize,
    cause: u32,
    count: *mut u32,
    addresses: *mut u64,
    times: *mut u64,
) -> Code {
    about(device, "nvmlDeviceGetRetiredPages_v2", |seen| {
        let pages = retired(seen, cause)?;
        // SAFETY: NVML's contract with its caller.
        unsafe {
            times.write_bytes(0, pages.len().min(*count as usize));
            copy(pages, count, addresses)
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: usize,
    current: *mut u32,
    pending: *mut u32,
) -> Code {
    about(device, "nvmlDeviceGetMigMode", |seen| {
        let mode = u32::from(seen.whole()?.mig.is_some());
        // SAFETY: NVML's contract with its caller.
        unsafe {
            put(current, Some(mode))?;
            put(pending, Some(mode))
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: usize,
    slot: u32,
    instance: *mut usize,
) -> Code {
    about(device, "nvmlDeviceGetMigDeviceHandleByIndex", |seen| {
        let place = Place { slot: Some(slot as usize), ..seen.place };
        let slots = seen.whole()?.mig.as_deref().ok_or(NOT_SUPPORTED)?;
        slots.get(slot as usize).and_then(Option::as_ref).ok_or(NOT_FOUND)?;
        // SAFETY: NVML's contract with its caller.
        unsafe { put(instance, Some(place.handle())) }
    })
}
