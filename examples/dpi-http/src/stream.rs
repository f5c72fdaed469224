// SPDX-License-Identifier: GPL-2.0-only

//! Recognises HTTP at the start of a client's stream, out of whatever segments arrive.
//!
//! # Where a stream starts
//!
//! The rule `-m spstate --in-progress -j NFQUEUE` shows what a client sends after its handshake
//! with the proxy, so a SYN is rarely seen and the start has to be learned. It is the lowest
//! sequence number at which data was seen, within [`WINDOW`]: segments may overtake each other,
//! and a client repeats what has not been acknowledged from its beginning. An engine that must
//! not be misled by a client that sends its second segment first needs the SYN as well, that is
//! a rule that queues all packets; a start learned from a SYN does not move.

use crate::packet::{Flow, Segment};
use lru::LruCache;
use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

/// How many bytes of a stream are kept, from its start. The longest method needs 8; the rest is
/// for the eyes of who reads the log.
const KEPT: usize = 64;

/// How far from what was seen before a segment may lie and still belong to the same connection,
/// in bytes: the largest window without scaling.
const WINDOW: u32 = 65535;

/// How long a flow is remembered after its last packet: the life of a waiting connection.
const IDLE: Duration = Duration::from_secs(150);

/// Methods of RFC 9110 section 9.3 and RFC 5789, and the preface of HTTP/2 (RFC 9113 section 3.4).
const METHODS: [&[u8]; 10] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PRI ",
];

/// What is known about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Too little was seen.
    Undecided,
    /// It starts with an HTTP method.
    Http,
    /// It does not, or the client has sent two different bytes for the same place.
    Other,
}

impl Verdict {
    fn of(start: &[u8]) -> Self {
        if METHODS.iter().any(|method| start.starts_with(method)) {
            Self::Http
        } else if METHODS.iter().any(|method| method.starts_with(start)) {
            Self::Undecided
        } else {
            Self::Other
        }
    }
}

/// Whence the start of a stream is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// From the SYN: it is certain.
    Syn,
    /// From a packet without data: the last ACK of the handshake, whose sequence number is that
    /// of the first byte, or a keepalive or window probe, whose number is one below.
    Bare,
    /// From data: others may come that lie below.
    Data,
}

/// The start of one client's stream. Sequence numbers are in host byte order, modulo 2^32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// Sequence number of `kept[0]`.
    start: u32,
    origin: Origin,
    /// The highest sequence number seen so far, behind the data.
    end: u32,
    kept: [u8; KEPT],
    /// Bit i is set if `kept[i]` was seen.
    seen: u64,
    /// Two different bytes came for the same place, so one cannot know what a server would read.
    torn: bool,
}

impl Stream {
    /// A stream of which `segment` is the first to be seen. Data in a SYN is left out: the proxy
    /// ignores it, and the client sends it again.
    fn new(segment: &Segment<'_>) -> Self {
        let (start, origin, payload) = match segment {
            Segment { syn: true, .. } => (segment.seq.wrapping_add(1), Origin::Syn, &[][..]),
            Segment { payload: [], .. } => (segment.seq, Origin::Bare, &[][..]),
            _ => (segment.seq, Origin::Data, segment.payload),
        };
        let mut stream = Self {
            start,
            origin,
            end: start,
            kept: [0; KEPT],
            seen: 0,
            torn: false,
        };
        stream.place(start, payload);
        stream
    }

    /// Adds what `segment` tells. A SYN, and a segment far from all others, is another
    /// connection of the same ports and starts over.
    fn add(&mut self, segment: &Segment<'_>) {
        let (seq, payload) = (segment.seq, segment.payload);
        let distance = seq.wrapping_sub(self.end);
        if segment.syn || distance.min(distance.wrapping_neg()) > WINDOW {
            *self = Self::new(segment);
            return;
        }

        let below = match self.start.wrapping_sub(seq) {
            below if below <= WINDOW => below,
            _ => 0,
        };
        if below > 0 {
            let mut moved = *self;
            moved.move_down(below);
            moved.place(seq, payload);
            let take = match (self.origin, payload) {
                (Origin::Syn, _) => false,
                // A keepalive or window probe: it repeats the number before the first byte. What
                // it carries is garbage, unless it makes a better start than there was.
                (Origin::Bare, []) => below > 1,
                (Origin::Data, []) => false,
                (_, [_]) if below == 1 => moved.verdict() != Verdict::Other,
                _ => true,
            };
            if take {
                *self = moved;
                if !payload.is_empty() {
                    self.origin = Origin::Data;
                }
                return;
            }
        }
        self.place(
            seq.wrapping_add(below),
            payload.get(below as usize..).unwrap_or_default(),
        );
    }

