//! Compiling: what is not compiled at all, what takes too long, and that neither makes anybody else wait.

use std::{fs, path::PathBuf, time::Duration};

use airlock_engine::guests::{GuestError, Guests, PluginState};
use airlock_patience::LIMIT;
use airlock_sandbox::{Program, Sandbox, SandboxConfig};

use crate::{
    guests,
    room::{Room, digest_of, open, rejection, run, status, until},
};

/// A room whose compiler is a line of shell: it knows the code of the hostile guest, and does `other` for everything else.
/// Each time it is asked it writes a line into the file `asked`.
struct Shell {
    room: Room,
    tools: tempfile::TempDir,
}

impl Shell {
    async fn new() -> Self {
        let room = Room::new();
        room.put("hostile.wasm", guests::hostile());
        drop(room.open().await);
        let tools = tempfile::tempdir().unwrap();
        let code = fs::read_dir(room.data().join("compiled")).unwrap().map(|entry| entry.unwrap().path());
        let code = code.into_iter().find(|path| path.extension().unwrap() == "cwasm").unwrap();
        fs::copy(code, tools.path().join("code")).unwrap();
        fs::remove_dir_all(room.data()).unwrap();
        fs::remove_file(room.plugins().join("hostile.wasm")).unwrap();
        Self { room, tools }
    }

    fn asked(&self) -> PathBuf {
        self.tools.path().join("asked")
    }

    fn times_asked(&self) -> usize {
        fs::read_to_string(self.asked()).unwrap_or_default().lines().count()
    }

    fn config(&self, other: &str) -> SandboxConfig {
        let (tools, size) = (self.tools.path().display(), guests::hostile().len());
        let line = format!(
            "ulimit -c 0; n=$(wc -c); echo $n >> {tools}/asked; if [ $n = {size} ]; then cat {tools}/code; else {other}; fi"
        );
        let mut config = self.room.config();
        config.compiling.program =
            Some(Program { path: "/bin/sh".into(), arguments: vec!["-c".into(), line, "compiler".into()] });
        config.compiling.at_once = 1;
        config.compiling.patience = Duration::from_millis(200);
        config
    }
}

fn is_loading(sandbox: &Sandbox, name: &str) -> bool {
    status(sandbox, name).is_some_and(|status| matches!(status.state, PluginState::Loading))
}

/// A component that is valid and is no plugin, and another one for each tag.
fn tagged(tag: u8) -> Vec<u8> {
    let section = [&[0, 200, 1, 1, b'x'][..], &[tag; 198]].concat();
    [guests::stranger(), section].concat()
}

#[tokio::test]
async fn a13_what_never_compiles_keeps_nobody_from_being_served_and_stops_with_its_file() {
    let shell = Shell::new().await;
    for name in ["aaa", "bbb", "ccc"] {
        shell.room.put(&format!("{name}.wasm"), tagged(name.as_bytes()[0]));
    }
    shell.room.put("hostile.wasm", guests::hostile());
    // It is open before anything is compiled.
    let sandbox = Sandbox::open(shell.config("exec sleep 1000")).await.unwrap();
    assert!(is_loading(&sandbox, "aaa"));
    until("the good one to serve", || sandbox.serving("one-step").is_some()).await;
    assert!(is_loading(&sandbox, "aaa"));
    assert!(run(&sandbox, &digest_of(&sandbox, "hostile"), "noop", "null").await.is_ok());
    // Another one that comes later does not wait either: the same code under another name is another file to be judged.
    fs::rename(shell.room.plugins().join("hostile.wasm"), shell.room.plugins().join("zzz.wasm")).unwrap();
    until("the other name", || status(&sandbox, "zzz").is_some_and(|it| !is_loading(&sandbox, &it.name)))
        .await;
    digest_of(&sandbox, "zzz");
    for name in ["aaa", "bbb", "ccc"] {
        fs::remove_file(shell.room.plugins().join(format!("{name}.wasm"))).unwrap();
    }
    assert!(sandbox.settled(LIMIT).await);
    assert_eq!(sandbox.plugins().len(), 1);
}

