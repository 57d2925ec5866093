//! Freed memory is kept for the next step.

/// Lets the C library's allocator keep what is freed instead of giving it back to the system.
///
/// Every operation of Burn allocates its output. Large ones come fresh from the system each time and
/// page by page, which is a fifth of a training step on `flex`. Call it once at the start of a
/// program that trains; the memory in use stays at its greatest so far. Does nothing where the
/// allocator is not glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes two integers and changes the allocator's parameters under its lock.
    unsafe {
        // All from the heap, and the heap never shortened.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}
