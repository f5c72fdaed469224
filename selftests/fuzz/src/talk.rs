// SPDX-License-Identifier: GPL-2.0-only

//! A conversation: a whole connection, as client and server might have it, and what they might send instead.
//!
//! What comes next depends on the seed, on the conversation's number, and on what proxies have shown so far
//! in common: so a conversation can be played again alone.

use crate::{
    look::{self, Bases, Spot},
    mutate,
    packet::{Body, Opt, Packet, Shown, Side, Tcp, ACK, CWR, ECE, FIN, PSH, RST, SYN},
};
use fastrand::Rng;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Payloads of about this size are what a rule in place of an engine says yes to.
pub(crate) const VERDICT: std::ops::Range<usize> = 270..330;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum State {
    /// Nothing is known of it.
    Nothing,
    /// The proxy has answered its SYN.
    Answered,
    /// The server has got a SYN.
    Opening,
    Open,
    /// There was a FIN or a RST.
    Closing,
}

/// The client, or the server.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) isn: u32,
    /// Its first timestamp.
    pub(crate) clock: u32,
    /// Its next number, from its ISN.
    pub(crate) next: u32,
    /// Its clock when it sent last, from the first one.
    tick: u32,
    /// ... and when the connection opened.
    tick_open: u32,
    /// What its SYN has.
    pub(crate) options: Vec<Opt>,
    pub(crate) stamps: bool,
}

/// Where servers are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Servers {
    pub(crate) behind: IpAddr,
    /// On the firewall itself, where nobody listens.
    pub(crate) local: IpAddr,
    /// The first port, and how many: each has another rule.
    pub(crate) ports: (u16, u16),
}

pub(crate) struct Talk {
    pub(crate) id: u32,
    pub(crate) rng: Rng,
    pub(crate) state: State,
    pub(crate) left: u32,
    pub(crate) client_at: (IpAddr, u16),
    pub(crate) server_at: (IpAddr, u16),
    pub(crate) local: bool,
    pub(crate) client: End,
    pub(crate) server: End,
    /// The server has answered.
    pub(crate) opened: bool,
    /// The client has sent a SYN again before that.
    pub(crate) syn_again: bool,
    /// The ISN that the proxy has answered.
    pub(crate) true_isn: u32,
    /// The server has reset it; the client has sent a SYN after it was open.
    pub(crate) was_reset: bool,
    pub(crate) port_again: bool,
    /// Conntrack has an entry by a SYN of the server's, or one that has come past the rule.
    pub(crate) other_entry: bool,
    /// Another SYN has taken the place of an open connection.
    pub(crate) reopened: bool,
    /// What SYNs the server has been sent.
    pub(crate) syns: Vec<u32>,
    /// One of both has sent something far from its place.
    pub(crate) strayed: bool,
    /// The client has sent what may be let through to the server.
    pub(crate) judged: bool,
    clock: u32,
    pub(crate) shown: Vec<Shown>,
}

/// What is sent, and why.
pub(crate) struct Move {
    pub(crate) packet: Packet,
    /// What was done to it.
    pub(crate) class: &'static str,
}

/// The address of the client of a conversation.
pub(crate) fn client_address(is_v6: bool, id: u32) -> IpAddr {
    match is_v6 {
        false => Ipv4Addr::from(0x0a80_0000 | id & 0x7f_ffff).into(),
        true => Ipv6Addr::from(0xfd00_0009_u128 << 96 | u128::from(id)).into(),
    }
}

/// The conversation of an address.
pub(crate) fn client_id(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(address) => {
            let number = u32::from(address);
            (number & 0xff80_0000 == 0x0a80_0000).then_some(number & 0x7f_ffff)
        }
        IpAddr::V6(address) => {
            let number = u128::from(address);
            // CAST: The rest is looked at before.
            (number >> 32 == 0xfd00_0009_u128 << 64).then_some(number as u32)
        }
    }
}

/// A number, often one at which something turns over.
pub(crate) fn odd_number(rng: &mut Rng) -> u32 {
    match rng.u8(..8) {
        0 => *rng
            .choice(&[0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX])
            .unwrap_or(&0),
        1 => u32::MAX - rng.u32(..3000),
        2 => 0x7fff_ffff - rng.u32(..3000),
        _ => rng.u32(..),
    }
}

