//! The instances of a GPU that MIG has split.

use std::sync::Arc;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::DeviceAttributes;

use super::fault::figure;
use super::raw;
use super::usage::usage;
use crate::agent::hardware::{Gpu, Mig};
use crate::engine::{Bytes, GpuUuid};

const ENABLED: u32 = 1;

/// What stands before the profile in the name of an instance: `NVIDIA A100-SXM4-40GB MIG 1g.5gb`.
const BEFORE_PROFILE: &str = " MIG ";

/// Whether the GPU is split. One that cannot be is not.
pub(super) fn is_split(device: &Device<'_>) -> Result<bool, NvmlError> {
    Ok(figure(device.mig_mode())?.is_some_and(|mode| mode.current == ENABLED))
}

/// The GPU's instances, in the order of their slots.
pub(super) fn instances(
    device: &Device<'_>,
    parent: &Gpu,
    driver: &str,
) -> Result<Vec<Gpu>, NvmlError> {
    let slots = figure(device.mig_device_count())?.unwrap_or_default();
    let mut instances = Vec::new();
    for slot in 0..slots {
        // Free slots lie between taken ones.
        if let Some(instance) = figure(device.mig_device_by_index(slot))? {
            instances.push(read(&instance, parent, driver)?);
        }
    }
    Ok(instances)
}

fn read(device: &Device<'_>, parent: &Gpu, driver: &str) -> Result<Gpu, NvmlError> {
    let (gpu_instance, compute_instance) = raw::instance(device)?;
    let mig = Mig::Instance {
        parent: parent.uuid.clone(),
        profile: profile(device, parent.memory.total)?,
        gpu_instance,
        compute_instance,
    };
    let (processes, memory) = usage(device, driver)?;
    Ok(Gpu {
        uuid: GpuUuid::from(device.uuid()?),
        mig,
        memory: memory?,
        processes,
        // NVML measures the utilisation of no instance, and power, errors and clocks are the board's.
        utilization_ratio: None,
        memory_utilization_ratio: None,
        power_watts: None,
        throttle_reasons: None,
        ecc_errors: None,
        remapped_rows: None,
        retired_pages: None,
        ..parent.clone()
    })
}

fn profile(device: &Device<'_>, whole: Bytes) -> Result<Arc<str>, NvmlError> {
    let name = figure(raw::name(device))?.unwrap_or_default();
    if let Some((_, profile)) = name.rsplit_once(BEFORE_PROFILE) {
        return Ok(profile.into());
    }
    let attributes = figure(device.attributes())?;
    Ok(attributes.map_or_else(|| "unknown".into(), |attributes| composed(&attributes, whole)))
}

/// The profile's name as NVIDIA's device plugin composes it (go-nvlib, `mig_profile.go`): its memory
/// in eighths of the GPU's, rounded up.
fn composed(attributes: &DeviceAttributes, whole: Bytes) -> Arc<str> {
    let own = Bytes::mib(attributes.memory_size_mb).as_gib();
    let gib = if whole == Bytes::ZERO {
        own.ceil()
    } else {
        ((own / whole.as_gib() * 8.0).ceil() / 8.0 * whole.as_gib().ceil()).round()
    };
    let (gpu, compute) =
        (attributes.gpu_instance_slice_count, attributes.compute_instance_slice_count);
    let shared = if compute == gpu { String::new() } else { format!("{compute}c.") };
    format!("{shared}{gpu}g.{gib}gb").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(gpu: u32, compute: u32, memory_size_mb: u64) -> DeviceAttributes {
        DeviceAttributes {
            multiprocessor_count: 0,
            shared_copy_engine_count: 0,
            shared_decoder_count: 0,
            shared_encoder_count: 0,
            shared_jpeg_count: 0,
            shared_ofa_count: 0,
            gpu_instance_slice_count: gpu,
            compute_instance_slice_count: compute,
            memory_size_mb,
        }
    }

    #[test]
    fn composes_profiles_as_the_device_plugin_does() {
        let a100 = Bytes::mib(40_960);
        let h100 = Bytes::mib(81_559);
        for (attributes, whole, profile) in [
            (attributes(1, 1, 4_864), a100, "1g.5gb"),
            (attributes(3, 3, 19_968), a100, "3g.20gb"),
            (attributes(3, 1, 19_968), a100, "1c.3g.20gb"),
            (attributes(7, 7, 40_192), a100, "7g.40gb"),
            (attributes(1, 1, 9_984), h100, "1g.10gb"),
            (attributes(1, 1, 4_864), Bytes::ZERO, "1g.5gb"),
        ] {
            assert_eq!(&*composed(&attributes, whole), profile);
        }
    }
}
