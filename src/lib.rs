//! infinity_embed
::pgrx::pg_module_magic!();
