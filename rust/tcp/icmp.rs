// SPDX-License-Identifier: GPL-2.0-only

//! ICMP errors about a proxied connection (RFC 792, RFC 4443, RFC 5927).
//!
//! An error quotes the packet that it is about, as far as a router saw it. Its receiver believes it
//! only if the quoted numbers are its own, so the proxy's translation is undone in the quote.

use super::{
    segment,
    timestamp::{self, Direction, Rewrite},
};

/// Length of an ICMP header in bytes; the quoted packet follows.
pub const HEADER_LEN: usize = 8;

/// Offset of the checksum in the ICMP header.
pub const CHECK: usize = 2;

/// What an error means for the opening of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The packet will not get there.
    Unreachable,
    /// It can be sent again in another way: smaller, or slower.
    Soft,
}

impl Kind {
    /// That of an ICMP error, type and code as in RFC 792.
    pub fn v4(kind: u8, code: u8) -> Self {
        match (kind, code) {
            // Fragmentation needed.
            (3, 4) => Self::Soft,
            // Destination unreachable, time exceeded, parameter problem.
            (3 | 11 | 12, _) => Self::Unreachable,
            _ => Self::Soft,
        }
    }

    /// That of an ICMPv6 error, as in RFC 4443; `None` for other messages.
    pub fn v6(kind: u8) -> Option<Self> {
        match kind {
            // Destination unreachable, time exceeded, parameter problem.
            1 | 3 | 4 => Some(Self::Unreachable),
            0..=127 => Some(Self::Soft),
            _ => None,
        }
    }
}

/// The TCP header that an error quotes, or as much as there is of it.
#[derive(Clone, Copy, Debug)]
pub struct Quote {
    header: [u8; segment::MAX_HEADER_LEN],
    len: usize,
}

/// What the proxy adds to the server's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// To sequence numbers, on their way to the client.
    pub seq_offset: u32,
    /// What the server's clock is ahead of ours.
    pub timestamp_offset: u32,
    /// The number after the last byte that the server has sent, in its own numbers.
    pub server_end: u32,
}

impl Quote {
    /// Takes a header of which `len` bytes were quoted; `None` if these are not even the 8 that each
    /// error has to quote.
    pub fn new(header: [u8; segment::MAX_HEADER_LEN], len: usize) -> Option<Self> {
        (8..=header.len())
            .contains(&len)
            .then_some(Self { header, len })
    }

    fn bytes(&self) -> &[u8] {
        self.header.get(..self.len).unwrap_or_default()
    }

    fn be32(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(*self.bytes().get(at..)?.first_chunk()?))
    }

    /// Its sequence number.
    pub fn seq(&self) -> u32 {
        self.be32(4).unwrap_or(0)
    }

    /// Whether the checksum is a part of it.
    pub fn has_checksum(&self) -> bool {
        self.len >= usize::from(segment::CHECK).wrapping_add(2)
    }

    fn raw_options(&self) -> &[u8] {
        let words = self.bytes().get(12).map_or(0, |byte| byte >> 4);
        let end = usize::from(words).wrapping_mul(4).min(self.len);
        self.bytes()
            .get(segment::HEADER_LEN..end)
            .unwrap_or_default()
    }

    /// What has to be written to make the quoted packet, which was on its way in `direction`, what its
    /// sender has sent. A host asked by us may quote what was not translated yet: the number says so.
    pub fn untranslate(
        &self,
        direction: Direction,
        translation: &Translation,
    ) -> impl Iterator<Item = Rewrite> {
        let Translation {
            seq_offset,
            timestamp_offset,
            server_end,
        } = *translation;
        let number = match direction {
            Direction::Reply => self.be32(4).map(|seq| Rewrite {
                offset: 4,
                old: seq,
                new: seq.wrapping_sub(seq_offset),
            }),
            Direction::Original => self.be32(8).map(|ack| Rewrite {
                offset: 8,
                old: ack,
                new: ack.wrapping_add(seq_offset),
            }),
        };
        let translated = number.is_none_or(|number| {
            let theirs = match direction {
                Direction::Reply => is_nearer(number.new, number.old, server_end),
                Direction::Original => {
                    is_nearer(number.old, number.old.wrapping_sub(seq_offset), server_end)
                }
            };
            seq_offset == 0 || theirs
        });
        let times = timestamp::translate(
            self.raw_options(),
            direction,
            timestamp_offset.wrapping_neg(),
        );
        [number.filter(|number| number.old != number.new), times]
            .into_iter()
            .flatten()
            .filter(move |_| translated)
    }
}

