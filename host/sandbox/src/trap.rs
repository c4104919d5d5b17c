//! A trap in words: what the guest said last, which limit it hit. Never a path of the host.

use airlock_engine::printable::printable;
use wasmtime_wasi::I32Exit;

use crate::limits::{meter::OutOfTime, space::Refused};

/// The host will not do this for the guest; the sentence says what to do instead.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) &'static str);

/// What is known about a guest that went wrong.
pub(crate) struct Circumstances<'a> {
    /// `activity "x"` or `workflow "y"`.
    pub(crate) who: &'a str,
    /// The end of its standard error.
    pub(crate) stderr: &'a str,
    /// A limit that it ran into before.
    pub(crate) refused: Option<Refused>,
    /// Bytes that it may hand over in one call.
    pub(crate) payload_bytes: usize,
    /// What to do when its processor time is used up.
    pub(crate) out_of_time: &'static str,
}

/// The time of an attempt can be raised.
pub(crate) const ACTIVITY_OUT_OF_TIME: &str =
    "split the work into smaller steps, or raise `limits.activity_cpu_ms` in the plugin's policy file";

/// The time of a turn cannot.
pub(crate) const WORKFLOW_OUT_OF_TIME: &str = "no setting raises this limit of a turn: a loop that does not end has to \
     wait for something (a timer, a signal, an activity), and long work belongs into an activity";

/// The sentence for a person: who, why, and which limit.
pub(crate) fn explain(error: &wasmtime::Error, circumstances: &Circumstances<'_>) -> String {
    let Circumstances { who, stderr, refused, payload_bytes, out_of_time } = circumstances;
    let panic = panic_message(stderr);
    let cause = if let Some(refusal) = error.downcast_ref::<Refusal>() {
        refusal.to_string()
    } else if let Some(time) = error.downcast_ref::<OutOfTime>() {
        format!("{time}; {out_of_time}")
    } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
        format!("it called exit({}); return a result instead", exit.0)
    } else if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
        describe(*trap, panic.as_deref())
    } else {
        let root = error.root_cause().to_string();
        if root.contains("fuel allocated for hostcalls")
            || root.contains("hostcall") && root.contains("exhausted")
        {
            format!("it handed more than {} MB to the host in one call", payload_bytes >> 20)
        } else if root.contains("resource table has no free keys") {
            "it holds too many handles at once; drop those that are not needed any more".to_owned()
        } else {
            root
        }
    };
    let mut text = format!("{who} trapped: {cause}");
    if let Some(refused) = refused {
        text.push_str(&format!("; {refused}"));
        if let Refused::Memory(_) = refused {
            text.push_str(" (`limits.memory_mb` in the plugin's policy file raises it)");
        }
    }
    printable(&text).into_owned()
}

fn describe(trap: wasmtime::Trap, panic: Option<&str>) -> String {
    use wasmtime::Trap;
    match trap {
        Trap::StackOverflow => "its stack is full: a recursion is too deep".to_owned(),
        // Rust guests keep their stack at the low end of memory: what grows beyond it leaves the memory.
        Trap::MemoryOutOfBounds => {
            "it left its memory: its stack is full because a recursion is too deep, or a pointer is wrong"
                .to_owned()
        }
        Trap::UnreachableCodeReached => match panic {
            Some(message) => message.to_owned(),
            None => "it aborted without a message".to_owned(),
        },
        other => {
            let text = other.to_string();
            let text = text.strip_prefix("wasm trap: ").unwrap_or(&text);
            match panic {
                Some(message) => format!("{text}; {message}"),
                None => text.to_owned(),
            }
        }
    }
}

/// The last panic (or failed allocation) that Rust's standard library reported on standard error, in one line; else its last line.
fn panic_message(stderr: &str) -> Option<String> {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with("note: "))
        .collect();
    if let Some(at) = lines.iter().rposition(|line| line.contains("panicked at ")) {
        let place = lines[at].split_once("panicked at ").map_or("", |(_, place)| place.trim_end_matches(':'));
        return Some(format!("it panicked at {place}: {}", lines[at + 1..].join(" ")));
    }
    lines.last().map(|line| format!("its last words: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_in_one_line() {
        let stderr = "starting\n\nthread '<unnamed>' (1) panicked at src/lib.rs:3:5:\nno such\nissue\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(panic_message(stderr).as_deref(), Some("it panicked at src/lib.rs:3:5: no such issue"));
    }

    #[test]
    fn without_a_panic_the_last_line_is_told() {
        let stderr = "memory allocation of 1 bytes failed\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(
            panic_message(stderr).as_deref(),
            Some("its last words: memory allocation of 1 bytes failed")
        );
        assert_eq!(panic_message(""), None);
    }
}
