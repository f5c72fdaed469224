// SPDX-License-Identifier: GPL-2.0-only

//! Clients that wait: born, looked up, refused.
//!
//! A waiting client that has sent no data is a confirmed conntrack entry and nothing else; what it has
//! sent is in `pending`. Conntrack owns the entry: it frees it at its timeout, with `conntrack -D`, with
//! its namespace. `enter` fills it while it is still unconfirmed, and so known to one CPU. After that
//! it is changed by compare-and-exchange on the last word: `choose` and `take` end the wait, and who has
//! won deletes the entry; `bar` has it refused. Everybody else reads. A client that resets ends its wait
//! (`hold`), and is refused if it has said anything. When the module goes, `relay` deletes what waits;
//! should an entry be missed, the kernel's own guard (see `conntrack::hold`) drops its packets without us,
//! until it times out.

use crate::{
    answer, hold, module_parameters,
    netfilter::{
        clock_ms,
        conntrack::{self, Conn, Status, Tracked},
        hook::Verdict,
        pernet,
        skb::SkBuff,
        sync::{new_lock_bh, Glance, LockBh},
        xtables::Place,
        Net,
    },
    pending::Whose,
    relay::Relay,
    stats::{self, Counter},
    tcp::{
        census::Census,
        state::{self, Marks, COOKIE_LIFE},
        Phase, Rule, Segment, Waiting,
    },
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// How many clients of a namespace wait, or did in vain: what their entries may take of conntrack's
/// table is limited.
#[pin_data]
pub(crate) struct Gate {
    #[pin]
    census: LockBh<Census>,
    /// What it has counted last, so that who is not concerned takes no lock.
    total: Atomic<u32>,
    /// That of the rule by which somebody came to wait last: it limits resets to who is refused in front
    /// of all rules.
    rate: Atomic<u32>,
}

impl Gate {
    /// A gate at which nobody waits.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            census <- new_lock_bh!(Census::new()),
            total: Atomic::new(0),
            rate: Atomic::new(0),
        })
    }

    fn count<R>(&self, f: impl FnOnce(&mut Census, u32) -> R) -> R {
        self.census.with(|census| {
            let now_ms = clock_ms();
            let result = f(census, now_ms);
            self.total.store(census.total(now_ms), Relaxed);
            result
        })
    }

    fn enter(&self, life: u32) -> bool {
        let share = u64::from(crate::parameter(module_parameters::gate_share.value()));
        let limit = u64::from(conntrack::max()).wrapping_mul(share) / 100;
        // CAST: A part of what fits.
        self.count(|census, now_ms| census.enter(now_ms, life, limit as u32))
    }

    fn leave(&self, ct: &Conn) {
        self.count(|census, now_ms| census.leave(now_ms, ct.expires()));
    }
}

/// Whether nobody waits, and no connection is being opened.
#[inline]
pub(crate) fn is_idle(net: &Net) -> bool {
    has_none(net) && pernet::state::<Relay>(net).pending.is_empty()
}

/// Whether nobody waits.
#[inline]
pub(crate) fn has_none(net: &Net) -> bool {
    pernet::state::<Relay>(net).gate.total.glance() == 0
}

/// Whether it takes no more than a look to see that no client of ours waits or opens: the connection is in use,
/// and its sequence numbers are adjusted, most often by us.
#[inline]
pub(crate) fn is_open(ct: &Conn) -> bool {
    ct.is_just(
        [Status::Confirmed, Status::SeqAdjust],
        [Status::Dying, Status::FixedTimeout],
    )
}

/// By what the timestamps of a connection that is open are translated.
#[inline]
pub(crate) fn open_offset(ct: &Conn) -> Option<u32> {
    if !is_open(ct) {
        return None;
    }
    match Phase::open(ct.translated()?.load()) {
        Phase::Open {
            timestamp_offset, ..
        } => Some(timestamp_offset),
        _ => None,
    }
}

