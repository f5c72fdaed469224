// SPDX-License-Identifier: GPL-2.0-only

//! What the server answers, and every packet after it.
//!
//! The hook stands right before conntrack's `nf_confirm`, which adjusts sequence numbers; timestamps
//! are ours. An entry goes from opening to open once: who changes the last word from the client's
//! ISN to the offset of the clocks installs the translation. Until then nothing of the client's gets
//! through: its numbers would mean nothing to the server. On another CPU the last word can change
//! before the translation is in place; a packet that sees it so is taken for one of an opening
//! entry and dropped.
//!
//! The hook lives in a namespace from its first rule on to its end or the module's. Then no packet
//! is in it any more, and what cannot live without it is deleted: what waits, what opens, and what
//! has its timestamps translated. Other open connections go on, by the kernel's adjustment alone.

use crate::{
    answer, coexist,
    early::Enter,
    gate,
    hold::{Control, Hold, Queue, Sift},
    netfilter::{
        conntrack::{self, Conn, ConnRef, Event, SynTemplate, Tracked},
        hook::{self, point, Hook, Place, Verdict, PRI_BEFORE_CONFIRM},
        pernet,
        route::{Route, Routed},
        skb::{IcmpError, Manner, OwnedSkb, SkBuff},
        timer::Tick,
        turn::Plain,
        Net,
    },
    open::{self, Answered},
    pending,
    stats::{self, Counter, Stats},
    tcp::{
        handshake,
        icmp::{self, Translation},
        sack,
        segment::flags,
        timestamp::{self, Direction, Rewrite},
        Phase, Repr, Segment,
    },
};
use kernel::prelude::*;

/// The proxy's part in a namespace.
pub(crate) struct Relay;

/// What the proxy has in a namespace.
#[pin_data]
pub(crate) struct State {
    #[pin]
    pub(crate) pending: pending::Table,
    #[pin]
    pub(crate) gate: gate::Gate,
    pub(crate) bucket: answer::Bucket,
    pub(crate) template: SynTemplate,
}

/// What the proxy has hooks for: who does not use something pays nothing for it with each packet.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// Any rule of the target.
    Relay,
    /// One in PREROUTING.
    Enter,
    /// Clients that wait.
    Gate,
}

impl pernet::Purpose for Purpose {
    const ALL: &'static [Self] = &[Self::Relay, Self::Enter, Self::Gate];

    fn index(self) -> usize {
        self as usize
    }

    fn add(self, ops: &mut hook::Ops) -> Result {
        match self {
            Self::Relay => ops.add::<Relay>(),
            Self::Enter => ops.add::<Enter>(),
            Self::Gate => {
                ops.add::<Control>()?;
                ops.add::<Sift>()?;
                ops.add::<Hold>()
            }
        }
    }
}

static ID: pernet::Id = pernet::Id::new();

impl pernet::Subsystem for Relay {
    type Purpose = Purpose;
    type State = State;
    type Counter = Counter;
    type File = Stats;

    fn new(net: &Net) -> impl PinInit<State, Error> {
        try_pin_init!(State {
            pending <- pending::Table::new(),
            gate <- gate::Gate::new(),
            bucket: answer::Bucket::new(),
            template: SynTemplate::new(net)?,
        })
    }

    fn stop(state: &State) {
        state.pending.clear();
    }

    fn id() -> &'static pernet::Id {
        &ID
    }

    fn cleanup(net: &Net) {
        conntrack::delete_if(net, |ct| match gate::phase(ct) {
            Phase::None => false,
            Phase::Open {
                timestamp_offset, ..
            } => timestamp_offset != 0,
            Phase::Waiting(_) | Phase::Refused(_) | Phase::Gone | Phase::Opening { .. } => true,
        });
    }
}

impl Tick for Relay {
    fn tick(net: &Net) -> Option<u32> {
        pending::look(net)
    }
}

