//! Programs that the tests start.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tempfile::NamedTempFile;

use crate::LIMIT;

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
    name: String,
    child: Child,
    /// What it says, on both outputs.
    said: NamedTempFile,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// Starts a server and waits until its port accepts connections. `build` gets the port.
    ///
    /// # Panics
    /// With what the server said, at once when it ends and after `LIMIT` when it does not listen.
    pub async fn start(name: &str, build: impl FnOnce(u16) -> Command) -> Self {
        Self::on(free_port(), name, build).await
    }

    /// The same on this port: one that a server had before it was stopped.
    pub async fn on(port: u16, name: &str, build: impl FnOnce(u16) -> Command) -> Self {
        let said = NamedTempFile::new().expect("a file");
        let mut command = build(port);
        // Both write at the end of what is there.
        let both = fs::File::options().append(true).open(said.path()).expect("the file is there");
        command.stdin(Stdio::null()).stdout(both.try_clone().expect("a file")).stderr(both);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let mut server = Self { name: name.into(), child, said, port };
        let start = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = server.child.try_wait().expect("a child of ours") {
                panic!("{name} ended before it listened: {status}\n{}", server.said());
            }
            assert!(start.elapsed() < LIMIT, "{name} does not listen after {LIMIT:?}\n{}", server.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    /// The end of what it has said.
    fn said(&self) -> String {
        let said = fs::read(self.said.path()).unwrap_or_default();
        let tail = &said[said.len().saturating_sub(4_000)..];
        format!("--- {} said\n{}", self.name, String::from_utf8_lossy(tail))
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
        if std::thread::panicking()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            eprintln!("{} ended by itself: {status}\n{}", self.name, self.said());
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end with text on its standard input.
///
/// # Panics
/// When it has not ended after some `LIMIT`s: a whole program does many things, and some compile.
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
    let id = child.id();
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        // The program may end without reading.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        // Nobody listens any more after the limit.
        let _ = ended.send(child.wait_with_output());
    });
    let limit = 4 * LIMIT;
    if let Ok(output) = end.recv_timeout(limit) {
        return output.expect("its output is read");
    }
    // It may have ended just now.
    let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
    let output = end.recv().expect("the thread sends").expect("its output is read");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    panic!("{} {arguments:?} did not end within {limit:?}\n{said}{errors}", program.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "no port for me")]
    async fn a_server_that_ends_early_is_told_with_its_output() {
        Server::start("a server", |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "echo no port for me >&2; exit 3"]);
            command
        })
        .await;
    }

    #[test]
    fn a_program_gets_its_input_and_is_waited_for() {
        let output = run("sh".as_ref(), &["-c", "cat; echo \"$WORD\" >&2; exit 3"], &[("WORD", "err")], "in");
        assert_eq!(
            (output.status.code(), &*output.stdout, &*output.stderr),
            (Some(3), &b"in"[..], &b"err\n"[..])
        );
    }
}