/// Whether of two sequence numbers `a` is nearer to `to`.
fn is_nearer(a: u32, b: u32, to: u32) -> bool {
    // CAST: Modulo 2^32: before `to` is negative.
    let distance = |number: u32| (number.wrapping_sub(to) as i32).unsigned_abs();
    distance(a) < distance(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        options::{Options, Timestamps},
        segment::{flags, Repr, MAX_HEADER_LEN},
    };

    const TRANSLATION: Translation = Translation {
        seq_offset: 0x9000_0000,
        timestamp_offset: 1000,
        server_end: 5000,
    };

    fn quote(seq: u32, ack: u32, len: usize) -> Quote {
        let mut header = [0; MAX_HEADER_LEN];
        Repr {
            seq,
            ack,
            flags: flags::ACK,
            options: Options {
                timestamps: Some(Timestamps { val: 70, ecr: 90 }),
                ..Options::default()
            },
            ..Repr::default()
        }
        .emit(&mut header);
        Quote::new(header, len).unwrap()
    }

    fn written(quote: &Quote, direction: Direction) -> Vec<(usize, u32)> {
        quote
            .untranslate(direction, &TRANSLATION)
            .map(|rewrite| (rewrite.offset, rewrite.new))
            .collect()
    }

    #[test]
    fn the_servers_packets_get_its_numbers_back() {
        let seen_by_client = 4000u32.wrapping_add(TRANSLATION.seq_offset);
        let all = quote(seen_by_client, 7, 32);
        assert_eq!(
            written(&all, Direction::Reply),
            [(4, 4000), (24, 70 + 1000)]
        );
        let least = quote(seen_by_client, 7, 8);
        assert_eq!(written(&least, Direction::Reply), [(4, 4000)]);
        assert!(all.has_checksum() && !least.has_checksum());
    }

    #[test]
    fn what_was_not_translated_yet_stays() {
        for seq_offset in [1 << 16, 0x1000_0000, 0x7fff_ffff, 0x9000_0000, 0xffff_0000] {
            let translation = Translation {
                seq_offset,
                ..TRANSLATION
            };
            let own = 4000u32.wrapping_add(seq_offset);
            for (quote, direction) in [
                (quote(4000, 7, 32), Direction::Reply),
                (quote(7, own, 32), Direction::Original),
            ] {
                let mut rewrites = quote.untranslate(direction, &translation);
                assert_eq!(rewrites.next(), None, "{seq_offset:#x} {direction:?}");
            }
        }
    }

    #[test]
    fn the_clients_packets_get_its_numbers_back() {
        let own = 4000u32.wrapping_add(TRANSLATION.seq_offset);
        assert_eq!(
            written(&quote(7, 4000, 32), Direction::Original),
            [(8, own), (28, 90u32.wrapping_sub(1000))]
        );
        assert_eq!(written(&quote(7, 4000, 8), Direction::Original), []);
    }

    #[test]
    fn every_length_is_read_within_it() {
        for len in 0..=MAX_HEADER_LEN + 1 {
            for doff in 0..16 {
                let mut header = [0xff; MAX_HEADER_LEN];
                header[12] = doff << 4;
                let Some(quote) = Quote::new(header, len) else {
                    assert!(!(8..=MAX_HEADER_LEN).contains(&len));
                    continue;
                };
                for direction in [Direction::Original, Direction::Reply] {
                    for rewrite in quote.untranslate(direction, &TRANSLATION) {
                        assert!(rewrite.offset + 4 <= len);
                    }
                }
            }
        }
    }

    #[test]
    fn kinds() {
        assert_eq!(Kind::v4(3, 3), Kind::Unreachable);
        assert_eq!(Kind::v4(3, 4), Kind::Soft);
        assert_eq!(Kind::v4(4, 0), Kind::Soft);
        assert_eq!(Kind::v4(11, 0), Kind::Unreachable);
        assert_eq!(Kind::v6(1), Some(Kind::Unreachable));
        assert_eq!(Kind::v6(2), Some(Kind::Soft));
        assert_eq!(Kind::v6(137), None);
    }
}