impl Hook for Relay {
    const POINTS: &'static [(u8, i32)] = &[
        (point::LOCAL_IN, PRI_BEFORE_CONFIRM),
        (point::POST_ROUTING, PRI_BEFORE_CONFIRM),
    ];

    #[inline(always)]
    fn judge(skb: &mut SkBuff, place: Place<'_>) -> Verdict {
        // Nearly all packets are of no connection of ours, or of one that is open.
        let looked = match skb.tracked() {
            Tracked::Untracked => return Verdict::Accept,
            Tracked::Yes {
                ct,
                direction,
                related: false,
            } => gate::open_offset(ct).and_then(|offset| look(skb, direction, offset)),
            _ => None,
        };
        match looked {
            Some((_, _, None)) => Verdict::Accept,
            Some((thoff, header_len, Some(rewrite))) if place.sees_once(skb) => {
                match skb.rewrite(thoff, header_len, rewrite) {
                    Ok(()) => Verdict::Accept,
                    Err(_) => Verdict::Drop,
                }
            }
            _ => judge(skb, place),
        }
    }
}

/// What is to be rewritten of a packet of an open connection, and where its TCP header is, and how long;
/// `None` when that takes more than a look.
#[inline]
fn look(
    skb: &SkBuff,
    direction: Direction,
    offset: u32,
) -> Option<(usize, usize, Option<Rewrite>)> {
    let (thoff, segment) = skb.plain_segment()?;
    let rewrite = timestamp::translate_plain(&segment, direction, offset).ok()?;
    Some((thoff, segment.header_len(), rewrite))
}

fn judge(skb: &mut SkBuff, place: Place<'_>) -> Verdict {
    if place.is_first_of_two() {
        return Verdict::Accept;
    }
    let net = place.net;
    let (ct, direction) = match skb.tracked() {
        Tracked::Untracked => return Verdict::Accept,
        Tracked::No => return stray(skb, place),
        Tracked::Yes {
            ct,
            direction,
            related,
        } => {
            // The packet is changed while its entry is looked at: one more reference.
            if related {
                let ct = ConnRef::from(ct);
                return about(skb, place, &ct, direction);
            }
            (ct, direction)
        }
    };
    let phase = gate::phase(ct);
    // What comes out of the loopback device was here before, on its way in.
    if phase.is_none() || skb.is_loopback() {
        return Verdict::Accept;
    }
    // Our own SYN, most often.
    if let (Phase::Opening { client_isn, .. }, Direction::Original) = (phase, direction) {
        let is_ours = skb
            .plain_segment()
            .is_some_and(|(_, tcp)| tcp.is_syn() && tcp.seq() == client_isn && tcp.ack() == 0);
        // It was made here, and has not come in.
        if is_ours && skb.device_index() == 0 {
            coexist::watch(place);
            return Verdict::Accept;
        }
    }
    let Some((thoff, segment)) = skb.segment(place.family) else {
        return Verdict::Drop;
    };
    if !segment.is_ack() {
        coexist::watch(place);
    }
    match (phase, direction) {
        (Phase::None, _) => Verdict::Accept,
        // The kernel's guard says the same.
        (Phase::Waiting(_) | Phase::Refused(_) | Phase::Gone, _) => {
            if direction == Direction::Original && gate::is_new_syn(&phase, &segment) {
                // Some rule has taken it for a new connection. The client sends it again.
                gate::let_go(net, ct);
            }
            Verdict::Drop
        }
        (Phase::Opening { client_isn, .. }, Direction::Original) => {
            // One that comes in twice at once is still laden, the second time.
            let our_syn = segment.is_syn()
                && segment.seq() == client_isn
                && segment.ack() == 0
                // The client's own may have what nobody has judged.
                && segment.payload_len() == 0
                && (open::enter(net, ct, skb) || skb.is_local());
            // A client that gives up: its own sequence numbers are right.
            if our_syn || segment.is_rst() {
                Verdict::Accept
            } else {
                Verdict::Drop
            }
        }
        (
            Phase::Opening {
                proxy_isn,
                timestamp,
                client_isn,
            },
            Direction::Reply,
        ) => {
            if segment.is_syn_ack() && segment.ack() == client_isn.wrapping_add(1) {
                let ct = ConnRef::from(ct);
                join(skb, place, &ct, &segment, proxy_isn, timestamp, client_isn)
            } else if handshake::refuses(&segment, client_isn) {
                refused_by_server(net, ct, &segment, proxy_isn, client_isn)
            } else {
                // The server has an older connection of these ports, and challenges our SYN.
                if segment.is_ack() && segment.ack() != client_isn.wrapping_add(1) {
                    let _ = reset_server(net, skb, ct, &segment);
                }
                Verdict::Drop
            }
        }
        (Phase::Open { .. }, Direction::Original) if segment.is_syn() => {
            reopened(net, skb, ct, &segment);
            Verdict::Drop
        }
        (
            Phase::Open {
                proxy_isn,
                timestamp,
                ..
            },
            Direction::Reply,
        ) if segment.is_syn_ack() => {
            // The server has not got our ACK.
            let window = ct.seen(Direction::Original).window;
            let joined = handshake::joined(&segment, proxy_isn, timestamp, window);
            let _ = to_server(net, skb, ct, &joined.to_server);
            Verdict::Consume
        }
        (
            Phase::Open {
                timestamp_offset, ..
            },
            _,
        ) => {
            // Rare, so that other packets do not pay for the offset.
            // Without ACK, nothing adjusts them.
            let is_odd = direction == Direction::Original
                && segment.flags() & flags::ACK != 0
                && sack::odd_edges(segment.raw_options()).next().is_some();
            if is_odd {
                let seq_offset = ct.sequence_offset(segment.ack());
                if prepare_sack(skb, thoff, &segment, seq_offset).is_err() {
                    return Verdict::Drop;
                }
            }
            translate(skb, thoff, &segment, direction, timestamp_offset)
        }
    }
}

