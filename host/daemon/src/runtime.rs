//! The threads that a command runs on.

/// A runtime with so many threads.
pub(crate) fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    anyhow::Context::context(runtime, "the system gives no threads")
}
