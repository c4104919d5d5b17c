//! Which object store, and how to come to it.

use std::{path::Path as Folder, sync::Arc, time::Duration};

use object_store::{
    ObjectStore, ObjectStoreScheme, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    local::LocalFileSystem,
    path::Path,
};
use url::Url;

use super::private_folder;

/// The folder in the data folder that is used when no URL is given.
pub(crate) const FOLDER: &str = "objects";

/// Where payloads go that are too large for the database.
///
/// With no `url` it is the folder `objects` in the data folder. Else it is one of `s3://bucket/prefix`,
/// `gs://bucket/prefix`, `az://container/prefix` and `file:///folder`. Access is set by `options` and, where they say
/// nothing, by the environment variables of the provider (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
#[derive(Clone, Default)]
pub struct ObjectConfig {
    /// The object store's URL.
    pub url: Option<String>,
    /// Keys and values as the crate `object_store` names them, for example `aws_region` or `azure_storage_account_name`.
    /// They may be secrets.
    pub options: Vec<(String, String)>,
}

impl std::fmt::Debug for ObjectConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.options.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ObjectConfig").field("url", &self.url).field("options", &names).finish()
    }
}

/// The object store cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ObjectConfigError {
    /// Not a URL, or not of a kind that is known.
    #[error(
        "'{0}' is not the URL of an object store: it begins with s3://, gs://, az:// or file:/// and names a bucket, \
         a container or a folder"
    )]
    Url(String),
    /// An option that this kind of object store does not have.
    #[error("the object store {url} has no option '{option}': check its spelling")]
    Option {
        /// The object store.
        url: String,
        /// The option's name.
        option: String,
    },
    /// The folder cannot be used.
    #[error("the folder {folder} for large payloads cannot be used: {problem}")]
    Folder {
        /// The folder.
        folder: String,
        /// What the system says.
        problem: String,
    },
    /// What was set does not fit together.
    #[error("the object store {url} cannot be set up: {problem}")]
    Setup {
        /// The object store.
        url: String,
        /// What the crate says.
        problem: String,
    },
}

/// The object store, what its paths begin with, and its name for messages.
pub(super) fn connect(
    folder: &Folder,
    config: &ObjectConfig,
) -> Result<(Arc<dyn ObjectStore>, Path, String), ObjectConfigError> {
    let Some(text) = &config.url else {
        return Ok((local(&folder.join(FOLDER))?, Path::default(), String::new()));
    };
    let unknown = || ObjectConfigError::Url(text.clone());
    let url = Url::parse(text).map_err(|_| unknown())?;
    // Credentials have no place in it, and it will stand in messages.
    if url.password().is_some() {
        return Err(unknown());
    }
    let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| unknown())?;
    let setup = |error: object_store::Error| ObjectConfigError::Setup {
        url: text.clone(),
        problem: error.to_string(),
    };
    let wrong = |option: &str| ObjectConfigError::Option { url: text.clone(), option: option.to_owned() };
    // Shorter than the crate's own: the engine repeats what failed, and an execution that waits says why.
    let retry =
        RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() };
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::Local => {
            let path = url.to_file_path().map_err(|()| unknown())?;
            return Ok((local(&path)?, Path::default(), text.clone()));
        }
        ObjectStoreScheme::Memory => Arc::new(object_store::memory::InMemory::new()),
        ObjectStoreScheme::AmazonS3 => {
            let mut builder = AmazonS3Builder::from_env().with_url(text).with_retry(retry);
            for (key, value) in &config.options {
                let known: AmazonS3ConfigKey = key.to_ascii_lowercase().parse().map_err(|_| wrong(key))?;
                builder = builder.with_config(known, value);
            }
            Arc::new(builder.build().map_err(setup)?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(text).with_retry(retry);
            for (key, value) in &config.options {
                let known: GoogleConfigKey = key.to_ascii_lowercase().parse().map_err(|_| wrong(key))?;
                builder = builder.with_config(known, value);
            }
            Arc::new(builder.build().map_err(setup)?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(text).with_retry(retry);
            for (key, value) in &config.options {
                let known: AzureConfigKey = key.to_ascii_lowercase().parse().map_err(|_| wrong(key))?;
                builder = builder.with_config(known, value);
            }
            Arc::new(builder.build().map_err(setup)?)
        }
        _ => return Err(unknown()),
    };
    Ok((store, prefix, text.clone()))
}

/// A folder, made if it is not there, in which what is stored is on the disk.
fn local(folder: &Folder) -> Result<Arc<dyn ObjectStore>, ObjectConfigError> {
    let problem =
        |problem: String| ObjectConfigError::Folder { folder: folder.display().to_string(), problem };
    private_folder(folder).map_err(|error| problem(error.to_string()))?;
    let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| problem(error.to_string()))?;
    // Without fsync an object might be gone after a power cut although its reference is there.
    Ok(Arc::new(store.with_fsync(true).with_automatic_cleanup(true)))
}
