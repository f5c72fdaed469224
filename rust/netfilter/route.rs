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
use core::ptr::null_mut;
use kernel::{error::to_result, prelude::*};

/// `RTN_UNSPEC`: the routing finds out itself what kind of address the source is.
const RTN_UNSPEC: u32 = 0;

/// Finds the route of `skb`; `trigger` is the packet on whose account it is sent.
///
/// # Errors
///
/// What the routing says, such as `ENETUNREACH`.
pub fn route(net: &Net, skb: &mut OwnedSkb, trigger: &SkBuff) -> Result {
    // SAFETY: Both packets are valid. The borrowed route is replaced by one of its own before
    // `trigger` goes; hooks run in an RCU section. The packet has no socket.
    let err = unsafe {
        bindings::rust_helper_skb_dst_set_noref(skb.as_raw(), trigger.as_raw());
        bindings::ip_route_me_harder(net.as_raw(), null_mut(), skb.as_raw(), RTN_UNSPEC)
    };
    to_result(err)
}

/// Sends `skb` through the LOCAL_OUT hooks; it must have its route.
pub fn send(net: &Net, skb: OwnedSkb) {
    // SAFETY: `ip_local_out` takes the packet over, whatever becomes of it.
    unsafe { bindings::ip_local_out(net.as_raw(), null_mut(), skb.into_raw()) };
}
