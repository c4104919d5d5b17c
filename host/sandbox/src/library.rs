//! Loaded code by digest: from the plugin folder, or from the data folder for executions that are pinned to it.

use std::{collections::HashMap, io, path::Path, sync::Arc};

use airlock_engine::{Digest, guests::GuestError};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::component::Component;

use crate::{
    anatomy::Anatomy,
    compiler::{Compiler, NotCompiled},
    config::Compiling,
    plugin::{self, Plugin, Rejection},
    runtime::Runtime,
    storage::{CompiledCode, Components},
};

/// Components that are asked what they hold at the same time.
const DESCRIBING: usize = 8;

/// A place for a plugin; whoever comes while it is loaded waits for it.
type Place = Arc<OnceCell<Arc<Plugin>>>;

/// All code that can run.
pub(crate) struct Library {
    runtime: Arc<Runtime>,
    components: Components,
    compiled: CompiledCode,
    compiler: Compiler,
    /// Components that are asked what they hold: each needs an instance, of which there are only some for this.
    describing: Semaphore,
    places: Mutex<HashMap<Digest, Place>>,
}

impl Library {
    /// Opens the folders below the data folder.
    pub(crate) fn open(
        runtime: Arc<Runtime>,
        data_dir: &Path,
        compiling: &Compiling,
    ) -> io::Result<Arc<Self>> {
        let components = Components::open(data_dir)?;
        let compiled = CompiledCode::open(data_dir, runtime.compatibility())?;
        let compiler =
            Compiler::new(compiling, runtime.engine(), runtime.compatibility(), runtime.is_pooled());
        Ok(Arc::new(Self {
            runtime,
            components,
            compiled,
            compiler,
            describing: Semaphore::new(DESCRIBING),
            places: Mutex::default(),
        }))
    }

    /// How often something was compiled since the start.
    pub(crate) fn compiles(&self) -> u64 {
        self.compiled.compiles()
    }

    /// How many components are loaded.
    pub(crate) fn len(&self) -> usize {
        self.places.lock().len()
    }

    fn place(&self, digest: &Digest) -> Place {
        self.places.lock().entry(*digest).or_default().clone()
    }

    fn loaded(&self, digest: &Digest) -> Option<Arc<Plugin>> {
        self.places.lock().get(digest)?.get().cloned()
    }

    /// The code of a digest that an execution is pinned to.
    pub(crate) async fn pinned(self: &Arc<Self>, digest: &Digest) -> Result<Arc<Plugin>, GuestError> {
        if let Some(plugin) = self.loaded(digest) {
            return Ok(plugin);
        }
        let place = self.place(digest);
        let loaded = place.get_or_try_init(|| self.load_kept(*digest)).await.cloned();
        if loaded.is_err() {
            self.forget_empty(digest);
        }
        loaded
    }

    async fn load_kept(self: &Arc<Self>, digest: Digest) -> Result<Arc<Plugin>, GuestError> {
        let library = self.clone();
        let read = move || {
            let bytes = library.components.bytes(&digest)?;
            Ok::<_, io::Error>(
                bytes.map(|bytes| (bytes, library.components.name(&digest).unwrap_or_default())),
            )
        };
        match blocking(read).await.and_then(|read| read.map_err(|error| error.to_string())) {
            Ok(Some((bytes, name))) => self.load(digest, &name, Arc::new(bytes)).await.map_err(|rejection| {
                GuestError::Host(format!("the component {digest} cannot be used: {rejection}"))
            }),
            Ok(None) => Err(GuestError::Missing(digest)),
            Err(error) => Err(GuestError::Host(format!("the component {digest} cannot be read: {error}"))),
        }
    }

    /// Takes up a file of the plugin folder.
    pub(crate) async fn take_up(
        self: &Arc<Self>,
        digest: Digest,
        name: &str,
        bytes: Arc<Vec<u8>>,
    ) -> Result<Arc<Plugin>, Rejection> {
        let place = self.place(&digest);
        let loaded = place.get_or_try_init(|| self.load(digest, name, bytes.clone())).await.cloned();
        if loaded.is_err() {
            self.forget_empty(&digest);
        }
        loaded
    }

