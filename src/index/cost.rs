//! What a search costs, for the planner.
//!
//! Not obvious: nearly all of the first part is paid before the first row (the sweep), and each row after
//! that costs its share of codes and of exact scores, so that `LIMIT` and filters that drop rows are
//! weighed as they should be. A plain condition is asked by the search itself (`condition`): then rows that fail it cost
//! an answer each, and only those that fulfil it are refined, scored and returned.

use pgrx::{pg_guard, pg_sys};

use super::condition;
use super::page::CONTENT_BYTES;
use crate::maxsim::document_pages;

/// Bytes of a passage's entry (about 49 ids) and of a token's codes beyond its components' bits.
const ENTRY_BYTES: f64 = 124.0;
/// Sweeping a document, in units of `cpu_operator_cost`: 0.04 µs, where a score of 10 µs costs 2.5 pages.
const SWEEP_OPERATORS: f64 = 4.0;
/// The table of query tokens and centroids, before the sweep.
const TABLE_OPERATORS: f64 = 40_000.0;
/// Documents whose codes are read before the first row, and per row after it.
const REFINED_FIRST: f64 = 64.0;
const REFINED_PER_ROW: f64 = 16.0;
/// Documents scored exactly for each row that comes out.
const SCORED_PER_ROW: f64 = 3.0;
/// Documents that are asked for each row that comes out, where all fulfil the condition; the fewer do, the more are.
const ASKED_PER_ROW: f64 = 12.0;
/// An answer, the fetch of a row that is in memory: 0.8 µs.
const ASK_OPERATORS: f64 = 80.0;
/// More than anything, PostgreSQL's own price of a plan that is switched off among it; sums stay finite.
const NEVER: f64 = 1e100;

#[pg_guard]
#[allow(clippy::too_many_arguments)] // PostgreSQL's signature
pub(super) unsafe extern "C-unwind" fn estimate(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    _loop_count: f64,
    startup: *mut pg_sys::Cost,
    total: *mut pg_sys::Cost,
    selectivity: *mut pg_sys::Selectivity,
    correlation: *mut f64,
    pages: *mut f64,
) {
    // SAFETY: called by the planner with nodes of its own.
    unsafe {
        let info = &*(*path).indexinfo;
        // Of a partial index, the rows that are in it.
        *selectivity = (info.tuples / (*info.rel).tuples.max(1.0)).clamp(0.0, 1.0);
        *correlation = 0.0;
        *pages = f64::from(info.pages);
        if (*path).indexorderbys.is_null() {
            // Without the order there is nothing that this index could give: a partial index is offered so.
            *startup = NEVER;
            *total = NEVER;
            // From 18 on what is switched off counts before any cost, a sequential scan as 1.
            #[cfg(feature = "pg18")]
            {
                (*path).path.disabled_nodes = 2;
            }
            return;
        }
        let (first, each) = costs(root, path);
        let documents = info.tuples.max(1.0);
        let (mut asked, mut kept) = (0.0, 1.0);
        if has_plain_condition(root, path) {
            asked = documents * ASKED_PER_ROW * ASK_OPERATORS * pg_sys::cpu_operator_cost;
            kept = ((*path).path.rows / documents).clamp(0.0, 1.0);
        }
        *startup = first;
        *total = first + asked + each * documents * kept;
        // What PostgreSQL fetches and asks again is what is left.
        *selectivity *= kept;
    }
}

/// The cost before the first row, and that of each row.
///
/// # Safety
/// The planner's nodes.
unsafe fn costs(root: *mut pg_sys::PlannerInfo, path: *mut pg_sys::IndexPath) -> (f64, f64) {
    // SAFETY: the caller vouches for them.
    unsafe {
        let info = &*(*path).indexinfo;
        let documents = info.tuples.max(1.0);
        let (mut random, mut sequential) = (0.0, 0.0);
        pg_sys::get_tablespace_page_costs(info.reltablespace, &mut random, &mut sequential);
        let operator = pg_sys::cpu_operator_cost;
        let signature_pages = (documents * ENTRY_BYTES / CONTENT_BYTES as f64)
            .ceil()
            .min(f64::from(info.pages));
        let code_pages = (f64::from(info.pages) - signature_pages).max(1.0) / documents;
        let document = document_pages(root, first_order(path)).unwrap_or(1.0);
        // Codes come from anywhere, documents from TOAST in one run each.
        let refine = code_pages.max(1.0) * random;
        let score = random + document * sequential;
        let first = signature_pages * sequential
            + documents * SWEEP_OPERATORS * operator
            + TABLE_OPERATORS * operator
            + REFINED_FIRST * refine;
        (first, REFINED_PER_ROW * refine + SCORED_PER_ROW * score)
    }
}

/// Whether the search will ask the condition of this path's node itself.
///
/// # Safety
/// The planner's nodes.
unsafe fn has_plain_condition(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
) -> bool {
    // SAFETY: the caller vouches for them. The lists are new ones, that share their clauses.
    unsafe {
        let mut clauses =
            pg_sys::extract_actual_clauses((*(*path).indexinfo).indrestrictinfo, false);
        if let Some(outer) = (*path).path.param_info.as_ref() {
            let of_join = pg_sys::extract_actual_clauses(outer.ppi_clauses, false);
            clauses = pg_sys::list_concat(clauses, of_join);
        }
        condition::is_plain(clauses, root)
    }
}

/// The expression that orders: `embedding @# query`.
///
/// # Safety
/// A path with an order.
unsafe fn first_order(path: *mut pg_sys::IndexPath) -> *mut pg_sys::Node {
    // SAFETY: the list is not empty.
    unsafe { pg_sys::list_nth((*path).indexorderbys, 0).cast() }
}
