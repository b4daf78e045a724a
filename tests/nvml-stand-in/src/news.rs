//! Who waits for events waits for the kernel, as in the real library: somebody always does, and
//! looking again and again would be measured as the agent's own work.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How soon news are noticed where the kernel has no watch left to give.
const POLL: Duration = Duration::from_millis(50);

/// Tells when a file was put into a folder.
pub struct News(Option<OwnedFd>);

impl News {
    pub fn of(folder: &Path) -> Self {
        let folder = CString::new(folder.as_os_str().as_bytes()).expect("a path");
        // SAFETY: the path ends with a zero; what the first call returns is nobody else's.
        let watch = unsafe {
            let made = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
            let watch = (made >= 0).then(|| OwnedFd::from_raw_fd(made));
            watch.filter(|_| libc::inotify_add_watch(made, folder.as_ptr(), libc::IN_MOVED_TO) >= 0)
        };
        Self(watch)
    }

    /// Waits for news, at most so long.
    pub fn wait(&self, longest: Duration) {
        let Some(watch) = &self.0 else { return sleep(longest.min(POLL)) };
        let mut wanted = libc::pollfd { fd: watch.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // Rounded up: who waits less than a millisecond should not wait in vain a thousand times.
        let milliseconds = longest.as_millis() as i32 + 1;
        let mut events = [0_u8; 4096];
        // SAFETY: one entry, and a buffer of that length. What the events say is in the folder too.
        unsafe {
            if libc::poll(&raw mut wanted, 1, milliseconds) > 0 {
                libc::read(watch.as_raw_fd(), events.as_mut_ptr().cast(), events.len());
            }
        }
    }
}