    /// Keeps the code of a file, for executions that will be pinned to it.
    pub(crate) async fn keep(self: &Arc<Self>, digest: Digest, bytes: Arc<Vec<u8>>) -> Result<(), Rejection> {
        let library = self.clone();
        blocking(move || library.components.keep(&digest, &bytes)).await.and_then(told).map_err(unwritable)
    }

    /// The code serves under this name from now on.
    pub(crate) async fn rename(self: &Arc<Self>, plugin: &Plugin, name: &str) -> Result<(), Rejection> {
        let (library, digest, owned) = (self.clone(), plugin.digest(), name.to_owned());
        blocking(move || library.components.rename(&digest, &owned))
            .await
            .and_then(told)
            .map_err(unwritable)?;
        plugin.rename(name);
        Ok(())
    }

    async fn load(
        self: &Arc<Self>,
        digest: Digest,
        name: &str,
        bytes: Arc<Vec<u8>>,
    ) -> Result<Arc<Plugin>, Rejection> {
        let component = self.component(digest, bytes).await?;
        // Never closed.
        let _place = self.describing.acquire().await;
        Ok(Arc::new(plugin::load(&self.runtime, &component, digest, name.into()).await?))
    }

    /// The compiled code: from disk if it is there and whole, else made and kept.
    async fn component(
        self: &Arc<Self>,
        digest: Digest,
        bytes: Arc<Vec<u8>>,
    ) -> Result<Component, Rejection> {
        let (library, examined) = (self.clone(), bytes.clone());
        let look = move || {
            if let Some(component) = library.compiled.find(library.runtime.engine(), &digest) {
                return Ok(Some(component));
            }
            if let Some(why) = library.compiled.refused(&digest, library.compiler.limits()) {
                return Err(refusal(why));
            }
            let anatomy = Anatomy::of(&examined).map_err(Rejection::Malformed)?;
            anatomy.check().map_err(|excess| Rejection::TooIntricate(excess.to_string()))?;
            Ok(None)
        };
        if let Some(component) = blocking(look).await.map_err(Rejection::Host)?? {
            return Ok(component);
        }
        // A new file for each try: one that was stopped may be about to write yet.
        let draft = Mutex::new(None);
        let file = || {
            let new = self.compiled.draft()?;
            let file = new.file()?;
            *draft.lock() = Some(new);
            Ok(file)
        };
        let compiled = self.compiler.compile(&bytes, file).await;
        let compiled = compiled.and_then(|()| {
            draft.into_inner().ok_or_else(|| NotCompiled::Host("the compiler wrote nothing".to_owned()))
        });
        let library = self.clone();
        let finish = move || match compiled {
            Ok(draft) => library
                .compiled
                .keep(library.runtime.engine(), &digest, draft)
                .map_err(|error| unwritable(error.to_string())),
            Err(why) => {
                library.compiled.refuse(&digest, library.compiler.limits(), &why);
                Err(refusal(why))
            }
        };
        blocking(finish).await.map_err(Rejection::Host)?
    }

    fn forget_empty(&self, digest: &Digest) {
        let mut places = self.places.lock();
        if places.get(digest).is_some_and(|place| !place.initialized()) {
            places.remove(digest);
        }
    }

    /// Forgets all code but that which is wanted.
    pub(crate) fn retain(&self, wanted: impl Fn(&Digest) -> bool) -> io::Result<()> {
        self.places.lock().retain(|digest, place| wanted(digest) || !place.initialized());
        for digest in self.components.digests()? {
            if !wanted(&digest) {
                self.components.remove(&digest)?;
            }
        }
        self.compiled.retain(wanted)
    }
}

fn refusal(why: NotCompiled) -> Rejection {
    match why {
        NotCompiled::Invalid(why) => Rejection::Malformed(why),
        NotCompiled::TooDemanding(what) => Rejection::TooDemanding(what),
        NotCompiled::Host(why) => Rejection::Host(why),
    }
}

fn unwritable(error: String) -> Rejection {
    Rejection::Host(format!("it cannot be written to the data folder: {error}"))
}

fn told<T>(done: io::Result<T>) -> Result<T, String> {
    done.map_err(|error| error.to_string())
}

/// Runs what blocks on a thread for it. The error is for a task that panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("the host failed: {error}"))
}
