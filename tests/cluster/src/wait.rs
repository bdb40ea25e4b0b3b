//! Waiting for a condition, with a bound: what tests do instead of sleeping and hoping.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the condition is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// Returns as soon as `condition` holds, and how long that took.
///
/// # Panics
/// When it does not hold within `bound`, naming `what` was waited for.
pub fn wait_until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < bound,
            "waited {bound:?} in vain until {what}"
        );
        sleep(PAUSE);
    }
    start.elapsed()
}
