//! Building an index: a sample, a codebook, then every document.
//!
//! Not obvious: only the main thread touches PostgreSQL. Reading documents and writing pages is a small
//! part of the work; what takes time, finding centroids and encoding, is arithmetic on plain memory,
//! and is shared among threads that know nothing of PostgreSQL. So there are no parallel workers to
//! start, and nothing of theirs to pass on.

use std::ffi::{c_char, c_void};

use maxsim_index::{Codebook, encode_flat};
use pgrx::{PgMemoryContexts, check_for_interrupts, pg_guard, pg_sys};

use super::document::{DocumentType, declared_dim};
use super::insert::{SEED, TRAIN_AT};
use super::meta::Meta;
use super::sample::{Reservoir, Tokens};
use super::signature::{self, tid_number};
use super::store::Store;
use super::wal::{Index, Log};
use super::{codebook, maintenance_bytes, options};
use crate::error::SqlError;

/// Tokens that a thread gets at once: some milliseconds of work.
const TOKENS_PER_THREAD: usize = 2_048;

/// The phases that pg_stat_progress_create_index names; PostgreSQL has 1.
const PHASES: [&std::ffi::CStr; 4] = [
    c"sampling documents",
    c"training centroids",
    c"encoding documents",
    c"writing the log",
];

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn phase_name(phase: i64) -> *mut c_char {
    let name = match usize::try_from(phase) {
        Ok(1) => c"initializing",
        Ok(number) if (2..2 + PHASES.len()).contains(&number) => PHASES[number - 2],
        _ => return std::ptr::null_mut(),
    };
    // SAFETY: PostgreSQL copies it.
    unsafe { pg_sys::pstrdup(name.as_ptr()) }
}

