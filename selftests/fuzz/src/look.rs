// SPDX-License-Identifier: GPL-2.0-only

//! What comes out, in a form in which two proxies can be compared.

use crate::packet::{
    fold, transport_sum, ACK, AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, ICMP, ICMPV6,
    ROUTING, SYN, TCP,
};
use std::{fmt, net::IpAddr};

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    Client,
    Server,
    /// The firewall's own, where a server on it is.
    Loopback,
}

/// A packet that has come out.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) spot: Spot,
    pub(crate) bytes: Vec<u8>,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Where what an IP header carries begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transport {
    pub(crate) protocol: u8,
    pub(crate) at: usize,
    /// Where it ends, by the header's length.
    end: usize,
    /// It is of a fragment.
    pub(crate) fragment: bool,
    /// ... that is not the first.
    later: bool,
}

fn address(bytes: &[u8], at: usize, is_v6: bool) -> Option<IpAddr> {
    Some(if is_v6 {
        IpAddr::from(*bytes.get(at..)?.first_chunk::<16>()?)
    } else {
        IpAddr::from(*bytes.get(at..)?.first_chunk::<4>()?)
    })
}

/// Source and destination.
pub(crate) fn ends(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match bytes.first()? >> 4 {
        4 => Some((address(bytes, 12, false)?, address(bytes, 16, false)?)),
        6 => Some((address(bytes, 8, true)?, address(bytes, 24, true)?)),
        _ => None,
    }
}

/// By the IP header, without what pads it.
pub(crate) fn length(bytes: &[u8]) -> usize {
    let length = match bytes.first().map_or(0, |first| first >> 4) {
        6 => be16(bytes, 4).map(|length| usize::from(length) + 40),
        _ => be16(bytes, 2).map(usize::from),
    };
    length.unwrap_or(0)
}

pub(crate) fn transport(bytes: &[u8]) -> Option<Transport> {
    if bytes.first()? >> 4 == 4 {
        let at = usize::from(bytes[0] & 0xf) * 4;
        let fragment = be16(bytes, 6)?;
        return (at >= 20).then_some(Transport {
            protocol: *bytes.get(9)?,
            at,
            end: be16(bytes, 2)?.into(),
            fragment: fragment & 0x3fff != 0,
            later: fragment & 0x1fff != 0,
        });
    }
    let mut out = Transport {
        protocol: *bytes.get(6)?,
        at: 40,
        end: 40 + usize::from(be16(bytes, 4)?),
        fragment: false,
        later: false,
    };
    while !out.later {
        let length = match out.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(*bytes.get(out.at + 1)?) + 1) * 8,
            AUTHENTICATION => (usize::from(*bytes.get(out.at + 1)?) + 2) * 4,
            FRAGMENT => {
                let word = be16(bytes, out.at + 2)?;
                out.fragment |= word & 0xfff9 != 0;
                out.later = word & 0xfff8 != 0;
                8
            }
            _ => break,
        };
        out.protocol = *bytes.get(out.at)?;
        out.at += length;
    }
    Some(out)
}

/// What a conversation is about in a TCP header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) ports: (u16, u16),
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) timestamps: Option<(u32, u32)>,
    pub(crate) wscale: Option<u8>,
    /// A timestamp or SACK block that is not in the halves of its words.
    pub(crate) odd: bool,
    /// How many timestamps there are.
    pub(crate) stamps: usize,
    /// It has options that are for a SYN.
    pub(crate) syn_options: bool,
}

pub(crate) fn header(bytes: &[u8]) -> Option<Header> {
    let transport = transport(bytes).filter(|found| found.protocol == TCP && !found.later)?;
    let at = transport.at;
    let fixed = bytes.get(at..at + 20)?;
    let end = at + usize::from(fixed[12] >> 4) * 4;
    let mut out = Header {
        ports: (be16(fixed, 0)?, be16(fixed, 2)?),
        seq: be32(fixed, 4)?,
        ack: be32(fixed, 8)?,
        flags: fixed[13],
        window: be16(fixed, 14)?,
        timestamps: None,
        wscale: None,
        odd: false,
        stamps: 0,
        syn_options: false,
    };
    for (at, option) in options(bytes.get(at + 20..end).unwrap_or_default()) {
        match *option {
            [8, 10, ..] if option.len() == 10 => {
                out.timestamps = Some((be32(option, 2)?, be32(option, 6)?));
                out.odd |= at % 2 == 1;
                out.stamps += 1;
            }
            [5, ..] => out.odd |= at % 2 == 1,
            [3, 3, shift] => {
                out.wscale = Some(shift.min(14));
                out.syn_options = true;
            }
            [4, 2] | [2, 4, ..] => out.syn_options = true,
            _ => {}
        }
    }
    Some(out)
}

