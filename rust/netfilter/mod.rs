// SPDX-License-Identifier: GPL-2.0-only

//! Netfilter for Rust: x_tables, hooks, conntrack, packets, namespaces and what they count.
//!
//! All of the module's `unsafe` is in this folder. What it offers is shaped by what the proxy needs
//! and named as in C; each file tells which header it wraps.

mod bindings;

pub mod abi;
pub mod conntrack;
pub mod cookie;
pub mod hook;
pub mod nat;
pub mod neighbours;
pub mod percpu;
pub mod pernet;
pub mod proc;
pub mod route;
pub mod skb;
pub mod sync;
pub mod timer;
pub mod turn;
mod work;
pub mod xtables;

use core::net::{IpAddr, Ipv6Addr};
use kernel::prelude::*;

/// Checks that gcc, which built the kernel, and libclang, which read its headers for us, agree on
/// the types that are shared.
///
/// # Errors
///
/// `EINVAL` when they do not: the module must not be used with this kernel.
pub fn check_layout() -> Result {
    use bindings::*;
    use core::mem::{offset_of, size_of};

    // SAFETY: A constant of our C part, initialised at build time.
    let c = unsafe { &xt_synproxy_layout };
    let types = [
        ("nf_conn", c.nf_conn, size_of::<nf_conn>()),
        (
            "nf_conn.status",
            c.nf_conn_status,
            offset_of!(nf_conn, status),
        ),
        ("nf_conn.proto", c.nf_conn_proto, offset_of!(nf_conn, proto)),
        (
            "nf_ct_iter_data",
            c.nf_ct_iter_data,
            size_of::<nf_ct_iter_data>(),
        ),
        ("nf_hook_ops", c.nf_hook_ops, size_of::<nf_hook_ops>()),
        ("nf_hook_state", c.nf_hook_state, size_of::<nf_hook_state>()),
        ("nf_nat_range2", c.nf_nat_range2, size_of::<nf_nat_range2>()),
        (
            "pernet_operations",
            c.pernet_operations,
            size_of::<pernet_operations>(),
        ),
        (
            "xt_action_param",
            c.xt_action_param,
            size_of::<xt_action_param>(),
        ),
        ("xt_match", c.xt_match, size_of::<xt_match>()),
        (
            "xt_mtchk_param",
            c.xt_mtchk_param,
            size_of::<xt_mtchk_param>(),
        ),
        ("xt_target", c.xt_target, size_of::<xt_target>()),
        (
            "xt_tgchk_param",
            c.xt_tgchk_param,
            size_of::<xt_tgchk_param>(),
        ),
    ];
    for (name, c, rust) in types {
        if c != rust {
            pr_err!("built wrongly for this kernel: {name} is {c} bytes in C and {rust} in Rust\n");
            return Err(EINVAL);
        }
    }
    Ok(())
}

/// A network namespace, the kernel's `struct net`.
#[repr(transparent)]
pub struct Net(kernel::types::Opaque<bindings::net>);

// SAFETY: The kernel shares it between CPUs; nothing here reads it but through C functions that
// may run at any time.
unsafe impl Sync for Net {}

impl Net {
    /// # Safety
    ///
    /// `ptr` must point to a `struct net` that stays valid for `'a`.
    unsafe fn from_raw<'a>(ptr: *mut bindings::net) -> &'a Self {
        // SAFETY: The caller's promise; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    fn as_raw(&self) -> *mut bindings::net {
        self.0.get()
    }

    /// The TTL or hop limit of packets that this host sends, `net.ipv4.ip_default_ttl` and
    /// `net.ipv6.conf.all.hop_limit`.
    pub fn default_hop_limit(&self, family: Family) -> u8 {
        // SAFETY: `self` is a valid namespace.
        unsafe {
            match family {
                Family::Ipv4 => bindings::rust_helper_ip_default_ttl(self.as_raw()),
                Family::Ipv6 => bindings::rust_helper_ipv6_default_hop_limit(self.as_raw()),
            }
        }
    }

    /// How often a SYN of this host is repeated, `net.ipv4.tcp_syn_retries`, for IPv6, too.
    pub fn tcp_syn_retries(&self) -> u8 {
        // SAFETY: `self` is a valid namespace.
        unsafe { bindings::rust_helper_tcp_syn_retries(self.as_raw()) }
    }

    /// Whether conntrack picks up connections in the middle,
    /// `net.netfilter.nf_conntrack_tcp_loose`.
    pub fn tcp_loose(&self) -> bool {
        // SAFETY: `self` is a valid namespace.
        unsafe { bindings::rust_helper_tcp_loose(self.as_raw()) }
    }
}

/// A version of IP, `NFPROTO_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    Ipv4 = bindings::NFPROTO_IPV4 as u8,
    /// IPv6.
    Ipv6 = bindings::NFPROTO_IPV6 as u8,
}

impl Family {
    fn from_raw(family: u8) -> Option<Self> {
        [Self::Ipv4, Self::Ipv6]
            .into_iter()
            .find(|known| *known as u8 == family)
    }

    /// That of an address.
    pub fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

fn in6(addr: Ipv6Addr) -> bindings::in6_addr {
    bindings::in6_addr {
        in6_u: bindings::in6_addr__bindgen_ty_1 {
            u6_addr8: addr.octets(),
        },
    }
}

fn inet_addr(addr: IpAddr) -> bindings::nf_inet_addr {
    match addr {
        // The rest is zero, as conntrack expects.
        IpAddr::V4(addr) => bindings::nf_inet_addr {
            all: [u32::from_ne_bytes(addr.octets()), 0, 0, 0],
        },
        IpAddr::V6(addr) => bindings::nf_inet_addr { in6: in6(addr) },
    }
}

/// Whether a message may be logged now: rules can be tried by whoever is root of a container.
pub fn may_log() -> bool {
    // SAFETY: May be called in any context.
    unsafe { bindings::rust_helper_may_log() }
}

/// A clock in milliseconds, as coarse as jiffies, for TCP timestamps among others; wraps around.
pub fn clock_ms() -> u32 {
    // SAFETY: May be called in any context.
    unsafe { bindings::rust_helper_clock_ms() }
}

/// The monotonic clock in nanoseconds, `ktime_get_ns()`: it does not wrap around.
pub fn ktime_get_ns() -> u64 {
    // SAFETY: May be called in any context.
    unsafe { bindings::rust_helper_ktime_get_ns() }
}
