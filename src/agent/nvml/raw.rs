//! The calls that nvml-wrapper lacks, each in its thinnest form.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, EventSet};
use nvml_wrapper_sys::bindings::{NVML_DEVICE_NAME_V2_BUFFER_SIZE, nvmlEventData_t, nvmlMemory_t};

/// What NVML puts where there is no instance.
const NO_INSTANCE: u32 = u32::MAX;

/// An event as the driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawEvent {
    /// Its number: of an XID error the XID.
    pub(super) data: u64,
    /// The MIG instance that it concerns: GPU instance and compute instance.
    pub(super) instance: Option<(u32, u32)>,
}

/// The product's name. The wrapper refuses one that is not UTF-8.
pub(super) fn name(device: &Device<'_>) -> Result<String, NvmlError> {
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetName.as_ref())?;
    let mut name = [0; NVML_DEVICE_NAME_V2_BUFFER_SIZE as usize];
    // SAFETY: the handle is the wrapper's; the length given leaves the last byte, which stays zero.
    let text = unsafe {
        nvml_try(get(device.handle(), name.as_mut_ptr(), NVML_DEVICE_NAME_V2_BUFFER_SIZE - 1))?;
        CStr::from_ptr(name.as_ptr())
    };
    Ok(text.to_string_lossy().into_owned())
}

/// Memory by the first version of the call, for drivers that lack the second (WSL).
pub(super) fn memory_v1(device: &Device<'_>) -> Result<nvmlMemory_t, NvmlError> {
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: the handle is the wrapper's, and NVML fills the struct that it declares for this call.
    nvml_try(unsafe { get(device.handle(), &raw mut memory) })?;
    Ok(memory)
}

/// GPU instance and compute instance of a MIG device.
pub(super) fn instance(device: &Device<'_>) -> Result<(u32, u32), NvmlError> {
    let lib = device.nvml().lib();
    let get_gpu_instance = nvml_sym(lib.nvmlDeviceGetGpuInstanceId.as_ref())?;
    let get_compute_instance = nvml_sym(lib.nvmlDeviceGetComputeInstanceId.as_ref())?;
    let (mut gpu_instance, mut compute_instance) = (0, 0);
    // SAFETY: the handle is the wrapper's, and each call writes the one number that it is given.
    unsafe {
        nvml_try(get_gpu_instance(device.handle(), &raw mut gpu_instance))?;
        nvml_try(get_compute_instance(device.handle(), &raw mut compute_instance))?;
    }
    Ok((gpu_instance, compute_instance))
}

/// Waits for the next event of the set. The wrapper's call leaves out the MIG instance.
pub(super) fn wait(set: &EventSet<'_>, milliseconds: u32) -> Result<RawEvent, NvmlError> {
    let wait = nvml_sym(set.nvml.lib().nvmlEventSetWait_v2.as_ref())?;
    let mut event = MaybeUninit::<nvmlEventData_t>::zeroed();
    // SAFETY: the set is the wrapper's and lives; zeroes are a valid event (a null handle that is
    // never used), which NVML overwrites.
    let event = unsafe {
        nvml_try(wait(set.handle(), event.as_mut_ptr(), milliseconds))?;
        event.assume_init()
    };
    let instance = (event.gpuInstanceId, event.computeInstanceId);
    let is_whole = instance.0 == NO_INSTANCE || instance.1 == NO_INSTANCE;
    Ok(RawEvent { data: event.eventData, instance: (!is_whole).then_some(instance) })
}