fn syn_options(rng: &mut Rng, clock: u32, stamps: bool) -> Vec<Opt> {
    let mss = match rng.u8(..10) {
        0 => rng.u16(..),
        1 => *rng
            .choice(&[0, 1, 535, 536, 1220, 1300, 1420, 1440, 8940, 65535])
            .unwrap_or(&0),
        _ => 1460,
    };
    let scale = match rng.u8(..10) {
        0 => rng.u8(..),
        1..=3 => rng.u8(..15),
        _ => 7,
    };
    let mss = Opt::Bytes([&[2, 4], &mss.to_be_bytes()[..]].concat());
    let scale = Opt::Bytes(vec![1, 3, 3, scale]);
    let stamp = Opt::Timestamps(10, clock, 0);
    let (sack, nops) = (Opt::Bytes(vec![4, 2]), Opt::Bytes(vec![1, 1]));
    if rng.u8(..4) != 0 {
        // As Linux has them.
        return match stamps {
            true => vec![mss, sack, stamp, scale],
            false => vec![mss, nops, sack, scale],
        };
    }
    let mut all = vec![mss, sack, scale, nops];
    all.retain(|_| rng.u8(..4) != 0);
    if stamps {
        all.push(stamp);
    }
    rng.shuffle(&mut all);
    all
}

impl End {
    fn new(rng: &mut Rng) -> Self {
        let (isn, clock, stamps) = (odd_number(rng), odd_number(rng), rng.u8(..4) != 0);
        Self {
            isn,
            clock,
            next: 0,
            tick: 0,
            tick_open: 0,
            options: syn_options(rng, clock, stamps),
            stamps,
        }
    }
}

fn payload(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..16) {
        0 => rng.usize(100..1400),
        1 => rng.usize(VERDICT),
        2..=4 => 1,
        _ => rng.usize(1..60),
    };
    let first = rng.u8(..);
    // Enough to see what is where.
    (0..length).map(|at| first.wrapping_add(at as u8)).collect()
}

