//! The one option of an index: `WITH (lists = N)`.

use std::ffi::c_int;
use std::sync::OnceLock;

use pgrx::{pg_guard, pg_sys};

/// Centroids, where the default of one per 192 tokens is not wanted.
const MIN_LISTS: c_int = 0;
const MAX_LISTS: c_int = 65_536;

/// The kind that PostgreSQL gave us for our options.
static KIND: OnceLock<pg_sys::relopt_kind::Type> = OnceLock::new();

#[repr(C)]
struct Options {
    length_word: i32,
    lists: c_int,
}

/// Defines it. Called from `_PG_init`.
pub(super) fn define() {
    KIND.get_or_init(|| {
        // SAFETY: called while the library is loaded, with NUL-terminated literals.
        unsafe {
            let kind = pg_sys::add_reloption_kind();
            pg_sys::add_int_reloption(
                kind,
                c"lists".as_ptr(),
                c"Number of centroids of a maxsim index; 0 follows the number of tokens.".as_ptr(),
                0,
                MIN_LISTS,
                MAX_LISTS,
                pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE,
            );
            kind
        }
    });
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn parse(
    options: pg_sys::Datum,
    validate: bool,
) -> *mut pg_sys::bytea {
    let element = pg_sys::relopt_parse_elt {
        optname: c"lists".as_ptr(),
        opttype: pg_sys::relopt_type::RELOPT_TYPE_INT,
        offset: std::mem::offset_of!(Options, lists) as c_int,
        #[cfg(feature = "pg18")]
        isset_offset: 0,
    };
    let kind = *KIND.get().expect("defined when the library was loaded");
    // SAFETY: the struct's size and its one field are as described.
    unsafe {
        pg_sys::build_reloptions(options, validate, kind, size_of::<Options>(), &element, 1).cast()
    }
}

/// What the index was told, if anything.
///
/// # Safety
/// The index is open.
pub(super) unsafe fn lists(index: pg_sys::Relation) -> Option<usize> {
    // SAFETY: null, or what `parse` made.
    let options = unsafe { (*index).rd_options.cast::<Options>().as_ref() }?;
    debug_assert!(options.length_word != 0);
    usize::try_from(options.lists)
        .ok()
        .filter(|lists| *lists > 0)
}
