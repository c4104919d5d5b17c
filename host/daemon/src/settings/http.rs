//! Settings of the HTTP side: connections, how long they may take, and what requests may hold.

use std::time::Duration;

use airlock_api::{Limits, Network};
use anyhow::Context as _;
use serde::Deserialize;

use super::{a_duration, duration, size};

/// Flags and variables.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct HttpFlags {
    /// Connections at once [default: what the limit of open files leaves, at most 4096].
    #[arg(long, env = "AIRLOCK_MAX_CONNECTIONS", value_name = "N")]
    pub(crate) max_connections: Option<usize>,
    /// Connections at once from one address [default: a quarter of all].
    #[arg(long, env = "AIRLOCK_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub(crate) max_connections_per_address: Option<usize>,
    /// A reverse proxy whose connections are those of many people, as an address or a network such as 10.0.0.0/8. May be
    /// given several times.
    #[arg(
        long = "trusted-proxy",
        env = "AIRLOCK_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_name = "NETWORK"
    )]
    pub(crate) trusted_proxies: Vec<Network>,
    /// What bodies of requests and answers under way hold together: 128M, 1G [default: an eighth of the memory, at most 512M].
    #[arg(long, env = "AIRLOCK_REQUEST_MEMORY", value_name = "SIZE", value_parser = a_size)]
    pub(crate) request_memory: Option<String>,
    /// How long the head of a request may take to come: 10s, 1m [default: 10s].
    #[arg(long, env = "AIRLOCK_HEADER_TIMEOUT", value_name = "DURATION", value_parser = a_duration)]
    pub(crate) header_timeout: Option<String>,
    /// How long the body of a request may take to come: 60s, 5m [default: 60s].
    #[arg(long, env = "AIRLOCK_BODY_TIMEOUT", value_name = "DURATION", value_parser = a_duration)]
    pub(crate) body_timeout: Option<String>,
    /// How long a connection may rest between two requests: 2m, 90s [default: 120s].
    #[arg(long, env = "AIRLOCK_IDLE_TIMEOUT", value_name = "DURATION", value_parser = a_duration)]
    pub(crate) idle_timeout: Option<String>,
    /// How long a client may take nothing of its answer: 30s, 2m [default: 30s].
    #[arg(long, env = "AIRLOCK_WRITE_TIMEOUT", value_name = "DURATION", value_parser = a_duration)]
    pub(crate) write_timeout: Option<String>,
}

/// The table `[http]` of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpFile {
    max_connections: Option<usize>,
    max_connections_per_address: Option<usize>,
    #[serde(default)]
    trusted_proxies: Vec<String>,
    request_memory: Option<String>,
    header_timeout: Option<String>,
    body_timeout: Option<String>,
    idle_timeout: Option<String>,
    write_timeout: Option<String>,
}

/// What holds. What is not set follows from the machine.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    max_connections: Option<usize>,
    max_connections_per_address: Option<usize>,
    trusted_proxies: Vec<Network>,
    request_memory: Option<usize>,
    header_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

/// The largest document and the largest page of a history have to fit.
const LEAST_MEMORY: usize = 128 << 20;

/// Of sizes.
const UNITS: &str = "KMG";

/// A time that is longer bounds nothing.
const LONGEST: Duration = Duration::from_secs(3_600);

impl Http {
    pub(super) fn load(flags: HttpFlags, file: HttpFile) -> anyhow::Result<Self> {
        let count = |name: &str, given: Option<usize>| match given {
            Some(count) if count < 16 => anyhow::bail!("{name} is {count}: there have to be 16 at least"),
            given => Ok(given),
        };
        let time = |name: &str, given: Option<String>| {
            let read = |text: String| {
                duration(&text)
                    .filter(|time| *time <= LONGEST)
                    .with_context(|| format!("the {name} '{text}' is not a time from 1s to 1h such as 30s"))
            };
            given.map(read).transpose()
        };
        let proxies = file.trusted_proxies.iter().map(|text| {
            text.parse::<Network>()
                .with_context(|| format!("trusted_proxies has '{text}', which is no network"))
        });
        let memory = flags.request_memory.or(file.request_memory).map(|text| {
            let bytes = size(&text, UNITS).and_then(|bytes| usize::try_from(bytes).ok());
            bytes.filter(|bytes| *bytes >= LEAST_MEMORY).with_context(|| {
                format!("the request_memory '{text}' is not a size from 128M on such as 512M or 1G")
            })
        });
        Ok(Self {
            max_connections: count("max_connections", flags.max_connections.or(file.max_connections))?,
            max_connections_per_address: count(
                "max_connections_per_address",
                flags.max_connections_per_address.or(file.max_connections_per_address),
            )?,
            trusted_proxies: match flags.trusted_proxies.is_empty() {
                true => proxies.collect::<anyhow::Result<_>>()?,
                false => flags.trusted_proxies,
            },
            request_memory: memory.transpose()?,
            header_timeout: time("header_timeout", flags.header_timeout.or(file.header_timeout))?,
            body_timeout: time("body_timeout", flags.body_timeout.or(file.body_timeout))?,
            idle_timeout: time("idle_timeout", flags.idle_timeout.or(file.idle_timeout))?,
            write_timeout: time("write_timeout", flags.write_timeout.or(file.write_timeout))?,
        })
    }

