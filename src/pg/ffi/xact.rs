//! The end of a transaction.

use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString};

mod raw {
    // pgrx does not bind it. It raises an error where a payload is too long.
    unsafe extern "C-unwind" {
        pub fn Async_Notify(channel: *const core::ffi::c_char, payload: *const core::ffi::c_char);
    }
}

type Callback = Box<dyn Fn(bool)>;

thread_local! {
    static CALLBACKS: RefCell<Vec<Callback>> = const { RefCell::new(Vec::new()) };
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
    /// Notifications, each with its channel and the subtransaction that it hangs on.
    static TO_TELL: RefCell<Vec<(pg_sys::SubTransactionId, &'static CStr, CString)>> = const { RefCell::new(Vec::new()) };
}

/// Calls `callback` after each commit (true) or rollback (false) of this process. It must not raise errors.
pub fn on_end(callback: impl Fn(bool) + 'static) {
    CALLBACKS.with(|list| {
        let mut list = list.borrow_mut();
        if list.is_empty() {
            // SAFETY: the function stays as long as the library, which is never unloaded.
            unsafe { pg_sys::RegisterXactCallback(Some(ended), std::ptr::null_mut()) };
        }
        list.push(Box::new(callback));
    });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn ended(event: pg_sys::XactEvent::Type, _unused: *mut std::ffi::c_void) {
    let committed = match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT => true,
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => false,
        _ => return,
    };
    // A process that ends by exit() has dropped the list before its transaction is rolled back.
    let _ = CALLBACKS.try_with(|list| {
        if let Ok(list) = list.try_borrow() {
            for callback in list.iter() {
                callback(committed);
            }
        }
    });
}

/// Sends a notification as this transaction commits, like NOTIFY; but a transaction that is prepared instead is none the worse for it,
/// and nobody is told.
pub fn notify_at_commit(channel: &'static CStr, payload: &str) {
    let Ok(payload) = CString::new(payload) else { return };
    // SAFETY: the functions stay as long as the library, which is never unloaded; the number is read in a transaction.
    let subtransaction = unsafe {
        if !IS_TELLING.replace(true) {
            pg_sys::RegisterXactCallback(Some(tell), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_ended), std::ptr::null_mut());
        }
        pg_sys::GetCurrentSubTransactionId()
    };
    TO_TELL.with_borrow_mut(|waiting| waiting.push((subtransaction, channel, payload)));
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn tell(event: pg_sys::XactEvent::Type, _unused: *mut std::ffi::c_void) {
    let is_over = match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => false,
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => true,
        _ => return,
    };
    let Ok(waiting) = TO_TELL.try_with(RefCell::take) else { return };
    for (_, channel, payload) in waiting.into_iter().filter(|_| !is_over) {
        // SAFETY: in a transaction that has not committed yet, before the server sends what it has been given; the texts are copied.
        unsafe { raw::Async_Notify(channel.as_ptr(), payload.as_ptr()) };
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn subtransaction_ended(
    event: pg_sys::SubXactEvent::Type,
    ended: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _unused: *mut std::ffi::c_void,
) {
    let _ = TO_TELL.try_with(|waiting| {
        let Ok(mut waiting) = waiting.try_borrow_mut() else { return };
        match event {
            pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => waiting.retain(|(of, ..)| *of != ended),
            pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
                waiting.iter_mut().filter(|(of, ..)| *of == ended).for_each(|(of, ..)| *of = parent);
            }
            _ => {}
        }
    });
}
