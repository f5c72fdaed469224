// SPDX-License-Identifier: GPL-2.0-only

//! Where a connection stands, as far as its conntrack entry tells.
//!
//! The entry's synproxy extension is 96 bits, and it is all the memory that a client gets who has
//! sent nothing yet. While the client waits at the gate the words hold a [`Waiting`]; from the
//! moment of opening they have their in-tree meaning, for ctnetlink and conntrackd: our ISN, the
//! timestamp that we sent with it, and the difference between the server's clock and ours.

use super::options::MAX_WSCALE;
use super::timestamp::Extras;

/// The three words of the extension.
pub type Words = [u32; 3];

/// Life of a cookie in seconds, rounded up (`MAX_SYNCOOKIE_AGE` of `net/ipv4/syncookies.c` is two
/// periods of 60 s): as long as this a refused client could come again with the same ACK.
pub const COOKIE_LIFE: u32 = 120;

const MSS: u32 = 0xffff;
const WSCALE_SHIFT: u32 = 16;
const WSCALE: u32 = 0xf;
const SACK_PERM: u32 = 1 << 20;
const ECN: u32 = 1 << 21;
const TIMESTAMPS: u32 = 1 << 22;
const BUDGET_SHIFT: u32 = 23;
const BUDGET: u32 = 0x7f;
const TAG: u32 = 3 << 30;
const TAG_WAITING: u32 = 1 << 30;
const TAG_TAKEN: u32 = 2 << 30;
const TAG_LATE: u32 = 3 << 30;

/// In what steps a budget is kept, in bytes; the widest window of a SYN,ACK still fits.
pub const BUDGET_STEP: u32 = 512;

/// A client that has proved its address and waits for a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The client's initial sequence number.
    pub client_isn: u32,
    /// Ours: the cookie.
    pub proxy_isn: u32,
    /// The client's MSS in bytes, as the cookie kept it.
    pub mss: u16,
    /// What else was agreed; without timestamps, nothing.
    pub extras: Extras,
    /// Timestamps were agreed.
    pub timestamps: bool,
    /// How much it may send while it waits, in bytes: the window that it was shown, rounded up to
    /// [`BUDGET_STEP`].
    pub budget: u32,
}

impl Waiting {
    /// The words to store.
    pub fn pack(&self) -> Words {
        let steps = self.budget.div_ceil(BUDGET_STEP).saturating_sub(1);
        let wscale = match self.extras.wscale {
            Some(shift) => u32::from(shift.min(MAX_WSCALE)),
            None => WSCALE,
        };
        [
            self.client_isn,
            self.proxy_isn,
            TAG_WAITING
                | u32::from(self.mss)
                | wscale << WSCALE_SHIFT
                | if self.extras.sack_perm { SACK_PERM } else { 0 }
                | if self.extras.ecn { ECN } else { 0 }
                | if self.timestamps { TIMESTAMPS } else { 0 }
                | steps.min(BUDGET) << BUDGET_SHIFT,
        ]
    }

    /// Reads stored words; `None` unless they are those of a client that waits, or did in vain.
    pub fn unpack(words: Words) -> Option<Self> {
        let [client_isn, proxy_isn, rest] = words;
        if rest & TAG != TAG_WAITING && rest & TAG != TAG_LATE {
            return None;
        }
        let wscale = rest >> WSCALE_SHIFT & WSCALE;
        Some(Self {
            client_isn,
            proxy_isn,
            // Masked to the width of the type, both.
            mss: (rest & MSS) as u16,
            extras: Extras {
                wscale: (wscale != WSCALE).then_some(wscale as u8),
                sack_perm: rest & SACK_PERM != 0,
                ecn: rest & ECN != 0,
            },
            timestamps: rest & TIMESTAMPS != 0,
            budget: (rest >> BUDGET_SHIFT & BUDGET)
                .wrapping_add(1)
                .wrapping_mul(BUDGET_STEP),
        })
    }
}

/// The last word of a waiting client that somebody has begun to open the connection for. Who swaps
/// it in against the word of [`Waiting::pack`] is the one who opens.
pub fn taken(last_word: u32) -> u32 {
    last_word & !TAG | TAG_TAKEN
}

/// Whether the last word is that of a client that waits, or did in vain, and nobody has ended it.
pub fn is_held(last_word: u32) -> bool {
    last_word & TAG == TAG_WAITING || last_word & TAG == TAG_LATE
}

