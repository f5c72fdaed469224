// SPDX-License-Identifier: GPL-2.0-only

//! SYN in, SYN,ACK out; no state is made.

use crate::{
    netfilter::{
        clock_ms,
        conntrack::{ConnRef, Tracked},
        cookie::Flow,
        hook::Verdict,
        ktime_get_ns, pernet,
        skb::SkBuff,
        turn::Plain,
        xtables::Place,
        Net,
    },
    relay::Relay,
    stats::{self, Counter},
    tcp::{handshake, rate::Rate, segment::View, Offer, Repr, Rule, Segment, Waiting},
};
use core::net::SocketAddr;
use kernel::sync::atomic::{Atomic, Relaxed};

/// What the rules of a namespace that have a rate share: when the next packet for a client is due.
pub(crate) struct Bucket {
    due_ns: Atomic<u64>,
}

impl Bucket {
    /// How often a CPU tries. Another one has taken something whenever it fails.
    const TRIES: usize = 32;

    /// A full one.
    pub(crate) fn new() -> Self {
        Self {
            due_ns: Atomic::new(0),
        }
    }

    /// Takes one out. Not when there is a crowd at it: a limit has to hold then above all, and clients
    /// ask again.
    fn take(&self, rate: Rate) -> bool {
        let now = ktime_get_ns();
        let mut due = self.due_ns.load(Relaxed);
        for _ in 0..Self::TRIES {
            let Some(next) = rate.take(due, now) else {
                return false;
            };
            match self.due_ns.cmpxchg(due, next, Relaxed) {
                Ok(_) => return true,
                Err(seen) => due = seen,
            }
        }
        false
    }
}

/// Whether `rule` has one more packet sent to a client.
#[inline]
fn may_send(net: &Net, rule: &Rule) -> bool {
    rule.rate().is_none_or(|rate| is_due(net, rate))
}

fn is_due(net: &Net, rate: Rate) -> bool {
    let may = pernet::state::<Relay>(net).bucket.take(rate);
    if !may {
        stats::count(net, Counter::RateLimited);
    }
    may
}

/// How a packet for the client stands to conntrack.
enum As {
    /// As the server's answer in the connection of the packet that it answers: addresses are
    /// translated back, and OUTPUT rules see it as ESTABLISHED.
    Reply,
    /// As none of conntrack's business.
    Untracked,
}

/// The answer to a plain SYN of whose addresses conntrack knows nothing else. With a window of 0, nobody
/// looks at data before the server is there; else it is what the engine is to see.
#[inline(always)]
fn reply(packet: &Plain<'_>, syn: &View<'_>, rule: &Rule, window: u16) -> Repr {
    let offer = Offer::of(syn, rule);
    let cookie = packet.cookie(offer.mss);
    handshake::answer(syn, rule, &offer, cookie, window, clock_ms())
}

/// Answers a SYN that conntrack knows nothing of: the packet becomes the answer.
pub(crate) fn immediate(skb: &mut SkBuff, place: Place<'_>, rule: &Rule) -> Verdict {
    let net = place.net;
    if let Some(mut packet) = Plain::new(skb, place.family) {
        if let Some(syn) = packet.segment() {
            stats::count(net, Counter::SynReceived);
            if !may_send(net, rule) {
                return Verdict::Drop;
            }
            let repr = reply(&packet, &syn, rule, 0);
            return match packet.recast(net, &repr) {
                Ok(()) => Verdict::Send,
                // What cannot be sent is as good as lost: the client sends its packet again.
                Err(_) => Verdict::Drop,
            };
        }
    }
    match skb.tcp(place.thoff) {
        Some(syn) => answer(net, skb, &syn, rule, 0, As::Untracked),
        None => Verdict::Drop,
    }
}

/// Answers a SYN whose client is to wait. A fresh entry goes with it.
pub(crate) fn deferred(net: &Net, skb: &mut SkBuff, syn: &Segment, rule: &Rule) -> Verdict {
    answer(net, skb, syn, rule, rule.window(), As::Reply)
}

/// The same for a SYN whose entry has just been deleted.
pub(crate) fn deferred_untracked(
    net: &Net,
    skb: &mut SkBuff,
    syn: &Segment,
    rule: &Rule,
) -> Verdict {
    answer(net, skb, syn, rule, rule.window(), As::Untracked)
}

