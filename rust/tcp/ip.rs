// SPDX-License-Identifier: GPL-2.0-only

//! The fixed part of the IPv4 (RFC 791 section 3.1) and IPv6 (RFC 8200 section 3) header.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of an IPv4 header without options, in bytes.
pub const V4_HEADER_LEN: usize = 20;

/// Length of an IPv6 header without extension headers, in bytes.
pub const V6_HEADER_LEN: usize = 40;

/// Where in an IPv4 header the protocol is.
pub const V4_PROTOCOL: usize = 9;

/// Where in an IPv6 header the next header's is.
pub const V6_NEXT_HEADER: usize = 6;

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
                let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src.octets(), dst.octets());
                let tcp = protocol::TCP;
                *out.first_chunk_mut::<V4_HEADER_LEN>()? = [
                    0x45,
                    class,
                    0,
                    0,
                    0,
                    0,
                    0x40,
                    0,
                    self.hop_limit,
                    tcp,
                    0,
                    0,
                    s0,
                    s1,
                    s2,
                    s3,
                    d0,
                    d1,
                    d2,
                    d3,
                ];
                Some(V4_HEADER_LEN)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let (high, low) = (0x60 | class >> 4, class << 4);
                let (fixed, addresses) = out.split_first_chunk_mut::<8>()?;
                *fixed = [high, low, 0, 0, 0, 0, protocol::TCP, self.hop_limit];
                let (from, to) = addresses.split_first_chunk_mut::<16>()?;
                *from = src.octets();
                *to.first_chunk_mut::<16>()? = dst.octets();
                Some(V6_HEADER_LEN)
            }
            _ => None,
        }
    }
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
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 4] = *bytes.get(at..)?.first_chunk()?;
            Some(Ipv4Addr::from(octets).into())
        };
        let len = usize::from(bytes[0] & 0x0f).wrapping_mul(4);
        let fragment = u16::from_be_bytes([bytes[6], bytes[7]]);
        if len < V4_HEADER_LEN {
            return None;
        }
        Some(Self {
            src: address(12)?,
            dst: address(16)?,
            traffic_class: bytes[1],
            protocol: bytes[V4_PROTOCOL],
            len,
            is_later_fragment: fragment & 0x1fff != 0,
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
            protocol: bytes[V6_NEXT_HEADER],
            len: V6_HEADER_LEN,
            is_later_fragment: false,
        })
    }
}

/// The type of service, or traffic class, of a packet that begins with `bytes`.
pub fn traffic_class(bytes: &[u8]) -> u8 {
    match *bytes {
        [first, class, ..] if first >> 4 == 4 => class,
        [first, class, ..] => first << 4 | class >> 4,
        _ => 0,
    }
}

/// Where the TCP header of a packet begins that starts with `bytes`, if that can be seen from a header
/// without extension headers.
#[inline]
pub fn tcp_offset(bytes: &[u8]) -> Option<usize> {
    match *bytes.first_chunk::<V4_HEADER_LEN>()? {
        [0x45, _, _, _, _, _, f0, f1, _, protocol::TCP, ..] => {
            (u16::from_be_bytes([f0, f1]) & 0x1fff == 0).then_some(V4_HEADER_LEN)
        }
        [first, _, _, _, _, _, protocol::TCP, ..] if first >> 4 == 6 => Some(V6_HEADER_LEN),
        _ => None,
    }
}

/// Whether the packet of `len` bytes that begins with `bytes` is nothing but an IPv4 header without options
/// and a TCP segment that is whole, sent from one machine to another.
#[inline(always)]
pub fn is_plain_v4(bytes: &[u8], len: usize) -> bool {
    let Some(
        &[0x45, _, l0, l1, _, _, f0, f1, _, protocol::TCP, _, _, s0, s1, s2, s3, d0, d1, d2, d3],
    ) = bytes.first_chunk::<V4_HEADER_LEN>()
    else {
        return false;
    };
    usize::from(u16::from_be_bytes([l0, l1])) == len
        && u16::from_be_bytes([f0, f1]) & 0x3fff == 0
        && is_host_v4([s0, s1, s2, s3])
        && is_host_v4([d0, d1, d2, d3])
}

