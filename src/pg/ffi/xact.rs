//! The end of a transaction.

use pgrx::pg_sys;
use std::cell::RefCell;

type Callback = Box<dyn Fn(bool)>;

thread_local! {
    static CALLBACKS: RefCell<Vec<Callback>> = const { RefCell::new(Vec::new()) };
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