    /// Makes room for `count` bytes in front.
    fn move_down(&mut self, count: u32) {
        self.start = self.start.wrapping_sub(count);
        match count as usize {
            count @ 0..KEPT => {
                self.kept.copy_within(..KEPT - count, count);
                self.seen <<= count;
            }
            _ => self.seen = 0,
        }
    }

    /// Keeps what falls into the kept part of `payload`, which begins at `seq`, not below
    /// `start`.
    fn place(&mut self, seq: u32, payload: &[u8]) {
        let end = seq.wrapping_add(payload.len() as u32);
        if end.wrapping_sub(self.end) <= i32::MAX as u32 {
            self.end = end;
        }
        let at = seq.wrapping_sub(self.start) as usize;
        let places = self.kept.iter_mut().enumerate().skip(at);
        for ((place, kept), &byte) in places.zip(payload) {
            let bit = 1 << place;
            self.torn |= self.seen & bit != 0 && *kept != byte;
            self.seen |= bit;
            *kept = byte;
        }
    }

    /// How many numbers the first byte is above `start`: that of a bare packet may have been a
    /// keepalive's, one below it.
    fn lead(&self) -> usize {
        usize::from(self.origin == Origin::Bare && self.seen & 0b11 == 0b10)
    }

    /// Whether a segment at `seq` is known to be the start of the stream, or part of it.
    fn is_certain(&self, seq: u32) -> bool {
        self.origin == Origin::Syn || seq == self.start.wrapping_add(self.lead() as u32)
    }

    /// The bytes from the start of the stream up to the first gap.
    fn known(&self) -> &[u8] {
        let lead = self.lead();
        let count = (self.seen >> lead).trailing_ones() as usize;
        self.kept.get(lead..lead + count).unwrap_or_default()
    }

    /// What is known by now.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.torn {
            return Verdict::Other;
        }
        Verdict::of(self.known())
    }

    /// How many bytes of the stream were seen, up to the last one.
    fn len(&self) -> u32 {
        self.end.wrapping_sub(self.start)
    }

    /// The first two words of the stream, escaped for a terminal: `GET /index.html`.
    pub(crate) fn first_words(&self) -> String {
        let line = self.known().split(|byte| b"\r\n".contains(byte)).next();
        let words: Vec<_> = line
            .unwrap_or_default()
            .splitn(3, |byte| *byte == b' ')
            .take(2)
            .collect();
        words.join(&b' ').escape_ascii().to_string()
    }
}

/// The streams that are being looked at: a bounded number of them, the longest unused leaving
/// first.
pub(crate) struct Streams {
    known: LruCache<Key, Entry>,
    /// How many bytes of a request are to be seen before it is said to be one.
    bytes: u32,
}

/// A flow, and what is acknowledged in it; nothing if its SYN was seen.
type Key = (Flow, Option<u32>);

struct Entry {
    stream: Stream,
    /// When its last segment came.
    last: Instant,
    /// What was last said about it.
    said: Verdict,
}

impl Entry {
    fn new(segment: &Segment<'_>, now: Instant) -> Self {
        Self {
            stream: Stream::new(segment),
            last: now,
            said: Verdict::Undecided,
        }
    }
}

impl Streams {
    /// Remembers at most `limit` streams, of some 250 bytes each, and needs `bytes` bytes of a
    /// request.
    pub(crate) fn new(limit: NonZeroUsize, bytes: u32) -> Self {
        Self {
            known: LruCache::new(limit),
            bytes,
        }
    }

