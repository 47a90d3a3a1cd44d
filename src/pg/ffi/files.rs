//! Whose files they are.

mod raw {
    unsafe extern "C" {
        pub safe fn geteuid() -> u32;
    }
}

/// The operating system's user that the server runs as.
pub fn server_user() -> u32 {
    raw::geteuid()
}
