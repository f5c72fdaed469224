// SPDX-License-Identifier: GPL-2.0-only

//! The start of what a client sends, out of whatever segments arrive.
//!
//! A packet of a client that waits is put in order here and not by nDPI, which takes segments as
//! they come: what counts is what a server would read. nDPI is shown the stream as one packet,
//! again whenever it has grown.
//!
//! No SYN is seen, so where a stream starts has to be learned: it is the lowest number at which
//! data came. A client could send something below its true start, to be judged by that. So only
//! two segments of an allowed stream say that it is allowed: the one that starts it, and the one
//! that completed what was needed to know. Of these, such a client's are of no use at the gate.

use crate::ndpi::Protocol;

/// How much of a stream is kept. A ClientHello has some 2000 bytes.
const KEPT: usize = 8192;

/// The start of one client's stream. Sequence numbers are modulo 2^32.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Sequence number of `data[0]`.
    start: u32,
    /// From the start up to the first gap.
    data: Vec<u8>,
    /// How much of it was there when nDPI was last asked.
    asked: usize,
    /// Two different bytes came for the same place, so one cannot know what a server would read.
    torn: bool,
    /// What it was recognised as, and the number of the segment with which that was known.
    known: Option<(Protocol, u32)>,
}

/// What is known about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Too little was seen.
    Undecided,
    /// It is of that protocol.
    Known(Protocol),
    /// It contradicts itself.
    Torn,
}

impl Stream {
    /// A stream of which this data was seen.
    pub(crate) fn new(seq: u32, payload: &[u8]) -> Self {
        let mut stream = Self {
            start: seq,
            data: Vec::new(),
            asked: 0,
            torn: false,
            known: None,
        };
        stream.extend(payload);
        stream
    }

    fn extend(&mut self, payload: &[u8]) {
        let room = KEPT - self.data.len();
        self.data
            .extend_from_slice(payload.get(..room).unwrap_or(payload));
    }

    /// Adds a segment. Data below the start makes another start, and what lies behind a gap is
    /// left out until the client sends it again.
    pub(crate) fn add(&mut self, seq: u32, payload: &[u8]) {
        let at = seq.wrapping_sub(self.start);
        if at > i32::MAX as u32 {
            *self = Self::new(seq, payload);
        } else if let Some(there) = self.data.get(at as usize..) {
            let common = there.len().min(payload.len());
            let (again, more) = payload.split_at(common);
            self.torn |= !there.starts_with(again);
            self.extend(more);
        }
    }

    /// What is known by the segment at `seq`, which has been added. `recognise` is asked if it is
    /// not known yet.
    pub(crate) fn judge(
        &mut self,
        seq: u32,
        recognise: impl FnOnce(&[u8]) -> Option<Protocol>,
    ) -> Verdict {
        if self.torn {
            return Verdict::Torn;
        }
        if self.known.is_none() && self.asked < self.data.len() {
            self.asked = self.data.len();
            self.known = recognise(&self.data).map(|protocol| (protocol, seq));
        }
        match self.known {
            Some((protocol, _)) => Verdict::Known(protocol),
            None => Verdict::Undecided,
        }
    }

    /// Whether the segment at `seq` may say that the stream is allowed.
    pub(crate) fn speaks(&self, seq: u32) -> bool {
        seq == self.start || self.known.is_some_and(|(_, by)| seq == by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ndpi::{tests::client_hello, Ndpi};

    /// Where the streams of these tests start: their bytes cross the end of the number space.
    const ISN1: u32 = 0xffff_fffd;

    /// What is known after these segments, given as (offset from the start, data), and whether
    /// the last one says so.
    fn judge(segments: &[(i32, &[u8])]) -> (Verdict, bool) {
        let mut ndpi = Ndpi::new().unwrap();
        let mut stream: Option<Stream> = None;
        let mut last = (Verdict::Undecided, false);
        for (at, data) in segments {
            let seq = ISN1.wrapping_add_signed(*at);
            let stream = match &mut stream {
                Some(stream) => {
                    stream.add(seq, data);
                    stream
                }
                none => none.insert(Stream::new(seq, data)),
            };
            let verdict = stream.judge(seq, |data| ndpi.recognise(&crate::tests::packet(data), 0));
            last = (verdict, stream.speaks(seq));
        }
        last
    }

    fn known(name: &str) -> Verdict {
        let data: &[u8] = match name {
            "http" => REQUEST,
            _ => b"SSH-2.0-x\r\n",
        };
        let (verdict, _) = judge(&[(0, data)]);
        assert_ne!(verdict, Verdict::Undecided);
        verdict
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn in_pieces() {
        let (first, rest) = REQUEST.split_at(2);
        let http = known("http");
        assert_eq!(judge(&[(0, first)]).0, Verdict::Undecided);
        assert_eq!(judge(&[(0, first), (2, rest)]), (http, true));
        // Then the client sends it again, in whatever segments.
        assert_eq!(judge(&[(0, first), (2, rest), (0, first)]), (http, true));
        assert_eq!(judge(&[(0, first), (2, rest), (0, REQUEST)]), (http, true));
        assert_eq!(judge(&[(0, first), (0, first)]).0, Verdict::Undecided);
        assert_eq!(judge(&[(0, first), (1, &REQUEST[1..])]), (http, true));

        let hello = client_hello();
        let pieces: Vec<_> = hello
            .iter()
            .enumerate()
            .map(|(at, byte)| (at as i32, std::slice::from_ref(byte)))
            .collect();
        assert!(matches!(judge(&pieces), (Verdict::Known(_), true)));
    }

    #[test]
    fn out_of_order() {
        let (first, rest) = REQUEST.split_at(2);
        let http = known("http");
        assert_eq!(judge(&[(2, rest), (0, first)]).0, Verdict::Undecided);
        assert_eq!(judge(&[(2, rest), (0, first), (2, rest)]), (http, true));
        assert_eq!(judge(&[(0, b"G"), (20, b"x")]).0, Verdict::Undecided);
        assert_eq!(
            judge(&[(5, REQUEST), (0, b"SSH-2.0-x\r\n")]).0,
            known("ssh")
        );
    }

    #[test]
    fn data_below_the_start_does_not_speak_for_it() {
        let ssh: &[u8] = b"SSH-2.0-x\r\n";
        let below = (-(REQUEST.len() as i32), REQUEST);
        assert!(!judge(&[below, (0, ssh)]).1);
        assert!(!judge(&[(0, ssh), below, (0, ssh)]).1);
        assert!(!judge(&[(0, b"S"), below, (0, ssh), (0, ssh)]).1);
    }

    #[test]
    fn contradictions() {
        let (first, rest) = REQUEST.split_at(2);
        assert_eq!(judge(&[(0, REQUEST), (0, b"SSH-2.0-x")]).0, Verdict::Torn);
        assert_eq!(judge(&[(0, first), (1, b"x"), (2, rest)]).0, Verdict::Torn);
    }

    #[test]
    fn no_more_than_is_kept() {
        let long = vec![b'x'; 3 * KEPT];
        let mut stream = Stream::new(1, &long);
        stream.add(1, &long);
        stream.add(KEPT as u32 + 1, &long);
        assert_eq!(stream.data.len(), KEPT);
        assert_eq!(stream.judge(1, |_| None), Verdict::Undecided);
        stream.judge(1, |_| unreachable!("nothing new to be seen"));
    }
}
