// SPDX-License-Identifier: GPL-2.0-only

//! Translation of addresses.
//!
//! C header: [`include/net/netfilter/nf_nat.h`](srctree/include/net/netfilter/nf_nat.h)

use super::{
    bindings,
    conntrack::{Conn, Status, Tracked},
    hook::point,
    inet_addr,
    skb::SkBuff,
};
use crate::tcp::timestamp::Direction;
use kernel::prelude::*;

/// Gives the new entry `ct` the destination that `old` has: the nat table has been asked once for
/// this connection, when its client came, and is not asked again in OUTPUT. If it has not been
/// asked for `old`, that is left to OUTPUT.
///
/// # Errors
///
/// `EAGAIN` when the translation cannot be had.
pub fn copy_destination(ct: &Conn, old: &Conn) -> Result {
    if !old.is(Status::DstNatDone) {
        return Ok(());
    }
    let to = old.source(Direction::Reply);
    let addr = inet_addr(to.ip());
    let proto = bindings::nf_conntrack_man_proto {
        all: to.port().to_be(),
    };
    let range = bindings::nf_nat_range2 {
        flags: bindings::NF_NAT_RANGE_MAP_IPS | bindings::NF_NAT_RANGE_PROTO_SPECIFIED,
        min_addr: addr,
        max_addr: addr,
        min_proto: proto,
        max_proto: proto,
        ..Default::default()
    };
    // SAFETY: Both are valid; the entry is not confirmed, or nothing happens.
    let verdict = unsafe {
        bindings::nf_nat_setup_info(
            ct.as_raw(),
            &range,
            bindings::nf_nat_manip_type_NF_NAT_MANIP_DST,
        )
    };
    accepted(verdict)
}

/// Gives the new entry `ct` the source that its client has, as POSTROUTING does where no rule says
/// otherwise: with another port if a connection to the same server has the client's already. The nat
/// table is not asked then.
///
/// # Errors
///
/// `EAGAIN` when the translation cannot be had.
pub fn keep_source(ct: &Conn) -> Result {
    if ct.is(Status::SrcNatDone) {
        return Ok(());
    }
    // SAFETY: The entry is valid; it is not confirmed, or nothing happens.
    let verdict =
        unsafe { bindings::nf_nat_alloc_null_binding(ct.as_raw(), u32::from(point::POST_ROUTING)) };
    accepted(verdict)
}

/// Gives a packet of ours that conntrack has seen the destination that its connection has. OUTPUT would
/// do that, too, but after the packet is routed: no route need lead to the address that the client
/// has asked for.
///
/// # Errors
///
/// `EAGAIN` when the packet cannot be changed.
pub fn translate_destination(skb: &mut SkBuff) -> Result {
    let ct = match skb.tracked() {
        Tracked::Yes {
            ct,
            direction: Direction::Original,
            related: false,
        } => ct.as_raw(),
        _ => return Ok(()),
    };
    // SAFETY: The packet is ours, begins with its IP header, and keeps its entry.
    let verdict = unsafe {
        bindings::nf_nat_packet(
            ct,
            bindings::ip_conntrack_info_IP_CT_NEW,
            u32::from(point::LOCAL_OUT),
            skb.as_raw(),
        )
    };
    accepted(verdict)
}

fn accepted(verdict: u32) -> Result {
    if verdict == bindings::NF_ACCEPT {
        Ok(())
    } else {
        Err(EAGAIN)
    }
}
