// SPDX-License-Identifier: GPL-2.0-only

//! The IPv4 header (RFC 791 section 3.1) of the packets that the proxy makes.

/// Length of an IPv4 header without options, in bytes.
pub const HEADER_LEN: usize = 20;

/// Protocol number of TCP.
pub const PROTO_TCP: u8 = 6;

/// An IPv4 header to be written; addresses are as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
}

impl Repr {
    /// The header of a TCP packet that must not be fragmented. Total length and checksum are zero:
    /// `ip_local_out()` fills them in.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let [s0, s1, s2, s3] = self.src;
        let [d0, d1, d2, d3] = self.dst;
        [
            0x45, self.tos, 0, 0, 0, 0, 0x40, 0, self.ttl, PROTO_TCP, 0, 0, s0, s1, s2, s3, d0, d1,
            d2, d3,
        ]
    }
}

/// What the proxy reads of an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Protocol number.
    pub protocol: u8,
    /// Length of the header with its options, in bytes.
    pub len: usize,
    /// The packet is a fragment other than the first.
    pub is_later_fragment: bool,
}

impl Header {
    /// Reads the fixed part; `None` when version or length cannot be.
    pub fn new(bytes: [u8; HEADER_LEN]) -> Option<Self> {
        let [version_ihl, _, _, _, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
            bytes;
        let len = usize::from(version_ihl & 0x0f).wrapping_mul(4);
        (version_ihl >> 4 == 4 && len >= HEADER_LEN).then_some(Self {
            src: [s0, s1, s2, s3],
            dst: [d0, d1, d2, d3],
            protocol,
            len,
            is_later_fragment: u16::from_be_bytes([f0, f1]) & 0x1fff != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emit_then_read() {
        let repr = Repr {
            src: [192, 0, 2, 1],
            dst: [198, 51, 100, 7],
            tos: 0x10,
            ttl: 64,
        };
        let header = Header::new(repr.emit()).unwrap();
        assert_eq!((header.src, header.dst), (repr.src, repr.dst));
        assert_eq!((header.protocol, header.len), (PROTO_TCP, HEADER_LEN));
        assert!(!header.is_later_fragment);
    }

    #[test]
    fn a_header_that_cannot_be() {
        for first in 0..=255u8 {
            let mut bytes = [0; HEADER_LEN];
            bytes[0] = first;
            let ok = first >> 4 == 4 && first & 15 >= 5;
            assert_eq!(Header::new(bytes).is_some(), ok, "{first:#x}");
        }
    }
}
