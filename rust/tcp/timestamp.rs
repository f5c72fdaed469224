// SPDX-License-Identifier: GPL-2.0-only

//! What a SYN cookie has no room for rides in our timestamp, and the timestamps' translation.
//!
//! The low eight bits of the TSval in our SYN,ACK come back as TSecr in the client's ACK. Six are the
//! in-tree SYNPROXY's, so that a change of module loses no option: bits 0-3 window scale (15: none),
//! bit 4 SACK permitted, bit 5 ECN. Bits 6 and 7 are a check on the MSS in the cookie.

use super::{
    options::{self, kind},
    segment::{flags, View, HEADER_LEN},
    state::COOKIE_LIFE,
};

const WSCALE: u32 = 0x0f;
const NO_WSCALE: u32 = 0x0f;
const SACK_PERM: u32 = 1 << 4;
const ECN: u32 = 1 << 5;
const MSS_SHIFT: u32 = 6;
const MASK: u32 = 0xff;

/// What the client offered and the rule allows, beyond the MSS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// The client's window scale.
    pub wscale: Option<u8>,
    /// The client permits SACK.
    pub sack_perm: bool,
    /// The client does ECN.
    pub ecn: bool,
}

impl Extras {
    /// The TSval that carries them beside a cookie that keeps the MSS `mss`, at the time `now_ms` of a
    /// millisecond clock. It is never 0, which stands for no timestamps.
    #[inline(always)]
    pub fn encode(self, now_ms: u32, mss: u16) -> u32 {
        let wscale = match self.wscale {
            Some(shift) => u32::from(shift.min(options::MAX_WSCALE)),
            None => NO_WSCALE,
        };
        (now_ms & !MASK).max(MASK + 1)
            | check_bits(mss) << MSS_SHIFT
            | wscale
            | if self.sack_perm { SACK_PERM } else { 0 }
            | if self.ecn { ECN } else { 0 }
    }

    /// What an echoed TSval carries.
    pub fn decode(ecr: u32) -> Self {
        let wscale = ecr & WSCALE;
        Self {
            // Four bits: fits.
            wscale: (wscale != NO_WSCALE).then_some(wscale as u8),
            sack_perm: ecr & SACK_PERM != 0,
            ecn: ecr & ECN != 0,
        }
    }
}

/// Two bits that tell apart the MSS that a cookie can keep: 536, 1300, 1440, 1460 in IPv4, 1220, 1420,
/// 1440, 8940 in IPv6.
fn check_bits(mss: u16) -> u32 {
    (u32::from(mss) / 22) & 3
}

/// Whether an echoed TSval went with a cookie that keeps `mss`.
pub fn is_for(ecr: u32, mss: u16) -> bool {
    ecr >> MSS_SHIFT & 3 == check_bits(mss)
}

/// Whether an echoed TSval can be of a SYN,ACK whose cookie is still good at the time `now_ms` of the
/// clock that it was taken from. Another CPU's may be ahead a little.
pub fn is_recent(ecr: u32, now_ms: u32) -> bool {
    const AHEAD_MS: u32 = 1000;
    let sent = ecr & !MASK;
    now_ms.wrapping_add(AHEAD_MS).wrapping_sub(sent) <= COOKIE_LIFE * 1000 + MASK + AHEAD_MS
}

/// Direction of a packet on the original connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Original,
    /// From the server.
    Reply,
}

/// A 32-bit field of the TCP header that has to be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Offset from the start of the header.
    pub offset: usize,
    /// Value found.
    pub old: u32,
    /// Value to write.
    pub new: u32,
}

/// Finds the timestamps in a packet's options, and where TSval is, from the start of the header.
pub fn find(raw_options: &[u8]) -> Option<(usize, options::Timestamps)> {
    options::walk(raw_options).find_map(|option| match option.kind {
        kind::TIMESTAMP => Some((
            option.offset.wrapping_add(HEADER_LEN),
            options::parse_timestamps(option.data)?,
        )),
        _ => None,
    })
}

/// Whether the clock has not gone back from `a` to `b`.
pub fn is_in_order(a: u32, b: u32) -> bool {
    // CAST: The sign of the distance is what is asked for.
    (b.wrapping_sub(a) as i32) >= 0
}

/// Finds what the difference `offset` between the server's clock and ours changes in a packet's
/// options: TSval towards the client, TSecr towards the server.
pub fn translate(raw_options: &[u8], direction: Direction, offset: u32) -> Option<Rewrite> {
    if offset == 0 {
        return None;
    }
    let (at, ts) = find(raw_options)?;
    Some(translated(at, ts, direction, offset))
}

/// `at` is where TSval is, from the start of the header.
#[inline]
fn translated(at: usize, ts: options::Timestamps, direction: Direction, offset: u32) -> Rewrite {
    match direction {
        Direction::Reply => Rewrite {
            offset: at,
            old: ts.val,
            new: ts.val.wrapping_sub(offset),
        },
        Direction::Original => Rewrite {
            offset: at.wrapping_add(4),
            old: ts.ecr,
            new: ts.ecr.wrapping_add(offset),
        },
    }
}

/// [`translate_plain`] cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPlain;

