//! Event sets.

use std::time::{Duration, Instant};

use crate::layout::{Code, EventData, NONE, TIMEOUT, XID_EVENT};
use crate::machine::{Place, machine, pass};
use crate::scenario::Xid;
use crate::{about, code, put};

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetCreate(set: *mut usize) -> Code {
    code(pass("nvmlEventSetCreate", None).and_then(|()| {
        let made = machine().make_set();
        // SAFETY: NVML's contract with its caller.
        unsafe { put(set, Some(made)) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: usize) -> Code {
    code(pass("nvmlEventSetFree", None).and_then(|()| machine().free_set(set)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(device: usize, _events: u64, set: usize) -> Code {
    about(device, "nvmlDeviceRegisterEvents", |seen| machine().register(seen.place.gpu, set))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait_v2(
    set: usize,
    event: *mut EventData,
    milliseconds: u32,
) -> Code {
    // SAFETY: NVML's contract with its caller.
    code(wait(set, milliseconds).and_then(|xid| unsafe { put(event, Some(event_of(xid))) }))
}

fn wait(set: usize, milliseconds: u32) -> Result<Xid, Code> {
    let deadline = Instant::now() + Duration::from_millis(milliseconds.into());
    let news = machine().news(set)?;
    loop {
        if let Some(xid) = machine().next_event(set)? {
            return Ok(xid);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TIMEOUT);
        }
        news.wait(left);
    }
}

fn event_of(xid: Xid) -> EventData {
    let (gpu_instance, compute_instance) = xid.instance.unwrap_or((NONE, NONE));
    EventData {
        device: Place { gpu: xid.gpu, slot: None }.handle(),
        kind: XID_EVENT,
        data: xid.xid,
        gpu_instance,
        compute_instance,
    }
}
