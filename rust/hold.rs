// SPDX-License-Identifier: GPL-2.0-only

//! What a client sends while it waits is held, and released when the server has answered.
//!
//! A hook in front of the mangle table, where the engine's rule is, drops data that is not of the stream
//! that our SYN,ACK has begun: an engine does not know the numbers, and could be shown what the server
//! would never take. What it lets through it has copied first, so that no other version of it can be shown
//! to the engine later; what there is no room for the engine does not see. Another hook stands behind that
//! table and before the filter table, where the verdict's rule is: there what the engine has let pass
//! becomes judged, and a verdict may be given on any segment whose predecessors are. Copies are ours, see
//! `pending` for who owns them. Those that are judged leave as if the client had sent them again, through
//! conntrack and in order; the others do not leave.
//!
//! A third hook, in front of conntrack, sees resets and FINs: conntrack would let go of the entry, and the
//! client could come again with the same cookie, or with one that it makes of it, or by another SYN, and go
//! on somewhere else in the stream that the engine believes to know. So who has said anything and resets its
//! connection is refused, for as long as the cookie lives, and SYNs of its ports are not answered until
//! then. What an engine sees of a client that waits is data of its stream, and nothing else.
//!
//! While our SYN is on its way to the server conntrack takes what the client sends for INVALID, and
//! packets that an engine had in its queue belong to the entry that has gone with the verdict: both
//! are for the new entry, are held there, and end here. An engine may have them for so long that the
//! server has answered: then they come in once more, and meet the rules for an open connection.
//!
//! A client that contradicts itself is refused: an engine may have judged either version.

use crate::{
    answer, gate,
    netfilter::{
        conntrack::{Conn, ConnRef, Status, Tracked},
        cookie::Flow,
        hook::{
            point, Hook, Place, Verdict, PRI_BEFORE_CONNTRACK, PRI_BEFORE_MANGLE, PRI_BEHIND_MANGLE,
        },
        pernet,
        skb::{Manner, OwnedSkb, Part, SkBuff},
        Family, Net,
    },
    pending::{Kept, Whose},
    relay::Relay,
    stats::{self, Counter},
    tcp::{
        handshake,
        hold::{self, Judged, Span},
        segment::flags,
        timestamp::{self, Direction},
        Phase, Segment, Waiting,
    },
};
use core::net::SocketAddr;
use kernel::prelude::*;

/// How many segments of a client are held at most: of tiny ones, each costs far more memory than it
/// has bytes.
const MAX_SEGMENTS: usize = 64;

/// How far a segment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// The engine may see it.
    Shown,
    /// The engine has let it pass.
    Judged,
}

/// A segment that is held, in the client's numbers and with the addresses that the client uses.
pub(crate) struct Held {
    span: Span,
    packet: OwnedSkb,
    /// Offset of its TCP header, and of its payload, in bytes.
    thoff: usize,
    payload: usize,
}

impl Held {
    /// Copies `part` of a packet of the client of `flow`.
    fn copy(net: &Net, flow: &Flow, part: &Part<'_>) -> Result<Self> {
        let manner = part.packet.manner();
        let packet = OwnedSkb::copy(net, flow.client, flow.server, part, manner)?;
        let payload = packet.bytes().len().checked_sub(part.len).ok_or(EINVAL)?;
        let thoff = packet.ip().ok_or(EINVAL)?.len;
        let segment = packet.tcp(thoff).ok_or(EINVAL)?;
        Ok(Self {
            span: Span::of(&segment),
            packet,
            thoff,
            payload,
        })
    }

    /// How much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.packet.true_size()
    }

    fn payload(&self) -> &[u8] {
        self.packet.bytes().get(self.payload..).unwrap_or_default()
    }

    /// Where its timestamp is, and what it says.
    fn timestamp(&self) -> Option<(usize, u32)> {
        let segment = self.packet.tcp(self.thoff)?;
        let (at, timestamps) = timestamp::find(segment.raw_options())?;
        Some((self.thoff.checked_add(at)?, timestamps.val))
    }

    fn set_timestamp(&mut self, at: usize, val: u32) {
        let field = self
            .packet
            .bytes_mut()
            .get_mut(at..)
            .and_then(|rest| rest.first_chunk_mut());
        if let Some(field) = field {
            *field = val.to_be_bytes();
        }
    }
}

