// SPDX-License-Identifier: GPL-2.0-only

//! Packets of ours on their way out.
//!
//! C headers: [`include/net/ip.h`](srctree/include/net/ip.h),
//! [`include/linux/netfilter_ipv4.h`](srctree/include/linux/netfilter_ipv4.h)

use super::{
    bindings,
    skb::{OwnedSkb, SkBuff},
    Net,
};
use core::{
    ops::{Deref, DerefMut},
    ptr::null_mut,
};
use kernel::{error::to_result, prelude::*};

/// `RTN_UNSPEC`: the routing finds out itself what kind of address the source is.
const RTN_UNSPEC: u32 = 0;

/// A packet of ours that knows where to go.
pub struct Routed(OwnedSkb);

impl Routed {
    /// Finds the route of `skb`; `trigger` is the packet on whose account it is sent.
    ///
    /// # Errors
    ///
    /// `EINVAL` when `trigger` itself has no route; else what the routing says, such as
    /// `ENETUNREACH`.
    pub fn new(net: &Net, skb: OwnedSkb, trigger: &SkBuff) -> Result<Self> {
        // SAFETY: Both packets are valid. The borrowed route is replaced by one of its own before
        // `trigger` goes; hooks run in an RCU section. The packet has no socket.
        let err = unsafe {
            if !bindings::rust_helper_skb_has_dst(trigger.as_raw()) {
                return Err(EINVAL);
            }
            bindings::rust_helper_skb_dst_set_noref(skb.as_raw(), trigger.as_raw());
            bindings::ip_route_me_harder(net.as_raw(), null_mut(), skb.as_raw(), RTN_UNSPEC)
        };
        to_result(err)?;
        Ok(Self(skb))
    }

    /// Sends the packet through the LOCAL_OUT hooks.
    pub fn send(self, net: &Net) {
        // SAFETY: `ip_local_out` takes the packet over, whatever becomes of it.
        unsafe { bindings::ip_local_out(net.as_raw(), null_mut(), self.0.into_raw()) };
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
