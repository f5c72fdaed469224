// SPDX-License-Identifier: GPL-2.0-only

//! Netfilter hooks.
//!
//! C header: [`include/linux/netfilter.h`](srctree/include/linux/netfilter.h)

use super::{bindings, skb::SkBuff, Family, Net};
use kernel::{error::to_result, ffi, prelude::*};

/// Hook points of IPv4 and IPv6, `enum nf_inet_hooks`.
pub mod point {
    use super::bindings;

    /// Packets that have come in.
    pub const PRE_ROUTING: u8 = bindings::nf_inet_hooks_NF_INET_PRE_ROUTING as u8;
    /// Packets for this host.
    pub const LOCAL_IN: u8 = bindings::nf_inet_hooks_NF_INET_LOCAL_IN as u8;
    /// Packets for others.
    pub const FORWARD: u8 = bindings::nf_inet_hooks_NF_INET_FORWARD as u8;
    /// Packets from this host.
    pub const LOCAL_OUT: u8 = bindings::nf_inet_hooks_NF_INET_LOCAL_OUT as u8;
    /// Packets about to leave.
    pub const POST_ROUTING: u8 = bindings::nf_inet_hooks_NF_INET_POST_ROUTING as u8;
}

/// Right before conntrack looks up the entry.
pub const PRI_BEFORE_CONNTRACK: i32 = bindings::nf_ip_hook_priorities_NF_IP_PRI_CONNTRACK - 1;

/// Right behind that, before any translation.
pub const PRI_BEHIND_CONNTRACK: i32 = bindings::nf_ip_hook_priorities_NF_IP_PRI_CONNTRACK + 1;

/// Right before the table mangle.
pub const PRI_BEFORE_MANGLE: i32 = bindings::nf_ip_hook_priorities_NF_IP_PRI_MANGLE - 1;

/// Between the tables mangle and filter.
pub const PRI_BEHIND_MANGLE: i32 = bindings::nf_ip_hook_priorities_NF_IP_PRI_MANGLE + 1;

/// Right before conntrack confirms and adjusts: in IPv6 it does so at `NF_IP6_PRI_LAST - 1` in
/// LOCAL_IN, else at the last priority that there is.
pub const PRI_BEFORE_CONFIRM: i32 = bindings::nf_ip_hook_priorities_NF_IP_PRI_CONNTRACK_CONFIRM - 2;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop,
    /// It has served its purpose and ends here, without counting as dropped.
    Consume,
    /// It has been turned round, and goes back to where it came from.
    SendBack,
    /// It has been made a packet of this host's, and leaves by the LOCAL_OUT hooks of this namespace.
    Send,
}

impl Verdict {
    /// The verdict for C.
    ///
    /// # Safety
    ///
    /// `skb` must be the packet that is judged in `net`, and the result the answer of its hook: with
    /// `Consume`, `SendBack` and `Send` the packet is gone.
    pub(super) unsafe fn into_raw(self, net: &Net, skb: *mut bindings::sk_buff) -> u32 {
        match self {
            Self::Accept => bindings::NF_ACCEPT,
            Self::Drop => bindings::NF_DROP,
            Self::Consume => {
                // SAFETY: `NF_STOLEN` leaves the packet to us.
                unsafe { bindings::consume_skb(skb) };
                bindings::NF_STOLEN
            }
            Self::SendBack => {
                // SAFETY: As above; it has the device and the Ethernet header that it came with.
                unsafe { bindings::rust_helper_skb_return_to_neighbour(skb) };
                bindings::NF_STOLEN
            }
            Self::Send => {
                // SAFETY: As above; it has a route.
                unsafe { bindings::rust_helper_skb_local_out(net.as_raw(), skb) };
                bindings::NF_STOLEN
            }
        }
    }
}

/// Where a hook sees a packet.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The namespace.
    pub net: &'a Net,
    /// The version of IP.
    pub family: Family,
    state: &'a bindings::nf_hook_state,
}

