//! Runs each file of `tests/pg_regress/sql` with PostgreSQL's own pg_regress, in a fresh database with the extension
//! created, and compares with `tests/pg_regress/expected`. The results lie in `target/pg_regress/results`.
//!
//! `infinity_embed.url` is that of a mock server with one ragged 128-dimensional model of the default name. Its port differs
//! from run to run, so a file that shows an address sets one itself.

use std::path::Path;
use std::process::{Command, ExitCode};

use cluster_tests::{Cluster, Report, repository};
use mock_infinity::{Model, Options, Server};

fn main() -> ExitCode {
    let mut report = Report::new();
    let cluster = Cluster::shared();
    let server = Server::start(Options::new(Model::lite("michaelfeil/colqwen2-v0.1")));
    let program = find_pg_regress(cluster);
    for name in names(&repository().join("tests/pg_regress/sql")) {
        if report.wants(&name) {
            report.case(&name, run(&program, cluster, &server.url(), &name));
        }
    }
    report.finish()
}

/// The files' names without ".sql", sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(".sql")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

fn find_pg_regress(cluster: &Cluster) -> String {
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
    format!("{folder}test/regress/pg_regress")
}

fn run(program: &str, cluster: &Cluster, url: &str, name: &str) -> Result<(), String> {
    let database = cluster.database();
    database.set("infinity_embed.url", url);
    let input = repository().join("tests/pg_regress");
    let output = repository().join("target/pg_regress");
    let psql = cluster.command("psql");
    let variables = psql
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let result = Command::new(program)
        .envs(variables)
        .arg("--use-existing")
        .arg(format!("--dbname={}", database.name()))
        .arg(format!("--inputdir={}", input.display()))
        .arg(format!("--outputdir={}", output.display()))
        .arg(format!(
            "--bindir={}",
            Path::new(psql.get_program())
                .parent()
                .expect("psql lies in a folder")
                .display()
        ))
        .arg(name)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if result.status.success() {
        return Ok(());
    }
    let differences = std::fs::read_to_string(output.join("regression.diffs")).unwrap_or_default();
    Err(format!(
        "{}{}{differences}",
        String::from_utf8_lossy(&result.stdout),
        String::from_utf8_lossy(&result.stderr)
    ))
}