impl Talk {
    pub(crate) fn new(
        seed: u64,
        id: u32,
        servers: &Servers,
        targets: usize,
        deny_local: bool,
    ) -> Self {
        let mut rng = Rng::with_seed(seed ^ u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.u64(..);
        let is_v6 = servers.behind.is_ipv6();
        let local = rng.u8(..8) == 0 && !deny_local;
        let port = match rng.u8(..32) {
            0 => rng.u16(..),
            _ => rng.u16(1024..),
        };
        Self {
            id,
            state: State::Nothing,
            left: rng.u32(4..24),
            client_at: (client_address(is_v6, id), port),
            server_at: (
                if local { servers.local } else { servers.behind },
                servers.ports.0 + rng.u16(..servers.ports.1),
            ),
            local,
            client: End::new(&mut rng),
            server: End::new(&mut rng),
            opened: false,
            syn_again: false,
            true_isn: 0,
            was_reset: false,
            port_again: false,
            other_entry: false,
            reopened: false,
            strayed: false,
            syns: vec![],
            judged: false,
            clock: 0,
            shown: vec![Shown::default(); targets],
            rng,
        }
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    pub(crate) fn bases(&self, target: usize) -> Bases {
        Bases {
            client: (self.client.isn, self.client.clock),
            proxy: (self.shown[target].isn, self.shown[target].clock),
            server: (self.server.isn, self.server.clock),
        }
    }

    /// A packet around something.
    pub(crate) fn packet(&mut self, from: Side, body: Body) -> Packet {
        let (src, dst) = match from {
            Side::Client => (self.client_at.0, self.server_at.0),
            Side::Server => (self.server_at.0, self.client_at.0),
        };
        let is_v6 = src.is_ipv6();
        Packet {
            from,
            src,
            dst,
            to_mac: None,
            tos: if self.rng.u8(..8) == 0 {
                self.rng.u8(..)
            } else {
                0
            },
            ttl: 64,
            id: if is_v6 { 0 } else { self.rng.u32(..0x1_0000) },
            fragment: 0x4000,
            options: vec![],
            extensions: vec![],
            body,
            protocol: None,
            first: None,
            length: 0,
            sum: 0,
            flips: vec![],
            resum: true,
            cut: None,
            truncate: 0,
            trailer: 0,
        }
    }

    /// A segment; numbers are told from the ISN of whose stream they are in.
    pub(crate) fn segment(
        &mut self,
        from: Side,
        flags: u8,
        seq: u32,
        ack: u32,
        payload: Vec<u8>,
    ) -> Packet {
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let (client_isn, client_tick, server_tick, opened) = (
            self.client.isn,
            self.client.tick,
            self.server.tick,
            self.server.tick_open,
        );
        let client_clock = self.client.clock;
        let end = self.end(from);
        end.tick = clock;
        let value = end.clock.wrapping_add(clock);
        let echo = match from {
            // The proxy's own, until there is the server's.
            Side::Client => server_tick.wrapping_sub(opened),
            Side::Server => client_clock.wrapping_add(client_tick),
        };
        let mut options = vec![];
        if flags & SYN != 0 {
            options.clone_from(&end.options);
            for option in &mut options {
                if let Opt::Timestamps(_, at, with) = option {
                    *at = value;
                    *with = if flags & ACK != 0 { echo } else { 0 };
                }
            }
        } else if end.stamps && flags & RST == 0 {
            options = vec![Opt::Bytes(vec![1, 1]), Opt::Timestamps(10, value, echo)];
        }
        let seq = end.isn.wrapping_add(seq);
        let ports = match from {
            Side::Client => (self.client_at.1, self.server_at.1),
            Side::Server => (self.server_at.1, self.client_at.1),
        };
        let ack = match from {
            _ if flags & ACK == 0 => 0,
            Side::Client => ack,
            Side::Server => client_isn.wrapping_add(ack),
        };
        let window = match self.rng.u8(..16) {
            0 => 0,
            1 => self.rng.u16(..),
            2 => self.rng.u16(..200),
            _ if flags & SYN != 0 => 64240,
            _ => 502,
        };
        self.packet(
            from,
            Body::Tcp(Tcp {
                ports,
                seq,
                ack,
                reserved: 0,
                flags,
                window,
                urgent: 0,
                options,
                payload,
                data_offset: None,
                sum: 0,
            }),
        )
    }

    /// An ICMP error about what a side has got last.
    fn error(&mut self, from: Side) -> Packet {
        let is_v6 = self.client_at.0.is_ipv6();
        let rng = &mut self.rng;
        let (kind, code, number) = match (is_v6, rng.u8(..4)) {
            (false, 0 | 1) => (3, 4, *rng.choice(&[1400, 1000, 0, 68, 1499]).unwrap_or(&0)),
            (false, 2) => (3, rng.u8(..16), 0),
            (false, _) => (*rng.choice(&[11, 12, 4, 5]).unwrap_or(&11), rng.u8(..3), 0),
            (true, 0 | 1) => (2, 0, *rng.choice(&[1400, 1280, 0]).unwrap_or(&0)),
            (true, 2) => (1, rng.u8(..8), 0),
            (true, _) => (*rng.choice(&[3, 4]).unwrap_or(&3), rng.u8(..3), 0),
        };
        let length = match rng.u8(..4) {
            // At least what RFC 792 asks for.
            0 => 28 + if is_v6 { 20 } else { 0 },
            1 => rng.usize(..120),
            _ => 1200,
        };
        let body = Body::Error {
            kind,
            code,
            number,
            length,
            flips: vec![],
            sum: 0,
        };
        let mut packet = self.packet(from, body);
        if self.rng.bool() {
            packet.src = match (is_v6, from) {
                (false, Side::Client) => Ipv4Addr::new(10, 0, 1, 77).into(),
                (false, Side::Server) => Ipv4Addr::new(10, 0, 2, 77).into(),
                (true, Side::Client) => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x77).into(),
                (true, Side::Server) => Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x77).into(),
            };
        }
        packet
    }

    fn random(&mut self, from: Side) -> Packet {
        let (flags, near) = (self.rng.u8(..), self.rng.u8(..4) != 0);
        let data = if self.rng.bool() {
            payload(&mut self.rng)
        } else {
            vec![]
        };
        let (own, other) = match from {
            Side::Client => (self.client.next, self.server.next),
            Side::Server => (self.server.next, self.client.next),
        };
        let (seq, ack) = match near {
            true => (
                own.wrapping_add(self.rng.u32(..5)).wrapping_sub(2),
                other.wrapping_add(self.rng.u32(..5)).wrapping_sub(2),
            ),
            false => (odd_number(&mut self.rng), odd_number(&mut self.rng)),
        };
        self.segment(from, flags, seq, ack, data)
    }

