//! The dimensions learnt so far, one per URL and model.
//!
//! base64 has no shape, and 384 and 768 are multiples of 128: reshaping blindly "succeeds" and is garbage. So the
//! dimension is learnt from a float answer once, and forgotten whenever the server may have become another one: after a
//! failed or lost connection, an answer that does not fit, and ten minutes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A server restarted between two calls leaves no trace on our side; this bounds how long a change goes unseen.
const LEARNT_FOR: Duration = Duration::from_secs(600);
/// A session calls a handful of models; past this many the oldest are dropped.
const MAX_LEARNT: usize = 64;

#[derive(Default)]
pub(crate) struct Dimensions(Mutex<HashMap<(String, String), (usize, Instant)>>);

impl Dimensions {
    pub(crate) fn get(&self, url: &str, model: &str) -> Option<usize> {
        let learnt = self.lock();
        let (dim, at) = learnt.get(&(url.to_owned(), model.to_owned()))?;
        (at.elapsed() < LEARNT_FOR).then_some(*dim)
    }

    pub(crate) fn learn(&self, url: &str, model: &str, dim: usize) {
        let mut learnt = self.lock();
        let key = (url.to_owned(), model.to_owned());
        if learnt.len() >= MAX_LEARNT && !learnt.contains_key(&key) {
            let oldest = learnt
                .iter()
                .min_by_key(|(_, (_, at))| *at)
                .map(|(key, _)| key.clone());
            oldest.map(|key| learnt.remove(&key));
        }
        learnt.insert(key, (dim, Instant::now()));
    }

    pub(crate) fn forget(&self, url: &str, model: &str) {
        self.lock().remove(&(url.to_owned(), model.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), (usize, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_belongs_to_a_url_and_a_model_until_it_is_forgotten() {
        let dimensions = Dimensions::default();
        dimensions.learn("http://a", "m", 128);
        dimensions.learn("http://b", "m", 384);
        assert_eq!(dimensions.get("http://a", "m"), Some(128));
        assert_eq!(dimensions.get("http://b", "m"), Some(384));
        assert_eq!(dimensions.get("http://a", "n"), None);
        dimensions.forget("http://a", "m");
        assert_eq!(
            (
                dimensions.get("http://a", "m"),
                dimensions.get("http://b", "m")
            ),
            (None, Some(384))
        );
    }

    #[test]
    fn the_memory_of_dimensions_is_bounded() {
        let dimensions = Dimensions::default();
        for model in 0..200 {
            dimensions.learn("http://a", &model.to_string(), 128);
        }
        assert_eq!(dimensions.lock().len(), MAX_LEARNT);
        assert_eq!(dimensions.get("http://a", "199"), Some(128));
    }
}
