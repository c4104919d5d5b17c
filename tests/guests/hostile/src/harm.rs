//! Harm that activities and workflows have in common.

use std::{collections::BTreeMap, hint::black_box};

use serde_json::{Value, json};

pub(crate) fn endless_loop() -> ! {
    loop {
        black_box(());
    }
}

pub(crate) fn take_memory() -> ! {
    let mut taken = Vec::new();
    loop {
        taken.push(vec![1_u8; 1 << 20]);
        black_box(&taken);
    }
}

/// Takes so many megabytes, for as long as what this gives is there.
pub(crate) fn hoard(megabytes: usize) -> Vec<Vec<u8>> {
    let taken = (0..megabytes).map(|_| vec![1_u8; 1 << 20]).collect();
    black_box(taken)
}

#[allow(unconditional_recursion, reason = "that is the harm")]
pub(crate) fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + black_box(frame[1])
}

/// Everything that the standard library can tell of the host.
pub(crate) fn environment() -> Value {
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let arguments: Vec<String> = std::env::args().collect();
    let folder = |path: &str| match std::fs::read_dir(path) {
        Ok(entries) => {
            json!(
                entries
                    .flatten()
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .collect::<Vec<_>>()
            )
        }
        Err(error) => json!(error.to_string()),
    };
    let connect = match std::net::TcpStream::connect("127.0.0.1:80") {
        Ok(_) => "connected".to_owned(),
        Err(error) => error.to_string(),
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(|since| since.as_millis() as u64);
    json!({
        "variables": variables,
        "arguments": arguments,
        "root": folder("/"),
        "here": folder("."),
        "passwd": std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string()).unwrap_or_else(|error| error),
        "connect": connect,
        "now_ms": now.ok(),
        "random": random(),
    })
}

/// What the host's random source gives, by way of a hash map's keys.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(1)
}