    /// The server offers what our SYN has, but for some that know no manners.
    fn agree(&mut self, syn: &look::Header) {
        if self.rng.u8(..16) == 0 {
            return;
        }
        self.server.stamps &= syn.timestamps.is_some();
        let stamps = self.server.stamps;
        self.server.options.retain(|option| match option {
            Opt::Timestamps(..) => stamps,
            Opt::Bytes(bytes) => !bytes.starts_with(&[1, 3]) || syn.wscale.is_some(),
            Opt::Sack(_) => true,
        });
    }

    fn own(&mut self, from: Side, flags: u8, data: bool) -> Packet {
        let data = if data { payload(&mut self.rng) } else { vec![] };
        let (seq, ack) = match from {
            Side::Client => (self.client.next, self.server.next),
            Side::Server => (self.server.next, self.client.next),
        };
        self.segment(from, flags, seq, ack, data)
    }

    fn side(&mut self) -> Side {
        if self.local || self.rng.bool() {
            Side::Client
        } else {
            Side::Server
        }
    }

    fn syn(&mut self) -> Packet {
        let ecn = if self.rng.u8(..4) == 0 { ECE | CWR } else { 0 };
        self.segment(Side::Client, SYN | ecn, 0, 0, vec![])
    }

    fn plain(&mut self) -> Packet {
        use Side::{Client, Server};
        let dice = self.rng.u8(..100);
        match self.state {
            State::Nothing => match dice {
                0..90 => self.syn(),
                90..93 => {
                    let (seq, ack) = (odd_number(&mut self.rng), odd_number(&mut self.rng));
                    self.segment(Client, ACK, seq, ack, vec![])
                }
                _ => self.random(Client),
            },
            State::Answered => match dice {
                0..58 => self.segment(Client, ACK, 1, 1, vec![]),
                58..70 => {
                    let data = payload(&mut self.rng);
                    self.segment(Client, ACK | PSH, 1, 1, data)
                }
                70..75 => {
                    let data = vec![0; self.rng.usize(..2)];
                    self.segment(Client, ACK, 0, 1, data)
                }
                75..80 => {
                    let seq = self.rng.u32(..7).wrapping_sub(2);
                    self.segment(Client, ACK, seq, 1, vec![])
                }
                80..84 => self.syn(),
                84..87 => self.segment(Client, RST, 1, 0, vec![]),
                87..90 => self.segment(Client, FIN | ACK, 1, 1, vec![]),
                90..92 if !self.local => self.error(Client),
                _ => {
                    let side = self.side();
                    self.random(side)
                }
            },
            State::Opening => match dice {
                0..60 if !self.local => self.segment(Server, SYN | ACK, 0, 1, vec![]),
                60..64 if !self.local => self.segment(Server, RST | ACK, 0, 1, vec![]),
                64..66 if !self.local => {
                    let (seq, ack) = (odd_number(&mut self.rng), odd_number(&mut self.rng));
                    self.segment(Server, ACK, seq, ack, vec![])
                }
                66..72 if !self.local => self.error(Server),
                72..78 => self.segment(Client, ACK, 1, 1, vec![]),
                78..84 => {
                    let data = payload(&mut self.rng);
                    self.segment(Client, ACK | PSH, 1, 1, data)
                }
                84..86 => self.segment(Client, ACK, 0, 1, vec![]),
                86..88 => self.segment(Client, FIN | ACK, 1, 1, vec![]),
                88..90 => self.segment(Client, RST, 1, 0, vec![]),
                90..92 => self.syn(),
                _ => {
                    let side = self.side();
                    self.random(side)
                }
            },
            State::Open | State::Closing => {
                let side = self.side();
                match dice {
                    0..30 => self.own(side, ACK | PSH, true),
                    30..45 => self.own(side, ACK, false),
                    45..49 => {
                        let mut packet = self.own(side, ACK, false);
                        if let Body::Tcp(tcp) = &mut packet.body {
                            tcp.seq = tcp.seq.wrapping_sub(1);
                        }
                        packet
                    }
                    49..56 => self.sack(side),
                    56..66 => self.own(side, FIN | ACK, false),
                    66..70 => self.own(side, RST, false),
                    70..72 => self.own(side, RST | ACK, false),
                    72..74 => self.syn(),
                    74..77 => self.segment(Server, SYN | ACK, 0, 1, vec![]),
                    77..89 => self.error(side),
                    _ => self.random(side),
                }
            }
        }
    }

