//! The engine of wasmtime with its settings, and the two sets of imports.

use std::{hash::Hash, sync::Arc};

use airlock_engine::guests::GuestError;
use sha2::{Digest as _, Sha256};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolConcurrencyLimitError,
    PoolingAllocationConfig,
    component::{HasSelf, Linker},
};

use crate::{
    activity::state::ActivityState,
    bindings::airlock::plugin::{activity_context, auth, events, log, tools, types},
    config::{Limits, PoolSize},
    error::SandboxError,
    limits::{
        budget::{Budget, NoRoom},
        ticker::Ticker,
    },
    workflow::{self, state::WorkflowState},
};

/// The stack of a guest. Python's interpreter wants more than wasmtime's default of 512 KiB.
const WASM_STACK: usize = 1 << 20;

/// The stack of a guest and the host functions above it.
const ASYNC_STACK: usize = 2 << 20;

/// Address space for each linear memory: with all that 32 bits can address reserved, no bounds are checked.
const MEMORY_RESERVATION: u64 = 4 << 30;

/// The same where address space is scarce; bounds are checked then.
const SMALL_RESERVATION: u64 = 16 << 20;

/// Linear memories that one component may have. Common tools make one.
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 2;

/// Tables that one component may have. Rust's tools make two or three.
pub(crate) const TABLES_PER_COMPONENT: u32 = 8;

/// Slots for tables, for each instance of the pool: the usual number and some more.
const TABLES_PER_INSTANCE: u32 = 4;

/// Slots beside those for workflows and activities: for `describe` while plugins are loaded.
const SPARE_INSTANCES: u32 = 16;

/// Everything that guests share.
pub(crate) struct Runtime {
    engine: Engine,
    ticker: Ticker,
    limits: Arc<Limits>,
    budget: Arc<Budget>,
    instances: u32,
    pooled: bool,
    activities: Linker<ActivityState>,
    workflows: Linker<WorkflowState>,
    compatibility: String,
}

