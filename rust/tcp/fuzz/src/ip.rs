// SPDX-License-Identifier: GPL-2.0-only

//! IP headers: read, written, and turned where they stand.

use crate::{Result, Unstructured};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use synproxy_tcp::ip::{
    is_plain_v4, is_plain_v6, renew, tcp_offset, traffic_class, turn, Header, Repr, MAX_HEADER_LEN,
    V4_HEADER_LEN, V6_HEADER_LEN,
};

/// The property.
pub fn property(u: &mut Unstructured<'_>) -> Result<()> {
    let (src, dst) = if u.arbitrary()? {
        (
            IpAddr::V4(Ipv4Addr::from_bits(u.arbitrary()?)),
            IpAddr::V4(Ipv4Addr::from_bits(u.arbitrary()?)),
        )
    } else {
        (
            IpAddr::V6(Ipv6Addr::from_bits(u.arbitrary()?)),
            IpAddr::V6(Ipv6Addr::from_bits(u.arbitrary()?)),
        )
    };
    let repr = Repr {
        src,
        dst,
        traffic_class: u.arbitrary()?,
        hop_limit: u.arbitrary()?,
    };
    emitted(&repr);
    let other = if repr.src.is_ipv4() {
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    } else {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    };
    for (src, dst) in [(other, repr.dst), (repr.src, other)] {
        let mixed = Repr { src, dst, ..repr };
        assert_eq!(mixed.emit(&mut [0; MAX_HEADER_LEN]), None);
    }

    let is_near_plain: bool = u.arbitrary()?;
    let (mut len, hop_limit) = (u.arbitrary::<u16>()?.into(), u.arbitrary()?);
    let mut bytes = u.bytes(u.len().min(64))?.to_vec();
    if is_near_plain && bytes.len() >= MAX_HEADER_LEN {
        // One step away from it, if any.
        let (change, to) = (usize::from(hop_limit), bytes[0]);
        if to & 1 == 0 {
            bytes[0] = 0x45;
            bytes[6] &= 0x40;
            bytes[7] = 0;
            bytes[9] = 6;
            len = u16::from_be_bytes([bytes[2], bytes[3]]).into();
        } else {
            bytes[0] = 0x60;
            bytes[6] = 6;
            len = V6_HEADER_LEN + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        }
        if let Some(byte) = bytes.get_mut(change) {
            *byte = to;
        }
    }
    read(&bytes, len, hop_limit);
    Ok(())
}

/// What is written is what was meant.
fn emitted(repr: &Repr) {
    let mut out = [0xee; MAX_HEADER_LEN];
    let len = repr.emit(&mut out).expect("one version");
    let header = Header::new(&out[..len]).expect("a header");
    assert!(out[len..].iter().all(|byte| *byte == 0xee));
    assert_eq!((header.src, header.dst), (repr.src, repr.dst));
    assert_eq!(tcp_offset(&out), Some(len));
    if let (IpAddr::V4(src), IpAddr::V4(dst)) = (repr.src, repr.dst) {
        let theirs = Ipv4HeaderSlice::from_slice(&out[..len]).expect("a header");
        assert_eq!(
            (theirs.source_addr(), theirs.destination_addr()),
            (src, dst)
        );
        assert_eq!(theirs.dcp().value() << 2, repr.traffic_class & !3);
        assert_eq!(theirs.ecn().value(), 0);
        assert_eq!(
            (theirs.ttl(), theirs.protocol()),
            (repr.hop_limit, IpNumber::TCP)
        );
        assert!(theirs.dont_fragment() && !theirs.is_fragmenting_payload());
    } else {
        let theirs = Ipv6HeaderSlice::from_slice(&out[..len]).expect("a header");
        assert_eq!(theirs.source_addr(), repr.src);
        assert_eq!(theirs.destination_addr(), repr.dst);
        assert_eq!(theirs.traffic_class(), repr.traffic_class & !3);
        assert_eq!(
            (theirs.hop_limit(), theirs.next_header()),
            (repr.hop_limit, IpNumber::TCP)
        );
        assert_eq!(theirs.flow_label().value(), 0);
    }
}

/// What etherparse reads of the fixed part of a header.
struct Theirs {
    header: Header,
    /// Of the whole packet.
    total_len: usize,
    is_fragment: bool,
    is_between_hosts: bool,
}

