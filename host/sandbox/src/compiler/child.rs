//! Compiling in a child process: starting it, feeding it, and what its end means.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use airlock_engine::printable::printable;
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::{
    NotCompiled,
    process::{INVALID, Order},
};
use crate::config::{Compiling, Program};

/// Bytes of its standard error that are read.
const SENTENCE_BYTES: u64 = 8 << 10;

/// A process that is not given the processor may take so many times its processor time, and this on top.
const WALL_FACTOR: u32 = 4;
const WALL_BASE: Duration = Duration::from_secs(30);

/// What ends a compiler that fails on what it compiles.
const CRASHES: [Signal; 4] = [Signal::SEGV, Signal::BUS, Signal::ABORT, Signal::ILL];

/// How to start it.
#[derive(Debug)]
pub(super) struct Child {
    config: Compiling,
    compatibility: String,
    pooled: bool,
}

impl Child {
    pub(super) fn new(config: &Compiling, compatibility: &str, pooled: bool) -> Self {
        Self { config: config.clone(), compatibility: compatibility.to_owned(), pooled }
    }

    /// Runs it to its end. It is killed when this is dropped.
    pub(super) async fn compile(&self, component: &Arc<Vec<u8>>, code: File) -> Result<(), NotCompiled> {
        let host = |what: &str, error: std::io::Error| NotCompiled::Host(format!("{what}: {error}"));
        let Some(Program { path, arguments }) = &self.config.program else {
            return Err(NotCompiled::Host("no compiler is configured".to_owned()));
        };
        let size = component.len() as u64;
        let (cpu, memory_bytes) = (self.config.cpu(size), self.config.memory(size));
        let order = Order {
            memory_bytes,
            code_bytes: self.config.code_bytes,
            cpu_seconds: cpu.as_secs().max(1),
            pooled: self.pooled,
            parent: std::process::id(),
            compatibility: self.compatibility.clone(),
        };
        let mut child = Command::new(path)
            .args(arguments)
            .args(order.words())
            .env_clear()
            // Threads of the compiler; each has a stack and a heap of its own.
            .env("RAYON_NUM_THREADS", self.config.threads.to_string())
            // The allocator of the daemon's program takes a gigabyte of addresses beforehand, which is all that there is here.
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(code)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| host("the compiler cannot be started", error))?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // One that ends early says why on the other stream.
                let _ = stdin.write_all(component).await;
            }
        };
        let listen = async {
            let mut sentence = Vec::new();
            if let Some(stderr) = stderr {
                // What cannot be read is not told; the status says enough.
                let _ = stderr.take(SENTENCE_BYTES).read_to_end(&mut sentence).await;
            }
            String::from_utf8_lossy(&sentence).trim().to_owned()
        };
        let work = async {
            let ((), sentence, status) = tokio::join!(feed, listen, child.wait());
            (sentence, status)
        };
        let wall = cpu * WALL_FACTOR + WALL_BASE;
        match tokio::time::timeout(wall, work).await {
            Ok((sentence, Ok(status))) => self.judge(status, &sentence, cpu, memory_bytes),
            Ok((_, Err(error))) => Err(host("the compiler cannot be waited for", error)),
            Err(_) => Err(NotCompiled::Host(format!(
                "compiling it did not end within {} s, in which it was given little of the processor",
                wall.as_secs()
            ))),
        }
    }

    fn judge(
        &self,
        status: ExitStatus,
        sentence: &str,
        cpu: Duration,
        memory_bytes: u64,
    ) -> Result<(), NotCompiled> {
        let memory = || {
            let mb = memory_bytes >> 20;
            NotCompiled::TooDemanding(format!("more than {mb} MB of memory to be compiled"))
        };
        let sentence = printable(sentence);
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(()),
            // Address space that is used up comes as an error of the system, or as an allocation that fails.
            _ if sentence.contains("memory allocation of ") || sentence.contains("os error 12)") => {
                Err(memory())
            }
            (Some(INVALID), _) => Err(NotCompiled::Invalid(sentence.into_owned())),
            (_, Some(signal)) if signal == Signal::XCPU.as_raw() => {
                let seconds = cpu.as_secs();
                Err(NotCompiled::TooDemanding(format!(
                    "more than {seconds} s of processor time to be compiled, which is a lot for its size"
                )))
            }
            (_, Some(signal)) if signal == Signal::XFSZ.as_raw() => {
                let mb = self.config.code_bytes >> 20;
                Err(NotCompiled::TooDemanding(format!("more than {mb} MB for its compiled code")))
            }
            (_, Some(signal)) if CRASHES.iter().any(|crash| crash.as_raw() == signal) => {
                Err(NotCompiled::TooDemanding(format!(
                    "another compiler: this one crashed on it (signal {signal})"
                )))
            }
            _ => Err(NotCompiled::Host(format!("the compiler ended early ({status}): {sentence}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compiler that is a line of shell: what counts is how its end is understood.
    fn shell(line: &str, change: impl FnOnce(&mut Compiling)) -> Child {
        let mut config = Compiling {
            program: Some(Program {
                path: "/bin/sh".into(),
                arguments: vec!["-c".into(), format!("ulimit -c 0; {line}"), "compiler".into()],
            }),
            ..Compiling::default()
        };
        change(&mut config);
        Child::new(&config, "abc", true)
    }

    async fn compile(line: &str) -> (Result<(), NotCompiled>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("code");
        let file = File::create(&path).unwrap();
        let outcome = shell(line, |_| {}).compile(&Arc::new(b"component".to_vec()), file).await;
        (outcome, std::fs::read_to_string(path).unwrap())
    }

    #[tokio::test]
    async fn a13_it_gets_the_component_and_the_file_and_nothing_else() {
        let (outcome, code) =
            compile("cat; echo; pwd; env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort; echo \"$*\"").await;
        assert_eq!(outcome, Ok(()));
        let lines: Vec<_> = code.lines().collect();
        let environment = ["MIMALLOC_ARENA_RESERVE=0", "RAYON_NUM_THREADS=2"];
        assert_eq!(lines[..4], [["component", "/"], environment].concat(), "{code}");
        assert!(lines[4].ends_with("abc") && lines.len() == 5, "{code}");
    }

    #[tokio::test]
    async fn a13_each_way_to_end_has_its_sentence() {
        let invalid = |text: &str| NotCompiled::Invalid(text.to_owned());
        assert_eq!(compile("echo not a component >&2; exit 65").await.0, Err(invalid("not a component")));
        let demanding = |line: &'static str| async move {
            match compile(line).await.0 {
                Err(NotCompiled::TooDemanding(text)) => text,
                other => panic!("{line}: {other:?}"),
            }
        };
        assert!(demanding("kill -XCPU $$").await.starts_with("more than 10 s of processor time"));
        assert!(demanding("kill -XFSZ $$").await.starts_with("more than 1024 MB for its compiled code"));
        assert!(demanding("kill -SEGV $$").await.contains("crashed on it (signal 11)"));
        for line in [
            "echo memory allocation of 7 bytes failed >&2; kill -ABRT $$",
            "echo 'no (os error 12)' >&2; exit 65",
        ] {
            assert!(demanding(line).await.starts_with("more than 1024 MB of memory"));
        }
        for line in ["kill -KILL $$", "exit 3", "echo 'a\nb' >&2; exit 70"] {
            let (outcome, _) = compile(line).await;
            assert!(
                matches!(&outcome, Err(NotCompiled::Host(text)) if !text.contains('\n')),
                "{line}: {outcome:?}"
            );
        }
        let missing = Compiling {
            program: Some(Program { path: "/no/such/program".into(), arguments: Vec::new() }),
            ..Compiling::default()
        };
        let file = tempfile::tempfile().unwrap();
        let outcome = Child::new(&missing, "abc", true).compile(&Arc::default(), file).await;
        assert!(matches!(outcome, Err(NotCompiled::Host(_))));
    }

    #[tokio::test]
    async fn a13_it_is_killed_when_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let file = File::create(&path).unwrap();
        // `exec`, so that it is this process and no child of it that has to go.
        let child = shell("echo $$; exec sleep 1000", |_| {});
        let component = Arc::default();
        let mut compiling = Box::pin(child.compile(&component, file));
        let pid = loop {
            assert!(futures::poll!(&mut compiling).is_pending());
            let text = std::fs::read_to_string(&path).unwrap();
            if text.ends_with('\n') {
                break text.trim().to_owned();
            }
            tokio::task::yield_now().await;
        };
        drop(compiling);
        let gone = async {
            loop {
                let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                // Gone, or dead and not collected yet.
                if status.is_empty() || status.contains(") Z ") {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(airlock_patience::LIMIT, gone).await.unwrap();
    }

    #[test]
    fn a13_larger_components_have_more_time_and_memory() {
        let config = Compiling::default();
        assert_eq!(config.cpu(0), Duration::from_secs(10));
        assert_eq!(config.cpu(20 << 20), Duration::from_secs(130));
        assert_eq!(config.cpu(u64::MAX), config.cpu(256 << 20));
        assert_eq!(config.memory(0), 1 << 30);
        assert_eq!(config.memory(20 << 20), (1024 + 20 * 96) << 20);
        assert_eq!(config.memory(u64::MAX), 4 << 30);
    }
}
