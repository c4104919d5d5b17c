//! The process that compiles: what it is told, and what it does before it looks at a single byte.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    process::ExitCode,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getppid, nice, setrlimit};

use crate::runtime;

/// It ends with this status when the component is not valid, and says why on standard error.
pub(super) const INVALID: i32 = 65;

/// The same for everything that is not the component's fault.
const FAILED: u8 = 70;

/// How much less urgent it is than the daemon, from 0 to 19.
const BEHIND_OTHERS: i32 = 15;

/// How often it looks whether its parent is still there.
const LOOK: Duration = Duration::from_millis(500);

/// What it is told, as words of its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) memory_bytes: u64,
    pub(super) code_bytes: u64,
    pub(super) cpu_seconds: u64,
    /// Whether the code is for a pool of instances.
    pub(super) pooled: bool,
    pub(super) parent: u32,
    /// What the engine has to call itself.
    pub(super) compatibility: String,
}

impl Order {
    pub(super) fn words(&self) -> [String; 6] {
        let Self { memory_bytes, code_bytes, cpu_seconds, pooled, parent, compatibility } = self.clone();
        [
            memory_bytes.to_string(),
            code_bytes.to_string(),
            cpu_seconds.to_string(),
            pooled.to_string(),
            parent.to_string(),
            compatibility,
        ]
    }

    fn parse(words: &[String]) -> Option<Self> {
        let [memory_bytes, code_bytes, cpu_seconds, pooled, parent, compatibility] = words else {
            return None;
        };
        Some(Self {
            memory_bytes: memory_bytes.parse().ok()?,
            code_bytes: code_bytes.parse().ok()?,
            cpu_seconds: cpu_seconds.parse().ok()?,
            pooled: pooled.parse().ok()?,
            parent: parent.parse().ok()?,
            compatibility: compatibility.clone(),
        })
    }
}

/// The whole of the process that compiles a component, from standard input to standard output. `words` are those that
/// [`crate::Compiling`] put behind the arguments of its program.
pub fn compile_component(words: &[String]) -> ExitCode {
    let Some(order) = Order::parse(words) else {
        return failed("this is a part of the daemon: it is not for people to run");
    };
    if let Err(error) = withdraw(&order) {
        return failed(&format!("the limits of the compiler cannot be set: {error}"));
    }
    let engine = match runtime::compiling_engine(order.pooled) {
        Ok(engine) => engine,
        Err(error) => return failed(&format!("there is no compiler: {error:#}")),
    };
    if runtime::compatibility(&engine) != order.compatibility {
        return failed(
            "the compiler is not of the daemon's version: was its file replaced? Start the daemon again",
        );
    }
    let mut component = Vec::new();
    if let Err(error) = io::stdin().lock().read_to_end(&mut component) {
        return failed(&format!("the component cannot be read: {error}"));
    }
    let code = match engine.precompile_component(&component) {
        Ok(code) => code,
        Err(error) => {
            // Both parts: that the system gave no memory may stand anywhere.
            eprintln!("{}", error.root_cause());
            return ExitCode::from(INVALID as u8);
        }
    };
    // Not through the buffer of standard output, which looks for lines.
    let written = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|descriptor| File::from(descriptor).write_all(&code));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format!("the code cannot be written: {error}")),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(FAILED)
}

/// Gives up what a compiler does not need, and makes sure that it ends.
fn withdraw(order: &Order) -> io::Result<()> {
    let limit = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    limit(Resource::Core, 0)?;
    limit(Resource::As, order.memory_bytes)?;
    limit(Resource::Fsize, order.code_bytes)?;
    // A signal that says what it is about comes first, one that cannot be missed a second later.
    let (current, maximum) = (Some(order.cpu_seconds), Some(order.cpu_seconds + 1));
    setrlimit(Resource::Cpu, Rlimit { current, maximum })?;
    // Whoever calls the daemon comes first: what is compiled takes what is left of the processor.
    let _ = nice(BEHIND_OTHERS);
    // When memory runs out for all, this is what the system ends first. Where that cannot be said, the limits hold all the same.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let parent = order.parent;
    let is_orphan = move || getppid().is_none_or(|now| now.as_raw_nonzero().get() as u32 != parent);
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        while !is_orphan() {
            std::thread::sleep(LOOK);
        }
        std::process::exit(i32::from(FAILED));
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_understood_as_it_was_meant() {
        let order = Order {
            memory_bytes: 1,
            code_bytes: 2,
            cpu_seconds: 3,
            pooled: true,
            parent: 4,
            compatibility: "0123abcd".to_owned(),
        };
        assert_eq!(Order::parse(&order.words()), Some(order));
        for words in [&[][..], &["1".to_owned(), "x".to_owned()]] {
            assert_eq!(Order::parse(words), None);
        }
    }
}