/// A packet without an entry. Conntrack takes a client's ACK for INVALID while our SYN is on its way,
/// and whatever is malformed always: it must not pass by an entry that holds its client, or one whose
/// numbers are translated. The look-up knows the default zone only.
fn stray(skb: &SkBuff, place: Place<'_>) -> Verdict {
    match skb.lookup(place.net, place.family) {
        Some(ct) if !gate::phase(&ct).is_none() => Verdict::Drop,
        _ => Verdict::Accept,
    }
}

/// A packet about a connection rather than of it: an ICMP error, or a reset by REJECT. `direction` is
/// the way it goes; what it quotes went the other.
fn about(skb: &mut SkBuff, place: Place<'_>, ct: &Conn, direction: Direction) -> Verdict {
    let phase = gate::phase(ct);
    if phase.is_none() || skb.is_loopback() {
        return Verdict::Accept;
    }
    let error = skb
        .transport(place.family)
        .and_then(|transport| skb.icmp(place.family, &transport));
    match (phase, direction) {
        (Phase::None, _) => Verdict::Accept,
        // The server has sent nothing yet that an error could be about: ours are, and it must not
        // hear of them.
        (
            Phase::Waiting(_) | Phase::Refused(_) | Phase::Gone | Phase::Opening { .. },
            Direction::Original,
        ) => Verdict::Drop,
        (Phase::Waiting(_) | Phase::Refused(_) | Phase::Gone, Direction::Reply) => Verdict::Accept,
        (
            Phase::Opening {
                proxy_isn,
                client_isn,
                ..
            },
            Direction::Reply,
        ) => match error {
            Some(error) if error.quote.seq() == client_isn => {
                if error.kind == icmp::Kind::Unreachable {
                    abort(skb, place.net, ct, proxy_isn, client_isn);
                }
                // It is about our SYN, of which the client knows nothing.
                Verdict::Drop
            }
            // A rule of this host rejects our SYN, as it has come in.
            _ if skb
                .segment(place.family)
                .is_some_and(|(_, rst)| handshake::refuses(&rst, client_isn)) =>
            {
                abort(skb, place.net, ct, proxy_isn, client_isn);
                Verdict::Drop
            }
            // Or what the client sends meanwhile.
            _ if skb.is_local() => Verdict::Accept,
            // No other packet of the connection has been on the way.
            _ => Verdict::Drop,
        },
        (
            Phase::Open {
                timestamp_offset, ..
            },
            _,
        ) => {
            if let Some(error) = error {
                if untranslate(skb, ct, direction, &error, timestamp_offset).is_err() {
                    return Verdict::Drop;
                }
                stats::count(place.net, Counter::IcmpErrors);
            }
            if direction == Direction::Original {
                skb.keep_from_adjustment();
            }
            Verdict::Accept
        }
    }
}

/// Gives the packet that an ICMP error quotes the numbers that its sender knows.
fn untranslate(
    skb: &mut SkBuff,
    ct: &Conn,
    direction: Direction,
    error: &IcmpError,
    timestamp_offset: u32,
) -> Result {
    let server_end = ct.seen(Direction::Reply).end;
    let translation = Translation {
        seq_offset: ct.sequence_offset(server_end),
        timestamp_offset,
        server_end,
    };
    let quoted = match direction {
        Direction::Original => Direction::Reply,
        Direction::Reply => Direction::Original,
    };
    for rewrite in error.quote.untranslate(quoted, &translation) {
        skb.rewrite_quote(error, rewrite)?;
    }
    Ok(())
}

