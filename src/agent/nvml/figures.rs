//! How a GPU is doing: what it takes no decision about memory, and what people look at.

use std::time::Duration;

use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    EccCounter, MemoryError, RetirementCause, Sampling, TemperatureSensor,
};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::Sample;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id;
use tokio::time::Instant;

use super::fault::figure;
use crate::agent::hardware::{EccErrors, Gpu, RemappedRows};

/// Names as nvidia-smi prints them.
const THROTTLE_REASONS: [(ThrottleReasons, &str); 9] = [
    (ThrottleReasons::GPU_IDLE, "gpu_idle"),
    (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "applications_clocks_setting"),
    (ThrottleReasons::SW_POWER_CAP, "sw_power_cap"),
    (ThrottleReasons::HW_SLOWDOWN, "hw_slowdown"),
    (ThrottleReasons::SYNC_BOOST, "sync_boost"),
    (ThrottleReasons::SW_THERMAL_SLOWDOWN, "sw_thermal_slowdown"),
    (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hw_thermal_slowdown"),
    (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hw_power_brake_slowdown"),
    (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display_clock_setting"),
];

/// What has to be remembered between two samplings of a GPU.
#[derive(Debug, Default)]
pub(super) struct Figures {
    kernels: Meter,
    memory: Meter,
    wear: Option<(Instant, Wear)>,
}

impl Figures {
    /// Reads all figures into `gpu`; those of wear at most once in `wear_interval`.
    pub(super) fn read(
        &mut self,
        device: &Device<'_>,
        wear_interval: Duration,
        gpu: &mut Gpu,
    ) -> Result<(), NvmlError> {
        gpu.temperature_celsius =
            figure(device.temperature(TemperatureSensor::Gpu))?.map(f64::from);
        gpu.power_watts =
            figure(device.power_usage())?.map(|milliwatts| f64::from(milliwatts) / 1e3);
        gpu.throttle_reasons = figure(device.current_throttle_reasons())?.map(names);
        (gpu.utilization_ratio, gpu.memory_utilization_ratio) = self.utilization(device)?;
        let wear = self.wear(device, wear_interval)?;
        gpu.ecc_errors = wear.ecc_errors;
        gpu.remapped_rows = wear.remapped_rows;
        gpu.retired_pages = wear.retired_pages;
        Ok(())
    }

    fn utilization(
        &mut self,
        device: &Device<'_>,
    ) -> Result<(Option<f64>, Option<f64>), NvmlError> {
        let kernels = self.kernels.mean(device, Sampling::GpuUtilization)?;
        let memory = self.memory.mean(device, Sampling::MemoryUtilization)?;
        if kernels.is_some() && memory.is_some() {
            return Ok((kernels, memory));
        }
        // The driver's own mean, over its last sample period alone.
        let rates = figure(device.utilization_rates())?;
        let ratio = |percent| (percent <= 100).then(|| f64::from(percent) / 100.0);
        let of_rates = |percent: Option<u32>| percent.and_then(ratio);
        let rates_of_kernels = of_rates(rates.as_ref().map(|rates| rates.gpu));
        let rates_of_memory = of_rates(rates.as_ref().map(|rates| rates.memory));
        Ok((kernels.or(rates_of_kernels), memory.or(rates_of_memory)))
    }

    fn wear(&mut self, device: &Device<'_>, interval: Duration) -> Result<Wear, NvmlError> {
        match self.wear {
            Some((read, wear)) if read.elapsed() < interval => Ok(wear),
            _ => {
                let wear = Wear::read(device)?;
                self.wear = Some((Instant::now(), wear));
                Ok(wear)
            }
        }
    }
}

fn names(reasons: ThrottleReasons) -> Vec<&'static str> {
    let given = THROTTLE_REASONS.iter().filter(|(reason, _)| reasons.contains(*reason));
    given.map(|(_, name)| *name).collect()
}

/// What changes seldom and asks the driver for much.
#[derive(Debug, Clone, Copy)]
struct Wear {
    ecc_errors: Option<EccErrors>,
    remapped_rows: Option<RemappedRows>,
    retired_pages: Option<u32>,
}

impl Wear {
    fn read(device: &Device<'_>) -> Result<Self, NvmlError> {
        Ok(Self {
            ecc_errors: ecc_errors(device)?,
            remapped_rows: remapped_rows(device)?,
            retired_pages: retired_pages(device)?,
        })
    }
}

fn ecc_errors(device: &Device<'_>) -> Result<Option<EccErrors>, NvmlError> {
    let errors = |kind| figure(device.total_ecc_errors(kind, EccCounter::Volatile));
    let (corrected, uncorrected) =
        (errors(MemoryError::Corrected)?, errors(MemoryError::Uncorrected)?);
    let both = corrected.zip(uncorrected);
    Ok(both.map(|(corrected, uncorrected)| EccErrors { corrected, uncorrected }))
}

fn remapped_rows(device: &Device<'_>) -> Result<Option<RemappedRows>, NvmlError> {
    let fields = [
        field_id::NVML_FI_DEV_REMAPPED_COR,
        field_id::NVML_FI_DEV_REMAPPED_UNC,
        field_id::NVML_FI_DEV_REMAPPED_PENDING,
        field_id::NVML_FI_DEV_REMAPPED_FAILURE,
    ];
    let Some(values) = figure(device.field_values_for(&fields.map(FieldId)))? else {
        return Ok(None);
    };
    let mut numbers = [0_u32; 4];
    for (number, value) in numbers.iter_mut().zip(values) {
        let value = figure(value.and_then(|sample| sample.value))?;
        let Some(whole) = value.and_then(whole) else { return Ok(None) };
        *number = whole;
    }
    let [corrected, uncorrected, pending, failed] = numbers;
    Ok(Some(RemappedRows {
        corrected,
        uncorrected,
        is_pending: pending != 0,
        has_failed: failed != 0,
    }))
}

fn whole(value: SampleValue) -> Option<u32> {
    match value {
        SampleValue::U32(value) => Some(value),
        SampleValue::U64(value) => u32::try_from(value).ok(),
        SampleValue::I64(value) => u32::try_from(value).ok(),
        SampleValue::F64(_) => None,
    }
}

fn retired_pages(device: &Device<'_>) -> Result<Option<u32>, NvmlError> {
    let pages = |cause| figure(device.retired_pages(cause));
    let single = pages(RetirementCause::MultipleSingleBitEccErrors)?;
    let double = pages(RetirementCause::DoubleBitEccError)?;
    let both = single.zip(double);
    Ok(both.map(|(single, double)| u32::try_from(single.len() + double.len()).unwrap_or(u32::MAX)))
}

/// Means of the samples that the driver keeps (some seconds of them, several a second).
#[derive(Debug, Default)]
struct Meter {
    /// Time of the newest sample seen, by the driver's clock.
    newest: u64,
}

impl Meter {
    /// The mean since the last call. `None` where there is nothing new, and the first time.
    ///
    /// All samples are asked for, not those since the newest seen: with a clock that was set back
    /// there would be none for as long as it was set back.
    fn mean(&mut self, device: &Device<'_>, kind: Sampling) -> Result<Option<f64>, NvmlError> {
        let samples = figure(device.samples(kind, None))?.unwrap_or_default();
        Ok(self.mean_of_new(&samples))
    }

    fn mean_of_new(&mut self, samples: &[Sample]) -> Option<f64> {
        let seen = self.newest;
        let newest = samples.iter().map(|sample| sample.timestamp).max()?;
        self.newest = newest;
        if seen == 0 {
            return None;
        }
        let new = samples.iter().filter(|sample| sample.timestamp > seen);
        let percents: Vec<_> = new.filter_map(|sample| percent(&sample.value)).collect();
        let mean = percents.iter().sum::<f64>() / percents.len() as f64;
        (!percents.is_empty()).then_some(mean / 100.0)
    }
}

/// A sample as a number; `None` for what cannot be.
fn percent(value: &SampleValue) -> Option<f64> {
    let percent = match *value {
        SampleValue::F64(value) => value,
        SampleValue::U32(value) => f64::from(value),
        SampleValue::U64(value) => value as f64,
        SampleValue::I64(value) => value as f64,
    };
    (0.0..=100.0).contains(&percent).then_some(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(samples: &[(u64, u32)]) -> Vec<Sample> {
        let sample = |(timestamp, percent)| Sample { timestamp, value: SampleValue::U32(percent) };
        samples.iter().copied().map(sample).collect()
    }

    #[test]
    fn utilization_is_the_mean_since_the_last_sampling() {
        let mut meter = Meter::default();
        assert_eq!(meter.mean_of_new(&[]), None);
        assert_eq!(meter.mean_of_new(&samples(&[(1, 90), (2, 90)])), None, "since when?");
        assert_eq!(meter.mean_of_new(&samples(&[(1, 90), (2, 90), (3, 0), (4, 50)])), Some(0.25));
        assert_eq!(meter.mean_of_new(&samples(&[(3, 0), (4, 50)])), None, "nothing new");
    }

    #[test]
    fn impossible_samples_do_not_count() {
        let mut meter = Meter { newest: 1 };
        let garbage = [(2, 101), (3, u32::MAX), (4, 40), (0, 7)];
        assert_eq!(meter.mean_of_new(&samples(&garbage)), Some(0.4));
        let infinite = Sample { timestamp: 9, value: SampleValue::F64(f64::NAN) };
        assert_eq!(meter.mean_of_new(&[infinite]), None);
    }

    #[test]
    fn a_clock_set_back_costs_one_sampling() {
        let mut meter = Meter { newest: 1_000_000 };
        assert_eq!(meter.mean_of_new(&samples(&[(10, 30)])), None);
        assert_eq!(meter.mean_of_new(&samples(&[(10, 30), (11, 60)])), Some(0.6));
    }
}
