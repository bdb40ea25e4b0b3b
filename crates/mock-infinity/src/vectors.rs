//! Words to vectors: the deterministic stand-in for a language model, used for texts and for the colours of pictures.
//!
//! A token's direction is drawn from a hash of the word, mixed with its character trigrams: equal words score 1, related
//! words ("retrieve", "retrieval") something, unrelated words about 0 ± 1/√dim. There is no context: a word has one vector.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Words kept before the memory is emptied: bounds it at about 30 MB for 384 dimensions.
const LEXICON_WORDS: usize = 20_000;
/// Share of the whole word in its direction; the rest is its trigrams.
const WORD_SHARE: f32 = 0.8;

/// The vectors of one model's vocabulary.
#[derive(Debug)]
pub(crate) struct Lexicon {
    dim: usize,
    normalized: bool,
    known: Mutex<HashMap<String, Arc<[f32]>>>,
}

impl Lexicon {
    pub(crate) fn new(dim: usize, normalized: bool) -> Self {
        Self {
            dim,
            normalized,
            known: Mutex::default(),
        }
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The vector of a word, `dim` long.
    pub(crate) fn vector(&self, word: &str) -> Arc<[f32]> {
        let mut known = self.known.lock().unwrap();
        if let Some(vector) = known.get(word) {
            return vector.clone();
        }
        if known.len() >= LEXICON_WORDS {
            known.clear();
        }
        let mut vector = direction(word, self.dim);
        scale(&mut vector, self.norm(word));
        let vector: Arc<[f32]> = vector.into();
        known.insert(word.to_owned(), vector.clone());
        vector
    }

    /// The length a row has: 1, or 6 to 13 in a model that does not normalise.
    pub(crate) fn norm(&self, word: &str) -> f32 {
        if self.normalized {
            1.0
        } else {
            6.0 + (hash(word.as_bytes()) % 701) as f32 / 100.0
        }
    }
}

/// Splits as a lower-casing BERT does: at white space, punctuation and ideographs alone, control characters dropped.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    for character in text.chars() {
        if character.is_whitespace() {
            flush(&mut word, &mut tokens);
        } else if character.is_ascii_punctuation() || ('\u{3400}'..='\u{9fff}').contains(&character)
        {
            flush(&mut word, &mut tokens);
            tokens.push(character.to_string());
        } else if !character.is_control() {
            word.extend(character.to_lowercase());
        }
    }
    flush(&mut word, &mut tokens);
    tokens
}

fn flush(word: &mut String, tokens: &mut Vec<String>) {
    if !word.is_empty() {
        tokens.push(std::mem::take(word));
    }
}

/// The unit direction of a word.
fn direction(word: &str, dim: usize) -> Vec<f32> {
    let mut vector = noise(hash(word.as_bytes()), dim);
    scale(&mut vector, WORD_SHARE);
    let padded: Vec<char> = format!("^{word}$").chars().collect();
    let mut trigrams = vec![0.0; dim];
    for trigram in padded.windows(3) {
        let trigram: String = trigram.iter().collect();
        add(
            &mut trigrams,
            &noise(hash(trigram.as_bytes()) ^ 3, dim),
            1.0,
        );
    }
    scale(&mut trigrams, 1.0 - WORD_SHARE);
    add(&mut vector, &trigrams, 1.0);
    scale(&mut vector, 1.0);
    vector
}

/// A unit vector drawn from a seed.
fn noise(seed: u64, dim: usize) -> Vec<f32> {
    let mut state = seed;
    let mut vector: Vec<f32> = (0..dim).map(|_| uniform(&mut state)).collect();
    scale(&mut vector, 1.0);
    vector
}

/// Gives the vector the length `norm`; a zero vector stays zero.
pub(crate) fn scale(vector: &mut [f32], norm: f32) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value *= norm / length);
    }
}

/// `target += weight * source`.
pub(crate) fn add(target: &mut [f32], source: &[f32], weight: f32) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += weight * source;
    }
}

/// The next number of a splitmix64 sequence, between -1 and 1.
pub(crate) fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// FNV-1a: the same on every machine and in every release, unlike the standard library's hasher.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn equal_words_score_one_related_words_some_and_others_about_nothing() {
        let lexicon = Lexicon::new(128, true);
        let retrieval = lexicon.vector("retrieval");
        assert!((dot(&retrieval, &lexicon.vector("retrieval")) - 1.0).abs() < 1e-5);
        let related = dot(&retrieval, &lexicon.vector("retrieve"));
        let other = dot(&retrieval, &lexicon.vector("bicycle"));
        assert!(related < 0.9 && related > other, "{related} {other}");
        assert!(other.abs() < 0.35, "{other}");
    }

    #[test]
    fn an_unnormalised_model_has_norms_between_6_and_13() {
        let lexicon = Lexicon::new(384, false);
        for word in ["this", "is", "a", "test", "[CLS]"] {
            let vector = lexicon.vector(word);
            let norm = dot(&vector, &vector).sqrt();
            assert!((5.99..=13.02).contains(&norm), "{word}: {norm}");
        }
    }

    #[test]
    fn text_is_split_as_a_lower_casing_bert_splits_it() {
        assert_eq!(
            tokens("Zürich 你好 😀\0nul"),
            ["zürich", "你", "好", "😀nul"]
        );
        assert_eq!(
            tokens("multi-vector, ok"),
            ["multi", "-", "vector", ",", "ok"]
        );
        assert!(tokens(" \t\n").is_empty());
    }
}
