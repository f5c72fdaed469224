// SPDX-License-Identifier: GPL-2.0-only

//! A packet that is turned round where it stands: the answer goes out in the same buffer, by the device
//! and to the link-layer address it came from.
//!
//! That costs no allocation and no look at the routing table, and leaves out all that a packet of this
//! host would pass: so it is done only for packets that nothing of it could be meant for. Others are made
//! packets of this host's in the same buffer, with a route of their own.
//!
//! C headers: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h),
//! [`include/linux/if_ether.h`](srctree/include/linux/if_ether.h)

use super::{bindings, conntrack::Conn, skb::SkBuff, Family, Net};
use crate::tcp::{ip, segment, Repr};
use core::net::{IpAddr, SocketAddr};
use kernel::prelude::*;

/// A packet that can be turned round: it is nothing but a TCP segment that is whole, and came by Ethernet
/// from one machine to this one alone, by no tunnel, bridge or IPsec.
///
/// # Invariants
///
/// The packet begins with an IP header of `family` without options, and a TCP header; what is fixed of both
/// lies in one piece.
pub struct Turnable<'a> {
    skb: &'a mut SkBuff,
    family: Family,
}

impl<'a> Turnable<'a> {
    /// `None` when the packet cannot be turned round.
    #[inline]
    pub fn new(skb: &'a mut SkBuff, family: Family) -> Option<Self> {
        // SAFETY: `skb` is valid, and has a device while a hook sees it.
        let came_plain = unsafe { bindings::rust_helper_skb_is_from_neighbour(skb.as_raw()) };
        let is_plain = match family {
            Family::Ipv4 => ip::is_plain_v4(skb.linear(), skb.len()),
            Family::Ipv6 => ip::is_plain_v6(skb.linear(), skb.len()),
        };
        let headers = Self::ip_len(family).wrapping_add(segment::HEADER_LEN);
        // INVARIANT: Just looked at.
        (came_plain && is_plain && skb.linear().len() >= headers).then_some(Self { skb, family })
    }

    fn ip_len(family: Family) -> usize {
        match family {
            Family::Ipv4 => ip::V4_HEADER_LEN,
            Family::Ipv6 => ip::V6_HEADER_LEN,
        }
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// Where the IP and the TCP header are.
    pub(super) fn headers(&self) -> (*const u8, *const u8) {
        let ip = self.skb.linear().as_ptr();
        // SAFETY: It lies behind, by the invariant.
        (ip, unsafe { ip.add(Self::ip_len(self.family)) })
    }

    /// Makes the packet its own answer: `tcp`, with the addresses swapped. It is sent by
    /// [`Verdict::SendBack`](super::hook::Verdict::SendBack).
    ///
    /// # Errors
    ///
    /// `ENOMEM`. It is what it was then.
    pub fn turn_round(&mut self, net: &Net, tcp: &Repr) -> Result {
        let hop_limit = net.default_hop_limit(self.family);
        self.skb
            .rewrite_all(tcp, |header| ip::turn(header, hop_limit))
    }
}

impl SkBuff {
    /// Makes the packet one of this host's: `tcp` from `src` to `dst`, on account of what it was itself. It
    /// goes with the connection of `reply` as the server's, or conntrack has nothing to do with it. It
    /// is sent by [`Verdict::Send`](super::hook::Verdict::Send).
    ///
    /// # Errors
    ///
    /// `EINVAL` for addresses of different versions, or not of hosts, or when it has no route; `ENOMEM`;
    /// what the routing says, such as `ENETUNREACH`. It is good for nothing then.
    pub fn recast(
        &mut self,
        net: &Net,
        (src, dst): (SocketAddr, SocketAddr),
        tcp: &Repr,
        reply: Option<&Conn>,
    ) -> Result {
        let is_host = |ip: IpAddr| !ip.is_multicast() && !ip.is_unspecified();
        if self.network_offset() != 0 || !is_host(src.ip()) || !is_host(dst.ip()) {
            return Err(EINVAL);
        }
        let near = self.route().ok_or(EINVAL)?;
        let manner = self.manner();
        let ip = ip::Repr {
            src: src.ip(),
            dst: dst.ip(),
            traffic_class: manner.traffic_class,
            hop_limit: net.default_hop_limit(Family::of(src.ip())),
        };
        let tcp = Repr {
            src_port: src.port(),
            dst_port: dst.port(),
            ..*tcp
        };
        self.rewrite_all(&tcp, |header| ip.emit(header))?;
        self.leave(net, &near, manner.mark)?;
        match reply {
            Some(ct) => self.attach_reply(ct),
            None => self.untrack(),
        }
        Ok(())
    }

    /// Writes the whole packet anew: an IP header, by `ip`, which tells its length, and `tcp`. All that was
    /// known of it as a packet that came in is forgotten.
    fn rewrite_all(
        &mut self,
        tcp: &Repr,
        ip: impl FnOnce(&mut [u8; ip::MAX_HEADER_LEN]) -> Option<usize>,
    ) -> Result {
        const ROOM: usize = ip::MAX_HEADER_LEN + segment::MAX_HEADER_LEN;
        // SAFETY: `self` is valid, and the exclusive borrow lets us change it. Then it is linear, ours
        // alone, and has that many bytes; what is not written to is cut off again.
        let bytes: &mut [u8; ROOM] = unsafe {
            if !bindings::rust_helper_skb_resize(self.as_raw(), ROOM as u32) {
                return Err(ENOMEM);
            }
            &mut *(*self.as_raw()).data.cast()
        };
        let ip_len = bytes.first_chunk_mut().and_then(ip).ok_or(EINVAL)?;
        let rest = bytes
            .get_mut(ip_len..)
            .and_then(|rest| rest.first_chunk_mut());
        let tcp_len = tcp.emit(rest.ok_or(EINVAL)?);
        // SAFETY: Both headers are in place, and there was room for them.
        unsafe {
            bindings::rust_helper_skb_finish_tcp(self.as_raw(), ip_len as u32, tcp_len as u32);
        }
        Ok(())
    }
}
