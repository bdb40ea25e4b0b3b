//! A batch's embeddings in parts, each for a statement of its own.
//!
//! Used by [`super::rows`]. Not obvious: the sources of a batch are bounded in bytes, but its embeddings are many times larger.

use super::rows::Embedded;

/// Embeddings that one statement writes: an argument of SQL cannot have more than 1 GB, and is a copy.
pub(super) const MAX_WRITTEN_BYTES: usize = 64 * 1024 * 1024;

/// The embeddings in parts of no more than so many bytes, but for one that has more alone.
pub(super) fn parts(embedded: &[Embedded], most_bytes: usize) -> Vec<&[Embedded]> {
    let (mut parts, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (place, (_, vectors)) in embedded.iter().enumerate() {
        let more = vectors.as_ref().map_or(0, Vec::len);
        if place > first && bytes + more > most_bytes {
            parts.push(&embedded[first..place]);
            (first, bytes) = (place, 0);
        }
        bytes += more;
    }
    if first < embedded.len() {
        parts.push(&embedded[first..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_written_in_parts_of_bounded_size() {
        let sizes = [Some(4), Some(4), None, Some(1), Some(9), Some(20), None];
        let embedded: Vec<Embedded> = sizes
            .iter()
            .map(|size| size.map(|size| vec![0; size]))
            .enumerate()
            .collect();
        let lengths = |most| -> Vec<_> { parts(&embedded, most).iter().map(|p| p.len()).collect() };
        assert_eq!(lengths(8), [3, 1, 1, 1, 1]);
        assert_eq!(lengths(10), [4, 1, 1, 1]);
        assert_eq!(lengths(100), [7]);
        assert!(parts(&[], 8).is_empty());
    }
}
