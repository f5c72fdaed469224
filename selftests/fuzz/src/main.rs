// SPDX-License-Identifier: GPL-2.0-only

//! Random packets for SYN proxies, well formed and not, in all states of a connection.
//!
//! `compare` sends the same packets through two firewalls, one with the kernel's own proxy and one with this
//! one, and compares what comes out of each. `alone` looks at one firewall, out of which nothing may come
//! towards the server without a verdict. `flood` only sends.
//!
//! There are many conversations at a time, each with a client of its own, by whose address what comes out is
//! told to be of it; each makes one move in a turn. A probe behind the packets of a turn tells that all is out.

mod differ;
mod look;
mod mutate;
mod packet;
mod talk;
mod wire;

use clap::{Args, Parser, Subcommand, ValueEnum};
use differ::{Case, Difference, REASONS};
use look::{Look, Seen, Spot};
use packet::{transport_sum, Body, Packet, Side, SYN, UDP};
use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::ExitCode,
    time::{Duration, Instant},
};
use talk::{client_id, Move, Servers, Talk};
use wire::{Wire, ETHERNET};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Random packets for SYN proxies.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Compares the kernel's own proxy with this one
    Compare {
        #[command(flatten)]
        how: How,
        /// The firewall with the kernel's own: NAMESPACE:CLIENT-DEVICE:SERVER-DEVICE
        #[arg(long)]
        in_tree: Place,
        /// The firewall with this one
        #[arg(long)]
        ours: Place,
    },
    /// Has nothing come out towards a server before its time
    Alone {
        #[command(flatten)]
        how: How,
        /// The firewall
        #[arg(long)]
        ours: Place,
        /// What has to come first
        #[arg(long)]
        until: Until,
    },
    /// Sends SYNs, ACKs with cookies that are none, and worse, from a new client each; reads nothing
    Flood {
        #[command(flatten)]
        how: How,
        /// The firewall
        #[arg(long)]
        ours: Place,
    },
}

/// What a client must have sent before its server hears of it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// An ACK with a number like that of a cookie's
    Cookie,
    /// An IP packet of 300 to 420 bytes
    Length,
}

const LENGTHS: std::ops::RangeInclusive<usize> = 300..=420;

#[derive(Args)]
struct How {
    /// The version of IP
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=6))]
    family: u8,
    /// All that is random depends on it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many packets are sent through each firewall
    #[arg(long, default_value_t = 10_000)]
    packets: u64,
    /// How many conversations there are at a time
    #[arg(long, default_value_t = 256)]
    conversations: usize,
    /// Only this conversation, and all that is said in it
    #[arg(long)]
    only: Option<u32>,
    /// The first port of the servers, and how many there are
    #[arg(long, default_value = "80:6")]
    ports: String,
}

/// Where a firewall is.
#[derive(Clone)]
struct Place {
    namespace: String,
    client: String,
    server: String,
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let [namespace, client, server] = text.split(':').collect::<Vec<_>>()[..] else {
            return Err("expected NAMESPACE:CLIENT-DEVICE:SERVER-DEVICE".into());
        };
        Ok(Self {
            namespace: namespace.into(),
            client: client.into(),
            server: server.into(),
        })
    }
}

const PROBE_PORT: u16 = 9;
const LIMIT: Duration = Duration::from_secs(60);

/// A firewall between two cables.
struct Firewall {
    /// Client, server, loopback.
    wires: [Wire; 3],
    /// Its own link-layer addresses.
    macs: [[u8; 6]; 2],
    probes: u32,
}

/// Hosts that nobody else speaks for, on either side.
fn hosts(is_v6: bool) -> [IpAddr; 2] {
    if is_v6 {
        [1, 2].map(|net| Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, 9).into())
    } else {
        [1, 2].map(|net| Ipv4Addr::new(10, 0, net, 9).into())
    }
}

