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

impl SkBuff {
    /// Whether the packet can be turned round: it is nothing but a TCP segment that is whole, and came by
    /// Ethernet from one machine to this one alone, by no tunnel, bridge or IPsec.
    fn can_turn_round(&self) -> bool {
        // SAFETY: `self` is valid, and has a device while a hook sees it.
        let came_plain = unsafe {
            bindings::rust_helper_skb_is_from_neighbour(self.as_raw())
                && bindings::rust_helper_skb_is_bare(self.as_raw())
        };
        came_plain && self.network_offset() == 0 && ip::is_plain(self.linear(), self.len())
    }

    /// Makes the packet, a TCP segment, its own answer: `tcp`, with the addresses swapped. It is sent by
    /// [`Verdict::SendBack`](super::hook::Verdict::SendBack).
    ///
    /// # Errors
    ///
    /// `EINVAL` when it cannot be turned round; `ENOMEM`. It is what it was then.
    pub fn turn_round(&mut self, net: &Net, family: Family, tcp: &Repr) -> Result {
        if !self.can_turn_round() {
            return Err(EINVAL);
        }
        self.rewrite_all(tcp, |header| {
            ip::turn(header, net.default_hop_limit(family))
        })
    }

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
