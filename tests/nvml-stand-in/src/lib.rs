//! A `libnvidia-ml.so` for tests. It exports the functions of NVML that filmgate calls, with the
//! types of `nvml.h`, and answers out of `scenario.json` beside it, which is read again whenever it
//! changes. Never shipped.

#![allow(non_snake_case)]
// Callers are C: what they must keep is in NVML's documentation.
#![allow(clippy::missing_safety_doc)]

mod calls;
mod events;
mod folder;
mod layout;
mod lists;
mod machine;
mod news;
mod scenario;

use std::ffi::c_char;

use layout::{Code, INSUFFICIENT_SIZE, NOT_SUPPORTED, SUCCESS};
use machine::{Place, Seen, machine, pass};

/// Answers a call about a device.
fn about(handle: usize, function: &str, answer: impl FnOnce(&Seen) -> Result<(), Code>) -> Code {
    let found = Place::of(handle).and_then(|place| {
        pass(function, Some(place))?;
        machine().see(place)
    });
    code(found.and_then(|seen| answer(&seen)))
}

fn code(result: Result<(), Code>) -> Code {
    result.err().unwrap_or(SUCCESS)
}

/// Writes a figure that the device may not have.
///
/// # Safety
/// `to` may be written.
unsafe fn put<T>(to: *mut T, figure: Option<T>) -> Result<(), Code> {
    let figure = figure.ok_or(NOT_SUPPORTED)?;
    // SAFETY: as the caller promises.
    unsafe { to.write(figure) };
    Ok(())
}

/// Writes a text in Latin-1 with its zero.
///
/// # Safety
/// `to` has room for `length` bytes.
unsafe fn put_text(to: *mut c_char, length: u32, text: &str) -> Result<(), Code> {
    let bytes = text.chars().map(|letter| u32::from(letter) as u8 as c_char).chain([0]);
    let bytes: Vec<_> = bytes.collect();
    if bytes.len() > length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: it was checked to fit.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    Ok(())
}
