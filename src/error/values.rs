//! Errors about what the user gave: settings, arrays, text, triggers.

use std::ffi::CStr;
use std::fmt::Display;
use std::io;

use pgrx::{PgSqlErrorCode as Code, pg_sys};

use super::SqlError;

/// Settings.
impl SqlError {
    pub(crate) fn setting_missing(name: &str, example: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("{name} is not set"),
        )
        .hint(format!("For example: SET {name} = '{example}'."))
    }

    pub(crate) fn model_empty() -> SqlError {
        SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "model must not be empty",
        )
        .hint("Pass NULL, or no model, to use infinity_embed.model_name.")
    }

    pub(crate) fn key_file(path: &str, error: &io::Error) -> SqlError {
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::ERRCODE_UNDEFINED_FILE,
            io::ErrorKind::PermissionDenied => Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            _ => Code::ERRCODE_IO_ERROR,
        };
        // PostgreSQL's %m has no error number.
        let reason = error.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        SqlError::new(code, format!("could not read API key file{}: {reason}", shown(path)))
            .hint("The file must be readable by the operating system user that runs PostgreSQL; set infinity_embed.api_key_file to its path.")
    }

    pub(crate) fn key_file_content(path: &str, problem: impl Display) -> SqlError {
        SqlError::new(
            Code::ERRCODE_CONFIG_FILE_ERROR,
            format!("API key file{} {problem}", shown(path)),
        )
        .hint("The file holds the key and nothing else.")
    }
}

/// Arrays as multi-vectors. `role` is "document" or "query".
impl SqlError {
    pub(crate) fn not_two_dimensional(role: &str, dimensions: usize) -> SqlError {
        if dimensions == 0 {
            return SqlError::new(
                Code::ERRCODE_DATA_EXCEPTION,
                format!("{role} must not be empty"),
            )
            .detail("A multi-vector has at least one token vector.");
        }
        SqlError::new(
            Code::ERRCODE_DATA_EXCEPTION,
            format!("{role} must be a two-dimensional array, not one of {dimensions} dimensions"),
        )
        .hint("Write one inner array per token: '{{0.1,0.2},{0.3,0.4}}'.")
    }

    pub(crate) fn null_element(role: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("{role} must not contain NULL elements"),
        )
    }

    pub(crate) fn not_a_float_array(role: &str, element_type: pg_sys::Oid) -> SqlError {
        SqlError::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!("{role} has elements of type {}", type_name(element_type)),
        )
        .hint("Cast it to real[].")
    }

    /// Names the first value that is not finite.
    /// `at` counts components from the first token's.
    pub(crate) fn not_finite(role: &str, value: f32, at: usize, dim: usize) -> SqlError {
        let kind = if value.is_nan() { "NaN" } else { "infinity" };
        SqlError::new(
            Code::ERRCODE_DATA_EXCEPTION,
            format!("{kind} not allowed in {role}"),
        )
        .detail(format!(
            "It is component {} of token {}.",
            at % dim + 1,
            at / dim + 1
        ))
    }

    pub(crate) fn out_of_range(role: &str, value: f64, type_name: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            format!("{role} value {value:e} is out of range for type {type_name}"),
        )
    }

    pub(crate) fn dimensions_differ(document: usize, query: usize) -> SqlError {
        SqlError::new(
            Code::ERRCODE_DATA_EXCEPTION,
            format!("different dimensions: document {document} and query {query}"),
        )
        .hint("Embed documents and queries with the same model.")
    }

    pub(crate) fn score_overflows() -> SqlError {
        SqlError::new(
            Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            "MaxSim score is out of range for type real",
        )
        .detail("A product of document and query overflows.")
        .hint("Normalize the vectors.")
    }

    pub(crate) fn corrupt_array(needed: usize, found: usize) -> SqlError {
        SqlError::new(
            Code::ERRCODE_DATA_CORRUPTED,
            format!("array needs {needed} bytes but has {found}"),
        )
    }

    pub(crate) fn not_one_dimensional(role: &str, dimensions: usize) -> SqlError {
        SqlError::new(
            Code::ERRCODE_DATA_EXCEPTION,
            format!("{role} must be a one-dimensional array, not one of {dimensions} dimensions"),
        )
    }

    /// Of Rust's memory; worded as PostgreSQL's own.
    pub(crate) fn out_of_memory(bytes: usize) -> SqlError {
        SqlError::new(Code::ERRCODE_OUT_OF_MEMORY, "out of memory")
            .detail(format!("Failed on request of size {bytes}."))
    }

    pub(crate) fn too_many_elements(elements: usize, limit: usize) -> SqlError {
        SqlError::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("array of {elements} values exceeds the limit of {limit}"),
        )
    }

    pub(crate) fn value_too_large(lengths: &[usize], size: usize, limit: usize) -> SqlError {
        let shape: Vec<String> = lengths.iter().map(usize::to_string).collect();
        SqlError::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("array of {} values takes {size} bytes", shape.join(" x ")),
        )
        .detail(format!("A value has at most {limit} bytes."))
    }

    pub(crate) fn not_utf8() -> SqlError {
        SqlError::new(
            Code::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
            "text cannot be sent to the Infinity server because it is not valid UTF-8",
        )
        .hint("In a SQL_ASCII database, store text as UTF-8, or convert it with convert_from().")
    }
}

