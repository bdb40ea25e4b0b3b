//! Errors of the access method.

use pgrx::PgSqlErrorCode as Code;

use super::SqlError;

impl SqlError {
    /// A block that holds something else than it must.
    pub(crate) fn index_page(block: u32) -> SqlError {
        SqlError::new(
            Code::ERRCODE_INDEX_CORRUPTED,
            format!("maxsim index is damaged at block {block}"),
        )
        .hint("REINDEX the index; infinity_embed.check_index() tells more.")
    }

    /// What check_index() finds of an entry.
    pub(crate) fn index_entry(block: u32, tid: u64, problem: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_INDEX_CORRUPTED,
            format!(
                "maxsim index is damaged: the entry at block {block} of row ({},{}) {problem}",
                tid >> 16,
                tid & 0xffff
            ),
        )
        .hint("REINDEX the index.")
    }

    /// What check_index() finds of a row of the table.
    pub(crate) fn index_row(tid: u64, problem: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_INDEX_CORRUPTED,
            format!(
                "maxsim index is damaged: row ({},{}) of the table {problem}",
                tid >> 16,
                tid & 0xffff
            ),
        )
        .hint("REINDEX the index.")
    }

    pub(crate) fn index_version(found: u32, known: u32) -> SqlError {
        SqlError::new(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("maxsim index has version {found}, this library knows {known}"),
        )
        .hint("Load the library that made the index, or REINDEX it.")
    }

    pub(crate) fn index_dimension(document: usize, index: u32) -> SqlError {
        SqlError::new(
            Code::ERRCODE_DATA_EXCEPTION,
            format!("document has {document} dimensions, the index has {index}"),
        )
        .hint("All documents of a maxsim index have one dimension: one index, one model.")
    }

    pub(crate) fn index_needs_mvcc() -> SqlError {
        SqlError::new(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            "maxsim indexes are scanned with MVCC snapshots only",
        )
    }

    pub(crate) fn index_without_order() -> SqlError {
        SqlError::new(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            "cannot scan a maxsim index without ORDER BY … @# …",
        )
    }

    pub(crate) fn not_a_maxsim_index(name: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_WRONG_OBJECT_TYPE,
            format!("\"{name}\" is not a maxsim index"),
        )
        .hint("Of a partitioned table, name the index of a partition.")
    }

    pub(crate) fn index_not_valid(name: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("index \"{name}\" is not valid"),
        )
        .hint("It was not made to the end: REINDEX it, or DROP it.")
    }

    /// That a build learns fewer lists, or none yet.
    pub(crate) fn too_many_lists(lists: usize, tokens: usize, is_large: bool) -> SqlError {
        let (message, hint) = match is_large {
            true => (
                format!(
                    "{tokens} lists are learnt instead of {lists}, from as many tokens as maintenance_work_mem has room for"
                ),
                "Raise maintenance_work_mem and REINDEX, or set \"lists\" to a smaller number.",
            ),
            false => (
                format!(
                    "{lists} lists cannot be learnt from {tokens} tokens: none are, until inserts have brought enough"
                ),
                "Leave \"lists\" at its default, which follows the number of tokens.",
            ),
        };
        SqlError::new(Code::ERRCODE_SUCCESSFUL_COMPLETION, message).hint(hint)
    }
}
