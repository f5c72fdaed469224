// SPDX-License-Identifier: GPL-2.0-only

//! Packets.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use super::{bindings, in6, Family, Net};
use crate::tcp::{
    icmp, ip,
    segment::{self, View},
    timestamp::{self, Rewrite},
    Repr, Segment,
};
use core::{
    net::{IpAddr, SocketAddr},
    ptr::NonNull,
};
use kernel::{prelude::*, types::Opaque};

/// Ethertypes, `include/uapi/linux/if_ether.h`.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// What a packet of ours has from the one on whose account it is sent, so that policy routing and
/// queueing treat both alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// The mark.
    pub mark: u32,
    /// Type of service, or traffic class.
    pub traffic_class: u8,
}

/// The transport part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Protocol number, see [`ip::protocol`].
    pub protocol: u8,
    /// Offset of its header in bytes.
    pub offset: usize,
    /// The packet is a fragment other than the first.
    pub is_later_fragment: bool,
}

/// A packet that the kernel lends us, its `struct sk_buff`.
///
/// Content is copied out and written back through bounds-checked C functions: an skb is not linear
/// and may share its data.
#[repr(transparent)]
pub struct SkBuff(Opaque<bindings::sk_buff>);

impl SkBuff {
    /// # Safety
    ///
    /// `ptr` must point to a valid skb that nobody else frees or changes during `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::sk_buff) -> &'a mut Self {
        // SAFETY: The caller's promise; the type is transparent.
        unsafe { &mut *ptr.cast() }
    }

    /// # Safety
    ///
    /// As for [`SkBuff::from_raw`], but for an skb that is only read.
    pub(super) unsafe fn from_raw_const<'a>(ptr: *const bindings::sk_buff) -> &'a Self {
        // SAFETY: The caller's promise; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::sk_buff {
        self.0.get()
    }

    /// Length of the packet from its network header on, in bytes.
    pub(super) fn len(&self) -> usize {
        // SAFETY: `self` is valid, and its length does not change under a shared borrow.
        unsafe { (*self.as_raw()).len as usize }
    }

    /// What stands in one piece at the start of the packet, most often all of its headers.
    pub(super) fn linear(&self) -> &[u8] {
        // SAFETY: `self` is valid, and so are the bytes of its linear part, which do not change under a
        // shared borrow.
        unsafe {
            let skb = &*self.as_raw();
            let len = skb.len.wrapping_sub(skb.data_len);
            core::slice::from_raw_parts(skb.data, len as usize)
        }
    }

    /// Copies `to.len()` bytes from `offset` on; `false` when the packet ends before.
    fn read(&self, offset: usize, to: &mut [u8]) -> bool {
        let (Ok(offset), Ok(len)) = (i32::try_from(offset), i32::try_from(to.len())) else {
            return false;
        };
        // SAFETY: `to` has room for `len` bytes; `skb_copy_bits` checks the packet's end.
        unsafe { bindings::skb_copy_bits(self.as_raw(), offset, to.as_mut_ptr().cast(), len) == 0 }
    }

    /// The packet's mark, for what is sent on its account: 0 when TPROXY has given it to a proxy, and set the
    /// mark for that.
    pub fn mark(&self) -> u32 {
        // SAFETY: `self` is valid.
        unsafe { bindings::rust_helper_skb_mark(self.as_raw()) }
    }

    pub(super) fn set_mark(&mut self, mark: u32) {
        // SAFETY: `self` is valid, and the exclusive borrow lets us change it.
        unsafe { bindings::rust_helper_skb_set_mark(self.as_raw(), mark) }
    }

    /// Whether the packet was made on this host, or can have been: what a VRF hands to this host has
    /// been received by its device either way.
    pub fn is_local(&self) -> bool {
        // SAFETY: `self` is valid, and its device too while a hook sees the packet.
        unsafe {
            bindings::rust_helper_skb_iif(self.as_raw()) == 0
                || bindings::rust_helper_skb_dev_is_l3_master(self.as_raw())
        }
    }

    /// Whether the packet comes out of the loopback device.
    pub fn is_loopback(&self) -> bool {
        // SAFETY: `self` is valid, and its device too while a hook sees the packet.
        unsafe { bindings::rust_helper_nf_is_loopback_packet(self.as_raw()) }
    }

    /// Whether the target TPROXY has given the packet to the socket of a transparent proxy, which may have
    /// been closed since.
    #[inline]
    pub fn is_for_proxy(&self) -> bool {
        // SAFETY: `self` is valid, and so is the socket that it has a reference on.
        unsafe {
            !(*self.as_raw()).sk.is_null()
                && bindings::rust_helper_skb_is_for_transparent(self.as_raw())
        }
    }

    /// The index of the device by which the packet leaves, if the socket of a transparent proxy sends it; not
    /// before that is known.
    pub fn sent_by_proxy(&self) -> Option<u32> {
        // SAFETY: `self` is valid, and so are the socket that it has a reference on, and its device if it has
        // one.
        let index = unsafe { bindings::rust_helper_skb_transparent_oif(self.as_raw()) };
        (index != 0).then_some(index as u32)
    }

    /// The index of the device by which the packet has come.
    pub fn device_index(&self) -> u32 {
        // SAFETY: `self` is valid.
        unsafe { bindings::rust_helper_skb_iif(self.as_raw()) as u32 }
    }

    /// Whether the packet was sent to this machine alone, rather than to all or a group.
    pub fn is_unicast(&self) -> bool {
        // SAFETY: `self` is valid.
        unsafe { bindings::rust_helper_skb_is_unicast(self.as_raw()) }
    }

    pub(super) fn network_offset(&self) -> usize {
        // SAFETY: `self` is valid.
        unsafe { bindings::rust_helper_skb_network_offset(self.as_raw()) as usize }
    }

    /// Reads the IP header; `None` when the packet is too short for one.
    pub fn ip(&self) -> Option<ip::Header> {
        self.ip_at(self.network_offset())
    }

    fn ip_at(&self, offset: usize) -> Option<ip::Header> {
        let len = self.len().checked_sub(offset)?;
        match self.linear().get(offset..) {
            Some(linear) if linear.len() >= len.min(ip::MAX_HEADER_LEN) => ip::Header::new(linear),
            _ => self.scattered_ip_at(offset),
        }
    }

    #[cold]
    fn scattered_ip_at(&self, offset: usize) -> Option<ip::Header> {
        let mut bytes = [0; ip::MAX_HEADER_LEN];
        if !self.read(offset, bytes.first_chunk_mut::<1>()?) {
            return None;
        }
        let len = ip::Header::fixed_len(bytes[0])?;
        let fixed = bytes.get_mut(..len)?;
        if !self.read(offset, fixed) {
            return None;
        }
        ip::Header::new(fixed)
    }

    /// Finds the transport header, behind IPv6 extension headers if there are any; `None` when the
    /// packet ends before it.
    pub fn transport(&self, family: Family) -> Option<Transport> {
        match family {
            Family::Ipv4 => {
                let ip = self.ip()?;
                Some(Transport {
                    protocol: ip.protocol,
                    offset: self.network_offset().checked_add(ip.len)?,
                    is_later_fragment: ip.is_later_fragment,
                })
            }
            Family::Ipv6 => {
                let (mut offset, mut fragment) = (0, 0);
                // SAFETY: `self` is a valid IPv6 packet, and the rest outlives the call.
                let protocol = unsafe {
                    bindings::ipv6_find_hdr(
                        self.as_raw(),
                        &mut offset,
                        -1,
                        &mut fragment,
                        core::ptr::null_mut(),
                    )
                };
                Some(Transport {
                    protocol: u8::try_from(protocol).ok()?,
                    offset: offset as usize,
                    is_later_fragment: fragment != 0,
                })
            }
        }
    }

    /// What packets of ours have from this one.
    pub fn manner(&self) -> Manner {
        Manner {
            mark: self.mark(),
            traffic_class: self.ip().map_or(0, |ip| ip.traffic_class),
        }
    }

    /// The version of IP.
    pub fn family(&self) -> Family {
        // SAFETY: `self` is valid.
        if unsafe { bindings::rust_helper_skb_protocol(self.as_raw()) } == ETH_P_IPV6 {
            Family::Ipv6
        } else {
            Family::Ipv4
        }
    }

    /// How much of its payload goes into one segment, when the packet stands for several; 0 for a single
    /// one.
    pub fn gso_size(&self) -> usize {
        // SAFETY: `self` is valid.
        unsafe { bindings::rust_helper_skb_gso_size(self.as_raw()).into() }
    }

    /// Whether it is a TCP packet at all: a rule of nft is taken at its word for what it is to match.
    #[inline(always)]
    pub fn is_tcp(&self, family: Family) -> bool {
        let at = match family {
            Family::Ipv4 => ip::V4_PROTOCOL,
            Family::Ipv6 => ip::V6_NEXT_HEADER,
        };
        self.linear().get(at) == Some(&ip::protocol::TCP) || self.is_far_tcp(family)
    }

    /// The same, when it takes more than a look.
    #[cold]
    fn is_far_tcp(&self, family: Family) -> bool {
        self.transport(family)
            .is_some_and(|transport| transport.protocol == ip::protocol::TCP)
    }

    /// Reads the TCP header at `thoff`, an offset from the start of the packet in bytes; `None` when
    /// it is malformed or cut short.
    #[inline]
    pub fn tcp(&self, thoff: usize) -> Option<Segment> {
        let len = self.len().checked_sub(thoff)?;
        match self.linear().get(thoff..) {
            Some(linear) if linear.len() >= len.min(segment::MAX_HEADER_LEN) => {
                Segment::new(linear, len)
            }
            _ => self.scattered_tcp(thoff, len),
        }
    }

    /// The TCP header where it stands, and its offset, if it lies in one piece, and right behind an IP header.
    #[inline]
    pub fn plain_segment(&self) -> Option<(usize, View<'_>)> {
        let thoff = ip::tcp_offset(self.linear())?;
        Some((thoff, self.view(thoff)?))
    }

    /// As [`SkBuff::tcp`], of a header that lies in one piece.
    #[inline(always)]
    pub fn view(&self, thoff: usize) -> Option<View<'_>> {
        View::view(self.linear().get(thoff..)?, self.len().wrapping_sub(thoff))
    }

    #[cold]
    fn scattered_tcp(&self, thoff: usize, len: usize) -> Option<Segment> {
        let mut bytes = [0; segment::MAX_HEADER_LEN];
        let bytes = bytes.get_mut(..len.min(segment::MAX_HEADER_LEN))?;
        if !self.read(thoff, bytes) {
            return None;
        }
        Segment::new(bytes, len)
    }

    /// The TCP header and where it is, in a packet that conntrack has put together of its fragments.
    #[inline]
    pub fn segment(&self, family: Family) -> Option<(usize, Segment)> {
        match self.plain_segment() {
            Some((thoff, view)) => Some((thoff, view.to_owned())),
            None => self.far_segment(family),
        }
    }

    /// The same, when it takes more than a look.
    #[cold]
    fn far_segment(&self, family: Family) -> Option<(usize, Segment)> {
        let transport = self.transport(family)?;
        if transport.protocol != ip::protocol::TCP || transport.is_later_fragment {
            return None;
        }
        Some((transport.offset, self.tcp(transport.offset)?))
    }

    /// Whether the TCP checksum is right, as far as the hardware has not checked it already.
    #[inline(always)]
    pub fn tcp_checksum_ok(&self, family: Family, thoff: usize) -> bool {
        // CAST: An offset in a packet.
        let thoff = thoff as u32;
        // SAFETY: `self` is a valid packet.
        let is_right = unsafe { bindings::rust_helper_skb_tcp_sum_is_right(self.as_raw(), thoff) };
        is_right || self.is_summed(family, thoff)
    }

    /// The same, when it takes more than a look.
    #[cold]
    fn is_summed(&self, family: Family, thoff: u32) -> bool {
        // Wherever we are. At other hooks the kernel believes a sum that was made in full, and it makes
        // one when it finds that a checksum is wrong: the second look would find it right.
        let hook = bindings::nf_inet_hooks_NF_INET_LOCAL_IN;
        // SAFETY: `self` is a valid packet of this family.
        let sum = unsafe {
            match family {
                Family::Ipv4 => {
                    bindings::nf_ip_checksum(self.as_raw(), hook, thoff, ip::protocol::TCP)
                }
                Family::Ipv6 => {
                    bindings::nf_ip6_checksum(self.as_raw(), hook, thoff, ip::protocol::TCP)
                }
            }
        };
        sum == 0
    }

    /// Reads the ICMP error at `transport`; `None` when it does not quote a TCP packet.
    pub fn icmp(&self, family: Family, transport: &Transport) -> Option<IcmpError> {
        let at = transport.offset;
        let mut kind = [0; 2];
        if !self.read(at, &mut kind) {
            return None;
        }
        let kind = match (family, transport.protocol) {
            (Family::Ipv4, ip::protocol::ICMP) => icmp::Kind::v4(kind[0], kind[1]),
            (Family::Ipv6, ip::protocol::ICMPV6) => icmp::Kind::v6(kind[0])?,
            _ => return None,
        };
        let quoted = at.checked_add(icmp::HEADER_LEN)?;
        let ip = self.ip_at(quoted)?;
        let inner = quoted.checked_add(ip.len)?;
        let (protocol, tcp) = match family {
            Family::Ipv4 => (ip.protocol, inner),
            Family::Ipv6 => {
                let (mut protocol, mut fragment) = (ip.protocol, 0);
                let inner = i32::try_from(inner).ok()?;
                // SAFETY: `self` is valid, and the rest outlives the call.
                let tcp = unsafe {
                    bindings::ipv6_skip_exthdr(self.as_raw(), inner, &mut protocol, &mut fragment)
                };
                (protocol, usize::try_from(tcp).ok()?)
            }
        };
        if protocol != ip::protocol::TCP || ip.is_later_fragment {
            return None;
        }
        let mut header = [0; segment::MAX_HEADER_LEN];
        let len = self.len().checked_sub(tcp)?.min(header.len());
        if !self.read(tcp, header.get_mut(..len)?) {
            return None;
        }
        Some(IcmpError {
            at,
            tcp,
            kind,
            quote: icmp::Quote::new(header, len)?,
        })
    }

    /// Writes a field of the packet's TCP header, of `len` bytes, and corrects the checksum.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when the packet cannot be made writable.
    #[inline]
    pub fn rewrite(&mut self, thoff: usize, len: usize, rewrite: Rewrite) -> Result {
        let end = thoff.checked_add(len).ok_or(EINVAL)?;
        let check = thoff.checked_add(segment::CHECK.into()).ok_or(EINVAL)?;
        self.replace(thoff, end, check, rewrite)
    }

    /// Corrects the packet's checksum as if a field with the value `from` became `to`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when the packet cannot be made writable.
    pub fn correct_checksum(
        &mut self,
        thoff: usize,
        segment: &Segment,
        from: u32,
        to: u32,
    ) -> Result {
        let end = thoff.checked_add(segment.header_len()).ok_or(EINVAL)?;
        let check = thoff.checked_add(segment::CHECK.into()).ok_or(EINVAL)?;
        self.correct(end, check, from, to)
    }

    /// Makes everything before `end` writable, and corrects the checksum at `check`.
    #[inline]
    fn correct(&mut self, end: usize, check: usize, from: u32, to: u32) -> Result {
        if check.checked_add(2).ok_or(EINVAL)? > end {
            return Err(EINVAL);
        }
        let writable = u32::try_from(end)?;
        // SAFETY: `self` is valid, and the exclusive borrow lets us change it.
        if unsafe { bindings::skb_ensure_writable(self.as_raw(), writable) } != 0 {
            return Err(ENOMEM);
        }
        // SAFETY: `skb_ensure_writable` has made `end` bytes from `data` on linear and ours alone; the
        // checksum ends before.
        unsafe {
            let check = (*self.as_raw()).data.add(check).cast();
            bindings::rust_helper_inet_proto_csum_replace4(check, self.as_raw(), from, to);
        }
        Ok(())
    }

    /// Writes a field of the TCP header that an ICMP error quotes. The header's own checksum is
    /// corrected where it was quoted, which leaves that of the error as it is; else the latter.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn rewrite_quote(&mut self, error: &IcmpError, rewrite: Rewrite) -> Result {
        let check = if error.quote.has_checksum() {
            error.tcp.checked_add(segment::CHECK.into())
        } else {
            error.at.checked_add(icmp::CHECK)
        };
        let end = self.len();
        self.replace(error.tcp, end, check.ok_or(EINVAL)?, rewrite)
    }

    /// Writes a field of the header at `start`, which ends at `end`, and corrects the checksum at
    /// `check`, before the end as well.
    #[inline]
    fn replace(&mut self, start: usize, end: usize, check: usize, rewrite: Rewrite) -> Result {
        let field = start.checked_add(rewrite.offset).ok_or(EINVAL)?;
        if field.checked_add(4).ok_or(EINVAL)? > end {
            return Err(EINVAL);
        }
        let end = field.max(check).wrapping_add(4).min(end);
        let summed = |value| timestamp::as_summed(value, rewrite.offset);
        self.correct(end, check, summed(rewrite.old), summed(rewrite.new))?;
        // SAFETY: `correct` has made `end` bytes from `data` on linear and ours alone, and the field ends
        // before.
        unsafe {
            (*self.as_raw())
                .data
                .add(field)
                .cast::<[u8; 4]>()
                .write_unaligned(rewrite.new.to_be_bytes());
        }
        Ok(())
    }
}

