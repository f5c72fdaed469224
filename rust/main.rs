// SPDX-License-Identifier: GPL-2.0-only

//! A SYN proxy that lets no packet out before it knows the protocol.
//!
//! A packet's way: a rule hands it to [`target`]; a SYN is answered by [`answer`]; the ACK of a
//! valid cookie makes an entry in [`gate`]; what its client sends then is kept by [`hold`]; a packet
//! with a verdict opens the connection in [`open`]; what the server answers, and all that follows,
//! passes [`relay`]. [`pending`] has what is under way meanwhile, and [`stats`] counts.

use kernel::prelude::*;

mod answer;
mod coexist;
mod early;
mod gate;
mod hold;
pub mod netfilter;
mod open;
mod pending;
mod relay;
mod spstate;
mod stats;
mod target;
pub mod tcp;

use netfilter::{
    abi::{nf_synproxy_info as Plain, xt_synproxy_info as Gated},
    pernet, xtables,
};

module! {
    type: SynProxy,
    name: "xt_SYNPROXY",
    authors: ["The xt_SYNPROXY developers"],
    description: "xtables: SYN proxy that can wait for the protocol to be known",
    license: "GPL v2",
    alias: [
        "ipt_SYNPROXY",
        "ip6t_SYNPROXY",
        "xt_spstate",
        "ipt_spstate",
        "ip6t_spstate",
    ],
    params: {
        gate_share: u32 {
            default: 50,
            description: "What clients at the gates of a namespace may take of nf_conntrack_max, in percent (1 to 100, default 50)",
        },
        held_kib: u32 {
            default: 16384,
            description: "Memory for what they have sent, for each namespace, in KiB (128 to 1048576, default 16384)",
        },
        held_total_kib: u32 {
            default: 65536,
            description: "... and for all of them together, in KiB (128 to 4194304, default 65536)",
        },
    },
}

/// The value of a parameter, which the kernel crate lends until 7.2 and copies from 7.3 on.
fn parameter(value: impl core::borrow::Borrow<u32>) -> u32 {
    *value.borrow()
}

/// Checks the parameters that the module was loaded with.
fn check_parameters() -> Result {
    use module_parameters::{gate_share, held_kib, held_total_kib};

    for (name, value, range) in [
        ("gate_share", parameter(gate_share.value()), 1..=100),
        ("held_kib", parameter(held_kib.value()), 128..=1 << 20),
        (
            "held_total_kib",
            parameter(held_total_kib.value()),
            128..=1 << 22,
        ),
    ] {
        if !range.contains(&value) {
            let (from, to) = range.into_inner();
            pr_err!("{name}={value}: expected {from} to {to}\n");
            return Err(EINVAL);
        }
    }
    Ok(())
}

// Dropped in this order: no rule can ask for what is gone.
#[pin_data]
struct SynProxy {
    #[pin]
    target: xtables::TargetRegistration<target::SynProxy<Plain, false>>,
    #[pin]
    target6: xtables::TargetRegistration<target::SynProxy<Plain, true>>,
    #[pin]
    target_v1: xtables::TargetRegistration<target::SynProxy<Gated, false>>,
    #[pin]
    target6_v1: xtables::TargetRegistration<target::SynProxy<Gated, true>>,
    #[pin]
    spstate: xtables::MatchRegistration<spstate::SpState>,
    #[pin]
    relay: pernet::Registration<relay::Relay>,
}

impl kernel::InPlaceModule for SynProxy {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // Initialised in the order written: a rule must find its namespace's data.
        pin_init::pin_init_scope(move || {
            netfilter::check_layout()?;
            check_parameters()?;
            Ok(try_pin_init!(Self {
                relay <- pernet::Registration::new(),
                spstate <- xtables::MatchRegistration::new(module),
                target <- xtables::TargetRegistration::new(module),
                target6 <- xtables::TargetRegistration::new(module),
                target_v1 <- xtables::TargetRegistration::new(module),
                target6_v1 <- xtables::TargetRegistration::new(module),
            }))
        })
    }
}
