//! Runs the files of `tests/pg_regress/sql` with PostgreSQL's own pg_regress, and those of `tests/isolation/specs` with its
//! pg_isolation_regress, each in a fresh database with the extension created. What is expected lies in `expected` beside
//! them, the results below `target/pg_regress`.
//!
//! `infinity_embed.url` is that of a mock server with one ragged 128-dimensional model of the default name. Its port differs
//! from run to run, so a file that shows an address sets one itself.

use std::path::Path;
use std::process::{Command, ExitCode};

use cluster_tests::{Cluster, Report, repository};
use mock_infinity::{Model, Options, Server};

/// A program of PostgreSQL that compares what a file's statements print with what is expected.
struct Suite {
    /// Below `src/test` of PostgreSQL's own build files.
    program: &'static str,
    folder: &'static str,
    /// Folder of the files, below `folder`, and how their names end.
    files: (&'static str, &'static str),
}

const SUITES: [Suite; 2] = [
    Suite {
        program: "regress/pg_regress",
        folder: "tests/pg_regress",
        files: ("sql", ".sql"),
    },
    Suite {
        program: "isolation/pg_isolation_regress",
        folder: "tests/isolation",
        files: ("specs", ".spec"),
    },
];

fn main() -> ExitCode {
    let mut report = Report::new();
    let cluster = Cluster::shared();
    let server = Server::start(Options::new(Model::lite("michaelfeil/colqwen2-v0.1")));
    let programs = folder_of_programs(cluster);
    for suite in SUITES {
        for name in suite.names() {
            if report.wants(&name) {
                report.case(&name, suite.run(&programs, cluster, &server.url(), &name));
            }
        }
    }
    report.finish()
}

fn folder_of_programs(cluster: &Cluster) -> String {
    let output = cluster
        .command("pg_config")
        .arg("--pgxs")
        .output()
        .expect("pg_config can be run");
    let makefile = String::from_utf8(output.stdout).expect("a path in UTF-8");
    let folder = makefile
        .trim()
        .strip_suffix("makefiles/pgxs.mk")
        .expect("pg_config --pgxs names .../src/makefiles/pgxs.mk");
    format!("{folder}test")
}

impl Suite {
    /// The files' names without their ending, sorted.
    fn names(&self) -> Vec<String> {
        let (files, ending) = self.files;
        let folder = repository().join(self.folder).join(files);
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                Some(name.strip_suffix(ending)?.to_owned())
            })
            .collect();
        names.sort();
        names
    }

    fn run(&self, programs: &str, cluster: &Cluster, url: &str, name: &str) -> Result<(), String> {
        let database = cluster.database();
        database.set("infinity_embed.url", url);
        let output = repository().join("target/pg_regress");
        let psql = cluster.command("psql");
        let variables = psql
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let bindir = Path::new(psql.get_program())
            .parent()
            .expect("psql lies in a folder");
        let program = format!("{programs}/{}", self.program);
        let result = Command::new(&program)
            .envs(variables)
            .arg("--use-existing")
            .arg(format!("--dbname={}", database.name()))
            .arg(format!(
                "--inputdir={}",
                repository().join(self.folder).display()
            ))
            .arg(format!("--outputdir={}", output.display()))
            .arg(format!("--bindir={}", bindir.display()))
            .arg(name)
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        if result.status.success() {
            return Ok(());
        }
        let differences =
            std::fs::read_to_string(output.join("regression.diffs")).unwrap_or_default();
        Err(format!(
            "{}{}{differences}",
            String::from_utf8_lossy(&result.stdout),
            String::from_utf8_lossy(&result.stderr)
        ))
    }
}
