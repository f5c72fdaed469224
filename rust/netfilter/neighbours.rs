// SPDX-License-Identifier: GPL-2.0-only

//! Who else is at the hooks: the kernel's own SYN proxy.
//!
//! C headers: [`include/linux/netfilter.h`](srctree/include/linux/netfilter.h),
//! [`include/net/netfilter/nf_synproxy.h`](srctree/include/net/netfilter/nf_synproxy.h)

use super::{bindings, hook::point, sync::Glance, Family, Net};
use kernel::{
    ffi,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu,
    },
};

/// The hook function of nf_synproxy_core.
fn hook_name(family: Family) -> &'static CStr {
    match family {
        Family::Ipv4 => c"ipv4_synproxy_hook",
        Family::Ipv6 => c"ipv6_synproxy_hook",
    }
}

/// A function of a module that may not be loaded.
///
/// # Invariants
///
/// A reference on the module that exports `name` is held as long as the value lives.
struct Symbol {
    name: &'static CStr,
    address: *mut ffi::c_void,
}

impl Symbol {
    fn get(name: &'static CStr) -> Option<Self> {
        // SAFETY: A string; may be called in any context.
        let address = unsafe { bindings::__symbol_get(name.as_char_ptr()) };
        // Not loaded, it gives no reference: then no value may be made, nor dropped.
        if address.is_null() {
            return None;
        }
        // INVARIANT: The reference was just taken.
        Some(Self { name, address })
    }
}

impl Drop for Symbol {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::__symbol_put(self.name.as_char_ptr()) }
    }
}

/// The hooks at LOCAL_IN.
///
/// # Safety
///
/// To be called in an RCU section.
unsafe fn entries(net: &Net, family: Family) -> *const bindings::nf_hook_entries {
    // SAFETY: `net` is valid; the rest is the caller's promise.
    unsafe {
        bindings::rust_helper_nf_hook_entries(net.as_raw(), family as u8, point::LOCAL_IN.into())
    }
}

/// # Safety
///
/// `entries` must come from [`entries`], in an RCU section that has not ended.
unsafe fn has_synproxy(entries: *const bindings::nf_hook_entries, family: Family) -> bool {
    // Not loaded, it has no hooks.
    let Some(wanted) = Symbol::get(hook_name(family)) else {
        return false;
    };
    if entries.is_null() {
        return false;
    }
    // SAFETY: The array has that many elements, and is not freed before the RCU section ends. When a
    // hook goes, another function takes its place meanwhile: so each is read once.
    unsafe {
        let first = (&raw const (*entries).hooks).cast::<bindings::nf_hook_entry>();
        (0..usize::from((*entries).num_hook_entries)).any(|i| {
            (&raw const (*first.add(i)).hook)
                .read_volatile()
                .is_some_and(|hook| hook as *const () == wanted.address.cast_const().cast())
        })
    }
}

/// Whether the kernel's own SYN proxy has hooks in `net`; it has as long as it has rules there.
pub fn synproxy(net: &Net, family: Family) -> bool {
    let _rcu = rcu::read_lock();
    // SAFETY: The RCU section lasts until the end of this function.
    unsafe { has_synproxy(entries(net, family), family) }
}

/// What was seen when the hooks of a namespace were last looked at, for IPv4 and IPv6: the address of
/// their array, and in its lowest bit whether the kernel's own SYN proxy was in it.
///
/// The kernel makes a new array whenever a hook comes or goes. Should the memory of one that was
/// seen be used for one that was not, a change is missed until the next.
pub struct Seen {
    ipv4: Atomic<usize>,
    ipv6: Atomic<usize>,
}

impl Seen {
    /// Nothing has been seen yet.
    pub(super) const fn new() -> Self {
        Self {
            ipv4: Atomic::new(0),
            ipv6: Atomic::new(0),
        }
    }

    /// Whether the kernel's own SYN proxy has come since the last look; of several callers one is
    /// told. Costs a comparison while nothing changes. To be called with a packet.
    pub fn synproxy_came(&self, net: &Net, family: Family) -> bool {
        let seen = match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        };
        let last = seen.glance();
        // SAFETY: Netfilter shows packets in an RCU section.
        let entries = unsafe { entries(net, family) };
        if entries.addr() == last & !1 {
            return false;
        }
        // SAFETY: As above.
        let there = unsafe { has_synproxy(entries, family) };
        let now = entries.addr() | usize::from(there);
        seen.cmpxchg(last, now, Relaxed).is_ok() && there && last & 1 == 0
    }
}