/// The last word of a client that is to be refused from now on, as its wait has run out or otherwise,
/// if `last_word` does not say so yet. Who swaps it in is the first to have noticed.
pub fn late(last_word: u32) -> Option<u32> {
    (last_word & TAG == TAG_WAITING).then_some(last_word | TAG_LATE)
}

/// What a conntrack entry says of itself, beside the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// `IPS_SEQ_ADJUST` is set.
    pub seq_adjust: bool,
    /// `IPS_FIXED_TIMEOUT` is set.
    pub fixed_timeout: bool,
    /// The entry has the seqadj extension.
    pub seqadj: bool,
    /// Seconds until the entry expires, rounded up.
    pub expires: u32,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The proxy has nothing to do with it.
    None,
    /// The client is through its handshake with us, and no packet has gone to the server.
    Waiting(Waiting),
    /// As waiting, but nothing will open it any more. The entry stays as long as the client's
    /// cookie could be used again.
    Refused(Waiting),
    /// A client that waited: somebody has just begun to open its connection, or has ended it. The
    /// entry is on its way out, and so are packets that still have it.
    Gone,
    /// Our SYN is on its way to the server.
    Opening {
        /// Our ISN towards the client.
        proxy_isn: u32,
        /// The timestamp that we sent with it, 0 without timestamps.
        timestamp: u32,
        /// The client's ISN, and ours towards the server.
        client_isn: u32,
    },
    /// Client and server talk, through translated numbers.
    Open {
        /// Our ISN towards the client.
        proxy_isn: u32,
        /// The timestamp that we sent with it, 0 without timestamps.
        timestamp: u32,
        /// What the server's clock is ahead of ours.
        timestamp_offset: u32,
    },
}

impl Phase {
    /// Reads the phase off an entry; `words` is `None` when it has no synproxy extension.
    ///
    /// ctnetlink gives the extension to every entry it makes, so its presence alone says nothing.
    /// A waiting entry is known by a combination that nothing else makes: `IPS_SEQ_ADJUST` without
    /// the extension that it speaks of. The kernel itself drops every packet of such an entry.
    pub fn of(words: Option<Words>, marks: Marks) -> Self {
        let Some(words) = words else {
            return Self::None;
        };
        match (marks.seq_adjust, marks.seqadj) {
            (true, false) => match Waiting::unpack(words) {
                Some(waiting) if marks.fixed_timeout => {
                    if words[2] & TAG == TAG_WAITING && marks.expires > COOKIE_LIFE {
                        Self::Waiting(waiting)
                    } else {
                        Self::Refused(waiting)
                    }
                }
                _ => Self::Gone,
            },
            (false, true) => Self::opening(words),
            (true, true) => Self::open(words),
            // Not ours, whatever it is; nothing would translate it.
            (false, false) => Self::None,
        }
    }

    /// That of an entry with the extension and without the status bit.
    pub fn opening([proxy_isn, timestamp, client_isn]: Words) -> Self {
        if proxy_isn | timestamp | client_isn == 0 {
            return Self::None;
        }
        Self::Opening {
            proxy_isn,
            timestamp,
            client_isn,
        }
    }

    /// That of an entry with the status bit and with the extension: what its words say.
    pub fn open([proxy_isn, timestamp, timestamp_offset]: Words) -> Self {
        if proxy_isn | timestamp | timestamp_offset == 0 {
            return Self::None;
        }
        Self::Open {
            proxy_isn,
            timestamp,
            timestamp_offset,
        }
    }

    /// The ISN of a client that the server has not answered yet; another one in a SYN starts anew.
    pub fn client_isn(&self) -> Option<u32> {
        match self {
            Self::Waiting(waiting) | Self::Refused(waiting) => Some(waiting.client_isn),
            Self::Opening { client_isn, .. } => Some(*client_isn),
            Self::None | Self::Gone | Self::Open { .. } => None,
        }
    }

    /// Our ISN towards the client.
    pub fn proxy_isn(&self) -> Option<u32> {
        match self {
            Self::Waiting(waiting) | Self::Refused(waiting) => Some(waiting.proxy_isn),
            Self::Opening { proxy_isn, .. } | Self::Open { proxy_isn, .. } => Some(*proxy_isn),
            Self::None | Self::Gone => None,
        }
    }

    /// `--none`.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// `--in-progress`.
    pub fn is_in_progress(&self) -> bool {
        matches!(self, Self::Waiting(_) | Self::Refused(_) | Self::Gone)
    }

