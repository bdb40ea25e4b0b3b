//! Text between the database's encoding and the UTF-8 that the protocol speaks.
//!
//! Used wherever a text argument or column goes to the server, and where the server's words come
//! back. pgrx's `&str` would refuse every non-ASCII text in a database that is not UTF-8, and its
//! strings would go out unconverted.

use pgrx::pg_sys;

use crate::error::SqlError;

/// `bytes`, which are text in the database's encoding, as UTF-8.
///
/// # Errors
/// 22021 where they are not valid UTF-8 in a SQL_ASCII database, which knows no encoding; and what
/// PostgreSQL's own conversion raises.
pub(crate) fn to_utf8(bytes: &[u8]) -> Result<String, SqlError> {
    let invalid = |_| SqlError::not_utf8();
    let plain = [pg_sys::pg_enc::PG_UTF8, pg_sys::pg_enc::PG_SQL_ASCII];
    if bytes.is_empty() || plain.contains(&database_encoding()) {
        return std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(invalid);
    }
    // SAFETY: pointer and length describe `bytes`. The result is either the source itself or a
    // palloc'd, NUL-terminated string, copied and freed here.
    unsafe {
        let source = bytes.as_ptr().cast();
        let converted =
            pg_sys::pg_server_to_any(source, bytes.len() as i32, pg_sys::pg_enc::PG_UTF8 as i32);
        if std::ptr::eq(converted, source) {
            return std::str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(invalid);
        }
        let text = std::ffi::CStr::from_ptr(converted)
            .to_str()
            .map(str::to_owned);
        pg_sys::pfree(converted.cast());
        text.map_err(invalid)
    }
}

/// `text` for a message or a column: as it is in UTF-8 databases, else with `?` for what is not
/// ASCII. A conversion could fail, and an error about an error's wording helps nobody.
pub(crate) fn to_database(text: &str) -> String {
    if text.is_ascii() || database_encoding() == pg_sys::pg_enc::PG_UTF8 {
        return text.to_owned();
    }
    text.chars()
        .map(|letter| if letter.is_ascii() { letter } else { '?' })
        .collect()
}

fn database_encoding() -> pg_sys::pg_enc::Type {
    // SAFETY: reads a process-wide setting of the connected database.
    unsafe { pg_sys::GetDatabaseEncoding() as pg_sys::pg_enc::Type }
}
