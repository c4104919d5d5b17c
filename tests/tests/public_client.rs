//! The public Python client, unchanged, in both generations.

use std::process::Command;

use airlock_tests::{Daemon, Server, binary, dependency, guest, root, run};

const TOKEN: &str = "demo-token-0123456789abcdef";

async fn holds(version: &str) {
    let server = Server::start("demo-server", |port| {
        let mut command = Command::new(binary());
        command
            .args(["demo-server", "--token-env", "DEMO_TOKEN", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .env("DEMO_TOKEN", TOKEN);
        command
    })
    .await;
    let daemon = Daemon::with(&[guest("hello"), guest("github-issues"), guest("durable")]).await;
    let python = dependency(&format!("mistralai-{version}")).join("bin/python");
    let script = root().join("tests/clients/public_client.py");
    let script = script.to_str().expect("a path in UTF-8");
    let output =
        run(&python, &[script, &daemon.url(), &daemon.client.key, &server.url("/mcp"), TOKEN], &[], "");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    println!("{out}");
}

#[tokio::test]
async fn the_client_2_8_0_works_unchanged() {
    holds("2.8.0").await;
}

#[tokio::test]
async fn the_client_3_7_0_works_unchanged() {
    holds("3.7.0").await;
}