/// The options and where they are; what is malformed and all that follows is the last one.
fn options(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let (mut out, mut at) = (vec![], 0);
    while at < bytes.len() {
        let length = match bytes[at] {
            0 => bytes.len() - at,
            1 => 1,
            _ => match bytes.get(at + 1).map(|length| usize::from(*length)) {
                Some(length) if length >= 2 && at + length <= bytes.len() => length,
                _ => bytes.len() - at,
            },
        };
        out.push((at, &bytes[at..at + length]));
        at += length;
    }
    out
}

/// An ICMP error by who has no way to the next host.
pub(crate) fn is_unreachable(bytes: &[u8]) -> bool {
    let kind = transport(bytes)
        .and_then(|found| Some((found.protocol, bytes.get(found.at..found.at + 2)?)));
    matches!(kind, Some((ICMP, [3, 1]) | (ICMPV6, [1, 3])))
}

/// What numbers are told from: the ISN and the clock of the client, of the proxy and of the server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bases {
    pub(crate) client: (u32, u32),
    pub(crate) proxy: (u32, u32),
    pub(crate) server: (u32, u32),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Number(u32),
    Bytes(Vec<u8>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number:#x}"),
            Self::Bytes(bytes) => {
                for byte in bytes {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// A packet in fields.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Look {
    pub(crate) spot: Spot,
    /// TCP flags, or else what it is.
    pub(crate) kind: String,
    pub(crate) fields: Vec<(&'static str, Value)>,
}

impl Look {
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find(|field| field.0 == name)
            .map(|field| &field.1)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        match self.field(name)? {
            Value::Number(number) => Some(*number),
            Value::Bytes(_) => None,
        }
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.spot, self.kind)?;
        for (name, value) in &self.fields {
            write!(f, " {name} {value:?}")?;
        }
        Ok(())
    }
}

pub(crate) fn flags_text(flags: u8) -> String {
    let all = "FSRPAUEC".chars().enumerate();
    let text: String = all
        .filter(|(bit, _)| flags >> bit & 1 == 1)
        .map(|(_, letter)| letter)
        .collect();
    if text.is_empty() {
        "none".into()
    } else {
        text
    }
}

struct Writer<'a> {
    fields: Vec<(&'static str, Value)>,
    bases: &'a Bases,
    spot: Spot,
    /// It goes to the client.
    back: bool,
    /// What went in, and on which side.
    input: (Spot, &'a [u8]),
    /// Its numbers, and its timestamps, have not been translated on the way.
    as_sent: (bool, bool),
}

impl Writer<'_> {
    fn number(&mut self, name: &'static str, value: impl Into<u32>) {
        self.fields.push((name, Value::Number(value.into())));
    }

    fn bytes(&mut self, name: &'static str, value: &[u8]) {
        self.fields.push((name, Value::Bytes(value.to_vec())));
    }

    /// These bytes went in on the other side, as they are.
    fn is_input(&self, bytes: Option<&[u8]>) -> bool {
        let (spot, input) = self.input;
        let is_there =
            |bytes: &[u8]| bytes.len() >= 8 && input.windows(bytes.len()).any(|part| part == bytes);
        spot != self.spot && bytes.is_some_and(is_there)
    }

    /// Of who has sent it, and of the other one.
    fn bases(&self) -> ((u32, u32), (u32, u32)) {
        let of_proxy = |as_sent| (self.spot == Spot::Client) != as_sent;
        let Bases { proxy, server, .. } = *self.bases;
        let server = (
            if of_proxy(self.as_sent.0) {
                proxy.0
            } else {
                server.0
            },
            if of_proxy(self.as_sent.1) {
                proxy.1
            } else {
                server.1
            },
        );
        match self.back {
            true => (server, self.bases.client),
            false => (self.bases.client, server),
        }
    }

    fn ip(&mut self, bytes: &[u8], transport: &Transport) {
        if bytes[0] >> 4 == 4 {
            self.number("tos", bytes[1]);
            // The kernel's own ICMP errors are counted.
            let is_error = transport.protocol == ICMP && bytes[8] == 64;
            self.number(
                "id",
                if is_error {
                    0
                } else {
                    be16(bytes, 4).unwrap_or(0)
                },
            );
            self.number("fragment", be16(bytes, 6).unwrap_or(0));
            self.number("ttl", bytes[8]);
            let header = bytes.get(..transport.at).unwrap_or(bytes);
            self.bytes("IP options", header.get(20..).unwrap_or_default());
            self.number("header sum", u32::from(fold(&[header]) != 0xffff));
        } else {
            self.number("tos", be16(bytes, 0).unwrap_or(0) >> 4 & 0xff);
            self.number("label", be32(bytes, 0).unwrap_or(0) & 0xfffff);
            self.number("ttl", bytes[7]);
            self.bytes(
                "extensions",
                without_id(bytes).get(40..transport.at).unwrap_or_default(),
            );
        }
        self.number(
            "length",
            (transport.end - transport.at.min(transport.end)) as u32,
        );
    }

    /// `whole` if nothing is cut off, so that its checksum tells something.
    fn tcp(&mut self, bytes: &[u8], transport: &Transport, whole: bool) -> Option<String> {
        let tcp = bytes.get(transport.at..)?;
        let header = header(bytes)?;
        let input = Some(self.input).filter(|(spot, _)| *spot != self.spot);
        if let Some(input) = input.and_then(|(_, bytes)| crate::look::header(bytes)) {
            let is_same = (input.seq, input.ack) == (header.seq, header.ack);
            self.as_sent = (
                is_same,
                // What the proxy makes has the same, but is none of it.
                input.flags == header.flags && input.timestamps == header.timestamps,
            );
            self.number("as sent", u32::from(is_same));
        }
        let (own, other) = self.bases();
        self.number("source", header.ports.0);
        self.number("destination", header.ports.1);
        self.number("seq", header.seq.wrapping_sub(own.0));
        if header.flags & ACK != 0 {
            self.number("ack", header.ack.wrapping_sub(other.0));
        } else {
            self.number("no ack", header.ack);
        }
        if self.spot == Spot::Client && header.flags & (SYN | ACK) == SYN | ACK && !self.as_sent.0 {
            // What an option costs is in the lowest bits of the proxy's clock.
            self.number(
                "clock bits",
                header.timestamps.map_or(0, |(value, _)| value & 0x3f),
            );
        }
        self.number("offset", tcp[12]);
        self.number("window", header.window);
        self.number("urgent", be16(tcp, 18)?);
        let end = usize::from(tcp[12] >> 4) * 4;
        for (_, option) in options(tcp.get(20..end).unwrap_or_default()) {
            self.option(option, header.flags & ACK != 0);
        }
        self.bytes("payload", tcp.get(end..).unwrap_or_default());
        if whole {
            let (src, dst) = ends(bytes)?;
            let sum = match (src, dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    transport_sum(&src.octets(), &dst.octets(), TCP, tcp)
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    transport_sum(&src.octets(), &dst.octets(), TCP, tcp)
                }
                _ => 0,
            };
            // The loopback device leaves them to be made.
            self.number(
                "sum",
                u32::from(sum != 0xffff && self.spot != Spot::Loopback),
            );
        }
        Some(flags_text(header.flags))
    }

    fn option(&mut self, option: &[u8], is_ack: bool) {
        let (own, other) = self.bases();
        match option {
            [8, 10, rest @ ..] if rest.len() == 8 => {
                self.number("TSval", be32(rest, 0).unwrap_or(0).wrapping_sub(own.1));
                let echo = be32(rest, 4).unwrap_or(0);
                let is_told = is_ack || self.as_sent.1;
                self.number(
                    "TSecr",
                    if is_told {
                        echo.wrapping_sub(other.1)
                    } else {
                        echo
                    },
                );
            }
            [5, length, rest @ ..] => {
                self.number("SACK", *length);
                for edge in rest.chunks_exact(4) {
                    self.number("edge", be32(edge, 0).unwrap_or(0).wrapping_sub(other.0));
                }
                self.bytes("SACK rest", rest.chunks_exact(4).remainder());
            }
            // What looks like a timestamp behind the end is as each proxy's client has it.
            _ if self.is_input(Some(option)) => self.number("option as sent", option.len() as u32),
            _ => self.bytes("option", option),
        }
    }

    fn error(&mut self, bytes: &[u8], transport: &Transport) -> Option<String> {
        let icmp = bytes.get(transport.at..)?;
        let kind = format!("icmp {}.{}", icmp.first()?, icmp.get(1)?);
        self.number("number", be32(icmp, 4)?);
        let (src, dst) = ends(bytes)?;
        let sum = match (src, dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                transport_sum(&src.octets(), &dst.octets(), ICMPV6, icmp)
            }
            _ => fold(&[icmp]),
        };
        self.number("sum", u32::from(sum != 0xffff));
        let quote = &icmp[8..];
        // Its identification may be that of fragments.
        let (_, input) = self.input;
        let rest = quote.get(12..).filter(|rest| !rest.is_empty());
        if rest.is_some_and(|rest| input.windows(rest.len()).any(|part| part == rest)) {
            self.number("quote as sent", quote.len() as u32);
            return Some(kind);
        }
        let inner = crate::look::transport(quote);
        let is_tcp = inner
            .as_ref()
            .is_some_and(|inner| inner.protocol == TCP && !inner.later);
        let Some((inner, fixed)) = inner
            .filter(|_| is_tcp)
            .and_then(|inner| Some((inner, quote.get(inner.at..inner.at + 8)?)))
        else {
            self.bytes("quote", quote);
            return Some(kind);
        };
        // What it quotes went the other way.
        self.back = !self.back;
        self.ip(quote, &inner);
        let (own, other) = self.bases();
        self.bytes("quoted ports", &fixed[..4]);
        self.number("quoted seq", be32(fixed, 4)?.wrapping_sub(own.0));
        if let Some(rest) = quote.get(inner.at + 8..) {
            self.quoted_rest(rest, other);
        }
        Some(kind)
    }

    /// Behind the sequence number. The checksum is over other numbers for each proxy.
    fn quoted_rest(&mut self, rest: &[u8], other: (u32, u32)) {
        let Some((Some(ack), word)) = rest.get(..12).map(|fixed| (be32(fixed, 0), &fixed[4..8]))
        else {
            self.number("quoted length", rest.len() as u32);
            return;
        };
        let is_ack = word[1] & ACK != 0;
        self.number(
            "quoted ack",
            if is_ack {
                ack.wrapping_sub(other.0)
            } else {
                ack
            },
        );
        self.bytes("quoted flags", word);
        let end = usize::from(word[0] >> 4) * 4;
        let all = end.checked_sub(8).and_then(|end| rest.get(12..end));
        for (_, option) in options(all.or(rest.get(12..)).unwrap_or_default()) {
            self.option(option, is_ack);
        }
        if all.is_some() {
            self.bytes("quoted payload", &rest[end - 8..]);
        }
    }
}

