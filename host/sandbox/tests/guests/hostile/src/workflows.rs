//! Workflows, by name.

use std::{
    cell::Cell,
    collections::HashMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    Plugin,
    airlock::plugin::{
        activity_context, auth, events, log, tools,
        types::{TaskEvent, TaskPhase},
    },
    exports::airlock::plugin::workflows::{
        Activation, CallTool, Command, Guest, GuestInstance, Init, Job, ScheduleActivity, SlotOperation,
        StartTimer,
    },
    recurse,
};

pub const NAMES: [&str; 20] = [
    "one-step",
    "everything",
    "clock-and-random",
    "spin",
    "recurse",
    "grow",
    "sleep",
    "poll-nothing",
    "call-tool",
    "await-auth",
    "emit-event",
    "heartbeat",
    "read-file",
    "connect",
    "flood-commands",
    "not-json",
    "panic-later",
    "env",
    "log",
    "constructor-spins",
];

pub struct Instance {
    init: Init,
    turns: Cell<u32>,
}

impl Guest for Plugin {
    type Instance = Instance;
}

fn quoted(text: impl ToString) -> String {
    format!("{:?}", text.to_string())
}

impl GuestInstance for Instance {
    fn new(init: Init) -> Self {
        if init.workflow == "constructor-spins" {
            loop {
                std::hint::black_box(0);
            }
        }
        Self { init, turns: Cell::new(0) }
    }

    fn activate(&self, activation: Activation) -> Vec<Command> {
        self.turns.set(self.turns.get() + 1);
        let complete = |json: String| vec![Command::Complete(json)];
        match self.init.workflow.as_str() {
            "one-step" => activation.jobs.into_iter().flat_map(|job| self.step(job)).collect(),
            "everything" => everything(),
            "clock-and-random" => {
                use std::hash::{BuildHasher, RandomState};
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
                let still = Instant::now().elapsed().as_nanos();
                let hash = RandomState::new().hash_one(0);
                let order: HashMap<u32, ()> = (0..20).map(|n| (n, ())).collect();
                let order: Vec<_> = order.into_keys().collect();
                let nan = std::hint::black_box(0.0f64) / std::hint::black_box(0.0);
                let bits = nan.to_bits();
                complete(format!("[{now},{still},{hash},{order:?},{bits}]"))
            }
            "spin" => loop {
                std::hint::black_box(0);
            },
            "recurse" => complete(recurse(0).to_string()),
            "grow" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
                }
            }
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_millis(10));
                complete("null".into())
            }
            "poll-nothing" => {
                std::thread::sleep(std::time::Duration::ZERO);
                complete("null".into())
            }
            "call-tool" => {
                tools::call_tool("github", "x", "{}", &crate::activities::as_usual());
                complete("null".into())
            }
            "await-auth" => {
                auth::await_auth("github");
                complete("null".into())
            }
            "emit-event" => {
                let _ = events::emit_event(&an_event());
                complete("null".into())
            }
            "heartbeat" => {
                activity_context::heartbeat(None);
                complete("null".into())
            }
            "read-file" => complete(quoted(std::fs::read_to_string("/etc/passwd").unwrap_err())),
            "connect" => complete(quoted(std::net::TcpStream::connect("127.0.0.1:80").unwrap_err())),
            "flood-commands" => (0..60_000).map(Command::Cancel).collect(),
            "not-json" => complete("{".into()),
            "panic-later" if self.turns.get() < 2 => vec![],
            "panic-later" => panic!("on the second turn"),
            "env" => {
                complete(quoted(format!("{:?}{:?}", std::env::vars().count(), std::env::args().count())))
            }
            "log" => {
                log::log(log::Level::Info, "from a workflow");
                println!("printed by a workflow");
                vec![]
            }
            other => panic!("no workflow {other}"),
        }
    }

    /// Says how many turns it has had, panics, spins, or gives something that is no JSON.
    fn query(&self, name: String, _: String) -> Result<String, crate::airlock::plugin::types::Failure> {
        match name.as_str() {
            "turns" => Ok(self.turns.get().to_string()),
            "panic" => panic!("asked to"),
            "spin" => loop {
                std::hint::black_box(0);
            },
            "no-json" => Ok("{".into()),
            _ => Err(crate::airlock::plugin::types::Failure {
                kind: "NotFound".into(),
                message: format!("no query {name}"),
                non_retryable: true,
                details: None,
            }),
        }
    }
}

impl Instance {
    fn step(&self, job: Job) -> Vec<Command> {
        match job {
            Job::Started => vec![Command::ScheduleActivity(ScheduleActivity {
                seq: 1,
                activity: "noop".into(),
                input: self.init.input.clone(),
                options: crate::activities::no_options(),
            })],
            Job::ActivityResolved(resolution) => match resolution.outcome {
                Ok(value) => vec![Command::Complete(value)],
                Err(failure) => vec![Command::Fail(failure)],
            },
            Job::CancelRequested(reason) => {
                log::log(log::Level::Info, &reason);
                vec![Command::Cancelled]
            }
            _ => vec![],
        }
    }
}

fn an_event() -> TaskEvent {
    TaskEvent {
        id: "1".into(),
        task_type: "progress".into(),
        phase: TaskPhase::Completed,
        payload: "1".into(),
    }
}

fn everything() -> Vec<Command> {
    vec![
        Command::StartTimer(StartTimer { seq: 1, duration_ms: 1500 }),
        Command::CallTool(CallTool {
            seq: 2,
            slot: "github".into(),
            tool: "t".into(),
            arguments: "{\"a\":1}".into(),
            options: crate::activities::as_usual(),
        }),
        Command::ListTools(SlotOperation { seq: 3, slot: "github".into() }),
        Command::AwaitAuth(SlotOperation { seq: 4, slot: "github".into() }),
        Command::Cancel(1),
        Command::EmitEvent(an_event()),
        Command::Cancelled,
    ]
}
