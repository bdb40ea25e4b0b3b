//! `infinity_embed`: late-interaction embeddings and MaxSim ranking inside PostgreSQL.
//!
//! This crate is the thin layer between SQL and the pure crates: it reads settings, arguments and
//! arrays, hands the work to `infinity-client` and `maxsim`, and turns their errors into
//! PostgreSQL's. Every SQL object is declared by hand in `sql/`; the functions here are only their
//! symbols (`#[pg_extern(sql = false)]`), and a symbol that was ever released stays.

mod attribute;
mod cache;
mod detoast;
mod embed;
mod encoding;
mod error;
mod health;
mod index;
mod interrupt;
mod matrix;
mod maxsim;
mod multivector;
mod queue;
mod role;
mod settings;
mod sql_type;
mod trigger;
mod varlena;

#[cfg(any(test, feature = "pg_test"))]
mod tests;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/00-schema.sql", name = "schema", bootstrap);
extension_sql_file!("../sql/10-embed.sql", name = "embed", requires = ["schema"]);
extension_sql_file!(
    "../sql/20-maxsim.sql",
    name = "maxsim",
    requires = ["schema"]
);
extension_sql_file!(
    "../sql/30-trigger.sql",
    name = "trigger",
    requires = ["embed"]
);
extension_sql_file!(
    "../sql/40-multivector.sql",
    name = "multivector",
    requires = ["schema"]
);
extension_sql_file!(
    "../sql/50-maxsim-multivector.sql",
    name = "maxsim_multivector",
    requires = ["multivector", "maxsim"]
);
extension_sql_file!(
    "../sql/55-index.sql",
    name = "index",
    requires = ["maxsim_multivector"]
);
extension_sql_file!(
    "../sql/56-index-recall.sql",
    name = "index_recall",
    requires = ["index"]
);
extension_sql_file!("../sql/60-queue.sql", name = "queue", requires = ["embed"]);
extension_sql_file!(
    "../sql/62-queue-targets.sql",
    name = "queue_targets",
    requires = ["queue"]
);
extension_sql_file!(
    "../sql/64-queue-process.sql",
    name = "queue_process",
    requires = ["queue_targets"]
);
extension_sql_file!(
    "../sql/66-queue-views.sql",
    name = "queue_views",
    requires = ["queue_process"]
);
extension_sql_file!(
    "../sql/90-privileges.sql",
    name = "privileges",
    requires = ["embed", "trigger", "queue_views"],
    finalize
);

/// Runs once per process when the library is loaded, in the postmaster too: settings and the launcher's
/// registration only, no threads and no I/O.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    queue::launcher::define();
    index::define();
}

/// Called by the test framework of `cargo pgrx test`.
#[cfg(test)]
pub mod pg_test {
    /// Nothing to prepare.
    pub fn setup(_options: Vec<&str>) {}

    /// The settings that the tests expect in postgresql.conf.
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
