// SPDX-License-Identifier: GPL-2.0-only

//! Clients that wait: born, looked up, refused.
//!
//! A waiting client is a confirmed conntrack entry and nothing else. Conntrack owns it: it frees it
//! at its timeout, with `conntrack -D`, with its namespace. We change it in two places only. `enter`
//! fills it while it is still unconfirmed, and so known to one CPU; `open` takes it by one
//! compare-and-exchange on the last word and then deletes it. Everybody else reads. A client that
//! resets ends its own entry: conntrack deletes what has never seen a reply. When the module
//! goes, `relay` deletes what waits; should an entry be missed, the kernel's own guard (see
//! `conntrack::hold`) drops its packets without us, until it times out.

use crate::{
    answer,
    netfilter::{
        conntrack::{self, Conn, Status},
        hook::Verdict,
        skb::SkBuff,
        Net,
    },
    stats::{self, Counter},
    tcp::{
        state::{self, Marks, COOKIE_LIFE},
        Phase, Segment,
    },
};

/// How long a client may wait for a verdict, in seconds.
const GATE_TIMEOUT: u32 = 30;

/// Where the connection stands.
pub(crate) fn phase(ct: &Conn) -> Phase {
    // Most connections are none of ours, and every packet of theirs comes here.
    let Some(words) = ct.synproxy() else {
        return Phase::None;
    };
    // The status first: who sees its bits sees the words that were stored before.
    let marks = Marks {
        seq_adjust: ct.is(Status::SeqAdjust),
        fixed_timeout: ct.is(Status::FixedTimeout),
        seqadj: ct.has_seqadj(),
        expires: ct.expires(),
    };
    let phase = Phase::of(Some(words.load()), marks);
    match phase {
        // Its client, or an operator, has ended it.
        Phase::Waiting(_) | Phase::Refused(_) if ct.is(Status::Dying) || ct.is_closed() => {
            Phase::Gone
        }
        Phase::Refused(_) => {
            let [_, _, last] = words.load();
            if state::late(last).is_some_and(|late| words.swap_last(last, late)) {
                stats::count(ct.net(), Counter::GateTimeouts);
            }
            phase
        }
        _ => phase,
    }
}

/// Whether `segment`, of the client, starts anew on the ports of a connection that the server has
/// not answered yet. Its old cookie does it no good for that.
pub(crate) fn is_new_syn(phase: &Phase, segment: &Segment) -> bool {
    segment.is_syn() && phase.client_isn().is_some_and(|isn| isn != segment.seq())
}

/// The ACK of a client at the rule for `--none`: with a valid cookie it makes the packet's new entry
/// a waiting one. Data that comes with it was not seen by an engine and is sent again.
pub(crate) fn enter(net: &Net, skb: &mut SkBuff, ack: &Segment) -> Verdict {
    // In silence: a segment of a good client that was overtaken has a bad cookie, too.
    let Some(waiting) = answer::client(skb, ack) else {
        stats::count(net, Counter::CookieInvalid);
        return Verdict::Drop;
    };
    stats::count(net, Counter::CookieValid);
    match conntrack::hold(
        skb,
        waiting.pack(),
        GATE_TIMEOUT.saturating_add(COOKIE_LIFE),
    ) {
        Ok(()) => {
            stats::count(net, Counter::InProgress);
            Verdict::Consume
        }
        Err(_) => Verdict::Drop,
    }
}

/// A verdict that comes too late: the client learns that there will be no connection.
pub(crate) fn refuse(net: &Net, skb: &SkBuff, segment: &Segment) {
    stats::count(net, Counter::Refused);
    if segment.is_ack() {
        answer::reset(net, skb, segment);
    }
}
