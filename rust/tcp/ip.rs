// SPDX-License-Identifier: GPL-2.0-only

//! The fixed part of the IPv4 (RFC 791 section 3.1) and IPv6 (RFC 8200 section 3) header.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of an IPv4 header without options, in bytes.
pub const V4_HEADER_LEN: usize = 20;

/// Length of an IPv6 header without extension headers, in bytes.
pub const V6_HEADER_LEN: usize = 40;

/// Length of the longer of both, in bytes.
pub const MAX_HEADER_LEN: usize = V6_HEADER_LEN;

/// Protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// ICMP of IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// ICMP of IPv6.
    pub const ICMPV6: u8 = 58;
}

/// The bits of the traffic class that are for ECN, RFC 3168 section 5.
const ECN_MASK: u8 = 0x03;

/// The header of a TCP packet, to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same version.
    pub dst: IpAddr,
    /// Type of service, or traffic class. Nothing is said of ECN: what the proxy sends carries no
    /// data, and is not to be marked.
    pub traffic_class: u8,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
}

impl Repr {
    /// Writes the header and returns how many bytes it takes; `None` when the versions differ. An
    /// IPv4 packet must not be fragmented. Length and checksum are zero: `ip_local_out()` and
    /// `ip6_local_out()` fill them in.
    pub fn emit(&self, out: &mut [u8; MAX_HEADER_LEN]) -> Option<usize> {
        let class = self.traffic_class & !ECN_MASK;
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let hop_limit = self.hop_limit;
                let fixed = [
                    0x45,
                    class,
                    0,
                    0,
                    0,
                    0,
                    0x40,
                    0,
                    hop_limit,
                    protocol::TCP,
                    0,
                    0,
                ];
                Some(write(out, &[&fixed, &src.octets(), &dst.octets()]))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let (high, low) = (0x60 | class >> 4, class << 4);
                let fixed = [high, low, 0, 0, 0, 0, protocol::TCP, self.hop_limit];
                Some(write(out, &[&fixed, &src.octets(), &dst.octets()]))
            }
            _ => None,
        }
    }
}

/// Writes `parts` one after the other and returns their length.
fn write(out: &mut [u8; MAX_HEADER_LEN], parts: &[&[u8]]) -> usize {
    let mut len = 0usize;
    for (to, from) in out.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
        len = len.wrapping_add(1);
    }
    len
}

/// What the proxy reads of an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Type of service, or traffic class.
    pub traffic_class: u8,
    /// Protocol number of what follows: in IPv6 it may be an extension header.
    pub protocol: u8,
    /// Length of the header in bytes, without IPv6 extension headers.
    pub len: usize,
    /// The packet is a fragment other than the first. IPv6 has an extension header for it.
    pub is_later_fragment: bool,
}

impl Header {
    /// Length of the fixed part, in bytes, of a header that begins with `first`.
    pub fn fixed_len(first: u8) -> Option<usize> {
        match first >> 4 {
            4 => Some(V4_HEADER_LEN),
            6 => Some(V6_HEADER_LEN),
            _ => None,
        }
    }

    /// Reads the fixed part at the start of `bytes`; `None` when it is cut short, or version or
    /// length cannot be.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes.first_chunk()?),
            6 => Self::v6(bytes.first_chunk()?),
            _ => None,
        }
    }

    fn v4(bytes: &[u8; V4_HEADER_LEN]) -> Option<Self> {
        let [version_ihl, tos, _, _, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
            *bytes;
        let len = usize::from(version_ihl & 0x0f).wrapping_mul(4);
        (len >= V4_HEADER_LEN).then_some(Self {
            src: Ipv4Addr::new(s0, s1, s2, s3).into(),
            dst: Ipv4Addr::new(d0, d1, d2, d3).into(),
            traffic_class: tos,
            protocol,
            len,
            is_later_fragment: u16::from_be_bytes([f0, f1]) & 0x1fff != 0,
        })
    }

    fn v6(bytes: &[u8; V6_HEADER_LEN]) -> Option<Self> {
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = *bytes.get(at..)?.first_chunk()?;
            Some(Ipv6Addr::from(octets).into())
        };
        Some(Self {
            src: address(8)?,
            dst: address(24)?,
            traffic_class: bytes[0] << 4 | bytes[1] >> 4,
            protocol: bytes[6],
            len: V6_HEADER_LEN,
            is_later_fragment: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> [(IpAddr, IpAddr); 2] {
        [
            (
                "192.0.2.1".parse().unwrap(),
                "198.51.100.7".parse().unwrap(),
            ),
            (
                "2001:db8::1".parse().unwrap(),
                "2001:db8:f00::ff:7".parse().unwrap(),
            ),
        ]
    }

    #[test]
    fn emit_then_read() {
        for (src, dst) in pairs() {
            for class in 0..=255 {
                let repr = Repr {
                    src,
                    dst,
                    traffic_class: class,
                    hop_limit: 64,
                };
                let mut bytes = [0xee; MAX_HEADER_LEN];
                let len = repr.emit(&mut bytes).unwrap();
                let header = Header::new(&bytes[..len]).unwrap();
                assert_eq!((header.src, header.dst), (src, dst));
                assert_eq!((header.protocol, header.len), (protocol::TCP, len));
                assert_eq!(header.traffic_class, class & !3);
                assert_eq!(Header::fixed_len(bytes[0]), Some(len));
                assert!(!header.is_later_fragment);
                for short in 0..len {
                    assert_eq!(Header::new(&bytes[..short]), None);
                }
            }
        }
    }

    #[test]
    fn versions_do_not_mix() {
        let [(four, _), (six, _)] = pairs();
        let repr = Repr {
            src: four,
            dst: six,
            traffic_class: 0,
            hop_limit: 64,
        };
        assert_eq!(repr.emit(&mut [0; MAX_HEADER_LEN]), None);
    }

    #[test]
    fn a_header_that_cannot_be() {
        for first in 0..=255u8 {
            let mut bytes = [0; MAX_HEADER_LEN];
            bytes[0] = first;
            let ok = first >> 4 == 4 && first & 15 >= 5 || first >> 4 == 6;
            assert_eq!(Header::new(&bytes).is_some(), ok, "{first:#x}");
        }
    }
}
