//! Programs that the tests start.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::eventually;

/// A port that is free at this moment, and that no other test of this process was given.
pub fn free_port() -> u16 {
    // Below the range from which the system gives ports to outgoing connections.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 12_000;
    for _ in 0..12_000 {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = u16::try_from(port).expect("ports end at 65,535");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// A server process that ends with this value.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// Starts a server and waits until its port accepts connections. `build` gets the port.
    pub async fn start(name: &str, build: impl FnOnce(u16) -> Command) -> Self {
        let port = free_port();
        let mut command = build(port);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let server = Self { child, port };
        eventually(Duration::from_secs(30), &format!("{name} listens"), async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        server
    }

    /// The reference MCP server with every feature.
    pub async fn everything() -> Self {
        let folder = crate::dependency("server-everything");
        Self::start("server-everything", |port| {
            let mut command = Command::new("node");
            command
                .arg(folder.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js"))
                .arg("streamableHttp")
                .env("PORT", port.to_string());
            command
        })
        .await
    }

    /// An HTTP server that reflects, redirects, delays, fails and compresses.
    pub async fn httpbin() -> Self {
        let folder = crate::dependency("httpbin");
        Self::start("httpbin", |port| {
            let mut command = Command::new(folder.join("bin/gunicorn"));
            command.args(["-b", &format!("127.0.0.1:{port}"), "httpbin:app"]);
            command
        })
        .await
    }

    /// An address on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end with text on its standard input.
pub fn run(program: &Path, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
    let mut stdin = child.stdin.take().expect("a pipe");
    // The program may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}
