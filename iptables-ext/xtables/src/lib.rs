// SPDX-License-Identifier: GPL-2.0-only

//! What an iptables extension needs of libxtables.

pub mod sys;

use core::ffi::c_int;

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
    /// There was a `!` before it.
    pub invert: bool,
    /// Its value, 0 if it takes none.
    pub value: u32,
}

/// Has libxtables look at an option and its value.
///
/// # Safety
///
/// `cb` must be what libxtables calls `x6_parse` with.
pub unsafe fn parse(cb: *mut sys::xt_option_call) -> Given {
    // SAFETY: By the caller's promise; `entry` is an element of the table of options, and its type
    // says which field of `val` has been set.
    unsafe {
        sys::xtables_option_parse(cb);
        let entry = &*(*cb).entry;
        Given {
            id: entry.id,
            invert: (*cb).invert,
            value: match entry.type_ {
                sys::XTTYPE_UINT8 => (*cb).val.u8_.into(),
                sys::XTTYPE_UINT16 => (*cb).val.u16_.into(),
                sys::XTTYPE_UINT32 => (*cb).val.u32_,
                _ => 0,
            },
        }
    }
}
