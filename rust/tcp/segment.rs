// SPDX-License-Identifier: GPL-2.0-only

//! The TCP header (RFC 9293 section 3.1): a checked view to read, a plain value to write.

use super::options::{self, Options};

/// Length of a TCP header without options, in bytes.
pub const HEADER_LEN: usize = 20;

/// Length of the longest TCP header, in bytes.
pub const MAX_HEADER_LEN: usize = HEADER_LEN + options::MAX_LEN;

/// Offset of the acknowledgement number from the start of the header, in bytes.
pub const ACK: usize = 8;

/// Offset of the checksum in the header, in bytes.
pub const CHECK: u16 = 16;

/// Control bits, as in byte 13 of the header.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// A TCP header that was read from a packet: a copy, or where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Segment<B = [u8; MAX_HEADER_LEN]> {
    header: B,
    header_len: usize,
    payload_len: usize,
}

/// One that is not copied.
pub type View<'a> = Segment<&'a [u8]>;

/// Copies `from` if it has that many bytes.
#[inline]
fn copy<const N: usize>(from: &[u8], to: &mut [u8]) -> bool {
    match (from.first_chunk::<N>(), to.first_chunk_mut()) {
        (Some(bytes), Some(to)) if from.len() == N => {
            *to = *bytes;
            true
        }
        _ => false,
    }
}

impl<'a> View<'a> {
    /// Looks at the header at the start of `bytes`; `total_len` is the length of the whole segment, header
    /// and payload, in bytes.
    ///
    /// `None` when it is cut short, longer than the segment, or shorter than a header.
    #[inline(always)]
    pub fn view(bytes: &'a [u8], total_len: usize) -> Option<Self> {
        let fixed = bytes.first_chunk::<HEADER_LEN>()?;
        let header_len = usize::from(fixed[12] >> 4).wrapping_mul(4);
        let payload_len = total_len.checked_sub(header_len)?;
        let header = bytes.get(..header_len)?;
        (header_len >= HEADER_LEN).then_some(Self {
            header,
            header_len,
            payload_len,
        })
    }
}

impl View<'_> {
    /// A copy.
    #[inline(always)]
    pub fn to_owned(&self) -> Segment {
        let mut header = [0; MAX_HEADER_LEN];
        let options = self.raw_options();
        if let (Some(fixed), Some((to, rest))) = (
            self.header.first_chunk(),
            header.split_first_chunk_mut::<HEADER_LEN>(),
        ) {
            *to = *fixed;
            // Of Linux: timestamps, none at all, and its SYNs.
            if !(copy::<12>(options, rest) || options.is_empty() || copy::<20>(options, rest)) {
                for (to, from) in rest.iter_mut().zip(options) {
                    *to = *from;
                }
            }
        }
        Segment {
            header,
            header_len: self.header_len,
            payload_len: self.payload_len,
        }
    }
}

impl Segment {
    /// As [`View::view`], but copied.
    #[inline(always)]
    pub fn new(bytes: &[u8], total_len: usize) -> Option<Self> {
        View::view(bytes, total_len).map(|view| view.to_owned())
    }
}

impl<B: AsRef<[u8]>> Segment<B> {
    fn be16(&self, at: usize) -> u16 {
        match self
            .header
            .as_ref()
            .get(at..)
            .and_then(|rest| rest.first_chunk())
        {
            Some(bytes) => u16::from_be_bytes(*bytes),
            None => 0,
        }
    }

    fn be32(&self, at: usize) -> u32 {
        match self
            .header
            .as_ref()
            .get(at..)
            .and_then(|rest| rest.first_chunk())
        {
            Some(bytes) => u32::from_be_bytes(*bytes),
            None => 0,
        }
    }

    /// Source port, host byte order.
    pub fn src_port(&self) -> u16 {
        self.be16(0)
    }

    /// Destination port, host byte order.
    pub fn dst_port(&self) -> u16 {
        self.be16(2)
    }

    /// Sequence number.
    pub fn seq(&self) -> u32 {
        self.be32(4)
    }

    /// Acknowledgement number; means something only with the ACK flag.
    pub fn ack(&self) -> u32 {
        self.be32(8)
    }

    /// Control bits, see [`flags`].
    pub fn flags(&self) -> u8 {
        self.header.as_ref().get(13).copied().unwrap_or_default()
    }

