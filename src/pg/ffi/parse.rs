//! What an input expression is and which columns it reads, by the server's own parser.

use pgrx::pg_sys;
use std::ffi::CString;

/// What the parser says of `SELECT (expression) FROM ONLY table`.
pub struct Expression {
    /// Columns of the table that it reads, also inside subqueries; 0 stands for the whole row.
    pub columns: Vec<i16>,
    /// It calls a volatile function.
    pub is_volatile: bool,
    /// It is one value a row: no aggregate, window or set-returning function.
    pub one_value: bool,
}

/// Parses and analyses `statement`, whose first table must be `table`. `None` where it is not one plain SELECT of one
/// column. Syntax errors and unknown names are raised by the server.
pub fn analyse(statement: &str, table: pg_sys::Oid) -> Option<Expression> {
    let text = CString::new(statement).ok()?;
    // SAFETY: the text ends with NUL and outlives the trees; list cells and nodes are read with the types that the
    // parser documents for them.
    unsafe {
        let trees = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        if trees.is_null() || (*trees).length != 1 {
            return None;
        }
        let raw = (*(*trees).elements).ptr_value.cast::<pg_sys::RawStmt>();
        if (*(*raw).stmt).type_ != pg_sys::NodeTag::T_SelectStmt {
            return None;
        }
        let query = pg_sys::parse_analyze_fixedparams(raw, text.as_ptr(), std::ptr::null(), 0, std::ptr::null_mut());
        if (*query).targetList.is_null() || (*(*query).targetList).length != 1 || (*query).rtable.is_null() {
            return None;
        }
        let first = (*(*(*query).rtable).elements).ptr_value.cast::<pg_sys::RangeTblEntry>();
        if (*first).relid != table {
            return None;
        }
        let selected = selected_columns(query, first);
        let mut columns = Vec::new();
        let mut member = -1;
        loop {
            member = pg_sys::bms_next_member(selected, member);
            if member < 0 {
                break;
            }
            columns.push((member + pg_sys::FirstLowInvalidHeapAttributeNumber) as i16);
        }
        Some(Expression {
            columns,
            is_volatile: pg_sys::contain_volatile_functions(query.cast()),
            one_value: !((*query).hasAggs || (*query).hasWindowFuncs || (*query).hasTargetSRFs),
        })
    }
}

#[cfg(feature = "pg15")]
unsafe fn selected_columns(_: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) -> *const pg_sys::Bitmapset {
    // SAFETY: the caller passes an entry of an analysed query.
    unsafe { (*entry).selectedCols }
}

#[cfg(not(feature = "pg15"))]
unsafe fn selected_columns(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) -> *const pg_sys::Bitmapset {
    // SAFETY: an entry of a table has its permissions at perminfoindex (from 1) of the query's list.
    unsafe {
        let index = (*entry).perminfoindex as usize;
        if index == 0 {
            return std::ptr::null();
        }
        let info = (*(*(*query).rteperminfos).elements.add(index - 1)).ptr_value.cast::<pg_sys::RTEPermissionInfo>();
        (*info).selectedCols
    }
}
