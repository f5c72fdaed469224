// SPDX-License-Identifier: GPL-2.0-only

//! The connection to the server.
//!
//! Address translation cannot be set on a confirmed entry, so the waiting one is deleted and our SYN
//! makes a fresh one. The SYN is shown to conntrack here, before it is sent: its entry is filled
//! while this CPU alone knows it, and confirmed at POST_ROUTING. When something fails after the
//! waiting entry is gone, nothing was sent, and the client's retransmission, whose cookie is still
//! good, starts at the gate again.
//!
//! A SYN that has no answer yet is in its namespace's table (`pending`), and is repeated by the
//! namespace's timer; the client cannot do that, as conntrack takes its segments for INVALID until the
//! server has answered.

use crate::{
    answer, gate,
    hold::{self, Queue, Standing},
    netfilter::{
        clock_ms,
        conntrack::{self, Conn, Status, Zone},
        cookie::Flow,
        hook::{Place as HookPlace, Verdict},
        nat, pernet,
        route::{Near, Route, Routed},
        skb::{Manner, OwnedSkb, SkBuff},
        turn::Plain,
        xtables::Place,
        Net,
    },
    pending::{self, Passage},
    relay::{Purpose, Relay},
    stats::{self, Counter},
    tcp::{
        backoff::{Backoff, Step},
        handshake::{self, Syn},
        Phase, Repr, Segment, Waiting,
    },
};
use kernel::prelude::*;

/// A verdict has come for a client that waits: `segment` is what it was given on.
///
/// It counts only when the client's stream is held from its start to there. An engine that sees
/// `--in-progress` packets only does not know where the stream starts, and would take data from the
/// middle for its start.
pub(crate) fn deferred(
    skb: &SkBuff,
    place: Place<'_>,
    ct: &Conn,
    waiting: &Waiting,
    segment: &Segment,
) -> Verdict {
    let net = place.net;
    let Some(span) = handshake::span(waiting, segment) else {
        return Verdict::Drop;
    };
    // A rule in the table mangle comes before the hook that does so.
    let is_judged = hold::waiting(net, ct, skb, place.thoff, segment, Standing::Judged);
    if !is_judged || !hold::reaches(net, ct, &span) {
        return Verdict::Drop;
    }
    if segment.payload_len() == 0 || !is_ready(net, skb) {
        return Verdict::Drop;
    }
    // Of two CPUs one opens. When what was held has gone at this moment the server would get what nobody
    // has compared.
    let choose = || gate::choose(net, ct, waiting);
    let Ok(passage) = pernet::state::<Relay>(net).pending.pass(ct, choose) else {
        return Verdict::Drop;
    };
    ct.delete();
    match connect(net, skb, waiting, segment, Some(&passage)) {
        Ok(()) => Verdict::Consume,
        Err(_) => Verdict::Drop,
    }
}

/// The ACK of a client at a rule for packets without an entry: with a valid cookie the server hears
/// of it at once. Most often the ACK becomes the SYN.
pub(crate) fn immediate(skb: &mut SkBuff, place: Place<'_>) -> Verdict {
    let net = place.net;
    let plain = if skb.is_for_proxy() {
        None
    } else {
        Plain::new(skb, place.family)
    };
    if let Some(packet) = plain {
        if let Some(ack) = packet.segment() {
            let Some(waiting) = answer::client_by(&ack, || packet.flow(&ack)) else {
                stats::count(net, Counter::CookieInvalid);
                return Verdict::Drop;
            };
            stats::count(net, Counter::CookieValid);
            let syn = handshake::syn(&waiting, &ack, None);
            return match become_syn(net, packet, &waiting, &syn) {
                Ok(true) => Verdict::Send,
                Ok(false) => Verdict::Consume,
                Err(_) => Verdict::Drop,
            };
        }
    }
    let Some(ack) = skb.tcp(place.thoff) else {
        return Verdict::Drop;
    };
    let Some(waiting) = answer::client(skb, &ack) else {
        stats::count(net, Counter::CookieInvalid);
        return Verdict::Drop;
    };
    stats::count(net, Counter::CookieValid);
    if !is_ready(net, skb) {
        return Verdict::Drop;
    }
    match connect(net, skb, &waiting, &ack, None) {
        Ok(()) => Verdict::Consume,
        Err(_) => Verdict::Drop,
    }
}

