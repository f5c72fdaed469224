// SPDX-License-Identifier: GPL-2.0-only

//! `libxt_spstate.so`: teaches iptables the match `spstate`.
//!
//! The functions here are called by libxtables through the table in `shim.c`. They turn its
//! pointers into values and leave the rest to `text`.

mod sys;
mod text;

use core::ffi::{c_int, c_void, CStr};

/// Writes to the C library's stdout, which iptables prints to as well: Rust's own has another
/// buffer, and the order would be lost.
fn put(text: &CStr) {
    // SAFETY: Both strings end in a zero byte, and "%s" takes exactly one string.
    unsafe { libc::printf(c"%s".as_ptr(), text.as_ptr()) };
}

/// Ends iptables with `message` and the status for wrong options.
fn refuse(message: &CStr) -> ! {
    // SAFETY: libxtables sets `xt_params` before it loads extensions. The arguments are a format
    // and the one string it asks for.
    unsafe {
        if let Some(exit_err) = (*sys::xt_params).exit_err {
            exit_err(sys::PARAMETER_PROBLEM, c"%s".as_ptr(), message.as_ptr());
        }
        libc::abort()
    }
}

/// Prints the options of the match.
#[no_mangle]
pub extern "C" fn spstate_help() {
    put(c"\n");
    put(text::HELP);
}

/// Takes one option of a rule; called once for each.
///
/// # Safety
///
/// To be called by libxtables only, with the description of one of our options and `data`
/// pointing to a `struct xt_spstate_info` that may be written.
#[no_mangle]
pub unsafe extern "C" fn spstate_parse(cb: *mut sys::xt_option_call) {
    // SAFETY: By the caller's promise; `entry` is an element of `spstate_opts`.
    let (id, invert) = unsafe {
        sys::xtables_option_parse(cb);
        ((*(*cb).entry).id, (*cb).invert)
    };
    match text::parse(id, invert) {
        // SAFETY: By the caller's promise.
        Some(info) => unsafe { (*cb).data.cast::<sys::xt_spstate_info>().write(info) },
        None => refuse(text::REQUIRED),
    }
}

/// Looks at a whole rule: one state must be named. That no two are is seen to by libxtables.
///
/// # Safety
///
/// To be called by libxtables only, with the description of the rule.
#[no_mangle]
pub unsafe extern "C" fn spstate_fcheck(cb: *mut sys::xt_fcheck_call) {
    // SAFETY: By the caller's promise.
    if unsafe { (*cb).xflags } == 0 {
        refuse(text::REQUIRED);
    }
}

/// Prints the match for `iptables -L`.
///
/// # Safety
///
/// To be called by libxtables only, with a `match` that holds a `struct xt_spstate_info`.
#[no_mangle]
pub unsafe extern "C" fn spstate_print(
    _ip: *const c_void,
    r#match: *const sys::xt_entry_match,
    _numeric: c_int,
) {
    // SAFETY: By the caller's promise.
    put(text::print(unsafe { info(r#match) }));
}

/// Writes the match's option for `iptables-save`.
///
/// # Safety
///
/// To be called by libxtables only, with a `match` that holds a `struct xt_spstate_info`.
#[no_mangle]
pub unsafe extern "C" fn spstate_save(_ip: *const c_void, r#match: *const sys::xt_entry_match) {
    // SAFETY: By the caller's promise.
    put(text::save(unsafe { info(r#match) }));
}

/// The data of a match.
///
/// # Safety
///
/// `r#match` must hold a `struct xt_spstate_info` that lives for `'a`.
unsafe fn info<'a>(r#match: *const sys::xt_entry_match) -> &'a sys::xt_spstate_info {
    // SAFETY: By the caller's promise. `data` is addressed without a reference to the header,
    // since the bytes behind it are what is wanted.
    unsafe { &*(&raw const (*r#match).data).cast::<sys::xt_spstate_info>() }
}
