// SPDX-License-Identifier: GPL-2.0-only

//! From the bytes of a packet to the few fields of it that matter here.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// One direction of a TCP connection. Shown as `10.0.1.2:43210 -> 10.0.2.2:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    /// Who sends.
    pub(crate) from: SocketAddr,
    /// Who receives.
    pub(crate) to: SocketAddr,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

/// What a TCP segment says about the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    /// Sequence number of the first byte (of the SYN, if there is one).
    pub(crate) seq: u32,
    /// What is acknowledged; 0 if nothing is.
    pub(crate) ack: u32,
    pub(crate) syn: bool,
    pub(crate) rst: bool,
    /// The data.
    pub(crate) payload: &'a [u8],
}

/// Reads an IPv4 or IPv6 packet, from its IP header on.
///
/// `None` if it is cut short or malformed, a fragment, or not TCP. Checksums are not verified:
/// conntrack has done so (`net.netfilter.nf_conntrack_checksum`).
pub(crate) fn parse(packet: &[u8]) -> Option<(Flow, Segment<'_>)> {
    let packet = SlicedPacket::from_ip(packet).ok()?;
    let (from, to): (IpAddr, IpAddr) = match packet.net? {
        NetSlice::Ipv4(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
        return None;
    };
    let flow = Flow {
        from: (from, tcp.source_port()).into(),
        to: (to, tcp.destination_port()).into(),
    };
    let segment = Segment {
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        syn: tcp.syn(),
        rst: tcp.rst(),
        payload: tcp.payload(),
    };
    Some((flow, segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn ipv4(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 0, 1, 2], [10, 0, 2, 2], 64)
            .tcp(43210, 80, 0xffff_fffe, 29200)
            .ack(401)
            .options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
            .unwrap()
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    }

    fn ipv6(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64)
            .tcp(43210, 80, 7, 29200)
            .syn()
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    }

    #[test]
    fn fields_are_read() {
        let bytes = ipv4(b"GET /");
        let (flow, segment) = parse(&bytes).unwrap();
        assert_eq!(flow.to_string(), "10.0.1.2:43210 -> 10.0.2.2:80");
        assert_eq!((segment.seq, segment.ack), (0xffff_fffe, 401));
        assert!(!segment.syn && !segment.rst);
        assert_eq!(segment.payload, b"GET /");

        let bytes = ipv6(b"");
        let (flow, segment) = parse(&bytes).unwrap();
        assert_eq!(flow.to.port(), 80);
        assert!(flow.to.is_ipv6() && segment.syn && segment.payload.is_empty());
    }

    #[test]
    fn link_padding_is_not_data() {
        let mut bytes = ipv4(b"");
        bytes.extend([0; 6]);
        assert_eq!(parse(&bytes).unwrap().1.payload, b"");
    }

    #[test]
    fn garbage_does_no_harm() {
        let mut random = 1u32;
        for good in [ipv4(b"GET / HTTP/1.1\r\n"), ipv6(b"GET / HTTP/1.1\r\n")] {
            for len in 0..good.len() {
                assert_eq!(parse(&good[..len]), None, "cut to {len} bytes");
            }
            for _ in 0..20_000 {
                let mut bytes = good.clone();
                for _ in 0..4 {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let at = (random >> 16) as usize % bytes.len();
                    bytes[at] = (random >> 8) as u8;
                }
                parse(&bytes);
            }
        }
    }
}
