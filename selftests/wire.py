# SPDX-License-Identifier: GPL-2.0-only
"""Hosts without a kernel, on both sides of the firewall.

A Conversation is one TCP connection, of which a script plays the client, and the
server as well if that is not on the firewall itself. Every number in it is told
from the start of its own sequence: 0 is the SYN, 1 the first byte. A timestamp
is told from the first one of its clock. So a packet that the proxy translates
as it should looks the same on both sides.
"""

import ctypes
import dataclasses
import logging
import os
import random
import select
import socket
import struct
import time

logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    IPv6,
)
from scapy.packet import Raw  # noqa: E402

LIMIT = 60
# So long a second chance lasts: the proxy sends its SYN again after a second.
SECOND_CHANCE = 5
# Hosts of which no kernel knows: lib.sh and edges.t make them neighbours of fw.
ADDRESSES = {
    4: {"client": "10.0.1.9", "server": "10.0.2.9", "fw": "10.0.1.1"},
    6: {"client": "fd00:1::9", "server": "fd00:2::9", "fw": "fd00:1::1"},
}
# Who sends ICMP errors on either side.
ROUTERS = {
    4: {"client": "10.0.1.77", "server": "10.0.2.77"},
    6: {"client": "fd00:1::77", "server": "fd00:2::77"},
}
PROBE_PORT = 9
FLAGS = "FSRPAUEC"


class Failure(Exception):
    """The proxy did not do what a script expects."""


def enter(namespace):
    """As ip-netns does; sockets stay where they were made."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/var/run/netns/{namespace}", encoding="ascii") as handle:
        if libc.setns(handle.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")


def fold(data):
    """The sum that checksums are made of."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(src, dst, length, protocol):
    family = socket.AF_INET6 if ":" in src else socket.AF_INET
    ends = socket.inet_pton(family, src) + socket.inet_pton(family, dst)
    return ends + struct.pack("!IHBB", length, 0, 0, protocol)


def distance(number, base):
    """How far a 32-bit number is from another; it may be behind."""
    return (number - base + (1 << 31)) % (1 << 32) - (1 << 31)


def absolute(base, number):
    return (base + number) % (1 << 32)


### Packets


@dataclasses.dataclass
class Packet:
    """What was sent or received, in numbers of the conversation."""

    side: str
    kind: str = "tcp"
    flags: str = ""
    seq: int = 0
    ack: int = 0
    window: int = 0
    urgent: int = 0
    options: tuple = ()
    data: bytes = b""
    ttl: int = 64
    tos: int = 0
    df: bool = True
    ident: int = 0
    extension: tuple = ()
    sums: bool = True
    # Of an ICMP error: its type and code, its number (of path MTU discovery),
    # and what it quotes.
    error: tuple = ()
    quote: dict = None
    raw: bytes = dataclasses.field(default=b"", repr=False)
    counted: bool = dataclasses.field(default=False, repr=False)

    def fields(self):
        """For a comparison of two proxies."""
        got = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del got["raw"], got["side"], got["counted"]
        got["ident"] = self.ident != 0
        return got

    def __str__(self):
        said = [self.kind]
        if self.kind == "tcp":
            said += [self.flags, f"seq {self.seq} ack {self.ack} win {self.window} <{options_text(self.options)}>"]
            if self.urgent:
                said.append(f"urg {self.urgent}")
        else:
            said += [f"{self.error} quoting {self.quote}"]
        if self.data:
            said.append(f"{len(self.data)} bytes {self.data[:24]!r}")
        said.append(f"(ttl {self.ttl} tos {self.tos:#x} id {self.ident:#x}{' DF' if self.df else ''})")
        if self.extension:
            said.append(f"extension headers {self.extension}")
        if not self.sums:
            said.append("BAD CHECKSUM")
        return " ".join(said)


def options_text(options):
    return ", ".join(" ".join(str(word) for word in option) for option in options)


