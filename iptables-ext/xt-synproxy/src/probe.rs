// SPDX-License-Identifier: GPL-2.0-only

//! Asks a server what it can do: one SYN that offers all there is, and what is in the answer.
//!
//! The connection stays half open for as long as it takes the kernel to see the answer: no socket of
//! its own waits for it, so it sends a reset.

use crate::{
    cli::{Options, Probe},
    complain, print,
};
use etherparse::{checksum::Sum16BitWords, Ipv4HeaderSlice};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    fs::File,
    io::{ErrorKind, Read},
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    time::{Duration, Instant},
};
use synproxy_tcp::{
    options::{Options as TcpOptions, Timestamps},
    segment::{flags, Repr, View, CHECK, MAX_HEADER_LEN},
};

/// What the SYN offers: of no consequence to what is answered.
const OFFERED_MSS: u16 = 1460;
const OFFERED_WSCALE: u8 = 7;
const OFFERED_WINDOW: u16 = 64240;

/// The verb.
pub(crate) fn run(args: &Probe) -> Result<(), String> {
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => Some(Family::Ipv4),
        (_, true) => Some(Family::Ipv6),
        _ => None,
    };
    let timeout = Duration::from_secs(args.timeout.into());
    let options = ask(&args.host, args.port, family, timeout)?;
    print(&format!("{options}\n"))
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    fn has(self, address: &SocketAddr) -> bool {
        address.is_ipv4() == (self == Family::Ipv4)
    }
}

/// What `host` answers on `port`. What is to be known besides is said on standard error.
pub(crate) fn ask(
    host: &str,
    port: u16,
    family: Option<Family>,
    timeout: Duration,
) -> Result<Options, String> {
    // As in a URL.
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let addresses = (bare.unwrap_or(host), port)
        .to_socket_addrs()
        .map_err(|error| format!("{host} port {port}: cannot resolve the name: {error}"))?;
    let mut addresses = addresses
        .filter(|address| family.is_none_or(|family| family.has(address)))
        .peekable();
    if addresses.peek().is_none() {
        let version = family.map_or("IP", |family| match family {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        });
        return Err(format!("{host} port {port}: has no {version} address"));
    }
    let mut last = String::new();
    for address in addresses {
        let name = match address.ip().to_string() == bare.unwrap_or(host) {
            true => format!("{host} port {port}"),
            false => format!("{host} ({}) port {port}", address.ip()),
        };
        match exchange(address, timeout) {
            Ok(answer) => {
                for note in answer.notes {
                    complain(&format!("{name}: {note}"));
                }
                return Ok(answer.options);
            }
            // Nothing was sent: the next address may do.
            Err(Failure::NoRoute(error)) => last = format!("{name}: no route: {error}"),
            Err(Failure::Other(error)) => return Err(format!("{name}: {error}")),
        }
    }
    Err(last)
}

