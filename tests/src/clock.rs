//! A wall clock that can be set, for one process.

use std::{fs, path::PathBuf, process::Command};

use crate::{root, run};

/// Stands before the C library: every way to ask for the wall clock gets so many milliseconds added as the file says.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset_ms;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset_ms = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && offset_ms && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t offset = *offset_ms;
        int64_t nanos = now->tv_nsec + offset % 1000 * 1000000;
        now->tv_sec += offset / 1000 + (nanos >= 1000000000) - (nanos < 0);
        now->tv_nsec = nanos + (nanos < 0) * 1000000000LL - (nanos >= 1000000000) * 1000000000LL;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
"#;

/// A clock that goes wrong when it is told to. Timeouts and pauses of the process itself do not depend on it.
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right, whose state is in this file. Compiles the library that bends it.
    ///
    /// # Panics
    /// Without a C compiler.
    pub fn new(file: PathBuf) -> Self {
        let folder = root().join("target/test-clock");
        fs::create_dir_all(&folder).expect("the target folder can be written");
        let library = folder.join(format!("clock-{}.so", std::process::id()));
        let source = folder.join(format!("clock-{}.c", std::process::id()));
        fs::write(&source, SOURCE).expect("the target folder can be written");
        let arguments = [
            "-shared",
            "-fPIC",
            "-O1",
            "-o",
            library.to_str().expect("a path"),
            source.to_str().expect("a path"),
        ];
        let compiled = run("cc".as_ref(), &arguments, &[], "");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let clock = Self { file, library };
        clock.set(0);
        clock
    }

    /// The environment of a process that goes by this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &PathBuf| path.to_str().expect("a path").to_owned();
        vec![("LD_PRELOAD".into(), text(&self.library)), ("TEST_CLOCK".into(), text(&self.file))]
    }

    /// Sets it to so many milliseconds after (or before) the right time, at once.
    pub fn set(&self, offset_ms: i64) {
        use std::{io::Write, os::unix::fs::OpenOptionsExt};
        // Not truncated: the process looks at the same eight bytes all the time.
        let mut file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.file)
            .expect("the clock can be set");
        file.write_all(&offset_ms.to_ne_bytes()).expect("the clock can be set");
    }

    /// What a command says of the time by this clock, in seconds since the epoch.
    pub fn seconds(&self) -> i64 {
        let now = Command::new("date").arg("+%s").envs(self.environment()).output().expect("date runs");
        String::from_utf8_lossy(&now.stdout).trim().parse().expect("a number")
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // Only tidiness: the next build folder has no use for them.
        let _ = fs::remove_file(&self.library);
        let _ = fs::remove_file(self.library.with_extension("c"));
    }
}
