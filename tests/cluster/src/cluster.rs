//! A scratch cluster: the one that tests share, or one of their own for tests that restart or crash it.
//!
//! Two environment variables are taken away from the servers: INFINITY_API_URL, because a test names the server it means,
//! and RUST_BACKTRACE, with which a backend's first error takes 150 ms more and tells its user a stack.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postgres::{Client, Config, NoTls};

use crate::{Backend, Database, wait_until};

/// The shared cluster's name, and the beginning of the others'. `tests/run` sets the variable to a name of its own, and
/// destroys the cluster when the tests have ended; after tests by hand it runs on, for the next ones.
fn shared_name() -> String {
    std::env::var("INFINITY_EMBED_TEST_CLUSTER").unwrap_or_else(|_| "test".to_owned())
}

/// How long a cluster may take to come back.
const CRASH: Duration = Duration::from_secs(60);

/// Root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the repository is two folders up")
}

/// A running PostgreSQL with the extension installed but not created.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    environment: HashMap<String, String>,
    /// A cluster of one test's own goes with its owner.
    owned: bool,
}

impl Cluster {
    /// The cluster that all tests share. Do not restart it or change its settings.
    pub fn shared() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| Self::start_named(shared_name(), &[], &[], false))
    }

    /// A new cluster with these lines in postgresql.conf, destroyed on drop.
    pub fn start_new(settings: &[(&str, &str)]) -> Self {
        Self::start_new_with_environment(settings, &[])
    }

    /// The same, with environment variables for the server's process.
    pub fn start_new_with_environment(
        settings: &[(&str, &str)],
        variables: &[(&str, &str)],
    ) -> Self {
        Self::start_named(new_name(), settings, variables, true)
    }

    /// A streaming standby of this one, with its settings, destroyed on drop.
    pub fn standby(&self) -> Self {
        let mut standby = Self {
            name: new_name(),
            environment: HashMap::new(),
            owned: true,
        };
        standby.script("standby", std::slice::from_ref(&self.name), &[]);
        standby.read_environment();
        standby
    }

    /// Makes a standby a primary, and waits for that.
    pub fn promote(&self) {
        self.script("promote", &[], &[]);
    }

    fn start_named(
        name: String,
        settings: &[(&str, &str)],
        variables: &[(&str, &str)],
        owned: bool,
    ) -> Self {
        let mut cluster = Self {
            name,
            environment: HashMap::new(),
            owned,
        };
        cluster.script("start", &lines(settings), variables);
        cluster.read_environment();
        cluster
    }

    fn read_environment(&mut self) {
        self.environment = self
            .script("environment", &[], &[])
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
    }

    /// Runs `scripts/cluster.sh` and returns what it printed.
    fn script(&self, command: &str, arguments: &[String], variables: &[(&str, &str)]) -> String {
        let output = self.run_script(command, arguments, variables);
        assert!(
            output.status.success(),
            "cluster.sh {command} {}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("cluster.sh prints UTF-8")
    }

    fn run_script(
        &self,
        command: &str,
        arguments: &[String],
        variables: &[(&str, &str)],
    ) -> Output {
        Command::new(repository().join("scripts/cluster.sh"))
            .args([command, &self.name])
            .args(arguments)
            .env_remove("INFINITY_API_URL")
            .env_remove("RUST_BACKTRACE")
            .envs(variables.iter().copied())
            .output()
            .expect("scripts/cluster.sh can be run")
    }

    /// Starts a stopped or crashed cluster again.
    pub fn start(&self) {
        self.script("start", &[], &[]);
    }

    /// Starts it after `postmaster().kill()`. Until its children have gone it cannot start, and until the dead postmaster has been
    /// waited for, pg_ctl takes it for a running one.
    pub fn start_after_crash(&self) {
        wait_until("the cluster has started again", CRASH, || {
            self.run_script("start", &[], &[]).status.success()
                && self.config("postgres", "postgres").connect(NoTls).is_ok()
        });
    }

    /// The same, with more lines in postgresql.conf.
    pub fn start_with(&self, settings: &[(&str, &str)]) {
        self.script("start", &lines(settings), &[]);
    }

    /// Starts it with options of the program postgres, such as `-b`, in which pg_upgrade runs it.
    pub fn start_with_options(&self, options: &str) {
        self.script("start", &[], &[("SERVER_OPTIONS", options)]);
    }

    /// Stops it in PostgreSQL's mode "fast", and waits for that.
    pub fn stop(&self) {
        self.script("stop", &[], &[]);
    }

    /// Stops it in PostgreSQL's mode "immediate": a crash, but for the files of the operating system.
    pub fn stop_at_once(&self) {
        self.script("stop", &["immediate".to_owned()], &[]);
    }

    /// Stops and starts it.
    pub fn restart(&self) {
        self.script("restart", &[], &[]);
    }

    /// The process that all others are children of. To crash the cluster: `postmaster().kill()`, then `start_after_crash()`.
    pub fn postmaster(&self) -> Backend {
        let file = Path::new(&self.environment["DATA"]).join("postmaster.pid");
        let content = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let line = content.lines().next().unwrap_or_default();
        Backend::new(line.parse().expect("the first line is a process id"))
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.environment["LOG"]).expect("the cluster has a log")
    }

    /// The line of the log that tells of a segmentation fault, an abort or a PANIC, which a restart would hide from a test.
    fn find_crash(&self) -> Option<String> {
        let log = std::fs::read_to_string(self.environment.get("LOG")?).ok()?;
        let is_crash = |line: &&str| {
            [
                "terminated by signal 11",
                "terminated by signal 6",
                "PANIC:",
            ]
            .iter()
            .any(|sign| line.contains(sign))
        };
        log.lines().find(is_crash).map(str::to_owned)
    }

    /// The folder of the cluster's data.
    pub fn data(&self) -> &Path {
        Path::new(&self.environment["DATA"])
    }

    /// A program of the private PostgreSQL, told about this cluster by its environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(Path::new(&self.environment["BINDIR"]).join(program));
        for variable in ["PGHOST", "PGPORT", "PGUSER"] {
            command.env(variable, &self.environment[variable]);
        }
        command
    }

    /// A session's configuration, as any role: nobody is asked for a password.
    pub fn config(&self, database: &str, role: &str) -> Config {
        let mut config = Config::new();
        config
            .host(&self.environment["PGHOST"])
            .port(self.environment["PGPORT"].parse().expect("a port"))
            .user(role)
            .dbname(database)
            .application_name("cluster-tests");
        config
    }

    /// A session as a superuser.
    pub fn connect(&self, database: &str) -> Client {
        self.config(database, "postgres")
            .connect(NoTls)
            .unwrap_or_else(|error| panic!("cannot connect to {}: {error:?}", self.name))
    }

    /// A fresh database with the extension created, dropped on drop.
    pub fn database(&self) -> Database<'_> {
        let database = self.empty_database();
        database.run("CREATE EXTENSION infinity_embed");
        database
    }

    /// A fresh database without the extension, dropped on drop.
    pub fn empty_database(&self) -> Database<'_> {
        Database::new(self)
    }
}

/// A name for a cluster of one test's own.
fn new_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{number}", shared_name(), std::process::id())
}

/// Settings as `scripts/cluster.sh` takes them.
fn lines(settings: &[(&str, &str)]) -> Vec<String> {
    settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owned {
            let crash = self.find_crash();
            self.script("destroy", &[], &[]);
            if let Some(line) = crash.filter(|_| !std::thread::panicking()) {
                panic!("a process of {} crashed: {line}", self.name);
            }
        }
    }
}