/// Makes the packet the SYN, in the client's name; whether it is to be sent.
fn become_syn(net: &Net, packet: Plain<'_>, waiting: &Waiting, syn: &Syn) -> Result<bool> {
    let (near, manner) = (packet.near().ok_or(EINVAL)?, packet.manner());
    let out = packet.renew(net, &syn.repr)?;
    begin(net, out, near, waiting, syn, manner, None)
}

/// Sends the SYN, in the client's name and from its point of view; one that has waited comes by a
/// passage.
fn connect(
    net: &Net,
    skb: &SkBuff,
    waiting: &Waiting,
    segment: &Segment,
    passage: Option<&Passage<'_>>,
) -> Result {
    if skb.is_for_proxy() {
        return come_in_to_proxy(net, skb, waiting, segment, passage);
    }
    let flow = answer::client_flow(skb, segment).ok_or(EINVAL)?;
    let clock = passage.and_then(Passage::clock);
    let syn = handshake::syn(waiting, segment, clock);
    let (near, manner) = (skb.near().ok_or(EINVAL)?, skb.manner());
    let mut out = OwnedSkb::tcp(net, flow.client, flow.server, &syn.repr, manner)?;
    if begin(net, &mut out, near, waiting, &syn, manner, passage)? {
        Routed::found(out)?.send(net);
    }
    Ok(())
}

/// Our SYN as it comes in, in `zone`: what is to be remembered is in it.
pub(crate) fn incoming(
    net: &Net,
    skb: &SkBuff,
    waiting: &Waiting,
    segment: &Segment,
    clock: Option<u32>,
    zone: &Zone,
) -> Result<OwnedSkb> {
    let flow = answer::client_flow(skb, segment).ok_or(EINVAL)?;
    let syn = handshake::laden(&handshake::syn(waiting, segment, clock), waiting.proxy_isn);
    let mut out = OwnedSkb::tcp(net, flow.client, flow.server, &syn, skb.manner())?;
    let template = &pernet::state::<Relay>(net).template;
    out.prepare_received_syn(net, template, zone)?;
    Ok(out)
}

/// Whether our SYN for the client of `skb` can be made; if not, it can when the client sends that again.
#[inline]
pub(crate) fn is_ready(net: &Net, skb: &SkBuff) -> bool {
    !skb.is_for_proxy() || pernet::request::<Relay>(net, skb.family(), Purpose::Enter)
}

/// TPROXY has handed the client's packet to a transparent proxy. It will do so with our SYN when that comes
/// in as the client's own would have.
fn come_in_to_proxy(
    net: &Net,
    skb: &SkBuff,
    waiting: &Waiting,
    segment: &Segment,
    passage: Option<&Passage<'_>>,
) -> Result {
    let zone = match passage {
        Some(passage) => passage.old().zone(),
        None => {
            if let Some(old) = skb.lookup(net, skb.family()) {
                if !make_way(net, &old, waiting)? {
                    return Ok(());
                }
            }
            skb.zone()
        }
    };
    let clock = passage.and_then(Passage::clock);
    // Now: what has come by the passage is taken over in `came_in`.
    incoming(net, skb, waiting, segment, clock, &zone)?.receive_now(skb);
    Ok(())
}

/// Has conntrack and the routing know `out`, which is the SYN; whether it is to be sent: not when another
/// one is under way.
fn begin(
    net: &Net,
    out: &mut SkBuff,
    near: Near,
    waiting: &Waiting,
    syn: &Syn,
    manner: Manner,
    passage: Option<&Passage<'_>>,
) -> Result<bool> {
    let old = passage.map(Passage::old);
    let template = &pernet::state::<Relay>(net).template;
    let mut ct = conntrack::track_syn(net, out, template, old)?;
    if ct.is(Status::Confirmed) {
        if !make_way(net, &ct, waiting)? {
            return Ok(false);
        }
        ct = conntrack::track_syn(net, out, template, old)?;
        if ct.is(Status::Confirmed) {
            return Err(EEXIST);
        }
    }
    ct.synproxy()
        .ok_or(EINVAL)?
        .store([waiting.proxy_isn, syn.timestamp, waiting.client_isn]);
    if let Some(old) = old {
        ct.set_mark(old.mark());
        nat::copy_destination(&ct, old)?;
    }
    out.find_way(net, near)?;
    if old.is_some_and(|old| old.is(Status::DstNatDone)) && out.is_for_this_host() {
        // What the client itself sends here does not pass POSTROUTING, as our SYN does.
        nat::keep_source(&ct)?;
    }
    pending::goes_out(
        net,
        &ct,
        Unanswered {
            route: out.route(),
            came_by: None,
            syn: syn.repr,
            manner,
            backoff: Backoff::new(clock_ms()),
        },
        passage,
    )?;
    Ok(true)
}