/// What is held of one client.
pub(crate) struct Queue {
    /// The client as it came to the gate.
    waiting: Waiting,
    first: Link,
}

/// A list: a vector that grows can panic.
type Link = Option<KBox<Node>>;

struct Node {
    held: Held,
    standing: Standing,
    /// The next one in the stream.
    next: Link,
}

impl Node {
    /// Whether it is held no longer once there is one at `span`.
    fn gives_way(&self, span: &Span, standing: Standing) -> bool {
        standing >= self.standing && span.covers(&self.held.span)
    }
}

// Not by recursion.
impl Drop for Queue {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl Queue {
    /// Nothing yet.
    pub(crate) fn new(waiting: Waiting) -> Self {
        Self {
            waiting,
            first: None,
        }
    }

    /// The client as it came to the gate.
    pub(crate) fn waiting(&self) -> Waiting {
        self.waiting
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> + Clone {
        core::iter::successors(self.first.as_deref(), |node| node.next.as_deref())
    }

    fn judged(&self) -> impl Iterator<Item = &Held> + Clone {
        self.nodes()
            .filter(|node| node.standing == Standing::Judged)
            .map(|node| &node.held)
    }

    fn pop(&mut self) -> Option<Held> {
        let node = KBox::into_inner(self.first.take()?);
        self.first = node.next;
        Some(node.held)
    }

    /// How much memory it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size_if(|_| true)
    }

    fn size_if(&self, counts: impl Fn(&Node) -> bool) -> usize {
        self.nodes()
            .filter(|node| counts(node))
            .fold(0, |sum: usize, node| sum.wrapping_add(node.held.size()))
    }

    /// What to do with `new`, of which nothing may be said otherwise than by all that is held.
    pub(crate) fn judge(&self, new: &Held, standing: Standing) -> Judged {
        let all = self.nodes().map(|node| {
            let counts = node.standing >= standing;
            (node.held.span, node.held.payload(), counts)
        });
        hold::judge(&new.span, new.payload(), all)
    }

    /// How much memory [`Queue::push`] will free for `new`, in bytes.
    pub(crate) fn replaced(&self, new: &Held, standing: Standing) -> usize {
        self.size_if(|node| node.gives_way(&new.span, standing))
    }

    /// Holds `new`, which brings something new, and instead of those whose bytes are all in it: of what has
    /// been judged only if that has been, too.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENOSPC` when there are too many, of those that it will not replace once it is judged.
    pub(crate) fn push(&mut self, new: Held, standing: Standing) -> Result {
        let count = self
            .nodes()
            .filter(|node| !new.span.covers(&node.held.span))
            .fold(0usize, |count, _| count.wrapping_add(1));
        if count >= MAX_SEGMENTS {
            return Err(ENOSPC);
        }
        let mut node = KBox::new(
            Node {
                held: new,
                standing,
                next: None,
            },
            GFP_ATOMIC,
        )?;
        let span = node.held.span;
        self.drop_if(|node| node.gives_way(&span, standing));
        let mut link = &mut self.first;
        while link
            .as_ref()
            .is_some_and(|next| !hold::before(span.seq, next.held.span.seq))
        {
            link = match link {
                Some(node) => &mut node.next,
                None => break,
            };
        }
        node.next = link.take();
        *link = Some(node);
        Ok(())
    }

    /// Lets go of all that is not judged.
    pub(crate) fn forget_unjudged(&mut self) {
        self.drop_if(|node| node.standing == Standing::Shown);
    }

    fn drop_if(&mut self, over: impl Fn(&Node) -> bool) {
        let mut link = &mut self.first;
        while let Some(node) = link {
            if over(node) {
                *link = node.next.take();
            } else if let Some(node) = link {
                link = &mut node.next;
            }
        }
    }

    /// Whether the stream is held and judged from its start to the end of `span`.
    fn reaches(&self, span: &Span) -> bool {
        let start = self.waiting.client_isn.wrapping_add(1);
        let reach = hold::reach(start, self.judged().map(|held| held.span));
        // Within the budget, both: the distances do not wrap.
        reach.wrapping_sub(start) >= span.end().wrapping_sub(start)
    }

