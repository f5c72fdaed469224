// SPDX-License-Identifier: GPL-2.0-only

//! TCP options: parse, emit, parse.

use crate::{Result, Unstructured};
use etherparse::{TcpOptionElement as Element, TcpOptions, TcpOptionsIterator};
use synproxy_tcp::{
    options::{self, kind, Options, Timestamps, MAX_LEN, MAX_WSCALE},
    sack, timestamp,
};

/// The options in `bytes`, RFC 9293 section 3.1: where each begins, and all of its bytes.
pub fn read(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut found = vec![];
    let mut at = 0;
    while at < bytes.len() && bytes[at] != kind::END {
        if bytes[at] == kind::NOP {
            at += 1;
            continue;
        }
        let len = bytes.get(at + 1).map_or(0, |len| usize::from(*len));
        if len < 2 || at + len > bytes.len() {
            break;
        }
        found.push((at, &bytes[at..at + len]));
        at += len;
    }
    found
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// What a SYN proxy has to know of `bytes`: the last of each kind counts, as in Linux.
pub fn known(bytes: &[u8]) -> Options {
    let mut known = Options::default();
    for (_, option) in read(bytes) {
        match (option[0], &option[2..]) {
            (kind::MSS, data) if data.len() == 2 => known.mss = Some(number(data) as u16),
            (kind::WINDOW, &[shift]) => known.wscale = Some(shift.min(MAX_WSCALE)),
            (kind::SACK_PERM, []) => known.sack_perm = true,
            (kind::TIMESTAMP, data) if data.len() == 8 => {
                known.timestamps = Some(Timestamps {
                    val: number(&data[..4]),
                    ecr: number(&data[4..]),
                });
            }
            _ => {}
        }
    }
    known
}

/// The same, by etherparse; `None` where it gives up: it passes over nothing that it does not know.
pub fn by_etherparse(bytes: &[u8]) -> Option<Options> {
    let mut known = Options::default();
    for element in TcpOptionsIterator::from_slice(bytes) {
        match element.ok()? {
            Element::MaximumSegmentSize(mss) => known.mss = Some(mss),
            Element::WindowScale(shift) => known.wscale = Some(shift.min(MAX_WSCALE)),
            Element::SelectiveAcknowledgementPermitted => known.sack_perm = true,
            Element::Timestamp(val, ecr) => known.timestamps = Some(Timestamps { val, ecr }),
            Element::Noop | Element::SelectiveAcknowledgement(..) => {}
        }
    }
    Some(known)
}

/// Any that the core may write.
pub fn any(u: &mut Unstructured<'_>) -> Result<Options> {
    let present = u.arbitrary::<u8>()?;
    let wscale = u.int_in_range(0..=MAX_WSCALE)?;
    Ok(Options {
        mss: (present & 1 != 0).then_some(u.arbitrary()?),
        wscale: (present & 2 != 0).then_some(wscale),
        sack_perm: present & 4 != 0,
        timestamps: (present & 8 != 0).then_some(Timestamps {
            val: u.arbitrary()?,
            ecr: u.arbitrary()?,
        }),
    })
}

/// The options of a segment as they may come: whole words, of real options or of anything.
pub fn words(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = if u.arbitrary()? {
        written(u)?
    } else {
        let len = u.int_in_range(0..=MAX_LEN)?;
        u.bytes(len.min(u.len()))?.to_vec()
    };
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

/// As etherparse writes them, of any kind and in any order.
fn written(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut elements = vec![];
    for _ in 0..u.int_in_range(1..=8)? {
        elements.push(match u.int_in_range(0..=5)? {
            0 => Element::Noop,
            1 => Element::MaximumSegmentSize(u.arbitrary()?),
            2 => Element::WindowScale(u.arbitrary()?),
            3 => Element::SelectiveAcknowledgementPermitted,
            4 => Element::Timestamp(u.arbitrary()?, u.arbitrary()?),
            _ => {
                // They are one behind the other.
                let more = u.int_in_range(0..=3)?;
                let mut rest = [None; 3];
                for block in rest.iter_mut().take(more) {
                    *block = Some(u.arbitrary()?);
                }
                Element::SelectiveAcknowledgement(u.arbitrary()?, rest)
            }
        });
    }
    // As many as there is room for.
    Ok(loop {
        match TcpOptions::try_from_elements(&elements) {
            Ok(options) => break options.as_slice().to_vec(),
            Err(_) => elements.pop(),
        };
    })
}

/// The property.
pub fn property(u: &mut Unstructured<'_>) -> Result<()> {
    let options = any(u)?;
    emitted(&options);

    if u.arbitrary()? {
        let bytes = written(u)?;
        assert!(by_etherparse(&bytes).is_some(), "{bytes:?}");
        parsed(&bytes);
    } else {
        // A header is cut where its packet is: not only whole words.
        parsed(u.bytes(u.len().min(MAX_LEN + 1))?);
    }
    Ok(())
}

/// What is written is what was meant.
pub fn emitted(options: &Options) {
    let mut out = [0xee; MAX_LEN];
    let len = options.emit(&mut out);
    let (bytes, rest) = out.split_at(len);
    assert!(len % 4 == 0 && rest.iter().all(|byte| *byte == 0xee));
    assert_eq!(Options::parse(bytes), *options);
    assert_eq!(by_etherparse(bytes), Some(*options));
    assert_eq!(known(bytes), *options);
}

/// What is read is what stands there.
pub fn parsed(bytes: &[u8]) {
    let parsed = Options::parse(bytes);
    assert_eq!(parsed, known(bytes), "{bytes:?}");
    if let Some(theirs) = by_etherparse(bytes) {
        assert_eq!(parsed, theirs, "{bytes:?}");
    }
    // Once more, through what we write.
    emitted(&parsed);

    let walked: Vec<_> = options::walk(bytes)
        .map(|raw| (raw.offset - 2, raw.kind, raw.data))
        .collect();
    let options = read(bytes);
    let expected: Vec<_> = options
        .iter()
        .map(|(at, option)| (*at, option[0], &option[2..]))
        .collect();
    assert_eq!(walked, expected, "{bytes:?}");

    if let Some(timestamps) = options::only_timestamps(bytes) {
        let only = Options {
            timestamps: Some(timestamps),
            ..Options::default()
        };
        assert_eq!(parsed, only, "{bytes:?}");
    }

    // The first counts there, as in the kernel's own.
    let first = options
        .iter()
        .find(|(_, option)| option[0] == kind::TIMESTAMP && option.len() == 10);
    let expected = first.map(|(at, option)| {
        let (val, ecr) = (number(&option[2..6]), number(&option[6..]));
        (20 + at + 2, Timestamps { val, ecr })
    });
    assert_eq!(timestamp::find(bytes), expected, "{bytes:?}");

    let odd = options
        .iter()
        .filter(|(at, option)| at % 2 == 1 && option[0] == kind::SACK && option.len() % 8 == 2)
        .flat_map(|(_, option)| option[2..].chunks(4).map(number));
    assert!(sack::odd_edges(bytes).eq(odd), "{bytes:?}");
}