    /// Takes in one segment, at the time `now`. Returns what it says about its stream, and the
    /// stream itself if that has just been found out.
    pub(crate) fn judge(
        &mut self,
        flow: Flow,
        segment: &Segment<'_>,
        now: Instant,
    ) -> (Verdict, Option<&Stream>) {
        let mut key = (flow, None);
        if !segment.syn && !self.known.contains(&key) {
            key.1 = Some(segment.ack);
        }
        if segment.rst {
            self.known.pop(&key);
            return (Verdict::Undecided, None);
        }
        let entry = self
            .known
            .get_or_insert_mut(key, || Entry::new(segment, now));
        if now.saturating_duration_since(entry.last) > IDLE {
            *entry = Entry::new(segment, now);
        }
        // To a stream that is made of this very segment, it adds nothing.
        entry.stream.add(segment);
        entry.last = now;

        let verdict = match entry.stream.verdict() {
            Verdict::Http if entry.stream.len() < self.bytes => Verdict::Undecided,
            verdict => verdict,
        };
        let news = verdict != entry.said && verdict != Verdict::Undecided;
        entry.said = verdict;
        if verdict == Verdict::Http && !news && !entry.stream.is_certain(segment.seq) {
            return (Verdict::Undecided, None);
        }
        (verdict, news.then_some(&entry.stream))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Verdict::{Http, Other, Undecided},
        *,
    };

    /// Where the streams of these tests start: their bytes cross the end of the number space.
    const ISN1: u32 = 0xffff_fffd;

