// SPDX-License-Identifier: GPL-2.0-only

//! One rule in PREROUTING of the table raw: before conntrack, and before routing.
//!
//! A SYN is answered where it stands. An ACK of no known connection is dropped if its cookie is bad;
//! with a good one our SYN comes in by the client's device, in the client's name, and meets the rules
//! that the client's own would have met. It brings what has to be remembered in two fields that mean
//! nothing in a SYN, its acknowledgement and its echoed timestamp, and is known by its template;
//! behind conntrack a hook moves that to the new entry, which this CPU alone knows, and clears the
//! fields. With `--defer` the ACK itself goes on: the rules of a gate are behind this one.

use crate::{
    answer, gate,
    netfilter::{
        conntrack::{self, Conn, Status, Tracked},
        hook::{point, Hook, Place as HookPlace, Verdict as HookVerdict, PRI_BEHIND_CONNTRACK},
        skb::SkBuff,
        turn::Plain,
        xtables::{Place, Verdict},
    },
    open,
    stats::{self, Counter},
    tcp::{handshake, timestamp::Direction, Phase, Rule, Segment},
};

/// A packet at a rule in PREROUTING of the table raw.
#[inline(always)]
pub(crate) fn judge(skb: &mut SkBuff, place: Place<'_>, rule: &Rule) -> Verdict {
    // What conntrack is not to see is not for us. Our own SYN has been here already.
    if !matches!(skb.tracked(), Tracked::No) || skb.is_received_syn() || place.is_later_fragment {
        return Verdict::Continue;
    }
    // A flood, most often.
    if let Some(packet) = Plain::new(skb, place.family) {
        if let Some(verdict) = answer::early(packet, place.net, rule) {
            return Verdict::Final(verdict);
        }
    }
    judge_any(skb, place, rule)
}

#[inline(never)]
fn judge_any(skb: &mut SkBuff, place: Place<'_>, rule: &Rule) -> Verdict {
    if !skb.is_unicast() || !skb.is_tcp(place.family) {
        return Verdict::Continue;
    }
    let Some(segment) = skb.tcp(place.thoff) else {
        return Verdict::Final(HookVerdict::Drop);
    };
    if segment.is_ack() {
        ack(skb, place, &segment, rule)
    } else if !segment.is_syn() {
        // For conntrack to know.
        Verdict::Continue
    } else if skb.tcp_checksum_ok(place.family, place.thoff) {
        Verdict::Final(answer::early_routed(skb, place, rule))
    } else {
        Verdict::Final(HookVerdict::Drop)
    }
}

/// Whether `segment` continues the connection of `ct`, by its number. Its client may have lost it, and
/// shaken hands with us for another one on its ports: conntrack knows nothing of that yet.
fn continues(ct: &Conn, phase: &Phase, segment: &Segment) -> bool {
    let stands = match phase {
        Phase::Gone => return false,
        phase => phase.client_isn(),
    };
    let stands = stands.unwrap_or_else(|| ct.seen(Direction::Original).end);
    !ct.is_closed() && handshake::is_near(segment.seq(), stands)
}

fn ack(skb: &mut SkBuff, place: Place<'_>, ack: &Segment, rule: &Rule) -> Verdict {
    let net = place.net;
    let known = skb
        .lookup(net, place.family)
        .map(|ct| (gate::phase(&ct), ct));
    if let Some((phase, ct)) = &known {
        if continues(ct, phase, ack) {
            return Verdict::Continue;
        }
    }
    let Some(waiting) = answer::client(skb, ack) else {
        if known.is_some() {
            return Verdict::Continue;
        }
        stats::count(net, Counter::CookieInvalid);
        return Verdict::Final(HookVerdict::Drop);
    };
    if !skb.tcp_checksum_ok(place.family, place.thoff) {
        return Verdict::Final(HookVerdict::Drop);
    }
    if let Some((phase, old)) = known {
        // When both sides have said as much as each other, the cookie of its own handshake is good.
        let is_its_own = phase
            .proxy_isn()
            .is_some_and(|isn| handshake::is_near(waiting.proxy_isn, isn));
        if is_its_own {
            // Or that of a new one which begins so near: that must not slip through what a reset has left.
            return if old.is_reset() {
                Verdict::Final(HookVerdict::Drop)
            } else {
                Verdict::Continue
            };
        }
        if !gate::let_go(net, &old) {
            return Verdict::Final(HookVerdict::Drop);
        }
        stats::count(net, Counter::ConnReopened);
    }
    if rule.defers() {
        // To the rules of the gate, by way of nat PREROUTING.
        return Verdict::Continue;
    }
    stats::count(net, Counter::CookieValid);
    // A SYN that gets lost is sent again with the client's next packet.
    let zone = skb.zone();
    if let Ok(out) = open::incoming(net, skb, &waiting, ack, None, &zone) {
        out.receive(skb);
    }
    Verdict::Final(HookVerdict::Consume)
}

/// The hook behind conntrack.
pub(crate) struct Enter;

impl Hook for Enter {
    const POINTS: &'static [(u8, i32)] = &[(point::PRE_ROUTING, PRI_BEHIND_CONNTRACK)];

    #[inline(always)]
    fn judge(skb: &mut SkBuff, place: HookPlace<'_>) -> HookVerdict {
        match skb.tracked() {
            Tracked::Yes {
                ct,
                direction: Direction::Original,
                related: false,
            } if !ct.is(Status::Confirmed) => enter(skb, place),
            _ => HookVerdict::Accept,
        }
    }
}

/// A packet whose entry is new.
fn enter(skb: &mut SkBuff, place: HookPlace<'_>) -> HookVerdict {
    let new = match skb.tracked() {
        // In a VRF it passes twice.
        Tracked::Yes { ct, .. } if ct.synproxy().is_some_and(|words| words.load() == [0; 3]) => {
            conntrack::ConnRef::from(ct)
        }
        _ => return HookVerdict::Accept,
    };
    match open::came_in(skb, place, &new) {
        Ok(()) => HookVerdict::Accept,
        Err(_) => HookVerdict::Drop,
    }
}
