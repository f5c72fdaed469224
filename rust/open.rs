// SPDX-License-Identifier: GPL-2.0-only

//! The connection to the server.
//!
//! Address translation cannot be set on a confirmed entry, so the waiting one is deleted and our SYN
//! makes a fresh one. The SYN is shown to conntrack here, before it is sent: its entry is filled
//! while this CPU alone knows it, and confirmed at POST_ROUTING. A retransmitted SYN finds the same
//! entry. When something fails after the waiting entry is gone, nothing was sent, and the client's
//! retransmission, whose cookie is still good, starts at the gate again.

use crate::{
    answer,
    netfilter::{
        conntrack::{self, Conn, Status},
        hook::Verdict,
        nat,
        route::Routed,
        skb::{OwnedSkb, SkBuff},
        Net,
    },
    tcp::{handshake, state, Phase, Segment, Waiting},
};
use kernel::prelude::*;

/// A verdict has come for a client that waits: `segment` is what it was given on.
pub(crate) fn deferred(
    net: &Net,
    skb: &SkBuff,
    ct: &Conn,
    waiting: &Waiting,
    segment: &Segment,
) -> Verdict {
    let [_, _, last] = waiting.pack();
    let corrected = handshake::may_correct(waiting, segment)
        .then(|| answer::client(skb, segment))
        .flatten();
    let waiting = &corrected.unwrap_or(*waiting);
    if !handshake::may_open(waiting, segment) {
        return Verdict::Drop;
    }
    // Of two CPUs one opens.
    if !ct
        .synproxy()
        .is_some_and(|words| words.swap_last(last, state::taken(last)))
    {
        return Verdict::Drop;
    }
    ct.delete();
    match connect(net, skb, waiting, segment, Some(ct)) {
        // The data comes again when the server has answered.
        Ok(()) => Verdict::Consume,
        Err(_) => Verdict::Drop,
    }
}

/// The ACK of a client at a rule for packets without an entry: with a valid cookie the server hears
/// of it at once.
pub(crate) fn immediate(net: &Net, skb: &SkBuff, ack: &Segment) -> Verdict {
    let Some(waiting) = answer::client(skb, ack) else {
        return Verdict::Drop;
    };
    match connect(net, skb, &waiting, ack, None) {
        Ok(()) => Verdict::Consume,
        Err(_) => Verdict::Drop,
    }
}

/// Sends the SYN, in the client's name and from its point of view; `old` is the entry of a client
/// that waited.
fn connect(
    net: &Net,
    skb: &SkBuff,
    waiting: &Waiting,
    segment: &Segment,
    old: Option<&Conn>,
) -> Result {
    let flow = answer::client_flow(skb, segment).ok_or(EINVAL)?;
    let syn = handshake::syn(waiting, segment);
    let out = OwnedSkb::tcp(net, flow.client, flow.server, &syn.repr, skb.manner())?;
    let mut out = Routed::new(net, out, skb)?;

    let ct = conntrack::track_syn(net, &mut out, old)?;
    let words = ct.synproxy().ok_or(EINVAL)?;
    if ct.is(Status::Confirmed) {
        // The same client's ACK once more, before the server has answered: so is our SYN.
        match crate::gate::phase(ct) {
            Phase::Opening {
                proxy_isn,
                client_isn,
                ..
            } if proxy_isn == waiting.proxy_isn && client_isn == waiting.client_isn => {}
            // An older attempt on the same ports, that the server has not answered: it gives way
            // to the client's next packet.
            Phase::Opening { .. } => {
                ct.delete();
                return Err(EAGAIN);
            }
            _ => return Err(EEXIST),
        }
    } else {
        words.store([waiting.proxy_isn, syn.timestamp, waiting.client_isn]);
        if let Some(old) = old {
            ct.set_mark(old.mark());
            nat::copy_destination(ct, old)?;
        }
    }
    out.send(net);
    Ok(())
}
