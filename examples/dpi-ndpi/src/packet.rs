// SPDX-License-Identifier: GPL-2.0-only

//! From the bytes of a packet to the few fields of it that matter here, and back.

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// What a client sends in one connection. Shown as `10.0.1.2:43210 -> 10.0.2.2:80`.
///
/// A client that waits acknowledges the proxy's first number and nothing else, so this number
/// tells its connection from an earlier one of the same ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    from: SocketAddr,
    to: SocketAddr,
    ack: u32,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

/// Reads an IPv4 or IPv6 packet, from its IP header on: its flow, sequence number and data.
///
/// `None` if it is cut short or malformed, a fragment, not TCP, or without data. Checksums are
/// not verified: conntrack has done so (`net.netfilter.nf_conntrack_checksum`).
pub(crate) fn parse(packet: &[u8]) -> Option<(Flow, u32, &[u8])> {
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
    if tcp.payload().is_empty() || !tcp.ack() || tcp.syn() || tcp.rst() {
        return None;
    }
    let flow = Flow {
        from: (from, tcp.source_port()).into(),
        to: (to, tcp.destination_port()).into(),
        ack: tcp.acknowledgment_number(),
    };
    Some((flow, tcp.sequence_number(), tcp.payload()))
}

/// One packet with all of `data`, from the IP header on. `None` if it is too much for one.
pub(crate) fn build(flow: &Flow, data: &[u8]) -> Option<Vec<u8>> {
    let mut packet = Vec::new();
    match (flow.from.ip(), flow.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => return None,
    }
    .tcp(flow.from.port(), flow.to.port(), 1, u16::MAX)
    .ack(flow.ack)
    .psh()
    .write(&mut packet, data)
    .ok()?;
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(from: &str, to: &str) -> Flow {
        Flow {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            ack: 401,
        }
    }

    fn flows() -> [Flow; 2] {
        [
            flow("10.0.1.2:43210", "10.0.2.2:80"),
            flow("[fd00:1::2]:43210", "[fd00:2::2]:80"),
        ]
    }

    #[test]
    fn what_is_built_can_be_read() {
        for flow in flows() {
            let packet = build(&flow, b"GET /").unwrap();
            assert_eq!(parse(&packet), Some((flow, 1, &b"GET /"[..])));
            assert_eq!(parse(&build(&flow, b"").unwrap()), None);
            assert_eq!(build(&flow, &[0; 65536]), None);
        }
        assert_eq!(flows()[0].to_string(), "10.0.1.2:43210 -> 10.0.2.2:80");
        let mixed = flow("10.0.1.2:43210", "[fd00:2::2]:80");
        assert_eq!(build(&mixed, b""), None);
    }

    #[test]
    fn link_padding_is_not_data() {
        let mut packet = build(&flows()[0], b"x").unwrap();
        packet.extend([0; 5]);
        assert_eq!(parse(&packet).unwrap().2, b"x");
    }

    #[test]
    fn garbage_does_no_harm() {
        let mut random = 1u32;
        for flow in flows() {
            let good = build(&flow, b"GET / HTTP/1.1\r\n").unwrap();
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
