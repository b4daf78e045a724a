//! Where this library lies: its scenario is beside it, so that a process can load several.

use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The library's folder.
pub static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `dladdr` fills the struct for an address within this library, whose name it points to
    // for as long as the library is loaded.
    let library = unsafe {
        let here = (&raw const ANCHOR).cast();
        assert_ne!(libc::dladdr(here, found.as_mut_ptr()), 0, "this library has no path");
        CStr::from_ptr(found.assume_init().dli_fname)
    };
    let library = Path::new(OsStr::from_bytes(library.to_bytes()));
    library.parent().expect("a library lies in a folder").to_path_buf()
});

/// What this library pretends.
pub static SCENARIO: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.join("scenario.json"));

static ANCHOR: u8 = 0;