impl Firewall {
    fn open(place: &Place) -> io::Result<Self> {
        let mac = |device| Wire::open(&place.namespace, device).map(|wire| wire.mac);
        Ok(Self {
            macs: [mac("eth0")?, mac("eth1")?],
            wires: [
                Wire::open("client", &place.client)?,
                Wire::open("server", &place.server)?,
                Wire::open(&place.namespace, "lo")?,
            ],
            probes: 0,
        })
    }

    fn frame(&self, side: Side, to: Option<[u8; 6]>, bytes: &[u8]) -> Vec<u8> {
        let side = side as usize;
        let kind: [u8; 2] = if bytes.first().is_some_and(|first| first >> 4 == 6) {
            [0x86, 0xdd]
        } else {
            [0x08, 0x00]
        };
        [
            &to.unwrap_or(self.macs[side])[..],
            &self.wires[side].mac,
            &kind,
            bytes,
        ]
        .concat()
    }

    /// All that has come out since it was asked last. What a packet brings about takes no longer way than the
    /// probes that are sent behind it.
    fn barrier(&mut self, is_v6: bool, seen: &mut Vec<Seen>) -> Result<()> {
        for _ in 0..2 {
            for (there, back) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
                self.probes += 1;
                let token = format!("probe {}", self.probes);
                let probe = probe(is_v6, there, token.as_bytes());
                let frame = self.frame(there, None, &probe);
                self.wires[there as usize].send(&[frame])?;
                self.until(back, token.as_bytes(), seen)?;
            }
        }
        for spot in [Spot::Client, Spot::Server, Spot::Loopback] {
            self.wires[spot as usize].receive(|frame| see(spot, frame, seen))?;
        }
        Ok(())
    }

    fn until(&mut self, side: Side, token: &[u8], seen: &mut Vec<Seen>) -> Result<()> {
        let spot = if side == Side::Client {
            Spot::Client
        } else {
            Spot::Server
        };
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let mut done = false;
            let wire = &mut self.wires[side as usize];
            wire.receive(|frame| {
                done |= frame.ends_with(token);
                see(spot, frame, seen);
            })?;
            if done {
                return Ok(());
            }
            wire.wait(Duration::from_secs(1))?;
        }
        Err(format!("a probe has not arrived at the {side:?}'s side").into())
    }
}

fn see(spot: Spot, frame: &[u8], seen: &mut Vec<Seen>) {
    let Some((ethernet, bytes)) = frame.split_at_checked(ETHERNET) else {
        return;
    };
    if matches!(ethernet[12..], [0x08, 0x00] | [0x86, 0xdd]) {
        seen.push(Seen {
            spot,
            bytes: bytes.to_vec(),
        });
    }
}

fn is_probe(bytes: &[u8]) -> bool {
    bytes.windows(6).any(|window| window == b"probe ")
        && look::transport(bytes).is_some_and(|found| found.protocol == UDP)
}

fn probe(is_v6: bool, from: Side, token: &[u8]) -> Vec<u8> {
    let [client, server] = hosts(is_v6);
    let (src, dst) = if from == Side::Client {
        (client, server)
    } else {
        (server, client)
    };
    let port = PROBE_PORT.to_be_bytes();
    let length = (token.len() as u16 + 8).to_be_bytes();
    let mut body = [&port[..], &port, &length, &[0, 0], token].concat();
    let sum = match (src, dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            transport_sum(&src.octets(), &dst.octets(), UDP, &body)
        }
        _ => 0xffff,
    };
    body[6..8].copy_from_slice(&(!sum).to_be_bytes());
    Packet {
        from,
        src,
        dst,
        to_mac: None,
        tos: 0,
        ttl: 64,
        id: 0,
        fragment: 0x4000,
        options: vec![],
        extensions: vec![],
        body: Body::Bytes(UDP, body),
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
    .emit(&packet::Shown::default())
    .remove(0)
}

/// What became of the packets of a class.
#[derive(Default)]
struct Fates {
    dropped: u64,
    answered: u64,
    opened: u64,
    passed: u64,
    translated: u64,
}

