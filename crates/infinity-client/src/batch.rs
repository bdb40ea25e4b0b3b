//! How the inputs of a call are dealt out to requests: by count, then by bytes, and in halves when one is refused.
//!
//! Every item keeps its position among the inputs of the call, so that answers find their place whatever happened to
//! the batch on its way.

use crate::config::MAX_REQUEST_BYTES;

/// An input and its 0-based position among the inputs of the call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item<T> {
    pub(crate) index: usize,
    pub(crate) input: T,
}

/// Deals items out into batches of at most `size`, keeping their order.
pub(crate) fn by_count<T>(items: Vec<Item<T>>, size: usize) -> Vec<Vec<Item<T>>> {
    let size = size.max(1);
    let mut batches = Vec::with_capacity(items.len().div_ceil(size));
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        batches.push(items.by_ref().take(size).collect());
    }
    batches
}

/// Cuts off the tail that does not fit into one request of [`MAX_REQUEST_BYTES`]; the first item always stays.
pub(crate) fn cut_by_bytes<T>(
    batch: &mut Vec<Item<T>>,
    bytes: impl Fn(&T) -> usize,
) -> Vec<Item<T>> {
    let mut total = 0usize;
    let fits = |item: &Item<T>| {
        total = total.saturating_add(bytes(&item.input));
        total <= MAX_REQUEST_BYTES
    };
    let kept = batch.iter().map(fits).take_while(|fits| *fits).count();
    batch.split_off(kept.max(1).min(batch.len()))
}

/// Cuts off the second half of a batch that was refused; one of a single item has none.
pub(crate) fn cut_in_half<T>(batch: &mut Vec<Item<T>>) -> Vec<Item<T>> {
    batch.split_off(batch.len().div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(sizes: &[usize]) -> Vec<Item<usize>> {
        sizes
            .iter()
            .enumerate()
            .map(|(index, &input)| Item { index, input })
            .collect()
    }

    proptest! {
        #[test]
        fn dealing_by_count_loses_nothing_and_exceeds_nothing(sizes in prop::collection::vec(0usize..9, 0..60), size in 0usize..12) {
            let all = items(&sizes);
            let batches = by_count(all.clone(), size);
            prop_assert!(batches.iter().all(|batch| !batch.is_empty() && batch.len() <= size.max(1)));
            prop_assert_eq!(batches.len(), all.len().div_ceil(size.max(1)));
            prop_assert_eq!(batches.concat(), all);
        }

        #[test]
        fn cutting_by_bytes_fills_a_request_as_far_as_it_goes(
            sizes in prop::collection::vec(prop_oneof![0usize..10_000_000, Just(usize::MAX)], 1..20),
        ) {
            let all = items(&sizes);
            let mut batch = all.clone();
            let rest = cut_by_bytes(&mut batch, |bytes| *bytes);
            let total = |part: &[Item<usize>]| part.iter().fold(0usize, |sum, item| sum.saturating_add(item.input));
            prop_assert!(batch.len() == 1 || total(&batch) <= MAX_REQUEST_BYTES);
            if let Some(next) = rest.first() {
                prop_assert!(total(&batch).saturating_add(next.input) > MAX_REQUEST_BYTES);
            }
            batch.extend(rest);
            prop_assert_eq!(batch, all);
        }

        #[test]
        fn halving_ends_at_single_items(count in 1usize..3000) {
            let mut left = vec![items(&vec![0; count])];
            let mut singles = Vec::new();
            while let Some(mut batch) = left.pop() {
                let tail = cut_in_half(&mut batch);
                if tail.is_empty() {
                    prop_assert_eq!(batch.len(), 1);
                    singles.push(batch[0].index);
                } else {
                    prop_assert!(batch.len() - tail.len() <= 1);
                    left.extend([tail, batch]);
                }
            }
            prop_assert_eq!(singles, (0..count).collect::<Vec<_>>());
        }
    }
}