    fn sack(&mut self, side: Side) -> Packet {
        let mut packet = self.own(side, ACK, false);
        let (client_isn, server_next, client_next) =
            (self.client.isn, self.server.next, self.client.next);
        let base = match side {
            Side::Client => server_next,
            Side::Server => client_isn.wrapping_add(client_next),
        };
        let room = if self.end(side).stamps { 3 } else { 4 };
        let mut edges = vec![];
        for _ in 0..self.rng.usize(1..=room) {
            let at = base.wrapping_add(self.rng.u32(..5000));
            edges.extend([at, at.wrapping_add(self.rng.u32(1..1460))]);
        }
        if let Body::Tcp(tcp) = &mut packet.body {
            // Now and then not in the halves of words.
            let nops = if self.rng.u8(..6) == 0 { 1 } else { 2 };
            tcp.options
                .extend([Opt::Bytes(vec![1; nops]), Opt::Sack(edges)]);
        }
        packet
    }

    /// What is sent next.
    pub(crate) fn next_move(&mut self) -> Move {
        self.left -= 1;
        let mut packet = self.plain();
        let mut rng = self.rng.fork();
        let class = match rng.u8(..100) {
            0..55 => "as it should be",
            _ => {
                let mut class = mutate::once(&mut packet, &mut rng);
                while rng.u8(..4) == 0 {
                    class = mutate::once(&mut packet, &mut rng);
                }
                class
            }
        };
        Move { packet, class }
    }

    /// What has come out tells how far it is: `sent` is what went in, each as one proxy got it, and `seen` what
    /// came out of each. This is asked before anything is compared.
    pub(crate) fn learn_answer(&mut self, seen: &[Vec<look::Seen>]) {
        if !matches!(self.state, State::Nothing | State::Answered) {
            return;
        }
        let answers: Vec<_> = seen
            .iter()
            .map(|seen| {
                seen.iter()
                    .filter(|seen| seen.spot == Spot::Client)
                    .find_map(|seen| {
                        look::header(&seen.bytes)
                            .filter(|tcp| tcp.flags & (SYN | ACK | RST) == SYN | ACK)
                    })
            })
            .collect();
        let (true, Some(last)) = (
            answers.iter().all(Option::is_some),
            answers.last().copied().flatten(),
        ) else {
            return;
        };
        self.state = State::Answered;
        self.client.isn = last.ack.wrapping_sub(1);
        self.true_isn = self.client.isn;
        self.client_at.1 = last.ports.1;
        self.server_at.1 = last.ports.0;
        (self.client.next, self.server.next) = (1, 1);
        self.client.stamps = last.timestamps.is_some();
        for (shown, answer) in self.shown.iter_mut().zip(answers.into_iter().flatten()) {
            shown.isn = answer.seq;
            shown.clock = answer.timestamps.map_or(0, |timestamps| timestamps.0);
        }
    }

