//! WASI 0.2 for workflows: the clock is the turn's time, random comes from the seed, output becomes log lines, and there
//! are no arguments, no environment, no files and no sockets.

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::{
    WasiView,
    cli::{WasiCli, WasiCliView as _},
    filesystem::{WasiFilesystem, WasiFilesystemView as _},
    p2::bindings::{
        cli,
        clocks::{monotonic_clock, wall_clock},
        filesystem,
        random::{insecure, insecure_seed, random},
        sockets,
        sync::io as sync_io,
    },
    sockets::{WasiSockets, WasiSocketsView as _},
};
use wasmtime_wasi_io::{
    bindings::wasi::io::error,
    poll::{DynPollable, Pollable, subscribe},
};

use super::state::WorkflowState;

const NANOSECONDS_PER_MS: u64 = 1_000_000;

/// Gives a workflow everything that the standard libraries of common languages import.
pub(crate) fn link(linker: &mut Linker<WorkflowState>) -> wasmtime::Result<()> {
    type T = WorkflowState;
    type Own = HasSelf<T>;
    wall_clock::add_to_linker::<T, Own>(linker, |state| state)?;
    monotonic_clock::add_to_linker::<T, Own>(linker, |state| state)?;
    random::add_to_linker::<T, Own>(linker, |state| state)?;
    insecure::add_to_linker::<T, Own>(linker, |state| state)?;
    insecure_seed::add_to_linker::<T, Own>(linker, |state| state)?;
    sync_io::poll::add_to_linker::<T, Own>(linker, |state| state)?;
    sync_io::streams::add_to_linker::<T, Own>(linker, |state| state)?;
    error::add_to_linker::<T, HasSelf<wasmtime::component::ResourceTable>>(linker, |state| {
        state.ctx().table
    })?;

    cli::exit::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::environment::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;

    // No folder is ever opened, so nothing behind these can be reached.
    filesystem::preopens::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    filesystem::types::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;

    // TCP, UDP and name lookup are off: each of these answers "access denied".
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<T, WasiSockets>(linker, &options, T::sockets)?;
    sockets::instance_network::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::tcp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::udp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    Ok(())
}

impl wall_clock::Host for WorkflowState {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime {
            seconds: self.now_ms / 1000,
            nanoseconds: (self.now_ms % 1000 * NANOSECONDS_PER_MS) as u32,
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: NANOSECONDS_PER_MS as u32 })
    }
}

/// A moment of the monotonic clock. It stands still during a turn, so the moment has passed or never comes.
struct Moment {
    passed: bool,
}

#[async_trait::async_trait]
impl Pollable for Moment {
    async fn ready(&mut self) {
        if !self.passed {
            std::future::pending::<()>().await;
        }
    }
}

impl WorkflowState {
    fn moment(&mut self, passed: bool) -> wasmtime::Result<Resource<DynPollable>> {
        let moment = self.table.push(Moment { passed })?;
        subscribe(&mut self.table, moment)
    }
}

impl monotonic_clock::Host for WorkflowState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.now_ms.saturating_sub(self.started_at_ms).saturating_mul(NANOSECONDS_PER_MS))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(NANOSECONDS_PER_MS)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = monotonic_clock::Host::now(self)?;
        self.moment(when <= now)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.moment(duration == 0)
    }
}

impl WorkflowState {
    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        match usize::try_from(len) {
            Ok(len) if len <= self.payload_bytes => Ok(self.random.bytes(len)),
            _ => wasmtime::bail!(
                "{len} random bytes are too many at once; the limit is {}",
                self.payload_bytes
            ),
        }
    }
}

impl random::Host for WorkflowState {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random.next())
    }
}

impl insecure::Host for WorkflowState {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random.next())
    }
}

impl insecure_seed::Host for WorkflowState {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random.next(), self.random.next()))
    }
}
