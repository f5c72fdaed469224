// SPDX-License-Identifier: GPL-2.0-only

//! Which parts of a client's stream are held while it waits.
//!
//! Nothing here knows bytes from packets: a span says where a segment stands in the stream, and a
//! slice what it carries. Sequence numbers wrap around; all spans of a stream are within a budget of
//! less than 2^31 bytes from its start.

use super::segment::{flags, Segment};

/// A segment's place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Sequence number of its first byte.
    pub seq: u32,
    /// How much sequence space it takes: a byte each, and one more for a FIN.
    pub len: u32,
}

/// What is to be done with a segment of a client that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It brings something new.
    Keep,
    /// All of it is held already.
    Known,
    /// It says something else than what is held.
    Contradicts,
}

impl Span {
    /// That of a segment.
    pub fn of(segment: &Segment) -> Self {
        let fin = u32::from(segment.flags() & flags::FIN != 0);
        // A payload is shorter than an IP packet.
        let payload = u32::try_from(segment.payload_len()).unwrap_or(u32::MAX >> 1);
        Self {
            seq: segment.seq(),
            len: payload.wrapping_add(fin),
        }
    }

    /// Nothing, at a sequence number.
    pub fn at(seq: u32) -> Self {
        Self { seq, len: 0 }
    }

    /// The sequence number that follows it.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len)
    }

    /// Whether it lies in the first `budget` bytes of the stream that begins at `start`. A FIN may
    /// follow them.
    pub fn is_within(&self, start: u32, budget: u32) -> bool {
        let ahead = self.seq.wrapping_sub(start);
        ahead <= budget && self.len <= budget.wrapping_sub(ahead).wrapping_add(1)
    }

    /// Whether all of `other` is in it.
    pub fn covers(&self, other: &Self) -> bool {
        other.is_within(self.seq, self.len.wrapping_sub(1)) && self.len != 0
    }

    /// Whether both say the same where they overlap; `bytes` are this one's, without the FIN.
    fn agrees<'a>(&self, bytes: &'a [u8], other: &Self, others: &'a [u8]) -> bool {
        let (first, ahead) = if before(self.seq, other.seq) {
            (true, other.seq.wrapping_sub(self.seq))
        } else {
            (false, self.seq.wrapping_sub(other.seq))
        };
        let (mine, theirs) = if first { (ahead, 0) } else { (0, ahead) };
        let common = self
            .len
            .saturating_sub(mine)
            .min(other.len.saturating_sub(theirs));
        // Without the FIN, which is where the bytes end: it must be in the same place.
        let part = |bytes: &'a [u8], from: u32| {
            // Lengths of packets: fit.
            let (from, to) = (from as usize, from.wrapping_add(common) as usize);
            bytes.get(from..to.min(bytes.len()))
        };
        common == 0 || part(bytes, mine) == part(others, theirs)
    }
}

/// Whether the sequence number `a` comes before `b`.
pub fn before(a: u32, b: u32) -> bool {
    // CAST: The sign of the distance is what is asked for.
    (a.wrapping_sub(b) as i32) < 0
}

/// Up to which sequence number `held` leaves no gap from `start` on.
pub fn reach(start: u32, held: impl Iterator<Item = Span> + Clone) -> u32 {
    let mut end = start;
    loop {
        let further = held
            .clone()
            .find(|span| !before(end, span.seq) && before(end, span.end()));
        match further {
            Some(span) => end = span.end(),
            None => return end,
        }
    }
}