class Expected:
    """A packet that is waited for; what is not given does not matter."""

    def __init__(self, flags=None, **fields):
        self.wanted = dict(fields)
        self.wanted.setdefault("kind", "tcp")
        if flags is not None:
            self.wanted["flags"] = flags
        self.wanted.setdefault("sums", True)

    def is_syn(self):
        return self.wanted.get("flags", "").startswith("S") and "A" not in self.wanted["flags"]

    def end(self):
        """The number that follows it."""
        return self.wanted["seq"] + len(self.wanted["data"]) + ("F" in self.wanted["flags"])

    def faults(self, packet):
        for name, value in self.wanted.items():
            got = getattr(packet, name)
            if callable(value):
                if not value(got):
                    yield f"{name} is {got!r}"
            elif got != value:
                yield f"{name} is {got!r}, expected {value!r}"

    def __str__(self):
        said = {name: value for name, value in self.wanted.items() if not callable(value)}
        if "options" in said:
            said["options"] = options_text(said["options"])
        return f"expected {said}"


def released(data, seq=1, flags="PA", **fields):
    """What the proxy has held of a client, on its way to the server."""
    return Expected(flags, seq=seq, ack=1, data=data, ttl=64, urgent=0, **fields)


def passed_on(packet, hops=1):
    """What the other side ought to see of a packet."""
    names = ("kind", "flags", "seq", "ack", "window", "urgent", "options", "data", "tos", "df", "ident")
    wanted = {name: getattr(packet, name) for name in names}
    return Expected(ttl=packet.ttl - hops, extension=packet.extension, **wanted)


### Fragments


def split(octets, *sizes):
    """Fragments with so many bytes of payload, and the rest in another."""
    head = 20 if octets[0] >> 4 == 4 else 40
    parts, at = [], head
    for size in (*sizes, len(octets)):
        parts.append((at - head, octets[at : at + size]))
        at += size
    return [fragment(octets[:head], at, data, at + len(data) < len(octets) - head) for at, data in parts if data]


def fragment(header, at, data, more):
    if header[0] >> 4 == 4:
        header = header[:2] + struct.pack("!H", 20 + len(data)) + header[4:6] + struct.pack("!H", at >> 3 | more << 13) + header[8:]
        header = header[:10] + bytes(2) + header[12:]
        return header[:10] + struct.pack("!H", ~fold(header) & 0xFFFF) + header[12:] + data
    own = struct.pack("!BBHI", header[6], 0, at | more, fold(header))
    return header[:4] + struct.pack("!HB", 8 + len(data), 44) + header[7:] + own + data


def whole(datagrams):
    """Datagrams without fragments: these are put together, in the place of the last one."""
    pieces, done = {}, []
    for octets in datagrams:
        if octets[0] >> 4 == 4:
            word = int.from_bytes(octets[6:8], "big")
            key, at, more, head, data = octets[4:6], (word & 0x1FFF) << 3, word >> 13 & 1, octets[:20], octets[20:]
            is_fragment = word & 0x3FFF
        else:
            word = int.from_bytes(octets[42:44], "big")
            key, at, more, data = octets[44:48], word & 0xFFF8, word & 1, octets[48:]
            head = octets[:6] + octets[40:41] + octets[7:40]
            is_fragment = octets[6] == 44
        if not is_fragment:
            done.append(octets)
            continue
        got = pieces.setdefault(key, {})
        got[at] = (head, data, more)
        together = join(got)
        if together:
            done.append(together)
            del pieces[key]
    return done


def join(pieces):
    """The datagram, if all of it is there."""
    at, data, more = 0, b"", True
    while more and at in pieces:
        _, part, more = pieces[at]
        data, at = data + part, at + len(part)
    if more:
        return None
    head = pieces[0][0]
    if head[0] >> 4 == 6:
        return head[:4] + struct.pack("!H", len(data)) + head[6:] + data
    return fragment(head, 0, data, False)


### Wires


