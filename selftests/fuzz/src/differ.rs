// SPDX-License-Identifier: GPL-2.0-only

//! What two proxies do differently, and why they may.

use crate::{
    look::{Header, Look, Spot, Value},
    packet::{Body, Packet, Side, ACK, FIN, RST, SYN},
    talk::{State, Talk},
};

/// An input, and what came out of both: of the kernel's own proxy, and of this one.
pub(crate) struct Case<'a> {
    pub(crate) talk: &'a Talk,
    pub(crate) state: State,
    pub(crate) packet: &'a Packet,
    /// What this one got, if it is a segment.
    pub(crate) input: Option<Header>,
    pub(crate) looks: [&'a [Look]; 2],
    /// What went into each.
    pub(crate) inputs: [&'a [u8]; 2],
}

/// What is not the same.
#[derive(Debug)]
pub(crate) enum Difference {
    /// A field of packets that are alike, by their numbers in what came out.
    Field {
        packets: [usize; 2],
        name: &'static str,
    },
    /// The packets; those that came out of both are left out.
    Packets { only: [Vec<usize>; 2] },
}

/// All that is not the same.
pub(crate) fn differences(looks: [&[Look]; 2]) -> Vec<Difference> {
    let mut only = [vec![], (0..looks[1].len()).collect::<Vec<_>>()];
    let mut alike = vec![];
    for (at, theirs) in looks[0].iter().enumerate() {
        let same_kind = |other: &usize| {
            let ours = &looks[1][*other];
            (ours.spot, &ours.kind) == (theirs.spot, &theirs.kind)
        };
        // The one that is the same in all, if there is one.
        let found = only[1]
            .iter()
            .position(|other| looks[1][*other] == *theirs)
            .or_else(|| only[1].iter().position(same_kind));
        match found {
            Some(found) => alike.push([at, only[1].remove(found)]),
            None => only[0].push(at),
        }
    }
    let mut out: Vec<Difference> = alike
        .into_iter()
        .flat_map(|packets| {
            let [theirs, ours] = [&looks[0][packets[0]], &looks[1][packets[1]]];
            fields(theirs, ours)
                .into_iter()
                .map(move |name| Difference::Field { packets, name })
        })
        .collect();
    if only != [[], []] {
        out.push(Difference::Packets { only });
    }
    out
}

/// A proxy's clock goes on while the other one has its turn.
fn is_time(theirs: &(&str, Value), ours: &(&str, Value)) -> bool {
    match (theirs, ours) {
        (("TSval", Value::Number(theirs)), (_, Value::Number(ours))) => {
            theirs & 0x3f == ours & 0x3f && ours.wrapping_sub(*theirs).wrapping_add(3000) < 6000
        }
        _ => false,
    }
}

fn fields(theirs: &Look, ours: &Look) -> Vec<&'static str> {
    let names = |look: &Look| look.fields.iter().map(|field| field.0).collect::<Vec<_>>();
    if names(theirs) != names(ours) {
        return vec!["fields"];
    }
    let is_made = theirs.field("clock bits").is_some();
    theirs
        .fields
        .iter()
        .zip(&ours.fields)
        .filter(|(theirs, ours)| theirs != ours && !(is_made && is_time(theirs, ours)))
        .map(|(theirs, _)| theirs.0)
        .collect()
}

