//! What a failed NVML call says, and about what.

use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;

/// How far a failure reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// No call has failed: one has not come back.
    Nothing,
    /// One call: the figure is not there, or not this time.
    Call,
    /// The GPU is gone, and after it came back it is not what it was.
    Gpu,
    /// The driver is gone: what was opened is worthless.
    Driver,
}

/// Why a GPU or a driver did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reach: Reach,
    pub(super) why: Arc<str>,
}

impl From<NvmlError> for Fault {
    fn from(error: NvmlError) -> Self {
        Self { reach: reach(&error), why: describe(&error).into() }
    }
}

pub(super) fn reach(error: &NvmlError) -> Reach {
    match error {
        NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch => {
            Reach::Driver
        }
        NvmlError::GpuLost | NvmlError::ResetRequired => Reach::Gpu,
        _ => Reach::Call,
    }
}

/// A figure that a driver may lack. A failure that reaches further is passed on.
pub(super) fn figure<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if reach(&error) == Reach::Call => Ok(None),
        Err(error) => Err(error),
    }
}

/// The error for people, who know neither NVML nor its wrapper.
pub(super) fn describe(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(error) => format!("NVML cannot be loaded: {error}"),
        NvmlError::FailedToLoadSymbol(missing) => format!("NVML lacks a function: {missing}"),
        NvmlError::DriverNotLoaded => "the NVIDIA driver is not loaded".into(),
        NvmlError::Uninitialized => "the NVIDIA driver was unloaded".into(),
        NvmlError::LibRmVersionMismatch => {
            "the NVIDIA driver and its library differ in version: it was updated and not loaded anew"
                .into()
        }
        NvmlError::GpuLost => "it fell off the bus".into(),
        NvmlError::ResetRequired => "it must be reset".into(),
        NvmlError::Unknown => "NVML reports an unknown error".into(),
        other => format!("NVML: {other}"),
    }
}

/// That a call has not come back. Coarse, so that the text does not change with every sampling.
pub(super) fn overdue(call: &str, since: Duration) -> Arc<str> {
    let seconds = since.as_secs();
    let time = match seconds {
        0..10 => format!("{seconds} s"),
        10..60 => format!("{} s", seconds / 10 * 10),
        _ => format!("{} min", seconds / 60),
    };
    format!("{call} has not come back for {time}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_about_a_call_that_hangs_changes_seldom() {
        let texts = |range: std::ops::Range<u64>| {
            let mut texts: Vec<_> =
                range.map(|seconds| overdue("a call", Duration::from_secs(seconds))).collect();
            texts.dedup();
            texts.len()
        };
        assert_eq!(texts(10..60), 5);
        assert_eq!(texts(60..660), 10);
        assert_eq!(
            &*overdue("a call", Duration::from_secs(125)),
            "a call has not come back for 2 min"
        );
    }
}