impl Fates {
    fn add(&mut self, from: Side, input: Option<look::Header>, seen: &[Seen]) {
        let own = if from == Side::Client {
            Spot::Client
        } else {
            Spot::Server
        };
        let Some(out) = seen.iter().find(|seen| seen.spot != own) else {
            *if seen.is_empty() {
                &mut self.dropped
            } else {
                &mut self.answered
            } += 1;
            return;
        };
        *match (input, look::header(&out.bytes)) {
            (Some(input), Some(out)) if out.flags & SYN != 0 && input.flags & SYN == 0 => {
                &mut self.opened
            }
            (Some(input), Some(out)) if (out.seq, out.ack) != (input.seq, input.ack) => {
                &mut self.translated
            }
            _ => &mut self.passed,
        } += 1;
    }

    fn line(&self) -> String {
        let Self {
            dropped,
            answered,
            opened,
            passed,
            translated,
        } = self;
        let sum = dropped + answered + opened + passed + translated;
        format!("{sum:>9} {dropped:>9} {answered:>9} {opened:>9} {translated:>10} {passed:>9}")
    }
}

struct Run<'a> {
    how: &'a How,
    until: Option<Until>,
    firewalls: Vec<Firewall>,
    servers: Servers,
    talks: Vec<Talk>,
    next: u32,
    sent: u64,
    turns: u64,
    fates: BTreeMap<&'static str, Fates>,
    states: BTreeMap<String, u64>,
    reasons: Vec<u64>,
    /// What is not listed, by what it looks like.
    found: BTreeMap<String, (u64, String)>,
    late: u64,
    repeated: u64,
    other_isn: u64,
}

/// What came out of each firewall for each conversation.
type Outcome = HashMap<u32, Vec<Vec<Seen>>>;

