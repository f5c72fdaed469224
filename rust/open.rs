// SPDX-License-Identifier: GPL-2.0-only

//! The connection to the server.
//!
//! Address translation cannot be set on a confirmed entry, so the waiting one is deleted and our SYN
//! makes a fresh one. The SYN is shown to conntrack here, before it is sent: its entry is filled
//! while this CPU alone knows it, and confirmed at POST_ROUTING. When something fails after the
//! waiting entry is gone, nothing was sent, and the client's retransmission, whose cookie is still
//! good, starts at the gate again.
//!
//! A SYN that has no answer yet is in its namespace's table, with a reference on its entry, and is
//! repeated by the namespace's timer; the client cannot do that, as conntrack takes its segments for
//! INVALID until the server has answered. Whoever ends that (`relay`, with the server's answer or
//! an ICMP error) takes it out of the table; the timer throws out what is over otherwise: entries that
//! were deleted, or never confirmed because our SYN was dropped. The lock guards the table alone:
//! nothing is sent under it. When the namespace or the module goes, the timer is shut down and the
//! table emptied before conntrack waits for its entries.

use crate::{
    answer, gate,
    netfilter::{
        conntrack::{self, Conn, ConnRef, Status},
        cookie::Flow,
        hook::Verdict,
        nat, pernet,
        route::{Route, Routed},
        skb::{Manner, OwnedSkb, SkBuff},
        sync::LockBh,
        tcp_clock_ms, Net,
    },
    relay::Relay,
    stats::{self, Counter},
    tcp::{
        backoff::{Backoff, Step},
        handshake, state, Phase, Repr, Segment, Waiting,
    },
};
use kernel::{
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
};

/// A verdict has come for a client that waits: `segment` is what it was given on.
pub(crate) fn deferred(
    net: &Net,
    skb: &SkBuff,
    ct: &Conn,
    waiting: &Waiting,
    segment: &Segment,
) -> Verdict {
    let [_, _, last] = waiting.pack();
    let corrected = handshake::may_correct(waiting, segment)
        .then(|| answer::client(skb, segment))
        .flatten();
    let waiting = &corrected.unwrap_or(*waiting);
    if !handshake::may_open(waiting, segment) {
        return Verdict::Drop;
    }
    // Of two CPUs one opens.
    if !ct
        .synproxy()
        .is_some_and(|words| words.swap_last(last, state::taken(last)))
    {
        return Verdict::Drop;
    }
    ct.delete();
    match connect(net, skb, waiting, segment, Some(ct)) {
        // The data comes again when the server has answered.
        Ok(()) => Verdict::Consume,
        Err(_) => Verdict::Drop,
    }
}

/// The ACK of a client at a rule for packets without an entry: with a valid cookie the server hears
/// of it at once.
pub(crate) fn immediate(net: &Net, skb: &SkBuff, ack: &Segment) -> Verdict {
    let Some(waiting) = answer::client(skb, ack) else {
        stats::count(net, Counter::CookieInvalid);
        return Verdict::Drop;
    };
    stats::count(net, Counter::CookieValid);
    match connect(net, skb, &waiting, ack, None) {
        Ok(()) => Verdict::Consume,
        Err(_) => Verdict::Drop,
    }
}

