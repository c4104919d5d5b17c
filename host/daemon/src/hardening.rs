//! No core dumps: a crash must not write secrets to a disk (THREATS row 18).

/// Forbids core dumps, and other users' debuggers, for this process.
#[allow(unsafe_code)]
pub(crate) fn no_core_dumps() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only take values and a pointer to a live struct, and change limits of this process alone.
    let refused = unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none) != 0
            || libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) != 0
    };
    if refused {
        tracing::warn!("core dumps cannot be switched off");
    }
}