fn by_etherparse(bytes: &[u8]) -> Option<Theirs> {
    if bytes.len() >= V4_HEADER_LEN && bytes[0] >> 4 == 4 {
        // It wants the options as well.
        let mut padded = bytes.to_vec();
        padded.resize(60.max(bytes.len()), 0);
        let header = Ipv4HeaderSlice::from_slice(&padded).ok()?;
        let (src, dst) = (header.source_addr(), header.destination_addr());
        let is_host = |addr: Ipv4Addr| {
            let [first, ..] = addr.octets();
            !(addr.is_multicast() || addr.is_loopback() || first == 0 || first >= 240)
        };
        return Some(Theirs {
            total_len: header.total_len().into(),
            is_fragment: header.is_fragmenting_payload(),
            is_between_hosts: is_host(src) && is_host(dst),
            header: Header {
                src: src.into(),
                dst: dst.into(),
                traffic_class: header.dcp().value() << 2 | header.ecn().value(),
                protocol: header.protocol().0,
                len: header.slice().len(),
                is_later_fragment: header.fragments_offset().value() != 0,
            },
        });
    }
    let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
    let (src, dst) = (header.source_addr(), header.destination_addr());
    let is_host =
        |addr: Ipv6Addr| !(addr.is_multicast() || addr.is_loopback() || addr.is_unspecified());
    Some(Theirs {
        total_len: V6_HEADER_LEN + usize::from(header.payload_length()),
        is_fragment: false,
        is_between_hosts: is_host(src) && is_host(dst),
        header: Header {
            src: src.into(),
            dst: dst.into(),
            traffic_class: header.traffic_class(),
            protocol: header.next_header().0,
            len: V6_HEADER_LEN,
            is_later_fragment: false,
        },
    })
}

/// What is read is what stands there; `len` is what the packet has.
pub fn read(bytes: &[u8], len: usize, hop_limit: u8) {
    let theirs = by_etherparse(bytes);
    assert_eq!(
        Header::new(bytes),
        theirs.as_ref().map(|theirs| theirs.header)
    );

    let version = bytes.first().map_or(0, |first| first >> 4);
    let is_v4 = version == 4;
    let fixed_len = bytes.first().and_then(|first| Header::fixed_len(*first));
    assert_eq!(
        fixed_len,
        match version {
            4 => Some(V4_HEADER_LEN),
            6 => Some(V6_HEADER_LEN),
            _ => None,
        }
    );
    if let Some(theirs) = &theirs {
        assert_eq!(traffic_class(bytes), theirs.header.traffic_class);
    }
    for short in 0..bytes.len().min(2) {
        assert_eq!(traffic_class(&bytes[..short]), 0);
    }
    let tcp = theirs
        .as_ref()
        .filter(|theirs| theirs.header.protocol == 6)
        .filter(|theirs| !is_v4 || theirs.header.len == V4_HEADER_LEN);
    // Of IPv6 this needs less than the whole header.
    let offset = tcp.filter(|theirs| !theirs.header.is_later_fragment);
    if is_v4 || bytes.len() >= V6_HEADER_LEN {
        assert_eq!(tcp_offset(bytes), offset.map(|theirs| theirs.header.len));
    }

    let plain = tcp
        .filter(|theirs| !theirs.is_fragment && theirs.is_between_hosts && theirs.total_len == len);
    assert_eq!(is_plain_v4(bytes, len), plain.is_some() && is_v4);
    assert_eq!(is_plain_v6(bytes, len), plain.is_some() && !is_v4);
    if let Some(plain) = plain {
        turned(bytes, &plain.header, hop_limit);
    }
}

/// Turned or made anew, a plain header is as if it had been written.
fn turned(bytes: &[u8], header: &Header, hop_limit: u8) {
    let mut packet = [0xee; MAX_HEADER_LEN];
    packet[..header.len].copy_from_slice(&bytes[..header.len]);
    let way = Repr {
        src: header.src,
        dst: header.dst,
        traffic_class: header.traffic_class,
        hop_limit,
    };
    let back = Repr {
        src: header.dst,
        dst: header.src,
        ..way
    };
    for (change, expected) in [
        (turn as fn(&mut _, _) -> _, back),
        (renew as fn(&mut _, _) -> _, way),
    ] {
        let (mut ours, mut written) = (packet, [0xee; MAX_HEADER_LEN]);
        assert_eq!(change(&mut ours, hop_limit), Some(header.len));
        assert_eq!(expected.emit(&mut written), Some(header.len));
        assert_eq!(ours, written);
    }
}