impl<'a> Run<'a> {
    fn new(how: &'a How, places: &[&Place], until: Option<Until>) -> Result<Self> {
        let is_v6 = how.family == 6;
        let (first, count) = how
            .ports
            .split_once(':')
            .ok_or("--ports: expected FIRST:COUNT")?;
        let local: IpAddr = match is_v6 {
            false => Ipv4Addr::new(10, 0, 1, 1).into(),
            true => Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1).into(),
        };
        Ok(Self {
            how,
            until,
            firewalls: places
                .iter()
                .map(|place| Firewall::open(place))
                .collect::<io::Result<_>>()?,
            servers: Servers {
                behind: hosts(is_v6)[1],
                local,
                ports: (first.parse()?, count.parse()?),
            },
            talks: vec![],
            next: 1,
            sent: 0,
            turns: 0,
            fates: BTreeMap::new(),
            states: BTreeMap::new(),
            reasons: vec![0; REASONS.len()],
            found: BTreeMap::new(),
            late: 0,
            repeated: 0,
            other_isn: 0,
        })
    }

    fn is_v6(&self) -> bool {
        self.how.family == 6
    }

    /// Conversations that are over give way to new ones.
    fn refill(&mut self) {
        self.talks.retain(|talk| talk.left > 0);
        let room = match self.how.only {
            Some(_) => usize::from(self.turns == 0),
            None if self.sent >= self.how.packets => 0,
            None => self.how.conversations - self.talks.len(),
        };
        for _ in 0..room {
            let id = self.how.only.unwrap_or(self.next);
            self.next += 1;
            let targets = self.firewalls.len();
            self.talks.push(Talk::new(
                self.how.seed,
                id,
                &self.servers,
                targets,
                self.until.is_some(),
            ));
        }
    }

    /// Sends each conversation's packet through each firewall; what came out, and what each got.
    fn send(&mut self, moves: &[Move]) -> Result<(Outcome, Vec<Vec<Vec<u8>>>)> {
        let mut outcome = Outcome::new();
        let mut inputs = vec![vec![]; self.talks.len()];
        let targets = self.firewalls.len();
        let is_v6 = self.is_v6();
        for talk in &self.talks {
            outcome.insert(talk.id, vec![vec![]; targets]);
        }
        for (target, firewall) in self.firewalls.iter_mut().enumerate() {
            let mut frames = [vec![], vec![]];
            for ((talk, next), inputs) in self.talks.iter().zip(moves).zip(&mut inputs) {
                let packet = &next.packet;
                let all = packet.emit(&talk.shown[target]);
                let of_side = &mut frames[packet.from as usize];
                of_side.extend(
                    all.iter()
                        .map(|bytes| firewall.frame(packet.from, packet.to_mac, bytes)),
                );
                // In one piece, to be looked at.
                let whole = Packet {
                    cut: None,
                    truncate: 0,
                    ..packet.clone()
                };
                let mut whole = whole.emit(&talk.shown[target]).remove(0);
                if let (true, true, Some(fragment)) =
                    (packet.cut.is_some(), !is_v6, whole.get_mut(6..8))
                {
                    fragment.fill(0);
                }
                inputs.push(whole);
            }
            if target == 0 {
                self.sent += frames.iter().map(Vec::len).sum::<usize>() as u64;
            }
            let mut seen = vec![];
            for (wire, frames) in firewall.wires.iter().zip(&frames) {
                wire.send(frames)?;
            }
            firewall.barrier(is_v6, &mut seen)?;
            for seen in seen {
                match conversation(&seen.bytes).and_then(|id| outcome.get_mut(&id)) {
                    Some(all) => all[target].push(seen),
                    None if is_probe(&seen.bytes) => {}
                    None => self.late += 1,
                }
            }
        }
        Ok((outcome, inputs))
    }

    fn turn(&mut self) -> Result<bool> {
        self.refill();
        if self.talks.is_empty() {
            return Ok(false);
        }
        let moves: Vec<Move> = self.talks.iter_mut().map(Talk::next_move).collect();
        let (mut outcome, inputs) = self.send(&moves)?;
        let mut talks = std::mem::take(&mut self.talks);
        let mut other_isn = false;
        for ((talk, next), inputs) in talks.iter_mut().zip(&moves).zip(&inputs) {
            let input = &inputs[inputs.len() - 1];
            let seen = outcome.remove(&talk.id).unwrap_or_default();
            let mut seen: Vec<Vec<Seen>> = seen.into_iter().map(look::join).collect();
            self.leave_out_repeated(talk, next, &mut seen);
            *self.states.entry(format!("{:?}", talk.state)).or_default() += 1;
            let fates = self.fates.entry(next.class).or_default();
            fates.add(next.packet.from, look::header(input), &seen[seen.len() - 1]);
            let state = talk.state;
            if let Some(until) = self.until {
                self.guard(until, talk, next, input, &seen[0]);
            }
            talk.learn_answer(&seen);
            // The minute of the cookies has changed in between: not to be compared any further.
            let ticked = talk
                .shown
                .iter()
                .any(|shown| shown.isn != talk.shown[0].isn);
            other_isn |= ticked;
            if self.how.only.is_some() {
                self.tell(talk, next, inputs, &seen);
            }
            if !ticked && self.compare(talk, state, next, inputs, &seen) {
                talk.learn(&next.packet, input, &seen, next.class == "as it should be");
            } else {
                talk.left = 0;
            }
        }
        self.other_isn += u64::from(other_isn);
        self.talks = talks;
        self.turns += 1;
        Ok(true)
    }

    /// A SYN that comes when the server has sent something comes by the proxy's timer. So does one that has
    /// been there before, when the other proxy has none.
    fn leave_out_repeated(&mut self, talk: &mut Talk, next: &Move, seen: &mut [Vec<Seen>]) {
        let syn = |seen: &Seen| {
            let tcp = look::header(&seen.bytes).filter(|_| seen.spot == Spot::Server)?;
            (tcp.flags & (SYN | packet::ACK | packet::RST) == SYN).then_some(tcp.seq)
        };
        // And that a neighbour does not answer is found out by the kernel's.
        let local = self.servers.local;
        for seen in seen.iter_mut() {
            seen.retain(|seen| {
                let is_own = look::ends(&seen.bytes).is_some_and(|(src, _)| src == local);
                !is_own || !look::is_unreachable(&seen.bytes)
            });
        }
        let by_server = next.packet.from == Side::Server;
        let theirs = match seen {
            [theirs, _] => theirs.iter().filter_map(syn).count(),
            _ => 0,
        };
        let Some(ours) = seen.last_mut() else { return };
        let before = ours.len();
        let mut left = theirs.max(1);
        ours.retain(|seen| {
            syn(seen).is_none_or(|seq| {
                let is_new = theirs != 0 || !talk.syns.contains(&seq);
                left = left.wrapping_sub(1);
                !by_server && is_new && left < theirs.max(1)
            })
        });
        self.repeated += (before - ours.len()) as u64;
        // Or it is a new connection, of a client with a good cookie that had reset the old one.
        talk.reopened |= talk.opened && !by_server && before != ours.len();
        talk.syns.extend(ours.iter().filter_map(syn));
    }

    fn tell(&self, talk: &Talk, next: &Move, inputs: &[Vec<u8>], seen: &[Vec<Seen>]) {
        println!(
            "{:?}, the {:?} sends ({}):",
            talk.state, next.packet.from, next.class
        );
        for (target, seen) in seen.iter().enumerate() {
            println!("  firewall {target}:");
            print!("{}", look::hexdump(&inputs[target]));
            for look in looks(talk, target, next, &inputs[target], seen) {
                println!("    {look:?}");
            }
        }
    }

    /// Whether the conversation can go on.
    fn compare(
        &mut self,
        talk: &Talk,
        state: talk::State,
        next: &Move,
        inputs: &[Vec<u8>],
        seen: &[Vec<Seen>],
    ) -> bool {
        let [_, _] = seen else { return true };
        let input = &inputs[1];
        let looks: Vec<Vec<Look>> = (0..2)
            .map(|target| looks(talk, target, next, &inputs[target], &seen[target]))
            .collect();
        let case = Case {
            talk,
            state,
            packet: &next.packet,
            input: look::header(input),
            looks: [&looks[0], &looks[1]],
            inputs: [&inputs[0], &inputs[1]],
        };
        let mut goes_on = true;
        for difference in differ::differences(case.looks) {
            if differ::is_of_input(&case, &difference) {
                continue;
            }
            match differ::reason(&case, &difference) {
                Some(number) => {
                    self.reasons[number] += 1;
                    goes_on &= !REASONS[number].ends;
                }
                None => {
                    goes_on = false;
                    self.report(&case, &difference, next, input);
                }
            }
        }
        goes_on
    }

    /// Nothing of the client's may get to the server before its time.
    fn guard(&mut self, until: Until, talk: &mut Talk, next: &Move, input: &[u8], seen: &[Seen]) {
        if next.packet.from == Side::Client {
            talk.judged |= match until {
                Until::Length => LENGTHS.contains(&look::length(input)) || next.packet.length != 0,
                // With both numbers moved by as much, a cookie is as good as before.
                Until::Cookie => look::header(input).is_some_and(|input| {
                    let ahead = input.ack.wrapping_sub(talk.shown[0].isn);
                    let moved = input.seq.wrapping_sub(talk.true_isn);
                    input.flags & packet::ACK != 0 && ahead.wrapping_sub(moved).wrapping_add(5) < 10
                }),
            };
        }
        let is_client = |bytes| look::ends(bytes).is_some_and(|(src, _)| src == talk.client_at.0);
        let early = seen
            .iter()
            .find(|seen| seen.spot == Spot::Server && is_client(&seen.bytes));
        if let Some(early) = early.filter(|_| !talk.judged) {
            let text = format!(
                "  to see it again: --seed {} --only {}; {}\n{}  came out:\n{}",
                self.how.seed,
                talk.id,
                next.class,
                look::hexdump(input),
                look::hexdump(&early.bytes)
            );
            self.found
                .entry("before its time".into())
                .or_insert((0, text))
                .0 += 1;
        }
    }

    fn report(&mut self, case: &Case<'_>, difference: &Difference, next: &Move, input: &[u8]) {
        let found = self
            .found
            .entry(differ::signature(case, difference))
            .or_insert_with(|| {
                let mut text = format!(
                    "  to see it again: --seed {} --only {}; {}\n{}",
                    self.how.seed,
                    case.talk.id,
                    next.class,
                    look::hexdump(input)
                );
                for (name, looks) in ["in-tree", "here"].iter().zip(case.looks) {
                    for look in looks {
                        text += &format!("  {name}: {look:?}\n");
                    }
                }
                (0, text)
            });
        found.0 += 1;
    }

    fn say(&self, begin: Instant) {
        println!(
            "{} packets sent through each firewall, by {} conversations in {} turns, in {} s",
            self.sent,
            self.next - 1,
            self.turns,
            begin.elapsed().as_secs()
        );
        println!(
            "{:<18}{:>9} {:>9} {:>9} {:>9} {:>10} {:>9}",
            "", "inputs", "dropped", "answered", "opened", "translated", "passed"
        );
        for (class, fates) in &self.fates {
            println!("{class:<18}{}", fates.line());
        }
        println!("by state: {:?}", self.states);
        println!(
            "when the conversation was over: {}; SYNs repeated by the timer: {}; turns in which the minute of cookies changed: {}",
            self.late, self.repeated, self.other_isn
        );
        let listed = if self.until.is_some() { &[] } else { REASONS };
        for (reason, count) in listed.iter().zip(&self.reasons) {
            println!("listed\t{}\t{count}\t{}", reason.name, reason.text);
        }
        let mut found: Vec<_> = self.found.iter().collect();
        found.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (signature, (count, text)) in found {
            println!("unlisted\t{count}\t{signature}\n{text}");
        }
    }
}

