//! Rows whose embedding, by being written, changes their source: a trigger of the table does that, and queues them again.
//!
//! Used by [`super::rows`] and [`super::batch`]. Not obvious: once is no fault, as a trigger that trims a text comes to rest.
//! Who does it twice in a row would be embedded without end, and fails instead. That it was the first time is kept in the
//! process, for both kinds of embedding go through it; another process asks the server once more for such a row, not for ever.

use std::cell::RefCell;
use std::collections::HashSet;

/// More are not kept: a row that finds no place fails the first time.
const MOST: usize = 100_000;

thread_local! {
    /// Target and key of those that have done it the last time.
    static ECHOES: RefCell<HashSet<(i64, Vec<u8>)>> = RefCell::default();
}

/// Keeps rows whose source has changed with the write that was committed.
pub(super) fn keep(target: i64, keys: &[Vec<u8>]) {
    ECHOES.with_borrow_mut(|echoes| {
        let free = MOST.saturating_sub(echoes.len());
        let keys = keys.iter().take(free);
        echoes.extend(keys.map(|key| (target, key.clone())));
    });
}

/// Whether a row may do it this time.
pub(super) fn may_happen(target: i64, key: &[u8]) -> bool {
    ECHOES.with_borrow(|echoes| echoes.len() < MOST && !echoes.contains(&(target, key.to_vec())))
}

/// Forgets a row that did not do it.
pub(super) fn forget(target: i64, key: &[u8]) {
    ECHOES.with_borrow_mut(|echoes| {
        if !echoes.is_empty() {
            echoes.remove(&(target, key.to_vec()));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_may_do_it_once_until_it_has_not() {
        let key = b"7".to_vec();
        assert!(may_happen(1, &key));
        keep(1, std::slice::from_ref(&key));
        assert!(!may_happen(1, &key) && may_happen(2, &key) && may_happen(1, b"8"));
        forget(1, &key);
        assert!(may_happen(1, &key));
    }

    #[test]
    fn beyond_the_bound_no_row_may() {
        let keys: Vec<_> = (0..MOST + 5)
            .map(|key| key.to_string().into_bytes())
            .collect();
        keep(1, &keys);
        assert!(!may_happen(1, b"another"));
        forget(1, b"0");
        assert!(may_happen(1, b"another"));
    }
}