/// An ICMP error about a TCP packet.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError {
    at: usize,
    tcp: usize,
    /// What it means for the opening of a connection.
    pub kind: icmp::Kind,
    /// The TCP header that it quotes.
    pub quote: icmp::Quote,
}

/// A part of the data that a packet carries.
pub struct Part<'a> {
    /// The packet.
    pub packet: &'a SkBuff,
    /// Offset of its TCP header in bytes.
    pub thoff: usize,
    /// That header.
    pub segment: &'a Segment,
    /// First byte of the payload that is in it.
    pub from: usize,
    /// Length in bytes.
    pub len: usize,
}

/// A packet of our own making.
///
/// # Invariants
///
/// Points to an skb that nobody else knows; it is freed with the value.
pub struct OwnedSkb(NonNull<bindings::sk_buff>);

// SAFETY: Nobody else knows the skb, and any CPU may free it.
unsafe impl Send for OwnedSkb {}

impl OwnedSkb {
    /// The packet as one that is lent.
    fn lent(&mut self) -> &mut SkBuff {
        // SAFETY: The skb is ours, and borrowed as long as that.
        unsafe { SkBuff::from_raw(self.as_raw()) }
    }

    /// Builds a TCP packet without payload, with the addresses and ports given.
    ///
    /// # Errors
    ///
    /// `EINVAL` for addresses of different versions; `ENOMEM`.
    pub fn tcp(
        net: &Net,
        src: SocketAddr,
        dst: SocketAddr,
        tcp: &Repr,
        manner: Manner,
    ) -> Result<Self> {
        let tcp = Repr {
            src_port: src.port(),
            dst_port: dst.port(),
            ..*tcp
        };
        let mut header = [0; segment::MAX_HEADER_LEN];
        let len = tcp.emit(&mut header);
        let header = header.get_mut(..len).ok_or(EINVAL)?;
        Self::build(net, (src.ip(), dst.ip()), header, None, manner)
    }

