//! Prints cases the way Rust's own tests do, for the two test programs whose cases are files and blocks rather than
//! functions, so that whoever counts tests need not know the difference.

use std::time::Instant;

/// The results so far.
#[derive(Debug)]
pub struct Report {
    start: Instant,
    filter: Option<String>,
    passed: usize,
    failed: usize,
    filtered: usize,
}

impl Report {
    /// Begins. The first argument of the program that is not an option selects the cases whose name contains it.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            filter: std::env::args()
                .skip(1)
                .find(|argument| !argument.starts_with('-')),
            passed: 0,
            failed: 0,
            filtered: 0,
        }
    }

    /// Whether the case was asked for.
    pub fn wants(&mut self, name: &str) -> bool {
        let wanted = self
            .filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter));
        self.filtered += usize::from(!wanted);
        wanted
    }

    /// Notes how a case went; `Err` tells what is wrong.
    pub fn case(&mut self, name: &str, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok");
            }
            Err(problem) => {
                self.failed += 1;
                println!("test {name} ... FAILED\n{problem}");
            }
        }
    }

    /// Prints the sums; the result is for `main` to return. Nothing found to test is a failure.
    pub fn finish(mut self) -> std::process::ExitCode {
        if self.passed + self.failed + self.filtered == 0 {
            self.case("at least one case", Err("there is none".to_owned()));
        }
        println!(
            "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            if self.failed == 0 { "ok" } else { "FAILED" },
            self.passed,
            self.failed,
            self.filtered,
            self.start.elapsed().as_secs_f64()
        );
        std::process::ExitCode::from(u8::from(self.failed > 0))
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}
