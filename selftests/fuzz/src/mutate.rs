// SPDX-License-Identifier: GPL-2.0-only

//! What can be wrong with a packet.

use crate::{
    packet::{
        Body, Cut, Extension, Opt, Packet, Tcp, ACK, AUTHENTICATION, DESTINATION, FIN, FRAGMENT,
        HOP_BY_HOP, ICMP, ICMPV6, NO_NEXT, ROUTING, RST, SYN, TCP, UDP, URG,
    },
    talk::odd_number,
};
use fastrand::Rng;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn bytes(rng: &mut Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| rng.u8(..)).collect()
}

/// Does something to `packet`, and says what.
pub(crate) fn once(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    match rng.u8(..32) {
        0 => ip_field(packet, rng),
        1 => length(packet, rng),
        2 | 3 if packet.src.is_ipv6() => extensions(packet, rng),
        2 | 3 => ip_options(packet, rng),
        4 | 5 => fragments(packet, rng),
        6 => checksum(packet, rng),
        7 => flips(packet, rng),
        8 => all_random(packet, rng),
        9 => address(packet, rng),
        10 if rng.u8(..4) == 0 => other_body(packet, rng),
        _ => match &mut packet.body {
            Body::Tcp(tcp) => segment(tcp, rng),
            Body::Error { length, flips, .. } => {
                if rng.bool() {
                    *length = rng.usize(..100);
                } else {
                    flips.push((rng.usize(..60), 1 << rng.u8(..8)));
                }
                "ICMP error"
            }
            Body::Bytes(..) => flips(packet, rng),
        },
    }
}

fn segment(tcp: &mut Tcp, rng: &mut Rng) -> &'static str {
    match rng.u8(..20) {
        0..3 => {
            tcp.flags = rng.u8(..);
            "flags"
        }
        3 => {
            tcp.flags ^= *rng.choice(&[FIN, SYN, RST, ACK, URG]).unwrap_or(&FIN);
            "flags"
        }
        4 => {
            tcp.reserved = rng.u8(1..16);
            "reserved bits"
        }
        5 => {
            tcp.window = *rng.choice(&[0, 1, 127, 128, 0x8000, 0xffff]).unwrap_or(&0);
            "window"
        }
        6 => {
            tcp.urgent = rng.u16(..);
            tcp.flags |= URG;
            "urgent"
        }
        7 => {
            tcp.data_offset = Some(rng.u8(..16));
            "data offset"
        }
        8..11 => {
            number(&mut tcp.seq, rng);
            "sequence number"
        }
        11..13 => {
            number(&mut tcp.ack, rng);
            "acknowledgement"
        }
        13 => {
            let length = *rng.choice(&[0, 1, 2, 7, 500, 1380]).unwrap_or(&0);
            tcp.payload = bytes(rng, length);
            "payload"
        }
        _ => {
            options(&mut tcp.options, rng);
            "options"
        }
    }
}

fn number(number: &mut u32, rng: &mut Rng) {
    *number = match rng.u8(..6) {
        0 => odd_number(rng),
        1 => number.wrapping_sub(1),
        2 => number.wrapping_add(rng.u32(..4)),
        3 => number.wrapping_add(rng.u32(..0x2_0000)),
        4 => number.wrapping_sub(rng.u32(..0x2_0000)),
        _ => number.wrapping_add(0x8000_0000),
    };
}

fn options(options: &mut Vec<Opt>, rng: &mut Rng) {
    let at = rng.usize(..=options.len());
    match rng.u8(..12) {
        // Each kind, with each length.
        0..3 => {
            let kind = if rng.bool() { rng.u8(..9) } else { rng.u8(..) };
            let length = if rng.bool() { rng.u8(..12) } else { rng.u8(..) };
            let there = rng.usize(..12).min(usize::from(length.saturating_sub(2)));
            let mut option = vec![kind, length];
            option.extend(bytes(rng, there));
            options.insert(at, Opt::Bytes(option));
        }
        // A right one, that may be there already.
        3 => {
            let option = match rng.u8(..5) {
                0 => vec![2, 4, rng.u8(..), rng.u8(..)],
                1 => vec![3, 3, rng.u8(..)],
                2 => vec![4, 2],
                _ => [vec![8, 10], bytes(rng, 8)].concat(),
            };
            options.insert(at, Opt::Bytes(option));
        }
        4 | 5 => options.insert(at, Opt::Bytes(vec![1; rng.usize(1..4)])),
        6 => options.insert(at, Opt::Bytes(vec![0])),
        7 => drop((at < options.len()).then(|| options.remove(at))),
        8 => rng.shuffle(options),
        9 => {
            if let Some(option) = options.get(at).cloned() {
                options.push(option);
            }
        }
        10 => {
            for option in options {
                if let Opt::Timestamps(length, value, echo) = option {
                    match rng.u8(..4) {
                        0 => *length = rng.u8(..),
                        1 => number(value, rng),
                        // By less than what makes it an old one, or by more.
                        2 => *echo = echo.wrapping_sub(rng.u32(..200_000)),
                        _ => number(echo, rng),
                    }
                }
            }
        }
        _ => {
            let length = rng.usize(..45);
            *options = vec![Opt::Bytes(bytes(rng, length))];
        }
    }
}

fn ip_field(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    match rng.u8(..6) {
        0 => packet.tos = rng.u8(..),
        1 => packet.ttl = *rng.choice(&[0, 1, 2, 255]).unwrap_or(&1),
        2 => packet.id = if rng.bool() { 0 } else { rng.u32(..) },
        3 => packet.first = Some(rng.u8(..)),
        4 => {
            packet.protocol = Some(
                *rng.choice(&[UDP, ICMP, ICMPV6, NO_NEXT, 0, 132, 255])
                    .unwrap_or(&0),
            )
        }
        _ => packet.first = Some(packet.first.unwrap_or(0x45) & 0xf0 | rng.u8(..16)),
    }
    "IP header"
}