impl Runtime {
    /// Starts an engine with a pool of this size; without a pool when there is no address space for it.
    ///
    /// The guests hold at most `guest_memory_bytes` together.
    pub(crate) fn new(
        pool: &PoolSize,
        limits: &Limits,
        guest_memory_bytes: u64,
    ) -> Result<Self, SandboxError> {
        let failed = |error: wasmtime::Error| SandboxError::Engine(format!("{error:#}"));
        let instances =
            pool.workflow_instances.saturating_add(pool.running_activities).saturating_add(SPARE_INSTANCES);
        let pooled = pooling(pool, limits, instances).and_then(|pooling| {
            let mut config = settings();
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
            Engine::new(&config)
        });
        let (engine, pooled) = match pooled {
            Ok(engine) => (engine, true),
            Err(error) => {
                tracing::warn!(
                    error = %error.root_cause(),
                    "no pool of {instances} instances can be reserved; guests start more slowly. \
                     Allow the process more address space (ulimit -v) or configure a smaller pool",
                );
                (compiling_engine(false).map_err(failed)?, false)
            }
        };
        let ticker = Ticker::start(&engine)
            .map_err(|error| SandboxError::Engine(format!("no thread for the epoch: {error}")))?;
        let mut activities = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut activities).map_err(failed)?;
        link_plugin_imports(&mut activities).map_err(failed)?;
        let mut workflows = Linker::new(&engine);
        workflow::link(&mut workflows).map_err(failed)?;
        Ok(Self {
            compatibility: compatibility(&engine),
            engine,
            ticker,
            limits: Arc::new(limits.clone()),
            budget: Budget::new(guest_memory_bytes),
            instances,
            pooled,
            activities,
            workflows,
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    pub(crate) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// The memory of all guests.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The imports of activities.
    pub(crate) fn activities(&self) -> &Linker<ActivityState> {
        &self.activities
    }

    /// The imports of workflows and of `describe`.
    pub(crate) fn workflows(&self) -> &Linker<WorkflowState> {
        &self.workflows
    }

    /// Names the version, settings and processor that compiled code is for.
    pub(crate) fn compatibility(&self) -> &str {
        &self.compatibility
    }

    /// Whether instances come from a pool.
    pub(crate) fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// The error for the engine when the host, and not the guest, is why an instance could not be made.
    pub(crate) fn host_fault(&self, error: &wasmtime::Error) -> Option<GuestError> {
        if let Some(no_room) = error.downcast_ref::<NoRoom>() {
            return Some(GuestError::Host(no_room.to_string()));
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Some(GuestError::Host(format!(
                "all {} guest instances are in use: try again later, or configure a larger pool",
                self.instances
            )));
        }
        // A failed mmap comes as a type of a crate below wasmtime, so its text is all there is to know it by.
        let root = error.root_cause().to_string();
        let from_system = error.is::<std::io::Error>() || root.contains("(os error ");
        from_system.then(|| {
            GuestError::Host(format!("the host cannot run another guest now: {root}; try again later"))
        })
    }
}

/// Gives a guest the interfaces of `wit/`. `wasi:io/poll` is not among them: it comes with WASI.
pub(crate) fn link_plugin_imports<T>(linker: &mut Linker<T>) -> wasmtime::Result<()>
where
    T: types::Host
        + tools::Host
        + auth::Host
        + events::Host
        + log::Host
        + activity_context::Host
        + Send
        + 'static,
{
    types::add_to_linker::<T, HasSelf<T>>(linker, |state| state)?;
    tools::add_to_linker::<T, HasSelf<T>>(linker, |state| state)?;
    auth::add_to_linker::<T, HasSelf<T>>(linker, |state| state)?;
    events::add_to_linker::<T, HasSelf<T>>(linker, |state| state)?;
    log::add_to_linker::<T, HasSelf<T>>(linker, |state| state)?;
    activity_context::add_to_linker::<T, HasSelf<T>>(linker, |state| state)
}

/// What every engine has, pooled or not. Whatever could make two runs differ is off.
fn settings() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .shared_memory(false)
        .wasm_relaxed_simd(false)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(ASYNC_STACK)
        .memory_init_cow(true)
        .memory_reservation(MEMORY_RESERVATION)
        .debug_symbols(false)
        .wasm_backtrace_max_frames(None)
        .native_unwind_info(false);
    config
}

/// An engine without a pool, whose code is for one that has a pool or has none.
pub(crate) fn compiling_engine(pooled: bool) -> wasmtime::Result<Engine> {
    let mut config = settings();
    if !pooled {
        config.memory_reservation(SMALL_RESERVATION).memory_reservation_for_growth(SMALL_RESERVATION);
    }
    Engine::new(&config)
}

fn pooling(pool: &PoolSize, limits: &Limits, instances: u32) -> wasmtime::Result<PoolingAllocationConfig> {
    if limits.memory_ceiling_bytes as u64 > MEMORY_RESERVATION {
        wasmtime::bail!("a guest's memory can be at most {} MB", MEMORY_RESERVATION >> 20);
    }
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(limits.core_instances))
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(instances.saturating_mul(TABLES_PER_INSTANCE))
        .total_stacks(instances)
        .max_core_instances_per_component(limits.core_instances)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_component_instance_size(4 << 20)
        .max_memory_size(limits.memory_ceiling_bytes)
        .table_elements(limits.table_elements)
        .linear_memory_keep_resident(pool.keep_resident_bytes)
        .table_keep_resident(32 << 10)
        .max_unused_warm_slots(pool.warm_slots)
        .pagemap_scan(Enabled::Auto);
    Ok(pooling)
}

/// Names the version, settings and processor of an engine.
pub(crate) fn compatibility(engine: &Engine) -> String {
    struct Sha(Sha256);
    impl std::hash::Hasher for Sha {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut sha = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sha);
    hex::encode(&sha.0.finalize()[..8])
}