    /// The client's clock at the first of its segments. Our SYN must not be younger than they are, or
    /// the server takes them for old duplicates, RFC 7323 section 5.
    pub(crate) fn clock(&self) -> Option<u32> {
        self.judged()
            .filter_map(|held| Some(held.timestamp()?.1))
            .reduce(|a, b| if timestamp::is_in_order(a, b) { a } else { b })
    }

    /// The packets in the order of the stream, and of the client's clock: one that came again came
    /// later than those behind it.
    pub(crate) fn release(mut self) -> impl Iterator<Item = OwnedSkb> {
        let mut clock = None;
        core::iter::from_fn(move || {
            let mut held = self.pop()?;
            if let Some((at, val)) = held.timestamp() {
                match clock {
                    Some(clock) if !timestamp::is_in_order(clock, val) => {
                        held.set_timestamp(at, clock);
                    }
                    _ => clock = Some(val),
                }
            }
            Some(held.packet)
        })
    }
}

/// Whether the stream of the client of `ct` is held and judged from its start to the end of `span`.
pub(crate) fn reaches(net: &Net, ct: &Conn, span: &Span) -> bool {
    pernet::state::<Relay>(net)
        .pending
        .with(ct, |pending| {
            pending
                .held
                .as_ref()
                .is_some_and(|queue| queue.reaches(span))
        })
        .unwrap_or(false)
}

/// The parts of a packet that are segments: it may stand for several.
fn parts<'a>(
    packet: &'a SkBuff,
    thoff: usize,
    segment: &'a Segment,
) -> impl Iterator<Item = Part<'a>> {
    let len = segment.payload_len();
    let step = match packet.gso_size() {
        0 => len.max(1),
        size => size,
    };
    let starts = core::iter::successors(Some(0usize), move |from| {
        Some(from.wrapping_add(step)).filter(|from| *from < len)
    });
    starts.map(move |from| Part {
        packet,
        thoff,
        segment,
        from,
        len: step.min(len.wrapping_sub(from)),
    })
}

/// The data of a packet comes in again, as of the client of `flow`, and meets the rules as they are for
/// its connection now: an engine has not seen it yet when it has made the entry of a client that waits.
pub(crate) fn again(net: &Net, skb: &SkBuff, flow: &Flow, thoff: usize, segment: &Segment) {
    if Span::of(segment).len == 0 {
        return;
    }
    let manner = Manner {
        // As it came in first.
        mark: 0,
        ..skb.manner()
    };
    for part in parts(skb, thoff, segment) {
        // One that is lost is made good by the client.
        if let Ok(packet) = OwnedSkb::copy(net, flow.client, flow.server, &part, manner) {
            packet.receive(skb);
        }
    }
}

/// Holds the data of a packet, once its client is in the table.
fn keep(
    net: &Net,
    whose: Whose<'_>,
    skb: &SkBuff,
    thoff: usize,
    segment: &Segment,
    standing: Standing,
) -> Result<Kept> {
    let table = &pernet::state::<Relay>(net).pending;
    let flow = whose.flow();
    let mut kept = Kept::Yes;
    for part in parts(skb, thoff, segment) {
        kept = table.keep(whose, Held::copy(net, &flow, &part)?, standing);
        if kept != Kept::Yes {
            break;
        }
    }
    Ok(kept)
}

/// Holds what a client sends that waits; `false` when it is to go no further, as there is no room for it,
/// or its client has been refused for it.
pub(crate) fn waiting(
    net: &Net,
    ct: &Conn,
    skb: &SkBuff,
    thoff: usize,
    segment: &Segment,
    standing: Standing,
) -> bool {
    match keep(net, Whose::Entry(ct), skb, thoff, segment, standing) {
        Ok(Kept::Yes) => true,
        Ok(Kept::Full) | Err(_) => {
            // It may have been chosen at this moment: its data is not here any more.
            if gate::phase(ct) != Phase::Gone {
                stats::count(net, Counter::HoldFull);
            }
            false
        }
        Ok(Kept::Contradicts) => {
            if gate::bar(net, ct) {
                stats::count(net, Counter::Contradictions);
            }
            false
        }
    }
}

