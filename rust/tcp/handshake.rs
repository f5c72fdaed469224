// SPDX-License-Identifier: GPL-2.0-only

//! The two handshakes of a SYN proxy, as functions from segments to segments.
//!
//! ```text
//! client                     proxy                      server
//!   | SYN                      |                          |
//!   |------------------------->| Offer::of, answer()      |
//!   |                  SYN,ACK |                          |
//!   |<-------------------------|                          |
//!   | ACK                      |                          |
//!   |------------------------->| accept()                 |
//!   | data                     |                          |
//!   |------------------------->| span(), syn()        SYN |
//!   |                          |------------------------->|
//!   |                          |                  SYN,ACK |
//!   |                          |<-------------------------|
//!   |            window update | joined()             ACK |
//!   |<-------------------------|------------------------->|
//! ```

use super::hold::Span;
use super::options::{Options, Timestamps, MAX_WSCALE};
use super::rate::Rate;
use super::segment::{self, flags, Repr, Segment};
use super::state::Waiting;
use super::timestamp::{self, Extras, Rewrite};

/// Option bits of a rule, `NF_SYNPROXY_OPT_*` of `include/uapi/linux/netfilter/nf_synproxy.h`.
pub mod rule_bits {
    /// `--mss`
    pub const MSS: u16 = 0x01;
    /// `--wscale`
    pub const WSCALE: u16 = 0x02;
    /// `--sack-perm`
    pub const SACK_PERM: u16 = 0x04;
    /// `--timestamp`
    pub const TIMESTAMP: u16 = 0x08;
    /// `--ecn`
    pub const ECN: u16 = 0x10;
    /// All of revision 0.
    pub const REVISION_0: u16 = 0x1f;
    /// `--defer`, of `include/uapi/linux/netfilter/xt_SYNPROXY.h`, as are those that follow.
    pub const DEFER: u16 = 0x20;
    /// `--window`
    pub const WINDOW: u16 = 0x40;
    /// `--timeout`
    pub const TIMEOUT: u16 = 0x80;
    /// All of revision 1.
    pub const REVISION_1: u16 = 0xff;
}

/// Segments that a first flight has, RFC 6928.
pub const FIRST_FLIGHT: u16 = 10;

/// How long a client may wait for a verdict without `--timeout`, in seconds.
pub const GATE_TIMEOUT: u32 = 30;

/// The longest `--timeout`, in seconds.
pub const MAX_GATE_TIMEOUT: u32 = 3600;

/// What a rule of the operator says: the options of the server behind it, and of the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// See [`rule_bits`].
    pub options: u16,
    /// The server's window scale.
    pub wscale: u8,
    /// The server's MSS in bytes.
    pub mss: u16,
    /// The window in bytes that a client is shown that is to wait.
    pub window: u16,
    /// How long a client may wait, in seconds.
    pub timeout: u32,
    /// How many SYN,ACKs and resets clients may be sent in a second; 0 for any number.
    pub rate: u32,
}

/// Why a rule makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// Option bits that do not exist.
    Options(u16),
    /// A window scale of more than [`MAX_WSCALE`].
    Wscale(u8),
    /// An MSS of zero.
    Mss,
    /// A window of zero: an engine would have nothing to look at.
    Window,
    /// A time to wait of zero, or of more than [`MAX_GATE_TIMEOUT`].
    Timeout(u32),
    /// A rate of more than [`MAX_RATE`](super::rate::MAX_RATE).
    Rate(u32),
    /// What is reserved for later is not zero.
    Reserved,
}

impl Rule {
    /// Checks a rule before it is inserted; `known` are the option bits of its revision.
    ///
    /// # Errors
    ///
    /// The first field that makes no sense.
    pub fn check(&self, known: u16) -> Result<(), RuleError> {
        let unknown = self.options & !known;
        if unknown != 0 {
            return Err(RuleError::Options(unknown));
        }
        if self.allows(rule_bits::WSCALE) && self.wscale > MAX_WSCALE {
            return Err(RuleError::Wscale(self.wscale));
        }
        if self.allows(rule_bits::MSS) && self.mss == 0 {
            return Err(RuleError::Mss);
        }
        if self.allows(rule_bits::WINDOW) && self.window == 0 {
            return Err(RuleError::Window);
        }
        if self.allows(rule_bits::TIMEOUT) && !(1..=MAX_GATE_TIMEOUT).contains(&self.timeout) {
            return Err(RuleError::Timeout(self.timeout));
        }
        if self.rate != 0 && self.rate().is_none() {
            return Err(RuleError::Rate(self.rate));
        }
        Ok(())
    }

    fn allows(&self, bit: u16) -> bool {
        self.options & bit != 0
    }

