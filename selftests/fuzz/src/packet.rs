// SPDX-License-Identifier: GPL-2.0-only

//! Packets that are to be sent, well formed or not.
//!
//! What the proxy has made up, its ISN and its clock, is not the same for two proxies: a packet is kept in
//! numbers that are told from these, and becomes bytes for one proxy only.

use std::net::IpAddr;

/// FIN, SYN, RST, PSH, ACK, URG, ECE and CWR, as in byte 13 of the header.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

/// Protocol numbers.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// Extension headers of IPv6.
pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const NO_NEXT: u8 = 59;
pub(crate) const DESTINATION: u8 = 60;

/// From where a packet comes, or where it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What one proxy has shown of itself in a conversation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// The sequence number of its SYN,ACK.
    pub(crate) isn: u32,
    /// The timestamp that it had.
    pub(crate) clock: u32,
    /// The last packets that got to client and server, for ICMP errors to quote.
    pub(crate) last: [Vec<u8>; 2],
}

/// An option, or what stands in its place.
#[derive(Clone, Debug)]
pub(crate) enum Opt {
    Bytes(Vec<u8>),
    /// Its length, which is 10 if all is well, and both values. What a client echoes is told from the proxy's
    /// clock.
    Timestamps(u8, u32, u32),
    /// What a client has is told from the proxy's ISN.
    Sack(Vec<u32>),
}

#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) ports: (u16, u16),
    pub(crate) seq: u32,
    /// A client's is told from the proxy's ISN, but for 0 without the flag.
    pub(crate) ack: u32,
    /// The reserved bits.
    pub(crate) reserved: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<Opt>,
    pub(crate) payload: Vec<u8>,
    /// In words, instead of what it is.
    pub(crate) data_offset: Option<u8>,
    /// What the checksum is wrong by.
    pub(crate) sum: u16,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Tcp(Tcp),
    /// An ICMP error about the last packet that its sender's side got.
    Error {
        kind: u8,
        code: u8,
        number: u32,
        /// So much of it is quoted.
        length: usize,
        flips: Vec<(usize, u8)>,
        sum: u16,
    },
    Bytes(u8, Vec<u8>),
}

/// An extension header of IPv6: its number, and what follows its length.
#[derive(Clone, Debug)]
pub(crate) struct Extension {
    pub(crate) kind: u8,
    pub(crate) data: Vec<u8>,
    /// The length field, instead of what it is.
    pub(crate) length: Option<u8>,
}

/// How a packet is cut into fragments.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// Where, in units of 8 bytes.
    pub(crate) at: Vec<u16>,
    /// The order in which they are sent, by their numbers: one may be missing, or come twice.
    pub(crate) order: Vec<usize>,
    /// The second begins so many units too early.
    pub(crate) overlap: u16,
    pub(crate) id: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: Side,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    /// Its link-layer address is not the firewall's, but this one.
    pub(crate) to_mac: Option<[u8; 6]>,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    /// Identification, or flow label.
    pub(crate) id: u32,
    /// Flags and offset of IPv4.
    pub(crate) fragment: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) body: Body,
    /// The field of the protocol, or of the last next header, instead of what it is.
    pub(crate) protocol: Option<u8>,
    /// Version and header length, instead of what they are.
    pub(crate) first: Option<u8>,
    /// Added to the length field.
    pub(crate) length: i16,
    /// What the header's checksum is wrong by.
    pub(crate) sum: u16,
    /// Bits that are changed when all is written, and whether the checksums are made after that.
    pub(crate) flips: Vec<(usize, u8)>,
    pub(crate) resum: bool,
    pub(crate) cut: Option<Cut>,
    /// So many bytes are cut off the end.
    pub(crate) truncate: usize,
    /// Padding behind the end.
    pub(crate) trailer: usize,
}

