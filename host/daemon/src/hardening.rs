//! What the process asks of the system: no core dumps, because a crash must not write secrets to a disk (THREATS row 18),
//! as many open files as it may have, and a quiet end for commands whose reader has gone.

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

/// How many files and connections this process may have open: as many as the system lets it, from now on.
#[allow(unsafe_code)]
pub(crate) fn open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills a live struct.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        tracing::warn!("the limit of open files cannot be read");
        return 1_024;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    if limit.rlim_cur < limit.rlim_max {
        // SAFETY: the call reads a live struct, and changes a limit of this process alone.
        let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } == 0;
        if done {
            return wanted.rlim_cur;
        }
    }
    limit.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a03_the_limit_of_open_files_is_raised_as_far_as_it_goes() {
        let raised = open_files();
        let text = std::fs::read_to_string("/proc/self/limits").expect("the system says");
        let line = text.lines().find(|line| line.starts_with("Max open files")).expect("a line");
        let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers[0], numbers[1], "soft and hard");
        assert_eq!(numbers[0], raised.to_string());
        assert_eq!(open_files(), raised);
    }
}
