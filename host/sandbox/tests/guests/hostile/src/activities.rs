//! Activities, by name.

use crate::{
    Plugin,
    airlock::plugin::{
        activity_context, auth, events, log, tools,
        types::{ActivityOptions, CallOptions, Failure, TaskEvent, TaskPhase},
    },
    exports::airlock::plugin::activities::{Call, Guest},
    recurse,
};

pub const NAMES: [&str; 28] = [
    "noop",
    "echo",
    "fail",
    "panic",
    "exit",
    "spin",
    "recurse",
    "grow",
    "huge-result",
    "not-json",
    "flood-events",
    "big-event",
    "flood-log",
    "handles",
    "env",
    "files",
    "write-file",
    "connect",
    "print",
    "wait-cancel",
    "tool",
    "tool-options",
    "absurd-options",
    "tools-at-once",
    "auth",
    "sleep",
    "random",
    "count",
];

pub fn no_options() -> ActivityOptions {
    ActivityOptions {
        schedule_to_start_ms: None,
        start_to_close_ms: None,
        schedule_to_close_ms: None,
        heartbeat_ms: None,
        retry: None,
    }
}

pub fn as_usual() -> CallOptions {
    CallOptions { timeout_ms: None, retries: None, credentials_name: None, use_mock: None }
}

fn failure(kind: &str, message: impl ToString) -> Failure {
    Failure { kind: kind.into(), message: message.to_string(), non_retryable: false, details: None }
}

fn event(payload: String) -> TaskEvent {
    TaskEvent { id: "1".into(), task_type: "progress".into(), phase: TaskPhase::InProgress, payload }
}

fn text(text: impl AsRef<str>) -> String {
    format!("{:?}", text.as_ref())
}

fn answer(pending: &tools::Pending) -> Result<String, Failure> {
    pending.subscribe().block();
    let answer = pending.get().expect("it is ready");
    assert!(pending.get().is_none(), "an answer is given once");
    answer
}

static mut COUNTER: u32 = 0;

impl Guest for Plugin {
    fn run(call: Call) -> Result<String, Failure> {
        match call.activity.as_str() {
            "noop" => Ok("null".into()),
            "echo" => Ok(call.input),
            "fail" => Err(Failure {
                kind: "Broken".into(),
                message: "x".repeat(20_000),
                non_retryable: true,
                details: Some("{\"a\":1}".into()),
            }),
            "panic" => panic!("no such issue: {}", call.input),
            "exit" => std::process::exit(3),
            "spin" => loop {
                std::hint::black_box(0);
            },
            "recurse" => Ok(recurse(0).to_string()),
            "grow" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
                }
            }
            "huge-result" => Ok(text("x".repeat(40 << 20))),
            "not-json" => Ok("{nothing".into()),
            "flood-events" => {
                let sent = (0..10_000).take_while(|_| events::emit_event(&event("1".into())).is_ok()).count();
                match events::emit_event(&event("1".into())) {
                    Ok(()) => Ok(sent.to_string()),
                    Err(failure) => Err(failure),
                }
            }
            "big-event" => events::emit_event(&event(text("x".repeat(300 << 10)))).map(|()| "null".into()),
            "flood-log" => {
                for line in 0..100_000 {
                    log::log(log::Level::Info, &format!("line {line}"));
                }
                log::log(log::Level::Info, &"x".repeat(1 << 20));
                Ok("null".into())
            }
            "handles" => {
                let handles: Vec<_> = (0..1_000_000).map(|_| tools::list_tools("github")).collect();
                Ok(handles.len().to_string())
            }
            "env" => Ok(format!(
                "{:?}",
                std::env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
            )),
            "files" => {
                let path = call.input.trim_matches('"');
                match std::fs::read_to_string(path) {
                    Ok(contents) => Ok(text(contents)),
                    Err(error) => Err(failure("Io", error)),
                }
            }
            "write-file" => {
                let path = call.input.trim_matches('"');
                std::fs::write(path, "written").map(|()| "null".into()).map_err(|error| failure("Io", error))
            }
            "connect" => match std::net::TcpStream::connect("127.0.0.1:80") {
                Ok(_) => Ok("\"connected\"".into()),
                Err(error) => Err(failure("Io", error)),
            },
            "print" => {
                println!("to standard output");
                eprint!("to standard error, without an end");
                Ok("null".into())
            }
            "wait-cancel" => {
                activity_context::heartbeat(None);
                assert!(!activity_context::is_cancelled());
                activity_context::cancelled().block();
                assert!(activity_context::is_cancelled());
                Err(failure("Cancelled", "as asked"))
            }
            "tool" => answer(&tools::call_tool("github", "issue_write", &call.input, &as_usual())),
            "tool-options" => {
                let options = CallOptions {
                    timeout_ms: Some(1500),
                    retries: Some(2),
                    credentials_name: Some("work".into()),
                    use_mock: Some(true),
                };
                answer(&tools::call_tool("github", "t", "{}", &options))
            }
            "absurd-options" => {
                let absurd = [
                    CallOptions { timeout_ms: Some(0), ..as_usual() },
                    CallOptions { timeout_ms: Some(u64::MAX), ..as_usual() },
                    CallOptions { retries: Some(u32::MAX), ..as_usual() },
                    CallOptions { credentials_name: Some(" ".into()), ..as_usual() },
                    CallOptions { credentials_name: Some("x".repeat(1 << 20)), ..as_usual() },
                ];
                let refused = absurd.iter().map(|options| {
                    let failure = answer(&tools::call_tool("github", "t", "{}", options)).unwrap_err();
                    format!("{:?}", format!("{}: {}", failure.kind, failure.message))
                });
                Ok(format!("[{}]", refused.collect::<Vec<_>>().join(",")))
            }
            "tools-at-once" => {
                let calls: Vec<_> = (0..10)
                    .map(|n| tools::call_tool("github", "n", &format!("{{\"n\":{n}}}"), &as_usual()))
                    .collect();
                let answers: Result<Vec<_>, _> = calls.iter().map(answer).collect();
                Ok(format!("[{}]", answers?.join(",")))
            }
            "auth" => answer(&auth::await_auth("github")),
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_millis(50));
                Ok("null".into())
            }
            "random" => {
                use std::hash::{BuildHasher, RandomState};
                Ok(RandomState::new().hash_one(0).to_string())
            }
            "count" => {
                // SAFETY: there is one thread.
                let count = unsafe {
                    COUNTER += 1;
                    COUNTER
                };
                Ok(count.to_string())
            }
            other => Err(failure("UnknownActivity", other)),
        }
    }
}