    /// Builds a packet with what `part` tells of a packet that carries data.
    ///
    /// # Errors
    ///
    /// `EINVAL` for addresses of different versions, or when the packet ends before; `ENOMEM`.
    pub fn copy(
        net: &Net,
        src: SocketAddr,
        dst: SocketAddr,
        part: &Part<'_>,
        manner: Manner,
    ) -> Result<Self> {
        let mut header = [0; segment::MAX_HEADER_LEN];
        let ports = (src.port(), dst.port());
        let len = part.segment.cut(part.from, part.len, ports, &mut header);
        let header = header.get_mut(..len).ok_or(EINVAL)?;
        Self::build(net, (src.ip(), dst.ip()), header, Some(part), manner)
    }

    fn build(
        net: &Net,
        (src, dst): (IpAddr, IpAddr),
        header: &mut [u8],
        part: Option<&Part<'_>>,
        manner: Manner,
    ) -> Result<Self> {
        let family = Family::of(src);
        let ip = ip::Repr {
            src,
            dst,
            traffic_class: manner.traffic_class,
            hop_limit: net.default_hop_limit(family),
        };
        let mut ip_header = [0; ip::MAX_HEADER_LEN];
        let ip_len = ip.emit(&mut ip_header).ok_or(EINVAL)?;
        let ip_header = ip_header.get(..ip_len).ok_or(EINVAL)?;

        let payload = part.map_or(0, |part| part.len);
        let len = u32::try_from(header.len().checked_add(payload).ok_or(EINVAL)?)?;
        // SAFETY: May be called at any time, with addresses that outlive it.
        let sum = unsafe {
            match (ip.src, ip.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => bindings::rust_helper_tcp_v4_pseudo_sum(
                    len,
                    u32::from_ne_bytes(src.octets()),
                    u32::from_ne_bytes(dst.octets()),
                ),
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    bindings::rust_helper_tcp_v6_pseudo_sum(len, &in6(src), &in6(dst))
                }
                _ => return Err(EINVAL),
            }
        };
        if let Some(check) = header
            .get_mut(segment::CHECK.into()..)
            .and_then(|h| h.first_chunk_mut())
        {
            *check = sum.to_ne_bytes();
        }

