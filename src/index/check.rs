//! `infinity_embed.check_index()`: whether an index is whole and agrees with its table, as amcheck does
//! for B-trees.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Arc;

use maxsim_index::{Codebook, belongs, inspect};
use pgrx::iter::TableIterator;
use pgrx::{check_for_interrupts, name, pg_extern, pg_guard, pg_sys};

use super::codebook;
use super::codes;
use super::document::DocumentType;
use super::meta::Meta;
use super::opened::Opened;
use super::signature::{Entry, Extents, FLAT, MAX_IDS, tid_number, tokens_noted, visit_page};
use super::wal::Index;
use crate::error::SqlError;
use crate::role::as_role;

/// Raises XX002 at the first thing that is wrong. Else the number of documents in the index, and that of
/// rows of the table that were looked up in it; with their `content`, every code is compared with its row's.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // pgrx reads the type as it is written here
fn maxsim_check_index_content(
    index: pg_sys::Oid,
    content: bool,
) -> TableIterator<'static, (name!(documents, i64), name!(rows, i64))> {
    // No vacuum meanwhile: what an entry points at is to be there. Everybody else may go on.
    let opened =
        Opened::open(index, pg_sys::ShareUpdateExclusiveLock).unwrap_or_else(|error| error.raise());
    // SAFETY: an open table has its row of pg_class.
    let owner = unsafe { (*(*opened.heap).rd_rel).relowner };
    // Expressions of the index run, as amcheck has it, with no more rights than their owner's.
    let counts = as_role(owner, || check(&opened, content));
    let (documents, rows) = counts.unwrap_or_else(|error| error.raise());
    opened.close();
    TableIterator::once((documents as i64, rows as i64))
}

fn check(opened: &Opened, content: bool) -> Result<(usize, usize), SqlError> {
    opened.expect_valid()?;
    let index = opened.index();
    // SAFETY: inside of a statement. Registered before the index is read: what this snapshot sees is in
    // the index by then, and no vacuum takes it out. A repeatable read's own may be older than the index.
    let snapshot = unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) };
    let mut entries = Entries::of(&index)?;
    for extent in Extents::new(&index, entries.meta.first_extent) {
        let (first, length) = extent?;
        for block in first..first + length {
            entries.check_page(block)?;
        }
    }
    let documents = entries.known.len();
    // SAFETY: open relations and a registered snapshot.
    let rows = unsafe { check_rows(opened, entries, content, snapshot)? };
    // SAFETY: registered above.
    unsafe { pg_sys::UnregisterSnapshot(snapshot) };
    Ok((documents, rows))
}

/// The entries of an index, checked page by page.
struct Entries<'a> {
    index: &'a Index,
    meta: Meta,
    codebook: Option<Arc<Codebook>>,
    /// Of the pages so far, by their rows: sorting a list of them could not be cancelled.
    known: BTreeMap<u64, Known>,
    codes: Vec<u8>,
}

/// All that is kept of an entry.
#[derive(Clone, Copy)]
struct Known {
    place: u64,
    /// 0 for a row that was dead when the index was made.
    tokens: u16,
}

impl Entries<'_> {
    fn of(index: &Index) -> Result<Entries<'_>, SqlError> {
        Ok(Entries {
            index,
            meta: Meta::read(index)?,
            codebook: None,
            known: BTreeMap::new(),
            codes: Vec::new(),
        })
    }

    fn check_page(&mut self, block: u32) -> Result<(), SqlError> {
        let mut entries = Vec::new();
        visit_page(self.index, block, |entry, ids| {
            entries.push((entry, ids.to_vec()));
            Ok(())
        })?;
        if self.codebook.is_none() {
            // After the entries: an insert may train the index meanwhile.
            self.meta = Meta::read(self.index)?;
            self.codebook = codebook::get(self.index, &self.meta)?;
        }
        // Codes are read without a lock on the entry's page: the same order as that of a search.
        for (entry, ids) in &entries {
            check_for_interrupts!();
            self.check_document(entry, ids)
                .map_err(|problem| SqlError::index_entry(block, entry.tid(), problem))?;
            let known = Known {
                place: entry.place(),
                tokens: entry.tokens,
            };
            if self.known.insert(entry.tid(), known).is_some() {
                return Err(SqlError::index_row(entry.tid(), "is in the index twice"));
            }
        }
        Ok(())
    }

    fn check_document(&mut self, entry: &Entry, ids: &[u8]) -> Result<(), &'static str> {
        if entry.place() == 0 {
            return match ids {
                [] => Ok(()),
                _ => Err("has a signature but no codes"),
            };
        }
        self.read_codes(entry.tid(), entry.place())?;
        let codebook = self.codebook.as_deref();
        let inspected = inspect(&self.codes, self.meta.dim as usize, codebook)
            .map_err(|_| "has damaged codes")?;
        if tokens_noted(inspected.tokens) != entry.tokens {
            return Err("has codes of another number of tokens");
        }
        if inspected.signature.is_empty() != (entry.flags & FLAT != 0) {
            return Err("has codes of another kind");
        }
        let stored = ids
            .chunks_exact(2)
            .map(|id| u16::from_le_bytes([id[0], id[1]]));
        let is_left_out = ids.is_empty() && inspected.signature.len() > MAX_IDS;
        if !is_left_out && !stored.eq(inspected.signature) {
            return Err("has a signature that its codes contradict");
        }
        Ok(())
    }

    fn read_codes(&mut self, tid: u64, place: u64) -> Result<(), &'static str> {
        match codes::read(self.index, &mut 0, tid, place, &mut self.codes) {
            Ok(true) => Ok(()),
            Ok(false) => Err("has lost its codes"),
            Err(_) => Err("has codes on a damaged page"),
        }
    }
}