fn enter_phase(phase: usize) {
    let number = pg_sys::PROGRESS_CREATEIDX_SUBPHASE as i32;
    // SAFETY: main thread of a backend.
    unsafe { pg_sys::pgstat_progress_update_param(number, phase as i64 + 2) };
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn build(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::IndexBuildResult {
    // SAFETY: called by PostgreSQL with open relations.
    unsafe {
        let build = Build { heap, index, info };
        let (rows, documents) = build.run().unwrap_or_else(|error| error.raise());
        let result = pg_sys::palloc0(size_of::<pg_sys::IndexBuildResult>())
            .cast::<pg_sys::IndexBuildResult>();
        (*result).heap_tuples = rows;
        (*result).index_tuples = documents;
        result
    }
}

/// The empty index that an unlogged one becomes after a crash.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn build_empty(index: pg_sys::Relation) {
    // SAFETY: called by PostgreSQL with an open index.
    unsafe {
        let dim = declared_dim(index);
        let index = Index::new(index, Log::AtEnd).initial_fork();
        create(&index, dim).unwrap_or_else(|error| error.raise());
        index.log_all();
    }
}

/// Makes an empty index.
fn create(index: &Index, dim: u32) -> Result<Meta, SqlError> {
    Meta::empty(dim, TRAIN_AT).create(index);
    let first = signature::create(index);
    Meta::update(index, |meta| {
        meta.first_extent = first;
        meta.insert_extent = first;
    })
}

/// What PostgreSQL gave us to build with; open while that lasts.
struct Build {
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
}

impl Build {
    /// Gives the number of rows and that of documents.
    ///
    /// # Safety
    /// Open relations.
    unsafe fn run(&self) -> Result<(f64, f64), SqlError> {
        // SAFETY: the caller vouches for the relations.
        let (index, dim, threads) = unsafe {
            let dim = declared_dim(self.index);
            (Index::new(self.index, Log::AtEnd), dim, self.threads())
        };
        create(&index, dim)?;
        enter_phase(0);
        // SAFETY: as above.
        let (sample, lists) = unsafe { self.sample(dim as usize)? };
        let meta = Meta::update(&index, |meta| meta.dim = sample.dim as u32)?;
        let mut codebook = None;
        if let Some(lists) = lists {
            enter_phase(1);
            let mut poll = || {
                check_for_interrupts!();
            };
            let dim = sample.dim;
            codebook = Some(Codebook::train(
                &sample.values,
                dim,
                lists,
                SEED,
                threads,
                &mut poll,
            ));
        }
        drop(sample);
        enter_phase(2);
        let mut encoding = Encoding {
            store: Store::new(index, &meta),
            // SAFETY: an open index.
            type_: unsafe { DocumentType::of(self.index) },
            dim: meta.dim as usize,
            codebook,
            threads,
            batch: Vec::new(),
            batch_tokens: 0,
            documents: 0,
            tokens: 0,
            residual: 0.0,
        };
        // SAFETY: the callback gets the state that it expects.
        let rows = unsafe { self.scan(Some(encode_row), &raw mut encoding, true) };
        encoding.flush()?;
        let documents = encoding.documents as f64;
        Meta::update(&index, |meta| meta.dim = encoding.dim as u32)?;
        if let Some(codebook) = &encoding.codebook {
            let written = codebook::write(&index, codebook);
            Meta::update(&index, |meta| {
                meta.set_codebook(codebook, &written);
                // Tokens of the sample are nearer to centroids learnt from them than the others are.
                if encoding.tokens > 0 {
                    meta.mean_residual = encoding.residual / encoding.tokens as f64;
                }
            })?;
        }
        enter_phase(3);
        index.log_all();
        Ok((rows, documents))
    }

    /// Tokens of some documents, and the number of lists to learn from them; `None` where there are too few.
    ///
    /// # Safety
    /// Open relations.
    unsafe fn sample(&self, dim: usize) -> Result<(Tokens, Option<usize>), SqlError> {
        let memory = maintenance_bytes();
        let mut tokens = Tokens::new(dim);
        let context = PgMemoryContexts::new("maxsim sample");
        let mut picking = Picking {
            picked: Reservoir::new(memory / 4),
            context: context.value(),
        };
        // SAFETY: the callback gets the state that it expects.
        let type_ = unsafe {
            self.scan(Some(sample_row), &raw mut picking, false);
            DocumentType::of(self.index)
        };
        let picked = picking.picked;
        // SAFETY: an open index.
        let asked = unsafe { options::lists(self.index) };
        let mut wanted = usize::MAX;
        let (mut lists, mut is_due) = (None, false);
        let rows = picked.seen;
        let picked = picked.shuffled();
        let count = picked.len();
        for (at, datum) in picked.into_iter().enumerate() {
            if tokens.len() >= wanted {
                break;
            }
            // SAFETY: a copy of a document, or of the pointer to one that the build's locks keep.
            unsafe { tokens.add(type_, datum)? };
            // How many are wanted follows from how long documents are: known well enough soon.
            let taken = at + 1;
            if taken.is_power_of_two() || taken.is_multiple_of(256) || taken == count {
                let of_all = |sum: u64| (sum as f64 * rows as f64 / tokens.documents as f64) as u64;
                let all = of_all(tokens.tokens);
                let number = asked.unwrap_or_else(|| Codebook::lists_for(all));
                is_due = of_all(tokens.weights) >= TRAIN_AT;
                wanted = Codebook::sample_size(number, all, tokens.dim, memory);
                lists = Some(number).filter(|_| is_due || asked.is_some());
            }
            tokens.want(wanted, count - taken);
        }
        tokens.values.truncate(wanted.saturating_mul(tokens.dim));
        // No error: the index may have been made when there were more, and its table must be rewritten and restored.
        lists = match lists {
            Some(lists) if tokens.len() < lists => {
                SqlError::too_many_lists(lists, tokens.len(), is_due).notice();
                is_due.then_some(tokens.len())
            }
            _ => lists,
        };
        Ok((tokens, lists))
    }

    /// Calls `callback` for every row. Gives their number.
    ///
    /// # Safety
    /// The callback takes such a state.
    unsafe fn scan<State>(
        &self,
        callback: pg_sys::IndexBuildCallback,
        state: *mut State,
        reports: bool,
    ) -> f64 {
        let no_scan = std::ptr::null_mut();
        let state = state.cast::<c_void>();
        // SAFETY: the caller vouches for callback and state. Rows in the order in which they lie.
        unsafe {
            pg_sys::table_index_build_scan(
                self.heap, self.index, self.info, true, reports, callback, state, no_scan,
            )
        }
    }

    /// The main thread and its helpers: one for a table of min_parallel_table_scan_size, another each time
    /// it is three times as large, as PostgreSQL plans workers; but by the bytes of its TOAST, too.
    ///
    /// # Safety
    /// Open relations.
    unsafe fn threads(&self) -> usize {
        // SAFETY: settings are read on the main thread.
        unsafe {
            let most = usize::try_from(pg_sys::max_parallel_maintenance_workers).unwrap_or(0);
            let mut size = i64::from(pg_sys::min_parallel_table_scan_size.max(1));
            let blocks = table_blocks(self.heap);
            let mut helpers = 0;
            while helpers < most && blocks >= size {
                helpers += 1;
                size = size.saturating_mul(3);
            }
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            (1 + helpers).min(cores)
        }
    }
}

/// Blocks of a table and of its TOAST.
///
/// # Safety
/// The table is open.
unsafe fn table_blocks(heap: pg_sys::Relation) -> i64 {
    let main = pg_sys::ForkNumber::MAIN_FORKNUM;
    // SAFETY: open relations; the TOAST relation is opened and closed here.
    unsafe {
        let mut blocks = i64::from(pg_sys::RelationGetNumberOfBlocksInFork(heap, main));
        let toast = (*(*heap).rd_rel).reltoastrelid;
        if toast != pg_sys::InvalidOid {
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            let toast = pg_sys::table_open(toast, lock);
            blocks += i64::from(pg_sys::RelationGetNumberOfBlocksInFork(toast, main));
            pg_sys::table_close(toast, lock);
        }
        blocks
    }
}

/// The first pass over the table.
struct Picking {
    picked: Reservoir<pg_sys::Datum>,
    /// Of the copies: the current one is that of a row.
    context: pg_sys::MemoryContext,
}

/// Picks some rows that are alive: what a dead one refers to may be gone.
#[pg_guard]
unsafe extern "C-unwind" fn sample_row(
    _index: pg_sys::Relation,
    _tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    is_alive: bool,
    state: *mut c_void,
) {
    // SAFETY: called by PostgreSQL with one value; `state` is the picking. Copies are freed once.
    unsafe {
        if *nulls || !is_alive {
            return;
        }
        let Picking { picked, context } = &mut *state.cast::<Picking>();
        let value = (*values).cast_mut_ptr::<pg_sys::varlena>();
        let bytes = pgrx::varsize_any(value);
        let gone = picked.offer(bytes, || {
            let copy = pg_sys::MemoryContextAlloc(*context, bytes).cast::<u8>();
            std::ptr::copy_nonoverlapping(value.cast::<u8>(), copy, bytes);
            pg_sys::Datum::from(copy)
        });
        for value in gone {
            pg_sys::pfree(value.cast_mut_ptr());
        }
    }
}

/// The second pass over the table.
struct Encoding {
    store: Store,
    type_: DocumentType,
    dim: usize,
    codebook: Option<Codebook>,
    threads: usize,
    /// Documents that wait for being encoded together, and their rows.
    batch: Vec<(u64, Vec<f32>)>,
    batch_tokens: usize,
    documents: u64,
    /// Tokens encoded, and the sum of |token − centroid|² over them.
    tokens: u64,
    residual: f64,
}

#[pg_guard]
unsafe extern "C-unwind" fn encode_row(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    is_alive: bool,
    state: *mut c_void,
) {
    // SAFETY: called by PostgreSQL with one value; `state` is the encoding.
    unsafe {
        if *nulls {
            return;
        }
        let encoding = &mut *state.cast::<Encoding>();
        let tid = tid_number(&*tid);
        encoding
            .add(tid, *values, is_alive)
            .unwrap_or_else(|error| error.raise());
    }
}

impl Encoding {
    /// # Safety
    /// A document of the index's type.
    unsafe fn add(
        &mut self,
        tid: u64,
        datum: pg_sys::Datum,
        is_alive: bool,
    ) -> Result<(), SqlError> {
        check_for_interrupts!();
        self.documents += 1;
        if !is_alive {
            return self.store.put_dead(tid).map(drop);
        }
        // SAFETY: the caller vouches for it; a row that is alive has its TOAST.
        let (values, dim) = unsafe { self.type_.values(datum)? };
        if self.dim == 0 {
            // Built concurrently: the second pass can find a document where the first found none.
            self.dim = dim;
        }
        if dim != self.dim {
            return Err(SqlError::index_dimension(dim, self.dim as u32));
        }
        self.batch_tokens += values.len() / dim;
        self.batch.push((tid, values));
        if self.batch_tokens >= TOKENS_PER_THREAD * self.threads {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SqlError> {
        let (tids, documents): (Vec<u64>, Vec<Vec<f32>>) = self.batch.drain(..).unzip();
        self.batch_tokens = 0;
        let mut poll = || {
            check_for_interrupts!();
        };
        let encoded = match &self.codebook {
            Some(codebook) => codebook.encode_many(&documents, self.threads, &mut poll),
            None => documents
                .iter()
                .map(|document| encode_flat(document, self.dim, &mut poll))
                .collect(),
        };
        for (tid, document) in tids.into_iter().zip(&encoded) {
            self.tokens += u64::from(document.tokens);
            self.residual += document.residual;
            self.store.put(tid, document, false)?;
        }
        Ok(())
    }
}