class Wire:
    """All that comes to one end of the cable, and a way to send."""

    def __init__(self, namespace, device, gateway):
        enter(namespace)
        self.device, self.gateway = device, gateway
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self.socket.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self.socket.bind((device, 3))
        enter("fw")

    def send(self, data):
        protocol = 0x0800 if data[0] >> 4 == 4 else 0x86DD
        self.socket.sendto(data, (self.device, protocol, 0, 0, self.gateway))

    def receive(self, limit):
        """The next packet, or none within so many seconds."""
        while select.select([self.socket], [], [], limit)[0]:
            data, address = self.socket.recvfrom(65536)
            if address[1] in (0x0800, 0x86DD):
                return data
        return None


def neighbour(namespace, device):
    """The MAC address of a device."""
    enter(namespace)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as probe:
        probe.bind((device, 3))
        mac = probe.getsockname()[4]
    enter("fw")
    return mac


class Stage:
    """Where the scripts play: the wires, and how the firewall is set up."""

    def __init__(self):
        # One CPU: its queue of packets is then in the order of their sending.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        self.wires = {
            "client": Wire("client", "c0", neighbour("fw", "eth0")),
            "server": Wire("server", "s0", neighbour("fw", "eth1")),
            "lo": Wire("fw", "lo", None),
        }
        self.family, self.local, self.deferred, self.ours, self.engine = 4, False, False, True, False
        self.probes = 0
        # With a second chance, whoever does not get an answer says the same again, as TCP does:
        # what was lost on the way is not missed.
        self.second_chance = False
        self.listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True, backlog=100)

    def set(self, family, chain, mode, proxy):
        self.family, self.local = int(family), chain == "INPUT"
        self.deferred, self.ours, self.engine = mode in ("deferred", "engine"), proxy == "ours", mode == "engine"

    def address(self, who):
        return ADDRESSES[self.family]["fw" if who == "server" and self.local else who]

    def ip(self, src, dst, **fields):
        if self.family == 4:
            fields.setdefault("flags", "DF")
            return IP(src=src, dst=dst, **fields)
        ttl, tos = fields.pop("ttl", 64), fields.pop("tos", 0)
        return IPv6(src=src, dst=dst, hlim=ttl, tc=tos)

    def barrier(self):
        """All packets that anything sent so far has brought about, per wire.

        A probe that goes through the firewall and back is the last of them: what
        a packet causes takes no longer way than the probe.
        """
        got = {"client": [], "server": [], "lo": []}
        for there, back in (("client", "server"), ("server", "client")):
            self.probes += 1
            token = b"probe %d" % self.probes
            ends = ADDRESSES[self.family]
            probe = self.ip(ends[there], ends[back]) / UDP(sport=PROBE_PORT, dport=PROBE_PORT) / Raw(token)
            self.wires[there].send(bytes(probe))
            self.until(back, token, got[back])
        for name in got:
            while (data := self.wires[name].receive(0)) is not None:
                got[name].append(data)
        return got

    def until(self, name, token, got):
        limit = time.monotonic() + LIMIT
        while time.monotonic() < limit:
            data = self.wires[name].receive(1)
            if data is None:
                continue
            if data.endswith(token):
                return
            got.append(data)
        raise Failure(f"the probe did not arrive at the {name}'s side")


### Conversations