/// Our SYN does not get to the server, as an ICMP error says: the client is reset, and the error
/// ends here.
fn abort(trigger: &SkBuff, net: &Net, ct: &Conn, proxy_isn: u32, client_isn: u32) {
    // The server may answer at this moment, on another CPU.
    if !ct
        .synproxy()
        .is_some_and(|words| words.swap_last(client_isn, 0))
    {
        return;
    }
    stats::count(net, Counter::Refused);
    let manner = open::answered(net, ct).manner.unwrap_or(trigger.manner());
    let flow = ct.flow();
    ct.delete();
    // A reset that is lost is made good by the one for the client's next packet.
    let _ = open::aborted(net, &flow, proxy_isn, client_isn, manner).and_then(|out| {
        let mut out = Routed::new(net, out, trigger)?;
        out.untrack();
        out.send(net);
        Ok(())
    });
}

/// A SYN on a connection that is open. It must not slip through the entry of the old one: a server
/// that has closed would take it for a new connection that nobody has judged.
fn reopened(net: &Net, skb: &SkBuff, ct: &Conn, syn: &Segment) {
    if ct.is_closed() {
        stats::count(net, Counter::ConnReopened);
        ct.delete();
        return;
    }
    let server = ct.seen(Direction::Reply);
    let challenge = handshake::challenge(syn, server.end, server.ack, server.window);
    // Lost, it is made good by the client's next SYN.
    let _ = to_client(net, skb, ct, &challenge);
}

/// The server has answered: install the translation, complete its handshake, and tell the client
/// how much it may send. What tells it, unless there is more to come first, is the server's packet, which
/// becomes a window update on its way.
fn join(
    skb: &mut SkBuff,
    place: Place<'_>,
    ct: &Conn,
    syn_ack: &Segment,
    proxy_isn: u32,
    timestamp: u32,
    client_isn: u32,
) -> Verdict {
    let net = place.net;
    let window = ct.seen(Direction::Original).window;
    let joined = handshake::joined(syn_ack, proxy_isn, timestamp, window);
    if !ct
        .synproxy()
        .is_some_and(|words| words.swap_last(client_isn, joined.timestamp_offset))
    {
        return Verdict::Drop;
    }
    stats::count(net, Counter::Opened);
    ct.translate_sequence(joined.seq_offset);
    ct.event(Event::SynProxy);
    ct.event(Event::SeqAdj);
    // Lost packets are made good: the server sends its SYN,ACK again, the client its data.
    let Answered {
        held,
        manner,
        came_by,
        route,
    } = open::answered(net, ct);
    let flow = ct.flow();
    let manner = manner.unwrap_or_else(|| skb.manner());
    let ack = OwnedSkb::tcp(net, flow.client, flow.server, &joined.to_server, manner);
    let _ = ack.and_then(|ack| match came_by {
        Some(device) => come_in(net, ct, ack, device),
        None => forward(net, skb, ct, ack, route.as_ref()),
    });
    let mut update = joined.to_client;
    // What is held may be answered before this packet is out.
    if held.is_none() {
        if let Some(mut packet) = Plain::new(skb, place.family) {
            // The rest is up to conntrack.
            if let Some(ts) = &mut update.options.timestamps {
                ts.val = ts.val.wrapping_sub(joined.timestamp_offset);
            }
            return match packet.replace(net, &update) {
                Ok(()) => Verdict::Accept,
                Err(_) => Verdict::Drop,
            };
        }
    }
    let _ = to_client(net, skb, ct, &update);
    for packet in held.into_iter().flat_map(Queue::release) {
        stats::count(net, Counter::Held);
        // Each has a mark of its own, which may lead it elsewhere.
        let _ = match came_by {
            Some(device) => come_in(net, ct, packet, device),
            None => forward(net, skb, ct, packet, None),
        };
    }
    Verdict::Consume
}

/// The server refuses: the client gets the reset at the number that it expects.
fn refused_by_server(
    net: &Net,
    ct: &Conn,
    rst: &Segment,
    proxy_isn: u32,
    client_isn: u32,
) -> Verdict {
    if !ct
        .synproxy()
        .is_some_and(|words| words.swap_last(client_isn, 0))
    {
        return Verdict::Drop;
    }
    open::answered(net, ct);
    stats::count(net, Counter::Refused);
    ct.translate_sequence(proxy_isn.wrapping_add(1).wrapping_sub(rst.seq()));
    Verdict::Accept
}

