// SPDX-License-Identifier: GPL-2.0-only

//! What an iptables extension needs of libxtables.

pub mod sys;

use core::ffi::{c_int, CStr};

/// Writes to the C library's stdout, which iptables prints to as well: Rust's own has another
/// buffer, and the order would be lost.
pub fn put(text: &str) {
    // SAFETY: "%.*s" takes a length and so many bytes.
    unsafe { libc::printf(c"%.*s".as_ptr(), length(text), text.as_ptr()) };
}

/// Ends iptables with `message` and the status for wrong options.
pub fn refuse(message: &str) -> ! {
    // SAFETY: libxtables sets `xt_params` before it loads extensions. "%.*s" takes a length and so
    // many bytes.
    unsafe {
        if let Some(exit_err) = (*sys::xt_params).exit_err {
            exit_err(
                sys::PARAMETER_PROBLEM,
                c"%.*s".as_ptr(),
                length(message),
                message.as_ptr(),
            );
        }
        libc::abort()
    }
}

fn length(text: &str) -> c_int {
    c_int::try_from(text.len()).unwrap_or(c_int::MAX)
}

/// An option as it was given with a rule.
pub struct Given {
    /// Which one: its `id` in the table of options.
    pub id: u32,
    /// Its name, without the `--`.
    pub name: String,
    /// There was a `!` before it.
    pub invert: bool,
    /// Its value, if it takes one.
    pub value: Option<String>,
}

/// Has libxtables look at an option: whether it was given before, or inverted, or without the
/// value that it takes.
///
/// # Safety
///
/// `cb` must be what libxtables calls `x6_parse` with, and the types in the table of options none
/// but `XTTYPE_NONE` and `XTTYPE_STRING`.
pub unsafe fn parse(cb: *mut sys::xt_option_call) -> Given {
    // SAFETY: By the caller's promise; `entry` is an element of the table of options, and `arg` is
    // a string if its type says so, as libxtables refuses such an option without a value.
    unsafe {
        sys::xtables_option_parse(cb);
        let entry = &*(*cb).entry;
        let text = |string| CStr::from_ptr(string).to_string_lossy().into_owned();
        Given {
            id: entry.id,
            name: text(entry.name),
            invert: (*cb).invert,
            value: (entry.type_ == sys::XTTYPE_STRING).then(|| text((*cb).arg)),
        }
    }
}