    /// The window field, not scaled.
    pub fn window(&self) -> u16 {
        self.be16(14)
    }

    /// Length of the header in bytes, options included.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Length of the payload in bytes.
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// The options as they stand in the packet.
    pub fn raw_options(&self) -> &[u8] {
        self.header
            .as_ref()
            .get(HEADER_LEN..self.header_len)
            .unwrap_or_default()
    }

    /// Writes the header of a segment that carries `len` bytes of this one's payload from byte `from`
    /// on, sent between other ports, and returns how many bytes it takes. The checksum is zero. Of the
    /// options the timestamps stay: any other that was not agreed on could have a server drop it.
    pub fn cut(
        &self,
        from: usize,
        len: usize,
        (src_port, dst_port): (u16, u16),
        out: &mut [u8; MAX_HEADER_LEN],
    ) -> usize {
        let options = Options {
            timestamps: self.options().timestamps,
            ..Options::default()
        };
        let mut opts = [0; options::MAX_LEN];
        let header_len = HEADER_LEN.wrapping_add(options.emit(&mut opts));
        let fixed = self.header.as_ref().iter().take(HEADER_LEN);
        for (to, from) in out.iter_mut().zip(fixed.chain(opts.iter())) {
            *to = *from;
        }
        let mut flags = self.flags();
        if from != 0 {
            flags &= !flags::CWR;
        }
        if from.wrapping_add(len) != self.payload_len {
            flags &= !(flags::FIN | flags::PSH);
        }
        // CAST: Modulo 2^32.
        let [q0, q1, q2, q3] = self.seq().wrapping_add(from as u32).to_be_bytes();
        let [s0, s1] = src_port.to_be_bytes();
        let [d0, d1] = dst_port.to_be_bytes();
        let fixed = [s0, s1, d0, d1, q0, q1, q2, q3];
        for (to, from) in out.iter_mut().zip(fixed) {
            *to = from;
        }
        // At most 15 words: fits the upper half of the byte.
        out[12] = header_len.wrapping_mul(4) as u8 | out[12] & 0x0f;
        out[13] = flags;
        out[16] = 0;
        out[17] = 0;
        header_len
    }

    /// The options that a SYN proxy knows.
    pub fn options(&self) -> Options {
        Options::parse(self.raw_options())
    }

    /// Whether of the bits in `mask` exactly those in `set` are on.
    pub fn flags_are(&self, mask: u8, set: u8) -> bool {
        self.flags() & mask == set
    }

    /// A SYN that opens: no ACK, FIN or RST beside it.
    pub fn is_syn(&self) -> bool {
        use flags::{ACK, FIN, RST, SYN};
        self.flags_are(SYN | ACK | FIN | RST, SYN)
    }

    /// A SYN,ACK.
    pub fn is_syn_ack(&self) -> bool {
        use flags::{ACK, FIN, RST, SYN};
        self.flags_are(SYN | ACK | FIN | RST, SYN | ACK)
    }

    /// An ACK, with or without data, that neither opens nor ends anything.
    pub fn is_ack(&self) -> bool {
        use flags::{ACK, FIN, RST, SYN};
        self.flags_are(SYN | ACK | FIN | RST, ACK)
    }

    /// A RST.
    pub fn is_rst(&self) -> bool {
        self.flags() & flags::RST != 0
    }
}

/// A TCP header without payload, to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repr {
    /// Source port, host byte order.
    pub src_port: u16,
    /// Destination port, host byte order.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits, see [`flags`].
    pub flags: u8,
    /// The window field, as on the wire.
    pub window: u16,
    /// Options.
    pub options: Options,
}