/// Sends the SYN, in the client's name and from its point of view; `old` is the entry of a client
/// that waited.
fn connect(
    net: &Net,
    skb: &SkBuff,
    waiting: &Waiting,
    segment: &Segment,
    old: Option<&Conn>,
) -> Result {
    let flow = answer::client_flow(skb, segment).ok_or(EINVAL)?;
    let syn = handshake::syn(waiting, segment);
    let manner = skb.manner();
    let out = OwnedSkb::tcp(net, flow.client, flow.server, &syn.repr, manner)?;
    let mut out = Routed::new(net, out, skb)?;

    let mut ct = conntrack::track_syn(net, &mut out, old)?;
    if ct.is(Status::Confirmed) {
        match gate::phase(&ct) {
            // The client's ACK once more: our SYN is repeated anyway.
            Phase::Opening {
                proxy_isn,
                client_isn,
                ..
            } if proxy_isn == waiting.proxy_isn && client_isn == waiting.client_isn => {
                stats::count(net, Counter::CookieRetrans);
                return Ok(());
            }
            // A late packet of the handshake that made it.
            Phase::Open { proxy_isn, .. } if proxy_isn == waiting.proxy_isn => return Err(EEXIST),
            // There is a verdict to come for it.
            Phase::Waiting(_) | Phase::Refused(_) | Phase::Gone => return Err(EEXIST),
            // An older connection on the same ports, of which its client knows nothing any more: it
            // has just shaken hands for a new one.
            Phase::Opening { .. } | Phase::Open { .. } | Phase::None => ct.delete(),
        }
        stats::count(net, Counter::ConnReopened);
        ct = conntrack::track_syn(net, &mut out, old)?;
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
    unanswered(
        net,
        Unanswered {
            route: out.route().ok_or(EINVAL)?,
            ct,
            syn: syn.repr,
            manner,
            backoff: Backoff::new(tcp_clock_ms()),
        },
    )?;
    out.send(net);
    Ok(())
}

/// A SYN of ours that the server has not answered.
#[derive(Clone)]
struct Unanswered {
    ct: ConnRef,
    route: Route,
    syn: Repr,
    manner: Manner,
    backoff: Backoff,
}

/// The SYNs of a namespace that have no answer yet, by the address of their entry.
#[pin_data]
pub(crate) struct Table {
    #[pin]
    inner: LockBh<Inner>,
}

struct Inner {
    syns: RBTree<usize, Unanswered>,
    /// Where the timer goes on, when it could not look at all of them in one go.
    resume: usize,
    /// When the first of those that it has looked at is due, in milliseconds.
    soonest: u32,
}

/// When the timer looks at a SYN first, in milliseconds.
const FIRST_LOOK_MS: u32 = 1000;

/// How many SYNs the timer looks at under the lock, how many of them it sends then, and how often it does
/// that before it lets others have the CPU.
const LOOK_AT: usize = 1024;
const SEND: usize = 8;
const ROUNDS: usize = 16;
const AT_ONCE_MS: u32 = 1;

/// How long an entry is to live beyond the time that its SYN is looked at next, in seconds.
const MARGIN_S: u32 = 10;

/// What is to be done about a SYN that is due.
enum Due {
    Repeat(Unanswered),
    GiveUp(Unanswered),
}

impl Inner {
    fn new() -> Self {
        Self {
            syns: RBTree::new(),
            resume: 0,
            soonest: u32::MAX,
        }
    }

    /// Fills `due`, and answers when to look again, in milliseconds.
    fn due(&mut self, now_ms: u32, limit: u8, due: &mut [Option<Due>; SEND]) -> Option<u32> {
        let mut free = due.iter_mut();
        let mut looked_at = 0;
        let mut cursor = self.syns.cursor_lower_bound_mut(&self.resume);
        while let Some(mut at) = cursor {
            let (key, syn) = at.current_mut();
            self.resume = *key;
            if looked_at == LOOK_AT || free.len() == 0 {
                return Some(AT_ONCE_MS);
            }
            looked_at = looked_at.wrapping_add(1);
            cursor = if syn.is_over(now_ms) {
                at.remove_current().0
            } else {
                match syn.backoff.step(now_ms, limit) {
                    Step::Wait(ms) => {
                        self.soonest = self.soonest.min(ms);
                        at.move_next()
                    }
                    Step::Repeat => {
                        if let Some(slot) = free.next() {
                            *slot = Some(Due::Repeat(syn.clone()));
                        }
                        // Its next time, which is at least a second from now.
                        self.soonest = self.soonest.min(FIRST_LOOK_MS);
                        at.move_next()
                    }
                    Step::GiveUp => {
                        let (neighbour, node) = at.remove_current();
                        if let Some(slot) = free.next() {
                            *slot = Some(Due::GiveUp(node.to_key_value().1));
                        }
                        neighbour
                    }
                }
            };
        }
        self.resume = 0;
        let soonest = core::mem::replace(&mut self.soonest, u32::MAX);
        (!self.syns.is_empty()).then_some(soonest)
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- LockBh::new(Inner::new()),
        })
    }

    /// Forgets all SYNs, and gives back the references on their entries.
    pub(crate) fn clear(&self) {
        drop(
            self.inner
                .with(|inner| core::mem::replace(&mut inner.syns, RBTree::new())),
        );
    }
}