/// Answers a SYN at a rule in PREROUTING: turns the packet round, if it is one, and that can be done; else
/// `None`.
#[inline(always)]
pub(crate) fn early(mut packet: Plain<'_>, net: &Net, rule: &Rule) -> Option<Verdict> {
    let syn = packet.segment().filter(|segment| segment.is_syn())?;
    if !packet.is_from_neighbour() {
        return None;
    }
    if !packet.checksum_ok() {
        return Some(Verdict::Drop);
    }
    stats::count(net, Counter::SynReceived);
    if !may_send(net, rule) {
        return Some(Verdict::Drop);
    }
    let repr = reply(&packet, &syn, rule, early_window(rule));
    Some(match packet.turn_round(net, &repr) {
        Ok(()) => Verdict::SendBack,
        Err(_) => Verdict::Drop,
    })
}

fn early_window(rule: &Rule) -> u16 {
    if rule.defers() {
        rule.window()
    } else {
        0
    }
}

/// Answers a SYN at a rule in PREROUTING that cannot be turned round, by way of OUTPUT.
#[inline(never)]
pub(crate) fn early_routed(skb: &mut SkBuff, place: Place<'_>, rule: &Rule) -> Verdict {
    match skb.tcp(place.thoff) {
        Some(syn) if skb.find_route().is_ok() => {
            let window = early_window(rule);
            answer(place.net, skb, &syn, rule, window, As::Untracked)
        }
        _ => Verdict::Drop,
    }
}

/// The connection of `skb` as its client sees it: before any translation of addresses, so that a
/// cookie does not depend on which server DNAT picks.
pub(crate) fn client_flow<B: AsRef<[u8]>>(skb: &SkBuff, segment: &Segment<B>) -> Option<Flow> {
    if let Tracked::Yes { ct, .. } = skb.tracked() {
        return Some(ct.flow());
    }
    let ip = skb.ip()?;
    Some(Flow {
        client: SocketAddr::new(ip.src, segment.src_port()),
        server: SocketAddr::new(ip.dst, segment.dst_port()),
    })
}

/// The client that sent `ack`, if it brings a cookie of ours back.
pub(crate) fn client<B: AsRef<[u8]>>(skb: &SkBuff, ack: &Segment<B>) -> Option<Waiting> {
    client_by(ack, || client_flow(skb, ack))
}

/// The same, by the connection that `flow` tells, if it comes to that.
#[inline]
pub(crate) fn client_by<B: AsRef<[u8]>>(
    ack: &Segment<B>,
    flow: impl FnOnce() -> Option<Flow>,
) -> Option<Waiting> {
    if !handshake::may_bring_cookie(ack, clock_ms()) {
        return None;
    }
    let flow = flow()?;
    let kept = match flow.client {
        SocketAddr::V4(_) => &handshake::KEPT_MSS_V4,
        SocketAddr::V6(_) => &handshake::KEPT_MSS_V6,
    };
    handshake::accept(ack, Some(kept), |seq| flow.check(seq, ack.ack()))
}

fn answer(
    net: &Net,
    skb: &mut SkBuff,
    syn: &Segment,
    rule: &Rule,
    window: u16,
    how: As,
) -> Verdict {
    let Some(flow) = client_flow(skb, syn) else {
        return Verdict::Drop;
    };
    stats::count(net, Counter::SynReceived);
    if !may_send(net, rule) {
        return Verdict::Drop;
    }
    let offer = Offer::of(syn, rule);
    let Some(cookie) = flow.cookie(syn.seq(), offer.mss) else {
        return Verdict::Drop;
    };
    let repr = handshake::answer(syn, rule, &offer, cookie, window, clock_ms());
    send_back(net, skb, &flow, &repr, how)
}

/// Resets the client that sent `segment`, if `rule` lets it: the packet becomes the reset.
pub(crate) fn reset(net: &Net, skb: &mut SkBuff, segment: &Segment, rule: &Rule) -> Verdict {
    if !may_send(net, rule) {
        return Verdict::Drop;
    }
    match client_flow(skb, segment) {
        Some(flow) => send_back(net, skb, &flow, &handshake::reset(segment), As::Untracked),
        None => Verdict::Drop,
    }
}

/// Makes `skb`, which the client of `flow` has sent, `repr` for that client.
fn send_back(net: &Net, skb: &mut SkBuff, flow: &Flow, repr: &Repr, how: As) -> Verdict {
    let reply: Option<ConnRef> = match (how, skb.tracked()) {
        (As::Reply, Tracked::Yes { ct, .. }) => Some(ct.into()),
        _ => None,
    };
    // What cannot be sent is as good as lost: the client sends its packet again.
    match skb.recast(net, (flow.server, flow.client), repr, reply.as_deref()) {
        Ok(()) => Verdict::Send,
        Err(_) => Verdict::Drop,
    }
}
