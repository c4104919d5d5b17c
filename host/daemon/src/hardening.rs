//! What the process asks of the system: no core dumps, because a crash must not write secrets to a disk (THREATS row 18),
//! and a quiet end for commands whose reader has gone.

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

/// A command whose output goes to `head` ends when `head` does, instead of panicking at the next line.
#[allow(unsafe_code)]
pub(crate) fn end_quietly_with_the_reader() {
    // SAFETY: sets the default action of one signal, before any thread is started.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
