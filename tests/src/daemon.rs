//! The real binary, in folders of its own.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use tempfile::TempDir;

use crate::{Client, LIMIT, binary, eventually, process::free_port, run};

/// What a daemon is started with.
pub struct Setup {
    /// Its folders; gone with this value.
    pub folder: TempDir,
    /// More arguments for `serve`.
    pub arguments: Vec<String>,
    /// More environment.
    pub environment: Vec<(String, String)>,
    /// Shell commands that run before the daemon, in a mount namespace of its own (needs root).
    pub mounts: Option<String>,
    /// Where it listens.
    pub port: u16,
}

impl Setup {
    /// Empty folders, and these files in the plugin folder.
    pub fn new(plugins: &[PathBuf]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let setup =
            Self { folder, arguments: Vec::new(), environment: Vec::new(), mounts: None, port: free_port() };
        fs::create_dir(setup.plugins()).expect("the plugin folder");
        for plugin in plugins {
            setup.install(plugin);
        }
        setup
    }

    /// Adds arguments for `serve`.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// The plugin folder.
    pub fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything that the daemon has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Puts a file into the plugin folder, as a person does who copies it there.
    pub fn install(&self, plugin: &Path) {
        let name = plugin.file_name().expect("a file name");
        fs::copy(plugin, self.plugins().join(name)).expect("the plugin is copied");
    }

    /// The command that starts the daemon.
    pub fn command(&self) -> Command {
        let log = fs::File::options().create(true).append(true).open(self.log_path()).expect("the log");
        let mut command = match &self.mounts {
            None => Command::new(binary()),
            Some(mounts) => {
                let mut command = Command::new("unshare");
                command.args(["-m", "sh", "-ec", &format!("{mounts}\nexec \"$@\""), "sh"]).arg(binary());
                command
            }
        };
        command
            .args(["serve", "--listen"])
            .arg(format!("127.0.0.1:{}", self.port))
            .arg("--plugins")
            .arg(self.plugins())
            .arg("--data")
            .arg(self.data())
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log);
        command
    }

    /// Starts the daemon and waits until it is ready.
    pub async fn start(self) -> Daemon {
        let child = self.command().spawn().expect("the daemon starts");
        let mut daemon = Daemon { child: Some(child), client: Client::new("", ""), setup: self };
        daemon.ready().await;
        daemon
    }

    /// Starts a daemon that is expected to give up, and returns how it ended and what it said.
    pub async fn fails(&self) -> (ExitStatus, String) {
        let mut child = self.command().spawn().expect("the daemon starts");
        let status =
            eventually(LIMIT, "the daemon gives up", async || child.try_wait().expect("a child of ours"))
                .await;
        (status, self.log())
    }
}

/// A running daemon; killed with this value.
pub struct Daemon {
    child: Option<Child>,
    /// Its folders and arguments.
    pub setup: Setup,
    /// A client with the owner's key.
    pub client: Client,
}

impl Daemon {
    /// A daemon with these plugins that may call servers on this machine.
    pub async fn with(plugins: &[PathBuf]) -> Self {
        Setup::new(plugins).with(&["--allow-loopback"]).start().await
    }

    /// The daemon's address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.setup.port)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// A path as the daemon sees it, when it has mounts of its own.
    pub fn inside(&self, path: &Path) -> PathBuf {
        match self.setup.mounts {
            None => path.into(),
            Some(_) => PathBuf::from(format!("/proc/{}/root{}", self.id(), path.display())),
        }
    }

    async fn ready(&mut self) {
        let key_file = self.inside(&self.setup.data()).join("owner.key");
        let url = self.url();
        let child = self.child.as_mut().expect("it runs");
        let setup = &self.setup;
        self.client = eventually(LIMIT, "the daemon is ready", async || {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                panic!("the daemon ended: {status}\n{}", setup.log());
            }
            // The line's end says that it is all there.
            let key = fs::read_to_string(&key_file).ok().filter(|key| key.ends_with('\n'))?;
            let client = Client::new(&url, key.trim());
            // Plugins are loaded in the background.
            let (status, answer) =
                client.try_call(reqwest::Method::GET, "/v1/airlock/status", None).await.ok()?;
            (status.is_success() && answer["sandbox"]["loading"] != true).then_some(client)
        })
        .await;
    }

    /// Ends the process as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        let status = child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it ended by itself before:\n{}", self.setup.log());
    }

    /// Starts the process again in the same folders.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        self.child = Some(self.setup.command().spawn().expect("the daemon starts"));
        self.ready().await;
    }

    /// Asks the process to stop, and returns how it did.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let id = child.id().to_string();
        run(Path::new("kill"), &["-TERM", &id], &[], "");
        eventually(LIMIT, "the daemon stops", async || child.try_wait().expect("a child of ours")).await
    }

    /// A client for another user, with a key made by the owner.
    pub async fn user(&self, name: &str) -> Client {
        let body = serde_json::json!({ "user": name, "name": format!("{name}'s key") });
        let answer = self.client.post("/v1/airlock/keys", &body).await;
        Client::new(&self.url(), answer["key"].as_str().expect("the key is shown once"))
    }

    /// Another owner.
    pub async fn owner(&self, name: &str) -> Client {
        let body = serde_json::json!({ "user": name, "name": format!("{name}'s key"), "role": "owner" });
        let answer = self.client.post("/v1/airlock/keys", &body).await;
        Client::new(&self.url(), answer["key"].as_str().expect("the key is shown once"))
    }

    /// Runs the command line against this daemon, with the owner's key.
    pub fn cli(&self, arguments: &[&str], input: &str) -> Output {
        let url = self.url();
        run(&binary(), arguments, &[("AIRLOCK_URL", &url), ("AIRLOCK_API_KEY", &self.client.key)], input)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.setup.log();
            let tail = log.len().saturating_sub(4_000);
            eprintln!("--- the daemon's log ends with\n{}", log.get(tail..).unwrap_or(&log));
        }
    }
}