    /// A client without a conntrack entry is to wait, too.
    pub fn defers(&self) -> bool {
        self.allows(rule_bits::DEFER)
    }

    /// How long a client may wait for a verdict, in seconds.
    pub fn timeout(&self) -> u32 {
        if self.allows(rule_bits::TIMEOUT) {
            self.timeout
        } else {
            GATE_TIMEOUT
        }
    }

    /// How many SYN,ACKs and resets clients may be sent.
    pub fn rate(&self) -> Option<Rate> {
        Rate::new(self.rate)
    }

    /// The window that a client is shown that is to wait, in bytes: without `--window`, a first
    /// flight.
    pub fn window(&self) -> u16 {
        if self.allows(rule_bits::WINDOW) {
            return self.window;
        }
        let mss = if self.allows(rule_bits::MSS) {
            self.mss
        } else {
            536
        };
        mss.saturating_mul(FIRST_FLIGHT)
    }
}

/// What a SYN offers and the rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The client's MSS in bytes, for the cookie; 0 when it gave none.
    pub mss: u16,
    timestamp: Option<u32>,
    extras: Extras,
}

impl Offer {
    /// Reads a SYN. Without timestamps there is no place to keep anything but the MSS.
    #[inline(always)]
    pub fn of<B: AsRef<[u8]>>(syn: &Segment<B>, rule: &Rule) -> Self {
        let options = syn.options();
        let timestamp = options
            .timestamps
            .filter(|_| rule.allows(rule_bits::TIMESTAMP))
            .map(|ts| ts.val);
        let extras = match timestamp {
            Some(_) => Extras {
                wscale: options.wscale.filter(|_| rule.allows(rule_bits::WSCALE)),
                sack_perm: options.sack_perm && rule.allows(rule_bits::SACK_PERM),
                ecn: rule.allows(rule_bits::ECN)
                    && syn.flags_are(flags::ECE | flags::CWR, flags::ECE | flags::CWR),
            },
            None => Extras::default(),
        };
        Self {
            mss: options.mss.unwrap_or(0),
            timestamp,
            extras,
        }
    }
}

/// The SYN,ACK for `syn`, with a cookie as our ISN, and the MSS that it keeps.
#[inline(always)]
pub fn answer<B: AsRef<[u8]>>(
    syn: &Segment<B>,
    rule: &Rule,
    offer: &Offer,
    (cookie, mss): (u32, u16),
    window: u16,
    now_ms: u32,
) -> Repr {
    let extras = offer.extras;
    let ece = if extras.ecn { flags::ECE } else { 0 };
    Repr {
        src_port: syn.dst_port(),
        dst_port: syn.src_port(),
        seq: cookie,
        ack: syn.seq().wrapping_add(1),
        flags: flags::SYN | flags::ACK | ece,
        window,
        options: Options {
            // A client that gave no MSS gets none: it may not know the option.
            mss: (offer.mss != 0 && rule.allows(rule_bits::MSS)).then_some(rule.mss),
            wscale: extras.wscale.map(|_| rule.wscale),
            sack_perm: extras.sack_perm,
            timestamps: offer.timestamp.map(|theirs| Timestamps {
                val: extras.encode(now_ms, mss),
                ecr: theirs,
            }),
        },
    }
}

