// SPDX-License-Identifier: GPL-2.0-only

//! What is counted: `/proc/net/stat/xt_synproxy`.
//!
//! Each namespace has its own file. It is laid out as that of the in-tree target, whose columns come
//! first and mean the same: one line a CPU, numbers in hexadecimal. They wrap around.

use crate::{
    netfilter::{
        percpu::{self, Key},
        pernet, proc, Net,
    },
    relay::Relay,
};
use kernel::{
    prelude::*,
    seq_file::{seq_print, SeqFile},
    sync::rcu,
};

/// What can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Nothing: the first column is 0 in the in-tree file, too.
    Entries,
    /// SYNs that a rule of ours was to answer.
    SynReceived,
    /// ACKs at a rule of ours, of no connection and without a good cookie: dropped in silence.
    CookieInvalid,
    /// The same with a good cookie.
    CookieValid,
    /// Of those with a good cookie: the server has our SYN already and has not answered.
    CookieRetrans,
    /// Connections on the ports of an older one, which gives way.
    ConnReopened,
    /// Clients that began to wait at the gate.
    InProgress,
    /// Connections that the server has answered, from when on they are translated.
    Opened,
    /// Refusals: packets of a client that has waited too long, which a rule would have let through;
    /// servers that answered our SYN with a reset, could not be reached, or did not answer.
    Refused,
    /// Clients that had sent something when their wait ran out: one that has been silent is not
    /// noticed.
    GateTimeouts,
    /// Segments that were held until their connection was open.
    Held,
    /// SYNs to a server that were sent again because it did not answer.
    SynRetrans,
    /// ICMP errors about open connections that were translated.
    IcmpErrors,
    /// Segments that were not held, for lack of room: the client sends them again.
    HoldFull,
    /// Clients that came while too many waited.
    GateFull,
    /// Clients that were refused as they have sent two versions of their data.
    Contradictions,
    /// SYN,ACKs and resets that were not sent, as there were enough of them.
    RateLimited,
}

/// The file's columns, in its order: one for each counter.
const COLUMNS: [(Counter, &str); 17] = [
    (Counter::Entries, "entries"),
    (Counter::SynReceived, "syn_received"),
    (Counter::CookieInvalid, "cookie_invalid"),
    (Counter::CookieValid, "cookie_valid"),
    (Counter::CookieRetrans, "cookie_retrans"),
    (Counter::ConnReopened, "conn_reopened"),
    (Counter::InProgress, "in_progress"),
    (Counter::Opened, "opened"),
    (Counter::Refused, "refused"),
    (Counter::GateTimeouts, "gate_timeouts"),
    (Counter::Held, "held"),
    (Counter::SynRetrans, "syn_retrans"),
    (Counter::IcmpErrors, "icmp_errors"),
    (Counter::HoldFull, "hold_full"),
    (Counter::GateFull, "gate_full"),
    (Counter::Contradictions, "contradictions"),
    (Counter::RateLimited, "rate_limited"),
];

impl Key for Counter {
    const COUNT: usize = COLUMNS.len();

    fn index(self) -> usize {
        self as usize
    }
}

/// Counts one, with a packet or in a timer: in an RCU section, or with softirqs off.
#[inline]
pub(crate) fn count(net: &Net, counter: Counter) {
    pernet::counters::<Relay>(net).inc(counter);
}

/// The file.
pub(crate) struct Stats;

impl proc::Show for Stats {
    const NAME: &'static CStr = c"xt_synproxy";

    fn show(net: &Net, out: &SeqFile) {
        let mut gap = "";
        for (_, name) in COLUMNS {
            seq_print!(out, "{gap}{name}");
            // A column is two tabs wide.
            gap = if name.len() < 8 { "\t\t" } else { "\t" };
        }
        seq_print!(out, "\n");

        let _rcu = rcu::read_lock();
        let counters = pernet::counters::<Relay>(net);
        for cpu in percpu::possible_cpus() {
            let mut gap = "";
            for (counter, _) in COLUMNS {
                seq_print!(out, "{gap}{:08x}", counters.read(cpu, counter));
                gap = "\t";
            }
            seq_print!(out, "\n");
        }
    }
}
