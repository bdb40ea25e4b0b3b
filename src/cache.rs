//! The backend's bounded cache of single-text embeddings, least recently used first out.
//!
//! Used by `infinity_embed_text` alone. Without it a bare
//! `ORDER BY embedding @# infinity_embed_text('q')` would make one request per row, since a STABLE
//! function in ORDER BY is evaluated for each. The key is everything that decides the vectors.

use std::cell::RefCell;
use std::rc::Rc;

use infinity_client::MultiVector;
use lru::LruCache;

use crate::settings::{self, Identity};

/// What an embedding depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) identity: Identity,
    pub(crate) text: String,
}

struct Cache {
    entries: LruCache<Key, Rc<MultiVector>>,
    bytes: usize,
}

thread_local! {
    // A backend has one thread that runs SQL; the network thread never comes here.
    static CACHE: RefCell<Cache> =
        RefCell::new(Cache { entries: LruCache::unbounded(), bytes: 0 });
}

/// The kept embedding of `key`, if there is one.
pub(crate) fn get(key: &Key) -> Option<Rc<MultiVector>> {
    CACHE.with_borrow_mut(|cache| {
        cache.shrink_to(settings::cache_size_bytes());
        cache.entries.get(key).cloned()
    })
}

/// Keeps an embedding, unless it alone is larger than the whole cache may be.
pub(crate) fn put(key: Key, embedding: Rc<MultiVector>) {
    let limit = settings::cache_size_bytes();
    let size = entry_bytes(&key, &embedding);
    if size > limit {
        return;
    }
    CACHE.with_borrow_mut(|cache| {
        if let Some((old_key, old)) = cache.entries.push(key, embedding) {
            cache.bytes -= entry_bytes(&old_key, &old);
        }
        cache.bytes += size;
        cache.shrink_to(limit);
    });
}

impl Cache {
    fn shrink_to(&mut self, limit: usize) {
        while self.bytes > limit {
            let Some((key, embedding)) = self.entries.pop_lru() else {
                break;
            };
            self.bytes -= entry_bytes(&key, &embedding);
        }
    }
}

fn entry_bytes(key: &Key, embedding: &MultiVector) -> usize {
    let strings = key.text.len() + key.identity.url.len() + key.identity.model.len();
    size_of::<Key>() + size_of::<MultiVector>() + strings + size_of_val(embedding.values.as_slice())
}