/// The client that sent `ack`, if it brings a cookie back: `check` tells the MSS of the cookie in an
/// ACK with this sequence number, if it is one.
///
/// A cookie hides which of four MSS it keeps in the sum of a hash and the client's number, so another
/// number nearby can make a cookie of another MSS of it. A keepalive or a probe of our closed window,
/// one below the client's next number, can be the first to come when the handshake's last ACK was
/// lost; and so can a segment that is up to three bytes further. Timestamps tell which MSS it was;
/// without them the number is believed, for good: an engine has seen the stream begin there.
///
/// A cookie is a sum with the client's number, so who has one can make others, for any two numbers that are
/// as far from each other. The number 0 of ours is what entries have that are none of ours.
///
/// `kept` is the table of the MSS, if it is known: then, with timestamps, one look is enough for most. For
/// the number behind an ACK's own, the sum is one less, and so says the MSS below; but that of a probe, which
/// is one too low itself, says the right one. A segment that is as many bytes further as its MSS stands in
/// the table is not known then: its client sends again what it has lost.
pub fn accept<B: AsRef<[u8]>>(
    ack: &Segment<B>,
    kept: Option<&[u16; 4]>,
    check: impl Fn(u32) -> Option<u16>,
) -> Option<Waiting> {
    if ack.ack() == 1 {
        return None;
    }
    let timestamps = ack.options().timestamps;
    let is_for = |mss| timestamps.is_some_and(|ts| timestamp::is_for(ts.ecr, mss));
    let at = |shift: u32| {
        let seq = ack.seq().wrapping_add(shift);
        let mss = check(seq)?;
        Some((is_for(mss), seq, mss))
    };
    let sure = |found: &(bool, u32, u16)| found.0;
    let may_be_probe = ack.payload_len() <= 1;
    let at_once = match kept {
        Some(kept) if timestamps.is_some() && !is_for(kept[0]) => {
            let behind = at(1)?;
            let above = kept
                .windows(2)
                .find_map(|pair| (*pair.first()? == behind.2).then_some(*pair.last()?))
                .filter(|mss| is_for(*mss));
            match above {
                Some(mss) => Some((true, ack.seq(), mss)),
                None => Some(behind).filter(sure).filter(|_| may_be_probe),
            }
        }
        _ => None,
    };
    let (_, seq, mss) = at_once.or_else(|| {
        let as_is = at(0);
        // A client without timestamps has no more to say, once its number is good.
        as_is
            .filter(|found| found.0 || timestamps.is_none())
            .or_else(|| {
                may_be_probe
                    .then(|| at(1))
                    .flatten()
                    .filter(|probe| probe.0 || timestamps.is_none())
            })
            .or_else(|| {
                as_is?;
                [1u32, 2, 3]
                    .into_iter()
                    .find_map(|back| at(back.wrapping_neg()).filter(sure))
            })
    })?;
    Some(Waiting {
        client_isn: seq.wrapping_sub(1),
        proxy_isn: ack.ack().wrapping_sub(1),
        mss,
        extras: timestamps.map_or(Extras::default(), |ts| Extras::decode(ts.ecr)),
        timestamps: timestamps.is_some(),
        budget: 0,
    })
}

/// What a cookie can keep of an IPv4 client's MSS: `msstab` of `net/ipv4/syncookies.c`.
pub const KEPT_MSS_V4: [u16; 4] = [536, 1300, 1440, 1460];

/// And of an IPv6 client's: `msstab` of `net/ipv6/syncookies.c`.
pub const KEPT_MSS_V6: [u16; 4] = [1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60];

/// Whether two sequence numbers are so near to each other that they may be of one stream. Another one's, on
/// the same ports, begins so near to it in one of eight thousand cases.
pub fn is_near(a: u32, b: u32) -> bool {
    const NEAR: u32 = 1 << 18;
    a.wrapping_sub(b).wrapping_add(NEAR) < 2 * NEAR
}

/// Whether two cookies are of one handshake: some bytes further, the numbers of a stream make a cookie
/// again, of another MSS in the table of four.
pub fn is_same(a: u32, b: u32) -> bool {
    const FURTHER: u32 = 3;
    a.wrapping_sub(b).wrapping_add(FURTHER) <= 2 * FURTHER
}

/// Whether `ack` can bring a cookie back, as far as its timestamps tell; `now_ms` is of the clock that
/// [`answer`] was told.
pub fn may_bring_cookie<B: AsRef<[u8]>>(ack: &Segment<B>, now_ms: u32) -> bool {
    let timestamps = ack.options().timestamps;
    timestamps.is_none_or(|ts| timestamp::is_recent(ts.ecr, now_ms))
}

/// Where in the client's stream `segment` stands that a client sends while it waits: what a DPI engine
/// may judge, and what is held for the server. `None` for what is not part of the stream that our
/// SYN,ACK has begun, or goes beyond the budget.
///
/// Conntrack checks no numbers here: an entry that was picked up is liberal. A server may take an urgent
/// byte out of the stream that an engine has read it in: RFC 6093.
pub fn span(waiting: &Waiting, segment: &Segment) -> Option<Span> {
    let span = Span::of(segment);
    (belongs(waiting, segment)
        && segment.flags_are(flags::URG, 0)
        && segment.options().timestamps.is_some() == waiting.timestamps
        && span.len != 0)
        .then_some(span)
}

/// Whether `segment` is of the client `waiting`, by its numbers and flags; it may say nothing.
pub fn belongs(waiting: &Waiting, segment: &Segment) -> bool {
    segment.flags_are(flags::SYN | flags::RST | flags::ACK, flags::ACK)
        && segment.ack() == waiting.proxy_isn.wrapping_add(1)
        && Span::of(segment).is_within(waiting.client_isn.wrapping_add(1), waiting.budget)
}

/// A SYN for the server, and what has to be remembered of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// The SYN, with the client's ports and ISN.
    pub repr: Repr,
    /// The timestamp that our SYN,ACK carried and the client echoes; 0 without timestamps.
    pub timestamp: u32,
}