/// The same of an IPv6 header without extension headers.
pub fn is_plain_v6(bytes: &[u8], len: usize) -> bool {
    let [first, _, _, _, l0, l1, protocol::TCP, _, ref addresses @ ..] = *bytes else {
        return false;
    };
    let Some((src, rest)) = addresses.split_first_chunk() else {
        return false;
    };
    first >> 4 == 6
        && V6_HEADER_LEN.wrapping_add(u16::from_be_bytes([l0, l1]).into()) == len
        && is_host_v6(src)
        && rest.first_chunk().is_some_and(is_host_v6)
}

fn is_host_v4(octets: [u8; 4]) -> bool {
    let number = u32::from_be_bytes(octets);
    // Multicast and what is reserved are 0xe0000000 and above.
    number < 0xe000_0000 && number >> 24 != 0 && number >> 24 != 127
}

fn is_host_v6(octets: &[u8; 16]) -> bool {
    let address = u128::from_be_bytes(*octets);
    address >> 120 != 0xff && address > 1
}

/// Makes a plain header at the start of `out` that of an answer, as [`Repr::emit`] would write it: the
/// addresses change places. Returns how many bytes it takes.
#[inline(always)]
pub fn turn(out: &mut [u8; MAX_HEADER_LEN], hop_limit: u8) -> Option<usize> {
    if out[0] >> 4 == 4 {
        let [_, class, l0, l1, i0, i1, f0, f1, ttl, _, c0, c1, addresses @ ..] = out;
        *class &= !ECN_MASK;
        [*l0, *l1, *i0, *i1, *f0, *f1] = [0, 0, 0, 0, 0x40, 0];
        [*ttl, *c0, *c1] = [hop_limit, 0, 0];
        swap::<4>(addresses)?;
        Some(V4_HEADER_LEN)
    } else {
        let [_, class, label0, label1, l0, l1, _, hops, addresses @ ..] = out;
        // The half of the class that stands here, and the flow label.
        *class &= 0xf0 & !(ECN_MASK << 4);
        [*label0, *label1, *l0, *l1, *hops] = [0, 0, 0, 0, hop_limit];
        swap::<16>(addresses)?;
        Some(V6_HEADER_LEN)
    }
}

/// Makes a plain header at the start of `out` one as [`Repr::emit`] would write it with the same addresses.
/// Returns how many bytes it takes.
pub fn renew(out: &mut [u8; MAX_HEADER_LEN], hop_limit: u8) -> Option<usize> {
    turn(out, hop_limit)?;
    turn(out, hop_limit)
}