/// What came out of a firewall on account of `input`, to be compared.
fn looks(talk: &Talk, target: usize, next: &Move, input: &[u8], seen: &[Seen]) -> Vec<Look> {
    let spot = if next.packet.from == Side::Client {
        Spot::Client
    } else {
        Spot::Server
    };
    let bases = talk.bases(target);
    seen.iter()
        .map(|seen| seen.look(talk.client_at.0, &bases, (spot, input)))
        .collect()
}

/// The conversation of a packet that has come out.
fn conversation(bytes: &[u8]) -> Option<u32> {
    let (src, dst) = look::ends(bytes)?;
    client_id(dst).or(client_id(src)).or_else(|| {
        // Quoted by an ICMP error.
        let found = look::transport(bytes)?;
        let (src, dst) = look::ends(bytes.get(found.at + 8..)?)?;
        client_id(src).or(client_id(dst))
    })
}

fn run() -> Result<bool> {
    let arguments = Arguments::parse();
    let begin = Instant::now();
    match &arguments.verb {
        Verb::Compare { how, in_tree, ours } => {
            finish(Run::new(how, &[in_tree, ours], None)?, begin)
        }
        Verb::Alone { how, ours, until } => finish(Run::new(how, &[ours], Some(*until))?, begin),
        Verb::Flood { how, ours } => flood(Run::new(how, &[ours], None)?),
    }
}

/// Whether all was as it may be.
fn finish(mut run: Run<'_>, begin: Instant) -> Result<bool> {
    while run.turn()? {}
    run.say(begin);
    Ok(run.found.is_empty())
}

fn flood(mut run: Run<'_>) -> Result<bool> {
    let firewall = run.firewalls.remove(0);
    while run.sent < run.how.packets {
        let mut frames = vec![];
        for _ in 0..run.how.conversations {
            let mut talk = Talk::new(run.how.seed, run.next, &run.servers, 1, false);
            run.next = run.next.wrapping_add(1);
            for state in [talk::State::Nothing, talk::State::Answered] {
                talk.state = state;
                let next = talk.next_move().packet;
                if next.from == Side::Client {
                    let all = next.emit(&talk.shown[0]);
                    frames.extend(
                        all.iter()
                            .map(|bytes| firewall.frame(next.from, next.to_mac, bytes)),
                    );
                }
            }
        }
        run.sent += frames.len() as u64;
        firewall.wires[Side::Client as usize].send(&frames)?;
    }
    Ok(true)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("synproxy-fuzz: {error}");
            ExitCode::from(2)
        }
    }
}