/// Resets the server's end of an older connection, as the client itself would: RFC 9293 section
/// 3.10.7.3, first check. Conntrack is left out, so that its entry waits for the next SYN. Where that
/// came in, so does the reset.
fn reset_server(net: &Net, trigger: &SkBuff, ct: &Conn, segment: &Segment) -> Result {
    let reset = handshake::reset(segment);
    if let Some(device) = open::came_by(net, ct) {
        let flow = ct.flow();
        let mut out = OwnedSkb::tcp(net, flow.client, flow.server, &reset, received(trigger))?;
        out.attach_original(ct);
        return out.receive_by(net, device);
    }
    let (from, to) = (
        ct.destination(Direction::Reply),
        ct.source(Direction::Reply),
    );
    let out = OwnedSkb::tcp(net, from, to, &reset, trigger.manner())?;
    let mut out = Routed::new(net, out, trigger)?;
    out.untrack();
    out.send(net);
    Ok(())
}

/// Sends `repr` to the server as if the client had: conntrack and the translation see it like any
/// other packet of the connection. For a transparent proxy it comes in, as OUTPUT leads past that.
fn to_server(net: &Net, trigger: &SkBuff, ct: &Conn, repr: &Repr) -> Result {
    let flow = ct.flow();
    let make = |manner| OwnedSkb::tcp(net, flow.client, flow.server, repr, manner);
    match trigger.sent_by_proxy() {
        Some(device) => come_in(net, ct, make(received(trigger))?, device),
        None => forward(net, trigger, ct, make(trigger.manner())?, None),
    }
}

/// What a packet is like that comes in on account of one that leaves: the mark of that is for its own way.
fn received(trigger: &SkBuff) -> Manner {
    Manner {
        mark: 0,
        ..trigger.manner()
    }
}

/// Sends a packet of the client's to the server, by the route that our SYN went if it is told.
fn forward(
    net: &Net,
    trigger: &SkBuff,
    ct: &Conn,
    mut packet: OwnedSkb,
    route: Option<&Route>,
) -> Result {
    conntrack::track_as(net, &mut packet, ct)?;
    let out = match route {
        Some(route) => Routed::by(net, packet, route, trigger)?,
        None => Routed::new(net, packet, trigger)?,
    };
    out.send(net);
    Ok(())
}

/// Has a packet of the client's come in, in the zone of its connection.
fn come_in(net: &Net, ct: &Conn, mut packet: OwnedSkb, device: u32) -> Result {
    packet.set_zone(net, &ct.zone())?;
    packet.receive_by(net, device)
}

/// Sends `repr` to the client as if the server had; the translation of addresses and numbers sees it
/// like any other packet of the connection.
fn to_client(net: &Net, trigger: &SkBuff, ct: &Conn, repr: &Repr) -> Result {
    let flow = ct.flow();
    let out = OwnedSkb::tcp(net, flow.server, flow.client, repr, trigger.manner())?;
    let mut out = Routed::new(net, out, trigger)?;
    out.attach_reply(ct);
    out.send(net);
    Ok(())
}

/// Makes up beforehand for what `nf_confirm` does to the checksum when it adjusts SACK blocks at odd
/// offsets.
fn prepare_sack(skb: &mut SkBuff, thoff: usize, segment: &Segment, seq_offset: u32) -> Result {
    for edge in sack::odd_edges(segment.raw_options()) {
        let adjusted = edge.wrapping_sub(seq_offset);
        let odd = |value| timestamp::as_summed(value, 1);
        skb.correct_checksum(thoff, segment, odd(edge), odd(adjusted))?;
        skb.correct_checksum(thoff, segment, adjusted, edge)?;
    }
    Ok(())
}

fn translate(
    skb: &mut SkBuff,
    thoff: usize,
    segment: &Segment,
    direction: Direction,
    offset: u32,
) -> Verdict {
    match timestamp::translate(segment.raw_options(), direction, offset) {
        Some(rewrite) if skb.rewrite(thoff, segment.header_len(), rewrite).is_err() => {
            Verdict::Drop
        }
        _ => Verdict::Accept,
    }
}
