// SPDX-License-Identifier: GPL-2.0-only

//! `-m spstate`: how far the proxy is with a packet's connection.

use crate::{
    gate,
    netfilter::{
        abi::{xt_spstate_info as Info, SPSTATE_FINISH, SPSTATE_IN_PROGRESS, SPSTATE_NONE},
        conntrack::Tracked,
        may_log, pernet,
        skb::SkBuff,
        xtables::{Extension, Match, Place, Spot},
        Family,
    },
    relay::{Purpose, Relay},
    tcp::{timestamp::Direction, Phase},
};
use kernel::prelude::*;

/// The match, for every family, table and chain.
pub(crate) struct SpState;

impl Extension for SpState {
    const NAME: &'static str = "spstate";
    const REVISION: u8 = 0;
    const FAMILY: Option<Family> = None;
    type Info = Info;

    fn check(spot: Spot<'_>, info: &Info) -> Result {
        if u32::from(info.state) <= SPSTATE_FINISH && info.invert <= 1 {
            // There are to be clients that wait.
            if let Some(family) = spot.family {
                pernet::activate::<Relay>(spot.net, family, Purpose::Gate)?;
            }
            return Ok(());
        }
        if may_log() {
            pr_err!(
                "spstate: state {}, invert {}: expected state 0 (none), 1 (in-progress) or \
                 2 (finish), invert 0 or 1\n",
                info.state,
                info.invert
            );
        }
        Err(EINVAL)
    }
}

impl Match for SpState {
    fn matches(skb: &SkBuff, place: Place<'_>, info: &Info) -> bool {
        let hit = match phase(skb, place) {
            // Not tracked: in none of the states.
            None => false,
            Some(phase) => match info.state.into() {
                SPSTATE_NONE => phase.is_none(),
                SPSTATE_IN_PROGRESS => phase.is_in_progress(),
                _ => phase.is_finished(),
            },
        };
        hit != (info.invert != 0)
    }
}

fn phase(skb: &SkBuff, place: Place<'_>) -> Option<Phase> {
    let Tracked::Yes {
        ct,
        direction,
        related,
    } = skb.tracked()
    else {
        return None;
    };
    let phase = gate::phase(ct);
    // A SYN that starts anew has no state yet: so the rule for --none gets it, and the old entry
    // goes.
    let anew = phase.client_isn().is_some()
        && !related
        && direction == Direction::Original
        && !place.is_later_fragment
        && skb
            .tcp(place.thoff)
            .is_some_and(|segment| gate::is_new_syn(&phase, &segment));
    Some(if anew { Phase::None } else { phase })
}