    /// The bounds on a machine with so much memory, for a process that may have so many descriptors.
    pub(crate) fn limits(&self, descriptors: u64, memory: Option<u64>) -> Limits {
        let default = Limits::default();
        let possible = Limits::connections_of(descriptors);
        let connections = self.max_connections.unwrap_or(possible);
        if connections > possible && self.max_connections.is_some() {
            tracing::warn!(
                connections,
                descriptors,
                "max_connections leaves few open files for anything else: raise the limit (ulimit -n, LimitNOFILE)"
            );
        }
        let body_time = self.body_timeout.unwrap_or(default.body_time);
        Limits {
            connections,
            connections_per_address: self
                .max_connections_per_address
                .unwrap_or_else(|| Limits::per_address_of(connections))
                .min(connections),
            trusted_proxies: self.trusted_proxies.clone(),
            head_time: self.header_timeout.unwrap_or(default.head_time),
            idle_time: self.idle_timeout.unwrap_or(default.idle_time),
            body_pause: default.body_pause.min(body_time),
            body_time,
            write_time: self.write_timeout.unwrap_or(default.write_time),
            bytes: self.request_memory.or_else(|| memory.map(Limits::bytes_of)).unwrap_or(default.bytes),
        }
    }
}

/// A flag that holds a size.
fn a_size(text: &str) -> Result<String, String> {
    size(text, UNITS).map(|_| text.to_owned()).ok_or_else(|| "give a size such as 512M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, flags: HttpFlags) -> anyhow::Result<Http> {
        Http::load(flags, toml::from_str(text)?)
    }

    #[test]
    fn what_is_not_set_follows_from_the_machine() {
        let limits = load("", HttpFlags::default()).expect("is valid").limits(1_024, Some(1 << 30));
        assert_eq!((limits.connections, limits.connections_per_address), (512, 128));
        assert_eq!((limits.bytes, limits.head_time), (128 << 20, Duration::from_secs(10)));
        let limits = load("", HttpFlags::default()).expect("is valid").limits(1_048_576, None);
        assert_eq!((limits.connections, limits.connections_per_address), (4_096, 1_024));
    }

    #[test]
    fn what_is_set_holds_flags_before_the_file() {
        let text = "max_connections = 64\ntrusted_proxies = [\"10.0.0.0/8\"]\nrequest_memory = \"1G\"\nbody_timeout = \"5s\"";
        let flags = HttpFlags { max_connections: Some(32), ..HttpFlags::default() };
        let limits = load(text, flags).expect("is valid").limits(1_024, Some(1 << 30));
        assert_eq!((limits.connections, limits.connections_per_address), (32, 16));
        assert_eq!(limits.trusted_proxies, ["10.0.0.0/8".parse::<Network>().expect("a network")]);
        assert_eq!((limits.bytes, limits.body_pause), (1 << 30, Duration::from_secs(5)));
    }

    #[test]
    fn what_bounds_nothing_is_refused_by_its_name() {
        for (text, named) in [
            ("max_connections = 0", "max_connections"),
            ("max_connections_per_address = 1", "max_connections_per_address"),
            ("trusted_proxies = [\"proxy\"]", "trusted_proxies has 'proxy'"),
            ("request_memory = \"1M\"", "request_memory '1M'"),
            ("request_memory = \"€\"", "request_memory '€'"),
            ("request_memory = \"99999999999G\"", "request_memory"),
            ("header_timeout = \"0s\"", "header_timeout '0s'"),
            ("idle_timeout = \"2h\"", "idle_timeout '2h'"),
            ("write_timeout = \"30\"", "write_timeout '30'"),
            ("connections = 5", "connections"),
        ] {
            let error = format!("{:#}", load(text, HttpFlags::default()).expect_err("is refused"));
            assert!(error.contains(named), "{error}");
        }
    }
}