/// As [`translate`], of a segment that opens nothing, and has no options but timestamps, if any: there is
/// nothing else in it to be translated.
///
/// # Errors
///
/// It is not such a segment.
#[inline]
pub fn translate_plain(
    segment: &View<'_>,
    direction: Direction,
    offset: u32,
) -> Result<Option<Rewrite>, NotPlain> {
    let options = segment.raw_options();
    if segment.flags() & flags::SYN != 0 {
        return Err(NotPlain);
    }
    if options.is_empty() {
        return Ok(None);
    }
    let ts = options::only_timestamps(options).ok_or(NotPlain)?;
    Ok((offset != 0).then(|| translated(HEADER_LEN + 4, ts, direction, offset)))
}

/// The value as the Internet checksum counts it: at an odd offset (padding by single NOPs) its bytes
/// fall into the other halves of the 16-bit words.
pub fn as_summed(value: u32, offset: usize) -> u32 {
    if offset % 2 == 0 {
        value
    } else {
        value.rotate_right(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_echoed_is_as_young_as_a_cookie() {
        for now_ms in [0, 5, 200_000, u32::MAX - 3, u32::MAX / 2] {
            let echoed = |age_ms: u32| {
                let sent = Extras::default().encode(now_ms.wrapping_sub(age_ms), 1460);
                is_recent(sent, now_ms)
            };
            assert!((0..=COOKIE_LIFE * 1000).step_by(97).all(echoed));
            assert!(echoed(COOKIE_LIFE * 1000) && echoed(500u32.wrapping_neg()));
            assert!((COOKIE_LIFE * 1000 + 256..u32::MAX - 1300)
                .step_by(99_991)
                .all(|age| !echoed(age)));
        }
    }

    #[test]
    fn every_extra_survives_the_echo() {
        for shift in (0..=options::MAX_WSCALE).map(Some).chain([None]) {
            for sack_perm in [false, true] {
                for ecn in [false, true] {
                    let extras = Extras {
                        wscale: shift,
                        sack_perm,
                        ecn,
                    };
                    for now in [0, 63, 64, 0x1234_5678, u32::MAX] {
                        let val = extras.encode(now, 1460);
                        assert!(is_for(val, 1460) && !is_for(val, 1440));
                        assert_eq!(Extras::decode(val), extras);
                        assert_eq!(val & !MASK, (now & !MASK).max(MASK + 1));
                    }
                }
            }
        }
    }

    #[test]
    fn zero_says_that_there_is_none() {
        let least = Extras {
            wscale: Some(0),
            ..Extras::default()
        };
        for now_ms in [0, 1, MASK] {
            let val = least.encode(now_ms, 0);
            assert_ne!(val, 0, "{now_ms}");
            assert_eq!(Extras::decode(val), least);
            assert!(is_recent(val, now_ms));
            assert!(is_in_order(val, least.encode(MASK + 1, 0)));
        }
    }

    #[test]
    fn each_mss_of_a_cookie_has_its_own_bits() {
        for table in [[536, 1300, 1440, 1460], [1220, 1420, 1440, 8940]] {
            let bits = table.map(check_bits);
            let mut sorted = bits;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3], "{bits:?}");
        }
    }

    #[test]
    fn a_plain_segment_is_translated_like_any_other() {
        let stamps = [1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9];
        let sack = [1, 1, 5, 10, 0, 0, 0, 5, 0, 0, 0, 9];
        let padded = [8, 10, 0, 0, 0, 5, 0, 0, 0, 9, 1, 1];
        let mut header = [0; 32];
        for (options, is_plain) in [
            (&[][..], true),
            (&stamps, true),
            (&sack, false),
            (&padded, false),
            (&stamps[..8], false),
        ] {
            let len = HEADER_LEN + options.len();
            header[HEADER_LEN..len].copy_from_slice(options);
            header[12] = (len * 4) as u8;
            for bits in 0..=255u8 {
                header[13] = bits;
                let view = View::view(&header[..len], len).unwrap();
                for direction in [Direction::Original, Direction::Reply] {
                    for offset in [0, 7, u32::MAX] {
                        let expected = if is_plain && bits & flags::SYN == 0 {
                            Ok(translate(options, direction, offset))
                        } else {
                            Err(NotPlain)
                        };
                        assert_eq!(translate_plain(&view, direction, offset), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn translation_there_and_back() {
        let options = [1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9];
        let reply = translate(&options, Direction::Reply, 7).unwrap();
        assert_eq!((reply.offset, reply.old, reply.new), (24, 5, 0xffff_fffe));
        let original = translate(&options, Direction::Original, 7).unwrap();
        assert_eq!((original.offset, original.old, original.new), (28, 9, 16));
        assert_eq!(translate(&options, Direction::Reply, 0), None);
        assert_eq!(translate(&options[..11], Direction::Reply, 7), None);
    }

    fn sum(bytes: &[u8]) -> u16 {
        let mut sum = bytes
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)])))
            .sum::<u32>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn odd_offsets_sum_as_they_stand() {
        let mut bytes = [0u8; 12];
        for offset in 0..8 {
            bytes.fill(0);
            bytes[offset..offset + 4].copy_from_slice(&0xa1b2_c3d4u32.to_be_bytes());
            let summed = as_summed(0xa1b2_c3d4, offset).to_be_bytes();
            assert_eq!(sum(&bytes), sum(&summed), "offset {offset}");
        }
    }
}
