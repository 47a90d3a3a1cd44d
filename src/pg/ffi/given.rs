//! Texts that a session has written, in the form that they have in every session.

use crate::pg::ffi::rights::with_stable_output;
use crate::pg::ffi::rows::{output_is_stable, text_of};
use pgrx::pg_sys;
use std::ffi::CString;

/// Reads values of a type as the session's settings have them, and writes them in the one form that keys have. Raises what the type's
/// input function raises, which for a domain runs its owner's code.
pub fn in_key_form(type_oid: pg_sys::Oid, texts: &[String]) -> Vec<String> {
    let (mut input, mut of_input) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: looks the type up in the catalogue; the input function takes a text that ends with NUL.
    let values: Vec<pg_sys::Datum> = unsafe {
        pg_sys::getTypeInputInfo(type_oid, &mut input, &mut of_input);
        texts
            .iter()
            .map(|text| {
                // A NUL cannot come out of a text of Postgres.
                let text = CString::new(text.as_str()).unwrap_or_default();
                pg_sys::OidInputFunctionCall(input, text.as_ptr().cast_mut(), of_input, -1)
            })
            .collect()
    };
    // SAFETY: values of the type, alive until the call ends.
    let write = || values.iter().map(|value| unsafe { text_of(*value, type_oid) }).collect();
    if output_is_stable(type_oid) { write() } else { with_stable_output(write) }
}
