//! infinity-client