    /// `--finish`.
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITING: Marks = Marks {
        seq_adjust: true,
        fixed_timeout: true,
        seqadj: false,
        expires: COOKIE_LIFE + 30,
    };

    fn waiting(mss: u16, bits: u32) -> Waiting {
        let wscale = bits & 0xf;
        Waiting {
            client_isn: 0xfedc_ba98,
            proxy_isn: 0x0123_4567,
            mss,
            extras: Extras {
                wscale: (wscale != 0xf).then_some(wscale as u8),
                sack_perm: bits & 16 != 0,
                ecn: bits & 32 != 0,
            },
            timestamps: bits & 64 != 0,
            budget: (1 + bits) * BUDGET_STEP,
        }
    }

    #[test]
    fn a_budget_is_rounded_up() {
        for (budget, kept) in [(0, 512), (1, 512), (512, 512), (513, 1024), (14600, 14848)] {
            let one = Waiting {
                budget,
                ..waiting(1460, 0)
            };
            assert_eq!(Waiting::unpack(one.pack()).unwrap().budget, kept);
        }
        for budget in [65535, 65536, u32::MAX] {
            let one = Waiting {
                budget,
                ..waiting(1460, 0)
            };
            assert_eq!(Waiting::unpack(one.pack()).unwrap().budget, 65536);
        }
    }

    /// Each of 2^30 last words is that of one client, and it is the client's. The other words stand for
    /// themselves.
    #[test]
    fn packing_is_a_bijection() {
        for rest in 0..=!TAG {
            let words = [rest, !rest, TAG_WAITING | rest];
            assert_eq!(Waiting::unpack(words).map(|one| one.pack()), Some(words));
        }
    }

    #[test]
    fn a_taken_client_does_not_wait() {
        let [a, b, c] = waiting(1460, 0x77).pack();
        assert_ne!(taken(c), c);
        assert_eq!(Waiting::unpack([a, b, taken(c)]), None);
        assert_eq!(Phase::of(Some([a, b, taken(c)]), WAITING), Phase::Gone);
    }

    #[test]
    fn zeroed_words_are_not_waiting() {
        assert_eq!(Waiting::unpack([0; 3]), None);
    }

    #[test]
    fn the_tail_of_its_life_refuses() {
        let one = waiting(1460, 0);
        assert_eq!(Phase::of(Some(one.pack()), WAITING), Phase::Waiting(one));
        let tail = Marks {
            expires: COOKIE_LIFE,
            ..WAITING
        };
        assert_eq!(Phase::of(Some(one.pack()), tail), Phase::Refused(one));
        let [a, b, c] = one.pack();
        let noticed = [a, b, late(c).unwrap()];
        assert!(is_held(c) && is_held(noticed[2]) && !is_held(taken(c)));
        assert_eq!(late(noticed[2]), None);
        assert_eq!(late(taken(c)), None);
        for marks in [tail, WAITING] {
            assert_eq!(Phase::of(Some(noticed), marks), Phase::Refused(one));
        }
    }

    #[test]
    fn each_phase_matches_at_most_one_option() {
        for words in [
            None,
            Some([0; 3]),
            Some([1, 2, 3]),
            Some(waiting(9, 9).pack()),
        ] {
            for bits in 0..8u32 {
                let phase = Phase::of(
                    words,
                    Marks {
                        seq_adjust: bits & 1 != 0,
                        fixed_timeout: bits & 2 != 0,
                        seqadj: bits & 4 != 0,
                        expires: 1000,
                    },
                );
                let options = [phase.is_none(), phase.is_in_progress(), phase.is_finished()];
                assert!(options.iter().filter(|on| **on).count() <= 1, "{phase:?}");
                // The guard of the kernel and the word of the match agree: what nf_confirm drops
                // is in progress.
                if words.is_some() && bits & 5 == 1 {
                    assert!(phase.is_in_progress());
                }
            }
        }
    }

    #[test]
    fn an_entry_of_ctnetlink_is_none() {
        for bits in 0..8u32 {
            let marks = Marks {
                seq_adjust: bits & 1 != 0,
                fixed_timeout: bits & 2 != 0,
                seqadj: bits & 4 != 0,
                expires: 1000,
            };
            if !marks.seq_adjust || marks.seqadj {
                assert_eq!(Phase::of(Some([0; 3]), marks), Phase::None);
            }
            assert_eq!(Phase::of(None, marks), Phase::None);
        }
    }
}