impl Seen {
    /// `client` is the address of the client of its conversation; `input` what went in, and where.
    pub(crate) fn look(&self, client: IpAddr, bases: &Bases, input: (Spot, &[u8])) -> Look {
        let mut writer = Writer {
            fields: vec![],
            bases,
            spot: self.spot,
            back: ends(&self.bytes).is_some_and(|(_, dst)| dst == client),
            input,
            as_sent: (false, false),
        };
        let kind = self.write(&mut writer).unwrap_or_else(|| {
            writer.fields.clear();
            // All but TTL and checksum, if that is not just what was sent.
            let tail = if self.bytes[0] >> 4 == 6 { 64 } else { 12 };
            if !writer.is_input(self.bytes.get(tail..)) {
                writer.bytes("all", &without_id(&self.bytes));
            }
            "strange".into()
        });
        Look {
            spot: self.spot,
            kind,
            fields: writer.fields,
        }
    }

    fn write(&self, writer: &mut Writer<'_>) -> Option<String> {
        let (src, dst) = ends(&self.bytes)?;
        let transport = transport(&self.bytes)?;
        writer.bytes("from", &src.to_string().into_bytes());
        writer.bytes("to", &dst.to_string().into_bytes());
        writer.ip(&self.bytes, &transport);
        // Ethernet pads what is short.
        let end = transport.end.min(self.bytes.len());
        let bytes = &self.bytes[..end.max(transport.at.min(self.bytes.len()))];
        if writer.is_input(bytes.get(transport.at..)) {
            writer.number("as sent", 1u32);
            return Some(
                match (header(bytes), bytes.get(transport.at..transport.at + 2)) {
                    (Some(header), _) => flags_text(header.flags),
                    (None, Some([kind @ 1..=12, code]))
                        if matches!(transport.protocol, ICMP | ICMPV6) =>
                    {
                        format!("icmp {kind}.{code}")
                    }
                    _ => format!("protocol {}", transport.protocol),
                },
            );
        }
        match transport.protocol {
            _ if transport.later => {
                writer.bytes("part", bytes.get(transport.at..)?);
                Some("part".into())
            }
            TCP => {
                let plain = writer.fields.len();
                let text = writer.tcp(
                    bytes,
                    &transport,
                    !transport.fragment && end == transport.end,
                );
                text.or_else(|| {
                    writer.fields.truncate(plain);
                    writer.bytes("payload", bytes.get(transport.at..)?);
                    Some("short".into())
                })
            }
            ICMP | ICMPV6 if !transport.fragment => writer.error(bytes, &transport),
            protocol => {
                writer.bytes("payload", bytes.get(transport.at..)?);
                Some(format!("protocol {protocol}"))
            }
        }
    }
}