class End:
    """The client or the server of a conversation, as a script plays it."""

    def __init__(self, talk, name, peer_name, isn, options):
        self.talk, self.name, self.peer_name = talk, name, peer_name
        self.isn, self.first_clock = isn, random.getrandbits(32)
        # What it believes to be the other's: the proxy's, for the client.
        self.peer_isn, self.peer_clock = 0, 0
        self.port = talk.port if name == "client" else 80
        self.peer_port = 80 if name == "client" else talk.port
        self.syn_options, self.timestamps = options, any(one[0] == "Timestamp" for one in options)
        self.next, self.clock, self.recent = 0, 0, 0
        self.peer, self.known = None, False

    def stamp(self):
        """The option as every segment has it, if it was agreed on."""
        return (("NOP",), ("NOP",), ("Timestamp",)) if self.timestamps else ()

    def build(self, letters, seq, ack, window, options, data, **ip):
        """The headers, and what the packet is in the conversation."""
        talk = self.talk
        ack = ack if "A" in letters else 0
        if talk.stage.family == 4:
            ip.setdefault("id", 0x1000 + self.clock)
        sent = Packet(self.name, "tcp", letters, seq, ack, window, 0, tuple(options), data)
        sent.ttl, sent.tos = ip.get("ttl", 64), ip.get("tos", 0)
        if talk.stage.family == 4:
            sent.ident, sent.df = ip["id"], ip.get("flags", "DF") == "DF"
        header = talk.stage.ip(talk.stage.address(self.name), talk.stage.address(self.peer_name), **ip)
        tcp = TCP(
            sport=self.port,
            dport=self.peer_port,
            flags=letters,
            seq=absolute(self.isn, seq),
            ack=absolute(self.peer_isn, ack) if "A" in letters else 0,
            window=window,
            options=[self.written(one, letters) for one in options],
        )
        return header, tcp / Raw(data) if data else tcp, sent

    def written(self, option, flags):
        """An option in numbers of the wire, as scapy wants it."""
        name, *values = option
        if name == "Timestamp":
            echo = absolute(self.peer_clock, values[1]) if "A" in flags else 0
            return (name, (absolute(self.first_clock, values[0]), echo))
        if name == "SAck":
            return (name, tuple(absolute(self.peer_isn, value) for value in values))
        if name in ("NOP", "EOL"):
            return (name, None)
        return (name, values[0] if values else b"")

    def send(self, flags="A", data=b"", seq=None, ack=None, window=None, options=None, between=None, mangle=None, df=True, **ip):
        """Sends a segment: the next one, if no number is given.

        "between" makes layers between IP and TCP of what is there, "mangle" other
        bytes of the whole.
        """
        self.clock += 1
        fresh = seq is None
        seq = self.next if fresh else seq
        ack = self.peer.next if ack is None else ack
        if window is None:
            window = 64240 if "S" in flags else 500
        if options is None:
            options = self.syn_options if "S" in flags else () if "R" in flags else self.stamp()
        options = tuple((*one, self.clock, self.recent)[:3] if one[0] == "Timestamp" else one for one in options)
        if not df and self.talk.stage.family == 4:
            ip["flags"] = 0
        header, body, sent = self.build(flags, seq, ack, window, options, data, **ip)
        packet = header
        if between is not None:
            packet = packet / between
            sent.extension = tuple(layer.__name__ for layer in packet.layers()[1:])
        octets = bytes(packet / body)
        if mangle is not None:
            octets = mangle(octets)
        self.talk.transmit(self.name, sent, octets)
        if fresh:
            self.next = seq + len(data) + ("S" in flags) + ("F" in flags)
        return sent

    def error(self, code, quoted, number=0, length=None):
        """An ICMP error from a router of this side, about a packet that this end got."""
        talk = self.talk
        octets, router = quoted.raw[:length], ROUTERS[talk.stage.family][self.name]
        if talk.stage.family == 4:
            body = ICMP(type=3, code=code, nexthopmtu=number) if code == 4 else ICMP(type=3, code=code)
            packet = IP(src=router, dst=talk.stage.address(self.peer_name)) / body / Raw(octets)
        else:
            body = ICMPv6PacketTooBig(mtu=number) if code == "big" else ICMPv6DestUnreach(code=code)
            packet = IPv6(src=router, dst=talk.stage.address(self.peer_name)) / body / Raw(octets)
        sent = Packet(self.name, "icmp", error=("sent", code, number), quote={"of": str(quoted)[:60]})
        talk.transmit(self.name, sent, bytes(packet))


