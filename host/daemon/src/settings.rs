//! What the daemon is told: flags before variables before the file before defaults.

mod http;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use airlock_engine::problem::with_nearest;
use airlock_store::ObjectConfig;
use anyhow::Context as _;
use serde::Deserialize;
use url::Url;

use self::http::{Http, HttpFile, HttpFlags};
use crate::logging;

/// Flags and variables of `airlock serve`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Flags {
    /// The folder with plugins [default: plugins].
    #[arg(long, env = "AIRLOCK_PLUGINS")]
    pub(crate) plugins: Option<PathBuf>,
    /// The data folder [default: data].
    #[arg(long, env = "AIRLOCK_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:7700].
    #[arg(long, env = "AIRLOCK_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// A file with these settings in TOML [default: airlock.toml, if it is there].
    #[arg(long, env = "AIRLOCK_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// How much to log [default: info].
    #[arg(long, env = "AIRLOCK_LOG", ignore_case = true, value_parser = logging::LEVELS)]
    pub(crate) log: Option<String>,
    /// How the log is written [default: text].
    #[arg(long, env = "AIRLOCK_LOG_FORMAT", value_parser = logging::FORMATS)]
    pub(crate) log_format: Option<String>,
    /// Connectors may have servers on this machine.
    #[arg(long, env = "AIRLOCK_ALLOW_LOOPBACK", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) allow_loopback: Option<bool>,
    /// Connectors may have servers in private networks.
    #[arg(long, env = "AIRLOCK_ALLOW_PRIVATE_NETWORKS", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) allow_private_networks: Option<bool>,
    /// A file with the master key, 64 hexadecimal digits [default: master.key in the data folder]. The variable
    /// AIRLOCK_MASTER_KEY may hold the key itself.
    #[arg(long, env = "AIRLOCK_MASTER_KEY_FILE")]
    pub(crate) master_key_file: Option<PathBuf>,
    /// A command whose standard output is the master key, run by `sh -c`: for keys that a key management service keeps.
    #[arg(long, env = "AIRLOCK_MASTER_KEY_COMMAND", conflicts_with = "master_key_file")]
    pub(crate) master_key_command: Option<String>,
    /// A file with the master key before the present one, for a start after the key was changed elsewhere. The variable
    /// AIRLOCK_PREVIOUS_MASTER_KEY may hold the key itself.
    #[arg(long, env = "AIRLOCK_PREVIOUS_MASTER_KEY_FILE")]
    pub(crate) previous_master_key_file: Option<PathBuf>,
    /// Where browsers and authorization servers reach the daemon [default: http:// and the address it listens on].
    #[arg(long, env = "AIRLOCK_PUBLIC_URL")]
    pub(crate) public_url: Option<Url>,
    /// An origin that browsers may be sent back to after an authorisation (app_return_url). May be given several times.
    #[arg(long = "oauth-return-origin", env = "AIRLOCK_OAUTH_RETURN_ORIGINS", value_delimiter = ',')]
    pub(crate) oauth_return_origins: Vec<String>,
    /// How long executions are kept after their end: 30d, 12h, 90m, 45s [default: for ever].
    #[arg(long, env = "AIRLOCK_RETENTION", value_name = "DURATION", value_parser = a_duration)]
    pub(crate) retention: Option<String>,
    /// How long an execution waits for its user to authorise: 10m, 2h [default: 10m].
    #[arg(long, env = "AIRLOCK_AUTH_TIMEOUT", value_name = "DURATION", value_parser = a_duration)]
    pub(crate) auth_timeout: Option<String>,
    /// How long entries of the audit log are kept: 365d, 720h [default: for ever].
    #[arg(long, env = "AIRLOCK_AUDIT_RETENTION", value_name = "DURATION", value_parser = a_duration)]
    pub(crate) audit_retention: Option<String>,
    /// Where payloads above 2 MB are kept: s3://BUCKET/PREFIX, gs://…, az://…, file:///… [default: objects in the data
    /// folder].
    #[arg(long, env = "AIRLOCK_OBJECT_STORE", value_name = "URL", value_parser = an_address)]
    pub(crate) object_store: Option<String>,
    /// The largest input of an execution or a message, in bytes [default: 15000000].
    #[arg(long, env = "AIRLOCK_MAX_INPUT_BYTES")]
    pub(crate) max_input_bytes: Option<usize>,
    #[command(flatten)]
    pub(crate) http: HttpFlags,
    /// The memory that all workflows and activities may hold together: 512M, 8G [default: half of what the machine or the
    /// control group has].
    #[arg(long, env = "AIRLOCK_GUEST_MEMORY", value_name = "SIZE", value_parser = a_size)]
    pub(crate) guest_memory: Option<String>,
}

