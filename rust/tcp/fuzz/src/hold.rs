// SPDX-License-Identifier: GPL-2.0-only

//! What a waiting client sends: held in the order of its stream, nothing twice, no contradiction.
//!
//! The model is a map from a byte's place in the stream to what stands there.

use crate::{segment, Result, Unstructured};
use std::collections::BTreeMap;
use synproxy_tcp::{
    handshake,
    hold::{before, judge, reach, Judged, Span},
    options::{Options, Timestamps},
    segment::{flags, Repr},
    timestamp::Extras,
    Waiting,
};

/// What stands at the end of a stream, among its bytes.
const FIN: u16 = 256;

type Held = (Span, Vec<u8>);

/// As the module's queue: in order, and instead of those whose bytes are all in the new one.
fn push(held: &mut Vec<Held>, new: Held) {
    held.retain(|old| !new.0.covers(&old.0));
    let at = held
        .iter()
        .position(|old| before(new.0.seq, old.0.seq))
        .unwrap_or(held.len());
    held.insert(at, new);
}

/// What a segment says, place by place.
fn places(from: u32, (span, bytes): &Held) -> impl Iterator<Item = (u32, u16)> + Clone {
    let bytes: Vec<u16> = bytes.iter().map(|byte| u16::from(*byte)).collect();
    let fin = (bytes.len() < span.len as usize).then_some(FIN);
    (from..).zip(bytes.into_iter().chain(fin))
}

/// The property.
pub fn property(u: &mut Unstructured<'_>) -> Result<()> {
    let waiting = Waiting {
        client_isn: u.arbitrary()?,
        proxy_isn: u.arbitrary()?,
        mss: 1460,
        extras: Extras::default(),
        timestamps: u.arbitrary()?,
        budget: u.int_in_range(1..=64)?,
    };
    let start = waiting.client_isn.wrapping_add(1);
    let mut held: Vec<Held> = vec![];
    let mut model = BTreeMap::new();
    for _ in 0..u.int_in_range(1..=16)? {
        let (from, new) = match next(u, &waiting)? {
            Some(new) => new,
            None => continue,
        };
        let pieces = |counts| {
            held.iter()
                .map(move |(span, bytes)| (*span, bytes.as_slice(), counts))
        };
        let judged = judge(&new.0, &new.1, pieces(true));
        let known = places(from, &new).filter_map(|(at, is)| Some((model.get(&at)?, is)));
        let expected = if known.clone().any(|(was, is)| *was != is) {
            Judged::Contradicts
        } else if known.count() == new.0.len as usize {
            Judged::Known
        } else {
            Judged::Keep
        };
        assert_eq!(judged, expected, "{new:?} {held:?}");
        // What does not count makes nothing known, and is contradicted all the same.
        let unless_known = match expected {
            Judged::Known => Judged::Keep,
            other => other,
        };
        assert_eq!(judge(&new.0, &new.1, pieces(false)), unless_known);
        if judged == Judged::Keep {
            model.extend(places(from, &new));
            push(&mut held, new);
        }
        released(start, &held, &model);
    }
    Ok(())
}

/// A segment that may come, and where in the stream it stands, if it is to be held.
fn next(u: &mut Unstructured<'_>, waiting: &Waiting) -> Result<Option<(u32, Held)>> {
    let start = waiting.client_isn.wrapping_add(1);
    // Before the stream, too, and beyond what may come.
    let from = i32::from(u.int_in_range(-4..=70i8)?);
    let len = u.int_in_range(0..=24u8)?;
    // FIN and PSH come and go; the others say that it is not of the stream.
    let unusual: u8 = u.arbitrary()?;
    let bits = flags::ACK | unusual & (flags::FIN | flags::PSH);
    let bits = if unusual >= 0xe0 { unusual } else { bits };
    let wrong: u8 = u.arbitrary()?;
    let repr = Repr {
        seq: start.wrapping_add_signed(from),
        ack: waiting.proxy_isn.wrapping_add(1 + u32::from(wrong == 1)),
        flags: bits,
        options: Options {
            timestamps: (waiting.timestamps != (wrong == 2)).then_some(Timestamps::default()),
            ..Options::default()
        },
        ..Repr::default()
    };
    let mut bytes: Vec<u8> = (0..i32::from(len))
        .map(|at| (from + at).wrapping_mul(7) as u8)
        .collect();
    if let Some(byte) = bytes.get_mut(usize::from(wrong >> 3)) {
        *byte ^= wrong & 4;
    }
    let segment = segment::received(&repr, bytes.len());
    let space = i32::from(len) + i32::from(bits & flags::FIN != 0);
    let is_of_stream = wrong != 1
        && wrong != 2
        && bits & (flags::SYN | flags::RST | flags::URG) == 0
        && bits & flags::ACK != 0
        && space != 0;
    // One more for the FIN.
    let budget = waiting.budget as i32;
    let is_within = from >= 0 && from <= budget && from + space <= budget + 1;
    let span = handshake::span(waiting, &segment);
    assert_eq!(span.is_some(), is_of_stream && is_within, "{repr:?} {len}");
    Ok(span.map(|span| {
        assert_eq!((span.seq, span.len), (repr.seq, space as u32));
        (from as u32, (span, bytes))
    }))
}

/// What is held is in order, and all of what the model has.
fn released(start: u32, held: &[Held], model: &BTreeMap<u32, u16>) {
    let mut stream = BTreeMap::new();
    let mut last = 0;
    for new in held {
        let from = new.0.seq.wrapping_sub(start);
        assert!(from >= last, "{held:?}");
        last = from;
        stream.extend(places(from, new));
    }
    assert_eq!(stream, *model);
    let gap = (0..)
        .find(|at| !model.contains_key(at))
        .expect("not so much");
    let reached = reach(start, held.iter().map(|(span, _)| *span));
    assert_eq!(reached.wrapping_sub(start), gap);
}