/// Has `ct`, an entry on the client's ports, end for a new connection; whether that is to be made, as it is
/// not under way yet.
///
/// # Errors
///
/// `EEXIST` when `ct` is this very connection, or has a verdict to come.
fn make_way(net: &Net, ct: &Conn, waiting: &Waiting) -> Result<bool> {
    match gate::phase(ct) {
        // The client's ACK once more: our SYN is repeated anyway.
        Phase::Opening {
            proxy_isn,
            client_isn,
            ..
        } if proxy_isn == waiting.proxy_isn && client_isn == waiting.client_isn => {
            stats::count(net, Counter::CookieRetrans);
            return Ok(false);
        }
        // A packet of its own, which conntrack takes for INVALID.
        Phase::Open { proxy_isn, .. } if handshake::is_same(proxy_isn, waiting.proxy_isn) => {
            return Err(EEXIST)
        }
        // There is a verdict to come for it.
        Phase::Waiting(_) | Phase::Refused(_) | Phase::Gone => return Err(EEXIST),
        // An older connection on the same ports, of which its client knows nothing any more: it
        // has just shaken hands for a new one.
        Phase::Opening { .. } | Phase::Open { .. } | Phase::None => ct.delete(),
    }
    stats::count(net, Counter::ConnReopened);
    Ok(true)
}

/// Our SYN has come in, and been given its entry `ct`: what it brings goes there, and is not for the
/// server.
pub(crate) fn came_in(skb: &mut SkBuff, place: HookPlace<'_>, ct: &Conn) -> Result {
    let (thoff, segment) = skb.segment(place.family).ok_or(EINVAL)?;
    let words = ct.synproxy().ok_or(EINVAL)?;
    // One that is repeated brings nothing: its entry has just gone.
    let is_laden = segment.is_syn() && segment.ack() != 0;
    if !is_laden || !ct.has_seqadj() || words.load() != [0; 3] {
        return Err(EINVAL);
    }
    let (proxy_isn, syn) = handshake::unload(&segment);
    words.store([proxy_isn, syn.timestamp, syn.repr.seq]);
    for rewrite in handshake::unloading(&segment).into_iter().flatten() {
        skb.rewrite(thoff, segment.header_len(), rewrite)?;
    }
    pending::came_in(
        place.net,
        ct,
        Unanswered {
            route: None,
            came_by: Some(skb.device_index()),
            syn: syn.repr,
            manner: skb.manner(),
            backoff: Backoff::new(clock_ms().wrapping_add(QUEUED_MS)),
        },
    )?;
    if let Some(mark) = pernet::state::<Relay>(place.net).pending.meet(ct) {
        ct.set_mark(mark);
    }
    Ok(())
}

/// Whether our SYN for the entry `ct` has come in; then `skb`, which is it, knows the way from now on.
pub(crate) fn enter(net: &Net, ct: &Conn, skb: &SkBuff) -> bool {
    let now_ms = clock_ms();
    let entered = pernet::state::<Relay>(net)
        .pending
        .enter(ct, |syn, is_first| {
            syn.route = skb.route().or(syn.route.take());
            if is_first {
                syn.backoff = Backoff::new(now_ms);
            }
            is_first
        });
    if entered == Some(true) {
        // It may have been queued, and the timer been by.
        pernet::within::<Relay>(net, pending::FIRST_LOOK_MS);
    }
    entered.is_some()
}

/// By which device our SYN for `ct` has come in, if it has, and the server has not answered.
pub(crate) fn came_by(net: &Net, ct: &Conn) -> Option<u32> {
    pernet::state::<Relay>(net)
        .pending
        .with(ct, |pending| pending.syn.as_ref()?.came_by)
        .flatten()
}

/// A SYN of ours that the server has not answered.
#[derive(Clone)]
pub(crate) struct Unanswered {
    /// How it went to the server: for the ACK, and to tell the VRF, for what else is sent by OUTPUT.
    route: Option<Route>,
    /// The index of the device by which it came in, if it did.
    came_by: Option<u32>,
    syn: Repr,
    manner: Manner,
    backoff: Backoff,
}

