//! A trigger's call: its arguments, its table, and the keys of the changed rows read straight from the tuples.

use pgrx::pg_sys;
use std::ffi::CStr;

unsafe extern "C-unwind" {
    // Compares bytes and raises no errors; pgrx does not bind it.
    fn datumIsEqual(left: pg_sys::Datum, right: pg_sys::Datum, by_value: bool, length: i32) -> bool;
}

/// One column of a primary key, as found in the table whose trigger fires.
#[derive(Debug, Clone)]
pub struct KeyColumn {
    /// Its number in that table.
    pub attnum: i16,
    /// Its type.
    pub type_oid: pg_sys::Oid,
}

/// The texts of a key's columns.
type Key<'k> = &'k [String];

/// The call of a trigger function.
pub struct TriggerCall {
    data: *mut pg_sys::TriggerData,
}

impl TriggerCall {
    /// `None` where the function was not called as a trigger.
    pub fn new(fcinfo: pg_sys::FunctionCallInfo) -> Option<TriggerCall> {
        // SAFETY: the server passes a valid call; its context is the trigger's data if its tag says so.
        unsafe {
            let context = (*fcinfo).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return None;
            }
            Some(TriggerCall { data: context.cast() })
        }
    }

    /// The table.
    pub fn relation(&self) -> pg_sys::Oid {
        // SAFETY: valid for the length of the call.
        unsafe { (*(*self.data).tg_relation).rd_id }
    }

    /// The trigger itself.
    pub fn trigger(&self) -> pg_sys::Oid {
        // SAFETY: valid for the length of the call.
        unsafe { (*(*self.data).tg_trigger).tgoid }
    }

    /// The arguments that CREATE TRIGGER gave it.
    pub fn arguments(&self) -> Vec<String> {
        // SAFETY: the trigger has tgnargs texts that end with NUL.
        unsafe {
            let trigger = (*self.data).tg_trigger;
            (0..(*trigger).tgnargs as usize)
                .map(|i| CStr::from_ptr(*(*trigger).tgargs.add(i)).to_string_lossy().into_owned())
                .collect()
        }
    }

    /// A row trigger, not a statement trigger.
    pub fn is_row(&self) -> bool {
        // SAFETY: valid for the length of the call.
        unsafe { (*self.data).tg_event & pg_sys::TRIGGER_EVENT_ROW != 0 }
    }

    /// A BEFORE trigger.
    pub fn is_before(&self) -> bool {
        // SAFETY: valid for the length of the call.
        unsafe { (*self.data).tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE }
    }

    /// Fired by UPDATE.
    pub fn is_update(&self) -> bool {
        // SAFETY: valid for the length of the call.
        unsafe { (*self.data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE }
    }

    /// Calls `each` with the key of every changed row, but for those where a part of it is NULL: of the new row in a row trigger, of all rows
    /// of the transition table in a statement trigger.
    pub fn for_each_key(&self, columns: &[KeyColumn], mut each: impl FnMut(Key<'_>)) {
        let mut parts = vec![String::new(); columns.len()];
        // SAFETY: slots and tuplestore belong to the call; the transition table has the table's own columns.
        unsafe {
            if self.is_row() {
                let slot = if self.is_update() { (*self.data).tg_newslot } else { (*self.data).tg_trigslot };
                if read_key(slot, columns, &mut parts) {
                    each(&parts);
                }
                return;
            }
            let store = (*self.data).tg_newtable;
            if store.is_null() {
                return;
            }
            let slot = pg_sys::MakeSingleTupleTableSlot(
                (*(*self.data).tg_relation).rd_att,
                &raw const pg_sys::TTSOpsMinimalTuple,
            );
            pg_sys::tuplestore_rescan(store);
            while pg_sys::tuplestore_gettupleslot(store, true, false, slot) {
                if read_key(slot, columns, &mut parts) {
                    each(&parts);
                }
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
    }

    /// Whether an UPDATE's row trigger sees another value in the column named `column` than before.
    pub fn changes_column(&self, column: &str) -> bool {
        let Ok(name) = std::ffi::CString::new(column) else { return false };
        if !self.is_row() || !self.is_update() {
            return false;
        }
        // SAFETY: both slots hold rows of the table; the column's type is read from its descriptor.
        unsafe {
            let relation = (*self.data).tg_relation;
            let attnum = pg_sys::get_attnum((*relation).rd_id, name.as_ptr());
            if attnum <= 0 {
                return false;
            }
            let (old, old_null) = value_of((*self.data).tg_trigslot, attnum);
            let (new, new_null) = value_of((*self.data).tg_newslot, attnum);
            // A value that an update leaves alone has the very same bytes, also where it is stored out of line.
            old_null != new_null || (!old_null && !datumIsEqual(old, new, false, -1))
        }
    }

    /// Whether an UPDATE's row trigger sees any other value than before.
    pub fn changes_row(&self) -> bool {
        if !self.is_row() || !self.is_update() {
            return false;
        }
        // SAFETY: both slots hold rows of the table, whose columns' types are in the catalogue.
        unsafe {
            let relation = (*self.data).tg_relation;
            let columns = i16::try_from((*(*relation).rd_att).natts).unwrap_or(i16::MAX);
            (1..=columns).any(|attnum| {
                let type_oid = pg_sys::get_atttype((*relation).rd_id, attnum);
                if type_oid == pg_sys::InvalidOid {
                    return false;
                }
                let (mut length, mut by_value) = (0, false);
                pg_sys::get_typlenbyval(type_oid, &mut length, &mut by_value);
                let (old, old_null) = value_of((*self.data).tg_trigslot, attnum);
                let (new, new_null) = value_of((*self.data).tg_newslot, attnum);
                old_null != new_null || (!old_null && !datumIsEqual(old, new, by_value, length.into()))
            })
        }
    }

    /// The text of a column in the new row of a row trigger; `None`: it is NULL, or there is no such column.
    pub fn new_text(&self, column: &str) -> Option<String> {
        let name = std::ffi::CString::new(column).ok()?;
        // SAFETY: the slot holds a row of the table; the column is looked up in it.
        unsafe {
            let relation = (*(*self.data).tg_relation).rd_id;
            let attnum = pg_sys::get_attnum(relation, name.as_ptr());
            if attnum <= 0 || !self.is_row() {
                return None;
            }
            let slot = if self.is_update() { (*self.data).tg_newslot } else { (*self.data).tg_trigslot };
            let type_oid = pg_sys::get_atttype(relation, attnum);
            let mut text = [String::new()];
            let is_there = read_key(slot, &[KeyColumn { attnum, type_oid }], &mut text);
            let [text] = text;
            is_there.then_some(text)
        }
    }

    /// What a BEFORE row trigger returns to leave the row as it is.
    pub fn same_row(&self) -> pg_sys::Datum {
        // SAFETY: valid for the length of the call.
        unsafe {
            pg_sys::Datum::from(if self.is_update() { (*self.data).tg_newtuple } else { (*self.data).tg_trigtuple })
        }
    }

    /// What a BEFORE row trigger returns to set the column named `column` NULL. The row as it is, where it has no such column.
    pub fn row_without(&self, column: &str) -> pg_sys::Datum {
        self.row_with(column, None)
    }

    /// What a BEFORE row trigger returns to set the boolean column named `column` false, as [`Self::row_without`].
    pub fn row_with_false(&self, column: &str) -> pg_sys::Datum {
        self.row_with(column, Some(pg_sys::Datum::from(false)))
    }

    fn row_with(&self, column: &str, value: Option<pg_sys::Datum>) -> pg_sys::Datum {
        // SAFETY: the new tuple has the table's descriptor; the arrays have one entry, for a column looked up in it.
        unsafe {
            let relation = (*self.data).tg_relation;
            let Ok(name) = std::ffi::CString::new(column) else { return self.same_row() };
            let attnum = pg_sys::get_attnum((*relation).rd_id, name.as_ptr());
            if attnum <= 0 {
                return self.same_row();
            }
            let tuple = if self.is_update() { (*self.data).tg_newtuple } else { (*self.data).tg_trigtuple };
            let mut number = i32::from(attnum);
            let mut null = value.is_none();
            let mut value = value.unwrap_or(pg_sys::Datum::null());
            pg_sys::Datum::from(pg_sys::heap_modify_tuple_by_cols(
                tuple,
                (*relation).rd_att,
                1,
                &raw mut number,
                &raw mut value,
                &raw mut null,
            ))
        }
    }
}

unsafe fn value_of(slot: *mut pg_sys::TupleTableSlot, attnum: i16) -> (pg_sys::Datum, bool) {
    // SAFETY: the slot holds a row with that column; values up to `attnum` are there after the deforming call.
    unsafe {
        if (*slot).tts_nvalid < attnum {
            pg_sys::slot_getsomeattrs_int(slot, i32::from(attnum));
        }
        let index = attnum as usize - 1;
        (*(*slot).tts_values.add(index), *(*slot).tts_isnull.add(index))
    }
}

/// Writes the parts of a row's key over `parts`; false: one of them is NULL.
unsafe fn read_key(slot: *mut pg_sys::TupleTableSlot, columns: &[KeyColumn], parts: &mut [String]) -> bool {
    columns.iter().zip(parts).all(|(column, part)| {
        // SAFETY: the slot holds a row of the table.
        unsafe {
            let (value, is_null) = value_of(slot, column.attnum);
            part.clear();
            if !is_null {
                write_text(value, column.type_oid, part);
            }
            !is_null
        }
    })
}

/// # Safety
/// The value is of the type.
pub(super) unsafe fn text_of(value: pg_sys::Datum, type_oid: pg_sys::Oid) -> String {
    let mut text = String::new();
    // SAFETY: the caller's.
    unsafe { write_text(value, type_oid, &mut text) };
    text
}

/// # Safety
/// The value is of the type.
unsafe fn write_text(value: pg_sys::Datum, type_oid: pg_sys::Oid, to: &mut String) {
    match type_oid {
        pg_sys::INT2OID => to.push_str(itoa::Buffer::new().format(value.value() as i16)),
        pg_sys::INT4OID => to.push_str(itoa::Buffer::new().format(value.value() as i32)),
        pg_sys::INT8OID => to.push_str(itoa::Buffer::new().format(value.value() as i64)),
        pg_sys::UUIDOID => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            // SAFETY: the value is a pointer to sixteen bytes.
            let bytes = unsafe { value.cast_mut_ptr::<[u8; 16]>().read_unaligned() };
            for (i, byte) in bytes.into_iter().enumerate() {
                if matches!(i, 4 | 6 | 8 | 10) {
                    to.push('-');
                }
                to.push(DIGITS[usize::from(byte >> 4)] as char);
                to.push(DIGITS[usize::from(byte & 15)] as char);
            }
        }
        _ => {
            let mut output = pg_sys::InvalidOid;
            let mut is_varlena = false;
            // SAFETY: the value is of the type; the output function gives a text that ends with NUL.
            unsafe {
                pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_varlena);
                let text = pg_sys::OidOutputFunctionCall(output, value);
                to.push_str(&CStr::from_ptr(text).to_string_lossy());
                pg_sys::pfree(text.cast());
            }
        }
    }
}

/// Whether texts of the type come out the same under all settings of a session.
pub fn output_is_stable(type_oid: pg_sys::Oid) -> bool {
    matches!(
        type_oid,
        pg_sys::INT2OID
            | pg_sys::INT4OID
            | pg_sys::INT8OID
            | pg_sys::UUIDOID
            | pg_sys::TEXTOID
            | pg_sys::VARCHAROID
            | pg_sys::BPCHAROID
            | pg_sys::NAMEOID
            | pg_sys::BOOLOID
            | pg_sys::OIDOID
            | pg_sys::NUMERICOID
    )
}