/// The same in a file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    plugins: Option<PathBuf>,
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    log: Option<String>,
    log_format: Option<String>,
    allow_loopback: Option<bool>,
    allow_private_networks: Option<bool>,
    master_key_file: Option<PathBuf>,
    master_key_command: Option<String>,
    previous_master_key_file: Option<PathBuf>,
    public_url: Option<Url>,
    #[serde(default)]
    oauth_return_origins: Vec<String>,
    retention: Option<String>,
    auth_timeout: Option<String>,
    audit_retention: Option<String>,
    object_store: Option<String>,
    /// Options of the object store by name, for instance `aws_region`. Secrets are better off in the environment.
    #[serde(default)]
    object_store_options: BTreeMap<String, String>,
    max_input_bytes: Option<usize>,
    #[serde(default)]
    http: HttpFile,
    guest_memory: Option<String>,
}

/// What holds.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) plugins: PluginFolder,
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) log: String,
    pub(crate) log_format: String,
    pub(crate) allow_loopback: bool,
    pub(crate) allow_private_networks: bool,
    pub(crate) master_key: MasterKeyPlace,
    pub(crate) previous_master_key_file: Option<PathBuf>,
    pub(crate) public_url: Option<Url>,
    pub(crate) oauth_return_origins: Vec<String>,
    pub(crate) retention: Option<Duration>,
    pub(crate) auth_timeout: Duration,
    pub(crate) audit_retention: Option<Duration>,
    pub(crate) objects: ObjectConfig,
    pub(crate) max_input_bytes: usize,
    pub(crate) http: Http,
    pub(crate) guest_memory: Option<u64>,
}

/// Where plugins are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PluginFolder {
    /// Somebody said where, so it is there.
    Named(PathBuf),
    /// Nobody did. It is made.
    Default(PathBuf),
}

impl PluginFolder {
    /// The folder, if it is one or can be made.
    pub(crate) fn find(&self) -> anyhow::Result<&Path> {
        match self {
            Self::Named(folder) if !folder.is_dir() => anyhow::bail!(
                "the plugin folder {} is not there: make it, or name another one with --plugins",
                folder.display()
            ),
            Self::Named(folder) | Self::Default(folder) => Ok(folder),
        }
    }
}

/// Where the operator keeps the master key; neither: in the data folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct MasterKeyPlace {
    pub(crate) file: Option<PathBuf>,
    pub(crate) command: Option<String>,
}

/// The public address: an origin, because paths are the daemon's own.
fn checked_url(url: Option<Url>) -> anyhow::Result<Option<Url>> {
    if let Some(url) = &url
        && (!matches!(url.scheme(), "http" | "https")
            || url.path() != "/"
            || url.query().is_some()
            || !url.username().is_empty())
    {
        anyhow::bail!(
            "public_url is '{url}': give scheme, host and port only, such as https://airlock.example"
        );
    }
    Ok(url)
}

/// Origins as they are compared: scheme, host and port.
fn origins(given: Vec<String>) -> anyhow::Result<Vec<String>> {
    let check = |text: String| {
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let origin = url.map(|url| url.origin().ascii_serialization());
        origin.filter(|origin| *origin == text.trim_end_matches('/')).with_context(|| {
            format!("oauth_return_origins has '{text}': give an origin such as https://app.example")
        })
    };
    given.into_iter().map(check).collect()
}

