//! `airlock serve`: puts the rooms together.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use airlock_api::{ApiState, Keys, Limits};
use airlock_connectors::{Connectors, ConnectorsConfig, Keyring};
use airlock_engine::{Engine, EngineConfig, records::Records, schedule::Scheduler};
use airlock_sandbox::{Program, Sandbox, SandboxConfig};
use airlock_schemas::Schemas;
use airlock_store::SqliteStore;
use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    hardening, logging, master_key,
    runtime::runtime,
    settings::{Flags, Settings},
};

/// The command with which the daemon's own program compiles a component.
pub(crate) const COMPILER: &str = "compile-component";

/// How long schedules wait for plugins that are loaded at the start, and how long it is until the daemon calls itself ready.
const LOADING: std::time::Duration = std::time::Duration::from_secs(30);

/// Runs the daemon until it is asked to stop.
pub(crate) fn main(flags: &Flags) -> anyhow::Result<()> {
    let settings = Settings::load(flags)?;
    logging::start(&settings.log, &settings.log_format)?;
    hardening::no_core_dumps();
    let limits = settings.http.limits(hardening::open_files(), airlock_sandbox::memory());
    // More threads than cores: some of them wait for the disk.
    let threads = std::thread::available_parallelism().map_or(4, |cores| (2 * cores.get()).max(4));
    let runtime = runtime(threads)?;
    let outcome = runtime.block_on(serve(settings, limits));
    // Guests that do not stop are not waited for.
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Settings, limits: Limits) -> anyhow::Result<()> {
    // First of all, so that a port in use does not cost a start.
    let listener = tokio::net::TcpListener::bind(settings.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: is another daemon running? Choose another address with --listen",
            settings.listen
        )
    })?;
    let address = listener.local_addr()?;
    let plugins = settings.plugins.find()?.to_owned();
    private_folder(&settings.data)?;
    let (master, source) = master_key::load(&settings.master_key, &settings.data)?;
    let previous = master_key::previous(settings.previous_master_key_file.as_deref())?;
    airlock_store::backup::admit(&settings.data, &master_key::of_backups(&master))?;
    let keyring = Arc::new(Keyring::open(&settings.data, &master, previous.as_ref())?);
    drop((master, previous));
    let store = SqliteStore::open_with(&settings.data, &keyring.journal(), &settings.objects)?;
    let _watch = airlock_store::crashes::watch(&settings.data).inspect_err(
        |error| tracing::warn!(%error, "crashes cannot be noted: what causes them will not be held back"),
    );
    tokio::spawn(sweep(Arc::downgrade(&store)));
    let records: Arc<dyn Records> = Arc::clone(&store) as _;
    // A public address has to be named: requests cannot be trusted to say it.
    let public_url = match &settings.public_url {
        Some(url) => url.clone(),
        None => Url::parse(&format!("http://{address}")).context("the address is not one for browsers")?,
    };
    let mut config = ConnectorsConfig::new(&settings.data, &public_url);
    config.allow_loopback = settings.allow_loopback;
    config.allow_private_networks = settings.allow_private_networks;
    config.oauth.return_origins = settings.oauth_return_origins.clone();
    config.audit_retention = settings.audit_retention;
    let connectors = Connectors::open(Arc::clone(&records), keyring, config)?;
    connectors.finish_rotation().await?;
    tokio::spawn(keep_audit_head(connectors.clone()));
    let keys = Keys::open(Arc::clone(&records))?;
    keys.first_owner(|key| {
        let file = settings.data.join("owner.key");
        // One that was left behind by a start that did not come this far belongs to no key.
        if file.exists() {
            fs::remove_file(&file).with_context(|| format!("{} cannot be replaced", file.display()))?;
        }
        master_key::write_private(&file, key)
    })?;
    let mut config = SandboxConfig::new(&plugins, &settings.data);
    config.guest_memory_bytes = settings.guest_memory;
    config.compiling.program = Some(own_program());
    let sandbox = Sandbox::open(config).await?;
    let tools = Arc::new(connectors.clone());
    let config = EngineConfig {
        retention: settings.retention,
        auth_window: settings.auth_timeout,
        max_input_bytes: settings.max_input_bytes,
        ..EngineConfig::default()
    };
    let engine = Engine::open(store, Arc::clone(&sandbox) as _, tools, config).await?;
    let schedules = Scheduler::open(records, Arc::new(Arc::clone(&engine)))?;

    for (what, place) in places(&plugins, &settings.data, &source) {
        println!("{what:<12} {place}");
    }
    let stop = CancellationToken::new();
    let loading = Arc::clone(&sandbox);
    let stats = move || {
        let (stats, lost) = (sandbox.stats(), Schemas::of_process().lost());
        serde_json::json!({
            "sandbox": {
                "compiled": stats.compiles, "components": stats.components, "workflow_instances": stats.workflow_instances,
                "running_activities": stats.running_activities, "pooled": stats.pooled, "loading": stats.loading,
                "guest_memory": stats.guest_memory, "guest_memory_limit": stats.guest_memory_limit,
                "guest_memory_refused": stats.guest_memory_refused, "guest_memory_relieved": stats.guest_memory_relieved,
            },
            "schemas": { "lost_threads": lost.threads, "lost_ever": lost.ever },
        })
    };
    let starting = Arc::clone(&schedules);
    let audited = connectors.clone();
    let state =
        ApiState::new(Arc::clone(&engine), schedules, connectors, keys, Arc::new(stats), Arc::new(source));
    let state = state.with_limits(limits);
    // The API does not wait for plugins. Schedules do: what was missed during downtime finds its workflows.
    tokio::spawn(async move {
        if !loading.settled(LOADING).await {
            tracing::warn!(
                "some plugins are still being loaded; the rest of the daemon goes on without them"
            );
        }
        println!("airlock is ready on http://{address}");
        starting.run().await;
    });
    tokio::spawn(wait_for_signal(stop.clone())?);
    airlock_api::serve(listener, state, stop).await.context("the socket failed")?;
    tracing::info!("the daemon stops");
    engine.shutdown().await;
    audited.keep_audit_head()?;
    Ok(())
}