/// Has two addresses change places.
fn swap<const N: usize>(addresses: &mut [u8]) -> Option<()> {
    let (src, rest) = addresses.split_first_chunk_mut::<N>()?;
    core::mem::swap(src, rest.first_chunk_mut()?);
    Some(())
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
                assert_eq!(traffic_class(&bytes), class & !3);
                assert_eq!(Header::fixed_len(bytes[0]), Some(len));
                assert!(!header.is_later_fragment);
                for short in 0..len {
                    assert_eq!(Header::new(&bytes[..short]), None);
                }
            }
        }
    }

    #[test]
    fn a_header_is_turned_as_if_it_were_written_anew() {
        for (src, dst) in pairs() {
            for class in 0..=255u8 {
                let repr = Repr {
                    src,
                    dst,
                    traffic_class: class,
                    hop_limit: 64,
                };
                let mut there = [0; MAX_HEADER_LEN];
                let len = repr.emit(&mut there).unwrap();
                // What a client's may have else.
                there[1] |= class << if len == V4_HEADER_LEN { 0 } else { 4 };
                if len == V4_HEADER_LEN {
                    there[2..9].copy_from_slice(&[0, 60, 1, 2, 0, 0, 7]);
                    there[10..12].copy_from_slice(&[3, 4]);
                } else {
                    there[1] |= 0x0f;
                    there[2..6].copy_from_slice(&[1, 2, 0, 20]);
                    there[7] = 9;
                }
                assert!(is_plain(&there[..len], 60));
                let mut back = [0xee; MAX_HEADER_LEN];
                let answer = Repr {
                    src: dst,
                    dst: src,
                    ..repr
                };
                answer.emit(&mut back).unwrap();
                assert_eq!(turn(&mut there, 64), Some(len));
                assert_eq!(there[..len], back[..len], "{class:#x}");
            }
        }
    }

    fn is_plain(bytes: &[u8], len: usize) -> bool {
        let (v4, v6) = (is_plain_v4(bytes, len), is_plain_v6(bytes, len));
        assert!(!(v4 && v6));
        v4 || v6
    }

    #[test]
    fn tcp_is_found_where_it_is() {
        for (src, dst) in pairs() {
            let repr = Repr {
                src,
                dst,
                traffic_class: 0,
                hop_limit: 64,
            };
            let mut bytes = [0; MAX_HEADER_LEN];
            let len = repr.emit(&mut bytes).unwrap();
            let is_v4 = len == V4_HEADER_LEN;
            assert_eq!(tcp_offset(&bytes), Some(len));
            for short in 0..V4_HEADER_LEN {
                assert_eq!(tcp_offset(&bytes[..short]), None);
            }
            // Options, fragments, other protocols.
            let wrong: &[(usize, u8)] = if is_v4 {
                &[(0, 0x46), (0, 0x55), (6, 0x1f), (7, 1), (9, 17)]
            } else {
                &[(0, 0x50), (6, 44), (6, 0)]
            };
            for (at, byte) in wrong {
                let mut other = bytes;
                other[*at] = *byte;
                assert_eq!(tcp_offset(&other), None, "{at} {byte:#x}");
            }
        }
    }

    #[test]
    fn what_is_not_plain() {
        let [v4, v6] = pairs().map(|(src, dst)| {
            let mut bytes = [0; MAX_HEADER_LEN];
            let repr = Repr {
                src,
                dst,
                traffic_class: 0,
                hop_limit: 64,
            };
            let len = repr.emit(&mut bytes).unwrap();
            bytes[if len == V4_HEADER_LEN { 3 } else { 5 }] =
                if len == V4_HEADER_LEN { 60 } else { 20 };
            bytes
        });
        let spoilt = |packet: &[u8; MAX_HEADER_LEN], at: usize, with: &[u8]| {
            let mut packet = *packet;
            packet[at..at + with.len()].copy_from_slice(with);
            is_plain(&packet, 60)
        };
        assert!(is_plain(&v4, 60) && is_plain(&v6, 60));
        assert!(!is_plain(&v4, 61) && !is_plain(&v6, 59));
        assert!(!is_plain(&v4[..19], 60) && !is_plain(&v6[..39], 60));
        // Don't fragment says nothing.
        assert!(spoilt(&v4, 6, &[0x40]));
        for (at, with) in [
            // Options, a fragment's two marks, another protocol.
            (0, &[0x46][..]),
            (6, &[0x20]),
            (7, &[1]),
            (9, &[17]),
            // From and to where no single machine is.
            (12, &[0]),
            (12, &[127]),
            (12, &[224]),
            (12, &[255, 255, 255, 255]),
            (16, &[239]),
            (16, &[127]),
        ] {
            assert!(!spoilt(&v4, at, with), "{at} {with:?}");
        }
        let loopback = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        for (at, with) in [
            (6, &[0][..]),
            (6, &[44]),
            (8, &[0xff]),
            (24, &[0xff]),
            (8, &[0; 16]),
            (24, &loopback),
        ] {
            assert!(!spoilt(&v6, at, with), "{at} {with:?}");
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