/// Beside an input stands what else a request says, within the limit of a request's body.
const MAX_INPUT_BYTES: usize = 15_000_000;

/// What fits into a request.
const LARGEST_INPUT: usize = 16_000_000;

/// How long an execution waits for its user to authorise (contract/preflight.md), and how long it can be told to.
const AUTH_TIMEOUT: Duration = Duration::from_secs(600);
const LONGEST_AUTH: Duration = Duration::from_secs(30 * 86_400);

/// A typing error must not empty the audit log at once.
const SHORTEST_AUDIT: Duration = Duration::from_secs(3_600);

impl Settings {
    /// Puts the sources together.
    pub(crate) fn load(flags: &Flags) -> anyhow::Result<Self> {
        let default = Path::new("airlock.toml");
        let file = match &flags.config {
            Some(path) => File::read(path)?,
            None if default.exists() => File::read(default)?,
            None => File::default(),
        };
        let flags = flags.clone();
        let max_input_bytes = flags.max_input_bytes.or(file.max_input_bytes).unwrap_or(MAX_INPUT_BYTES);
        if max_input_bytes > LARGEST_INPUT {
            anyhow::bail!(
                "max_input_bytes is {max_input_bytes}: a request has at most {LARGEST_INPUT} bytes for it"
            );
        }
        Ok(Self {
            plugins: match flags.plugins.or(file.plugins) {
                Some(named) => PluginFolder::Named(named),
                None => PluginFolder::Default("plugins".into()),
            },
            data: flags.data.or(file.data).unwrap_or_else(|| "data".into()),
            listen: flags.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7700))),
            log: flags.log.or(file.log).unwrap_or_else(|| "info".into()),
            log_format: flags.log_format.or(file.log_format).unwrap_or_else(|| "text".into()),
            allow_loopback: flags.allow_loopback.or(file.allow_loopback).unwrap_or(false),
            allow_private_networks: flags
                .allow_private_networks
                .or(file.allow_private_networks)
                .unwrap_or(false),
            master_key: MasterKeyPlace {
                file: flags.master_key_file.or(file.master_key_file),
                command: flags.master_key_command.or(file.master_key_command),
            },
            previous_master_key_file: flags.previous_master_key_file.or(file.previous_master_key_file),
            public_url: checked_url(flags.public_url.or(file.public_url))?,
            oauth_return_origins: origins(match flags.oauth_return_origins.is_empty() {
                true => file.oauth_return_origins,
                false => flags.oauth_return_origins,
            })?,
            retention: match flags.retention.or(file.retention) {
                None => None,
                Some(text) => Some(duration(&text).with_context(|| {
                    format!("the retention '{text}' is not a time such as 30d, 12h, 90m or 45s")
                })?),
            },
            auth_timeout: match flags.auth_timeout.or(file.auth_timeout) {
                None => AUTH_TIMEOUT,
                Some(text) => duration(&text).filter(|wait| *wait <= LONGEST_AUTH).with_context(|| {
                    format!(
                        "the auth_timeout '{text}' is not a time from 1s to 30d such as 10m: it says how long an \
                         execution waits for its user to authorise"
                    )
                })?,
            },
            audit_retention: match flags.audit_retention.or(file.audit_retention) {
                None => None,
                Some(text) => {
                    Some(duration(&text).filter(|keep| *keep >= SHORTEST_AUDIT).with_context(|| {
                        format!(
                            "the audit_retention '{text}' is not a time from 1h on such as 365d: leave it out to keep \
                             the audit log for ever"
                        )
                    })?)
                }
            },
            objects: ObjectConfig {
                url: flags.object_store.or(file.object_store),
                options: file.object_store_options.into_iter().collect(),
            },
            max_input_bytes,
            http: Http::load(flags.http, file.http)?,
            guest_memory: match flags.guest_memory.or(file.guest_memory) {
                None => None,
                Some(text) => Some(size(&text, GUEST_UNITS).filter(|size| *size >= LEAST_GUEST_MEMORY).with_context(|| {
                    format!("the guest_memory '{text}' is not a size from 64M on such as 512M or 8G")
                })?),
            },
        })
    }
}