/// Holds what a client sends whose server has not answered yet; whether it is held.
pub(crate) fn opening(
    net: &Net,
    whose: Whose<'_>,
    skb: &SkBuff,
    thoff: usize,
    segment: &Segment,
) -> bool {
    match pernet::state::<Relay>(net).pending.client(whose) {
        Some(waiting) if handshake::span(&waiting, segment).is_some() => {
            let kept = keep(net, whose, skb, thoff, segment, Standing::Judged);
            matches!(kept, Ok(Kept::Yes))
        }
        // It has not waited at the gate; or it says nothing to be held.
        _ => false,
    }
}

/// The hook in front of conntrack.
pub(crate) struct Control;

impl Hook for Control {
    const POINTS: &'static [(u8, i32)] = &[(point::PRE_ROUTING, PRI_BEFORE_CONNTRACK)];

    #[inline(always)]
    fn judge(skb: &mut SkBuff, place: Place<'_>) -> Verdict {
        if gate::has_none(place.net) || !matches!(skb.tracked(), Tracked::No) {
            return Verdict::Accept;
        }
        match skb.plain_segment() {
            Some((_, tcp)) if tcp.flags_are(flags::FIN | flags::RST, 0) => Verdict::Accept,
            _ => control(skb, place),
        }
    }
}

/// What the hook in front of conntrack does with what may be a reset, or a FIN.
#[cold]
fn control(skb: &mut SkBuff, place: Place<'_>) -> Verdict {
    let net = place.net;
    let Some((thoff, segment)) = skb.segment(place.family) else {
        return Verdict::Accept;
    };
    if segment.flags_are(flags::FIN | flags::RST, 0) {
        return Verdict::Accept;
    }
    let Some(ct) = skb.lookup(net, place.family) else {
        return Verdict::Accept;
    };
    let (Phase::Waiting(waiting) | Phase::Refused(waiting)) = gate::phase(&ct) else {
        return Verdict::Accept;
    };
    // The server has not heard of the client.
    if !is_from_client(skb, &segment, &ct.flow()) || !skb.tcp_checksum_ok(place.family, thoff) {
        return Verdict::Drop;
    }
    if segment.is_rst() {
        // RFC 9293, section 3.10.7.4.
        let start = waiting.client_isn.wrapping_add(1);
        if Span::at(segment.seq()).is_within(start, waiting.budget) && !gate::let_go(net, &ct) {
            gate::bar(net, &ct);
        }
        return Verdict::Drop;
    }
    // Conntrack would take the connection for closed, when the FIN comes again.
    skb.attach_unreplied(&ct);
    Verdict::Accept
}

/// The hook in front of the engine.
pub(crate) struct Sift;

impl Hook for Sift {
    const POINTS: &'static [(u8, i32)] = &[
        (point::LOCAL_IN, PRI_BEFORE_MANGLE),
        (point::FORWARD, PRI_BEFORE_MANGLE),
    ];

    #[inline(always)]
    fn judge(skb: &mut SkBuff, place: Place<'_>) -> Verdict {
        // Most packets are of nobody who waits, and come here all the same.
        match skb.tracked() {
            Tracked::Yes { ct, .. } if ct.is(Status::FixedTimeout) => sift(skb, place),
            Tracked::Yes { .. } => Verdict::Accept,
            _ if gate::has_none(place.net) => Verdict::Accept,
            _ => stray(skb, place),
        }
    }
}