/// What to do with the segment at `span`, which carries `bytes`. Of what is held not all may count for
/// making it known.
///
/// A client that sends other bytes than before for the same place means to show the engine one stream
/// and the server another.
pub fn judge<'a>(
    span: &Span,
    bytes: &'a [u8],
    held: impl Iterator<Item = (Span, &'a [u8], bool)> + Clone,
) -> Judged {
    if !held
        .clone()
        .all(|(other, others, _)| span.agrees(bytes, &other, others))
    {
        return Judged::Contradicts;
    }
    let counting = held.filter_map(|(span, _, counts)| counts.then_some(span));
    if before(reach(span.seq, counting), span.end()) {
        Judged::Keep
    } else {
        Judged::Known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u32 = u32::MAX - 5;

    /// A segment `from` bytes into the stream "abc...", perhaps with a FIN.
    fn piece(from: u32, len: u32, fin: bool) -> (Span, Vec<u8>) {
        let bytes: Vec<u8> = (from..from + len).map(|i| b'a' + (i % 26) as u8).collect();
        let span = Span {
            seq: START.wrapping_add(from),
            len: len + u32::from(fin),
        };
        (span, bytes)
    }

    fn judged(new: &(Span, Vec<u8>), held: &[(Span, Vec<u8>)]) -> Judged {
        let held = held
            .iter()
            .map(|(span, bytes)| (*span, bytes.as_slice(), true));
        judge(&new.0, &new.1, held)
    }

    fn reached(held: &[(Span, Vec<u8>)]) -> u32 {
        reach(START, held.iter().map(|held| held.0)).wrapping_sub(START)
    }

    #[test]
    fn a_stream_reaches_to_its_first_gap() {
        let all = [
            piece(10, 10, false),
            piece(0, 10, false),
            piece(25, 5, false),
        ];
        assert_eq!(reached(&[]), 0);
        assert_eq!(reached(&all[..1]), 0);
        assert_eq!(reached(&all[..2]), 20);
        assert_eq!(reached(&all), 20);
        assert_eq!(reached(&[piece(0, 12, false), piece(5, 10, true)]), 16);
    }

    #[test]
    fn what_is_held_is_known() {
        let held = [piece(0, 10, false), piece(10, 10, true)];
        for (from, len, fin, is) in [
            (0, 10, false, Judged::Known),
            (5, 10, false, Judged::Known),
            (0, 20, true, Judged::Known),
            (20, 0, true, Judged::Known),
            (21, 3, false, Judged::Keep),
            (30, 1, false, Judged::Keep),
        ] {
            assert_eq!(judged(&piece(from, len, fin), &held), is, "{from} {len}");
        }
        let gap = [piece(0, 5, false), piece(10, 5, false)];
        assert_eq!(judged(&piece(0, 15, false), &gap), Judged::Keep);
        assert_eq!(judged(&piece(4, 2, false), &gap), Judged::Keep);
        assert_eq!(judged(&piece(0, 1, false), &[]), Judged::Keep);
    }

    #[test]
    fn other_bytes_for_the_same_place_contradict() {
        let held = [piece(0, 10, false), piece(10, 10, true)];
        for (from, len) in [(0, 10), (3, 3), (8, 8), (9, 30)] {
            for at in 0..len {
                let mut new = piece(from, len, false);
                new.1[at as usize] ^= 1;
                let overlaps = from + at < 20;
                if overlaps || from + len > 20 {
                    assert_eq!(judged(&new, &held), Judged::Contradicts, "{from} {at}");
                }
            }
        }
        // More data where the stream has ended, and an end within it.
        assert_eq!(judged(&piece(15, 10, false), &held), Judged::Contradicts);
        assert_eq!(judged(&piece(0, 15, true), &held), Judged::Contradicts);
        assert_eq!(judged(&piece(20, 1, false), &held), Judged::Contradicts);
    }

    #[test]
    fn only_what_is_in_the_budget_counts() {
        let within = |from: u32, len| {
            let seq = START.wrapping_add(from);
            Span { seq, len }.is_within(START, 100)
        };
        assert!(within(0, 100) && within(99, 1));
        // A FIN behind the last byte.
        assert!(within(0, 101) && within(100, 1));
        assert!(!within(100, 2) && !within(101, 1) && !within(50, 52));
        assert!(!within(u32::MAX, 1) && !within(1 << 31, 1) && !within(0, u32::MAX));
    }

    #[test]
    fn a_longer_one_covers() {
        let covers = |a: (u32, u32), b: (u32, u32)| {
            piece(a.0, a.1, false).0.covers(&piece(b.0, b.1, false).0)
        };
        assert!(covers((0, 10), (0, 10)) && covers((0, 10), (3, 4)) && covers((2, 8), (9, 1)));
        assert!(!covers((0, 10), (3, 8)) && !covers((5, 5), (4, 2)) && !covers((5, 5), (10, 1)));
    }

    /// Any cut of a stream, coming in any order, ends up whole.
    #[test]
    fn all_cuts_in_all_orders() {
        let len = 6u32;
        for cuts in 0..1u32 << (len - 1) {
            let mut pieces = vec![];
            let mut from = 0;
            for to in 1..=len {
                if to == len || cuts & (1 << (to - 1)) != 0 {
                    pieces.push(piece(from, to - from, to == len));
                    from = to;
                }
            }
            for turn in 0..pieces.len() {
                pieces.rotate_left(turn);
                pieces.reverse();
                let mut held: Vec<(Span, Vec<u8>)> = vec![];
                for new in &pieces {
                    assert_eq!(judged(new, &held), Judged::Keep);
                    held.push(new.clone());
                    assert_eq!(judged(new, &held), Judged::Known);
                }
                assert_eq!(reached(&held), len + 1);
                held.sort_by(|a, b| before(b.0.seq, a.0.seq).cmp(&before(a.0.seq, b.0.seq)));
                let stream: Vec<u8> = held.into_iter().flat_map(|held| held.1).collect();
                assert_eq!(stream, piece(0, len, false).1);
            }
        }
    }
}
