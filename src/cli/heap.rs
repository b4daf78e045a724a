//! The C library's heap.

/// Has all threads share one heap. By default each thread gets one of its own and keeps what it was
/// given, which is for threads that allocate all the time.
#[cfg(target_env = "gnu")]
pub(super) fn share_one() {
    // SAFETY: sets a number, before there is another thread.
    let is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } == 1;
    debug_assert!(is_set, "glibc knows M_ARENA_MAX since 2.10");
}

/// Other C libraries have one.
#[cfg(not(target_env = "gnu"))]
pub(super) fn share_one() {}
