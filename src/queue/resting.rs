//! Targets that a process leaves alone for a while, because others are in the way there, so that the rest of the queue goes on.
//!
//! Used by the worker and by `CALL`, each for itself. Not obvious: the pause that `infinity_embed.targets` keeps does not
//! suffice, since an open auto_embed() may hold just that row.

use std::time::{Duration, Instant};

/// The first rest; doubled each time up to the longest, as trying costs the time that is waited for a lock.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// The targets that rest.
pub(super) struct Resting {
    rests: Vec<Rest>,
    for_good: bool,
}

/// One that was left alone, or is.
struct Rest {
    target: i64,
    table_name: String,
    reason: String,
    length: Duration,
    until: Instant,
}

impl Resting {
    /// `for_good`: a target that rests once is not tried again.
    pub(super) fn new(for_good: bool) -> Resting {
        Resting {
            rests: Vec::new(),
            for_good,
        }
    }

    /// Leaves a target alone for a while, at least for so long; gives for how long.
    pub(super) fn begin(
        &mut self,
        target: i64,
        table_name: &str,
        reason: &str,
        at_least: Duration,
    ) -> Duration {
        let last = self.rests.iter().position(|rest| rest.target == target);
        let length = match last.map(|place| self.rests.swap_remove(place)) {
            None => FIRST_REST,
            Some(last) => (last.length * 2).min(LONGEST_REST),
        }
        .max(at_least);
        self.rests.push(Rest {
            target,
            table_name: table_name.to_owned(),
            reason: reason.to_owned(),
            length,
            until: Instant::now() + length,
        });
        length
    }

    /// Forgets a target that could be worked on.
    pub(super) fn end(&mut self, target: i64) {
        self.rests.retain(|rest| rest.target != target);
    }

    /// The targets to be left alone now.
    pub(super) fn targets(&self) -> impl Iterator<Item = i64> {
        self.now().map(|rest| rest.target)
    }

    /// Each one's table, and why it rests.
    pub(super) fn reasons(&self) -> impl Iterator<Item = (&str, &str)> {
        self.now()
            .map(|rest| (rest.table_name.as_str(), rest.reason.as_str()))
    }

    fn now(&self) -> impl Iterator<Item = &Rest> {
        let moment = Instant::now();
        self.rests
            .iter()
            .filter(move |rest| self.for_good || rest.until > moment)
    }
}
