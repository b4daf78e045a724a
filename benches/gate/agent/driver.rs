//! The calls of NVML that the agent makes, once a second, and nothing else: what they cost is the
//! stand-in's share of the agent's figure.

use std::hint::black_box;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{
    EccCounter, MemoryError, RetirementCause, Sampling, TemperatureSensor,
};
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};

/// First argument of the process that is one, before the library.
pub const COMMAND: &str = "driver-calls";
/// As the agent has them.
const INTERVAL: Duration = Duration::from_secs(1);
const WEAR_INTERVAL: u64 = 30;
const WAIT_MILLISECONDS: u32 = 500;
const REMAPPED_ROWS: [u32; 4] = [142, 143, 144, 145];

/// What that process does; it ends with its parent.
pub fn serve(mut arguments: impl Iterator<Item = String>) {
    let library = PathBuf::from(arguments.next().unwrap());
    let nvml: &Nvml =
        Box::leak(Box::new(Nvml::builder().lib_path(library.as_os_str()).init().unwrap()));
    let gpus = nvml.device_count().unwrap();
    for index in 0..gpus {
        thread::spawn(move || listen(nvml, index));
    }
    for second in 0_u64.. {
        for index in 0..gpus {
            read(&nvml.device_by_index(index).unwrap(), second.is_multiple_of(WEAR_INTERVAL));
        }
        thread::sleep(INTERVAL);
    }
}

fn listen(nvml: &Nvml, index: u32) {
    let device = nvml.device_by_index(index).unwrap();
    let set = nvml.create_event_set().unwrap();
    let set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|it| it.error);
    let set = set.unwrap();
    loop {
        let _ = black_box(set.wait(WAIT_MILLISECONDS));
    }
}

fn read(device: &Device<'_>, with_wear: bool) {
    let _ = black_box(device.mig_mode());
    let _ = black_box(device.running_compute_processes().unwrap());
    let _ = black_box(device.running_graphics_processes().unwrap());
    let _ = black_box(device.mps_running_compute_processes().unwrap());
    let _ = black_box(device.memory_info().unwrap());
    let _ = black_box(device.temperature(TemperatureSensor::Gpu).unwrap());
    let _ = black_box(device.power_usage().unwrap());
    let _ = black_box(device.current_throttle_reasons().unwrap());
    let _ = black_box(device.samples(Sampling::GpuUtilization, None).unwrap());
    let _ = black_box(device.samples(Sampling::MemoryUtilization, None).unwrap());
    if with_wear {
        for kind in [MemoryError::Corrected, MemoryError::Uncorrected] {
            let _ = black_box(device.total_ecc_errors(kind, EccCounter::Volatile).unwrap());
        }
        let _ = black_box(device.field_values_for(&REMAPPED_ROWS.map(FieldId)).unwrap());
        for cause in
            [RetirementCause::MultipleSingleBitEccErrors, RetirementCause::DoubleBitEccError]
        {
            let _ = black_box(device.retired_pages(cause).unwrap());
        }
    }
}
