//! Which failures are worth another attempt, and how long to wait before it.
//!
//! A timeout is never repeated: one deadline covers all attempts, so no time is left, and the server goes on working on
//! the abandoned request anyway.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

/// The first wait, before jitter.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(250);
/// No wait of our own choosing is longer.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Whether an attempt that failed may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Repeating it would fail the same way.
    Never,
    /// Once: it may have been an accident.
    Once,
    /// As often as the settings and the deadline allow.
    Always,
}

/// The class of an HTTP status.
pub(crate) fn class_of_status(status: u16) -> Class {
    match status {
        408 | 429 | 502 | 503 | 504 => Class::Always,
        500 => Class::Once,
        _ => Class::Never,
    }
}

/// The wait before retry number `retry` (0 is the first): exponential from [`FIRST_WAIT`], at most [`LONGEST_WAIT`],
/// of which `jitter` (0 to 1) decides the upper half; never less than what the server asked for.
pub(crate) fn wait_before(retry: u32, jitter: f64, asked_for: Option<Duration>) -> Duration {
    let full = FIRST_WAIT
        .saturating_mul(2u32.saturating_pow(retry))
        .min(LONGEST_WAIT);
    let own = full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    asked_for.map_or(own, |asked| asked.max(own))
}

/// A number from 0 to 1, not predictable enough that a herd of backends would march in step.
pub(crate) fn jitter() -> f64 {
    // The standard library's hasher is seeded at random; its output serves here without a crate for random numbers.
    let bits = RandomState::new().hash_one(0u8);
    bits as f64 / u64::MAX as f64
}

/// Reads a Retry-After header: seconds, or a date. A date gone by asks for no wait; anything else is ignored.
pub(crate) fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds still mean "very long".
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses_fall_into_the_classes_of_the_protocol() {
        for status in [408, 429, 502, 503, 504] {
            assert_eq!(class_of_status(status), Class::Always, "{status}");
        }
        assert_eq!(class_of_status(500), Class::Once);
        for status in [301, 307, 400, 401, 403, 404, 405, 413, 422, 501] {
            assert_eq!(class_of_status(status), Class::Never, "{status}");
        }
    }

    #[test]
    fn waits_double_from_a_quarter_of_a_second_up_to_ten() {
        let longest: Vec<u128> = (0..8)
            .map(|retry| wait_before(retry, 1.0, None).as_millis())
            .collect();
        assert_eq!(longest, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(wait_before(0, 0.0, None).as_millis(), 125);
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let read = |value| parse_retry_after(value, now);
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        assert_eq!(
            read("99999999999999999999999"),
            Some(Duration::from_secs(u64::MAX))
        );
        assert_eq!(
            read("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(7))
        );
        assert_eq!(read("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-1", "1.5", "+3"] {
            assert_eq!(read(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn jitter_differs_from_call_to_call() {
        let first = jitter();
        assert!((0..50).any(|_| jitter() != first));
    }

    proptest! {
        #[test]
        fn a_wait_stays_between_half_and_full_and_never_undercuts_the_server(
            retry in any::<u32>(), jitter in 0.0..=1.0f64, asked in proptest::option::of(0u64..100_000),
        ) {
            let full = wait_before(retry, 1.0, None);
            let own = wait_before(retry, jitter, None);
            prop_assert!(own <= full && own * 2 >= full && full <= LONGEST_WAIT);
            let asked = asked.map(Duration::from_millis);
            let wait = wait_before(retry, jitter, asked);
            prop_assert_eq!(wait, asked.unwrap_or_default().max(own));
        }

        #[test]
        fn any_retry_after_text_is_read_without_panicking(value in ".*") {
            let _ = parse_retry_after(&value, SystemTime::now());
        }
    }
}