/// Why there is no answer.
enum Failure {
    NoRoute(std::io::Error),
    Other(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

/// What a server answered, and what is to be said about it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    options: Options,
    notes: Vec<&'static str>,
}

fn exchange(server: SocketAddr, timeout: Duration) -> Result<Answer, Failure> {
    let failed = |what: &'static str| move |error| format!("cannot {what}: {error}");
    let domain = Domain::for_address(server);
    let raw = Socket::new(domain, Type::RAW, Some(Protocol::TCP)).map_err(|error| {
        match error.kind() {
            ErrorKind::PermissionDenied => {
                "cannot send a SYN: this takes root, or the capability CAP_NET_RAW".into()
            }
            _ => failed("make a raw socket")(error),
        }
    })?;

    // So only what comes from the server is read, to the address that the route has. A port means
    // something else to a raw socket.
    let mut remote = server;
    remote.set_port(0);
    raw.connect(&SockAddr::from(remote))
        .map_err(|error| match error.kind() {
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Failure::NoRoute(error),
            _ => failed("take a route to it")(error).into(),
        })?;
    let mut local = raw
        .local_addr()
        .map_err(failed("tell the own address"))?
        .as_socket()
        .ok_or_else(|| String::from("the own address is none of IP"))?;

    // No other program gets this port meanwhile; and as this socket neither listens nor connects, the
    // kernel resets what comes for it.
    local.set_port(0);
    let reserved = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
        .and_then(|socket| socket.bind(&SockAddr::from(local)).map(|()| socket))
        .map_err(failed("reserve a port"))?;
    let port = reserved.local_addr().map_err(failed("reserve a port"))?;
    local.set_port(port.as_socket().map_or(0, |address| address.port()));

    let mut random = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(failed("read /dev/urandom"))?;
    let [s0, s1, s2, s3, t0, t1, t2, t3] = random;
    let flow = Flow {
        local,
        remote: server,
        isn: u32::from_be_bytes([s0, s1, s2, s3]),
    };

    let syn = flow.syn(u32::from_be_bytes([t0, t1, t2, t3]));
    let deadline = Instant::now() + timeout;
    raw.send(&syn).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            "a rule of this machine's own firewall (OUTPUT, POSTROUTING) drops the SYN".into()
        }
        _ => failed("send a SYN")(error),
    })?;

    let mut buffer = [0; 65536];
    let mut odd = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        raw.set_read_timeout(Some(left))
            .map_err(failed("set a timeout"))?;
        let len = match (&raw).read(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("an ICMP error came back: {error}").into()),
        };
        match flow.judge(buffer.get(..len).unwrap_or_default()) {
            Heard::Other => {}
            Heard::Odd(what) => odd = Some(what),
            Heard::Refused => {
                return Err(
                    String::from("connection refused: the SYN was answered by a reset").into(),
                )
            }
            Heard::Answer(answer) => return Ok(answer),
        }
    }
    let seconds = timeout.as_secs();
    Err(match odd {
        Some(what) => format!("no good answer to one SYN within {seconds} s: {what}"),
        None => format!("no answer to one SYN within {seconds} s: it is filtered, or was lost"),
    }
    .into())
}

/// One connection that is asked for.
struct Flow {
    local: SocketAddr,
    remote: SocketAddr,
    isn: u32,
}

/// What a packet says.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// It is about something else.
    Other,
    /// It is no answer that can be believed.
    Odd(&'static str),
    /// A reset.
    Refused,
    /// A SYN,ACK.
    Answer(Answer),
}

impl Flow {
    /// The SYN, as TCP has it, with its checksum.
    fn syn(&self, clock: u32) -> Vec<u8> {
        let mut header = [0; MAX_HEADER_LEN];
        let len = Repr {
            src_port: self.local.port(),
            dst_port: self.remote.port(),
            seq: self.isn,
            ack: 0,
            // RFC 3168 section 6.1.1: so a SYN asks for ECN.
            flags: flags::SYN | flags::ECE | flags::CWR,
            window: OFFERED_WINDOW,
            options: TcpOptions {
                mss: Some(OFFERED_MSS),
                wscale: Some(OFFERED_WSCALE),
                sack_perm: true,
                timestamps: Some(Timestamps { val: clock, ecr: 0 }),
            },
        }
        .emit(&mut header);
        let mut segment: Vec<u8> = header.into_iter().take(len).collect();
        let sum = sum(self.local.ip(), self.remote.ip(), segment.len(), &segment).ones_complement();
        let at = usize::from(CHECK);
        if let Some(field) = segment.get_mut(at..at + 2) {
            field.copy_from_slice(&sum.to_ne_bytes());
        }
        segment
    }

    /// What a raw socket has read: in IPv4 with its IP header, in IPv6 without.
    fn judge(&self, packet: &[u8]) -> Heard {
        let segment = match self.remote.ip() {
            IpAddr::V4(remote) => {
                let Ok(ip) = Ipv4HeaderSlice::from_slice(packet) else {
                    return Heard::Other;
                };
                let addresses = (
                    IpAddr::V4(ip.source_addr()),
                    IpAddr::V4(ip.destination_addr()),
                );
                if addresses != (remote.into(), self.local.ip()) {
                    return Heard::Other;
                }
                packet
                    .get(ip.slice().len()..ip.total_len().into())
                    .unwrap_or_default()
            }
            IpAddr::V6(_) => packet,
        };
        let Some(tcp) = View::view(segment, segment.len()) else {
            return Heard::Other;
        };
        if (tcp.src_port(), tcp.dst_port()) != (self.remote.port(), self.local.port()) {
            return Heard::Other;
        }
        // To an own address our SYN comes by, too.
        let is_reset = tcp.is_rst();
        if !is_reset && !tcp.is_syn_ack() {
            return match tcp.flags_are(flags::SYN | flags::ACK, flags::ACK) {
                true => Heard::Odd("an ACK without SYN came, as of an older connection"),
                false => Heard::Other,
            };
        }
        if !self.checksum_is_good(segment) {
            return Heard::Odd("what came has a wrong checksum");
        }
        if tcp.flags() & flags::ACK == 0 || tcp.ack() != self.isn.wrapping_add(1) {
            return Heard::Odd("what came acknowledges something else than the SYN");
        }
        match is_reset {
            true => Heard::Refused,
            false => Heard::Answer(self.answer(&tcp)),
        }
    }

