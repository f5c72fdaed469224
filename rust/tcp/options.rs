// SPDX-License-Identifier: GPL-2.0-only

//! TCP options of the handshake (RFC 9293 section 3.1, RFC 7323, RFC 2018).

/// Option kinds (IANA "TCP Option Kind Numbers").
pub mod kind {
    /// End of option list.
    pub const END: u8 = 0;
    /// No-operation, for padding.
    pub const NOP: u8 = 1;
    /// Maximum segment size.
    pub const MSS: u8 = 2;
    /// Window scale.
    pub const WINDOW: u8 = 3;
    /// SACK permitted.
    pub const SACK_PERM: u8 = 4;
    /// SACK.
    pub const SACK: u8 = 5;
    /// Timestamps.
    pub const TIMESTAMP: u8 = 8;
}

/// Most bytes that options can take: the data offset counts 15 words, 5 of them are the header.
pub const MAX_LEN: usize = 40;

/// Largest window scale (RFC 7323 section 2.3).
pub const MAX_WSCALE: u8 = 14;

/// The timestamps option (RFC 7323 section 3.2), in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval, the sender's clock.
    pub val: u32,
    /// TSecr, the echo of the receiver's clock.
    pub ecr: u32,
}

/// The options that a SYN proxy knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size in bytes.
    pub mss: Option<u16>,
    /// Window scale, a shift count of at most [`MAX_WSCALE`].
    pub wscale: Option<u8>,
    /// Selective acknowledgements are permitted.
    pub sack_perm: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
}

/// One option as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    /// Option kind.
    pub kind: u8,
    /// Offset of the option's data from the start of the options.
    pub offset: usize,
    /// The data, without kind and length.
    pub data: &'a [u8],
}

/// Walks over the options in `bytes`; ends at an end-of-list and at the first malformed length.
pub fn walk(bytes: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let mut at = 0usize;
    core::iter::from_fn(move || loop {
        let kind = *bytes.get(at)?;
        match kind {
            kind::END => return None,
            kind::NOP => at = at.wrapping_add(1),
            _ => {
                let len = usize::from(*bytes.get(at.wrapping_add(1))?);
                let offset = at.wrapping_add(2);
                let end = at.wrapping_add(len);
                // A length below 2 makes `end` less than `offset`, and `get` answers None.
                let data = bytes.get(offset..end)?;
                at = end;
                return Some(Raw { kind, offset, data });
            }
        }
    })
}

fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

/// Reads the data of a timestamps option; `None` when its length is wrong.
pub fn parse_timestamps(data: &[u8]) -> Option<Timestamps> {
    if data.len() != 8 {
        return None;
    }
    Some(Timestamps {
        val: be32(data)?,
        ecr: be32(data.get(4..)?)?,
    })
}

/// The timestamps in options that are nothing else, laid out as RFC 7323 appendix A recommends.
#[inline]
pub fn only_timestamps(bytes: &[u8]) -> Option<Timestamps> {
    let words = Words::<3>::try_from(bytes).ok()?;
    let [LONE_TIMESTAMPS, val, ecr] = words.0 else {
        return None;
    };
    Some(Timestamps { val, ecr })
}

const LONE_TIMESTAMPS: u32 = u32::from_be_bytes([kind::NOP, kind::NOP, kind::TIMESTAMP, 10]);

/// Options that take so many words, in host byte order: what can be compared at once.
struct Words<const N: usize>([u32; N]);

impl<const N: usize> TryFrom<&[u8]> for Words<N> {
    type Error = ();

    #[inline(always)]
    fn try_from(bytes: &[u8]) -> Result<Self, ()> {
        if bytes.len() != N.wrapping_mul(4) {
            return Err(());
        }
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = be32(bytes).ok_or(())?;
        }
        Ok(Self(words))
    }
}

impl Options {
    #[inline(always)]
    fn of_linux_syn(&Words([mss, sack_timestamp, val, ecr, wscale]): &Words<5>) -> Option<Self> {
        const MSS: u32 = u32::from_be_bytes([kind::MSS, 4, 0, 0]);
        const SACK_TIMESTAMP: u32 = u32::from_be_bytes([kind::SACK_PERM, 2, kind::TIMESTAMP, 10]);
        const WSCALE: u32 = u32::from_be_bytes([kind::NOP, kind::WINDOW, 3, 0]);
        if mss & !0xffff != MSS || sack_timestamp != SACK_TIMESTAMP || wscale & !0xff != WSCALE {
            return None;
        }
        Some(Self {
            // Masked to the width of the type, both.
            mss: Some((mss & 0xffff) as u16),
            wscale: Some(((wscale & 0xff) as u8).min(MAX_WSCALE)),
            sack_perm: true,
            timestamps: Some(Timestamps { val, ecr }),
        })
    }