/// With less than this not even one guest runs well.
const LEAST_GUEST_MEMORY: u64 = 64 << 20;

/// Of sizes of memory for guests.
const GUEST_UNITS: &str = "MGT";

/// A flag that holds a size.
fn a_size(text: &str) -> Result<String, String> {
    size(text, GUEST_UNITS)
        .map(|_| text.to_owned())
        .ok_or_else(|| "give a size such as 512M or 8G".to_owned())
}

/// A number with one of these units, each a power of 1024.
fn size(text: &str, units: &str) -> Option<u64> {
    let unit = text.chars().last()?.to_ascii_uppercase();
    let power = "KMGT".find(unit).filter(|_| units.contains(unit))?;
    text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(1_024 << (10 * power))
}

/// A flag that holds a time. What it may be is said where all sources are put together.
fn a_duration(text: &str) -> Result<String, String> {
    let read = duration(text).map(|_| text.to_owned());
    read.ok_or_else(|| "give a time such as 30d, 12h, 90m or 45s".to_owned())
}

/// A flag that holds an address.
fn an_address(text: &str) -> Result<String, String> {
    let read = Url::parse(text).map(|_| text.to_owned());
    read.map_err(|_| "give an address such as s3://bucket/airlock or file:///srv/objects".to_owned())
}

/// A number with a unit: `d`, `h`, `m` or `s`. At least a second.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Duration::from_secs(number.checked_mul(seconds)?)).filter(|duration| !duration.is_zero())
}