/// Puts together what came in fragments; what is not whole stays as it is.
pub(crate) fn join(seen: Vec<Seen>) -> Vec<Seen> {
    let mut out = vec![];
    let mut parts: Vec<(Spot, Vec<u8>, Vec<Seen>)> = vec![];
    for seen in seen {
        match part(&seen.bytes) {
            None => out.push(seen),
            Some((id, ..)) => match parts
                .iter_mut()
                .find(|(spot, other, _)| (*spot, &**other) == (seen.spot, &*id))
            {
                Some((.., all)) => all.push(seen),
                None => parts.push((seen.spot, id, vec![seen])),
            },
        }
    }
    for (spot, _, all) in parts {
        match whole(&all) {
            Some(bytes) => out.push(Seen { spot, bytes }),
            None => out.extend(all),
        }
    }
    out
}

/// Of a fragment: its identification, where it begins, whether more are to come, and where its data are.
fn part(bytes: &[u8]) -> Option<(Vec<u8>, usize, bool, usize)> {
    if bytes.first()? >> 4 == 4 {
        let word = be16(bytes, 6)?;
        let found = (
            bytes.get(4..6)?.to_vec(),
            usize::from(word & 0x1fff) * 8,
            word & 0x2000 != 0,
            transport(bytes)?.at,
        );
        return (word & 0x3fff != 0).then_some(found);
    }
    let word = be16(bytes, 42)?;
    (bytes[6] == FRAGMENT).then_some((
        bytes.get(44..48)?.to_vec(),
        usize::from(word & 0xfff8),
        word & 1 != 0,
        48,
    ))
}