impl Case<'_> {
    fn is_client(&self) -> bool {
        self.packet.from == Side::Client
    }

    fn has(&self, mask: u8, set: u8) -> bool {
        self.input.is_some_and(|input| input.flags & mask == set)
    }

    /// The flags of the only packets that just one of both has sent, by place.
    fn kinds(&self, difference: &Difference, which: usize) -> Vec<(Spot, &str)> {
        let Difference::Packets { only } = difference else {
            return vec![];
        };
        let look = |at: &usize| &self.looks[which][*at];
        only[which]
            .iter()
            .map(look)
            .map(|look| (look.spot, look.kind.as_str()))
            .collect()
    }

    fn pair(&self, difference: &Difference) -> Option<(&Look, &Look, &'static str)> {
        match difference {
            Difference::Field { packets, name } => {
                Some((&self.looks[0][packets[0]], &self.looks[1][packets[1]], name))
            }
            Difference::Packets { .. } => None,
        }
    }

    /// A field that is a number.
    fn numbers(&self, difference: &Difference, field: &str) -> Option<(u32, u32)> {
        let (theirs, ours, name) = self.pair(difference)?;
        (name == field)
            .then(|| Some((theirs.number(field)?, ours.number(field)?)))
            .flatten()
    }

    /// It is what completes the handshake with the server.
    fn joins(&self) -> bool {
        let may_be = self.input.is_none() || self.has(SYN | ACK | RST | FIN, SYN | ACK);
        self.state == State::Opening && self.packet.from == Side::Server && may_be
    }

    /// A client's ACK with numbers near to those that end its handshake, or both moved by as much: to a cookie
    /// that is the same.
    fn is_near(&self) -> bool {
        let Some(input) = self.input else {
            return false;
        };
        let seq = input.seq.wrapping_sub(self.talk.true_isn);
        let ack = input.ack.wrapping_sub(self.talk.shown[1].isn);
        let near = |number: u32| number.wrapping_add(4) < 10;
        self.is_client()
            && self.has(SYN | ACK | RST | FIN, ACK)
            && (near(seq) && near(ack) || near(ack.wrapping_sub(seq)))
            && (seq, ack) != (1, 1)
    }

    /// A client's ACK that echoes something else than what it was sent.
    fn echo_is_other(&self) -> bool {
        let echo = self
            .input
            .and_then(|input| input.timestamps)
            .map(|(_, echo)| echo);
        self.is_client() && echo.is_some_and(|echo| echo == 0 || echo != self.talk.shown[1].clock)
    }

    /// Both have sent a SYN to the server, with numbers near to each other.
    fn syns_are_near(&self) -> bool {
        let syn = |looks: &[Look]| {
            looks
                .iter()
                .find(|look| look.spot != Spot::Client)?
                .number("seq")
        };
        let both = syn(self.looks[0]).zip(syn(self.looks[1]));
        both.is_some_and(|(theirs, ours)| {
            theirs != ours && ours.wrapping_sub(theirs).wrapping_add(4) < 9
        })
    }

    /// What differs is a SYN to the server, or the reset that a closed port has for it.
    fn is_about_syn(&self, difference: &Difference) -> bool {
        let of_syn = |(spot, kind): (Spot, &str)| match spot {
            Spot::Client => kind == "RA" && self.talk.local,
            _ => kind.starts_with('S') && !kind.contains('A'),
        };
        match self.pair(difference) {
            Some((_, ours, _)) => of_syn((ours.spot, &ours.kind)),
            None => (0..2).all(|which| self.kinds(difference, which).into_iter().all(of_syn)),
        }
    }

    /// In-tree a SYN to the server is all there is more.
    fn makes_syn(&self, difference: &Difference) -> bool {
        let theirs = self.kinds(difference, 0);
        let is_syn = |(spot, kind): &(Spot, &str)| match spot {
            Spot::Client => *kind == "RA" && self.talk.local,
            _ => kind.starts_with('S') && !kind.contains('A'),
        };
        !theirs.is_empty() && theirs.iter().all(is_syn)
    }

    /// In-tree there is more, and here there is not.
    fn ours_is_silent(&self, difference: &Difference) -> bool {
        matches!(difference, Difference::Packets { only } if only[1].is_empty() && !only[0].is_empty())
    }

    /// In-tree there is an ICMP error, from the firewall or through it.
    fn is_error(&self, difference: &Difference) -> bool {
        let theirs = self.kinds(difference, 0);
        !theirs.is_empty() && theirs.iter().all(|(_, kind)| kind.starts_with("icmp"))
    }

    /// In-tree what was sent goes on as it is.
    fn passes(&self, difference: &Difference) -> bool {
        let Difference::Packets { only } = difference else {
            return false;
        };
        let across = if self.is_client() {
            Spot::Server
        } else {
            Spot::Client
        };
        let is_it = |look: &Look| {
            let as_sent = look.number("as sent").is_none_or(|as_sent| as_sent == 1);
            look.spot == across && as_sent
        };
        !only[0].is_empty() && only[0].iter().all(|at| is_it(&self.looks[0][*at]))
    }

    /// A field of our SYN to the server.
    fn syn_field(&self, difference: &Difference, field: &str) -> Option<(u32, u32)> {
        let (theirs, ours, name) = self.pair(difference)?;
        let is_syn =
            ours.kind.starts_with('S') && !ours.kind.contains('A') && ours.spot != Spot::Client;
        (is_syn && name == field)
            .then(|| Some((theirs.number(field)?, ours.number(field)?)))
            .flatten()
    }
}