    /// Reads what is known from `bytes`, the part of a TCP header after its first 20 bytes.
    ///
    /// Unknown options and known ones of a wrong length are passed over, as RFC 9293 asks.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Self {
        // As Linux lays them out, see `emit`: in most SYNs, and in its other segments.
        if let Ok(words) = Words::<5>::try_from(bytes) {
            if let Some(options) = Self::of_linux_syn(&words) {
                return options;
            }
        } else if let Some(timestamps) = only_timestamps(bytes) {
            return Self {
                timestamps: Some(timestamps),
                ..Self::default()
            };
        }
        Self::parse_any(bytes)
    }

    fn parse_any(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        let mut rest = bytes;
        loop {
            rest = match rest {
                [] | [kind::END, ..] => break,
                [kind::NOP, rest @ ..] => rest,
                [kind::MSS, 4, hi, lo, rest @ ..] => {
                    options.mss = Some(u16::from_be_bytes([*hi, *lo]));
                    rest
                }
                [kind::WINDOW, 3, shift, rest @ ..] => {
                    options.wscale = Some((*shift).min(MAX_WSCALE));
                    rest
                }
                [kind::SACK_PERM, 2, rest @ ..] => {
                    options.sack_perm = true;
                    rest
                }
                [kind::TIMESTAMP, 10, v0, v1, v2, v3, e0, e1, e2, e3, rest @ ..] => {
                    options.timestamps = Some(Timestamps {
                        val: u32::from_be_bytes([*v0, *v1, *v2, *v3]),
                        ecr: u32::from_be_bytes([*e0, *e1, *e2, *e3]),
                    });
                    rest
                }
                // Zero or one would be no length.
                [_, len, ..] if *len > 1 => match rest.get(usize::from(*len)..) {
                    Some(rest) => rest,
                    None => break,
                },
                _ => break,
            };
        }
        options
    }

    /// Writes the options, padded to whole words, and returns how many bytes they take.
    ///
    /// The layout is the one that Linux itself sends, so that a proxied SYN looks like any other.
    #[inline(always)]
    pub fn emit(&self, out: &mut [u8; MAX_LEN]) -> usize {
        // What most clients and servers agree on.
        if let Self {
            mss: Some(mss),
            wscale: Some(shift),
            sack_perm: true,
            timestamps: Some(Timestamps { val, ecr }),
        } = *self
        {
            let [m0, m1] = mss.to_be_bytes();
            let ([v0, v1, v2, v3], [e0, e1, e2, e3]) = (val.to_be_bytes(), ecr.to_be_bytes());
            if let Some(out) = out.first_chunk_mut() {
                *out = [
                    kind::MSS,
                    4,
                    m0,
                    m1,
                    kind::SACK_PERM,
                    2,
                    kind::TIMESTAMP,
                    10,
                    v0,
                    v1,
                    v2,
                    v3,
                    e0,
                    e1,
                    e2,
                    e3,
                    kind::NOP,
                    kind::WINDOW,
                    3,
                    shift,
                ];
                return out.len();
            }
        }
        self.emit_any(out)
    }

    fn emit_any(&self, out: &mut [u8; MAX_LEN]) -> usize {
        let mut at = 0usize;
        let mut word = |bytes: [u8; 4]| {
            if let Some(slot) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
                *slot = bytes;
                at = at.wrapping_add(4);
            }
        };

        if let Some(mss) = self.mss {
            let [hi, lo] = mss.to_be_bytes();
            word([kind::MSS, 4, hi, lo]);
        }
        let padding = if self.sack_perm {
            [kind::SACK_PERM, 2]
        } else {
            [kind::NOP, kind::NOP]
        };
        if let Some(ts) = self.timestamps {
            word([padding[0], padding[1], kind::TIMESTAMP, 10]);
            word(ts.val.to_be_bytes());
            word(ts.ecr.to_be_bytes());
        } else if self.sack_perm {
            word([kind::NOP, kind::NOP, kind::SACK_PERM, 2]);
        }
        if let Some(shift) = self.wscale {
            word([kind::NOP, kind::WINDOW, 3, shift]);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(options: &Options) -> Vec<u8> {
        let mut out = [0; MAX_LEN];
        let len = options.emit(&mut out);
        out[..len].to_vec()
    }

    #[test]
    fn emit_then_parse_is_the_identity() {
        for bits in 0..16 {
            let options = Options {
                mss: (bits & 1 != 0).then_some(1460),
                wscale: (bits & 2 != 0).then_some(7),
                sack_perm: bits & 4 != 0,
                timestamps: (bits & 8 != 0).then_some(Timestamps {
                    val: 0x0102_0304,
                    ecr: 0xfffe_fdfc,
                }),
            };
            let bytes = emitted(&options);
            assert_eq!(bytes.len() % 4, 0);
            assert_eq!(Options::parse(&bytes), options);
        }
    }

    #[test]
    fn a_linux_syn_is_laid_out_as_linux_does() {
        let options = Options {
            mss: Some(1460),
            wscale: Some(7),
            sack_perm: true,
            timestamps: Some(Timestamps { val: 1, ecr: 0 }),
        };
        assert_eq!(
            emitted(&options),
            [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]
        );
    }

    #[test]
    fn malformed_options_end_the_list_and_nothing_more() {
        // MSS, then a length that runs past the end (the parser bug of 2021), a zero length, a
        // kind without its length.
        for tail in [&[8u8, 10, 1][..], &[8, 0], &[8, 1], &[8]] {
            let mut bytes = vec![2, 4, 5, 180];
            bytes.extend_from_slice(tail);
            let options = Options::parse(&bytes);
            assert_eq!(options.mss, Some(1460));
            assert_eq!(options.timestamps, None);
        }
    }

    #[test]
    fn known_options_of_a_wrong_length_are_passed_over() {
        let bytes = [2, 3, 5, 3, 4, 7, 7, 4, 3, 0, 8, 9, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Options::parse(&bytes), Options::default());
    }

    #[test]
    fn wscale_is_clamped() {
        assert_eq!(Options::parse(&[3, 3, 255]).wscale, Some(MAX_WSCALE));
    }

    #[test]
    fn every_byte_pattern_of_three_bytes_parses() {
        for n in 0u32..1 << 24 {
            let [_, a, b, c] = n.to_be_bytes();
            Options::parse(&[a, b, c]);
        }
    }
}
