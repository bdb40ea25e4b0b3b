//! A server process, by its id: what tests look at, cancel, terminate or kill.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use postgres::Client;

/// A process of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    pid: i32,
}

impl Backend {
    /// The process with this id.
    pub fn new(pid: i32) -> Self {
        Self { pid }
    }

    /// The process behind a session.
    pub fn of(client: &mut Client) -> Self {
        let row = client
            .query_one("SELECT pg_backend_pid()", &[])
            .expect("the session is idle");
        Self::new(row.get(0))
    }

    /// Its id.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// `pg_cancel_backend`, called in another session of a superuser.
    pub fn cancel(self, other: &mut Client) {
        self.call("pg_cancel_backend", other);
    }

    /// `pg_terminate_backend`, called in another session of a superuser.
    pub fn terminate(self, other: &mut Client) {
        self.call("pg_terminate_backend", other);
    }

    fn call(self, function: &str, other: &mut Client) {
        let row = other
            .query_one(&format!("SELECT {function}($1)"), &[&self.pid])
            .expect("a superuser may signal a backend");
        assert!(row.get::<_, bool>(0), "process {} has gone", self.pid);
    }

    /// SIGKILL: for a backend, PostgreSQL then restarts all of them; for the postmaster, the cluster is down.
    pub fn kill(self) {
        self.signal("KILL");
    }

    /// A signal from outside, such as STOP and CONT.
    pub fn signal(self, name: &str) {
        // The shell's own: a machine need not have the program.
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.pid.to_string()])
            .status()
            .expect("a shell can be run");
        assert!(status.success(), "process {} has gone", self.pid);
    }

    /// Whether it is there (a dead child that nobody has waited for is not).
    pub fn is_alive(self) -> bool {
        // The state follows the name, which stands in parentheses and may contain anything.
        std::fs::read_to_string(self.directory().join("stat")).is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| !rest.trim_start().starts_with('Z'))
        })
    }

    /// The names of its threads, the first one's included.
    pub fn threads(self) -> Vec<String> {
        let Ok(tasks) = std::fs::read_dir(self.directory().join("task")) else {
            return Vec::new();
        };
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim_end().to_owned())
            .collect()
    }

    /// How many file descriptors it has open.
    pub fn descriptors(self) -> usize {
        std::fs::read_dir(self.directory().join("fd"))
            .expect("the process is alive")
            .count()
    }

    /// Whether one of its connections to this port of 127.0.0.1 is still being made: the state SYN_SENT.
    pub fn is_connecting_to(self, port: u16) -> bool {
        let remote = format!("0100007F:{port:04X}");
        std::fs::read_to_string(self.directory().join("net/tcp"))
            .expect("the process is alive")
            .lines()
            .map(|line| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>())
            .any(|fields| fields == [remote.as_str(), "02"])
    }

    /// How long it has run on a processor so far.
    pub fn processor_time(self) -> Duration {
        let times = std::fs::read_to_string(self.directory().join("schedstat"))
            .expect("the process is alive");
        let time = times.split(' ').next().and_then(|time| time.parse().ok());
        Duration::from_nanos(time.expect("nanoseconds"))
    }

    /// Its resident memory in bytes.
    pub fn resident_memory(self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn peak_memory(self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Its resident memory in bytes without what it shares with others.
    pub fn private_memory(self) -> u64 {
        self.memory("RssAnon:")
    }

    fn memory(self, label: &str) -> u64 {
        let status =
            std::fs::read_to_string(self.directory().join("status")).expect("the process is alive");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(label))
            .expect("a living process has a size");
        let kilobytes: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number of kB");
        kilobytes * 1024
    }

    fn directory(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }
}
