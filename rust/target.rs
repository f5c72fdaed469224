// SPDX-License-Identifier: GPL-2.0-only

//! `-j SYNPROXY`: a packet meets a rule.
//!
//! Where the rule stands, and how the packet stands to conntrack, says what is meant: a packet
//! without an entry is answered at once, as by the in-tree target, unless `--defer` leads it to the
//! gate; one with an entry that the proxy
//! knows nothing of is led to the gate; one that waits at the gate is let through.

use crate::{
    answer, coexist, early, gate,
    netfilter::{
        abi::{nf_synproxy_info, xt_synproxy_info},
        conntrack::{Status, Tracked},
        hook::{point, Verdict as HookVerdict},
        may_log, pernet,
        skb::SkBuff,
        xtables::{Extension, Place, Spot, Target, Verdict},
        Family,
    },
    open,
    relay::{Purpose, Relay},
    tcp::{
        handshake::{rule_bits, RuleError, MAX_GATE_TIMEOUT},
        ip,
        rate::MAX_RATE,
        timestamp::Direction,
        Phase, Rule, Segment,
    },
};
use core::marker::PhantomData;
use kernel::{prelude::*, transmute::FromBytes};

/// The hooks from which the target may be reached.
const HOOKS: u32 = 1 << point::PRE_ROUTING | 1 << point::LOCAL_IN | 1 << point::FORWARD;

/// The parameters of a revision.
pub(crate) trait Parameters: FromBytes + 'static {
    /// The revision.
    const REVISION: u8;

    /// The option bits that it has.
    const OPTIONS: u16;

    /// What they mean; nothing is said of what is reserved.
    fn rule(&self) -> Rule;

    /// Whether what is reserved for later is zero.
    fn is_reserved_clear(&self) -> bool {
        true
    }
}

/// Those of the in-tree target.
impl Parameters for nf_synproxy_info {
    const REVISION: u8 = 0;
    const OPTIONS: u16 = rule_bits::REVISION_0;

    #[inline]
    fn rule(&self) -> Rule {
        Rule {
            options: self.options.into(),
            wscale: self.wscale,
            mss: self.mss,
            ..Rule::default()
        }
    }
}

/// Ours.
impl Parameters for xt_synproxy_info {
    const REVISION: u8 = 1;
    const OPTIONS: u16 = rule_bits::REVISION_1;

    #[inline]
    fn rule(&self) -> Rule {
        Rule {
            options: self.options.into(),
            wscale: self.wscale,
            mss: self.mss,
            window: self.window,
            timeout: self.timeout,
            rate: self.rate,
        }
    }

    fn is_reserved_clear(&self) -> bool {
        self.reserved0 == 0 && self.reserved == [0; 4]
    }
}

/// The target with the parameters of a revision.
pub(crate) struct SynProxy<P: Parameters, const IPV6: bool>(PhantomData<P>);

impl<P: Parameters, const IPV6: bool> SynProxy<P, IPV6> {
    const FAMILY: Family = if IPV6 { Family::Ipv6 } else { Family::Ipv4 };
}

impl<P: Parameters, const IPV6: bool> Extension for SynProxy<P, IPV6> {
    const NAME: &'static str = "SYNPROXY";
    const REVISION: u8 = P::REVISION;
    const FAMILY: Option<Family> = Some(Self::FAMILY);
    const PROTOCOL: u16 = ip::protocol::TCP as u16;
    const HOOKS: u32 = HOOKS;
    type Info = P;

    fn check_hooks(spot: Spot<'_>) -> Result {
        if spot.hooks & 1 << point::PRE_ROUTING == 0 || spot.is_in(c"raw") {
            return Ok(());
        }
        if may_log() {
            pr_err!("PREROUTING: expected the table raw\n");
        }
        Err(EINVAL)
    }

    fn check(spot: Spot<'_>, info: &P) -> Result {
        let net = spot.net;
        let rule = info.rule();
        let clear = info.is_reserved_clear().then_some(());
        clear
            .ok_or(RuleError::Reserved)
            .and_then(|()| rule.check(P::OPTIONS))
            .map_err(|error| {
                if may_log() {
                    explain(error);
                }
                EINVAL
            })?;
        coexist::check(net, Self::FAMILY)?;
        let activate = |purpose| pernet::activate::<Relay>(net, Self::FAMILY, purpose);
        let is_first = activate(Purpose::Relay)?;
        // A user chain of nft may be reached from there.
        if spot.hooks == 0 || spot.hooks & 1 << point::PRE_ROUTING != 0 {
            activate(Purpose::Enter)?;
        }
        if rule.defers() {
            activate(Purpose::Gate)?;
        }
        if is_first && !rule.defers() && !net.tcp_loose() && may_log() {
            pr_warn!(
                "nf_conntrack_tcp_loose=0 suits rules for UNTRACKED and INVALID packets; \
                 a rule with spstate --none will open nothing, it needs 1\n"
            );
        }
        Ok(())
    }
}