impl Repr {
    /// Writes the header with a zero checksum and returns how many bytes it takes.
    #[inline(always)]
    pub fn emit(&self, out: &mut [u8; MAX_HEADER_LEN]) -> usize {
        let Some((fixed, rest)) = out.split_first_chunk_mut::<HEADER_LEN>() else {
            return 0;
        };
        let options = rest
            .first_chunk_mut()
            .map_or(0, |options| self.options.emit(options));
        let len = HEADER_LEN.wrapping_add(options);

        let [s0, s1] = self.src_port.to_be_bytes();
        let [d0, d1] = self.dst_port.to_be_bytes();
        let [q0, q1, q2, q3] = self.seq.to_be_bytes();
        let [a0, a1, a2, a3] = self.ack.to_be_bytes();
        let [w0, w1] = self.window.to_be_bytes();
        // At most 15 words: fits the upper half of the byte.
        let doff = len.wrapping_mul(4) as u8;
        *fixed = [
            s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, doff, self.flags, w0, w1, 0, 0, 0, 0,
        ];
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Timestamps;

    #[test]
    fn emit_then_read() {
        let repr = Repr {
            src_port: 43210,
            dst_port: 80,
            seq: 0xffff_ffff,
            ack: 401,
            flags: flags::SYN | flags::ACK,
            window: 14600,
            options: Options {
                mss: Some(1460),
                wscale: Some(14),
                sack_perm: true,
                timestamps: Some(Timestamps { val: 7, ecr: 9 }),
            },
        };
        let mut bytes = [0; MAX_HEADER_LEN];
        let len = repr.emit(&mut bytes);
        assert_eq!(len, 40);
        let segment = Segment::new(&bytes, len + 3).unwrap();
        assert_eq!(segment.src_port(), repr.src_port);
        assert_eq!(segment.dst_port(), repr.dst_port);
        assert_eq!(segment.seq(), repr.seq);
        assert_eq!(segment.ack(), repr.ack);
        assert_eq!(segment.window(), repr.window);
        assert_eq!(segment.options(), repr.options);
        assert_eq!(segment.payload_len(), 3);
        assert!(segment.is_syn_ack() && !segment.is_syn() && !segment.is_ack());
    }

    #[test]
    fn parts_have_what_the_whole_has_once() {
        let repr = Repr {
            seq: u32::MAX,
            ack: 401,
            flags: flags::ACK | flags::PSH | flags::FIN | flags::CWR,
            window: 9,
            options: Options {
                timestamps: Some(Timestamps { val: 7, ecr: 9 }),
                ..Options::default()
            },
            ..Repr::default()
        };
        let mut bytes = [0; MAX_HEADER_LEN];
        let len = repr.emit(&mut bytes);
        bytes[16] = 0xff;
        // An option of RFC 2385, which does not get through.
        bytes[12] = (len as u8 + 20) << 2;
        bytes[len] = 19;
        bytes[len + 1] = 18;
        let whole = Segment::new(&bytes, len + 20 + 10).unwrap();
        for (from, part, seq, on) in [
            (0, 10, u32::MAX, repr.flags),
            (0, 4, u32::MAX, flags::ACK | flags::CWR),
            (4, 4, 3, flags::ACK),
            (8, 2, 7, flags::ACK | flags::PSH | flags::FIN),
        ] {
            let mut out = [0; MAX_HEADER_LEN];
            assert_eq!(whole.cut(from, part, (1, 2), &mut out), len);
            let cut = Segment::new(&out, len + part).unwrap();
            assert_eq!((cut.src_port(), cut.dst_port()), (1, 2));
            assert_eq!((cut.seq(), cut.flags()), (seq, on), "{from} {part}");
            assert_eq!((cut.ack(), cut.window()), (401, 9));
            assert_eq!(cut.options(), repr.options);
            assert_eq!(cut.raw_options().len(), 12);
            assert_eq!((out[16], out[17]), (0, 0));
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let mut bytes = [0; MAX_HEADER_LEN];
        for words in 0u8..16 {
            bytes[12] = words << 4;
            for total in 0..80 {
                let header = usize::from(words) * 4;
                let ok = header >= HEADER_LEN && header <= total;
                assert_eq!(Segment::new(&bytes, total).is_some(), ok, "{words} {total}");
            }
        }
    }

    #[test]
    fn kinds_of_segment_exclude_each_other() {
        let mut bytes = [0; MAX_HEADER_LEN];
        bytes[12] = 5 << 4;
        for bits in 0..=255u8 {
            bytes[13] = bits;
            let segment = Segment::new(&bytes, 20).unwrap();
            let kinds = [segment.is_syn(), segment.is_syn_ack(), segment.is_ack()];
            assert!(kinds.iter().filter(|kind| **kind).count() <= 1);
            if bits & flags::RST != 0 {
                assert!(!kinds.contains(&true));
            }
        }
    }
}