        // SAFETY: May be called at any time.
        let headroom = unsafe { bindings::rust_helper_max_tcp_header() };
        let size = headroom.wrapping_add(ip_len as u32).wrapping_add(len);
        // SAFETY: May be called at any time.
        let skb = NonNull::new(unsafe { bindings::rust_helper_alloc_skb(size) }).ok_or(ENOMEM)?;
        // INVARIANT: Fresh from the allocator.
        let mut skb = Self(skb);
        // SAFETY: The skb is empty and has room for `size` bytes.
        unsafe {
            bindings::rust_helper_skb_reserve(skb.as_raw(), headroom);
            bindings::rust_helper_skb_reset_network_header(skb.as_raw());
        }
        // Room for all of this was allocated.
        skb.put_bytes(ip_header);
        skb.put_bytes(header);
        if let Some(part) = part {
            let offset = part
                .thoff
                .checked_add(part.segment.header_len())
                .and_then(|payload| payload.checked_add(part.from))
                .ok_or(EINVAL)?;
            if !part.packet.read(offset, skb.put(part.len)) {
                return Err(EINVAL);
            }
        }
        let ethertype = match family {
            Family::Ipv4 => ETH_P_IP,
            Family::Ipv6 => ETH_P_IPV6,
        };
        // SAFETY: Network and TCP header are in place.
        unsafe {
            bindings::rust_helper_skb_set_protocol(skb.as_raw(), ethertype);
            bindings::rust_helper_skb_set_mark(skb.as_raw(), manner.mark);
            if part.is_some() {
                // It may have come in fragments, and be longer than its way is wide.
                bindings::rust_helper_skb_allow_fragments(skb.as_raw());
            }
            if !bindings::skb_partial_csum_set(skb.as_raw(), ip_len as u16, segment::CHECK) {
                return Err(EINVAL);
            }
        }
        Ok(skb)
    }

    /// The packet's bytes, from the IP header on; its checksums are still to be made.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: The skb is ours, and `build` has made it linear.
        unsafe {
            let skb = &*self.as_raw();
            core::slice::from_raw_parts(skb.data, skb.len as usize)
        }
    }

    /// The packet's bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above; no clone shares the data.
        unsafe {
            let skb = &*self.as_raw();
            core::slice::from_raw_parts_mut(skb.data, skb.len as usize)
        }
    }

    /// Has the packet come in, once more, by the device by which `like` came.
    pub fn receive(self, like: &SkBuff) {
        // SAFETY: A packet that a hook looks at has a device, which does not go meanwhile; a queue of
        // received packets is emptied before a device in it goes. Ours is taken over.
        unsafe { bindings::rust_helper_netif_rx(self.into_raw(), like.as_raw()) }
    }

    /// The same, and it has got where it goes when this returns, unless a rule in the table raw queues it.
    pub fn receive_now(self, like: &SkBuff) {
        // SAFETY: As above. Packets may be received while another one is, as of a bridge.
        unsafe { bindings::rust_helper_netif_receive_skb(self.into_raw(), like.as_raw()) }
    }

    /// Has the packet come in by the device with this index.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it has gone.
    pub fn receive_by(self, net: &Net, device: u32) -> Result {
        // SAFETY: The namespace is valid. The packet is taken over when there is such a device.
        if unsafe { bindings::rust_helper_netif_rx_by(net.as_raw(), self.as_raw(), device as i32) }
        {
            core::mem::forget(self);
            Ok(())
        } else {
            Err(ENODEV)
        }
    }

    /// How much memory the packet takes, in bytes.
    pub fn true_size(&self) -> usize {
        // SAFETY: The skb is ours.
        unsafe { (*self.as_raw()).truesize as usize }
    }

    /// `bytes` at the end, for which there must be room.
    fn put_bytes(&mut self, bytes: &[u8]) {
        // SAFETY: `build` has allocated room for all that it puts.
        unsafe {
            let to: *mut u8 = bindings::skb_put(self.as_raw(), bytes.len() as u32).cast();
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    /// `len` bytes more at the end, for which there must be room.
    fn put(&mut self, len: usize) -> &mut [u8] {
        // SAFETY: `build` has allocated room for all that it puts; zeroed, they are valid bytes.
        unsafe {
            let to: *mut u8 = bindings::skb_put(self.as_raw(), len as u32).cast();
            to.write_bytes(0, len);
            core::slice::from_raw_parts_mut(to, len)
        }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::sk_buff {
        self.0.as_ptr()
    }

    /// Hands the skb over to somebody who frees it.
    pub(super) fn into_raw(self) -> *mut bindings::sk_buff {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

impl core::ops::Deref for OwnedSkb {
    type Target = SkBuff;

    fn deref(&self) -> &SkBuff {
        // SAFETY: The skb is ours as long as `self` lives.
        unsafe { SkBuff::from_raw_const(self.as_raw()) }
    }
}

impl core::ops::DerefMut for OwnedSkb {
    fn deref_mut(&mut self) -> &mut SkBuff {
        self.lent()
    }
}

impl Drop for OwnedSkb {
    fn drop(&mut self) {
        // SAFETY: By the invariant nobody else frees it.
        unsafe {
            bindings::sk_skb_reason_drop(
                core::ptr::null(),
                self.as_raw(),
                kernel::bindings::skb_drop_reason_SKB_DROP_REASON_NOT_SPECIFIED,
            );
        }
    }
}
