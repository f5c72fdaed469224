// SPDX-License-Identifier: GPL-2.0-only

//! A packet that is made over: most often into its own answer.
//!
//! Turned round where it stands, it goes out in the same buffer, by the device and to the link-layer
//! address it came from. That costs no allocation and no look at the routing table, and leaves out all that
//! a packet of this host would pass: so it is done only for packets that nothing of it could be meant for.
//! Others are made packets of this host's in the same buffer, with a route of their own.
//!
//! C headers: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h),
//! [`include/linux/if_ether.h`](srctree/include/linux/if_ether.h)

use super::{
    bindings,
    conntrack::Conn,
    cookie::Flow,
    route::Near,
    skb::{Manner, SkBuff},
    Family, Net,
};
use crate::tcp::{
    ip,
    segment::{self, View},
    Repr,
};
use core::net::{IpAddr, SocketAddr};
use kernel::prelude::*;

/// A packet that is nothing but a TCP segment that is whole, from one machine to another.
///
/// # Invariants
///
/// The packet begins with an IP header of `family` without options, and a TCP header; what is fixed of both
/// lies in one piece.
pub struct Plain<'a> {
    skb: &'a mut SkBuff,
    family: Family,
}

impl<'a> Plain<'a> {
    /// `None` when the packet is anything else.
    #[inline(always)]
    pub fn new(skb: &'a mut SkBuff, family: Family) -> Option<Self> {
        let is_plain = match family {
            Family::Ipv4 => ip::is_plain_v4(skb.linear(), skb.len()),
            Family::Ipv6 => ip::is_plain_v6(skb.linear(), skb.len()),
        };
        let headers = Self::ip_len(family).wrapping_add(segment::HEADER_LEN);
        // INVARIANT: Just looked at.
        (is_plain && skb.linear().len() >= headers).then_some(Self { skb, family })
    }

    #[inline(always)]
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

