// SPDX-License-Identifier: GPL-2.0-only

//! `libxt_spstate.so`: teaches iptables the match `spstate`.
//!
//! The functions here are called by libxtables through the table in `shim.c`. They turn its
//! pointers into values and leave the rest to `text`.

mod text;

use core::ffi::{c_int, c_void};
use xtables::{put, refuse, sys};

/// Prints the options of the match.
#[no_mangle]
pub extern "C" fn spstate_help() {
    put("\n");
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
    // SAFETY: By the caller's promise.
    let given = unsafe { xtables::parse(cb) };
    match text::parse(given.id, given.invert) {
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