/// A difference that may be, and has to be seen.
pub(crate) struct Reason {
    pub(crate) name: &'static str,
    /// In-tree, and here.
    pub(crate) text: &'static str,
    /// From there on both sides have other numbers, or are not in the same state.
    pub(crate) ends: bool,
    pub(crate) holds: fn(&Case<'_>, &Difference) -> bool,
}

const fn field(
    name: &'static str,
    text: &'static str,
    holds: fn(&Case<'_>, &Difference) -> bool,
) -> Reason {
    Reason {
        name,
        text,
        ends: false,
        holds,
    }
}

const fn packets(
    name: &'static str,
    text: &'static str,
    holds: fn(&Case<'_>, &Difference) -> bool,
) -> Reason {
    Reason {
        name,
        text,
        ends: true,
        holds,
    }
}

/// The list. The first that holds is taken.
pub(crate) const REASONS: &[Reason] = &[
    field(
        "syn-ack-field",
        "the SYN's acknowledgement is 0, in-tree it shows the server the proxy's ISN",
        |case, difference| case.syn_field(difference, "no ack").is_some_and(|(_, ours)| ours == 0),
    ),
    field(
        "syn-echo",
        "the SYN's TSecr is 0, in-tree it is the proxy's timestamp",
        |case, difference| case.syn_field(difference, "TSecr").is_some_and(|(_, ours)| ours == 0),
    ),
    field(
        "syn-window",
        "a SYN's window is not scaled, so what the client can take is written out",
        |case, difference| {
            let is_scaled = |theirs: u32, ours| (1..=14).any(|shift| ours == (theirs << shift).min(0xffff));
            case.syn_field(difference, "window").is_some_and(|(theirs, ours)| is_scaled(theirs, ours))
        },
    ),
    field(
        "class",
        "what the proxy makes has the traffic class of what it answers",
        |case, difference| case.numbers(difference, "tos").is_some_and(|(theirs, ours)| theirs == 0 && ours & 3 == 0),
    ),
    field(
        "ack-echo",
        "the proxy's ACK echoes the server's timestamp, in-tree it is shifted twice",
        |case, difference| {
            let is_echo = |ours| case.input.and_then(|input| input.timestamps).is_some_and(|(value, _)| {
                value == case.talk.server.clock.wrapping_add(ours)
            });
            case.joins() && case.numbers(difference, "TSecr").is_some_and(|(_, ours)| is_echo(ours))
        },
    ),
    field(
        "small-window",
        "an open window does not look closed",
        |case, difference| case.joins() && case.numbers(difference, "window") == Some((0, 1)),
    ),
    field(
        "ack-window",
        "the ACK's window is the SYN's, of 16 bits, or what that means to a server that does not scale",
        |case, difference| {
            let may_be = |theirs: u32, ours: u32| {
                (1..=14).any(|shift| {
                    let bytes = (theirs << shift).min(0xffff);
                    ours == (bytes >> shift).max(1) || ours == bytes
                })
            };
            case.joins()
                && case.numbers(difference, "window").is_some_and(|(theirs, ours)| may_be(theirs, ours))
        },
    ),
    Reason {
        name: "unasked-timestamps",
        text: "a server that sends timestamps unasked gets none",
        ends: true,
        holds: |case, difference| {
            let unasked = |(theirs, ours, name): (&Look, &Look, &str)| {
                name == "fields" && theirs.field("TSval").is_some() && ours.field("TSval").is_none()
            };
            case.joins() && case.pair(difference).is_some_and(unasked)
        },
    },
    field(
        "mss-0",
        "an MSS of 0 is none",
        |case, difference| {
            let is_less = |(theirs, ours, name): (&Look, &Look, &str)| {
                name == "fields" && ours.kind.starts_with("SA") && theirs.fields.len() == ours.fields.len() + 1
            };
            !case.joins() && case.pair(difference).is_some_and(is_less)
        },
    ),
    field(
        "quote",
        "what an ICMP error quotes is translated, and it is not adjusted as if it were a segment",
        |case, difference| {
            let is_error = matches!(case.packet.body, Body::Error { .. });
            let is_known = case.talk.opened || case.state == State::Closing;
            is_known && case.pair(difference).is_some_and(|(_, ours, name)| {
                ours.kind.starts_with("icmp") || is_error && matches!(name, "part" | "payload" | "quote")
            })
        },
    ),
    field(
        "odd-offset",
        "a timestamp or SACK block at an odd offset, in-tree the checksum is wrong",
        |case, difference| {
            let is_odd = case.input.is_some_and(|input| input.odd);
            is_odd && case.numbers(difference, "sum") == Some((1, 0))
        },
    ),
    packets(
        "reset-again",
        "a reset has the server's number, in-tree each is where the client's window begins",
        |case, difference| {
            let is_reset = case.packet.from == Side::Server && case.has(RST, RST);
            // And from then on in-tree what passes has other numbers, or none.
            let later = case.talk.was_reset && case.talk.opened;
            let seq = case.numbers(difference, "seq");
            let of_closed_port = case.talk.local && seq.is_some_and(|(_, ours)| ours == 1);
            let fields = case.pair(difference).is_some_and(|(.., name)| name == "fields");
            is_reset && (fields || seq.is_some()) || of_closed_port || later
        },
    ),
    field(
        "second-timestamp",
        "of two timestamps the first is translated, in-tree both are",
        |case, difference| {
            let two = case.input.is_some_and(|input| input.stamps > 1);
            two && case.pair(difference).is_some_and(|(.., name)| name.starts_with("TS"))
        },
    ),
    packets(
        "options-of-the-ack",
        "options of a SYN do not count in an ACK, in-tree they get into the proxy's SYN",
        |case, difference| {
            let is_syn = |look: &Look| look.kind.starts_with('S') && look.spot != Spot::Client;
            let is_it = case.input.is_some_and(|input| input.syn_options);
            is_it && case.is_client() && case.pair(difference).is_some_and(|(_, ours, _)| is_syn(ours))
        },
    ),
    packets(
        "near-number",
        "the client's first number is known though a probe or a later segment comes first, in-tree it is that of what comes",
        |case, difference| {
            let near = case.input.is_none() || case.is_near() || case.syns_are_near();
            (case.state != State::Open || !case.talk.client.stamps) && near && case.is_about_syn(difference)
        },
    ),
    packets(
        "echo",
        "an echoed timestamp must be one that the proxy can have sent with such a cookie in the last two minutes",
        |case, difference| {
            case.state != State::Open && case.is_about_syn(difference) && case.echo_is_other()
        },
    ),
    packets(
        "other-entry",
        "an ACK with a valid cookie counts though conntrack has another connection, by the server or by a SYN past the rule",
        |case, difference| {
            let is_whole = matches!(difference, Difference::Packets { .. });
            case.talk.other_entry && !case.talk.opened && case.is_client() && is_whole
        },
    ),
    packets(
        "window",
        "conntrack knows the client's window by the proxy's SYN and ACK, and what is far from its place is in it or not",
        |case, difference| {
            let is_now = |(theirs, ours, _): (&Look, &Look, &str)| theirs.number("as sent") != ours.number("as sent");
            let place = case.talk.server.isn.wrapping_add(case.talk.server.next);
            let is_far = case.input.is_some_and(|input| input.seq.wrapping_sub(place).wrapping_add(1000) > 2000);
            let one = match case.pair(difference) {
                Some(pair) => is_now(pair),
                None => case.kinds(difference, 0).is_empty() != case.kinds(difference, 1).is_empty(),
            };
            case.talk.opened && one && (is_far && case.packet.from == Side::Server || case.talk.strayed)
        },
    ),
    packets(
        "data-while-opening",
        "each packet of the client makes another SYN, here a timer does",
        |case, difference| {
            // Also when one ACK comes twice at once.
            let may_be = !case.talk.opened && (case.state != State::Answered || case.packet.cut.is_some());
            // Or the timer is just as quick.
            let both = case.state == State::Opening
                && case.pair(difference).is_some_and(|(.., name)| matches!(name, "window" | "TSval" | "fields"));
            let is_one = case.makes_syn(difference) && case.ours_is_silent(difference);
            may_be && case.is_client() && (is_one || both && case.is_about_syn(difference))
        },
    ),
    packets(
        "syn-while-opening",
        "a client that sends its SYN again is answered again, in-tree the proxy takes that for the server's answer",
        |case, difference| {
            let is_seen = case.is_client()
                && case.kinds(difference, 0) == [(Spot::Server, "A"), (Spot::Client, "A")]
                && matches!(case.kinds(difference, 1)[..], [] | [(Spot::Client, "SA" | "SAE")]);
            // Or later.
            is_seen || case.talk.syn_again && !case.talk.opened
        },
    ),
    packets(
        "syn-ack-for-another",
        "a SYN,ACK must acknowledge the proxy's SYN",
        |case, difference| {
            let other = case.input.is_some_and(|input| input.ack != case.talk.client.isn.wrapping_add(1));
            let is_it = case.joins() || !case.talk.opened && case.has(SYN | ACK | RST | FIN, SYN | ACK);
            case.packet.from == Side::Server && is_it && other && case.ours_is_silent(difference)
        },
    ),
    packets(
        "reset-while-opening",
        "a client's reset goes to the server, in-tree one with an ACK is taken for that of the handshake",
        |case, difference| {
            let ours = case.kinds(difference, 1);
            let is_it = case.is_client() && case.has(RST | ACK, RST | ACK) && !case.talk.opened;
            is_it && matches!(ours[..], [(Spot::Server, _)])
        },
    ),
    packets(
        "stale-syn-ack",
        "another SYN,ACK has misled conntrack: what it finds INVALID of the proxy's own is not sent, in-tree it is",
        |case, difference| {
            let theirs = case.kinds(difference, 0);
            let is_lost = case.ours_is_silent(difference) && theirs == [(Spot::Server, "A")];
            let passes = case.passes(difference) && theirs.iter().all(|kind| kind.1.starts_with("SA"));
            (case.joins() || !case.talk.opened && case.has(SYN | ACK | RST | FIN, SYN | ACK)) && (is_lost || passes && case.kinds(difference, 1).contains(&(Spot::Client, "A")))
        },
    ),
    packets(
        "while-opening",
        "nothing else passes until the server has answered, in-tree all that conntrack finds INVALID does",
        |case, difference| {
            let ours = case.kinds(difference, 1);
            !matches!(case.state, State::Nothing)
                && !case.talk.opened
                && (case.passes(difference) || case.is_error(difference))
                && ours.iter().all(|kind| {
                    // The SYN comes by its timer.
                    let may_be = matches!(kind, (Spot::Server, "R" | "S" | "SEC") | (Spot::Client, "RA" | "icmp 1.3" | "icmp 3.1"));
                    may_be && (!kind.1.starts_with('S') || !case.has(ACK, ACK) || case.has(FIN, FIN))
                })
        },
    ),
    packets(
        "reset-of-nothing",
        "a reset of the server's that does not acknowledge the SYN is not the answer to it",
        |case, difference| {
            let is_it = case.packet.from == Side::Server && case.has(RST, RST);
            !case.talk.opened && is_it && case.ours_is_silent(difference)
        },
    ),
    packets(
        "syn-ack-again",
        "the server's SYN,ACK once more is answered, in-tree the client gets it",
        |case, difference| {
            case.packet.from == Side::Server
                && (case.input.is_none() || case.has(SYN | ACK | RST | FIN, SYN | ACK))
                && case.kinds(difference, 0).iter().all(|(spot, _)| *spot == Spot::Client)
                && case.kinds(difference, 1).iter().all(|kind| *kind == (Spot::Server, "A"))
        },
    ),
    packets(
        "late-handshake",
        "a late packet of the handshake makes no other SYN",
        |case, difference| {
            matches!(case.state, State::Open | State::Closing) && case.makes_syn(difference) && case.ours_is_silent(difference)
        },
    ),
    packets(
        "malformed",
        "what conntrack finds INVALID does not pass by a connection that is translated",
        |case, difference| {
            // Or in-tree it passes as INVALID, and here with the right number.
            let is_right = case.pair(difference).is_some_and(|(theirs, ours, _)| {
                let place = case.talk.server.next;
                let right = case.packet.from == Side::Server && ours.number("seq") == Some(place);
                right && theirs.number("as sent") == Some(1)
            });
            matches!(case.state, State::Open | State::Closing)
                && (is_right || case.passes(difference) && case.ours_is_silent(difference))
        },
    ),
    packets(
        "port-again",
        "a SYN on the ports of a connection makes a new one, in-tree it gets lost or its answer is wrong",
        |case, difference| {
            let is_syn = case.input.is_none() || case.has(SYN | ACK | FIN | RST, SYN);
            let any = case.pair(difference).is_none_or(|(_, ours, name)| ours.kind.starts_with("SA") && name != "ack");
            let now = matches!(case.state, State::Open | State::Closing) && case.is_client() && is_syn && any;
            now || case.talk.port_again && case.talk.opened || case.talk.reopened
        },
    ),
    packets(
        "filled-in-options",
        "an IP option that routers fill in does no harm, in-tree the checksum looks wrong",
        |case, difference| {
            let has_options = matches!(case.inputs[1].first(), Some(0x46..=0x4f));
            case.kinds(difference, 0).is_empty() && has_options
        },
    ),
    packets(
        "broadcast",
        "what was sent to all on the link, or to all in IP, is not answered",
        |case, difference| {
            let to_all = case.packet.dst != case.talk.server_at.0 && case.packet.dst != case.talk.client_at.0;
            (to_all || case.packet.to_mac.is_some()) && case.ours_is_silent(difference)
        },
    ),
    packets(
        "unreachable",
        "when the neighbour that the SYN is for does not answer, the client is reset; what tells others so comes by a timer",
        |case, difference| {
            let of_timer = |kind: &(Spot, &str)| kind.0 == Spot::Client && matches!(kind.1, "RA" | "icmp 1.3" | "icmp 3.1");
            let all = |which| case.kinds(difference, which).iter().all(of_timer);
            let is_whole = matches!(difference, Difference::Packets { .. });
            !case.talk.opened && is_whole && all(0) && all(1)
        },
    ),
    packets(
        "error-as-segment",
        "an ICMP error is not adjusted as if it were a segment, in-tree that can fail",
        |case, difference| {
            let is_error = matches!(case.packet.body, Body::Error { .. });
            // The firewall's own, too.
            let ours = case.kinds(difference, 1);
            let all = !ours.is_empty() && ours.iter().all(|(_, kind)| kind.starts_with("icmp"));
            case.kinds(difference, 0).is_empty() && (all || is_error && !ours.is_empty())
        },
    ),
];

/// Whether it is one of what went in: a client echoes the proxy's clock, and each proxy has its own. Where
/// nobody looks for it, or as another connection's, it comes out as different as it went in.
pub(crate) fn is_of_input(case: &Case<'_>, difference: &Difference) -> bool {
    let Some((theirs, ours, name)) = case.pair(difference) else {
        return false;
    };
    // One quotes more than the other has got; or the minute of the cookies has changed in between.
    let other_input = case.inputs[0].len() != case.inputs[1].len();
    if other_input || case.state == State::Opening && ours.kind.starts_with("SA") && name == "seq" {
        return true;
    }
    match (theirs.field(name), ours.field(name)) {
        (Some(Value::Bytes(theirs)), Some(Value::Bytes(ours))) => {
            // Behind headers that are the same, but may not be those that went in.
            let same = theirs
                .iter()
                .zip(ours)
                .take_while(|(theirs, ours)| theirs == ours)
                .count();
            let is_in = |input: &[u8], bytes: &[u8]| {
                let rest = &bytes[same.saturating_sub(8).min(bytes.len())..];
                !rest.is_empty() && input.windows(rest.len()).any(|part| part == rest)
            };
            // What is not TCP may show that of another conversation.
            let few = theirs.len() == ours.len()
                && theirs
                    .iter()
                    .zip(ours)
                    .filter(|(theirs, ours)| theirs != ours)
                    .count()
                    <= 12;
            let other = case.pair(difference).is_some_and(|(_, ours, _)| {
                ours.kind.starts_with("icmp") || ours.kind.starts_with("protocol")
            });
            few && other || is_in(case.inputs[0], theirs) && is_in(case.inputs[1], ours)
        }
        (Some(Value::Number(theirs)), Some(Value::Number(ours))) if name.starts_with("TS") => {
            let clocks = [0, 1].map(|target| case.talk.shown[target].clock);
            let between = clocks[1].wrapping_sub(clocks[0]);
            let by = ours.wrapping_sub(*theirs);
            // As it was sent, or translated once.
            let is_between = [between, between.wrapping_neg()].contains(&by);
            // What is of no conversation tells other clocks apart, which differ in bits that count as well.
            let is_strange = case.pair(difference).is_some_and(|(_, ours, _)| {
                ours.kind.starts_with("icmp") || ours.number("sum") == Some(1)
            });
            is_between || is_strange && by % 64 == 0 && by.wrapping_add(0x400) < 0x800
        }
        _ => false,
    }
}

pub(crate) fn reason(case: &Case<'_>, difference: &Difference) -> Option<usize> {
    REASONS
        .iter()
        .position(|reason| (reason.holds)(case, difference))
}

/// What to sort differences by, for who looks at them.
pub(crate) fn signature(case: &Case<'_>, difference: &Difference) -> String {
    let input = match &case.input {
        Some(input) => crate::look::flags_text(input.flags),
        None => "no TCP".into(),
    };
    let what = match case.pair(difference) {
        Some((_, ours, name)) => format!("{:?} {} {name}", ours.spot, ours.kind),
        None => format!(
            "in-tree {:?}, here {:?}",
            case.kinds(difference, 0),
            case.kinds(difference, 1)
        ),
    };
    format!(
        "{:?}, {:?} sends {input}: {what}",
        case.state, case.packet.from
    )
}
