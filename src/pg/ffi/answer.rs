//! The rows of a function whose caller says what columns they have (RETURNS SETOF record).

use crate::pg::ffi::spi::{self, Arg, Row};
use crate::pg::ffi::types::returned_as_is;
use pgrx::pg_sys;
use std::ffi::CString;

mod raw {
    use pgrx::pg_sys;

    // pgrx does not bind this one, which the server's own languages use; it is the same in 15 to 18, and raises no error.
    unsafe extern "C-unwind" {
        pub fn SetTuplestoreDestReceiverParams(
            receiver: *mut pg_sys::DestReceiver,
            store: *mut pg_sys::Tuplestorestate,
            context: pg_sys::MemoryContext,
            detoast: bool,
            wanted: pg_sys::TupleDesc,
            message: *const std::ffi::c_char,
        );
    }
}

const MISFIT: &std::ffi::CStr = c"the search does not give the columns that are asked for";

/// What is returned, while it is gathered.
pub struct Answer {
    store: *mut pg_sys::Tuplestorestate,
    wanted: pg_sys::TupleDesc,
    context: pg_sys::MemoryContext,
    is_checked: bool,
}

/// What the function returns: the rows are where the server has asked for them.
pub struct Rows(pg_sys::Datum);

returned_as_is!(Rows, "SETOF record");

impl Answer {
    /// An empty answer to a call; `None` where the call cannot take rows, or does not say which.
    pub fn new(fcinfo: pg_sys::FunctionCallInfo) -> Option<Answer> {
        const STORED: u32 = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
        const BACKWARDS: u32 = pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random;
        // SAFETY: the server's description of a call, which says where rows go, if anywhere.
        unsafe {
            let to = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let takes_rows = !to.is_null()
                && (*to).type_ == pg_sys::NodeTag::T_ReturnSetInfo
                && (*to).allowedModes as u32 & STORED != 0
                && !(*to).expectedDesc.is_null();
            if !takes_rows {
                return None;
            }
            // What the server has for it is called otherwise in 15.0.
            let context = (*(*to).econtext).ecxt_per_query_memory;
            let before = pg_sys::MemoryContextSwitchTo(context);
            let wanted = pg_sys::CreateTupleDescCopy((*to).expectedDesc);
            let goes_back = (*to).allowedModes as u32 & BACKWARDS != 0;
            let store = pg_sys::tuplestore_begin_heap(goes_back, false, pg_sys::work_mem);
            pg_sys::MemoryContextSwitchTo(before);
            (*to).returnMode = STORED;
            ((*to).setResult, (*to).setDesc) = (store, wanted);
            Some(Answer { store, wanted, context, is_checked: false })
        }
    }

    /// Whether columns of these types are asked for, and no others.
    pub fn is_of(&self, types: &[pg_sys::Oid]) -> bool {
        // SAFETY: the description of this call, with as many columns as it says.
        unsafe {
            usize::try_from((*self.wanted).natts) == Ok(types.len())
                && types.iter().enumerate().all(|(i, of)| pg_sys::SPI_gettypeid(self.wanted, i as i32 + 1) == *of)
        }
    }

    /// Adds a row of a statement's result, which has the columns that are asked for, or an error is raised.
    pub fn put(&mut self, row: &Row) {
        let (tuple, desc) = row.parts();
        // SAFETY: the row belongs to a result that is being read; the store copies it.
        unsafe {
            if !self.is_checked {
                // One that needs more than a copy has other columns than were asked for, too.
                if !pg_sys::convert_tuples_by_position(desc, self.wanted, MISFIT.as_ptr()).is_null() {
                    pgrx::error!("{}", MISFIT.to_string_lossy());
                }
                self.is_checked = true;
            }
            pg_sys::tuplestore_puttuple(self.store, tuple);
        }
    }

    /// Forgets the rows that it has.
    pub fn clear(&mut self) {
        // SAFETY: the store of this call.
        unsafe { pg_sys::tuplestore_clear(self.store) };
    }

    /// Runs a statement under the active snapshot, planned for these values, and adds its rows.
    pub fn fill(&mut self, sql: &str, args: &[Arg]) {
        let text = CString::new(sql).unwrap_or_default();
        spi::connected(
            || {
                // SAFETY: SPI is connected; list and receiver are made for this statement, and there are as many parameters as the list has.
                unsafe {
                    let list = pg_sys::makeParamList(args.len() as i32);
                    for (i, arg) in args.iter().enumerate() {
                        let (ptype, value) = arg.parts();
                        *(*list).params.as_mut_ptr().add(i) = pg_sys::ParamExternData {
                            value: value.unwrap_or(pg_sys::Datum::null()),
                            isnull: value.is_none(),
                            pflags: pg_sys::PARAM_FLAG_CONST as u16,
                            ptype,
                        };
                    }
                    let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestTuplestore);
                    raw::SetTuplestoreDestReceiverParams(
                        receiver,
                        self.store,
                        self.context,
                        false,
                        self.wanted,
                        MISFIT.as_ptr(),
                    );
                    let options = pg_sys::SPIExecuteOptions {
                        params: list,
                        read_only: true,
                        must_return_tuples: true,
                        dest: receiver,
                        ..Default::default()
                    };
                    let status = pg_sys::SPI_execute_extended(text.as_ptr(), &options);
                    if let Some(destroy) = (*receiver).rDestroy {
                        destroy(receiver);
                    }
                    // The rows are in the store alone.
                    pg_sys::SPI_tuptable = std::ptr::null_mut();
                    status
                }
            },
            |_| (),
        );
    }

    /// What the function returns.
    pub fn done(self) -> Rows {
        Rows(pg_sys::Datum::null())
    }
}
