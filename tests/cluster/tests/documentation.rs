//! Runs every block of SQL in README.md and `docs/*.md`, in order: one psql session per file in a fresh database of a cluster
//! of its own, against a mock server that stands in for the addresses `http://localhost:7997` and `http://127.0.0.1:7997`.
//!
//! A block passes when no statement fails. A line of its own before the fence says otherwise:
//! `<!-- test: skip because REASON -->`, `<!-- test: error SQLSTATE -->` (it must fail so); and before a block that is not
//! SQL, `<!-- test: output -->`: it must be what the SQL before it printed.

use std::path::PathBuf;
use std::process::ExitCode;

use cluster_tests::{Cluster, Report, repository};
use mock_infinity::{Model, Options, Server};

/// Between two blocks, on psql's stdout and stderr.
const BORDER: &str = "@@ block";

#[derive(Debug, PartialEq)]
enum Expectation {
    Success,
    Error(String),
    /// Not SQL: the output of the block before it.
    Output,
}

#[derive(Debug)]
struct Block {
    line: usize,
    text: String,
    expectation: Expectation,
}

fn main() -> ExitCode {
    let mut report = Report::new();
    let server = Server::start(Options::new(Model::lite("michaelfeil/colqwen2-v0.1")));
    let cluster = Cluster::start_new_with_environment(&[], &[("INFINITY_API_URL", &server.url())]);
    for file in documents() {
        let name = file
            .strip_prefix(repository())
            .expect("documents lie in the repository")
            .display()
            .to_string();
        if report.wants(&name) {
            match blocks(&std::fs::read_to_string(&file).expect("documents are UTF-8")) {
                Ok(blocks) => check(&mut report, &cluster, &server, &name, &blocks),
                Err(problem) => report.case(&name, Err(problem)),
            }
        }
    }
    report.finish()
}

/// README.md and `docs/*.md`, those that exist.
fn documents() -> Vec<PathBuf> {
    let mut documents: Vec<PathBuf> = std::fs::read_dir(repository().join("docs"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    documents.sort();
    documents.insert(0, repository().join("README.md"));
    documents.retain(|path| path.exists());
    documents
}

/// The blocks of SQL, and those of shown output; a skipped one is left out.
fn blocks(document: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut mark = None;
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("<!-- test:") {
            mark = Some(text.trim_end_matches("-->").trim());
        } else if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim() != "```")
                .collect();
            let expectation = expectation(language, mark.take())
                .map_err(|problem| format!("line {}: {problem}", number + 1))?;
            if let Some(expectation) = expectation {
                blocks.push(Block {
                    line: number + 1,
                    text: text.join("\n"),
                    expectation,
                });
            }
        } else if !line.is_empty() && mark.is_some() {
            return Err(format!("line {}: a mark without a block", number + 1));
        }
    }
    Ok(blocks)
}

/// `None` for a block that is not to be run.
fn expectation(language: &str, mark: Option<&str>) -> Result<Option<Expectation>, String> {
    let (verb, rest) = mark
        .map(|mark| mark.split_once(' ').unwrap_or((mark, "")))
        .unzip();
    let rest = rest.unwrap_or_default();
    match (language, verb) {
        ("sql", None) => Ok(Some(Expectation::Success)),
        ("sql", Some("error")) if rest.len() == 5 => Ok(Some(Expectation::Error(rest.to_owned()))),
        ("sql", Some("skip")) if rest.starts_with("because ") => Ok(None),
        ("sql", Some(_)) => Err(format!(
            "expected \"skip because REASON\" or \"error SQLSTATE\", found \"{}\"",
            mark.unwrap_or_default()
        )),
        (_, Some("output")) => Ok(Some(Expectation::Output)),
        (_, Some(_)) => Err("only \"output\" can be said of a block that is not SQL".to_owned()),
        (_, None) => Ok(None),
    }
}

/// Runs one document and reports each of its blocks.
fn check(report: &mut Report, cluster: &Cluster, server: &Server, name: &str, blocks: &[Block]) {
    let creates = blocks
        .iter()
        .any(|block| block.text.contains("CREATE EXTENSION"));
    let database = if creates {
        cluster.empty_database()
    } else {
        cluster.database()
    };
    let mut script = String::from("\\set VERBOSITY verbose\n");
    for block in blocks {
        if block.expectation != Expectation::Output {
            script += &block
                .text
                .replace("http://localhost:7997", &server.url())
                .replace("http://127.0.0.1:7997", &server.url());
        }
        // Both streams, so that what a block printed and what it complained of can be told from the next one's.
        script += &format!("\n\\echo {BORDER}\n\\warn {BORDER}\n");
    }
    let output = database.psql(&script);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed: Vec<&str> = printed.split(BORDER).collect();
    let complained: Vec<&str> = complained.split(BORDER).collect();
    for (index, block) in blocks.iter().enumerate() {
        let case = format!("{name}:{}", block.line);
        let result = match (printed.get(index), complained.get(index)) {
            (Some(_), Some(_)) if block.expectation == Expectation::Output => {
                let before = index.checked_sub(1).map_or("", |before| printed[before]);
                compare(&block.text, before)
            }
            (Some(_), Some(complained)) => judge(block, complained),
            _ => Err("psql ended before this block".to_owned()),
        };
        report.case(&case, result);
    }
}

/// Holds what psql complained of against what was expected.
fn judge(block: &Block, complained: &str) -> Result<(), String> {
    let last = block.text.lines().rfind(|line| !line.trim().is_empty());
    let last = last.unwrap_or_default().trim();
    if !last.starts_with('\\')
        && !last
            .split("--")
            .next()
            .unwrap_or_default()
            .trim()
            .ends_with(';')
    {
        return Err("the block does not end with a semicolon".to_owned());
    }
    let states: Vec<&str> = complained.lines().filter_map(sqlstate).collect();
    let as_expected = match &block.expectation {
        Expectation::Error(state) => !states.is_empty() && states.iter().all(|seen| seen == state),
        Expectation::Success | Expectation::Output => states.is_empty(),
    };
    if as_expected {
        return Ok(());
    }
    Err(format!(
        "expected {:?}, got:\n{}",
        block.expectation,
        complained.trim()
    ))
}

/// The SQLSTATE in a line of psql such as `psql:<stdin>:1: ERROR:  42601: syntax error`; "psql" for psql's own errors.
fn sqlstate(line: &str) -> Option<&str> {
    if line.starts_with("psql:") && line.contains(": error: ") {
        return Some("psql");
    }
    ["ERROR:  ", "FATAL:  ", "PANIC:  "]
        .iter()
        .find_map(|severity| line.split_once(severity)?.1.split_once(':'))
        .map(|(state, _)| state)
        .filter(|state| state.len() == 5)
}

/// Compares line by line; blanks at the end of a line and empty lines do not count.
fn compare(shown: &str, printed: &str) -> Result<(), String> {
    let lines = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .filter(|line| !line.is_empty())
            .collect()
    };
    if lines(shown) == lines(printed) {
        return Ok(());
    }
    Err(format!("shown:\n{shown}\nprinted:\n{}", printed.trim()))
}
