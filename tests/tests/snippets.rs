//! docs/connectors.md does what it says: every block is run, in its order, against a real daemon and real servers.
//!
//! The line that opens a block says how: the language and a name (`sh`, `python` with a version of the client if it is not
//! 2.8.0), a file to be there from the start (`file=NAME`), or a crate of which it is a part (`rust NAME`). A line that
//! begins with `#>` stands in what the block prints; `…` in it stands for anything. Addresses under `.example` are
//! replaced by those of servers on this machine, on the way in and on the way out.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use airlock_tests::{Daemon, LIMIT, Server, Setup, binary, dependency, root, run};

/// A block of the page.
struct Block {
    line: usize,
    language: String,
    name: String,
    more: Option<String>,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for (number, line) in page.lines().enumerate() {
        match (is_inside, line.strip_prefix("```")) {
            (true, Some(_)) => is_inside = false,
            (true, None) => {
                let block = blocks.last_mut().expect("a block was begun");
                block.text.push_str(line);
                block.text.push('\n');
            }
            (false, None) => {}
            (false, Some(info)) => {
                let mut words = info.split_whitespace().map(str::to_owned);
                let (language, name) = (words.next(), words.next());
                let missing = || panic!("line {}: a block has a language and a name", number + 1);
                blocks.push(Block {
                    line: number + 1,
                    language: language.unwrap_or_else(missing),
                    name: name.unwrap_or_else(missing),
                    more: words.next(),
                    text: String::new(),
                });
                is_inside = true;
            }
        }
    }
    blocks
}

/// The files that blocks are, by name.
fn files(blocks: &[Block]) -> BTreeMap<String, String> {
    let file = |block: &Block| Some((block.name.strip_prefix("file=")?.to_owned(), block.text.clone()));
    blocks.iter().filter_map(file).collect()
}

/// Names of servers and what they stand for here.
struct Names(Vec<(&'static str, String)>);

impl Names {
    fn here(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, here)| text.replace(name, here))
    }

    fn there(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, here)| text.replace(here, name))
    }
}

/// Whether a text has a line in which these parts follow each other.
fn has(text: &str, wanted: &str) -> bool {
    let parts: Vec<&str> = wanted.split('…').collect();
    text.lines().any(|line| {
        let mut rest = line;
        parts.iter().all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    })
}

/// What runs the blocks.
struct Page {
    folder: PathBuf,
    environment: Vec<(String, String)>,
    names: Names,
}

impl Page {
    fn run(&self, block: &Block) {
        let text = self.names.here(&block.text);
        let output = match block.language.as_str() {
            "sh" => self.program(Path::new("bash"), &["-euo", "pipefail", "-c", &text]),
            "python" => self.python(block.more.as_deref().unwrap_or("2.8.0"), &text),
            other => panic!("line {}: nothing runs {other}", block.line),
        };
        let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let said = self.names.there(&said.concat());
        let here = format!("the block '{}' in line {}", block.name, block.line);
        assert!(output.status.success(), "{here} fails:\n{said}");
        for wanted in block.text.lines().filter_map(|line| line.trim_start().strip_prefix("#> ")) {
            assert!(has(&said, wanted), "{here} does not print '{wanted}':\n{said}");
        }
    }

    fn program(&self, program: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new("env");
        command.arg("-C").arg(&self.folder).arg(program).args(arguments);
        let arguments: Vec<&str> = command.get_args().map(|text| text.to_str().expect("text")).collect();
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        run(Path::new("env"), &arguments, &environment, "\n\n\n")
    }

    /// Runs a block as a notebook does: `await` may stand at its top.
    fn python(&self, version: &str, text: &str) -> Output {
        const NOTEBOOK: &str = "import ast, asyncio, inspect, sys\n\
            code = compile(sys.argv[1], 'block', 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)\n\
            done = eval(code, {'__name__': '__main__'})\n\
            inspect.iscoroutine(done) and asyncio.run(done)\n";
        let python = dependency(&format!("mistralai-{version}")).join("bin/python");
        self.program(&python, &["-c", NOTEBOOK, text])
    }
}

/// A crate as `airlock plugin new` makes it, with these lines as its code.
fn scaffold(folder: &Path, name: &str, code: &str) {
    let place = folder.join(name);
    let made = run(&binary(), &["plugin", "new", name, "--folder", place.to_str().expect("text")], &[], "");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(place.join("src/lib.rs"), code).expect("writes");
    let manifest = place.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("reads");
    let text = text.replace("[dev-dependencies]\nserde_json", "serde_json");
    fs::write(manifest, text).expect("writes");
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).expect("writes");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("can be changed");
}

