// SPDX-License-Identifier: GPL-2.0-only

//! `libxt_SYNPROXY.so`: teaches iptables the target `SYNPROXY`, in both revisions.
//!
//! The functions here are called by libxtables through the tables in `shim.c`. They turn its
//! pointers into values, and the parameters of either revision into those of revision 1; the rest
//! is left to `options`.

// libxtables asks for a file of the target's name.
#![cfg_attr(not(test), expect(non_snake_case, reason = "the name of the crate"))]

mod options;

use core::{
    ffi::{c_int, c_void},
    mem::size_of,
};
use options::Info;
use xtables::{put, refuse, sys};

/// Prints the options of revision 0.
#[no_mangle]
pub extern "C" fn synproxy_help_v0() {
    put("\n");
    put(options::HELP);
}

/// Prints the options of revision 1.
#[no_mangle]
pub extern "C" fn synproxy_help_v1() {
    synproxy_help_v0();
    put(options::HELP_V1);
}

/// Takes one option of a rule of revision 0; called once for each.
///
/// # Safety
///
/// To be called by libxtables only, with the description of one of our options and `data`
/// pointing to a `struct nf_synproxy_info` that may be read and written.
#[no_mangle]
pub unsafe extern "C" fn synproxy_parse_v0(cb: *mut sys::xt_option_call) {
    // SAFETY: By the caller's promise.
    unsafe { parse(cb, options::from_v0, options::to_v0) }
}

/// Takes one option of a rule of revision 1; called once for each.
///
/// # Safety
///
/// To be called by libxtables only, with the description of one of our options and `data`
/// pointing to a `struct xt_synproxy_info` that may be read and written.
#[no_mangle]
pub unsafe extern "C" fn synproxy_parse_v1(cb: *mut sys::xt_option_call) {
    // SAFETY: By the caller's promise.
    unsafe { parse(cb, |info: Info| info, Some) }
}

/// # Safety
///
/// As for the functions above, with `data` pointing to a `T`.
unsafe fn parse<T>(cb: *mut sys::xt_option_call, from: fn(T) -> Info, to: fn(Info) -> Option<T>) {
    // SAFETY: By the caller's promise.
    let (given, data, before) = unsafe {
        let data = (*cb).data.cast::<T>();
        (xtables::parse(cb), data, from(data.read()))
    };
    match options::parse(before, &given) {
        Ok(info) => match to(info) {
            // SAFETY: By the caller's promise.
            Some(info) => unsafe { data.write(info) },
            None => refuse(&format!("SYNPROXY: revision 0 has no --{}", given.name)),
        },
        Err(error) => refuse(&format!("SYNPROXY: {error}")),
    }
}

/// Prints the target for `iptables -L`.
///
/// # Safety
///
/// To be called by libxtables only, with a target that holds the parameters of either revision.
#[no_mangle]
pub unsafe extern "C" fn synproxy_print(
    _ip: *const c_void,
    target: *const sys::xt_entry_target,
    _numeric: c_int,
) {
    // SAFETY: By the caller's promise.
    put(&options::print(&unsafe { info(target) }));
}

/// Writes the target's options for `iptables-save`.
///
/// # Safety
///
/// To be called by libxtables only, with a target that holds the parameters of either revision.
#[no_mangle]
pub unsafe extern "C" fn synproxy_save(_ip: *const c_void, target: *const sys::xt_entry_target) {
    // SAFETY: By the caller's promise.
    put(&options::save(&unsafe { info(target) }));
}

/// The parameters of a target. Its size tells of which revision they are: iptables-nft calls the
/// functions for the highest one, whatever the rule has.
///
/// # Safety
///
/// `target` must hold parameters of the revision that its size says.
unsafe fn info(target: *const sys::xt_entry_target) -> Info {
    // SAFETY: By the caller's promise.
    unsafe {
        if usize::from((*target).u.target_size)
            < size_of::<sys::xt_entry_target>() + size_of::<Info>()
        {
            options::from_v0(data(target))
        } else {
            data(target)
        }
    }
}

/// The data of a target.
///
/// # Safety
///
/// `target` must hold a `T`.
unsafe fn data<T>(target: *const sys::xt_entry_target) -> T {
    // SAFETY: By the caller's promise. `data` is addressed without a reference to the header,
    // since the bytes behind it are what is wanted.
    unsafe { (&raw const (*target).data).cast::<T>().read() }
}