fn length(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    match rng.u8(..4) {
        0 => packet.length = rng.i16(-60..60),
        1 => packet.length = rng.i16(..),
        2 => packet.truncate = rng.usize(1..80),
        _ => packet.trailer = rng.usize(1..60),
    }
    "lengths"
}

fn checksum(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    let error = if rng.bool() {
        0xffff
    } else {
        1 << rng.u8(..16)
    };
    match &mut packet.body {
        Body::Tcp(tcp) if rng.u8(..4) != 0 => tcp.sum = error,
        Body::Error { sum, .. } if rng.u8(..4) != 0 => *sum = error,
        _ => packet.sum = error,
    }
    "checksum"
}

fn flips(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    for _ in 0..rng.usize(1..4) {
        // Not in the addresses, by which it is known what the outcome is of.
        let at = match packet.src.is_ipv6() {
            false if rng.bool() => rng.usize(..12),
            false => 20 + rng.usize(..60),
            true if rng.bool() => rng.usize(..8),
            true => 40 + rng.usize(..60),
        };
        packet.flips.push((at, 1 << rng.u8(..8)));
    }
    packet.resum = rng.bool();
    "bits"
}

fn all_random(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    let length = rng.usize(..80);
    packet.body = Body::Bytes(TCP, bytes(rng, length));
    "random bytes"
}

fn other_body(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    let length = rng.usize(..80);
    packet.body = Body::Bytes(rng.u8(..), bytes(rng, length));
    "random bytes"
}

fn address(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    let odd = match packet.src {
        IpAddr::V4(_) => {
            let all = [
                Ipv4Addr::UNSPECIFIED,
                Ipv4Addr::BROADCAST,
                Ipv4Addr::LOCALHOST,
                Ipv4Addr::new(224, 0, 0, 1),
                Ipv4Addr::new(10, 0, 1, 255),
                Ipv4Addr::new(10, 0, 2, 255),
                Ipv4Addr::new(10, 0, 1, 1),
                Ipv4Addr::new(240, 0, 0, 1),
            ];
            IpAddr::from(*rng.choice(&all).unwrap_or(&all[0]))
        }
        IpAddr::V6(_) => {
            let all = [
                Ipv6Addr::UNSPECIFIED,
                Ipv6Addr::LOCALHOST,
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99),
                Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1),
            ];
            IpAddr::from(*rng.choice(&all).unwrap_or(&all[0]))
        }
    };
    match rng.u8(..4) {
        0 => packet.src = odd,
        1 => packet.dst = odd,
        2 => packet.to_mac = Some([0xff; 6]),
        _ => packet.to_mac = Some([1, 0, 0x5e, 0, 0, 1]),
    }
    "addresses"
}

fn ip_options(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    let option = match rng.u8(..6) {
        0 => vec![1; rng.usize(1..12)],
        // Router alert, record route, timestamp; source routes.
        1 => vec![148, 4, 0, 0],
        2 => [vec![7, 11, 4], vec![0; 8]].concat(),
        3 => [vec![68, 12, 5, 0], vec![0; 8]].concat(),
        4 => vec![if rng.bool() { 131 } else { 137 }, 7, 4, 10, 0, 2, 9],
        _ => {
            let length = rng.usize(1..40);
            bytes(rng, length)
        }
    };
    packet.options.extend(option);
    packet.options.truncate(40);
    "IP options"
}

fn extensions(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    for _ in 0..rng.usize(1..4) {
        let kind = match rng.u8(..12) {
            0..4 => HOP_BY_HOP,
            4..8 => DESTINATION,
            8 => ROUTING,
            9 => AUTHENTICATION,
            10 => FRAGMENT,
            _ => *rng.choice(&[NO_NEXT, 135, 139, 253]).unwrap_or(&NO_NEXT),
        };
        let data = match kind {
            // Padding; or an option, with what to do if it is not known.
            HOP_BY_HOP | DESTINATION => match rng.u8(..6) {
                0 => vec![rng.u8(..4) << 6 | 0x1e, 4, 0, 0, 0, 0],
                1 => bytes(rng, 6),
                2 => vec![1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                _ => vec![1, 4, 0, 0, 0, 0],
            },
            ROUTING => [vec![rng.u8(..5), rng.u8(..2)], vec![0; 20]].concat(),
            // A fragment that is the whole.
            FRAGMENT if rng.bool() => vec![0, 0, 1, 2, 3, 4],
            _ => bytes(rng, 6),
        };
        let length = (rng.u8(..8) == 0).then(|| rng.u8(..));
        packet.extensions.push(Extension { kind, data, length });
    }
    "extension headers"
}

fn fragments(packet: &mut Packet, rng: &mut Rng) -> &'static str {
    if rng.u8(..4) == 0 && packet.src.is_ipv4() {
        packet.fragment = rng.u16(..);
        return "fragments";
    }
    let mut at: Vec<u16> = (0..rng.usize(1..4)).map(|_| rng.u16(1..8)).collect();
    at.sort_unstable();
    at.dedup();
    let mut order: Vec<usize> = (0..=at.len()).collect();
    match rng.u8(..6) {
        0 => drop(order.pop()),
        1 => drop(order.remove(0)),
        2 => rng.shuffle(&mut order),
        3 => order.push(0),
        _ => {}
    }
    packet.cut = Some(Cut {
        at,
        order,
        overlap: if rng.u8(..6) == 0 { 1 } else { 0 },
        id: rng.u32(1..),
    });
    packet.fragment = 0;
    "fragments"
}