async fn node(name: &str, script: PathBuf, arguments: impl FnOnce(u16) -> Vec<String>) -> Server {
    Server::start(name, |port| {
        let mut command = Command::new("node");
        command.arg(script).args(arguments(port));
        command
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_of_the_page_about_connectors_runs() {
    let page = fs::read_to_string(root().join("docs/connectors.md")).expect("the page");
    let blocks = blocks(&page);
    let work = tempfile::tempdir().expect("a folder");
    let folder = work.path().to_path_buf();

    // The servers behind the names.
    let token = "ghp_0123456789abcdef";
    let github = Server::start("demo-server", |port| {
        let mut command = Command::new(binary());
        command.args(["demo-server", "--token-env", "DEMO_TOKEN", "--listen"]);
        command.arg(format!("127.0.0.1:{port}")).env("DEMO_TOKEN", token);
        command
    })
    .await;
    let (notion, httpbin) = (Server::everything().await, Server::httpbin().await);
    let accounts = node("oauth2-mock-server", root().join("tests/servers/oauth2-mock.mjs"), |port| {
        vec![dependency("oauth").display().to_string(), port.to_string()]
    })
    .await;
    let todos = folder.join("todos-of-prism.yaml");
    let given = files(&blocks);
    fs::write(&todos, &given["todos.yaml"]).expect("writes");
    let prism = dependency("rest/node_modules/@stoplight/prism-cli/dist/index.js");
    let todos = node("prism", prism, |port| {
        let arguments = ["mock", "-h", "127.0.0.1", "-p", &port.to_string(), todos.to_str().expect("text")];
        arguments.map(str::to_owned).into()
    })
    .await;

    // The daemon, with the settings of the page.
    let setup = Setup::new(&[]);
    let names = Names(vec![
        ("https://mcp.github.example", github.url("")),
        ("https://mcp.notion.example", notion.url("")),
        ("https://mcp.outlook.example", notion.url("")),
        ("https://crm.example", httpbin.url("/anything")),
        ("https://app.example", httpbin.url("")),
        ("https://accounts.example", accounts.url("")),
        ("https://todos.example", todos.url("")),
        ("https://airlock.example", format!("http://127.0.0.1:{}", setup.port)),
    ]);
    for (name, text) in &given {
        fs::write(folder.join(name), names.here(text)).expect("writes");
    }
    let settings = folder.join("airlock.toml");
    let settings = settings.to_str().expect("text").to_owned();
    let daemon: Daemon = setup.with(&["--allow-loopback", "--config", &settings]).start().await;

    // The plugins whose code stands on the page in parts.
    let mut crates: BTreeMap<&str, String> = BTreeMap::new();
    for block in blocks.iter().filter(|block| block.language == "rust") {
        let code = crates.entry(&block.name).or_default();
        code.push_str(&block.text);
        code.push('\n');
    }
    for (name, code) in &crates {
        scaffold(&folder, name, code);
    }

    // A desktop on which links open in a browser that nobody has to help.
    let desktop = folder.join("desktop");
    fs::create_dir(&desktop).expect("is made");
    let browser = r#"#!/bin/sh
visit() { curl --silent --show-error --location --cookie-jar jar --cookie jar --output page "$@"; }
visit "$1" || exit
# The page that asks has a button.
token=$(sed -n 's/.*name="token" value="\([^"]*\)".*/\1/p' page)
test -z "$token" || visit --data "token=$token" "$1"
"#;
    for name in ["xdg-open", "browser"] {
        executable(&desktop.join(name), browser);
    }
    std::os::unix::fs::symlink(binary(), desktop.join("airlock")).expect("is made");
    let path = std::env::var("PATH").unwrap_or_default();
    let environment = [
        ("PATH", format!("{}:{path}", desktop.display())),
        ("BROWSER", format!("{} %s", desktop.join("browser").display())),
        ("AIRLOCK_URL", daemon.url()),
        ("AIRLOCK_API_KEY", daemon.client.key.clone()),
        ("AIRLOCK_PLUGINS", daemon.setup.plugins().display().to_string()),
        ("CARGO_TARGET_DIR", root().join("target/scaffold").display().to_string()),
        ("GITHUB_PAT", token.to_owned()),
        ("NO_COLOR", "1".into()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
    let page = Page { folder, environment, names };
    for block in &blocks {
        match block.language.as_str() {
            "sh" | "python" => page.run(block),
            "rust" => assert!(crates.contains_key(block.name.as_str())),
            "json" | "yaml" | "toml" => {
                assert!(block.name.starts_with("file="), "line {}: a file", block.line)
            }
            other => panic!("line {}: a block of {other} is not run", block.line),
        }
        if block.name == "build" {
            for name in crates.keys() {
                let name = name.replace('-', "_");
                airlock_tests::eventually(LIMIT, "the plugin is taken up", async || {
                    let plugin = daemon.client.get("/v1/airlock/plugins").await.to_string();
                    (plugin.contains(&name) && plugin.matches("\"ready\"").count() >= crates.len())
                        .then_some(())
                })
                .await;
            }
        }
    }
}
