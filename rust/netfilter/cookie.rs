// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's SYN cookies.
//!
//! C header: [`include/net/tcp.h`](srctree/include/net/tcp.h)

use super::{bindings, turn::Plain, Family};
use core::net::{IpAddr, SocketAddr};

/// A connection as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the client is.
    pub client: SocketAddr,
    /// Where it connects to; of the same version of IP.
    pub server: SocketAddr,
}

/// The network header that a cookie is computed over.
enum Header {
    V4(bindings::iphdr),
    V6(bindings::ipv6hdr),
}

impl Plain<'_> {
    /// As [`Flow::cookie`], of the SYN as its addresses stand in the packet.
    #[inline(always)]
    pub fn cookie(&self, mss: u16) -> (u32, u16) {
        let mut mss = mss;
        let (ip, th) = self.headers();
        // SAFETY: Both headers are in place. No pointer is kept.
        let isn = unsafe {
            match self.family() {
                Family::Ipv4 => bindings::__cookie_v4_init_sequence(ip.cast(), th.cast(), &mut mss),
                Family::Ipv6 => bindings::__cookie_v6_init_sequence(ip.cast(), th.cast(), &mut mss),
            }
        };
        (isn, mss)
    }
}

impl Flow {
    fn header(&self) -> Option<Header> {
        match (self.client.ip(), self.server.ip()) {
            (IpAddr::V4(client), IpAddr::V4(server)) => {
                let mut iph = bindings::iphdr::default();
                iph.__bindgen_anon_1.__bindgen_anon_1.saddr = u32::from_ne_bytes(client.octets());
                iph.__bindgen_anon_1.__bindgen_anon_1.daddr = u32::from_ne_bytes(server.octets());
                Some(Header::V4(iph))
            }
            (IpAddr::V6(client), IpAddr::V6(server)) => {
                let mut iph = bindings::ipv6hdr::default();
                iph.__bindgen_anon_1.__bindgen_anon_1.saddr = super::in6(client);
                iph.__bindgen_anon_1.__bindgen_anon_1.daddr = super::in6(server);
                Some(Header::V6(iph))
            }
            _ => None,
        }
    }

    fn tcp(&self, seq: u32, ack: u32) -> bindings::tcphdr {
        bindings::tcphdr {
            source: self.client.port().to_be(),
            dest: self.server.port().to_be(),
            seq: seq.to_be(),
            ack_seq: ack.to_be(),
            ..Default::default()
        }
    }

    /// The ISN for the answer to a SYN with the number `seq` of a client with this `mss` in bytes,
    /// and the MSS that the cookie keeps: rounded down to one of four, which differ between IPv4 and
    /// IPv6.
    pub fn cookie(&self, seq: u32, mss: u16) -> Option<(u32, u16)> {
        let th = self.tcp(seq, 0);
        let mut mss = mss;
        // SAFETY: All that is passed outlives the call; addresses, ports and number are all that it
        // reads.
        let isn = unsafe {
            match self.header()? {
                Header::V4(iph) => bindings::__cookie_v4_init_sequence(&iph, &th, &mut mss),
                Header::V6(iph) => bindings::__cookie_v6_init_sequence(&iph, &th, &mut mss),
            }
        };
        Some((isn, mss))
    }

    /// The client's MSS in bytes, when `seq` and `ack` are those of an ACK for a cookie of ours;
    /// rounded down as above.
    pub fn check(&self, seq: u32, ack: u32) -> Option<u16> {
        let th = self.tcp(seq, ack);
        // SAFETY: All that is passed outlives the call; addresses, ports and numbers are all that it
        // reads.
        let mss = unsafe {
            match self.header()? {
                Header::V4(iph) => bindings::__cookie_v4_check(&iph, &th),
                Header::V6(iph) => bindings::__cookie_v6_check(&iph, &th),
            }
        };
        u16::try_from(mss).ok().filter(|mss| *mss != 0)
    }
}