    /// Whether the checksum is right; or begun, as in a packet that has not left this machine, or the
    /// one that both are guests of.
    fn checksum_is_good(&self, segment: &[u8]) -> bool {
        let (from, to, len) = (self.remote.ip(), self.local.ip(), segment.len());
        if sum(from, to, len, segment).ones_complement() == 0 {
            return true;
        }
        let begun = !sum(from, to, len, &[]).ones_complement();
        let at = usize::from(CHECK);
        segment.get(at..at + 2) == Some(&begun.to_ne_bytes())
    }

    fn answer(&self, tcp: &View<'_>) -> Answer {
        let seen = tcp.options();
        let timestamp = seen.timestamps.is_some();
        // RFC 3168 section 6.1.1: a server that echoes both has not understood.
        let ecn = tcp.flags_are(flags::ECE | flags::CWR, flags::ECE);
        let mut notes = Vec::new();
        if !timestamp && (seen.sack_perm || seen.wscale.is_some() || ecn) {
            notes.push(
                "the server does no timestamps; without them a SYN proxy cannot offer the window \
                 scale, SACK and ECN that it does",
            );
        }
        if seen.mss.is_none() {
            notes.push("the server names no MSS, which means 536");
        }
        if tcp.window() == 0 {
            notes.push(
                "the answer has a closed window: it may be that of a SYN proxy, and the options \
                 those of its rule",
            );
        }
        if self.local.ip() == self.remote.ip() {
            notes.push(
                "the server is on this machine: its MSS is that of the loopback device, clients get \
                 another one",
            );
        }
        Answer {
            options: Options {
                mss: seen.mss.filter(|mss| *mss != 0),
                sack_perm: timestamp && seen.sack_perm,
                timestamp,
                wscale: seen.wscale.filter(|_| timestamp),
                ecn: timestamp && ecn,
            },
            notes,
        }
    }
}