/// The SYN that `waiting` would have sent to the server, on the occasion of its `segment`; `clock` is
/// its clock when it sent the first one, if that was another.
pub fn syn<B: AsRef<[u8]>>(waiting: &Waiting, segment: &Segment<B>, clock: Option<u32>) -> Syn {
    let ts = segment.options().timestamps.filter(|_| waiting.timestamps);
    let extras = waiting.extras;
    let ecn = if extras.ecn {
        flags::ECE | flags::CWR
    } else {
        0
    };
    // The window of a SYN is never scaled, that of an ACK is.
    let window = u32::from(segment.window()) << u32::from(extras.wscale.unwrap_or(0) & 0xf);
    Syn {
        repr: Repr {
            src_port: segment.src_port(),
            dst_port: segment.dst_port(),
            seq: waiting.client_isn,
            ack: 0,
            flags: flags::SYN | ecn,
            window: window.min(0xffff) as u16,
            options: Options {
                mss: Some(waiting.mss),
                wscale: extras.wscale,
                sack_perm: extras.sack_perm,
                timestamps: ts.map(|ts| Timestamps {
                    val: clock.unwrap_or(ts.val),
                    // RFC 7323 section 3.2: zero when the ACK bit is not set.
                    ecr: 0,
                }),
            },
        },
        timestamp: ts.map_or(0, |ts| ts.ecr),
    }
}

/// A [`Syn`] that has to bring what is to be remembered along: in its acknowledgement and its echoed
/// timestamp, which mean nothing in a SYN.
pub fn laden(syn: &Syn, proxy_isn: u32) -> Repr {
    let mut repr = syn.repr;
    repr.ack = proxy_isn;
    if let Some(ts) = &mut repr.options.timestamps {
        ts.ecr = syn.timestamp;
    }
    repr
}

/// What a laden SYN brings, and the SYN without it.
pub fn unload(segment: &Segment) -> (u32, Syn) {
    let mut options = segment.options();
    let timestamp = match &mut options.timestamps {
        Some(ts) => core::mem::take(&mut ts.ecr),
        None => 0,
    };
    let repr = Repr {
        src_port: segment.src_port(),
        dst_port: segment.dst_port(),
        seq: segment.seq(),
        ack: 0,
        flags: segment.flags(),
        window: segment.window(),
        options,
    };
    (segment.ack(), Syn { repr, timestamp })
}

/// How to make a laden SYN one that is not.
pub fn unloading(segment: &Segment) -> [Option<Rewrite>; 2] {
    let ecr = timestamp::find(segment.raw_options()).map(|(at, ts)| Rewrite {
        // Behind the value.
        offset: at.wrapping_add(4),
        old: ts.ecr,
        new: 0,
    });
    let ack = Rewrite {
        offset: segment::ACK,
        old: segment.ack(),
        new: 0,
    };
    [Some(ack), ecr]
}

/// What the server's SYN,ACK brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// To be added to the server's sequence numbers on their way to the client.
    pub seq_offset: u32,
    /// What the server's clock is ahead of ours.
    pub timestamp_offset: u32,
    /// The ACK for the server, in the client's numbers: the translation makes them the server's.
    pub to_server: Repr,
    /// The window update for the client, in the server's numbers.
    pub to_client: Repr,
}

/// Joins both halves; `window` is the window field of the client's last segment.
///
/// `proxy_isn` and `timestamp` are what the client got in our SYN,ACK.
pub fn joined(syn_ack: &Segment, proxy_isn: u32, timestamp: u32, window: u16) -> Joined {
    let options = syn_ack.options();
    let ts = options.timestamps.filter(|_| timestamp != 0);
    let scaled = syn_ack.window() >> options.wscale.unwrap_or(0).min(MAX_WSCALE);
    Joined {
        seq_offset: proxy_isn.wrapping_sub(syn_ack.seq()),
        timestamp_offset: ts.map_or(0, |ts| ts.val.wrapping_sub(timestamp)),
        to_server: Repr {
            src_port: syn_ack.dst_port(),
            dst_port: syn_ack.src_port(),
            seq: syn_ack.ack(),
            ack: proxy_isn.wrapping_add(1),
            flags: flags::ACK,
            window,
            options: Options {
                timestamps: ts.map(|ts| Timestamps {
                    val: ts.ecr,
                    ecr: timestamp,
                }),
                ..Options::default()
            },
        },
        to_client: Repr {
            src_port: syn_ack.src_port(),
            dst_port: syn_ack.dst_port(),
            seq: syn_ack.seq().wrapping_add(1),
            ack: syn_ack.ack(),
            flags: flags::ACK,
            // A window that is open must not look closed.
            window: if syn_ack.window() == 0 {
                0
            } else {
                scaled.max(1)
            },
            options: Options {
                timestamps: ts,
                ..Options::default()
            },
        },
    }
}

