// SPDX-License-Identifier: GPL-2.0-only

//! Packets of ours on their way out.
//!
//! C headers: [`include/net/ip.h`](srctree/include/net/ip.h),
//! [`include/net/ipv6.h`](srctree/include/net/ipv6.h),
//! [`include/linux/netfilter_ipv4.h`](srctree/include/linux/netfilter_ipv4.h),
//! [`include/linux/netfilter_ipv6.h`](srctree/include/linux/netfilter_ipv6.h)

use super::{
    bindings, nat,
    skb::{OwnedSkb, SkBuff},
    Family, Net,
};
use core::{
    ops::{Deref, DerefMut},
    ptr::{null_mut, NonNull},
};
use kernel::{error::to_result, prelude::*, sync::rcu};

/// A route, kept for packets that are to go the same way later.
///
/// # Invariants
///
/// A reference on the route is held as long as the value lives.
pub struct Route {
    dst: NonNull<bindings::dst_entry>,
    /// By which the kernel knows whether it is still good.
    cookie: u32,
}

// SAFETY: Routes are counted atomically, and nothing else is done with one here.
unsafe impl Send for Route {}

impl Clone for Route {
    fn clone(&self) -> Self {
        // SAFETY: By the invariant there is a reference already.
        unsafe { bindings::rust_helper_dst_hold(self.dst.as_ptr()) };
        // INVARIANT: The reference is ours.
        Self { ..*self }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { bindings::dst_release(self.dst.as_ptr()) }
    }
}

/// A route that is used while its packet is looked at, and may be the packet's no more.
///
/// # Invariants
///
/// The route is valid until the hook or the target returns that the value was made in.
#[derive(Clone, Copy)]
pub struct Near(NonNull<bindings::dst_entry>);

impl SkBuff {
    /// Finds the route of a packet that has come in, as the routing is about to.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it would not let it in.
    pub fn find_route(&mut self) -> Result {
        // SAFETY: `self` is valid, has its network header and a device, and no route yet.
        if unsafe { bindings::rust_helper_skb_route_input(self.as_raw()) } {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// The route of the packet, to tell the VRF by.
    #[inline]
    pub fn near(&self) -> Option<Near> {
        // SAFETY: `self` is valid.
        let dst = unsafe { bindings::rust_helper_skb_dst(self.as_raw()) };
        // INVARIANT: Netfilter shows packets in an RCU section, and no route goes before its end.
        Some(Near(NonNull::new(dst)?))
    }

    /// Has the packet, which is one of ours by now and has no route, know its way, with this mark.
    pub(super) fn leave(&mut self, net: &Net, near: Near, mark: u32) -> Result {
        // SAFETY: Both are valid; the packet has both headers.
        to_result(unsafe {
            bindings::rust_helper_skb_set_mark(self.as_raw(), mark);
            bindings::rust_helper_skb_route_output(net.as_raw(), self.as_raw(), near.0.as_ptr())
        })
    }

    /// Has the packet, which is one of ours and has no route, know its way, to where the nat table sends it
    /// if conntrack has seen it.
    ///
    /// # Errors
    ///
    /// What the routing says, such as `ENETUNREACH`.
    pub fn find_way(&mut self, net: &Net, near: Near) -> Result {
        nat::translate_destination(self)?;
        let _rcu = rcu::read_lock();
        // SAFETY: Both are valid, and the packet has no route yet.
        to_result(unsafe {
            bindings::rust_helper_skb_route_output(net.as_raw(), self.as_raw(), near.0.as_ptr())
        })
    }

    /// Whether the packet is for this host itself; it has a route.
    pub fn is_for_this_host(&self) -> bool {
        // SAFETY: The packet has a route, or there is nothing to be looked at.
        self.near().is_some() && unsafe { bindings::rust_helper_skb_dst_is_loopback(self.as_raw()) }
    }

    /// The route of the packet.
    pub fn route(&self) -> Option<Route> {
        // SAFETY: `self` is valid.
        let dst = unsafe { bindings::rust_helper_skb_dst_get(self.as_raw()) };
        let dst = NonNull::new(dst)?;
        // SAFETY: As above.
        let cookie = unsafe { bindings::rust_helper_dst_cookie(dst.as_ptr()) };
        // INVARIANT: The reference is ours.
        Some(Route { dst, cookie })
    }
}

/// A packet of ours that knows where to go.
pub struct Routed(OwnedSkb);

impl Routed {
    /// Finds the route of `skb`, to where the nat table sends it if conntrack has seen it; `trigger` is
    /// the packet on whose account it is sent.
    ///
    /// # Errors
    ///
    /// `EINVAL` when `trigger` itself has no route; else what the routing says, such as
    /// `ENETUNREACH`.
    pub fn new(net: &Net, skb: OwnedSkb, trigger: &SkBuff) -> Result<Self> {
        let near = trigger.near().ok_or(EINVAL)?;
        Self::find(net, skb, near)
    }

    /// The same for a packet that is to go the way that others of its connection went; `near` tells
    /// the VRF.
    ///
    /// # Errors
    ///
    /// What the routing says, such as `ENETUNREACH`.
    pub fn near(net: &Net, skb: OwnedSkb, near: &Route) -> Result<Self> {
        // INVARIANT: By that of `near`, who holds a reference.
        Self::find(net, skb, Near(near.dst))
    }

    /// The same for one that is to go by `route`, if that is still good.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn by(net: &Net, mut skb: OwnedSkb, route: &Route, trigger: &SkBuff) -> Result<Self> {
        // SAFETY: By the invariant.
        if !unsafe { bindings::rust_helper_dst_is_good(route.dst.as_ptr(), route.cookie) } {
            return Self::new(net, skb, trigger);
        }
        nat::translate_destination(&mut skb)?;
        // SAFETY: Both are valid, and the packet has no route yet.
        unsafe { bindings::rust_helper_skb_set_route(skb.as_raw(), route.dst.as_ptr()) };
        Ok(Self(skb))
    }

    fn find(net: &Net, mut skb: OwnedSkb, near: Near) -> Result<Self> {
        skb.find_way(net, near)?;
        Ok(Self(skb))
    }

    /// A packet that has found its way.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it has not.
    pub fn found(skb: OwnedSkb) -> Result<Self> {
        skb.near().ok_or(EINVAL)?;
        Ok(Self(skb))
    }

    /// Sends the packet through the LOCAL_OUT hooks.
    pub fn send(self, net: &Net) {
        let family = self.0.family();
        let skb = self.0.into_raw();
        // SAFETY: The packet is taken over, whatever becomes of it.
        unsafe {
            match family {
                Family::Ipv4 => bindings::ip_local_out(net.as_raw(), null_mut(), skb),
                Family::Ipv6 => bindings::ip6_local_out(net.as_raw(), null_mut(), skb),
            }
        };
    }
}

impl Deref for Routed {
    type Target = OwnedSkb;

    fn deref(&self) -> &OwnedSkb {
        &self.0
    }
}

impl DerefMut for Routed {
    fn deref_mut(&mut self) -> &mut OwnedSkb {
        &mut self.0
    }
}
