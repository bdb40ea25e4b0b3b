//! A fresh database of a cluster, with roles of its own, gone when the test is over.

use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use postgres::error::DbError;
use postgres::{Client, NoTls};

use crate::Cluster;

/// A database that lives as long as this value.
#[derive(Debug)]
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
    roles: Mutex<Vec<String>>,
}

impl<'a> Database<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("d{}_{number}", std::process::id());
        let mut client = cluster.connect("postgres");
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .expect("a database can be made");
        Self {
            cluster,
            name,
            roles: Mutex::new(Vec::new()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster it lies in.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// A new session as a superuser.
    pub fn client(&self) -> Client {
        self.cluster.connect(&self.name)
    }

    /// A new session as another role.
    pub fn client_as(&self, role: &str) -> Client {
        self.cluster
            .config(&self.name, role)
            .connect(NoTls)
            .unwrap_or_else(|error| panic!("cannot connect as {role}: {error}"))
    }

    /// Makes an ordinary role that may log in, and returns its name, which is unique in the cluster.
    pub fn role(&self, name: &str) -> String {
        let role = format!("{}_{name}", self.name);
        self.run(&format!("CREATE ROLE {role} LOGIN"));
        self.roles
            .lock()
            .expect("no panic while held")
            .push(role.clone());
        role
    }

    /// Runs statements in a session of their own, as a superuser.
    ///
    /// # Panics
    /// When one of them fails.
    pub fn run(&self, statements: &str) {
        if let Err(error) = self.client().batch_execute(statements) {
            panic!("{statements}: {error:?}");
        }
    }

    /// Gives a setting a value for all later sessions in this database.
    pub fn set(&self, setting: &str, value: &str) {
        let value = value.replace('\'', "''");
        self.run(&format!(
            "ALTER DATABASE {} SET {setting} = '{value}'",
            self.name
        ));
    }

    /// Feeds a script to psql, which goes on after errors.
    pub fn psql(&self, script: &str) -> Output {
        let mut child = self
            .cluster
            .command("psql")
            .args(["--no-psqlrc", "--quiet", "--file", "-", &self.name])
            .env("PAGER", "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql can be run");
        let mut input = child.stdin.take().expect("a pipe was asked for");
        std::thread::scope(|scope| {
            // Beside the reading: both sides' pipes can be full.
            scope.spawn(move || {
                input
                    .write_all(script.as_bytes())
                    .expect("psql reads its script")
            });
            child.wait_with_output().expect("psql ends")
        })
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        // After a test that left its cluster stopped there is nothing to connect to, and nothing to drop.
        let Ok(mut client) = self.cluster.config("postgres", "postgres").connect(NoTls) else {
            return;
        };
        let mut drop = |kind: &str, name: &str| {
            if let Err(error) = client.batch_execute(&format!("DROP {kind} {name}")) {
                eprintln!("DROP {kind} {name}: {error}");
            }
        };
        drop("DATABASE", &format!("{} WITH (FORCE)", self.name));
        for role in self.roles.lock().expect("no panic while held").iter() {
            drop("ROLE", role);
        }
    }
}

/// What the server said: `code()` is the SQLSTATE, then `message()`, `detail()` and `hint()`.
///
/// # Panics
/// When there was no error, or one that did not come from the server (a lost connection).
pub fn database_error<T>(result: Result<T, postgres::Error>) -> DbError {
    let Err(error) = result else {
        panic!("the statement succeeded although an error was expected");
    };
    match error.as_db_error() {
        Some(error) => error.clone(),
        None => panic!("not an error of the server: {error:?}"),
    }
}

/// Sets `statement_timeout` back. Where it is some milliseconds, and the machine busy, that statement may itself be cancelled.
///
/// # Panics
/// When it fails otherwise, or again and again.
pub fn lift_timeout(client: &mut Client) {
    for _ in 0..100 {
        match client.batch_execute("RESET statement_timeout") {
            Ok(()) => return,
            result => assert_eq!(database_error(result).code().code(), "57014"),
        }
    }
    panic!("a hundred statements were cancelled");
}