/// How long our SYN may be queued on its way from conntrack to where its entry is confirmed.
const QUEUED_MS: u32 = 30_000;

/// How long an entry is to live beyond the time that its SYN is looked at next, in seconds.
const MARGIN_S: u32 = 10;

/// What the client of a SYN that was answered has sent meanwhile, and what its packet was like on whose
/// account the SYN was sent.
#[derive(Default)]
pub(crate) struct Answered {
    pub(crate) held: Option<Queue>,
    pub(crate) manner: Option<Manner>,
    /// By which device the SYN has come in, if it did: so does what follows.
    pub(crate) came_by: Option<u32>,
    /// Its route to the server.
    pub(crate) route: Option<Route>,
}

/// The server, or somebody on the way, has answered the SYN of `ct`.
pub(crate) fn answered(net: &Net, ct: &Conn) -> Answered {
    match pernet::state::<Relay>(net).pending.remove_answered(ct) {
        Some(pending) => Answered {
            held: pending.held,
            manner: pending.syn.as_ref().map(|syn| syn.manner),
            came_by: pending.syn.as_ref().and_then(|syn| syn.came_by),
            route: pending.syn.and_then(|syn| syn.route),
        },
        None => Answered::default(),
    }
}

impl Unanswered {
    /// Whether it has come in rather than gone out.
    pub(crate) fn has_come_in(&self) -> bool {
        self.came_by.is_some()
    }

    /// Whether its time has come, after `limit` repetitions at most.
    pub(crate) fn step(&mut self, now_ms: u32, limit: u8) -> Step {
        self.backoff.step(now_ms, limit)
    }

    /// Whether there is nothing to be repeated any more. An entry that is not confirmed is on its way
    /// with our SYN, or that was dropped.
    pub(crate) fn is_over(&self, ct: Option<&Conn>, now_ms: u32) -> bool {
        let Some(ct) = ct.filter(|ct| ct.is(Status::Confirmed)) else {
            return self.backoff.wait_ms(now_ms) == 0;
        };
        ct.is(Status::Dying)
            || ct.is_closed()
            || !matches!(gate::phase(ct), Phase::Opening { client_isn, .. } if client_isn == self.syn.seq)
    }

    /// Sends the SYN of `ct` once more.
    pub(crate) fn repeat(&self, net: &Net, ct: &Conn) -> Result {
        // Conntrack does not for a SYN that comes again.
        let wait_ms = self.backoff.wait_ms(clock_ms());
        ct.prolong((wait_ms / 1000).saturating_add(MARGIN_S));
        let flow = ct.flow();
        let mut out = OwnedSkb::tcp(net, flow.client, flow.server, &self.syn, self.manner)?;
        if let Some(device) = self.came_by {
            let template = &pernet::state::<Relay>(net).template;
            out.prepare_received_syn(net, template, &ct.zone())?;
            out.receive_by(net, device)?;
        } else {
            conntrack::track_as(net, &mut out, ct)?;
            Routed::near(net, out, self.route.as_ref().ok_or(EINVAL)?)?.send(net);
        }
        stats::count(net, Counter::SynRetrans);
        Ok(())
    }

    /// Tells the client of `ct` that there will be no connection.
    pub(crate) fn give_up(&self, net: &Net, ct: &Conn) -> Result {
        let client_isn = self.syn.seq;
        let words = ct.synproxy().ok_or(EINVAL)?;
        let [proxy_isn, ..] = words.load();
        // The server may answer at this moment, on another CPU.
        if !words.swap_last(client_isn, 0) {
            return Ok(());
        }
        let flow = ct.flow();
        ct.delete();
        stats::count(net, Counter::Refused);
        let out = aborted(net, &flow, proxy_isn, client_isn, self.manner)?;
        let mut out = Routed::near(net, out, self.route.as_ref().ok_or(EINVAL)?)?;
        out.untrack();
        out.send(net);
        Ok(())
    }
}

/// A reset for the client of `flow`, whose connection could not be made.
pub(crate) fn aborted(
    net: &Net,
    flow: &Flow,
    proxy_isn: u32,
    client_isn: u32,
    manner: Manner,
) -> Result<OwnedSkb> {
    let repr = handshake::aborted(proxy_isn, client_isn);
    OwnedSkb::tcp(net, flow.server, flow.client, &repr, manner)
}