/// The sum that checksums are made of.
pub(crate) fn fold(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// The sum of a pseudo header and what is behind it.
pub(crate) fn transport_sum(src: &[u8], dst: &[u8], protocol: u8, body: &[u8]) -> u16 {
    let length = (body.len() as u32).to_be_bytes();
    fold(&[src, dst, &length, &[0, protocol], body])
}

impl Opt {
    fn emit(&self, from: Side, shown: &Shown, out: &mut Vec<u8>) {
        let told = |number: u32, base: u32| match from {
            Side::Client => number.wrapping_add(base),
            Side::Server => number,
        };
        match self {
            Self::Bytes(bytes) => out.extend(bytes),
            Self::Timestamps(length, value, echo) => {
                out.extend([8, *length]);
                out.extend(value.to_be_bytes());
                out.extend(told(*echo, shown.clock).to_be_bytes());
            }
            Self::Sack(edges) => {
                out.extend([5, edges.len() as u8 * 4 + 2]);
                for edge in edges {
                    out.extend(told(*edge, shown.isn).to_be_bytes());
                }
            }
        }
    }
}

impl Tcp {
    fn emit(&self, from: Side, shown: &Shown) -> Vec<u8> {
        let mut options = vec![];
        for option in &self.options {
            option.emit(from, shown, &mut options);
        }
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let words = 5 + options.len() / 4;
        let offset = self.data_offset.unwrap_or(words as u8);
        let ack = match from {
            Side::Client if self.flags & ACK != 0 || self.ack != 0 => {
                self.ack.wrapping_add(shown.isn)
            }
            _ => self.ack,
        };
        let mut out = vec![];
        out.extend(self.ports.0.to_be_bytes());
        out.extend(self.ports.1.to_be_bytes());
        out.extend(self.seq.to_be_bytes());
        out.extend(ack.to_be_bytes());
        out.extend([offset << 4 | self.reserved & 0xf, self.flags]);
        out.extend(self.window.to_be_bytes());
        out.extend([0, 0]);
        out.extend(self.urgent.to_be_bytes());
        out.extend(options);
        out.extend(&self.payload);
        out
    }
}

impl Packet {
    fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// Protocol, bytes, and where its checksum is.
    fn body(&self, shown: &Shown) -> (u8, Vec<u8>, Option<usize>, u16) {
        match &self.body {
            Body::Tcp(tcp) => (TCP, tcp.emit(self.from, shown), Some(16), tcp.sum),
            Body::Bytes(protocol, bytes) => (*protocol, bytes.clone(), None, 0),
            Body::Error {
                kind,
                code,
                number,
                length,
                flips,
                sum,
            } => {
                let mut out = vec![*kind, *code, 0, 0];
                out.extend(number.to_be_bytes());
                let quoted = &shown.last[self.from as usize];
                let mut quoted = quoted[..quoted.len().min(*length)].to_vec();
                flip(&mut quoted, flips);
                out.extend(quoted);
                let protocol = if self.is_v6() { ICMPV6 } else { ICMP };
                (protocol, out, Some(2), *sum)
            }
        }
    }

    /// The bytes, without an Ethernet header; several when it is cut into fragments.
    pub(crate) fn emit(&self, shown: &Shown) -> Vec<Vec<u8>> {
        let (protocol, body, sum_at, sum_error) = self.body(shown);
        let mut out = if self.is_v6() {
            self.header_v6(protocol, body.len())
        } else {
            self.header_v4(protocol, body.len())
        };
        let at = out.len();
        out.extend(&body);
        if self.resum {
            flip(&mut out, &self.flips);
        }
        if let Some(field) = sum_at.map(|sum_at| at + sum_at) {
            if out.len() >= field + 2 {
                let (src, dst) = (octets(self.src), octets(self.dst));
                let sum = match (protocol, self.is_v6()) {
                    (ICMP, false) => fold(&[&out[at..]]),
                    _ => transport_sum(&src, &dst, protocol, &out[at..]),
                };
                out[field..field + 2].copy_from_slice(&(!sum ^ sum_error).to_be_bytes());
            }
        }
        if !self.is_v6() {
            self.sum_v4(&mut out);
        }
        if !self.resum {
            flip(&mut out, &self.flips);
        }
        let mut frames = match &self.cut {
            Some(cut) if self.is_v6() => cut_v6(cut, &out),
            Some(cut) => cut_v4(cut, &out),
            None => vec![out],
        };
        if let Some(last) = frames.last_mut() {
            last.truncate(last.len().saturating_sub(self.truncate).max(1));
            last.resize((last.len() + self.trailer).min(1500), 0xa5);
        }
        for frame in &mut frames {
            frame.truncate(1500);
        }
        frames
    }

    fn header_v4(&self, protocol: u8, body: usize) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let header = 20 + options.len();
        let length = ((header + body) as u16).wrapping_add_signed(self.length);
        let mut out = vec![self.first.unwrap_or(0x40 | (header / 4) as u8), self.tos];
        out.extend(length.to_be_bytes());
        out.extend((self.id as u16).to_be_bytes());
        out.extend(self.fragment.to_be_bytes());
        out.extend([self.ttl, self.protocol.unwrap_or(protocol), 0, 0]);
        out.extend(octets(self.src));
        out.extend(octets(self.dst));
        out.extend(options);
        out
    }

    fn sum_v4(&self, out: &mut [u8]) {
        let header = usize::from(out[0] & 0xf) * 4;
        let header = header.clamp(20, out.len());
        out[10..12].fill(0);
        let sum = !fold(&[&out[..header]]) ^ self.sum;
        out[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    fn header_v6(&self, protocol: u8, body: usize) -> Vec<u8> {
        let mut chain = vec![];
        for (number, extension) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(number + 1).map(|next| next.kind);
            extension.emit(
                next.unwrap_or(self.protocol.unwrap_or(protocol)),
                &mut chain,
            );
        }
        let next = self.extensions.first().map(|first| first.kind);
        let length = ((chain.len() + body) as u16).wrapping_add_signed(self.length);
        let first = self.first.map_or(0x60, |first| first & 0xf0);
        let mut out = vec![
            first | self.tos >> 4,
            self.tos << 4 | (self.id >> 16) as u8 & 0xf,
        ];
        out.extend((self.id as u16).to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend([next.unwrap_or(self.protocol.unwrap_or(protocol)), self.ttl]);
        out.extend(octets(self.src));
        out.extend(octets(self.dst));
        out.extend(chain);
        out
    }
}

impl Extension {
    fn emit(&self, next: u8, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([next, 0]);
        out.extend(&self.data);
        out.resize(start + (out.len() - start).next_multiple_of(8), 0);
        let length = out.len() - start;
        let field = match self.kind {
            FRAGMENT => 0,
            AUTHENTICATION => (length / 4 - 2) as u8,
            _ => (length / 8 - 1) as u8,
        };
        out[start + 1] = self.length.unwrap_or(field);
    }
}

/// Changes bits.
pub(crate) fn flip(bytes: &mut [u8], flips: &[(usize, u8)]) {
    let length = bytes.len();
    for (at, bits) in flips {
        if length != 0 {
            bytes[at % length] ^= bits;
        }
    }
}

/// The parts of `body`: where each begins, in units of 8 bytes, and whether more are to come.
fn parts<'a>(cut: &Cut, body: &'a [u8]) -> Vec<(u16, bool, &'a [u8])> {
    let mut ends: Vec<usize> = cut.at.iter().map(|at| usize::from(*at) * 8).collect();
    ends.retain(|end| *end < body.len());
    ends.push(body.len());
    let mut all = vec![];
    let mut from = 0;
    for (number, end) in ends.iter().enumerate() {
        let early = if number == 1 {
            usize::from(cut.overlap) * 8
        } else {
            0
        };
        let begin = from - early.min(from);
        if *end > begin {
            all.push(((begin / 8) as u16, *end != body.len(), &body[begin..*end]));
        }
        from = *end;
    }
    cut.order
        .iter()
        .filter_map(|number| all.get(*number).copied())
        .collect()
}

fn cut_v4(cut: &Cut, whole: &[u8]) -> Vec<Vec<u8>> {
    let header = usize::from(whole[0] & 0xf) * 4;
    if !(20..=whole.len()).contains(&header) {
        return vec![whole.to_vec()];
    }
    let (header, body) = whole.split_at(header);
    let one = |(at, more, data): (u16, bool, &[u8])| {
        let mut out = header.to_vec();
        let length = (header.len() + data.len()) as u16;
        out[2..4].copy_from_slice(&length.to_be_bytes());
        out[4..6].copy_from_slice(&(cut.id as u16).to_be_bytes());
        out[6..8].copy_from_slice(&(at | u16::from(more) << 13).to_be_bytes());
        out[10..12].fill(0);
        let sum = !fold(&[&out]);
        out[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend(data);
        out
    };
    parts(cut, body).into_iter().map(one).collect()
}

/// All that follows the fixed header is cut.
fn cut_v6(cut: &Cut, whole: &[u8]) -> Vec<Vec<u8>> {
    let (header, body) = whole.split_at(40);
    let one = |(at, more, data): (u16, bool, &[u8])| {
        let mut out = header.to_vec();
        out[4..6].copy_from_slice(&(data.len() as u16 + 8).to_be_bytes());
        let next = std::mem::replace(&mut out[6], FRAGMENT);
        out.extend([next, 0]);
        out.extend((at << 3 | u16::from(more)).to_be_bytes());
        out.extend(cut.id.to_be_bytes());
        out.extend(data);
        out
    };
    parts(cut, body).into_iter().map(one).collect()
}