/// The sum of pseudo header and `bytes` of a segment of `len` bytes.
fn sum(from: IpAddr, to: IpAddr, len: usize, bytes: &[u8]) -> Sum16BitWords {
    let mut sum = Sum16BitWords::new();
    for address in [from, to] {
        sum = match address {
            IpAddr::V4(address) => sum.add_4bytes(address.octets()),
            IpAddr::V6(address) => sum.add_16bytes(address.octets()),
        };
    }
    // CAST: No segment is longer than a packet.
    sum.add_2bytes([0, 6])
        .add_2bytes((len as u16).to_be_bytes())
        .add_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};

    const V4: [&str; 2] = ["192.0.2.9:40000", "192.0.2.1:80"];
    const V6: [&str; 2] = ["[2001:db8::9]:40000", "[2001:db8::1]:80"];
    const LINUX: &[TcpOptionElement] = &[
        TcpOptionElement::MaximumSegmentSize(1440),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(77, 88),
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(9),
    ];

    fn flow([local, remote]: [&str; 2]) -> Flow {
        Flow {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            isn: u32::MAX,
        }
    }

    /// A segment from `from` to `to`, by etherparse, as a raw socket has it.
    fn packet(
        from: SocketAddr,
        to: SocketAddr,
        options: &[TcpOptionElement],
        change: impl Fn(&mut etherparse::TcpHeader),
    ) -> Vec<u8> {
        let mut tcp = etherparse::TcpHeader::new(from.port(), to.port(), 4711, 65160);
        tcp.set_options(options).unwrap();
        change(&mut tcp);
        let mut bytes = Vec::new();
        match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), 64)
                    .tcp_header(tcp)
                    .write(&mut bytes, &[])
                    .unwrap()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), 64)
                    .tcp_header(tcp)
                    .write(&mut bytes, &[])
                    .unwrap();
                bytes.drain(..40);
            }
            _ => panic!("two versions"),
        }
        bytes
    }

    fn heard(
        flow: &Flow,
        options: &[TcpOptionElement],
        change: impl Fn(&mut etherparse::TcpHeader),
    ) -> Heard {
        flow.judge(&packet(flow.remote, flow.local, options, |tcp| {
            tcp.syn = true;
            tcp.ack = true;
            tcp.acknowledgment_number = 0;
            change(tcp);
        }))
    }

    fn options(heard: Heard) -> String {
        match heard {
            Heard::Answer(answer) => answer.options.to_string(),
            other => panic!("{other:?}"),
        }
    }
    fn notes(heard: Heard) -> Vec<&'static str> {
        match heard {
            Heard::Answer(answer) => answer.notes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_syn_offers_everything_and_is_right() {
        for ends in [V4, V6] {
            let flow = flow(ends);
            let syn = flow.syn(123);
            // The IP header is the kernel's to make.
            let mut packet = Vec::new();
            match (flow.local.ip(), flow.remote.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    PacketBuilder::ipv4(from.octets(), to.octets(), 64)
                        .write(&mut packet, etherparse::IpNumber::TCP, &syn)
                        .unwrap();
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    PacketBuilder::ipv6(from.octets(), to.octets(), 64)
                        .write(&mut packet, etherparse::IpNumber::TCP, &syn)
                        .unwrap();
                }
                _ => panic!("two versions"),
            }
            let packet = SlicedPacket::from_ip(&packet).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
                panic!("no TCP");
            };
            let checksum = match packet.net.unwrap() {
                NetSlice::Ipv4(ip) => {
                    tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
                }
                NetSlice::Ipv6(ip) => {
                    tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())
                }
                _ => panic!("no IP"),
            };
            assert_eq!(checksum.unwrap(), tcp.checksum());
            assert!(tcp.syn() && tcp.ece() && tcp.cwr() && !tcp.ack() && !tcp.rst() && !tcp.fin());
            assert_eq!((tcp.source_port(), tcp.destination_port()), (40000, 80));
            assert_eq!(
                (tcp.sequence_number(), tcp.acknowledgment_number()),
                (u32::MAX, 0)
            );
            let offered: Vec<_> = tcp.options_iterator().map(Result::unwrap).collect();
            for option in [
                TcpOptionElement::MaximumSegmentSize(1460),
                TcpOptionElement::SelectiveAcknowledgementPermitted,
                TcpOptionElement::Timestamp(123, 0),
                TcpOptionElement::WindowScale(7),
            ] {
                assert!(offered.contains(&option), "{option:?} in {offered:?}");
            }
        }
    }

    #[test]
    fn an_answer_says_what_a_rule_needs() {
        for ends in [V4, V6] {
            let flow = flow(ends);
            let of = |options: &[TcpOptionElement], ece, cwr| {
                heard(&flow, options, |tcp| (tcp.ece, tcp.cwr) = (ece, cwr))
            };
            let all = "--mss 1440 --sack-perm --timestamp --wscale 9";
            assert_eq!(options(of(LINUX, false, false)), all);
            assert_eq!(notes(of(LINUX, false, false)), [""; 0]);
            assert_eq!(options(of(LINUX, true, false)), format!("{all} --ecn"));
            // Of what was sent, not of what is meant.
            assert_eq!(options(of(LINUX, true, true)), all);
            assert_eq!(options(of(LINUX, false, true)), all);

            let wscale_0 = [
                TcpOptionElement::Timestamp(1, 2),
                TcpOptionElement::WindowScale(0),
            ];
            assert_eq!(
                options(of(&wscale_0, false, false)),
                "--timestamp --wscale 0"
            );
            assert_eq!(notes(of(&wscale_0, false, false)).len(), 1);
            assert_eq!(options(of(&[], false, false)), "");
        }
    }

    #[test]
    fn what_needs_timestamps_is_left_out_without_them_and_that_is_said() {
        let flow = flow(V4);
        for (rest, ece) in [
            (
                &[TcpOptionElement::SelectiveAcknowledgementPermitted][..],
                false,
            ),
            (&[TcpOptionElement::WindowScale(7)][..], false),
            (&[][..], true),
        ] {
            let all = [&[TcpOptionElement::MaximumSegmentSize(1460)], rest].concat();
            let heard = || heard(&flow, &all, |tcp| tcp.ece = ece);
            assert_eq!(options(heard()), "--mss 1460");
            assert!(notes(heard())[0].contains("no timestamps"));
        }
    }

    #[test]
    fn a_proxy_and_an_own_address_are_said() {
        assert!(
            notes(heard(&flow(V4), LINUX, |tcp| tcp.window_size = 0))[0].contains("closed window")
        );
        let own = flow(["192.0.2.1:40000", "192.0.2.1:80"]);
        assert!(notes(heard(&own, LINUX, |_| ()))[0].contains("loopback"));
        // Its own SYN is no answer.
        let syn = packet(own.local, own.remote, LINUX, |tcp| tcp.syn = true);
        assert_eq!(own.judge(&syn), Heard::Other);
    }

    #[test]
    fn a_reset_refuses_if_it_is_for_us() {
        for ends in [V4, V6] {
            let flow = flow(ends);
            let reset = |ack, number| {
                heard(&flow, &[], |tcp| {
                    (tcp.syn, tcp.rst, tcp.ack) = (false, true, ack);
                    tcp.acknowledgment_number = number;
                })
            };
            assert_eq!(reset(true, 0), Heard::Refused);
            assert!(matches!(reset(true, 1), Heard::Odd(_)));
            assert!(matches!(reset(false, 0), Heard::Odd(_)));
        }
    }

    #[test]
    fn only_an_answer_to_this_syn_is_believed() {
        for ends in [V4, V6] {
            let flow = flow(ends);
            let number = heard(&flow, LINUX, |tcp| tcp.acknowledgment_number = 1);
            assert!(matches!(number, Heard::Odd(_)));
            let challenge = heard(&flow, &[], |tcp| tcp.syn = false);
            assert!(matches!(challenge, Heard::Odd(_)));
            let source = heard(&flow, LINUX, |tcp| tcp.source_port = 81);
            assert_eq!(source, Heard::Other);
            let destination = heard(&flow, LINUX, |tcp| tcp.destination_port = 40001);
            assert_eq!(destination, Heard::Other);
            let mut good = packet(flow.remote, flow.local, LINUX, |tcp| {
                (tcp.syn, tcp.ack) = (true, true);
            });
            assert!(matches!(flow.judge(&good), Heard::Answer(_)));
            let last = good.len() - 1;
            good[last] ^= 1;
            assert!(matches!(flow.judge(&good), Heard::Odd(_)));
            // Nothing that is cut short, or longer than it says, brings it down.
            good[last] ^= 1;
            for len in 0..good.len() {
                assert_eq!(flow.judge(&good[..len]), Heard::Other, "{len}");
            }
        }
        let other = packet(
            "192.0.2.2:80".parse().unwrap(),
            V4[0].parse().unwrap(),
            LINUX,
            |tcp| {
                (tcp.syn, tcp.ack) = (true, true);
            },
        );
        assert_eq!(flow(V4).judge(&other), Heard::Other);
    }

    #[test]
    fn a_checksum_that_the_device_was_to_finish_is_good() {
        for ends in [V4, V6] {
            let flow = flow(ends);
            let mut begun = packet(flow.remote, flow.local, LINUX, |tcp| {
                (tcp.syn, tcp.ack) = (true, true);
            });
            let start = begun.len() - 40;
            let pseudo = !sum(flow.remote.ip(), flow.local.ip(), 40, &[]).ones_complement();
            begun[start + 16..start + 18].copy_from_slice(&pseudo.to_ne_bytes());
            assert!(matches!(flow.judge(&begun), Heard::Answer(_)));
            begun[start + 16] ^= 1;
            assert!(matches!(flow.judge(&begun), Heard::Odd(_)));
        }
    }

    #[test]
    fn nobody_is_asked_whose_name_is_none() {
        let long = Duration::from_secs(1);
        let error = ask("192.0.2.1", 80, Some(Family::Ipv6), long).unwrap_err();
        assert_eq!(error, "192.0.2.1 port 80: has no IPv6 address");
        let error = ask("2001:db8::1", 80, Some(Family::Ipv4), long).unwrap_err();
        assert_eq!(error, "2001:db8::1 port 80: has no IPv4 address");
    }
}