    fn segment(offset: i32, payload: &[u8]) -> Segment<'_> {
        Segment {
            seq: ISN1.wrapping_add_signed(offset),
            ack: 401,
            syn: false,
            rst: false,
            payload,
        }
    }

    fn syn(offset: i32) -> Segment<'static> {
        Segment {
            syn: true,
            ..segment(offset, b"")
        }
    }

    /// The stream after these segments, given as (offset from the start, data).
    fn stream(segments: &[(i32, &[u8])]) -> Stream {
        let mut segments = segments.iter().map(|&(at, data)| segment(at, data));
        let mut stream = Stream::new(&segments.next().unwrap());
        segments.for_each(|segment| stream.add(&segment));
        stream
    }

    fn verdict(segments: &[(i32, &[u8])]) -> Verdict {
        stream(segments).verdict()
    }

    fn flow(port: u16) -> Flow {
        Flow {
            from: ([10, 0, 1, 2], port).into(),
            to: ([10, 0, 2, 2], 80).into(),
        }
    }

    fn random(state: &mut u32, below: usize) -> usize {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 8) as usize % below
    }

    #[test]
    fn a_method_and_a_space() {
        for method in METHODS {
            assert_eq!(verdict(&[(0, method)]), Http);
            assert_eq!(verdict(&[(0, &method[..method.len() - 1])]), Undecided);
        }
        assert_eq!(verdict(&[(0, b"SSH-2.0-OpenSSH_10.0\r\n")]), Other);
        assert_eq!(verdict(&[(0, b"\x16\x03\x01")]), Other);
        assert_eq!(verdict(&[(0, b"get / HTTP/1.1\r\n")]), Other);
        assert_eq!(verdict(&[(0, b"GETS ")]), Other);
        assert_eq!(verdict(&[(0, b"XGET ")]), Other);
        assert_eq!(verdict(&[(0, b"X"), (1, b"GET ")]), Other);
    }

    #[test]
    fn one_byte_at_a_time() {
        let mut all = Stream::new(&segment(0, b""));
        for (at, byte) in b"GET / HTTP/1.1".iter().enumerate() {
            all.add(&segment(at as i32, &[*byte]));
            assert_eq!(all.verdict(), if at < 3 { Undecided } else { Http });
        }
        // Only the first byte comes again, and what was seen of the others counts.
        assert_eq!(
            verdict(&[(0, b"G"), (1, b"E"), (2, b"T"), (3, b" "), (0, b"G")]),
            Http
        );
    }

    #[test]
    fn gaps_are_waited_for() {
        assert_eq!(verdict(&[(0, b"G"), (2, b"T "), (1, b"E")]), Http);
        assert_eq!(verdict(&[(0, b"G"), (2, b"T ")]), Undecided);
        assert_eq!(verdict(&[(0, b""), (4, b"GET ")]), Undecided);
        assert_eq!(verdict(&[(0, b""), (4, b"GET "), (0, b"SSH-")]), Other);
    }

    #[test]
    fn overlaps_and_repetitions() {
        assert_eq!(verdict(&[(0, b"GE"), (1, b"ET"), (0, b"GET /")]), Http);
        assert_eq!(verdict(&[(0, b"GET /"), (0, b"G"), (2, b"T / HTTP")]), Http);
        assert_eq!(verdict(&[(0, b"GET "), (0, b"SSH-")]), Other);
        assert_eq!(verdict(&[(0, b"SSH-"), (0, b"GET ")]), Other);
    }

    #[test]
    fn a_later_segment_first() {
        assert_eq!(verdict(&[(5, b"HTTP/1.1"), (0, b"GET /")]), Http);
        assert_eq!(verdict(&[(1, b"E"), (0, b"G"), (2, b"T ")]), Http);
        assert_eq!(verdict(&[(200, b"more"), (0, b"GET /")]), Http);
        // It looked like the start, and was not.
        assert_eq!(verdict(&[(8, b"GET / "), (0, b"SSH-2.0-")]), Other);
        assert_eq!(
            verdict(&[(8, b""), (0, b"GET / HTTP/1.1")]),
            Http,
            "a bare ACK from behind the data"
        );
    }

    #[test]
    fn any_order_with_repetitions() {
        let request = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut state = 7;
        for _ in 0..20_000 {
            let mut stream = Stream::new(&segment(random(&mut state, 20) as i32, b""));
            for _ in 0..8 {
                let from = random(&mut state, request.len() - 2);
                let to = from + 2 + random(&mut state, request.len() - from - 1);
                stream.add(&segment(from as i32, &request[from..to]));
            }
            // What a client always does at last.
            stream.add(&segment(0, &request[..8]));
            assert_eq!(stream.verdict(), Http, "{stream:?}");
        }
    }

    #[test]
    fn keepalives_do_not_move_the_start() {
        for garbage in [&b""[..], b"\0", b"X"] {
            assert_eq!(verdict(&[(0, b""), (-1, garbage), (0, b"GET ")]), Http);
            assert_eq!(verdict(&[(0, b"GE"), (-1, garbage), (2, b"T ")]), Http);
            assert_eq!(verdict(&[(0, b"GET "), (-1, garbage)]), Http);
        }
        // As the first packet that is seen.
        assert_eq!(verdict(&[(-1, b""), (0, b"G"), (1, b"ET ")]), Http);
        assert_eq!(verdict(&[(-1, b""), (0, b""), (0, b"GET ")]), Http);
        assert_eq!(verdict(&[(9, b""), (-1, b""), (0, b"GET ")]), Http);
    }

    #[test]
    fn a_start_from_a_syn_is_certain() {
        let mut stream = Stream::new(&syn(-1));
        stream.add(&segment(4, b"GET "));
        assert_eq!(stream.verdict(), Undecided);
        stream.add(&segment(-2, b"GETGET "));
        assert_eq!(stream.verdict(), Other, "cut to TGET");
        stream.add(&syn(-1));
        stream.add(&segment(0, b""));
        stream.add(&segment(0, b"GET "));
        assert_eq!(stream.verdict(), Http);
    }

    #[test]
    fn another_connection_starts_over() {
        assert_eq!(verdict(&[(0, b"GET "), (1_000_000, b"SSH-")]), Other);
        assert_eq!(verdict(&[(0, b"SSH-"), (-1_000_000, b"GET ")]), Http);
        assert_eq!(verdict(&[(0, b"GET "), (1_000_000, b"")]), Undecided);
        assert_eq!(
            verdict(&[(0, b"GET "), (60_000, b"x"), (120_000, b"x")]),
            Http,
            "a long upload does not"
        );
    }

    #[test]
    fn a_request_is_waited_for() {
        let now = Instant::now();
        for (bytes, verdicts) in [
            (0, [Http, Undecided, Undecided]),
            (5, [Http, Undecided, Undecided]),
            (6, [Undecided, Http, Undecided]),
            (11, [Undecided, Undecided, Http]),
            (12, [Undecided; 3]),
        ] {
            let mut streams = Streams::new(NonZeroUsize::new(1).unwrap(), bytes);
            let mut judge = |at, data: &[u8]| streams.judge(flow(1), &segment(at, data), now).0;
            for (at, wanted) in [0, 3, 6].into_iter().zip(verdicts) {
                assert_eq!(judge(at, &b"GET /abcdef"[at as usize..][..5]), wanted);
            }
            // It does not become one by being longer.
            assert_eq!(judge(1_000_000, b"SSH-2.0"), Other);
        }
    }

    #[test]
    fn streams_are_judged_packet_by_packet() {
        let mut streams = Streams::new(NonZeroUsize::new(2).unwrap(), 0);
        let now = Instant::now();
        let mut judge = |port, segment: &Segment<'_>, after| {
            let (verdict, news) = streams.judge(flow(port), segment, now + after);
            (verdict, news.map(Stream::first_words))
        };
        let zero = Duration::ZERO;
        let get = segment(0, b"GET /a b\r\n");

        let said = Some("GET /a".into());
        assert_eq!(judge(1, &get, zero), (Http, said.clone()));
        // The start gets its mark again, but it is said once. What follows does not.
        assert_eq!(judge(1, &get, zero), (Http, None));
        assert_eq!(judge(1, &segment(10, b"more"), zero), (Undecided, None));
        // Flows are told apart.
        let ssh = segment(0, b"SSH-2.0-\x1b[2J\r\n");
        let escaped = Some("SSH-2.0-\\x1b[2J".into());
        assert_eq!(judge(2, &ssh, zero), (Other, escaped));
        // The longest unused leaves first.
        judge(1, &get, zero);
        judge(3, &get, zero);
        assert_eq!(judge(1, &segment(0, b"G"), zero), (Http, None));
        assert_eq!(judge(2, &segment(1, b""), zero), (Undecided, None));
        // A reset, and time, make forget.
        judge(1, &get, zero);
        let reset = Segment { rst: true, ..get };
        assert_eq!(judge(1, &reset, zero), (Undecided, None));
        assert_eq!(judge(1, &segment(0, b"G"), zero), (Undecided, None));
        assert_eq!(judge(1, &get, IDLE), (Http, said.clone()));
        assert_eq!(judge(1, &get, IDLE * 2), (Http, None));
        assert_eq!(judge(1, &get, IDLE * 4), (Http, said));
    }

    /// What the last of these segments, all of one flow, says.
    fn last_says(segments: &[Segment<'_>]) -> Verdict {
        let mut streams = Streams::new(NonZeroUsize::new(8).unwrap(), 0);
        let mut said = Undecided;
        for segment in segments {
            (said, _) = streams.judge(flow(1), segment, Instant::now());
        }
        said
    }

    #[test]
    fn only_certain_segments_say_that_it_is_http() {
        let ssh = segment(0, b"SSH-2.0-x");
        let below = segment(-5, b"GET /");
        assert_eq!(last_says(&[below]), Http);
        assert_eq!(last_says(&[below, ssh]), Undecided);
        assert_eq!(last_says(&[below, ssh, ssh]), Undecided);
        assert_eq!(last_says(&[ssh, below, ssh]), Undecided);
        assert_eq!(last_says(&[segment(9, b"GET /"), ssh]), Other);
        // In pieces: the last of them, and the first when it comes again.
        let pieces = [segment(0, b"GE"), segment(2, b"T /")];
        assert_eq!(last_says(&pieces), Http);
        assert_eq!(last_says(&[pieces[0], pieces[1], pieces[0]]), Http);
        // Behind a keepalive.
        let get = segment(0, b"GET /");
        assert_eq!(last_says(&[segment(-1, b""), get, get]), Http);
        // With the SYN all is certain.
        assert_eq!(last_says(&[syn(-1), get, segment(5, b"a")]), Http);
        assert_eq!(last_says(&[syn(-1), below, ssh]), Other);
    }

    #[test]
    fn another_connection_of_the_same_ports() {
        let get = segment(0, b"GET /");
        let other = Segment {
            ack: 501,
            ..segment(100, b"SSH-2.0-x")
        };
        assert_eq!(last_says(&[get, other]), Other);
        assert_eq!(last_says(&[get, other, get]), Http);
        assert_eq!(last_says(&[syn(-1), get, syn(99), other]), Other);
    }
}
