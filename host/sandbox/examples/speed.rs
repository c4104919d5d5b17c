//! Measures what the sandbox itself costs: `cargo run --release -p airlock-sandbox --example speed -- PLUGIN.wasm ACTIVITY WORKFLOW`.
//!
//! The activity takes `null` and does nothing; the workflow takes `null` and, when it starts, schedules an activity.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::{
    Failure, Json, RunId,
    guests::{Activation, ActivityCall, ActivityHost, Guests, WorkflowInit},
    history::{Command, HistorySize, Job, TaskEvent},
    tools::CallOptions,
};
use airlock_sandbox::{Sandbox, SandboxConfig};

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(2);

struct Nobody;

#[async_trait::async_trait]
impl ActivityHost for Nobody {
    async fn call_tool(&self, _: &str, _: &str, _: Json, _: CallOptions) -> Result<Json, Failure> {
        Ok(Json::null())
    }
    async fn list_tools(&self, _: &str) -> Result<Json, Failure> {
        Ok(Json::null())
    }
    async fn await_auth(&self, _: &str) -> Result<Json, Failure> {
        Ok(Json::null())
    }
    fn emit_event(&self, _: TaskEvent) -> Result<(), Failure> {
        Ok(())
    }
    fn heartbeat(&self, _: Option<Json>) {}
    fn is_cancelled(&self) -> bool {
        false
    }
    async fn cancelled(&self) {
        std::future::pending().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(plugin), Some(activity), Some(workflow)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: speed PLUGIN.wasm ACTIVITY WORKFLOW".into());
    };
    let folder = tempfile::tempdir()?;
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins)?;
    std::fs::copy(plugin, plugins.join("plugin.wasm"))?;
    let opening = Instant::now();
    let sandbox = Sandbox::open(SandboxConfig::new(&plugins, folder.path().join("data"))).await?;
    sandbox.settled(Duration::MAX).await;
    println!("open_cold_ms           {:>9.1}", opening.elapsed().as_secs_f64() * 1e3);
    let Some(digest) = sandbox.serving(&workflow) else {
        return Err(format!("no such workflow: {:?}", sandbox.plugins()).into());
    };
    drop(sandbox);
    let opening = Instant::now();
    let sandbox = Sandbox::open(SandboxConfig::new(&plugins, folder.path().join("data"))).await?;
    sandbox.settled(Duration::MAX).await;
    println!("open_warm_ms           {:>9.1}", opening.elapsed().as_secs_f64() * 1e3);

    let host: Arc<dyn ActivityHost> = Arc::new(Nobody);
    let call = ActivityCall {
        activity,
        input: Json::null(),
        holder: "user".into(),
        execution_id: "execution".parse()?,
        workflow: workflow.clone(),
        idempotency_key: "key".into(),
        attempt: 1,
        heartbeat_details: None,
    };
    let (mut calls, start) = (0u32, Instant::now());
    while start.elapsed() < SPAN {
        sandbox.run_activity(&digest, call.clone(), host.clone()).await?;
        calls += 1;
    }
    println!("activity_call_us       {:>9.2}", per(start, calls));

    let init = || -> Result<WorkflowInit, airlock_engine::ids::InvalidId> {
        Ok(WorkflowInit {
            workflow: workflow.clone(),
            execution_id: "execution".parse()?,
            run_id: RunId::generate(),
            input: Json::null(),
            holder: "user".into(),
            seed: 1,
            started_at_ms: 1,
            parent: None,
            attempt: 1,
        })
    };
    let started = [Job::Started];
    let first = turn(&started);
    let (mut runs, start) = (0u32, Instant::now());
    while start.elapsed() < SPAN {
        sandbox.create(&digest, init()?).await?.activate(first).await?;
        runs += 1;
    }
    println!("create_and_activate_us {:>9.2}", per(start, runs));

    let mut instance = sandbox.create(&digest, init()?).await?;
    let mut commands = instance.activate(first).await?;
    let (mut turns, start) = (0u32, Instant::now());
    while start.elapsed() < SPAN {
        let jobs: Vec<Job> = match commands.last() {
            Some(Command::ScheduleActivity { seq, .. }) => {
                vec![Job::ActivityResolved { seq: *seq, outcome: Ok(Json::null()) }]
            }
            // It has ended, and what comes now is an idle turn.
            _ => vec![Job::TimerFired { seq: u32::MAX }],
        };
        commands = instance.activate(turn(&jobs)).await?;
        turns += 1;
    }
    println!("activation_us          {:>9.2}", per(start, turns));

    let mut instances = Vec::new();
    let before = resident_kb()?;
    for _ in 0..500 {
        let mut instance = sandbox.create(&digest, init()?).await?;
        instance.activate(first).await?;
        instances.push(instance);
    }
    println!("idle_instance_kb       {:>9.1}", (resident_kb()? - before) / 500.0);
    println!("rss_mb                 {:>9.1}", resident_kb()? / 1024.0);
    Ok(())
}

fn per(start: Instant, times: u32) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(times)
}

fn resident_kb() -> Result<f64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}

fn turn(jobs: &[Job]) -> Activation<'_> {
    Activation { now_ms: 1, replaying: false, jobs, patches: &[], history: HistorySize::default() }
}
