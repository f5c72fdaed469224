// SPDX-License-Identifier: GPL-2.0-only

//! SYN in, SYN,ACK out; no state is made.

use crate::{
    netfilter::{
        conntrack::{Tracked, DEFAULT_ZONE},
        cookie::Flow,
        route::Routed,
        skb::{OwnedSkb, SkBuff},
        tcp_clock_ms, Net,
    },
    stats::{self, Counter},
    tcp::{handshake, Offer, Repr, Rule, Segment, Waiting},
};
use core::net::SocketAddr;
use kernel::prelude::*;

/// How a packet for the client stands to conntrack.
enum As {
    /// As the server's answer in the connection of the packet that it answers: addresses are
    /// translated back, and OUTPUT rules see it as ESTABLISHED.
    Reply,
    /// As none of conntrack's business.
    Untracked,
}

/// Answers a SYN that conntrack knows nothing of. The window is closed: nobody looks at data before
/// the server is there.
pub(crate) fn immediate(net: &Net, skb: &SkBuff, syn: &Segment, rule: &Rule) {
    answer(net, skb, syn, rule, 0, As::Untracked);
}

/// Answers a SYN whose client is to wait. A fresh entry goes with it. The window is what the engine is
/// to see.
pub(crate) fn deferred(net: &Net, skb: &SkBuff, syn: &Segment, rule: &Rule) {
    answer(net, skb, syn, rule, rule.window(), As::Reply);
}

/// The same for a SYN whose entry has just been deleted.
pub(crate) fn deferred_untracked(net: &Net, skb: &SkBuff, syn: &Segment, rule: &Rule) {
    answer(net, skb, syn, rule, rule.window(), As::Untracked);
}

/// The connection of `skb` as its client sees it: before any translation of addresses, so that a
/// cookie does not depend on which server DNAT picks.
pub(crate) fn client_flow(skb: &SkBuff, segment: &Segment) -> Option<Flow> {
    if let Tracked::Yes { ct, .. } = skb.tracked() {
        return Some(ct.flow());
    }
    let ip = skb.ip()?;
    Some(Flow {
        client: SocketAddr::new(ip.src, segment.src_port()),
        server: SocketAddr::new(ip.dst, segment.dst_port()),
    })
}

/// Conntrack's zone in which that connection is. An INVALID packet has lost it.
pub(crate) fn client_zone(skb: &SkBuff) -> u16 {
    match skb.tracked() {
        Tracked::Yes { ct, .. } => ct.zone_id(),
        _ => DEFAULT_ZONE,
    }
}

/// The client that sent `ack`, if it brings a cookie of ours back.
pub(crate) fn client(skb: &SkBuff, ack: &Segment) -> Option<Waiting> {
    let flow = client_flow(skb, ack)?;
    handshake::accept(ack, |seq| flow.check(seq, ack.ack()))
}

fn answer(net: &Net, skb: &SkBuff, syn: &Segment, rule: &Rule, window: u16, how: As) {
    let Some(flow) = client_flow(skb, syn) else {
        return;
    };
    stats::count(net, Counter::SynReceived);
    let offer = Offer::of(syn, rule);
    let Some(cookie) = flow.cookie(syn.seq(), offer.mss) else {
        return;
    };
    let repr = handshake::answer(syn, rule, &offer, cookie, window, tcp_clock_ms());
    // A SYN,ACK that cannot be sent is as good as lost: the client sends its SYN again.
    let _ = send_back(net, skb, &flow, &repr, how);
}

/// Resets the client that sent `segment`.
pub(crate) fn reset(net: &Net, skb: &SkBuff, segment: &Segment) {
    let Some(flow) = client_flow(skb, segment) else {
        return;
    };
    // A reset that cannot be sent is as good as lost: the client's next packet gets another.
    let _ = send_back(net, skb, &flow, &handshake::reset(segment), As::Untracked);
}

/// Sends `repr` to the client of `flow`, which has sent `skb`.
fn send_back(net: &Net, skb: &SkBuff, flow: &Flow, repr: &Repr, how: As) -> Result {
    let out = OwnedSkb::tcp(net, flow.server, flow.client, repr, skb.manner())?;
    let mut out = Routed::new(net, out, skb)?;
    match (how, skb.tracked()) {
        (As::Reply, Tracked::Yes { ct, .. }) => out.attach_reply(ct),
        _ => out.untrack(),
    }
    out.send(net);
    Ok(())
}
