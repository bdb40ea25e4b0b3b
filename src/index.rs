//! The access method `maxsim`: an index for `ORDER BY embedding @# query LIMIT k`.
//!
//! What is searched, and how, is crate `maxsim-index`; the parts here give it pages, rows and
//! interrupts. A document's codes and the entry that points at them are immutable: they come with the
//! row's version and go with vacuum.
//!
//! | page | holds |
//! |---|---|
//! | meta | dimension, codebook, where the parts begin ([`meta`]) |
//! | codebook | the centroids, written once ([`codebook`]) |
//! | signatures | one entry for each document, swept by each search ([`signature`]) |
//! | codes | the residuals' signs, read for documents that look promising ([`codes`]) |

mod build;
mod check;
mod codebook;
mod codes;
mod condition;
mod cost;
mod document;
#[cfg(feature = "pg18")]
mod explain;
mod heap;
mod info;
mod insert;
mod meta;
mod opened;
mod options;
mod page;
mod sample;
mod scan;
mod signature;
mod store;
mod training_lock;
mod vacuum;
mod wal;

use pgrx::spi::Spi;
use pgrx::{pg_extern, pg_guard, pg_sys};

use crate::sql_type::sql_type;

/// Defines the index's option, and looks out for conditions. Called from `_PG_init`.
pub(crate) fn define() {
    options::define();
    condition::define();
    #[cfg(feature = "pg18")]
    explain::define();
}

/// What PostgreSQL allows building and training to take.
fn maintenance_bytes() -> usize {
    // SAFETY: a setting, read on the main thread.
    let kilobytes = unsafe { pg_sys::maintenance_work_mem };
    usize::try_from(kilobytes).unwrap_or(0) * 1024
}

/// Handler of the access method.
#[pg_extern(sql = false)]
fn maxsim_handler(_fcinfo: pg_sys::FunctionCallInfo) -> Handler {
    condition::expect();
    // SAFETY: a zeroed routine of this size; the tag says what it is.
    unsafe {
        let size = size_of::<pg_sys::IndexAmRoutine>();
        let routine = pg_sys::palloc0(size).cast::<pg_sys::IndexAmRoutine>();
        describe(&mut *routine);
        Handler(routine)
    }
}

fn describe(routine: &mut pg_sys::IndexAmRoutine) {
    routine.type_ = pg_sys::NodeTag::T_IndexAmRoutine;
    routine.amstrategies = 1;
    routine.amsupport = 0;
    routine.amcanorderbyop = true;
    routine.amoptionalkey = true;
    routine.amusemaintenanceworkmem = true;
    routine.amparallelvacuumoptions = (pg_sys::VACUUM_OPTION_PARALLEL_BULKDEL) as u8;
    routine.amkeytype = pg_sys::InvalidOid;
    routine.ambuild = Some(build::build);
    routine.ambuildempty = Some(build::build_empty);
    routine.ambuildphasename = Some(build::phase_name);
    routine.aminsert = Some(insert::insert);
    routine.ambulkdelete = Some(vacuum::bulk_delete);
    routine.amvacuumcleanup = Some(vacuum::cleanup);
    routine.amcostestimate = Some(cost::estimate);
    routine.amoptions = Some(options::parse);
    routine.amvalidate = Some(validate);
    routine.ambeginscan = Some(scan::begin);
    routine.amrescan = Some(scan::rescan);
    routine.amgettuple = Some(scan::next);
    routine.amendscan = Some(scan::end);
}

/// Whether the class is for a type that we can read, and its family has nothing but operators that give our
/// score for it.
const VALID: &str = "
    SELECT bool_and(t.typname IN ('multivector', '_float4') AND o.amoplefttype = t.oid
                    AND o.amopstrategy = 1 AND o.amoppurpose = 'o' AND p.prosrc LIKE 'maxsim%\\_negative\\_wrapper')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_amproc AS s WHERE s.amprocfamily = c.opcfamily)
    FROM pg_catalog.pg_opclass AS c
    JOIN pg_catalog.pg_type AS t ON t.oid = c.opcintype
    JOIN pg_catalog.pg_amop AS o ON o.amopfamily = c.opcfamily
    JOIN pg_catalog.pg_operator AS r ON r.oid = o.amopopr
    JOIN pg_catalog.pg_proc AS p ON p.oid = r.oprcode
    WHERE c.oid = $1 GROUP BY c.oid, c.opcfamily";

#[pg_guard]
unsafe extern "C-unwind" fn validate(operator_class: pg_sys::Oid) -> bool {
    Spi::get_one_with_args::<bool>(VALID, &[operator_class.into()])
        .ok()
        .flatten()
        .unwrap_or(false)
}

/// A node of type `index_am_handler`.
struct Handler(*mut pg_sys::IndexAmRoutine);

// SAFETY: a node is a pointer passed by value.
unsafe impl pgrx::callconv::BoxRet for Handler {
    unsafe fn box_into<'fcx>(
        self,
        fcinfo: &mut pgrx::callconv::FcInfo<'fcx>,
    ) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: a whole node.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0)) }
    }
}

sql_type!(Handler, "index_am_handler");