class Conversation:
    """One connection. What it sees is asserted, or only recorded."""

    ports = 1024

    def __init__(self, stage, recording=False, **how):
        Conversation.ports += 1
        self.stage, self.port, self.recording = stage, Conversation.ports, recording
        self.log, self.record, self.step, self.tags = [], [], 0, {}
        self.syns, self.last, self.socket = [], {}, None
        self.said, self.data_said = [], []
        self.repeats, self.all_repeats = 0, False
        self.set_ends(**how)

    def set_ends(self, ts=True, mss=1460, wscale=7, sack=True, ecn=False, isn=None, server_isn=None, server=None):
        """Two ends anew; the ports stay."""
        self.ecn, self.wscale, self.mss = ecn, wscale, mss
        self.client = End(self, "client", "server", pick(isn), syn_options(ts, mss, wscale, sack))
        self.server = End(self, "server", "client", pick(server_isn), syn_options(**{"ts": ts, "wscale": 7 if ts and wscale is not None else None, "sack": sack and ts, **(server or {})}))
        self.syns, self.held = [], []
        self.client.peer, self.server.peer = self.server, self.client
        self.server.peer_isn, self.server.peer_clock = self.client.isn, self.client.first_clock

    def transmit(self, side, sent, octets):
        self.log.append(f"{side} sends {sent}")
        self.said.append((side, octets))
        if sent.data:
            self.data_said.append((side, octets))
        self.say(side, octets)

    def say(self, side, octets):
        for one in octets if isinstance(octets, list) else [octets]:
            self.stage.wires[side].send(one)

    ## What comes

    def see(self, client=(), server=(), patient=False):
        """What has come on both sides, which should be just this; a Packet stands for itself.

        None is for a side that does not matter. A repeated SYN of the proxy's may
        come at any time.
        """
        wanted = {"client": client, "server": server}
        self.step += 1
        got = self.second_chance(wanted) if self.stage.second_chance else self.collect(wanted, patient)
        self.said = []
        for side, packets in got.items():
            for packet in packets:
                self.log.append(f"{side} gets  {packet}")
            self.record += [(self.step, side, index, packet.fields()) for index, packet in enumerate(packets)]
        self.last = got
        for side, packets in got.items():
            if wanted[side] is not None and not self.recording and not self.stage.second_chance:
                self.compare(side, packets, wanted[side])
        return got["client"], got["server"]

    def second_chance(self, wanted):
        """All that was wanted, among whatever else has come when all was said once more."""
        got = self.collect(wanted, False)
        limit = time.monotonic() + SECOND_CHANCE
        while missing := list(self.missing(wanted, got)):
            if time.monotonic() > limit:
                self.log += [f"{side} gets  {packet}" for side in got for packet in got[side]]
                raise Failure("; ".join(missing))
            # Data that was taken for received may have been lost, too.
            for side, octets in self.said + [one for one in self.data_said if one not in self.said]:
                self.say(side, octets)
            time.sleep(0.2)
            for side, packets in self.collect(wanted, False).items():
                got[side] += packets
        return got

    @staticmethod
    def missing(wanted, got):
        for side, packets in wanted.items():
            for expected in packets or ():
                if isinstance(expected, Packet):
                    expected = passed_on(expected)
                # Said once more it may get there as it is, and not as the proxy had kept it.
                expected.wanted.pop("ttl", None)
                if all(any(expected.faults(packet)) for packet in got[side]):
                    yield f"{side}: nothing like {expected}"

    def collect(self, wanted, patient):
        got = {"client": [], "server": []}
        limit = time.monotonic() + LIMIT
        syns = sum(isinstance(one, Expected) and one.is_syn() for one in wanted["server"] or ())
        while True:
            everything = self.stage.barrier()
            got["client"] += self.ours("client", everything["client"])
            got["server"] += self.ours("server", everything["lo" if self.stage.local else "server"])
            got["server"], syns = self.without_repeated(got["server"], syns)
            done = all(len(got[side]) >= len(wanted[side] or ()) for side in got)
            if done or not patient or time.monotonic() > limit:
                return got
            time.sleep(0.02)

    def without_repeated(self, packets, wanted):
        """Without SYNs like one before, which the proxy's timer makes, or the client's ACK."""
        kept = []
        for packet in packets:
            if packet.flags.startswith("S") and "A" not in packet.flags and not packet.counted:
                packet.counted = True
                like = (packet.flags, packet.seq, packet.window, [one for one in packet.options if one[0] != "Timestamp"])
                if like in self.syns:
                    self.repeats += 1
                    if not wanted and not self.all_repeats:
                        self.log.append("server gets  the SYN once more")
                        continue
                self.syns.append(like)
                wanted = max(0, wanted - 1)
            kept.append(packet)
        return kept, wanted

    def compare(self, side, packets, wanted):
        faults = []
        for index, expected in enumerate(wanted):
            if isinstance(expected, Packet):
                expected = passed_on(expected)
            if index >= len(packets):
                faults.append(f"{side}: nothing came, {expected}")
            else:
                faults += [f"{side}, packet {index + 1}: {fault}" for fault in expected.faults(packets[index])]
        faults += [f"{side}: not expected: {packet}" for packet in packets[len(wanted) :]]
        if faults:
            raise Failure("; ".join(faults))

    def ours(self, side, datagrams):
        """Those of them that belong to the conversation; fragments are put together."""
        return [packet for packet in (self.read(side, data) for data in whole(datagrams)) if packet]

    def read(self, side, data):
        family = data[0] >> 4
        if family != self.stage.family:
            return None
        ip = IP(data) if family == 4 else IPv6(data)
        end = self.client if side == "client" else self.server
        packet = Packet(side, raw=data)
        if family == 4:
            packet.ttl, packet.tos, packet.df, packet.ident = ip.ttl, ip.tos, bool(ip.flags.DF), ip.id
            packet.sums = fold(data[: ip.ihl * 4]) == 0xFFFF
        else:
            packet.ttl, packet.tos = ip.hlim, ip.tc
        if TCP in ip:
            return self.read_tcp(packet, end, ip, data)
        if family == 4 and ICMP in ip and ip[ICMP].type in (3, 11, 12):
            at = ip.ihl * 4
            packet.sums &= fold(data[at:]) == 0xFFFF
            number = int.from_bytes(data[at + 6 : at + 8], "big")
            return self.read_error(packet, end, (data[at], data[at + 1], number), data[at + 8 :])
        if family == 6 and ip.nh == 58 and data[40] < 128:
            packet.sums = fold(pseudo(ip.src, ip.dst, len(data) - 40, 58) + data[40:]) == 0xFFFF
            number = int.from_bytes(data[44:48], "big")
            return self.read_error(packet, end, (data[40], data[41], number), data[48:])
        return None

    def read_tcp(self, packet, end, ip, data):
        tcp = ip[TCP]
        if (tcp.dport, tcp.sport) != (end.port, end.peer_port):
            return None
        at = len(data) - len(bytes(ip[TCP]))
        # The loopback device leaves them to be made.
        if not (self.stage.local and packet.side == "server"):
            packet.sums &= fold(pseudo(ip.src, ip.dst, len(data) - at, 6) + data[at:]) == 0xFFFF
        packet.extension = tuple(layer.__name__ for layer in ip.layers()[1:] if "ExtHdr" in layer.__name__)
        packet.flags = "".join(letter for letter in FLAGS if letter in str(tcp.flags))
        if packet.side == "client" and set("SA") <= set(packet.flags) and end.peer_isn == 0:
            end.peer_isn = tcp.seq
            end.peer_clock = dict(one[:2] for one in tcp.options).get("Timestamp", (0, 0))[0]
        if self.stage.local and packet.side == "server" and "A" in packet.flags and not end.known:
            # The server's numbers are its own affair, until the proxy's ACK tells them.
            end.known, end.isn = True, (tcp.ack - 1) % (1 << 32)
            end.first_clock = dict(one[:2] for one in tcp.options).get("Timestamp", (0, 0))[1]
        packet.seq = distance(tcp.seq, end.peer_isn)
        packet.ack = distance(tcp.ack, end.isn) if "A" in packet.flags else self.unset(tcp.ack, self.client.peer_isn)
        packet.window, packet.urgent = tcp.window, tcp.urgptr
        packet.options = tuple(self.told(one, end, packet.flags) for one in tcp.options)
        packet.data = bytes(tcp.payload)
        for option in packet.options:
            if option[0] == "Timestamp":
                end.recent = max(end.recent, option[1])
        return packet

    @staticmethod
    def unset(value, proxys):
        """A field that has no meaning in a packet: in-tree, some of them carry the proxy's numbers."""
        return 0 if value == 0 else "the proxy's" if value == proxys else value

    def told(self, option, end, flags):
        name, value = option
        if name == "Timestamp":
            echo = distance(value[1], end.first_clock) if "A" in flags else self.unset(value[1], self.client.peer_clock)
            return (name, distance(value[0], end.peer_clock), echo)
        if name == "SAck":
            return (name, *(distance(one, end.isn) for one in value))
        if name in ("NOP", "EOL", "SAckOK"):
            return (name,)
        return (name, value)

    def read_error(self, packet, end, error, quoted):
        """What it quotes, told by who is said to have sent it."""
        family = self.stage.family
        at = (quoted[0] & 15) * 4 if family == 4 else 40
        if len(quoted) < at + 8:
            return None
        sport, dport, seq = struct.unpack("!HHI", quoted[at : at + 8])
        if {sport, dport} != {end.port, end.peer_port}:
            return None
        packet.kind, packet.error = "icmp", error
        mine = sport == end.port
        bases = (end.isn, end.peer_isn) if mine else (end.peer_isn, end.isn)
        packet.quote = {"from": end.name if mine else end.peer_name, "seq": distance(seq, bases[0])}
        if len(quoted) >= at + 12 and quoted[at + 13 : at + 14] and quoted[at + 13] & 16:
            packet.quote["ack"] = distance(int.from_bytes(quoted[at + 8 : at + 12], "big"), bases[1])
        if family == 4:
            packet.quote["header sum"] = fold(quoted[:at]) == 0xFFFF
        return packet

    ## What every conversation begins with

    def rule_mss(self):
        return 1460 if self.stage.deferred else 1480

    def syn(self, **fields):
        """The client's SYN, and the proxy's answer."""
        client = self.client
        sent = client.send("SEC" if self.ecn else "S", **fields)
        flags = "SAE" if self.ecn and client.timestamps and not self.stage.deferred else "SA"
        window = self.rule_mss() * 10 if self.stage.deferred else 0
        client.peer_isn = 0
        self.see(client=[Expected(flags, seq=0, ack=1, window=window, options=self.syn_ack_options(sent), ttl=64)], server=[])
        if not client.peer_isn:
            raise Failure("no SYN,ACK")
        self.server.next = 1  # as the client sees it
        return sent

    def syn_ack_options(self, syn):
        """What the proxy offers the client, in the order of the kernel's own."""
        names = {one[0]: one for one in syn.options}
        options = [("MSS", self.rule_mss())] if "MSS" in names else []
        if "Timestamp" in names:
            options += [("SAckOK",)] if "SAckOK" in names else [("NOP",), ("NOP",)]
            options += [("Timestamp", 0, names["Timestamp"][1])]
            options += [("NOP",), ("WScale", 7)] if "WScale" in names else []
        return tuple(options)

    def ack(self, **fields):
        """The client's ACK; the server hears of it, unless the client waits at a gate."""
        sent = self.client.send("A", **fields)
        if self.stage.local:
            self.see([Expected("A", seq=1, ack=1, window=bool, data=b"", ttl=64)], [self.expected_syn(), Expected("A", seq=1, ack=1, window=self.fair_window)])
        elif not self.stage.deferred:
            self.see([], [self.expected_syn()])
        else:
            self.see()
            self.client.send("PA", REQUEST, seq=1)
            self.held = [released(REQUEST)]
            self.see([], [self.expected_syn()], patient=True)
        return sent

    def expected_syn(self, **fields):
        """The SYN that the server ought to get."""
        wanted = {"seq": 0, "ack": 0, "options": self.expected_syn_options(), "data": b"", "ttl": 64, **fields}
        flags = "SEC" if self.ecn and self.client.timestamps and not self.stage.deferred else "S"
        return Expected(flags, **wanted)

    def expected_syn_options(self):
        options = [("MSS", cookie_mss(self.stage.family, self.mss))]
        names = {one[0]: one for one in self.client.syn_options}
        if "Timestamp" in names:
            options += [("SAckOK",)] if "SAckOK" in names else [("NOP",), ("NOP",)]
            options += [("Timestamp", self.client.clock, 0)]
            options += [("NOP",), names["WScale"]] if "WScale" in names else []
        return tuple(options)

    def serve(self, window=65160, **fields):
        """The server's SYN,ACK; both ends are told."""
        server = self.server
        server.next = 0
        # Its first timestamp is the origin of its clock, for both sides.
        server.first_clock, server.clock = absolute(server.first_clock, server.clock + 1), -1
        sent = server.send("SA", window=window, **fields)
        names = {one[0]: one for one in sent.options}
        stamps = "Timestamp" in names
        scaled = window >> names["WScale"][1] if "WScale" in names else window
        if window:
            scaled = max(scaled, 1)
        if not stamps:
            self.client.timestamps = False
        held, self.held = self.held, []
        if held:
            self.client.next = max(one.end() for one in held)
        update = [Expected("A", seq=1, ack=1, window=scaled, data=b"", ttl=64, options=(("NOP",), ("NOP",), ("Timestamp", server.clock, server.recent)) if stamps else ())]
        if self.stage.deferred and self.stage.second_chance:
            # Nobody repeats it, nor has to: the client has a window, and gets answers.
            update = None
        self.see(
            client=update,
            server=[Expected("A", seq=1, ack=1, window=self.fair_window, data=b"", ttl=64, options=(("NOP",), ("NOP",), ("Timestamp", server.recent, server.clock)) if stamps else ()), *held],
        )
        return sent

    def fair_window(self, window):
        """Not zero, and no more than the 500 that the client has in its segments."""
        scales = [dict(one for one in end.syn_options if len(one) == 2).get("WScale") for end in (self.client, self.server)]
        if self.stage.local or None not in scales or scales[0] is None or not self.client.timestamps:
            return 0 < window <= 500
        # The server does not scale: it must be told in full what the client means.
        return 0 < window <= min(500 << scales[0], 65535)

    def open(self):
        """A connection; behind a gate, the server has the client's request then."""
        self.syn()
        self.ack()
        if self.stage.local:
            return self.accept()
        self.serve()
        if self.stage.deferred:
            self.pass_on(self.server, "A")
        return None

    def accept(self):
        """The server's own end."""
        limit = time.monotonic() + LIMIT
        while time.monotonic() < limit:
            self.stage.listener.settimeout(LIMIT)
            self.socket, peer = self.stage.listener.accept()
            if peer[1] == self.port:
                self.socket.settimeout(LIMIT)
                return
            self.socket.close()
        raise Failure("the server has not accepted it")

    def pass_on(self, end, *what, **fields):
        """A segment that the other side gets, and nobody gets more."""
        sent = end.send(*what, **fields)
        sides = {end.name: [], end.peer_name: [sent]}
        self.see(**sides)
        return sent


REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def pick(isn):
    return random.getrandbits(32) if isn is None else isn


def syn_options(ts=True, mss=1460, wscale=7, sack=True):
    """In Linux' order."""
    options = [("MSS", mss)] if mss else []
    if sack and ts:
        options += [("SAckOK",)]
    elif sack:
        options += [("NOP",), ("NOP",), ("SAckOK",)]
    elif ts:
        options += [("NOP",), ("NOP",)]
    options += [("Timestamp",)] if ts else []
    options += [("NOP",), ("WScale", wscale)] if wscale is not None else []
    return tuple(options)


def cookie_mss(family, mss):
    """What a cookie keeps of it: the next lower one of four."""
    table = (536, 1300, 1440, 1460) if family == 4 else (1220, 1420, 1440, 8940)
    return max([one for one in table if one <= (mss or 0)] or table[:1])