/// Where the connection stands.
pub(crate) fn phase(ct: &Conn) -> Phase {
    // Most connections are none of ours, and every packet of theirs comes here.
    let Some(words) = ct.synproxy() else {
        return Phase::None;
    };
    // The status first: who sees its bits sees the words that were stored before.
    let (seq_adjust, seqadj) = (ct.is(Status::SeqAdjust), ct.has_seqadj());
    let words_now = words.load();
    // Most of the others are open.
    if seq_adjust && seqadj {
        return Phase::open(words_now);
    }
    if seqadj {
        return Phase::opening(words_now);
    }
    let marks = Marks {
        seq_adjust,
        fixed_timeout: ct.is(Status::FixedTimeout),
        seqadj,
        expires: ct.expires(),
    };
    let phase = Phase::of(Some(words_now), marks);
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

/// Ends the wait of `ct` if its last word is `last`; of several callers one succeeds.
fn settle(net: &Net, ct: &Conn, last: u32) -> bool {
    let settled = ct
        .synproxy()
        .is_some_and(|words| words.swap_last(last, state::taken(last)));
    if settled {
        pernet::state::<Relay>(net).gate.leave(ct);
    }
    settled
}

/// Takes the client of `ct` out of those that wait, as it has ended.
pub(crate) fn take(net: &Net, ct: &Conn) {
    if let Some([_, _, last]) = ct.synproxy().map(|words| words.load()) {
        if state::is_held(last) {
            settle(net, ct, last);
        }
    }
}

/// As above, to open the connection of a client as which `ct` has been looked at: not when it has been
/// barred meanwhile. Of several callers one is told that it did.
pub(crate) fn choose(net: &Net, ct: &Conn, waiting: &Waiting) -> bool {
    let [_, _, last] = waiting.pack();
    settle(net, ct, last)
}

/// Ends the wait of `ct`, or its opening.
pub(crate) fn end(net: &Net, ct: &Conn) {
    // The last word of one that is being opened is something else.
    if matches!(
        phase(ct),
        Phase::Waiting(_) | Phase::Refused(_) | Phase::Gone
    ) {
        take(net, ct);
    }
    ct.delete();
}

/// Ends the wait of `ct`, whose client wants that: not when an engine knows of it, or it could go on
/// somewhere else in the stream that the engine believes to know. Whether it has ended.
pub(crate) fn let_go(net: &Net, ct: &Conn) -> bool {
    if let Phase::Waiting(_) | Phase::Refused(_) = phase(ct) {
        let pending = &pernet::state::<Relay>(net).pending;
        return pending.unless_spoken(ct, || end(net, ct));
    }
    end(net, ct);
    true
}

/// Whether the client of `ct`, which waits or did, has said anything that an engine may know.
pub(crate) fn has_spoken(ct: &Conn) -> bool {
    ct.is(Status::Assured)
}

/// It is about to. Conntrack must not forget it for lack of room, either.
pub(crate) fn speaks(ct: &Conn) {
    ct.set(Status::Assured);
}

/// Refuses the client of `ct` from now on; `false` when it does not wait any more.
pub(crate) fn bar(net: &Net, ct: &Conn) -> bool {
    let barred = ct.synproxy().is_some_and(|words| {
        let [_, _, last] = words.load();
        state::late(last).is_some_and(|late| words.swap_last(last, late))
    });
    if barred {
        pernet::state::<Relay>(net).pending.remove(ct);
    }
    barred
}

/// The ACK of a client at the rule for `--none`: with a valid cookie it makes the packet's new entry
/// a waiting one, or makes one where conntrack has refused to.
pub(crate) fn enter(skb: &mut SkBuff, place: Place<'_>, ack: &Segment, rule: &Rule) -> Verdict {
    let net = place.net;
    let Some(flow) = answer::client_flow(skb, ack) else {
        return Verdict::Drop;
    };
    let state = pernet::state::<Relay>(net);
    // Its connection is being opened; the hook that holds may have seen the packet before that began.
    let zone = skb.zone();
    let passing = Whose::Passing(&flow, zone.id());
    if state.pending.client(passing).is_some() {
        hold::opening(net, passing, skb, place.thoff, ack);
        return Verdict::Drop;
    }
    // In silence: a segment of a good client that was overtaken has a bad cookie, too.
    let Some(waiting) = answer::client(skb, ack) else {
        stats::count(net, Counter::CookieInvalid);
        return Verdict::Drop;
    };
    state.gate.rate.store(rule.rate, Relaxed);
    match admit(net, passing, rule, waiting, |words, life| {
        if skb.is_tracked() {
            conntrack::hold(skb, words, life)
        } else {
            conntrack::make(net, &zone, &flow, words, life)
        }
    }) {
        Ok(()) => {
            hold::again(net, skb, &flow, place.thoff, ack);
            Verdict::Consume
        }
        Err(_) => {
            // Another CPU's entry was faster, of the client's ACK for instance: the data comes in again,
            // and belongs to that, or to what has become of it. Not what conntrack gives no entry: it
            // would come in for ever.
            if let Tracked::Yes { ct, .. } = skb.tracked() {
                let has_entry = || ct.successor().is_some();
                if has_entry() || state.pending.client(passing).is_some() || has_entry() {
                    hold::again(net, skb, &flow, place.thoff, ack);
                }
            }
            Verdict::Drop
        }
    }
}

/// Lets the client `waiting` in if there is room, and `make` makes its entry.
fn admit(
    net: &Net,
    client: Whose<'_>,
    rule: &Rule,
    waiting: Waiting,
    make: impl FnOnce([u32; 3], u32) -> Result,
) -> Result {
    stats::count(net, Counter::CookieValid);
    let waiting = Waiting {
        budget: rule.window().into(),
        ..waiting
    };
    let life = rule.timeout().saturating_add(COOKIE_LIFE);
    let state = pernet::state::<Relay>(net);
    let gate = &state.gate;
    if !gate.enter(life) {
        stats::count(net, Counter::GateFull);
        return Err(ENOSPC);
    }
    let made = state.pending.admit(client, || make(waiting.pack(), life));
    match made {
        Ok(()) => stats::count(net, Counter::InProgress),
        Err(_) => gate.count(|census, now_ms| census.leave(now_ms, life)),
    }
    made
}

/// A verdict that comes too late: the client learns that there will be no connection.
pub(crate) fn refuse(net: &Net, skb: &mut SkBuff, segment: &Segment, rule: &Rule) -> Verdict {
    stats::count(net, Counter::Refused);
    if segment.is_ack() {
        answer::reset(net, skb, segment, rule)
    } else {
        Verdict::Drop
    }
}

/// The same in front of all rules.
pub(crate) fn refuse_early(net: &Net, skb: &mut SkBuff, segment: &Segment) -> Verdict {
    let rule = Rule {
        rate: pernet::state::<Relay>(net).gate.rate.load(Relaxed),
        ..Rule::default()
    };
    refuse(net, skb, segment, &rule)
}
