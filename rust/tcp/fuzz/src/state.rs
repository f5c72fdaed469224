// SPDX-License-Identifier: GPL-2.0-only

//! The 96 bits of a connection: all of them mean something, and no two the same.

use crate::{Result, Unstructured};
use synproxy_tcp::{
    state::{is_held, late, taken, Marks, Words, COOKIE_LIFE},
    timestamp::Extras,
    Phase, Waiting,
};

/// Who holds an entry by its last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Other,
    Waiting,
    Taken,
    Late,
}

fn tag(last: u32) -> Tag {
    [Tag::Other, Tag::Waiting, Tag::Taken, Tag::Late][(last / 0x4000_0000) as usize]
}

/// What the last word says of a client, by division.
fn client([client_isn, proxy_isn, last]: Words) -> Waiting {
    let bit = |at: u32| last / 2u32.pow(at) % 2 == 1;
    let wscale = (last / 0x1_0000 % 16) as u8;
    Waiting {
        client_isn,
        proxy_isn,
        mss: (last % 0x1_0000) as u16,
        extras: Extras {
            wscale: (wscale < 15).then_some(wscale),
            sack_perm: bit(20),
            ecn: bit(21),
        },
        timestamps: bit(22),
        budget: (last / 0x80_0000 % 128 + 1) * 512,
    }
}

/// The property.
pub fn property(u: &mut Unstructured<'_>) -> Result<()> {
    let words = u.arbitrary()?;
    packed(words);
    phase(None, marks(u)?);
    phase(Some(words), marks(u)?);
    for zeros in 0..8 {
        let mut some = words;
        for (at, word) in some.iter_mut().enumerate() {
            *word *= zeros >> at & 1;
        }
        phase(Some(some), marks(u)?);
    }
    Ok(())
}

fn marks(u: &mut Unstructured<'_>) -> Result<Marks> {
    Ok(Marks {
        seq_adjust: u.arbitrary()?,
        fixed_timeout: u.arbitrary()?,
        seqadj: u.arbitrary()?,
        expires: if u.arbitrary()? {
            u.arbitrary()?
        } else {
            u.int_in_range(COOKIE_LIFE - 1..=COOKIE_LIFE + 1)?
        },
    })
}

/// Words and clients are of a kind: one for each, both ways.
pub fn packed(words: Words) {
    let [client_isn, proxy_isn, last] = words;
    let is_client = matches!(tag(last), Tag::Waiting | Tag::Late);
    assert_eq!(is_held(last), is_client);
    let read = Waiting::unpack(words);
    assert_eq!(read, is_client.then(|| client(words)));
    let expected = (tag(last) == Tag::Waiting).then_some(last | 0xc000_0000);
    assert_eq!(late(last), expected);
    assert_eq!(tag(taken(last)), Tag::Taken);
    assert_eq!(taken(last) << 2, last << 2);
    if let Some(waiting) = read {
        let tag_waiting = last & 0x3fff_ffff | 0x4000_0000;
        assert_eq!(waiting.pack(), [client_isn, proxy_isn, tag_waiting]);
    }
}

/// What the marks of an entry make of its words, row by row.
pub fn phase(words: Option<Words>, marks: Marks) {
    let expected = match (words, marks.seq_adjust, marks.seqadj) {
        (None, ..) | (_, false, false) => Phase::None,
        (Some(words), true, false) => match tag(words[2]) {
            Tag::Waiting if marks.fixed_timeout && marks.expires > COOKIE_LIFE => {
                Phase::Waiting(client(words))
            }
            Tag::Waiting | Tag::Late if marks.fixed_timeout => Phase::Refused(client(words)),
            _ => Phase::Gone,
        },
        (Some([0, 0, 0]), _, true) => Phase::None,
        (Some([proxy_isn, timestamp, client_isn]), false, true) => Phase::Opening {
            proxy_isn,
            timestamp,
            client_isn,
        },
        (Some([proxy_isn, timestamp, timestamp_offset]), true, true) => Phase::Open {
            proxy_isn,
            timestamp,
            timestamp_offset,
        },
    };
    let phase = Phase::of(words, marks);
    assert_eq!(phase, expected);

    let (is_none, is_in_progress, is_finished) = match phase {
        Phase::None => (true, false, false),
        Phase::Waiting(_) | Phase::Refused(_) | Phase::Gone => (false, true, false),
        Phase::Opening { .. } => (false, false, false),
        Phase::Open { .. } => (false, false, true),
    };
    assert_eq!(phase.is_none(), is_none);
    assert_eq!(phase.is_in_progress(), is_in_progress);
    assert_eq!(phase.is_finished(), is_finished);
    // nf_confirm() drops every packet of such an entry: no other phase can have it.
    if marks.seq_adjust && !marks.seqadj && words.is_some() {
        assert!(is_in_progress);
    }

    let (client_isn, proxy_isn) = match (phase, words) {
        (Phase::Waiting(_) | Phase::Refused(_), Some([ours, proxy, _])) => {
            (Some(ours), Some(proxy))
        }
        (Phase::Opening { .. }, Some([proxy, _, ours])) => (Some(ours), Some(proxy)),
        (Phase::Open { .. }, Some([proxy, ..])) => (None, Some(proxy)),
        _ => (None, None),
    };
    assert_eq!(phase.client_isn(), client_isn);
    assert_eq!(phase.proxy_isn(), proxy_isn);
}