/// Looks up every row that the snapshot sees.
struct Lookup<'a> {
    entries: Entries<'a>,
    content: bool,
    type_: DocumentType,
    rows: usize,
}

impl Lookup<'_> {
    /// # Safety
    /// The row's document.
    unsafe fn look_up(&mut self, tid: u64, document: pg_sys::Datum) -> Result<(), SqlError> {
        self.rows += 1;
        let Some(&Known { place, tokens }) = self.entries.known.get(&tid) else {
            return Err(SqlError::index_row(tid, "is not in the index"));
        };
        if tokens == 0 {
            return Ok(());
        }
        // SAFETY: the caller vouches for the document.
        let (number, content) = unsafe {
            if self.content {
                let (values, dim) = self.type_.values(document)?;
                (values.len() / dim, Some((values, dim)))
            } else {
                (self.type_.tokens(document)?, None)
            }
        };
        if tokens != tokens_noted(number) {
            return Err(SqlError::index_row(
                tid,
                "has another number of tokens in the index",
            ));
        }
        content
            .map_or(Ok(()), |(values, dim)| {
                self.compare(tid, place, &values, dim)
            })
            .map_err(|problem| SqlError::index_row(tid, problem))
    }

    fn compare(
        &mut self,
        tid: u64,
        place: u64,
        values: &[f32],
        dim: usize,
    ) -> Result<(), &'static str> {
        if dim != self.entries.meta.dim as usize {
            return Err("has another dimension in the index");
        }
        self.entries.read_codes(tid, place)?;
        let codebook = self.entries.codebook.as_deref();
        let mut poll = || {
            check_for_interrupts!();
        };
        match belongs(&self.entries.codes, values, dim, codebook, &mut poll) {
            Ok(true) => Ok(()),
            Ok(false) => Err("has codes in the index that are not its own"),
            Err(_) => Err("has damaged codes"),
        }
    }
}

/// # Safety
/// Open relations, a registered snapshot.
unsafe fn check_rows(
    opened: &Opened,
    entries: Entries<'_>,
    content: bool,
    snapshot: pg_sys::Snapshot,
) -> Result<usize, SqlError> {
    // SAFETY: the caller vouches for the arguments. "Concurrent" makes the scan one with a snapshot of its
    // own, which here is given with it.
    unsafe {
        let info = pg_sys::BuildIndexInfo(opened.relation);
        (*info).ii_Concurrent = true;
        let mut lookup = Lookup {
            entries,
            content,
            type_: DocumentType::of(opened.relation),
            rows: 0,
        };
        let (none, keys) = (std::ptr::null_mut(), 0);
        let scan = pg_sys::table_beginscan_strat(opened.heap, snapshot, keys, none, true, true);
        pg_sys::table_index_build_scan(
            opened.heap,
            opened.relation,
            info,
            true,
            false,
            Some(look_up),
            (&raw mut lookup).cast(),
            scan,
        );
        Ok(lookup.rows)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn look_up(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    _is_alive: bool,
    state: *mut c_void,
) {
    // SAFETY: called by PostgreSQL with one value; `state` is the lookup.
    unsafe {
        if *nulls {
            return;
        }
        check_for_interrupts!();
        let lookup = &mut *state.cast::<Lookup>();
        lookup
            .look_up(tid_number(&*tid), *values)
            .unwrap_or_else(|error| error.raise());
    }
}