/// The same without what a kernel makes up for fragments of IPv6.
fn without_id(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let (mut kind, mut at) = (out.get(6).copied().unwrap_or(0), 40);
    while let (true, Some(&[next, length])) = (bytes[0] >> 4 == 6, bytes.get(at..at + 2)) {
        let end = match kind {
            HOP_BY_HOP | ROUTING | DESTINATION => at + (usize::from(length) + 1) * 8,
            AUTHENTICATION => at + (usize::from(length) + 2) * 4,
            FRAGMENT => at + 8,
            _ => break,
        };
        if let (FRAGMENT, Some(id)) = (kind, out.get_mut(at + 4..at + 8)) {
            id.fill(0);
        }
        (kind, at) = (next, end);
    }
    out
}

fn whole(all: &[Seen]) -> Option<Vec<u8>> {
    let find = |from: usize| {
        all.iter().find_map(|seen| {
            part(&seen.bytes)
                .filter(|part| part.1 == from)
                .map(|part| (seen, part))
        })
    };
    let (first, (.., header)) = find(0)?;
    let (mut data, mut more) = (vec![], true);
    while more {
        let (seen, part) = find(data.len())?;
        let length = usize::from(be16(
            &seen.bytes,
            if seen.bytes[0] >> 4 == 4 { 2 } else { 4 },
        )?);
        let end = if seen.bytes[0] >> 4 == 4 {
            length
        } else {
            length + 40
        };
        let end = end.min(seen.bytes.len());
        let bytes = seen
            .bytes
            .get(part.3..end)
            .filter(|bytes| !bytes.is_empty())?;
        data.extend_from_slice(bytes);
        more = part.2;
    }
    let mut out = first.bytes[..header].to_vec();
    if out[0] >> 4 == 4 {
        out[2..4].copy_from_slice(&((header + data.len()) as u16).to_be_bytes());
        out[6..8].fill(0);
        out[10..12].fill(0);
        let sum = !fold(&[&out]);
        out[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        out[6] = out[40];
        out.truncate(40);
        out[4..6].copy_from_slice(&(data.len() as u16).to_be_bytes());
    }
    out.extend(data);
    Some(out)
}

/// Bytes as a terminal can show them.
pub(crate) fn hexdump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (number, line) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        out += &format!("    {:04x}  {}\n", number * 16, hex.join(" "));
    }
    out
}
