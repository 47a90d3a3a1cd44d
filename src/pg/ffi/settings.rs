//! Settings whose values are checked when they are given.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_void};

/// What is wrong with a value.
pub struct Wrong {
    /// One sentence, shown as the error's detail.
    pub detail: String,
    /// What to write instead.
    pub hint: String,
    /// The error's message, where the server's own, which repeats the value, must not be shown.
    pub message: Option<String>,
}

/// Says what is wrong with a value, if anything is. It must not raise errors.
pub type Check = fn(&str) -> Option<Wrong>;

/// Settings of this process that are checked: there are as many hooks as settings, since a hook is not told whose value it
/// sees.
const HOOKS: [pg_sys::GucStringCheckHook; 2] = [Some(first), Some(second)];

thread_local! {
    static CHECKS: [Cell<Option<Check>>; 2] = const { [const { Cell::new(None) }; 2] };
    static DEFINING: Cell<bool> = const { Cell::new(false) };
}

/// A text setting and its check.
pub struct Checked {
    /// `autoembed.something`.
    pub name: &'static CStr,
    /// One sentence.
    pub short: &'static CStr,
    /// What else there is to say.
    pub long: &'static CStr,
    /// Where its value is.
    pub setting: &'static GucSetting<Option<CString>>,
    /// Who may see it.
    pub flags: GucFlags,
    /// What it must be.
    pub check: Check,
}

/// Defines settings of the context SIGHUP, whose wrong values are refused from now on.
///
/// A wrong value that stands in the configuration file already is taken: to refuse it would put the default in its place,
/// with a line in the log alone. Whoever uses such a setting checks it again.
pub fn define_checked(settings: [Checked; 2]) {
    DEFINING.set(true);
    for (n, Checked { name, short, long, setting, flags, check }) in settings.into_iter().enumerate() {
        CHECKS.with(|checks| checks[n].set(Some(check)));
        // SAFETY: the hooks catch panics, and stay as long as the library, which is never unloaded.
        unsafe {
            GucRegistry::define_string_guc_with_hooks(
                name,
                short,
                long,
                setting,
                GucContext::Sighup,
                flags,
                HOOKS[n],
                None,
                None,
            );
        }
    }
    DEFINING.set(false);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn first(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: as the server calls it.
    unsafe { is_right(0, value) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn second(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: as the server calls it.
    unsafe { is_right(1, value) }
}

/// # Safety
/// `value` points to a pointer to a string, or to a null pointer.
unsafe fn is_right(n: usize, value: *mut *mut c_char) -> bool {
    // SAFETY: the caller's promise.
    let text = unsafe {
        if DEFINING.get() || (*value).is_null() {
            return true;
        }
        CStr::from_ptr(*value).to_string_lossy()
    };
    let Some(wrong) = CHECKS.with(|checks| checks[n].get()).and_then(|check| check(&text)) else {
        return true;
    };
    // SAFETY: the server shows and frees these with the error that follows; they are of the context that it expects.
    unsafe {
        pg_sys::GUC_check_errdetail_string = kept(&wrong.detail);
        pg_sys::GUC_check_errhint_string = kept(&wrong.hint);
        if let Some(message) = &wrong.message {
            pg_sys::GUC_check_errmsg_string = kept(message);
        }
    }
    false
}

fn kept(text: &str) -> *mut c_char {
    let text: String = text.chars().filter(|c| *c != '\0').collect();
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: copies the string into the context of errors, which every process has.
    unsafe { pg_sys::MemoryContextStrdup(pg_sys::ErrorContext, text.as_ptr()) }
}

/// The server's `maintenance_work_mem`, in bytes.
pub fn maintenance_work_mem() -> u64 {
    // SAFETY: a number that this process alone changes.
    let kilobytes = unsafe { pg_sys::maintenance_work_mem };
    1024 * u64::try_from(kilobytes).unwrap_or(0)
}

/// A whole number that a setting of another library has; `None`: there is no such setting.
pub fn number(name: &CStr) -> Option<i32> {
    // SAFETY: the value is copied before anything else is called.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() { None } else { CStr::from_ptr(value).to_str().ok()?.parse().ok() }
    }
}

/// Settings of libraries, which are made up as long as these are not loaded.
const OF_LIBRARIES: [&str; 2] = ["hnsw.", "autoembed."];

/// The settings that users have made up (`SET app.user_id = 'anna'`) as they are now: names and values, in the order of names.
pub fn made_up() -> String {
    let mut found = String::new();
    // SAFETY: the server's own table of settings, which nothing changes meanwhile; what is a placeholder is a text.
    unsafe {
        for &setting in all() {
            if setting.is_null() || (*setting).flags & pg_sys::GUC_CUSTOM_PLACEHOLDER as i32 == 0 {
                continue;
            }
            let value = *(*setting.cast::<pg_sys::config_string>()).variable;
            // One that was only set in a transaction before stays behind, empty.
            if value.is_null() || *value == 0 {
                continue;
            }
            let [name, value] = [(*setting).name, value].map(|part| CStr::from_ptr(part).to_string_lossy());
            if !OF_LIBRARIES.iter().any(|prefix| name.starts_with(prefix)) {
                found.push_str(&format!("{name} {} {value}", value.len()));
            }
        }
    }
    found
}

/// All settings of this process. They are used before anything of the server is called.
#[cfg(feature = "pg15")]
unsafe fn all<'a>() -> &'a [*mut pg_sys::config_generic] {
    // SAFETY: the server's table has so many entries.
    unsafe { from_server(pg_sys::get_guc_variables(), pg_sys::GetNumConfigOptions()) }
}

#[cfg(not(feature = "pg15"))]
unsafe fn all<'a>() -> &'a [*mut pg_sys::config_generic] {
    let mut count = 0;
    // SAFETY: an array in the present memory context, of as many entries as it says.
    unsafe {
        let array = pg_sys::get_guc_variables(&mut count);
        from_server(array, count)
    }
}

unsafe fn from_server<'a>(array: *mut *mut pg_sys::config_generic, count: i32) -> &'a [*mut pg_sys::config_generic] {
    match usize::try_from(count) {
        // SAFETY: the caller has both from the server.
        Ok(count) if !array.is_null() => unsafe { std::slice::from_raw_parts(array, count) },
        _ => &[],
    }
}
