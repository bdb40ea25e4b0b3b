//! Tests that run inside PostgreSQL (`cargo pgrx test`): what only the backend itself can see.