/// What the hook in front of the engine does with a packet of somebody who waits, or did.
#[cold]
fn sift(skb: &mut SkBuff, place: Place<'_>) -> Verdict {
    let net = place.net;
    let (ct, direction) = match skb.tracked() {
        Tracked::Yes {
            ct,
            direction,
            related: false,
        } => (ConnRef::from(ct), direction),
        _ => return Verdict::Accept,
    };
    let phase = gate::phase(&ct);
    if !phase.is_in_progress() {
        return Verdict::Accept;
    }
    let Some((thoff, segment)) = skb.segment(place.family) else {
        return Verdict::Drop;
    };
    let (Phase::Waiting(waiting) | Phase::Refused(waiting)) = phase else {
        let is_chosen = is_chosen(net, skb, &ct, &segment);
        gate::end(net, &ct);
        return if is_chosen {
            Verdict::Accept
        } else {
            Verdict::Drop
        };
    };
    if direction == Direction::Reply || !skb.tcp_checksum_ok(place.family, thoff) {
        return Verdict::Drop;
    }
    if segment.is_syn() {
        // Who has said nothing may begin anew.
        return if !gate::has_spoken(&ct) && gate::is_new_syn(&phase, &segment) {
            Verdict::Accept
        } else {
            Verdict::Drop
        };
    }
    if let Phase::Refused(_) = phase {
        return if handshake::belongs(&waiting, &segment) {
            gate::refuse_early(net, skb, &segment)
        } else {
            Verdict::Drop
        };
    }
    if handshake::span(&waiting, &segment).is_none() {
        return Verdict::Drop;
    }
    pernet::state::<Relay>(net).pending.wait(net, &ct, &waiting);
    if self::waiting(net, &ct, skb, thoff, &segment, Standing::Shown)
        || is_chosen(net, skb, &ct, &segment)
    {
        Verdict::Accept
    } else {
        Verdict::Drop
    }
}

/// What it does with one that conntrack gives no entry, or has not seen. Of somebody who waits the engine
/// sees what is of the stream, and nothing else.
#[cold]
fn stray(skb: &SkBuff, place: Place<'_>) -> Verdict {
    let net = place.net;
    let Some(ct) = skb.lookup(net, place.family) else {
        return Verdict::Accept;
    };
    let phase = gate::phase(&ct);
    if !matches!(phase, Phase::Waiting(_) | Phase::Refused(_)) {
        return Verdict::Accept;
    }
    let begins_anew = skb
        .segment(place.family)
        .is_some_and(|(_, syn)| gate::is_new_syn(&phase, &syn));
    if begins_anew && gate::let_go(net, &ct) {
        Verdict::Accept
    } else {
        Verdict::Drop
    }
}

/// Whether the client of `ct`, which waited a moment ago, is on its way to another entry.
fn is_chosen(net: &Net, skb: &SkBuff, ct: &Conn, segment: &Segment) -> bool {
    if gate::phase(ct) != Phase::Gone {
        return false;
    }
    let table = &pernet::state::<Relay>(net).pending;
    // First: when it has just arrived there is an entry.
    let passes = answer::client_flow(skb, segment).is_some_and(|flow| {
        table
            .client(Whose::Passing(&flow, skb.zone().id()))
            .is_some()
    });
    passes
        || ct.successor().is_some_and(|new| {
            matches!(
                gate::phase(&new),
                Phase::Opening { .. } | Phase::Open { .. }
            )
        })
}

/// The hook behind the engine.
pub(crate) struct Hold;

impl Hook for Hold {
    const POINTS: &'static [(u8, i32)] = &[
        (point::LOCAL_IN, PRI_BEHIND_MANGLE),
        (point::FORWARD, PRI_BEHIND_MANGLE),
    ];

    #[inline(always)]
    fn judge(skb: &mut SkBuff, place: Place<'_>) -> Verdict {
        match skb.tracked() {
            Tracked::Untracked => Verdict::Accept,
            Tracked::Yes { ct, .. } if gate::is_open(ct) => Verdict::Accept,
            Tracked::No if gate::is_idle(place.net) && !was_just_used(place.net) => Verdict::Accept,
            Tracked::Yes { ct, .. } if gate::is_idle(place.net) && ct.is_in_use() => {
                Verdict::Accept
            }
            _ => hold(skb, place),
        }
    }
}

fn was_just_used(net: &Net) -> bool {
    pernet::state::<Relay>(net).pending.was_just_used()
}

