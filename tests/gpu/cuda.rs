//! As much of CUDA's driver API as it takes to hold memory. The driver brings it: no toolkit needed.

#![allow(unsafe_code, reason = "CUDA is C")]

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::mem::transmute_copy;
use std::ptr::null_mut;

type Result = c_uint;

/// CUDA's library.
struct Library(*mut c_void);

impl Library {
    fn load() -> Self {
        // SAFETY: loading runs what the driver's library runs at its start, which is meant for this.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null(), "libcuda.so.1 cannot be loaded");
        Self(library)
    }

    /// # Safety
    /// `F` is the C type of the function of that name.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> F {
        // SAFETY: the library is never unloaded.
        let function = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!function.is_null(), "libcuda.so.1 lacks {name:?}");
        // SAFETY: as the caller promises; a pointer to a function has the size of any other.
        unsafe { transmute_copy(&function) }
    }
}

fn check(what: &str, result: Result) {
    assert_eq!(result, 0, "{what}");
}

/// A context on a GPU, current on this thread.
pub(crate) struct Context {
    library: Library,
    device: c_int,
    held: Vec<u64>,
}

impl Context {
    /// On the first GPU (or MIG instance) that CUDA counts.
    pub(crate) fn on_first_gpu() -> Self {
        let library = Library::load();
        let (mut device, mut context) = (0, null_mut());
        // SAFETY: types and order of calls are those of cuda.h.
        unsafe {
            let init: extern "C" fn(c_uint) -> Result = library.function(c"cuInit");
            let get: extern "C" fn(*mut c_int, c_int) -> Result = library.function(c"cuDeviceGet");
            let retain: extern "C" fn(*mut *mut c_void, c_int) -> Result =
                library.function(c"cuDevicePrimaryCtxRetain");
            let set: extern "C" fn(*mut c_void) -> Result = library.function(c"cuCtxSetCurrent");
            check("cuInit", init(0));
            check("cuDeviceGet", get(&raw mut device, 0));
            check("cuDevicePrimaryCtxRetain", retain(&raw mut context, device));
            check("cuCtxSetCurrent", set(context));
        }
        Self { library, device, held: Vec::new() }
    }

    /// The hexadecimal digits of the device's UUID.
    pub(crate) fn uuid(&self) -> String {
        let mut bytes = [0_u8; 16];
        // SAFETY: the type is that of cuda.h, whose CUuuid has 16 bytes.
        unsafe {
            let get: extern "C" fn(*mut [u8; 16], c_int) -> Result =
                self.library.function(c"cuDeviceGetUuid_v2");
            check("cuDeviceGetUuid_v2", get(&raw mut bytes, self.device));
        }
        let hex = format!("{:032x}", u128::from_be_bytes(bytes));
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    pub(crate) fn allocate(&mut self, bytes: usize) {
        let mut address = 0;
        // SAFETY: the type is that of cuda.h.
        unsafe {
            let allocate: extern "C" fn(*mut u64, usize) -> Result =
                self.library.function(c"cuMemAlloc_v2");
            check("cuMemAlloc", allocate(&raw mut address, bytes));
        }
        self.held.push(address);
    }

    pub(crate) fn free_all(&mut self) {
        // SAFETY: the type is that of cuda.h, and each address came from it and is freed once.
        unsafe {
            let free: extern "C" fn(u64) -> Result = self.library.function(c"cuMemFree_v2");
            for address in self.held.drain(..) {
                check("cuMemFree", free(address));
            }
        }
    }
}
