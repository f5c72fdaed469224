// SPDX-License-Identifier: GPL-2.0-only

//! Translation of addresses.
//!
//! C header: [`include/net/netfilter/nf_nat.h`](srctree/include/net/netfilter/nf_nat.h)

use super::{bindings, conntrack::Conn, inet_addr};
use crate::tcp::timestamp::Direction;
use kernel::prelude::*;

/// Gives the new entry `ct` the destination that `old` has: the nat table has been asked once for
/// this connection, when its client came, and is not asked again in OUTPUT.
///
/// # Errors
///
/// `EAGAIN` when the translation cannot be had.
pub fn copy_destination(ct: &Conn, old: &Conn) -> Result {
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
    if verdict == bindings::NF_ACCEPT {
        Ok(())
    } else {
        Err(EAGAIN)
    }
}