impl From<maxsim::Error> for SqlError {
    fn from(error: maxsim::Error) -> SqlError {
        SqlError::new(Code::ERRCODE_DATA_EXCEPTION, error.to_string())
    }
}

/// Triggers.
impl SqlError {
    pub(crate) fn trigger_protocol(function: &str, problem: &str) -> SqlError {
        SqlError::new(
            Code::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            format!("{function}: {problem}"),
        )
        .hint("Create it as BEFORE INSERT OR UPDATE ... FOR EACH ROW.")
    }

    pub(crate) fn trigger_arguments(function: &str, count: usize) -> SqlError {
        SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{function}: 2 or 3 arguments expected, {count} given"),
        )
        .hint(format!(
            "EXECUTE FUNCTION {function}('source column', 'target column')."
        ))
    }

    pub(crate) fn no_such_column(column: &CStr, table: &CStr) -> SqlError {
        SqlError::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!(
                "column \"{}\" of relation \"{}\" does not exist",
                column.to_string_lossy(),
                table.to_string_lossy()
            ),
        )
        .hint("The trigger's arguments are the names of the source and the target column, in the case in which they are stored.")
    }

    pub(crate) fn generated_column(column: &CStr) -> SqlError {
        SqlError::new(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!(
                "column \"{}\" is generated and cannot be used by the trigger",
                column.to_string_lossy()
            ),
        )
        .detail("PostgreSQL computes generated columns after BEFORE triggers have run.")
        .hint("Name an ordinary column, and fill it in a BEFORE trigger whose name sorts earlier if it is made of others.")
    }

    pub(crate) fn column_type(column: &CStr, wanted: &str, found: pg_sys::Oid) -> SqlError {
        SqlError::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!(
                "column \"{}\" is of type {}, not {wanted}",
                column.to_string_lossy(),
                type_name(found)
            ),
        )
    }
}

/// A type's name as PostgreSQL writes it.
fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: format_type_be gives a palloc'd, NUL-terminated name for any oid.
    unsafe { CStr::from_ptr(pg_sys::format_type_be(type_oid)) }
        .to_string_lossy()
        .into_owned()
}

/// A server-side path, for those who may see the setting.
fn shown(path: &str) -> String {
    // SAFETY: looks at the current role, on the main thread.
    match unsafe { pg_sys::superuser() } {
        true => format!(" \"{path}\""),
        false => String::new(),
    }
}
