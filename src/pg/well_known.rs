//! Models that come with the extension are not in dumps, or a restore into a newer version would bring old ones back. So a row that
//! somebody has changed or put in the place of one must not pass for one any longer: a restore would lose what he has made of it.

use crate::pg::ffi::process;
use crate::pg::ffi::rows::TriggerCall;
use crate::pg::ffi::spi::{self, Mode, args};
use crate::pg::ffi::types::TriggerRow;
use pgrx::prelude::*;

/// A row of `autoembed.models` that somebody writes is his own: it is dumped, and takes the place of the well-known one of that name. What
/// the extension's scripts bring stays well known, and never takes the place of a row that is there.
#[pg_extern(sql = false)]
fn own_model(fcinfo: pg_sys::FunctionCallInfo) -> TriggerRow {
    const OURS: &str = "SELECT pg_catalog.to_regclass('autoembed.models')::pg_catalog.oid";
    let is_right = |call: &TriggerCall| {
        let models = spi::first(OURS, &[], Mode::Read, |row| row.get::<pg_sys::Oid>(1)).flatten();
        call.is_row() && call.is_before() && models == Some(call.relation())
    };
    let Some(call) = TriggerCall::new(fcinfo).filter(is_right) else {
        pgrx::ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            "autoembed.own_model() can only be called as the trigger of autoembed.models"
        );
    };
    let row = match (call.is_update(), process::is_in_own_script()) {
        (true, true) => call.same_row(),
        (true, false) if !call.changes_row() => call.same_row(),
        (true, false) => call.row_with_false("well_known"),
        (false, true) if is_there(&call) => pg_sys::Datum::null(),
        (false, true) => call.same_row(),
        (false, false) => {
            give_way(&call);
            call.row_with_false("well_known")
        }
    };
    TriggerRow::new(row)
}

fn is_there(call: &TriggerCall) -> bool {
    const SQL: &str = "SELECT true FROM autoembed.models WHERE name OPERATOR(pg_catalog.=) $1";
    call.new_text("name").is_some_and(|name| spi::first(SQL, args![name], Mode::Write, |_| ()).is_some())
}

/// With the rights of whoever inserts the row: who may add models may not for that reason put his own in the place of others.
fn give_way(call: &TriggerCall) {
    const IS_WELL_KNOWN: &str = "SELECT true FROM autoembed.models WHERE name OPERATOR(pg_catalog.=) $1 AND well_known";
    const SQL: &str = "DELETE FROM autoembed.models WHERE name OPERATOR(pg_catalog.=) $1 AND well_known";
    let Some(name) = call.new_text("name") else { return };
    if spi::first(IS_WELL_KNOWN, args![name.clone()], Mode::Write, |_| ()).is_some() {
        spi::execute(SQL, args![name]);
    }
}
