// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's own SYN proxy in the same namespace, for the same version of IP.
//!
//! Its hooks take every entry with the synproxy extension for theirs, whatever the port; ours, which
//! stay when our rules go, do so once such an entry is open. Then numbers are overwritten or
//! timestamps translated twice. It comes with a rule of `nft ... synproxy`, or of ipt_SYNPROXY where
//! that was loaded by hand.

use crate::{
    netfilter::{hook::Place, may_log, neighbours, pernet, Family, Net},
    relay::Relay,
};
use kernel::prelude::*;

/// Refuses a rule of ours while the other proxy is there. The legacy iptables has all rules of a table
/// checked with each change: meanwhile it can only take our rules away.
pub(crate) fn check(net: &Net, family: Family) -> Result {
    if !neighbours::synproxy(net, family) {
        return Ok(());
    }
    if may_log() {
        pr_err!(
            "the kernel's own SYN proxy has rules in this namespace (nft synproxy, \
             ipt_SYNPROXY): remove them first, the two cannot share connections\n"
        );
    }
    Err(EBUSY)
}

/// Says so when the other proxy has come after ours. To be called with the SYN of a connection of ours, and
/// with a server's answer, which may be to theirs; packets behind these cost no look.
pub(crate) fn watch(place: Place<'_>) {
    let seen = pernet::neighbours::<Relay>(place.net);
    if seen.synproxy_came(place.net, place.family) && may_log() {
        pr_warn!(
            "the kernel's own SYN proxy has come to a namespace that has this one \
             (nft synproxy, ipt_SYNPROXY): connections of both fail until its rules are \
             removed, or this module\n"
        );
    }
}