    /// The same when it has been compared, and was the same for all.
    pub(crate) fn learn(
        &mut self,
        packet: &Packet,
        sent: &[u8],
        seen: &[Vec<look::Seen>],
        untouched: bool,
    ) {
        for (shown, seen) in self.shown.iter_mut().zip(seen) {
            for seen in seen {
                match seen.spot {
                    Spot::Client => shown.last[0].clone_from(&seen.bytes),
                    Spot::Server => shown.last[1].clone_from(&seen.bytes),
                    Spot::Loopback => {}
                }
            }
        }
        let Some(ours) = seen.last() else { return };
        let heard = |spot: Spot, mask: u8, set: u8| {
            ours.iter()
                .filter(|seen| seen.spot == spot)
                .filter_map(|seen| look::header(&seen.bytes))
                .find(|tcp| tcp.flags & mask == set)
        };
        let input = look::header(sent);
        if let Some(input) = input.filter(|_| self.opened) {
            let (seq, ack) = match packet.from {
                Side::Client => (
                    self.client.isn.wrapping_add(self.client.next),
                    self.shown[self.shown.len() - 1]
                        .isn
                        .wrapping_add(self.server.next),
                ),
                Side::Server => (
                    self.server.isn.wrapping_add(self.server.next),
                    self.client.isn.wrapping_add(self.client.next),
                ),
            };
            let is_far = |number: u32, place| number.wrapping_sub(place).wrapping_add(1000) > 2000;
            self.strayed |=
                is_far(input.seq, seq) || input.flags & ACK != 0 && is_far(input.ack, ack);
        }
        // It passes as it is.
        let is_syn = input.is_some_and(|input| input.flags & (SYN | ACK | RST) == SYN);
        let passed = ours.iter().any(|seen| {
            look::header(&seen.bytes).is_some_and(|out| {
                input.is_some_and(|input| {
                    (out.flags, out.seq, out.ack) == (input.flags, input.seq, input.ack)
                })
            })
        });
        // Or the firewall itself has got it.
        let refused = self.local && heard(Spot::Client, SYN | ACK, SYN | ACK).is_none();
        self.other_entry |= is_syn && (passed || refused || packet.from == Side::Server);
        if self.state >= State::Opening {
            let has = |mask: u8, set: u8| input.is_some_and(|input| input.flags & mask == set);
            self.was_reset |= packet.from == Side::Server && has(RST, RST);
            self.port_again |= packet.from == Side::Client && has(SYN | ACK, SYN);
        }
        // Another SYN instead of that of an older connection.
        if self.state >= State::Opening && packet.from == Side::Client && !self.local {
            let is_syn = input.is_some_and(|input| input.flags & SYN != 0);
            if let Some(syn) = heard(Spot::Server, SYN | ACK | RST, SYN).filter(|_| !is_syn) {
                self.reopened |= self.opened || self.client.isn != syn.seq;
                self.client.isn = syn.seq;
                (self.client.next, self.server.next) = (1, 0);
                (self.state, self.opened) = (State::Opening, false);
                return;
            }
        }
        match self.state {
            State::Nothing | State::Answered => {
                let at = if self.local {
                    Spot::Loopback
                } else {
                    Spot::Server
                };
                if let Some(syn) = heard(at, SYN | ACK | RST, SYN) {
                    if self.state == State::Answered {
                        self.client.isn = syn.seq;
                        self.client.next = 1;
                        self.server.next = u32::from(self.local);
                        self.state = if self.local {
                            State::Closing
                        } else {
                            State::Opening
                        };
                        self.agree(&syn);
                    }
                }
            }
            State::Opening if packet.from == Side::Server => {
                let Some(input) = input else { return };
                if input.flags & (SYN | ACK | RST) == SYN | ACK
                    && heard(Spot::Client, SYN | ACK | RST | FIN, ACK).is_some()
                {
                    self.state = State::Open;
                    self.opened = true;
                    self.server.isn = input.seq;
                    (self.client.next, self.server.next) = (1, 1);
                    self.server.tick_open = self.server.tick;
                    self.server.stamps = input.timestamps.is_some();
                    if let Some((value, _)) = input.timestamps {
                        self.server.clock = value.wrapping_sub(self.server.tick);
                    }
                    self.client.stamps &= self.server.stamps;
                } else if heard(Spot::Client, RST, RST).is_some() {
                    self.state = State::Closing;
                }
            }
            State::Opening if packet.from == Side::Client => {
                self.syn_again |= heard(Spot::Client, SYN | ACK | RST, SYN | ACK).is_some();
            }
            _ => {
                let across = match packet.from {
                    Side::Client => Spot::Server,
                    Side::Server => Spot::Client,
                };
                let Some(passed) = heard(across, 0, 0) else {
                    return;
                };
                if passed.flags & (FIN | RST) != 0 {
                    self.state = State::Closing;
                }
                let Body::Tcp(tcp) = &packet.body else { return };
                let isn = self.end(packet.from).isn;
                if untouched && tcp.seq.wrapping_sub(isn) == self.end(packet.from).next {
                    let length = tcp.payload.len() as u32 + u32::from(tcp.flags & FIN != 0);
                    let end = self.end(packet.from);
                    end.next = end.next.wrapping_add(length);
                }
            }
        }
    }
}
