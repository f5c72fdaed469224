// SPDX-License-Identifier: GPL-2.0-only

//! The translation of an open connection: what it changes, and that checksums stay right.

use crate::{options, segment, Result, Unstructured};
use etherparse::TcpHeaderSlice;
use synproxy_tcp::{
    options::kind,
    sack,
    segment::{Segment, View, HEADER_LEN},
    timestamp::{as_summed, translate, translate_plain, Direction, Rewrite},
};

const CHECK: usize = 16;

/// A way to go.
pub fn direction(u: &mut Unstructured<'_>) -> Result<Direction> {
    Ok(if u.arbitrary()? {
        Direction::Original
    } else {
        Direction::Reply
    })
}

/// A number of four bytes where it stands.
pub fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A TCP segment on its way.
struct Packet {
    bytes: Vec<u8>,
    header_len: usize,
}

impl Packet {
    fn new(header: &[u8], payload: &[u8]) -> Self {
        let mut packet = Self {
            bytes: [header, payload].concat(),
            header_len: header.len(),
        };
        let right = packet.right_checksum();
        packet.bytes[CHECK..CHECK + 2].copy_from_slice(&right.to_be_bytes());
        packet
    }

    fn raw_options(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..self.header_len]
    }

    fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.bytes[CHECK], self.bytes[CHECK + 1]])
    }

    fn right_checksum(&self) -> u16 {
        let (header, payload) = self.bytes.split_at(self.header_len);
        TcpHeaderSlice::from_slice(header)
            .expect("a header")
            .calc_checksum_ipv4_raw([192, 0, 2, 1], [198, 51, 100, 7], payload)
            .expect("not too long")
    }

    /// As `inet_proto_csum_replace4()` does: RFC 1624, equation 3.
    fn replace4(&mut self, from: u32, to: u32) {
        let halves = |number: u32| (number >> 16) + (number & 0xffff);
        let mut sum = u32::from(!self.checksum()) + halves(!from) + halves(to);
        while sum > 0xffff {
            sum = halves(sum);
        }
        let check = !(sum as u16);
        self.bytes[CHECK..CHECK + 2].copy_from_slice(&check.to_be_bytes());
    }

    fn write(&mut self, at: usize, number: u32) {
        self.bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }

    /// As `SkBuff::rewrite` does in the module.
    fn rewrite(&mut self, rewrite: Rewrite) {
        let at = rewrite.offset;
        assert!(at >= HEADER_LEN && at + 4 <= self.header_len);
        assert_eq!(rewrite.old, number_at(&self.bytes, at));
        self.replace4(as_summed(rewrite.old, at), as_summed(rewrite.new, at));
        self.write(at, rewrite.new);
    }

    /// Of both zeros one is as good as the other.
    fn is_right(&self) {
        let (is, right) = (self.checksum(), self.right_checksum());
        assert_eq!(is % 0xffff, right % 0xffff, "{:?}", self.bytes);
    }
}

/// The property.
pub fn property(u: &mut Unstructured<'_>) -> Result<()> {
    let header = segment::any(u)?;
    let (direction, offset, seq_offset) = (direction(u)?, u.arbitrary()?, u.arbitrary()?);
    let payload = u.bytes(u.len().min(9))?;
    timestamps(&mut Packet::new(&header, payload), direction, offset);
    sacks(&mut Packet::new(&header, payload), seq_offset);
    plain(&header, direction, offset);
    Ok(())
}

fn timestamps(packet: &mut Packet, direction: Direction, offset: u32) {
    packet.is_right();
    let before = packet.bytes.clone();
    let first = options::read(packet.raw_options())
        .into_iter()
        .find(|(_, option)| option[0] == kind::TIMESTAMP && option.len() == 10)
        .map(|(at, _)| HEADER_LEN + at + 2);
    let expected = first.filter(|_| offset != 0).map(|at| match direction {
        Direction::Reply => (at, number_at(&before, at).wrapping_sub(offset)),
        Direction::Original => (at + 4, number_at(&before, at + 4).wrapping_add(offset)),
    });
    let there = translate(packet.raw_options(), direction, offset);
    assert_eq!(there.map(|there| (there.offset, there.new)), expected);
    let Some(there) = there else {
        return;
    };
    packet.rewrite(there);
    packet.is_right();

    let back = translate(packet.raw_options(), direction, offset.wrapping_neg());
    packet.rewrite(back.expect("still there"));
    packet.is_right();
    assert_eq!(packet.bytes[..CHECK], before[..CHECK]);
    assert_eq!(packet.bytes[CHECK + 2..], before[CHECK + 2..]);
}

/// The module makes up beforehand for what the kernel does to the checksum.
fn sacks(packet: &mut Packet, seq_offset: u32) {
    let edges: Vec<u32> = sack::odd_edges(packet.raw_options()).collect();
    for edge in edges {
        let adjusted = edge.wrapping_sub(seq_offset);
        packet.replace4(as_summed(edge, 1), as_summed(adjusted, 1));
        packet.replace4(adjusted, edge);
    }
    // As nf_ct_sack_adjust() of net/netfilter/nf_conntrack_seqadj.c.
    let blocks: Vec<_> = options::read(packet.raw_options())
        .into_iter()
        .filter(|(_, option)| option[0] == kind::SACK && option.len() % 8 == 2)
        .flat_map(|(at, option)| (at + 2..at + option.len()).step_by(4))
        .collect();
    for at in blocks {
        let at = HEADER_LEN + at;
        let edge = number_at(&packet.bytes, at);
        packet.replace4(edge, edge.wrapping_sub(seq_offset));
        packet.write(at, edge.wrapping_sub(seq_offset));
    }
    packet.is_right();
}

/// The short way leads where the long one does.
fn plain(header: &[u8], direction: Direction, offset: u32) {
    let view = View::view(header, header.len()).expect("a header");
    let segment = Segment::new(header, header.len()).expect("a header");
    if let Ok(short) = translate_plain(&view, direction, offset) {
        assert_eq!(short, translate(segment.raw_options(), direction, offset));
        // Nothing else in it is translated.
        let known = options::known(segment.raw_options());
        let read = options::read(segment.raw_options());
        assert!(!segment.is_syn() && !segment.is_syn_ack());
        assert_eq!(read.len(), usize::from(known.timestamps.is_some()));
    }
}