/// What somebody who started it for the first time looks for, and where it is.
fn places(plugins: &Path, data: &Path, master: &master_key::Source) -> [(&'static str, String); 4] {
    let whole =
        |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let key = data.join("owner.key");
    let owner = match key.exists() {
        true => whole(&key),
        false => "no longer in the data folder".to_owned(),
    };
    let master = match master.file() {
        Some(file) => whole(file),
        None => master.words().to_owned(),
    };
    [("plugins", whole(plugins)), ("data", whole(data)), ("API key", owner), ("master key", master)]
}

/// This program, also when its file was replaced since it was started.
fn own_program() -> Program {
    let myself = Path::new("/proc/self/exe");
    let path = match std::env::current_exe() {
        Ok(path) if !myself.exists() => path,
        _ => myself.into(),
    };
    Program { path, arguments: vec![COMPILER.to_owned()] }
}

/// Writes down now and then where the audit log ends, so that a cut-off end is noticed. That also removes what is older than
/// the operator keeps it.
async fn keep_audit_head(connectors: Connectors) {
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let connectors_now = connectors.clone();
        // It waits for the disk, and may read files.
        let kept = tokio::task::spawn_blocking(move || connectors_now.keep_audit_head()).await;
        if let Ok(Err(error)) = kept {
            tracing::error!(%error, "the end of the audit log could not be noted");
        }
    }
}

/// Removes large payloads that nothing refers to, now and once a day.
async fn sweep(store: std::sync::Weak<SqliteStore>) {
    loop {
        {
            let Some(store) = store.upgrade() else { return };
            if let Err(error) = store.sweep_objects().await {
                tracing::warn!(%error, "the object store could not be tidied; trying again tomorrow");
            }
        }
        tokio::time::sleep(std::time::Duration::from_secs(86_400)).await;
    }
}

/// Resolves into the token's end at SIGTERM or SIGINT.
fn wait_for_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}

/// Makes the data folder for its owner alone.
fn private_folder(folder: &Path) -> anyhow::Result<()> {
    let context = || {
        format!("the data folder {} cannot be used: check that this user may write to it", folder.display())
    };
    if !folder.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(context)?;
    }
    let mode = fs::metadata(folder).with_context(context)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(folder = %folder.display(), "others may look into the data folder: `chmod 700` it");
    }
    Ok(())
}