fn explain(error: RuleError) {
    match error {
        RuleError::Options(bits) => pr_err!("options: unknown bits {bits:#x}\n"),
        RuleError::Wscale(shift) => pr_err!("--wscale {shift}: expected 0 to 14\n"),
        RuleError::Mss => pr_err!("--mss 0: expected 1 to 65535\n"),
        RuleError::Window => pr_err!("--window 0: expected 1 to 65535\n"),
        RuleError::Timeout(seconds) => {
            pr_err!("--timeout {seconds}: expected 1 to {MAX_GATE_TIMEOUT}\n");
        }
        RuleError::Rate(rate) => pr_err!("--rate {rate}: expected 1 to {MAX_RATE}\n"),
        RuleError::Reserved => pr_err!("what is reserved for later must be 0\n"),
    }
}

impl<P: Parameters, const IPV6: bool> Target for SynProxy<P, IPV6> {
    fn target(skb: &mut SkBuff, place: Place<'_>, info: &P) -> Verdict {
        // Checked when it was inserted.
        let rule = info.rule();
        if place.hook == point::PRE_ROUTING {
            return early::judge(skb, place, &rule);
        }
        if !skb.is_tcp(Self::FAMILY) {
            return Verdict::Continue;
        }
        // A user chain of nft is checked without its hooks.
        if place.is_later_fragment
            || 1u32.checked_shl(place.hook.into()).unwrap_or(0) & HOOKS == 0
            || !skb.is_unicast()
            || !skb.tcp_checksum_ok(place.family, place.thoff)
        {
            return Verdict::Final(HookVerdict::Drop);
        }
        // What a flood is made of.
        if !rule.defers() && !skb.is_tracked() {
            match skb.view(place.thoff) {
                Some(tcp) if tcp.is_syn() => {
                    return Verdict::Final(answer::immediate(skb, place, &rule));
                }
                Some(tcp) if tcp.is_ack() => return Verdict::Final(open::immediate(skb, place)),
                _ => {}
            }
        }
        let Some(segment) = skb.tcp(place.thoff) else {
            return Verdict::Final(HookVerdict::Drop);
        };
        judge(skb, place, &segment, &rule)
    }
}

fn judge(skb: &mut SkBuff, place: Place<'_>, segment: &Segment, rule: &Rule) -> Verdict {
    let net = place.net;
    let (ct, direction) = match skb.tracked() {
        Tracked::No | Tracked::Untracked if rule.defers() => {
            return deferred(skb, place, segment, rule);
        }
        Tracked::No | Tracked::Untracked => return immediate(skb, place, segment, rule),
        Tracked::Yes { related: true, .. } => return Verdict::Continue,
        Tracked::Yes { ct, direction, .. } => (ct, direction),
    };
    if direction == Direction::Reply {
        return Verdict::Continue;
    }
    let phase = gate::phase(ct);
    if gate::is_new_syn(&phase, segment) {
        return Verdict::Final(if gate::let_go(net, ct) {
            answer::deferred_untracked(net, skb, segment, rule)
        } else {
            HookVerdict::Drop
        });
    }
    match phase {
        Phase::None if ct.is(Status::Confirmed) => {
            // An ordinary connection that got this far has no place behind the gate.
            ct.delete();
            Verdict::Final(if segment.is_syn() {
                answer::deferred_untracked(net, skb, segment, rule)
            } else {
                HookVerdict::Drop
            })
        }
        Phase::None => deferred(skb, place, segment, rule),
        Phase::Waiting(waiting) => {
            Verdict::Final(open::deferred(skb, place, ct, &waiting, segment))
        }
        Phase::Refused(_) => Verdict::Final(gate::refuse(net, skb, segment, rule)),
        Phase::Gone | Phase::Opening { .. } => Verdict::Final(HookVerdict::Drop),
        Phase::Open { .. } => Verdict::Continue,
    }
}

/// The client's handshake, and the server's right after it.
fn immediate(skb: &mut SkBuff, place: Place<'_>, segment: &Segment, rule: &Rule) -> Verdict {
    if segment.is_syn() {
        // In good time.
        open::is_ready(place.net, skb);
        Verdict::Final(answer::immediate(skb, place, rule))
    } else if segment.is_ack() {
        Verdict::Final(open::immediate(skb, place))
    } else {
        Verdict::Continue
    }
}

/// The client's handshake only.
fn deferred(skb: &mut SkBuff, place: Place<'_>, segment: &Segment, rule: &Rule) -> Verdict {
    // Most often there was a rule that said so.
    let is_ready = pernet::request::<Relay>(place.net, place.family, Purpose::Gate)
        & open::is_ready(place.net, skb);
    if segment.is_syn() {
        Verdict::Final(answer::deferred(place.net, skb, segment, rule))
    } else if segment.is_ack() && !is_ready {
        // The client sends it again.
        Verdict::Final(HookVerdict::Drop)
    } else if segment.is_ack() {
        Verdict::Final(gate::enter(skb, place, segment, rule))
    } else {
        Verdict::Continue
    }
}
