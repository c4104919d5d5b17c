//! What the operator can set.

use std::{path::PathBuf, time::Duration};

/// Where plugins and code are kept, and what guests may use. [`SandboxConfig::new`] gives defaults that work.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The folder with `NAME.wasm` and `NAME.toml`. Made if it is not there.
    pub plugin_dir: PathBuf,
    /// The daemon's data folder; `components` and `compiled` are made in it, for the owner alone.
    pub data_dir: PathBuf,
    /// How many guests there can be at once.
    pub pool: PoolSize,
    /// What one guest may use.
    pub limits: Limits,
    /// What all guests may use together, in bytes of linear memory and tables. None: half of what the machine has, or the
    /// control group of this process.
    pub guest_memory_bytes: Option<u64>,
    /// How components are compiled.
    pub compiling: Compiling,
    /// How often the folder is looked through even when no change was reported; covers file systems that report none.
    pub rescan_interval: Duration,
    /// How long size and time of a file must stand still before it is taken up.
    pub settle_time: Duration,
    /// Code that stopped serving is kept at least this long, whatever `retain` says: an execution may just be starting.
    pub retain_grace: Duration,
}

impl SandboxConfig {
    /// The defaults for these two folders.
    pub fn new(plugin_dir: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            plugin_dir: plugin_dir.into(),
            data_dir: data_dir.into(),
            pool: PoolSize::default(),
            limits: Limits::default(),
            guest_memory_bytes: None,
            compiling: Compiling::default(),
            rescan_interval: Duration::from_secs(2),
            settle_time: Duration::from_millis(150),
            retain_grace: Duration::from_secs(60),
        }
    }
}

/// How many guests there can be at once. Address space is reserved for all of them; memory is used by those that live.
#[derive(Debug, Clone)]
pub struct PoolSize {
    /// Workflow instances, waiting ones included. One more is refused.
    pub workflow_instances: u32,
    /// Activities that run at the same time. One more waits for its turn.
    pub running_activities: u32,
    /// Bytes that each unused slot of the pool keeps, so that the next guest starts without page faults.
    pub keep_resident_bytes: usize,
    /// Unused slots that keep their bytes; the daemon's idle memory is about this times `keep_resident_bytes`.
    pub warm_slots: u32,
}

impl Default for PoolSize {
    fn default() -> Self {
        Self {
            workflow_instances: 1000,
            running_activities: 500,
            keep_resident_bytes: 256 << 10,
            warm_slots: 64,
        }
    }
}

/// How components are compiled, and what compiling one may use.
#[derive(Debug, Clone)]
pub struct Compiling {
    /// The program that compiles in a process of its own. None: in this process, where none of the limits below hold.
    pub program: Option<Program>,
    /// Address space of the process, whatever the component's size.
    pub memory_base: u64,
    /// The same for each megabyte of the component; together at most 4 GiB.
    pub memory_per_mb: u64,
    /// Size of the compiled code.
    pub code_bytes: u64,
    /// Processor time of the process, whatever the component's size.
    pub cpu_base: Duration,
    /// The same for each megabyte of the component, up to 256 of them.
    pub cpu_per_mb: Duration,
    /// Threads of the process.
    pub threads: usize,
    /// Processes that compile at once, in each of two lanes: the quick one, and the slow one.
    pub at_once: usize,
    /// After so long a process belongs to the slow lane, and is stopped and begins again there when that is full.
    pub patience: Duration,
}

/// A program that calls [`crate::compile_component`] with the words that follow `arguments`.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// What comes first on its command line.
    pub arguments: Vec<String>,
}

impl Default for Compiling {
    fn default() -> Self {
        Self {
            program: None,
            memory_base: 1 << 30,
            memory_per_mb: 96 << 20,
            code_bytes: 1 << 30,
            cpu_base: Duration::from_secs(10),
            cpu_per_mb: Duration::from_secs(6),
            threads: 2,
            at_once: 2,
            patience: Duration::from_secs(5),
        }
    }
}

impl Compiling {
    /// The address space for a component of this size.
    pub(crate) fn memory(&self, bytes: u64) -> u64 {
        self.memory_base.saturating_add(self.memory_per_mb.saturating_mul(bytes >> 20)).min(4 << 30)
    }

    /// The processor time for a component of this size.
    pub(crate) fn cpu(&self, bytes: u64) -> Duration {
        let megabytes = (bytes >> 20).min(256) as u32;
        self.cpu_base.saturating_add(self.cpu_per_mb.saturating_mul(megabytes))
    }
}

/// The limits, to be told apart from others.
impl std::fmt::Display for Compiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { memory_base, memory_per_mb, code_bytes, cpu_base, cpu_per_mb, .. } = self;
        write!(
            f,
            "{memory_base} {memory_per_mb} {code_bytes} {} {}",
            cpu_base.as_millis(),
            cpu_per_mb.as_millis()
        )
    }
}

/// What one guest may use. A policy file can change memory and processor time for its plugin.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory_bytes: usize,
    /// The most that a policy file can give, in bytes. At most 4 GiB.
    pub memory_ceiling_bytes: usize,
    /// Elements of one table.
    pub table_elements: usize,
    /// Core instances that one component may consist of.
    pub core_instances: u32,
    /// Resource handles that one instance holds at once.
    pub handles: usize,
    /// Calls to the host that one activity has under way at once.
    pub open_calls: usize,
    /// Processor time of one attempt of an activity.
    pub activity_cpu: Duration,
    /// Processor time of one activation of a workflow, and of `describe`.
    pub activation_cpu: Duration,
    /// Bytes that a guest hands to the host in one call.
    pub payload_bytes: usize,
    /// Bytes of one task event's payload.
    pub event_bytes: usize,
    /// Commands that one activation returns.
    pub commands: usize,
    /// Task events that one attempt of an activity emits in a second; bursts of five times that pass.
    pub events_per_second: u32,
    /// Log lines that one instance writes in a second; bursts of five times that pass.
    pub log_lines_per_second: u32,
    /// Bytes of one log line.
    pub log_line_bytes: usize,
    /// Size of a component's file in bytes.
    pub component_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            memory_ceiling_bytes: 2 << 30,
            table_elements: 100_000,
            core_instances: 200,
            handles: 2000,
            open_calls: 200,
            activity_cpu: Duration::from_secs(30),
            activation_cpu: Duration::from_secs(1),
            payload_bytes: 32 << 20,
            event_bytes: 256 << 10,
            commands: 50_000,
            events_per_second: 100,
            log_lines_per_second: 200,
            log_line_bytes: 8 << 10,
            component_bytes: 256 << 20,
        }
    }
}