#[tokio::test]
async fn a13_who_misses_a_workflow_while_plugins_are_loaded_waits_for_it() {
    let shell = Shell::new().await;
    shell.room.put("hostile.wasm", guests::hostile());
    let sandbox = Sandbox::open(shell.config("exit 65")).await.unwrap();
    sandbox.loaded().await;
    assert!(sandbox.serving("one-step").is_some());
}

#[tokio::test]
async fn a13_what_cannot_be_compiled_is_remembered_and_costs_nothing_again() {
    let shell = Shell::new().await;
    shell.room.put("bad.wasm", guests::stranger());
    let sandbox = open(shell.config("kill -XCPU $$")).await;
    let first = rejection(&sandbox, "bad").unwrap();
    assert!(first.starts_with("it needs more than 10 s of processor time to be compiled"), "{first}");
    // Under another name, after a restart, for a run that is pinned to it.
    shell.room.put("again.wasm", guests::stranger());
    until("the second rejection", || rejection(&sandbox, "again").is_some()).await;
    assert_eq!(rejection(&sandbox, "again"), Some(first.clone()));
    let digest = status(&sandbox, "bad").unwrap().digest;
    drop(sandbox);
    let again = open(shell.config("kill -XCPU $$")).await;
    assert_eq!(rejection(&again, "bad"), Some(first));
    fs::write(shell.room.data().join(format!("components/{digest}.wasm")), guests::stranger()).unwrap();
    assert!(matches!(again.definition(&digest).await, Err(GuestError::Host(_))));
    assert_eq!(shell.times_asked(), 1);
    drop(again);
    // With more time it may be another matter.
    let mut config = shell.config("kill -XCPU $$");
    config.compiling.cpu_base = Duration::from_secs(20);
    let more = open(config).await;
    assert!(rejection(&more, "bad").unwrap().contains("more than 20 s"));
    assert!(shell.times_asked() > 1);
}

#[tokio::test]
async fn a13_a_compiler_that_fails_by_itself_is_asked_again() {
    let shell = Shell::new().await;
    shell.room.put("bad.wasm", guests::stranger());
    for _ in 0..2 {
        let sandbox = open(shell.config("echo no luck >&2; exit 70")).await;
        let error = rejection(&sandbox, "bad").unwrap();
        assert!(error.contains("the compiler ended early") && error.contains("no luck"), "{error}");
    }
    assert_eq!(shell.times_asked(), 2);
}

#[tokio::test]
async fn a13_code_that_is_no_code_is_not_run() {
    let shell = Shell::new().await;
    shell.room.put("bad.wasm", guests::stranger());
    let sandbox = open(shell.config("echo this is no code")).await;
    assert!(
        rejection(&sandbox, "bad").unwrap().starts_with("it cannot be"),
        "{:?}",
        rejection(&sandbox, "bad")
    );
}

#[tokio::test]
async fn a13_a_component_that_would_take_minutes_is_refused_by_what_makes_it_so_before_it_is_compiled() {
    let room = Room::new();
    let locals = "(local i32)".repeat(12_000);
    room.put("locals.wasm", wat::parse_str(format!("(component (core module (func {locals})))")).unwrap());
    let conditions = "(if (local.get 0) (then))".repeat(30_000);
    let text = format!("(component (core module (func (param i32) {conditions})))");
    room.put("conditions.wasm", wat::parse_str(text).unwrap());
    let sandbox = room.open().await;
    for (name, what) in [
        ("locals", "it has 12000 locals in one function, and there can be at most 10000: it is not compiled"),
        ("conditions", "it has 30000 blocks, loops and conditions in one function"),
    ] {
        let error = rejection(&sandbox, name).unwrap();
        assert!(error.starts_with(what), "{error}");
    }
    assert_eq!(sandbox.stats().compiles, 0);
}