fn unanswered(net: &Net, syn: Unanswered) -> Result {
    let node = RBTreeNode::new(syn.ct.address(), syn, GFP_ATOMIC)?;
    let old = pernet::state::<Relay>(net).inner.with(|inner| {
        // The timer may have passed its place already.
        inner.soonest = inner.soonest.min(FIRST_LOOK_MS);
        inner.syns.insert(node)
    });
    drop(old);
    pernet::within::<Relay>(net, FIRST_LOOK_MS);
    Ok(())
}

/// The server, or somebody on the way, has answered the SYN of `ct`. Returns what the client's packet
/// was like on whose account it was sent.
pub(crate) fn answered(net: &Net, ct: &Conn) -> Option<Manner> {
    let syn = pernet::state::<Relay>(net)
        .inner
        .with(|inner| inner.syns.remove(&ct.address()))?;
    Some(syn.manner)
}

impl Unanswered {
    /// Whether there is nothing to be repeated any more. An entry that is not confirmed is on its way
    /// out with our SYN, or that was dropped.
    fn is_over(&self, now_ms: u32) -> bool {
        if !self.ct.is(Status::Confirmed) {
            return self.backoff.wait_ms(now_ms) == 0;
        }
        self.ct.is(Status::Dying)
            || self.ct.is_closed()
            || !matches!(gate::phase(&self.ct), Phase::Opening { client_isn, .. } if client_isn == self.syn.seq)
    }

    /// Sends the SYN once more.
    fn repeat(&self, net: &Net) -> Result {
        // Conntrack does not for a SYN that comes again.
        let wait_ms = self.backoff.wait_ms(tcp_clock_ms());
        self.ct.prolong((wait_ms / 1000).saturating_add(MARGIN_S));
        let flow = self.ct.flow();
        let out = OwnedSkb::tcp(net, flow.client, flow.server, &self.syn, self.manner)?;
        let mut out = Routed::near(net, out, &self.route)?;
        conntrack::track_as(net, &mut out, &self.ct)?;
        stats::count(net, Counter::SynRetrans);
        out.send(net);
        Ok(())
    }

    /// Tells the client that there will be no connection.
    fn give_up(&self, net: &Net) -> Result {
        let client_isn = self.syn.seq;
        let words = self.ct.synproxy().ok_or(EINVAL)?;
        let [proxy_isn, ..] = words.load();
        // The server may answer at this moment, on another CPU.
        if !words.swap_last(client_isn, 0) {
            return Ok(());
        }
        let flow = self.ct.flow();
        self.ct.delete();
        stats::count(net, Counter::Refused);
        let out = aborted(net, &flow, proxy_isn, client_isn, self.manner)?;
        let mut out = Routed::near(net, out, &self.route)?;
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

/// Repeats the SYNs whose time has come; answers when to be called again, in milliseconds.
pub(crate) fn repeat(net: &Net) -> Option<u32> {
    let limit = net.tcp_syn_retries();
    let table = pernet::state::<Relay>(net);
    let mut next = None;
    for _ in 0..ROUNDS {
        let mut due = [const { None }; SEND];
        next = table
            .inner
            .with(|inner| inner.due(tcp_clock_ms(), limit, &mut due));
        for due in due.into_iter().flatten() {
            // What cannot be sent is as good as lost.
            let _ = match due {
                Due::Repeat(syn) => syn.repeat(net),
                Due::GiveUp(syn) => syn.give_up(net),
            };
        }
        if next != Some(AT_ONCE_MS) {
            break;
        }
    }
    next
}
