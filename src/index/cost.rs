//! What a search costs, for the planner.
//!
//! Not obvious: nearly all of the first part is paid before the first row (the sweep), and each row after
//! that costs its share of codes and of exact scores, so that `LIMIT` and filters that drop rows are
//! weighed as they should be.

use pgrx::{pg_guard, pg_sys};

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
        *startup = first;
        *total = first + each * info.tuples.max(1.0);
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

/// The expression that orders: `embedding @# query`.
///
/// # Safety
/// A path with an order.
unsafe fn first_order(path: *mut pg_sys::IndexPath) -> *mut pg_sys::Node {
    // SAFETY: the list is not empty.
    unsafe { pg_sys::list_nth((*path).indexorderbys, 0).cast() }
}