impl Place<'_> {
    /// Whether `skb` does not pass here twice.
    #[inline]
    pub fn sees_once(&self, skb: &SkBuff) -> bool {
        // SAFETY: The packet is valid, and the state is as long as the hook runs.
        unsafe { bindings::rust_helper_nf_hook_sees_once(skb.as_raw(), self.state) }
    }

    /// Whether the packet is to pass here once more: what this host sends by way of a VRF passes
    /// POST_ROUTING on its way to the VRF's device, and to the real one. Conntrack leaves out the first, too.
    pub fn is_first_of_two(&self) -> bool {
        // SAFETY: The state is valid as long as the hook runs.
        let leaves_for_vrf = unsafe { bindings::rust_helper_nf_hook_out_is_l3_master(self.state) };
        self.state.hook == point::POST_ROUTING && leaves_for_vrf
    }
}

/// A function that sees every packet at some points.
pub trait Hook: 'static {
    /// Where it sees them, see [`point`], and its priority there.
    const POINTS: &'static [(u8, i32)];

    /// Judges `skb`. Nearly all packets are to leave it soon.
    fn judge(skb: &mut SkBuff, place: Place<'_>) -> Verdict;
}

/// # Safety
///
/// To be called by netfilter only, for `IPV6` or IPv4.
unsafe extern "C" fn hook<T: Hook, const IPV6: bool>(
    _priv: *mut ffi::c_void,
    skb: *mut bindings::sk_buff,
    state: *const bindings::nf_hook_state,
) -> ffi::c_uint {
    // SAFETY: Netfilter lends the packet and the state to the hook alone.
    unsafe {
        let place = Place {
            net: Net::from_raw((*state).net),
            family: if IPV6 { Family::Ipv6 } else { Family::Ipv4 },
            state: &*state,
        };
        T::judge(SkBuff::from_raw(skb), place).into_raw(place.net, skb)
    }
}

/// Hooks that are to be registered.
pub struct Ops {
    family: Family,
    ops: KVec<bindings::nf_hook_ops>,
}

impl Ops {
    /// More than any set has.
    const MAX: usize = 8;

    /// Adds a hook, at all of its points.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn add<T: Hook>(&mut self) -> Result {
        let family = self.family;
        for (hooknum, priority) in T::POINTS {
            let entry = bindings::nf_hook_ops {
                hook: Some(match family {
                    Family::Ipv4 => hook::<T, false>,
                    Family::Ipv6 => hook::<T, true>,
                }),
                pf: family as u8,
                hooknum: u32::from(*hooknum),
                priority: *priority,
                ..Default::default()
            };
            self.ops.push_within_capacity(entry)?;
        }
        Ok(())
    }
}

/// Hooks in one namespace.
///
/// # Invariants
///
/// What is in `ops` is registered in `net`, and `net` is valid as long as the value lives.
pub struct Registration {
    net: *mut bindings::net,
    ops: KVec<bindings::nf_hook_ops>,
}

// SAFETY: Netfilter registers and unregisters on any CPU.
unsafe impl Send for Registration {}
// SAFETY: There is nothing to be done with a shared reference.
unsafe impl Sync for Registration {}

impl Registration {
    /// Registers the hooks that `add` adds for `family` in `net`; they come and go together.
    ///
    /// # Safety
    ///
    /// The value must be dropped before `net` goes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) unsafe fn new(
        net: &Net,
        family: Family,
        add: impl FnOnce(&mut Ops) -> Result,
    ) -> Result<Self> {
        let ops = KVec::with_capacity(Ops::MAX, GFP_KERNEL)?;
        let mut ops = Ops { family, ops };
        add(&mut ops)?;
        let ops = ops.ops;
        let count = u32::try_from(ops.len())?;
        // SAFETY: The array lives on the heap until after it is unregistered.
        to_result(unsafe { bindings::nf_register_net_hooks(net.as_raw(), ops.as_ptr(), count) })
            .inspect_err(|_| {
                // Some of them were registered for a moment, and are looked at under RCU alone.
                // SAFETY: Rules are inserted where one may sleep.
                unsafe { bindings::synchronize_rcu() };
            })?;
        // INVARIANT: Just registered; the caller sees to the namespace.
        Ok(Self {
            net: net.as_raw(),
            ops,
        })
    }

    /// Takes the hooks out. CPUs may still run them until a grace period of RCU is over.
    pub(super) fn unregister(&mut self) {
        // SAFETY: Registered, by the invariant, unless the array is empty already.
        unsafe {
            bindings::nf_unregister_net_hooks(self.net, self.ops.as_ptr(), self.ops.len() as u32);
        }
        self.ops.clear();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.unregister();
    }
}