impl File {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the configuration file {} cannot be read", path.display()))?;
        toml::from_str(&text).map_err(|error| {
            // The reader's own words show the line, which may be about a secret.
            let start = error.span().map_or(0, |span| span.start);
            let before = &text[..text.floor_char_boundary(start)];
            let line = before.matches('\n').count() + 1;
            let what = with_nearest(error.message());
            anyhow::anyhow!("the configuration file {} is not valid, line {line}: {what}", path.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, flags: Flags) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("c.toml");
        std::fs::write(&config, text)?;
        Settings::load(&Flags { config: Some(config), ..flags })
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let flags = Flags { log: Some("debug".into()), ..Flags::default() };
        let settings = with_file("log = \"warn\"\nlisten = \"127.0.0.1:9\"\nallow_loopback = true", flags);
        let settings = settings.expect("is valid");
        assert_eq!((settings.log.as_str(), settings.listen.port()), ("debug", 9));
        assert!(settings.allow_loopback && !settings.allow_private_networks);
        assert_eq!(settings.plugins, PluginFolder::Default("plugins".into()));
    }

    #[test]
    fn addresses_for_browsers_are_origins() {
        let text =
            "public_url = \"https://airlock.example\"\noauth_return_origins = [\"https://app.example\"]";
        let settings = with_file(text, Flags::default()).expect("is valid");
        assert_eq!(settings.oauth_return_origins, ["https://app.example"]);
        for bad in [
            "public_url = \"https://airlock.example/path\"",
            "public_url = \"ftp://airlock.example\"",
            "oauth_return_origins = [\"https://app.example/path\"]",
            "oauth_return_origins = [\"*\"]",
        ] {
            let error = format!("{:#}", with_file(bad, Flags::default()).expect_err("is refused"));
            assert!(error.contains("such as https://"), "{error}");
        }
    }

    #[test]
    fn a_retention_is_a_number_with_a_unit() {
        let settings = with_file("retention = \"30d\"", Flags::default()).expect("is valid");
        assert_eq!(settings.retention, Some(Duration::from_secs(30 * 86_400)));
        for bad in ["30", "d", "-1d", "0s", "1w"] {
            let flags = Flags { retention: Some(bad.into()), ..Flags::default() };
            let error = format!("{:#}", with_file("", flags).expect_err("is refused"));
            assert!(error.contains("30d, 12h"), "{error}");
        }
    }

    #[test]
    fn waits_and_retentions_have_bounds_and_a_refusal_names_the_setting() {
        let settings = with_file("auth_timeout = \"2h\"\naudit_retention = \"365d\"", Flags::default());
        let settings = settings.expect("is valid");
        assert_eq!(settings.auth_timeout, Duration::from_secs(7_200));
        assert_eq!(settings.audit_retention, Some(Duration::from_secs(365 * 86_400)));
        let default = with_file("", Flags::default()).expect("is valid");
        assert_eq!((default.auth_timeout, default.audit_retention), (AUTH_TIMEOUT, None));
        for bad in ["0s", "31d", "ten minutes", "10", "-5m", "1.5h", ""] {
            let flags = Flags { auth_timeout: Some(bad.into()), ..Flags::default() };
            let error = format!("{:#}", with_file("", flags).expect_err("is refused"));
            assert!(
                error.contains(&format!("auth_timeout '{bad}'")) && error.contains("1s to 30d"),
                "{error}"
            );
        }
        for bad in ["0s", "59m", "1y", ""] {
            let flags = Flags { audit_retention: Some(bad.into()), ..Flags::default() };
            let error = format!("{:#}", with_file("", flags).expect_err("is refused"));
            assert!(error.contains(&format!("audit_retention '{bad}'")) && error.contains("365d"), "{error}");
        }
    }

    #[test]
    fn the_memory_of_guests_is_a_size_with_a_unit() {
        let settings = with_file("guest_memory = \"2G\"", Flags::default()).expect("is valid");
        assert_eq!(settings.guest_memory, Some(2 << 30));
        assert_eq!(with_file("", Flags::default()).expect("is valid").guest_memory, None);
        for bad in ["", "G", "1", "-1G", "1.5G", "63M", "99999999999999T", "€"] {
            let flags = Flags { guest_memory: Some(bad.into()), ..Flags::default() };
            let error = format!("{:#}", with_file("", flags).expect_err("is refused"));
            assert!(error.contains(&format!("guest_memory '{bad}'")) && error.contains("512M"), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_or_a_wrong_value_is_an_error_that_names_it() {
        for (text, named) in [
            ("plugin = 'x'", "line 1: there is no field 'plugin' here: 'plugins' is meant?"),
            (
                "log = 'info'\nretension = '1d'",
                "line 2: there is no field 'retension' here: 'retention' is meant?",
            ),
            (
                "[http]\nmax-conections = 5",
                "line 2: there is no field 'max-conections' here: 'max_connections' is meant?",
            ),
            ("zzz = 1", "there is no field 'zzz' here, expected one of 'plugins', 'data'"),
            ("listen = 'nowhere'", "line 1: invalid socket address syntax"),
            ("master_key_command = ['a-secret']", "line 1: invalid type: sequence, expected a string"),
        ] {
            let error = format!("{:#}", with_file(text, Flags::default()).expect_err("is refused"));
            assert!(error.contains(named) && !error.contains("a-secret"), "{error}");
        }
    }

    #[test]
    fn a_plugin_folder_that_somebody_named_has_to_be_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (there, gone) = (folder.path().to_owned(), folder.path().join("gone"));
        let named = |plugins: &Path| {
            let flags = Flags { plugins: Some(plugins.to_owned()), ..Flags::default() };
            with_file("", flags).expect("is valid").plugins
        };
        assert_eq!(named(&there).find().expect("is there"), there);
        let error = named(&gone).find().expect_err("is not there").to_string();
        assert!(error.contains("gone is not there: make it, or name another one with --plugins"), "{error}");
        assert!(!gone.exists(), "nothing was made");
        assert!(PluginFolder::Default(gone).find().is_ok(), "it is made when it is opened");
    }
}
