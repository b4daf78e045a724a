//! NVML's structs as `nvml.h` of NVML 13 lays them out on 64-bit machines, written down here apart
//! from the bindings that filmgate uses: where one of the two is wrong, tests fail.

use std::ffi::c_char;
use std::mem::{offset_of, size_of};

macro_rules! layouts {
    ($($size:literal $name:ident { $($at:literal $field:ident: $kind:ty,)* })*) => { $(
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $(pub $field: $kind,)* }
        const _: () = assert!(size_of::<$name>() == $size);
        $(const _: () = assert!(offset_of!($name, $field) == $at);)*
    )* };
}

layouts! {
    24 MemoryV1 { 0 total: u64, 8 free: u64, 16 used: u64, }
    40 MemoryV2 { 0 version: u32, 8 total: u64, 16 reserved: u64, 24 free: u64, 32 used: u64, }
    24 ProcessInfo { 0 pid: u32, 8 memory: u64, 16 gpu_instance: u32, 20 compute_instance: u32, }
    8 Utilization { 0 kernels: u32, 4 memory: u32, }
    16 Sample { 0 time: u64, 8 value: u64, }
    40 FieldValue {
        0 field: u32, 4 scope: u32, 8 time: i64, 16 latency: i64,
        24 value_type: u32, 28 code: u32, 32 value: u64,
    }
    32 EventData {
        0 device: usize, 8 kind: u64, 16 data: u64, 24 gpu_instance: u32, 28 compute_instance: u32,
    }
    68 PciInfo {
        0 legacy_bus_id: [c_char; 16], 16 domain: u32, 20 bus: u32, 24 device: u32,
        28 id: u32, 32 subsystem: u32, 36 bus_id: [c_char; 32],
    }
    40 Attributes {
        0 multiprocessors: u32, 4 copy_engines: u32, 8 decoders: u32, 12 encoders: u32,
        16 jpeg: u32, 20 ofa: u32, 24 gpu_slices: u32, 28 compute_slices: u32, 32 memory_mb: u64,
    }
}

/// What `nvmlDeviceGetMemoryInfo_v2` wants to find as the version.
pub const MEMORY_V2: u32 = 0x0200_0028;
/// In the place of an instance id or of memory that is not known.
pub const NONE: u32 = u32::MAX;
pub const NOT_AVAILABLE: u64 = u64::MAX;
/// `nvmlEventTypeXidCriticalError`.
pub const XID_EVENT: u64 = 8;
/// `NVML_VALUE_TYPE_UNSIGNED_INT`.
pub const UNSIGNED_INT: u32 = 1;

/// What NVML's functions return.
pub type Code = u32;
pub const SUCCESS: Code = 0;
pub const UNINITIALIZED: Code = 1;
pub const INVALID_ARGUMENT: Code = 2;
pub const NOT_SUPPORTED: Code = 3;
pub const NOT_FOUND: Code = 6;
pub const INSUFFICIENT_SIZE: Code = 7;
pub const TIMEOUT: Code = 10;
pub const GPU_IS_LOST: Code = 15;
pub const UNKNOWN: Code = 999;
