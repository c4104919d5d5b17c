//! A keep-alive connection, as thin as can be.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use airlock_tests::Daemon;
use serde_json::{Value, json};

/// One connection, on which requests can be under way before their answers are read.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Connection {
    pub(crate) fn open(daemon: &Daemon) -> Self {
        let address = daemon.url().replace("http://", "");
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("no delay");
        Self { stream: BufReader::new(stream), key: daemon.client.key.clone() }
    }

    /// Sends a POST without waiting for its answer.
    pub(crate) fn send_to(&mut self, path: &str, body: &Value) {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("is sent");
    }

    /// Sends a start that is answered with the result.
    pub(crate) fn send(&mut self, workflow: &str, input: &Value) {
        let body = json!({ "input": input, "wait_for_result": true });
        self.send_to(&format!("/v1/workflows/{workflow}/execute"), &body);
    }

    /// Reads an answer, which must be 200 or 202, and gives its body.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let (mut length, mut line) = (0, String::new());
        self.stream.read_line(&mut line).expect("a status line");
        let status = line.clone();
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a header");
            match line.trim().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        let well = status.contains(" 200 ") || status.contains(" 202 ");
        assert!(well, "{status}{}", String::from_utf8_lossy(&body));
        body
    }

    /// Runs a workflow to its end.
    pub(crate) fn execute(&mut self, workflow: &str, input: &Value) -> Duration {
        let start = Instant::now();
        self.send(workflow, input);
        self.receive();
        start.elapsed()
    }

    /// Sends the same POST so many times, over 64 connections at once.
    pub(crate) fn flood(daemon: &Daemon, path: &str, body: &Value, count: usize) -> Duration {
        let mut connections: Vec<_> = (0..64).map(|_| Self::open(daemon)).collect();
        let start = Instant::now();
        let mut left = count;
        while left > 0 {
            let now = left.min(connections.len());
            connections[..now].iter_mut().for_each(|connection| connection.send_to(path, body));
            connections[..now].iter_mut().for_each(|connection| drop(connection.receive()));
            left -= now;
        }
        start.elapsed()
    }
}