/// A RST for who sent `segment`, an ACK that means nothing to us: RFC 9293 section 3.5.2.
pub fn reset(segment: &Segment) -> Repr {
    Repr {
        src_port: segment.dst_port(),
        dst_port: segment.src_port(),
        seq: segment.ack(),
        flags: flags::RST,
        ..Repr::default()
    }
}

/// A RST for a client that has got our SYN,ACK with `proxy_isn`, at the number that it expects.
pub fn aborted(proxy_isn: u32, client_isn: u32) -> Repr {
    Repr {
        seq: proxy_isn.wrapping_add(1),
        ack: client_isn.wrapping_add(1),
        flags: flags::RST | flags::ACK,
        ..Repr::default()
    }
}

/// Whether a RST is the server's answer to our SYN, RFC 9293 section 3.10.7.3: it acknowledges it.
pub fn refuses(rst: &Segment, client_isn: u32) -> bool {
    rst.flags_are(flags::RST | flags::ACK, flags::RST | flags::ACK)
        && rst.ack() == client_isn.wrapping_add(1)
}

/// The challenge ACK (RFC 5961 section 4) for a SYN on a connection that is open, in the server's
/// numbers: `seq` follows the last byte that the server has sent, `ack` is its highest
/// acknowledgement. A client that has lost the connection resets it; any other ignores the ACK.
pub fn challenge(syn: &Segment, seq: u32, ack: u32, window: u16) -> Repr {
    Repr {
        src_port: syn.dst_port(),
        dst_port: syn.src_port(),
        seq,
        ack,
        flags: flags::ACK,
        window,
        ..Repr::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::MAX_HEADER_LEN;
    use crate::timestamp::{translate, Direction};

    const RULE: Rule = Rule {
        options: rule_bits::REVISION_0,
        wscale: 7,
        mss: 1460,
        window: 0,
        timeout: 0,
        rate: 0,
    };

    #[test]
    fn cookies_of_one_handshake() {
        for at in [0u32, 1, 2, 5, 1 << 31, u32::MAX] {
            for by in 0..10 {
                assert_eq!(is_same(at, at.wrapping_add(by)), by <= 3);
                assert_eq!(is_same(at.wrapping_add(by), at), by <= 3);
            }
            assert!(!is_same(at, at.wrapping_add(1 << 31)));
        }
    }

    fn with_payload(repr: &Repr, payload: usize) -> Segment {
        let mut bytes = [0; MAX_HEADER_LEN];
        let len = repr.emit(&mut bytes);
        Segment::new(&bytes, len + payload).unwrap()
    }

    fn segment(repr: &Repr) -> Segment {
        with_payload(repr, 0)
    }

    fn client_syn() -> Repr {
        Repr {
            src_port: 43210,
            dst_port: 80,
            seq: u32::MAX,
            flags: flags::SYN | flags::ECE | flags::CWR,
            window: 64240,
            options: Options {
                mss: Some(1400),
                wscale: Some(9),
                sack_perm: true,
                timestamps: Some(Timestamps { val: 5000, ecr: 0 }),
            },
            ..Repr::default()
        }
    }

    /// The client's ACK of `syn_ack`.
    fn client_ack(syn: &Repr, syn_ack: &Repr) -> Repr {
        Repr {
            src_port: syn.src_port,
            dst_port: syn.dst_port,
            seq: syn_ack.ack,
            ack: syn_ack.seq.wrapping_add(1),
            flags: flags::ACK,
            window: 126,
            options: Options {
                timestamps: syn_ack.options.timestamps.map(|ts| Timestamps {
                    val: 5050,
                    ecr: ts.val,
                }),
                ..Options::default()
            },
        }
    }

    #[test]
    fn the_whole_handshake() {
        let rule = RULE;
        let syn_in = client_syn();
        let offer = Offer::of(&segment(&syn_in), &rule);
        assert_eq!(offer.mss, 1400);
        let syn_ack = answer(
            &segment(&syn_in),
            &rule,
            &offer,
            (400, 1400),
            rule.window(),
            777_777,
        );
        assert_eq!((syn_ack.seq, syn_ack.ack), (400, 0));
        assert_eq!(syn_ack.flags, flags::SYN | flags::ACK | flags::ECE);
        assert_eq!(syn_ack.window, 14600);
        assert_eq!(syn_ack.options.mss, Some(1460));
        assert_eq!(syn_ack.options.wscale, Some(7));

        let ack = segment(&client_ack(&syn_in, &syn_ack));
        let waiting = accept(&ack, None, |_| Some(1400)).unwrap();
        assert_eq!(waiting.client_isn, syn_in.seq);
        assert_eq!(waiting.proxy_isn, 400);

        let earlier = syn(&waiting, &ack, Some(77)).repr.options.timestamps;
        assert_eq!(earlier.unwrap().val, 77);
        let out = syn(&waiting, &ack, None);
        assert_eq!(out.repr.seq, syn_in.seq);
        assert_eq!(out.repr.flags, flags::SYN | flags::ECE | flags::CWR);
        assert_eq!(out.repr.options.mss, Some(1400));
        assert_eq!(out.repr.options.wscale, Some(9));
        assert!(out.repr.options.sack_perm);
        assert_eq!(out.repr.window, 64512);
        assert_eq!(out.timestamp, syn_ack.options.timestamps.unwrap().val);

        let server = Repr {
            src_port: 80,
            dst_port: 43210,
            seq: 500,
            ack: syn_in.seq.wrapping_add(1),
            flags: flags::SYN | flags::ACK,
            window: 65160,
            options: Options {
                mss: Some(1460),
                wscale: Some(7),
                sack_perm: true,
                timestamps: Some(Timestamps { val: 42, ecr: 5050 }),
            },
        };
        let joined = joined(&segment(&server), 400, out.timestamp, 126);
        assert_eq!(joined.seq_offset, 400u32.wrapping_sub(500));
        // What the translation makes of our ACK is what the server expects.
        let to_server = segment(&joined.to_server);
        assert_eq!(to_server.ack().wrapping_sub(joined.seq_offset), 501);
        let ts = translate(
            to_server.raw_options(),
            Direction::Original,
            joined.timestamp_offset,
        );
        assert_eq!(ts.unwrap().new, 42);
        // And of the window update, what the client expects.
        let to_client = segment(&joined.to_client);
        assert_eq!(to_client.seq().wrapping_add(joined.seq_offset), 401);
        assert_eq!(to_client.window(), 65160 >> 7);
        let ts = translate(
            to_client.raw_options(),
            Direction::Reply,
            joined.timestamp_offset,
        );
        assert_eq!(ts.unwrap().new, out.timestamp);
    }

    #[test]
    fn without_timestamps_only_the_mss_is_kept() {
        let rule = RULE;
        let mut syn_in = client_syn();
        syn_in.options.timestamps = None;
        let offer = Offer::of(&segment(&syn_in), &rule);
        let syn_ack = answer(&segment(&syn_in), &rule, &offer, (400, 1400), 0, 0);
        assert_eq!(
            syn_ack.options,
            Options {
                mss: Some(1460),
                ..Options::default()
            }
        );
        assert_eq!(syn_ack.flags, flags::SYN | flags::ACK);
        let waiting = accept(&segment(&client_ack(&syn_in, &syn_ack)), None, |_| {
            Some(1400)
        })
        .unwrap();
        assert_eq!(waiting.extras, Extras::default());
    }

    #[test]
    fn a_rule_allows_or_takes_away() {
        for bits in 0..=rule_bits::REVISION_0 {
            let rule = Rule {
                options: bits,
                ..RULE
            };
            let syn_in = segment(&client_syn());
            let offer = Offer::of(&syn_in, &rule);
            let out = answer(&syn_in, &rule, &offer, (1, 1400), 0, 0).options;
            let ts = bits & rule_bits::TIMESTAMP != 0;
            assert_eq!(out.mss.is_some(), bits & rule_bits::MSS != 0);
            assert_eq!(out.timestamps.is_some(), ts);
            assert_eq!(out.wscale.is_some(), ts && bits & rule_bits::WSCALE != 0);
            assert_eq!(out.sack_perm, ts && bits & rule_bits::SACK_PERM != 0);
        }
    }

    #[test]
    fn rules_that_make_no_sense() {
        let check = |options, wscale, mss, known| {
            let rule = Rule {
                options,
                wscale,
                mss,
                ..Rule::default()
            };
            rule.check(known)
        };
        let (old, new) = (rule_bits::REVISION_0, rule_bits::REVISION_1);
        assert_eq!(check(0xe0, 7, 1460, old), Err(RuleError::Options(0xe0)));
        assert_eq!(check(old, 15, 1460, old), Err(RuleError::Wscale(15)));
        for known in [old, new] {
            assert_eq!(check(old, 7, 0, known), Err(RuleError::Mss));
            assert_eq!(check(old, 14, 1, known), Ok(()));
            assert_eq!(check(0, 255, 0, known), Ok(()));
        }
    }

    #[test]
    fn only_the_stream_that_we_have_answered_is_held() {
        let rule = RULE;
        let syn_in = client_syn();
        let offer = Offer::of(&segment(&syn_in), &rule);
        let syn_ack = answer(&segment(&syn_in), &rule, &offer, (400, 1400), 14600, 0);
        let good = client_ack(&syn_in, &syn_ack);
        let waiting = Waiting {
            budget: 14600,
            ..accept(&segment(&good), None, |_| Some(1400)).unwrap()
        };
        let holds = |len: usize, change: &dyn Fn(&mut Repr)| {
            let mut repr = good;
            change(&mut repr);
            span(&waiting, &with_payload(&repr, len)).is_some()
        };
        assert!(holds(1, &|_| {}));
        assert!(holds(1460, &|r| r.flags |= flags::PSH | flags::FIN));
        assert!(holds(0, &|r| r.flags |= flags::FIN));
        assert!(holds(1460, &|r| r.seq = r.seq.wrapping_add(13140)));
        assert!(!holds(0, &|_| {}));
        for away in [14601, 1 << 31, u32::MAX] {
            assert!(!holds(1, &|r| r.seq = r.seq.wrapping_add(away)));
        }
        for away in [1, 100, 14600, u32::MAX] {
            assert!(!holds(1, &|r| r.ack = r.ack.wrapping_add(away)));
        }
        assert!(!holds(1, &|r| r.flags |= flags::SYN));
        assert!(!holds(1, &|r| r.flags |= flags::RST));
        assert!(!holds(1, &|r| r.flags |= flags::URG));
        assert!(!holds(1, &|r| r.flags = flags::PSH));
        assert!(!holds(1, &|r| r.options.timestamps = None));
    }

    #[test]
    fn a_rule_with_a_gate_says_what_is_wrong() {
        let (d, w, t) = (rule_bits::DEFER, rule_bits::WINDOW, rule_bits::TIMEOUT);
        assert_eq!(
            (RULE.defers(), RULE.window(), RULE.timeout()),
            (false, 14600, 30)
        );
        let all = Rule {
            options: 0x1f | d | w | t,
            window: 65535,
            timeout: 3600,
            ..RULE
        };
        assert_eq!(all.check(rule_bits::REVISION_1), Ok(()));
        assert_eq!(
            (all.defers(), all.window(), all.timeout()),
            (true, 65535, 3600)
        );
        let wrong = |options, window, timeout| {
            let rule = Rule {
                options,
                wscale: 15,
                window,
                timeout,
                ..Rule::default()
            };
            rule.check(rule_bits::REVISION_1).unwrap_err()
        };
        assert_eq!(wrong(0x100, 1, 1), RuleError::Options(0x100));
        assert_eq!(wrong(w, 0, 0), RuleError::Window);
        assert_eq!(wrong(t, 0, 0), RuleError::Timeout(0));
        assert_eq!(wrong(t, 0, 3601), RuleError::Timeout(3601));
        assert_eq!(wrong(1, 0, 0), RuleError::Mss);
        assert_eq!(wrong(2, 0, 0), RuleError::Wscale(15));
    }

    #[test]
    fn a_rule_has_a_rate_only_if_it_says_so() {
        let limited = |rate| Rule { rate, ..RULE };
        assert_eq!(RULE.rate(), None);
        for rate in [1, 10_000_000] {
            assert_eq!(limited(rate).rate(), Rate::new(rate));
            assert_eq!(limited(rate).check(rule_bits::REVISION_1), Ok(()));
        }
        for rate in [10_000_001, u32::MAX] {
            assert_eq!(
                limited(rate).check(rule_bits::REVISION_1),
                Err(RuleError::Rate(rate))
            );
        }
    }

    /// What a client whose cookie keeps `table[index]` has sent is accepted as: the ISN and the MSS.
    fn accepted(
        table: [u16; 4],
        index: u32,
        timestamps: bool,
        shift: u32,
        payload: usize,
    ) -> Option<(u32, u16)> {
        let isn = 1000u32;
        let mss = table[index as usize];
        let ecr = Extras::default().encode(0x1234_5600, mss);
        let ack = Repr {
            seq: isn.wrapping_add(1).wrapping_add(shift),
            flags: flags::ACK,
            options: Options {
                timestamps: timestamps.then_some(Timestamps { val: 9, ecr }),
                ..Options::default()
            },
            ..Repr::default()
        };
        // As the kernel: what is left of the cookie's sum is the index.
        let check = |seq: u32| {
            let left = (isn + 1).wrapping_add(index).wrapping_sub(seq);
            table.get(left as usize).copied()
        };
        let payload = with_payload(&ack, payload);
        let slow = accept(&payload, None, check);
        let quick = accept(&payload, Some(&table), check);
        // At the edge of what a cookie tells, it is left to the client to say it once more.
        assert!(quick == slow || quick.is_none() && shift == index && shift > 0);
        slow.map(|waiting| (waiting.client_isn, waiting.mss))
    }

    #[test]
    fn with_timestamps_every_first_packet_tells_the_isn() {
        for table in [[536, 1300, 1440, 1460], [1220, 1420, 1440, 8940]] {
            for index in 0..4u32 {
                let right = Some((1000, table[index as usize]));
                for payload in [0, 1, 100] {
                    assert_eq!(accepted(table, index, true, 0, payload), right);
                }
                for payload in [0, 1] {
                    let probe = accepted(table, index, true, u32::MAX, payload);
                    assert_eq!(probe, right, "{index} {payload}");
                }
                for ahead in 1..=index {
                    let late = accepted(table, index, true, ahead, 100);
                    assert_eq!(late, right, "{index} {ahead}");
                }
            }
        }
    }

    #[test]
    fn a_connection_is_not_taken_for_none_of_ours() {
        for ack in [0, 1, 2, u32::MAX] {
            let repr = Repr {
                seq: 7,
                ack,
                flags: flags::ACK,
                ..Repr::default()
            };
            let found = accept(&segment(&repr), None, |_| Some(1460));
            assert_eq!(found.is_none(), ack == 1, "{ack}");
            let is_none = |isn| {
                use crate::Phase;
                Phase::open([isn, 0, 0]).is_none() || Phase::opening([isn, 0, 0]).is_none()
            };
            assert!(found.is_none_or(|waiting| !is_none(waiting.proxy_isn)));
        }
    }

    #[test]
    fn timestamps_have_the_last_word() {
        let isn = 1000u32;
        let ack = |seq, ecr| {
            with_payload(
                &Repr {
                    seq,
                    flags: flags::ACK,
                    options: Options {
                        timestamps: Some(Timestamps { val: 9, ecr }),
                        ..Options::default()
                    },
                    ..Repr::default()
                },
                100,
            )
        };
        // One below the start of the stream the number makes a cookie of a larger MSS.
        let check = |seq| match seq {
            1000 => Some(1460),
            1001 => Some(1440),
            _ => None,
        };
        let ecr = Extras::default().encode(0x1234_5600, 1440);
        let isn_of = |ack| accept(&ack, None, check).map(|waiting| waiting.client_isn);
        assert_eq!(isn_of(ack(isn + 1, ecr)), Some(isn));
        assert_eq!(isn_of(ack(isn, ecr)), None);
    }

    #[test]
    fn without_timestamps_a_probe_is_known_by_the_largest_mss() {
        let table = [536, 1300, 1440, 1460];
        for index in 0..4u32 {
            let right = Some((1000, table[index as usize]));
            for payload in [0, 1, 100] {
                assert_eq!(accepted(table, index, false, 0, payload), right);
            }
        }
        assert_eq!(accepted(table, 3, false, u32::MAX, 0), Some((1000, 1460)));
        assert_eq!(accepted(table, 3, false, u32::MAX, 2), None);
        assert_eq!(accepted(table, 1, false, u32::MAX, 0), Some((999, 1440)));
    }

    #[test]
    fn a_cookie_of_nobody_is_nobodys() {
        for payload in [0, 1, 100] {
            let ack = with_payload(&Repr::default(), payload);
            assert_eq!(accept(&ack, None, |_| None), None);
        }
    }

    #[test]
    fn only_an_answer_to_the_syn_refuses() {
        let mut rst = Repr {
            ack: 101,
            flags: flags::RST | flags::ACK,
            ..Repr::default()
        };
        assert!(refuses(&segment(&rst), 100));
        assert!(!refuses(&segment(&rst), 101));
        rst.flags = flags::RST;
        assert!(!refuses(&segment(&rst), 100));
    }

    #[test]
    fn an_open_window_never_looks_closed() {
        let mut server = Repr {
            flags: flags::SYN | flags::ACK,
            options: Options {
                wscale: Some(14),
                ..Options::default()
            },
            ..Repr::default()
        };
        for (window, scaled) in [(0, 0), (1, 1), (0x3fff, 1), (0x8000, 2)] {
            server.window = window;
            assert_eq!(joined(&segment(&server), 1, 0, 1).to_client.window, scaled);
        }
    }

    #[test]
    fn a_server_without_timestamps_is_not_translated() {
        let server = Repr {
            flags: flags::SYN | flags::ACK,
            ..Repr::default()
        };
        let joined = joined(&segment(&server), 1, 99, 1);
        assert_eq!(joined.timestamp_offset, 0);
        assert_eq!(joined.to_client.options, Options::default());
    }
}
