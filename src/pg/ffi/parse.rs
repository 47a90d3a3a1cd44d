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
        let (query, first) = tree(&text, table)?;
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

/// Whether the one column of `statement`, of which [`analyse`] knows, has a subquery.
pub fn has_subquery(statement: &str, table: pg_sys::Oid) -> bool {
    let Ok(text) = CString::new(statement) else { return false };
    // SAFETY: as in `analyse`.
    unsafe { tree(&text, table).is_some_and(|(query, _)| (*query).hasSubLinks) }
}

/// Which of these indexes have the one column of `statement`, which selects from `table` alone. An index is given by its one expression as
/// `pg_index.indexprs` has it. Nothing is simplified before it is compared: that would run functions of the table's owner.
pub fn same_expression(statement: &str, table: pg_sys::Oid, indexes: &[String]) -> Vec<bool> {
    let Ok(text) = CString::new(statement) else { return Vec::new() };
    // SAFETY: as in `analyse`; the server reads what it has written, a list of one expression.
    unsafe {
        let Some((query, _)) = tree(&text, table) else { return Vec::new() };
        let wanted = selected(query);
        let is_same = |stored: &String| {
            let Ok(stored) = CString::new(stored.as_str()) else { return false };
            let list = pg_sys::stringToNode(stored.as_ptr()).cast::<pg_sys::List>();
            !list.is_null() && (*list).length == 1 && pg_sys::equal(wanted.cast(), (*(*list).elements).ptr_value)
        };
        indexes.iter().map(is_same).collect()
    }
}

/// The one selected expression.
unsafe fn selected(query: *mut pg_sys::Query) -> *mut pg_sys::Node {
    // SAFETY: the caller passes what `tree` has given, which has one target.
    unsafe {
        let target = (*(*(*query).targetList).elements).ptr_value.cast::<pg_sys::TargetEntry>();
        (*target).expr.cast()
    }
}

/// The tree of a plain SELECT of one column whose first table is `table`, and its entry for that table.
unsafe fn tree(text: &CString, table: pg_sys::Oid) -> Option<(*mut pg_sys::Query, *mut pg_sys::RangeTblEntry)> {
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
        ((*first).relid == table).then_some((query, first))
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