    /// The segment; `None` when it is malformed, or its options are elsewhere.
    #[inline(always)]
    pub fn segment(&self) -> Option<View<'_>> {
        self.skb.view(Self::ip_len(self.family))
    }

    /// Whether the TCP checksum is right, as far as the hardware has not checked it already.
    #[inline(always)]
    pub fn checksum_ok(&self) -> bool {
        self.skb
            .tcp_checksum_ok(self.family, Self::ip_len(self.family))
    }

    /// Whether it can be turned round: it came by Ethernet from a neighbour to this machine alone, by no
    /// tunnel, bridge or IPsec, and no routing has seen it.
    #[inline]
    pub fn is_from_neighbour(&self) -> bool {
        // SAFETY: The packet is valid, and has a device while a hook sees it.
        unsafe { bindings::rust_helper_skb_is_from_neighbour(self.skb.as_raw()) }
    }

    /// Makes the packet its own answer: `tcp`, with the addresses swapped. One from a neighbour is sent by
    /// [`Verdict::SendBack`](super::hook::Verdict::SendBack) then.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. It is what it was then.
    #[inline(always)]
    pub fn turn_round(&mut self, net: &Net, tcp: &Repr) -> Result {
        let hop_limit = net.default_hop_limit(self.family);
        let mut anew = self.skb.anew()?;
        let ip_len = ip::turn(anew.ip()?, hop_limit).ok_or(EINVAL)?;
        anew.finish(ip_len, tcp)
    }

    /// The connection, as the addresses stand in the packet, which its client has sent.
    pub fn flow(&self, segment: &View<'_>) -> Option<Flow> {
        let ip = ip::Header::new(self.skb.linear())?;
        Some(Flow {
            client: SocketAddr::new(ip.src, segment.src_port()),
            server: SocketAddr::new(ip.dst, segment.dst_port()),
        })
    }

    /// See [`SkBuff::near`].
    pub fn near(&self) -> Option<Near> {
        self.skb.near()
    }

    /// What packets of ours have from it.
    pub fn manner(&self) -> Manner {
        Manner {
            mark: self.skb.mark(),
            traffic_class: ip::traffic_class(self.skb.linear()),
        }
    }

    /// Makes the packet one of this host's, in the name of its sender: `tcp`, with its addresses and its mark.
    /// It has no route then.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. It is what it was then.
    pub fn renew(self, net: &Net, tcp: &Repr) -> Result<&'a mut SkBuff> {
        let (mark, hop_limit) = (self.skb.mark(), net.default_hop_limit(self.family));
        let mut anew = self.skb.anew()?;
        let ip_len = ip::renew(anew.ip()?, hop_limit).ok_or(EINVAL)?;
        anew.finish(ip_len, tcp)?;
        self.skb.set_mark(mark);
        Ok(self.skb)
    }

    /// Makes the packet, on its way, one of this host's that carries `tcp` and nothing else. Addresses, entry
    /// and route stay.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. It is what it was then.
    pub fn replace(&mut self, net: &Net, tcp: &Repr) -> Result {
        let hop_limit = net.default_hop_limit(self.family);
        let mut anew = self.skb.anew()?;
        let ip_len = ip::renew(anew.ip()?, hop_limit).ok_or(EINVAL)?;
        let tcp_len = anew.put(ip_len, tcp)?;
        // SAFETY: Both headers are in place, and there was room for them.
        unsafe { bindings::rust_helper_skb_put_tcp(anew.0.as_raw(), ip_len as u32, tcp_len) };
        Ok(())
    }

    /// As [`SkBuff::recast`], with the addresses swapped, and nothing that conntrack has to do with.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn recast(&mut self, net: &Net, tcp: &Repr) -> Result {
        let (near, mark) = (self.skb.near().ok_or(EINVAL)?, self.skb.mark());
        self.turn_round(net, tcp)?;
        self.skb.leave(net, near, mark)?;
        self.skb.untrack();
        Ok(())
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
        if !is_host(src.ip()) || !is_host(dst.ip()) {
            return Err(EINVAL);
        }
        let near = self.near().ok_or(EINVAL)?;
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
        let mut anew = self.anew()?;
        let ip_len = ip.emit(anew.ip()?).ok_or(EINVAL)?;
        anew.finish(ip_len, &tcp)?;
        self.leave(net, near, manner.mark)?;
        match reply {
            Some(ct) => self.attach_reply(ct),
            None => self.untrack(),
        }
        Ok(())
    }

    /// Has the whole packet written anew.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. It is what it was then.
    #[inline(always)]
    fn anew(&mut self) -> Result<Anew<'_>> {
        // SAFETY: `self` is valid, and the exclusive borrow lets us change it.
        if !unsafe { bindings::rust_helper_skb_resize(self.as_raw(), ROOM as u32) } {
            return Err(ENOMEM);
        }
        // INVARIANT: That is what it has done.
        Ok(Anew(self))
    }
}

/// Room for both headers.
const ROOM: usize = ip::MAX_HEADER_LEN + segment::MAX_HEADER_LEN;

/// A packet that is being written anew. What is not written to is cut off in the end.
///
/// # Invariants
///
/// It is linear, ours alone, and [`ROOM`] bytes long.
struct Anew<'a>(&'a mut SkBuff);

impl Anew<'_> {
    #[inline(always)]
    fn bytes(&mut self) -> &mut [u8; ROOM] {
        // SAFETY: By the invariant.
        unsafe { &mut *(*self.0.as_raw()).data.cast() }
    }

    /// Where the IP header goes.
    #[inline(always)]
    fn ip(&mut self) -> Result<&mut [u8; ip::MAX_HEADER_LEN]> {
        self.bytes().first_chunk_mut().ok_or(EINVAL)
    }

    /// Puts `tcp` behind an IP header of `ip_len` bytes, which is there; says how long it is.
    #[inline(always)]
    fn put(&mut self, ip_len: usize, tcp: &Repr) -> Result<u32> {
        let rest = self.bytes().get_mut(ip_len..).ok_or(EINVAL)?;
        // CAST: 60 at most.
        Ok(tcp.emit(rest.first_chunk_mut().ok_or(EINVAL)?) as u32)
    }

    /// The same, and that is all. What was known of the packet as one that came in is forgotten.
    #[inline(always)]
    fn finish(mut self, ip_len: usize, tcp: &Repr) -> Result {
        let tcp_len = self.put(ip_len, tcp)?;
        // SAFETY: Both headers are in place, and there was room for them.
        unsafe {
            bindings::rust_helper_skb_finish_tcp(self.0.as_raw(), ip_len as u32, tcp_len);
        }
        Ok(())
    }
}
