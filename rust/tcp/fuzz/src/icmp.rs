// SPDX-License-Identifier: GPL-2.0-only

//! ICMP errors: who is told of a packet of its own finds its own numbers in it.

use crate::{options, segment, translation, Result, Unstructured};
use synproxy_tcp::{
    icmp::{Kind, Quote, Translation},
    options::kind,
    segment::{HEADER_LEN, MAX_HEADER_LEN},
    timestamp::Direction,
};
use translation::number_at;

const SEQ: usize = 4;
const ACK: usize = 8;

/// The property.
pub fn property(u: &mut Unstructured<'_>) -> Result<()> {
    let direction = translation::direction(u)?;
    let translation = Translation {
        seq_offset: u.arbitrary()?,
        timestamp_offset: u.arbitrary()?,
        server_end: u.arbitrary()?,
    };
    let (len, ahead) = (u.int_in_range(0..=MAX_HEADER_LEN + 1)?, u.arbitrary()?);
    kinds(u.arbitrary()?, u.arbitrary()?);
    let header = segment::any(u)?;
    quoted(&header, len, direction, &translation);
    sent(header, len, direction, &translation, ahead);
    Ok(())
}

fn padded(header: &[u8]) -> [u8; MAX_HEADER_LEN] {
    let mut bytes = [0xee; MAX_HEADER_LEN];
    bytes[..header.len()].copy_from_slice(header);
    bytes
}

/// What is to be written stands in the quote.
fn quoted(
    header: &[u8],
    len: usize,
    direction: Direction,
    translation: &Translation,
) -> Option<Vec<u8>> {
    let header = padded(header);
    let quote = Quote::new(header, len);
    assert_eq!(quote.is_some(), (8..=MAX_HEADER_LEN).contains(&len));
    let quote = quote?;
    assert_eq!(quote.seq(), number_at(&header, SEQ));
    assert_eq!(quote.has_checksum(), len >= 18);
    let mut bytes = header[..len].to_vec();
    for rewrite in quote.untranslate(direction, translation) {
        let at = rewrite.offset;
        assert_eq!(rewrite.old, number_at(&bytes, at));
        assert_ne!(rewrite.old, rewrite.new);
        bytes[at..at + 4].copy_from_slice(&rewrite.new.to_be_bytes());
    }
    Some(bytes)
}

/// A packet is sent, its number so far from the last one of the server, and quoted on either side of us.
fn sent(
    mut header: Vec<u8>,
    len: usize,
    direction: Direction,
    translation: &Translation,
    ahead: i16,
) {
    let Translation {
        seq_offset,
        timestamp_offset,
        server_end,
    } = *translation;
    // Not to be told apart: the server's number and ours are too close to each other.
    let apart = seq_offset.min(seq_offset.wrapping_neg());
    if apart <= 2 * u32::from(ahead.unsigned_abs()) {
        return;
    }
    let number = server_end.wrapping_add_signed(ahead.into());
    let (field, by, is_val) = match direction {
        Direction::Reply => (SEQ, seq_offset, true),
        Direction::Original => (ACK, seq_offset.wrapping_neg(), false),
    };
    let theirs = match direction {
        Direction::Reply => number,
        Direction::Original => number.wrapping_add(seq_offset),
    };
    let mut put = |at: usize, number: u32| {
        header[at..at + 4].copy_from_slice(&number.to_be_bytes());
        header.clone()
    };
    let original = put(field, theirs);
    let mut translated = put(field, theirs.wrapping_add(by));
    let stamp = options::read(&original[HEADER_LEN..])
        .into_iter()
        .find(|(_, option)| option[0] == kind::TIMESTAMP && option.len() == 10)
        .map(|(at, _)| HEADER_LEN + at);
    if let Some(at) = stamp {
        let (at, to) = if is_val {
            let at = at + 2;
            (at, number_at(&original, at).wrapping_sub(timestamp_offset))
        } else {
            let at = at + 6;
            (at, number_at(&original, at).wrapping_add(timestamp_offset))
        };
        translated[at..at + 4].copy_from_slice(&to.to_be_bytes());
    }

    // By a host that we have asked ourselves.
    if let Some(bytes) = quoted(&original, len, direction, translation) {
        assert_eq!(bytes, padded(&original)[..len]);
    }
    // By a router behind us: what has been quoted in part stays.
    if let Some(bytes) = quoted(&translated, len, direction, translation) {
        let mut expected = padded(&translated);
        let complete = padded(&original);
        let options = stamp.filter(|at| at + 10 <= len).map(|at| at..at + 10);
        for range in [
            Some(field..field + 4).filter(|field| field.end <= len),
            options,
        ]
        .into_iter()
        .flatten()
        {
            expected[range.clone()].copy_from_slice(&complete[range]);
        }
        assert_eq!(bytes, expected[..len]);
    }
}

/// RFC 792 and RFC 4443, and of the codes RFC 1122 section 3.2.2.1: too big is no end.
fn kinds(kind: u8, code: u8) {
    let is_end = [3, 11, 12].contains(&kind) && (kind, code) != (3, 4);
    assert_eq!(Kind::v4(kind, code) == Kind::Unreachable, is_end);
    let expected = match kind {
        1 | 3 | 4 => Some(Kind::Unreachable),
        // The highest bit tells errors from other messages.
        _ if kind & 0x80 == 0 => Some(Kind::Soft),
        _ => None,
    };
    assert_eq!(Kind::v6(kind), expected);
}
