//! One HTTP client, one TLS stack, one place that sends: whatever else could carry a byte out of the daemon is found here,
//! in the dependencies and in the source.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use airlock_tests::root;
use serde_json::Value;

/// What `cargo tree` prints for the daemon as it is built.
fn tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "airlock", "-e", "normal", "--prefix", "none"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn there_is_one_http_client_and_one_tls_stack() {
    let packages: BTreeSet<String> =
        tree(&["--format", "{p}"]).lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect();
    let versions =
        |name: &str| packages.iter().filter(|package| package.starts_with(&format!("{name} v"))).count();
    for name in ["reqwest", "rustls", "hyper", "hyper-util", "h2", "rmcp", "aws-lc-rs"] {
        assert_eq!(versions(name), 1, "{name} is there more or less than once");
    }
    let others = [
        "native-tls",
        "openssl",
        "openssl-sys",
        "boring",
        "mbedtls",
        "ring",
        "ureq",
        "curl",
        "isahc",
        "surf",
        "attohttpc",
        "minreq",
        "awc",
        "hyper-tls",
        "tungstenite",
        "tonic",
        "octocrab",
        "jsonrpsee",
        "lettre",
        "hickory-resolver",
        "trust-dns-resolver",
        "ssh2",
        "russh",
        "sentry",
        "opentelemetry-otlp",
    ];
    for other in others {
        assert_eq!(versions(other), 0, "{other} is another way out");
    }
}

#[test]
fn few_crates_can_name_an_http_client() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let mut named = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let of_daemon = package["manifest_path"].as_str().expect("a path").contains("/host/");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let sends = [
                "reqwest",
                "hyper",
                "hyper-util",
                "h2",
                "rmcp",
                "socket2",
                "rustls",
                "tokio-rustls",
                "mio",
                "object_store",
            ];
            let name = dependency["name"].as_str().expect("a name");
            if of_daemon && dependency["kind"].is_null() && sends.contains(&name) {
                named.insert(format!("{} {name}", package["name"].as_str().expect("a name")));
            }
        }
    }
    let expected = [
        // The command line, which speaks to its own daemon, and the demo server.
        "airlock reqwest",
        "airlock rmcp",
        // What serves: it takes connections and opens none.
        "airlock-api hyper",
        "airlock-api hyper-util",
        "airlock-connectors reqwest",
        "airlock-connectors rmcp",
        // Sealed payloads, to the store that the operator names.
        "airlock-store object_store",
    ];
    assert_eq!(named, expected.map(str::to_owned).into(), "who can send has changed");
}

/// The files of the daemon that are not tests, with their lines up to the tests at their end.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join("host")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("lists") {
            let path = entry.expect("lists").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                if !["tests", "benches", "examples"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && !is_for_tests(&path) {
                let text = fs::read_to_string(&path).expect("reads");
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                let place = path.strip_prefix(root()).expect("inside").display().to_string();
                found.push((place, code.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    found
}

/// Whether the module above says that a file is compiled for tests alone.
fn is_for_tests(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = path.parent().expect("a folder");
    let above = [folder.join("mod.rs"), folder.with_extension("rs"), folder.join("lib.rs")];
    above.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| {
        ["mod", "pub(crate) mod", "pub(super) mod"]
            .iter()
            .any(|word| text.contains(&format!("#[cfg(test)]\n{word} {stem};")))
    })
}

/// Whether a word stands in the code, and not as the end of a longer name.
fn stands(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|char| char.is_alphanumeric() || char == '_')
    })
}

const EGRESS: &str = "host/connectors/src/egress/mod.rs";
/// The command line as the client of its daemon: another process, which knows an API key and no connector's secret.
const CLIENT: &str = "host/daemon/src/client.rs";
/// The daemon's own program as a process that has nothing but a component and the file for its code.
const COMPILER: &str = "host/sandbox/src/compiler/child.rs";
/// What takes connections of others and opens none.
const SERVING: [&str; 2] = ["host/api/src/serve.rs", "host/api/src/connections/socket.rs"];

#[test]
fn only_the_egress_sends() {
    let ways_out: [(&[&str], &[&str]); 11] = [
        (&["reqwest::Client", "reqwest::blocking", "reqwest::get", "ClientBuilder"], &[EGRESS, CLIENT]),
        (&[".send().await", ".send()\n", "client.execute("], &[EGRESS, CLIENT]),
        // rmcp's own ways to send: it is given ours instead (`mcp/transport.rs`).
        (&["post_message_with", ".post_message(", ".get_stream_with", ".get_stream("], &[]),
        (
            &[
                "StreamableHttpClientTransport::from",
                "TokioChildProcess",
                "SseClient",
                "AuthorizationManager::new(",
            ],
            &[],
        ),
        (&["TcpStream", "TcpSocket", "UdpSocket", "UnixStream", "UnixDatagram", "socket2"], &SERVING),
        (&["TcpStream::connect", "hyper::client", "hyper_util::client"], &[]),
        (&["hyper::", "hyper_util"], &SERVING),
        (&["h2::", "tokio_rustls", "rustls::", "ureq", "curl::", "native_tls"], &[]),
        // Guests have no sockets of their own.
        (
            &[
                "inherit_network",
                "allow_tcp(true)",
                "allow_udp(true)",
                "allow_ip_name_lookup(true)",
                "socket_addr_check",
                "wasi_http",
            ],
            &[],
        ),
        (&["lookup_host", "to_socket_addrs", "getaddrinfo"], &["host/connectors/src/egress/address.rs"]),
        // The operator's own command for the master key, and this very program, which compiles a component.
        (&["process::Command", "Command::new("], &["host/daemon/src/master_key.rs", COMPILER]),
    ];
    let sources = sources();
    assert!(sources.len() > 100, "{} files", sources.len());
    let mut seen = BTreeSet::new();
    for (words, allowed) in ways_out {
        for (place, code) in &sources {
            for word in words {
                if stands(code, word) {
                    assert!(allowed.contains(&place.as_str()), "{place} has another way out: {word}");
                    seen.insert(place.as_str());
                }
            }
        }
    }
    let others = ["host/connectors/src/egress/address.rs", "host/daemon/src/master_key.rs"];
    let expected = [EGRESS, CLIENT, COMPILER].into_iter().chain(SERVING).chain(others);
    assert_eq!(seen, expected.collect(), "the search finds what is there");
}

#[test]
fn the_command_lines_client_is_not_used_by_the_server() {
    for (place, code) in sources() {
        let of_server = !place.starts_with("host/daemon/")
            || ["serve.rs", "master_key.rs", "hardening.rs", "logging.rs"]
                .iter()
                .any(|name| place.ends_with(name));
        if of_server && place != CLIENT {
            assert!(!code.contains("client::Daemon") && !code.contains("crate::client"), "{place}");
        }
    }
}

#[test]
fn the_egress_follows_no_redirect_by_itself_and_takes_no_proxy_from_the_environment() {
    let code = fs::read_to_string(root().join(EGRESS)).expect("reads");
    for promise in ["redirect::Policy::none()", ".no_proxy()", ".dns_resolver(address::resolver(allowed))"] {
        assert!(code.contains(promise), "{promise}");
    }
    assert_eq!(code.matches("reqwest::Client::builder()").count(), 1, "one client");
    assert!(!code.contains("cookie_store") && !code.contains("danger_accept"), "{EGRESS}");
}
