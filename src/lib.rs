//! autoembed keeps pgvector columns in step with the text beside them. See README.md.
#![deny(unsafe_code)]

use pgrx::prelude::*;

mod pg;
mod points;
mod worker;

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/01_tables.sql", name = "tables", bootstrap);
extension_sql_file!("../sql/02_functions.sql", name = "functions", requires = ["tables"]);
extension_sql_file!("../sql/03_views.sql", name = "views", requires = ["functions"], finalize);

/// Called once a process, when the library is loaded.
#[pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    pg::ffi::process::note_preloading();
    pg::settings::define();
    pg::wake::install();
    pg::ffi::utility::on_table_change(|table| {
        if table.is_none() {
            pg::ffi::spi::forget_kept();
        }
        pg::triggers::forget(table);
        pg::ffi::insert::forget(table);
        pg::search::forget(table);
        pg::interface::forget(table);
    });
    if pg::ffi::process::is_preloading() && !pg::ffi::process::is_upgrading() {
        worker::launch::register_launcher();
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[path = "../pg_test/mod.rs"]
#[allow(unsafe_code)]
mod in_server;

#[cfg(test)]
pub mod pg_test {
    //! What `cargo pgrx test` asks for.

    /// Once, before the tests.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the test server.
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'autoembed'"]
    }
}
