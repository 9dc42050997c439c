//! `/init` of vmint's initramfs. Everything is in the library.
//!
//! `main` is C's: before Rust's own could run, the standard library would open `/dev/null` for descriptors that are
//! missing, and abort where there is no `/dev` yet; and only C's is told where `argv` is, which the agent renames.
#![no_main]

use std::ffi::{c_char, c_int};

/// Called by the C library.
///
/// # Safety
/// `argv` has `argc` elements.
#[unsafe(no_mangle)]
unsafe extern "C" fn main(argc: c_int, argv: *mut *mut c_char) -> c_int {
    // SAFETY: this is main, and these are its arguments.
    unsafe { vmint_agent::sys::remember_argv(argc, argv) };
    vmint_agent::boot::run()
}