/// What the hook behind it does with a packet that may be of somebody who waits, or did.
#[cold]
fn hold(skb: &SkBuff, place: Place<'_>) -> Verdict {
    let net = place.net;
    let is_idle = gate::is_idle(net);
    let at = match skb.tracked() {
        Tracked::No => At::NoEntry,
        // When nobody waits any more, an engine may still have packets of somebody who did.
        Tracked::Yes {
            ct,
            direction: Direction::Original,
            related: false,
        } if !is_idle || !ct.is_in_use() => {
            match gate::phase(ct) {
                Phase::Waiting(client) => {
                    let Some((thoff, segment)) = good_segment(skb, place) else {
                        return Verdict::Accept;
                    };
                    // What the hook in front of the engine has not seen.
                    if handshake::span(&client, &segment).is_none() {
                        return Verdict::Accept;
                    }
                    if !waiting(net, ct, skb, thoff, &segment, Standing::Judged) {
                        // Unless it was chosen at this moment, on another CPU.
                        if gate::phase(ct) != Phase::Gone {
                            return Verdict::Drop;
                        }
                    }
                    // Unless it was chosen at this moment, on another CPU.
                    match gate::phase(ct) {
                        Phase::Gone => At::Replaced(ct),
                        _ => return Verdict::Accept,
                    }
                }
                Phase::Gone => {
                    // A reset of its client, or an operator, has ended it.
                    gate::take(net, ct);
                    At::Replaced(ct)
                }
                Phase::None if !ct.is(Status::Confirmed) => At::Replaced(ct),
                Phase::Opening { .. } => At::Entry(ct),
                _ => return Verdict::Accept,
            }
        }
        _ => return Verdict::Accept,
    };
    let Some((thoff, segment)) = good_segment(skb, place) else {
        return Verdict::Accept;
    };
    if late(net, skb, place.family, &at, thoff, &segment) {
        Verdict::Consume
    } else {
        // What a client without data says means nothing to the server before it has answered.
        Verdict::Accept
    }
}

/// Where data stands that has come after a verdict.
enum At<'a> {
    /// With the new entry.
    Entry(&'a Conn),
    /// With one that is not in conntrack's table, where there may be another by now: that in which its
    /// client has waited, or one that was made for the packet when there was none.
    Replaced(&'a Conn),
    /// With none: conntrack calls it INVALID. It is looked for in the default zone.
    NoEntry,
}

/// Data that has come after a verdict; whether it is taken care of.
fn late(
    net: &Net,
    skb: &SkBuff,
    family: Family,
    at: &At<'_>,
    thoff: usize,
    segment: &Segment,
) -> bool {
    let passing = match at {
        At::Entry(_) => None,
        At::Replaced(_) | At::NoEntry => answer::client_flow(skb, segment),
    };
    // First: when it has just arrived there is an entry.
    if passing.is_some_and(|flow| {
        let whose = Whose::Passing(&flow, skb.zone().id());
        opening(net, whose, skb, thoff, segment)
    }) {
        return true;
    }
    let new: Option<ConnRef> = match at {
        At::Entry(ct) => Some((*ct).into()),
        At::Replaced(ct) => ct.successor(),
        At::NoEntry => skb.lookup(net, family),
    };
    let Some(new) = new else {
        return false;
    };
    let flow = new.flow();
    if !is_from_client(skb, segment, &flow) {
        return false;
    }
    match gate::phase(&new) {
        Phase::Opening { .. } => opening(net, Whose::Entry(&new), skb, thoff, segment),
        // It was answered just now.
        Phase::Open { .. } => {
            let may_retry = match at {
                At::Entry(_) => false,
                At::Replaced(_) => true,
                At::NoEntry => pernet::state::<Relay>(net).pending.may_retry(),
            };
            if may_retry {
                again(net, skb, &flow, thoff, segment);
            }
            may_retry
        }
        _ => false,
    }
}

/// Whether the client of `flow` has sent the packet.
fn is_from_client(skb: &SkBuff, segment: &Segment, flow: &Flow) -> bool {
    let sender = skb
        .ip()
        .map(|ip| SocketAddr::new(ip.src, segment.src_port()));
    sender == Some(flow.client)
}

/// The TCP header of `skb` and where it is, if the packet carries data and is whole.
fn good_segment(skb: &SkBuff, place: Place<'_>) -> Option<(usize, Segment)> {
    let (thoff, segment) = skb.segment(place.family)?;
    (Span::of(&segment).len != 0 && skb.tcp_checksum_ok(place.family, thoff))
        .then_some((thoff, segment))
}
