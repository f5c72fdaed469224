// SPDX-License-Identifier: GPL-2.0-only

//! TCP headers: read, written and cut.

use crate::{options, Result, Unstructured};
use etherparse::{TcpHeader, TcpHeaderSlice};
use synproxy_tcp::{
    hold::Span,
    options::Options,
    segment::{flags, Repr, Segment, View, HEADER_LEN, MAX_HEADER_LEN},
};

/// Bytes 12 and 13 as etherparse reads them, the control bits in the lower one.
fn control(header: &TcpHeaderSlice<'_>) -> u8 {
    let bits = [
        (header.fin(), flags::FIN),
        (header.syn(), flags::SYN),
        (header.rst(), flags::RST),
        (header.psh(), flags::PSH),
        (header.ack(), flags::ACK),
        (header.urg(), flags::URG),
        (header.ece(), flags::ECE),
        (header.cwr(), flags::CWR),
    ];
    bits.iter()
        .filter(|(on, _)| *on)
        .fold(0, |all, (_, bit)| all | bit)
}

/// A header as it may come, checksum and options included.
pub fn any(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let fixed: [u8; HEADER_LEN] = u.arbitrary()?;
    let options = options::words(u)?;
    let mut header = fixed.to_vec();
    header[12] = fixed[12] & 0x0f | (HEADER_LEN + options.len()) as u8 * 4;
    header.extend(options);
    Ok(header)
}

/// Any that the core may write.
pub fn any_repr(u: &mut Unstructured<'_>) -> Result<Repr> {
    Ok(Repr {
        src_port: u.arbitrary()?,
        dst_port: u.arbitrary()?,
        seq: u.arbitrary()?,
        ack: u.arbitrary()?,
        flags: u.arbitrary()?,
        window: u.arbitrary()?,
        options: options::any(u)?,
    })
}

/// `repr` on the wire.
pub fn bytes(repr: &Repr) -> Vec<u8> {
    let mut out = [0xee; MAX_HEADER_LEN];
    let len = repr.emit(&mut out);
    assert!(out[len..].iter().all(|byte| *byte == 0xee));
    out[..len].to_vec()
}

/// `repr` as it comes in, with so many bytes of payload.
pub fn received(repr: &Repr, payload: usize) -> Segment {
    let bytes = bytes(repr);
    Segment::new(&bytes, bytes.len() + payload).expect("a whole header")
}

/// The property.
pub fn property(u: &mut Unstructured<'_>) -> Result<()> {
    emitted(&any_repr(u)?);

    let payload = u.int_in_range(0..=u16::MAX)?;
    let step = u.int_in_range(1..=u16::MAX)?;
    let (bytes, total) = if u.arbitrary()? {
        let bytes = any(u)?;
        let total = bytes.len() + usize::from(payload);
        (bytes, total)
    } else {
        let bytes = u.bytes(u.len().min(MAX_HEADER_LEN + 4))?;
        (bytes.to_vec(), payload.into())
    };
    if let Some(segment) = read(&bytes, total) {
        // Few, however long it is.
        let step = usize::from(step).max(segment.payload_len() / 8);
        cut(&bytes, &segment, step);
    }
    Ok(())
}

/// What is written is what was meant.
fn emitted(repr: &Repr) {
    let bytes = bytes(repr);
    let (theirs, rest) = TcpHeader::from_slice(&bytes).expect("a header");
    assert!(rest.is_empty());
    assert_eq!(theirs.to_bytes().as_slice(), bytes);
    assert_eq!(
        (theirs.source_port, theirs.destination_port),
        (repr.src_port, repr.dst_port)
    );
    assert_eq!(
        (theirs.sequence_number, theirs.acknowledgment_number),
        (repr.seq, repr.ack)
    );
    assert_eq!((theirs.window_size, theirs.checksum), (repr.window, 0));
    assert!(!theirs.ns && theirs.urgent_pointer == 0);
    let slice = TcpHeaderSlice::from_slice(&bytes).expect("a header");
    assert_eq!(control(&slice), repr.flags);
    assert_eq!(options::by_etherparse(slice.options()), Some(repr.options));
}

/// What is read is what stands there, for who has a copy and who has not.
pub fn read(bytes: &[u8], total: usize) -> Option<Segment> {
    let theirs = TcpHeaderSlice::from_slice(bytes)
        .ok()
        .filter(|header| header.slice().len() <= total);
    let (view, copy) = (View::view(bytes, total), Segment::new(bytes, total));
    let Some(theirs) = theirs else {
        assert!(view.is_none() && copy.is_none());
        return None;
    };
    let (view, copy) = (view.expect("a header"), copy.expect("a header"));
    is_read(&view, &theirs, total);
    is_read(&view.to_owned(), &theirs, total);
    is_read(&copy, &theirs, total);
    Some(copy)
}

fn is_read<B: AsRef<[u8]>>(segment: &Segment<B>, theirs: &TcpHeaderSlice<'_>, total: usize) {
    assert_eq!(segment.src_port(), theirs.source_port());
    assert_eq!(segment.dst_port(), theirs.destination_port());
    assert_eq!(segment.seq(), theirs.sequence_number());
    assert_eq!(segment.ack(), theirs.acknowledgment_number());
    assert_eq!(segment.window(), theirs.window_size());
    assert_eq!(segment.flags(), control(theirs));
    assert_eq!(segment.header_len(), theirs.slice().len());
    assert_eq!(segment.payload_len(), total - theirs.slice().len());
    assert_eq!(segment.raw_options(), theirs.options());
    assert_eq!(segment.options(), options::known(theirs.options()));

    let ends = theirs.fin() || theirs.rst();
    let opens = theirs.syn() && !ends;
    assert_eq!(segment.is_syn(), opens && !theirs.ack());
    assert_eq!(segment.is_syn_ack(), opens && theirs.ack());
    assert_eq!(segment.is_ack(), theirs.ack() && !theirs.syn() && !ends);
    assert_eq!(segment.is_rst(), theirs.rst());
}

/// Parts of at most `step` bytes say together what the whole does.
fn cut(bytes: &[u8], whole: &Segment, step: usize) {
    let len = whole.payload_len();
    let expected = Options {
        timestamps: whole.options().timestamps,
        ..Options::default()
    };
    let mut next = whole.seq();
    let mut from = 0;
    loop {
        let part_len = step.min(len - from);
        let is_last = from + part_len == len;
        let mut out = [0xee; MAX_HEADER_LEN];
        let header_len = whole.cut(from, part_len, (1, 2), &mut out);
        let part = read(&out[..header_len], header_len + part_len).expect("a header");

        assert_eq!((part.src_port(), part.dst_port()), (1, 2));
        assert_eq!((part.ack(), part.window()), (whole.ack(), whole.window()));
        assert_eq!(part.options(), expected);
        assert_eq!(part.payload_len(), part_len);
        // Reserved bits and the urgent pointer stay, the checksum does not.
        assert_eq!(
            (out[12] & 0x0f, &out[18..20]),
            (bytes[12] & 0x0f, &bytes[18..20])
        );
        assert_eq!(out[16..18], [0, 0]);

        let mut lost = 0;
        if from != 0 {
            lost |= flags::CWR;
        }
        if !is_last {
            lost |= flags::FIN | flags::PSH;
        }
        assert_eq!(part.flags(), whole.flags() & !lost);

        let span = Span::of(&part);
        assert_eq!(span.seq, next);
        next = span.end();
        from += part_len;
        if is_last {
            break;
        }
    }
    assert_eq!(next, Span::of(whole).end());
}
