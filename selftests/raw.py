#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-2.0-only
"""raw.py SCENARIO PORT: a TCP client that does what no kernel does.

Runs in the namespace of the client as $CLIENT, a neighbour without a kernel, and
asks $SERVER: IPv4 or IPv6, by their addresses.
Ends with an error if the proxy does not do what the scenario expects of it; what
reached the server is for the caller to look at.

(scapy could do this. It takes six seconds to start in an emulated machine.)
"""

import mmap
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

GATEWAY = bytes.fromhex("020000000101")
IS_V6 = ":" in os.environ["SERVER"]
FAMILY, ETHERTYPE = (socket.AF_INET6, 0x86DD) if IS_V6 else (socket.AF_INET, 0x0800)
CLIENT, SERVER = (socket.inet_pton(FAMILY, os.environ[name]) for name in ("CLIENT", "SERVER"))
SO_RCVBUFFORCE = 33
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
REQUEST = b"GET /64k HTTP/1.0\r\n\r\n"
BANNER = b"SSH-2.0-raw\r\n"
LIMIT = 60


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_header(payload, number, ends=CLIENT + SERVER, tos=0, protocol=6, options=b"", fragment=0, ttl=64):
    """In front of a TCP segment, or of IPv6 extension headers and one, or of a part of that."""
    if IS_V6:
        return struct.pack("!IHBB", 6 << 28 | tos << 20, len(payload), protocol, ttl) + ends
    header = 5 + len(options) // 4
    ip = struct.pack("!BBHHHBBH", 4 << 4 | header, tos, header * 4 + len(payload), number, fragment, ttl, protocol, 0)
    ip += ends + options
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]


# What a segment is put into: some functions that make packets of it.


def plain(tcp, number, ends):
    return [ip_header(tcp, number, ends) + tcp]


def classed(tcp, number, ends):
    """With a type of service, and marked by the network."""
    return [ip_header(tcp, number, ends, tos=0x4B) + tcp]


def short_lived(tcp, number, ends):
    """It goes as far as the first router."""
    return [ip_header(tcp, number, ends, ttl=1) + tcp]


def padded(tcp, number, ends):
    """With bytes behind its end, as a short Ethernet frame has."""
    return [ip_header(tcp, number, ends) + tcp + b"\xa5" * 30]


def with_options(tcp, number, ends):
    """Behind options of IPv4, or an extension header of IPv6 with as much."""
    if IS_V6:
        tcp = bytes((6, 0, 1, 4, 0, 0, 0, 0)) + tcp
        return [ip_header(tcp, number, ends, protocol=60) + tcp]
    return [ip_header(tcp, number, ends, options=b"\1\1\1\0") + tcp]


def fragments(tcp, number, ends):
    """In two of them."""
    made = []
    for start, end in ((0, 24), (24, len(tcp))):
        part, offset = tcp[start:end], start // 8
        more = end < len(tcp)
        if IS_V6:
            part = struct.pack("!BBHI", 6, 0, offset << 3 | more, number) + part
            made.append(ip_header(part, number, ends, protocol=44) + part)
        else:
            made.append(ip_header(part, number, ends, fragment=more << 13 | offset) + part)
    return made


def tcp_for_client(packet):
    """What is behind the IP header; nothing if it is for someone else."""
    if IS_V6:
        start, protocol, to = 40, packet[6], packet[24:40]
        end = start + int.from_bytes(packet[4:6], "big")
    else:
        start, protocol, to = (packet[0] & 15) * 4, packet[9], packet[16:20]
        end = int.from_bytes(packet[2:4], "big")
    return packet[start:end] if protocol == 6 and to == CLIENT else None


class Segment:
    """What was received."""

    def __init__(self, tcp):
        self.sport, self.dport, self.seq, self.ack, at, self.flags, self.window = struct.unpack(
            "!HHIIBBH", tcp[:16]
        )
        self.data = tcp[(at >> 4) * 4 :]
        at_ts = tcp[20 : (at >> 4) * 4].find(b"\x08\x0a")
        self.tsval = int.from_bytes(tcp[22 + at_ts : 26 + at_ts], "big") if at_ts >= 0 else 0

    def __str__(self):
        return f"flags {self.flags:#x} seq {self.seq} ack {self.ack} window {self.window} {self.data[:20]}"


class Client:
    """One connection's end."""

    def __init__(self, port, dport=80, isn=None):
        self.port, self.dport = port, dport
        self.isn = random.getrandbits(32) if isn is None else isn
        self.answer = None
        self.clock = 1000
        self.ends, self.gateway = CLIENT + SERVER, GATEWAY
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETHERTYPE))
        # Room for the answers to a flood.
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
        self.socket.bind(("c0", ETHERTYPE))

    def send(self, flags, at=1, data=b"", seq=None, ack=None, options=None, spoil=0, header=None, urgent=0, put=plain):
        """Sends a segment, at byte `at` after the ISN if no number is given; `put` puts it into packets."""
        self.clock += 1
        if options is None:
            echo = self.answer.tsval if self.answer else 0
            options = struct.pack("!BBII", 8, 10, self.clock, echo)
            if flags & SYN:
                options += struct.pack("!BBHBBBBB", 2, 4, 1460, 4, 2, 3, 3, 7)
            options += bytes(-len(options) % 4)
        if ack is None:
            ack = self.answer.seq + 1 if self.answer and flags & ACK else 0
        seq = self.isn + at if seq is None else seq
        header = 5 + len(options) // 4 if header is None else header
        tcp = (
            struct.pack("!HHII", self.port, self.dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF)
            + struct.pack("!BBHHH", header << 4, flags, 500, 0, urgent)
            + options
            + data
        )
        # The pseudo header: those of both families have the same sum.
        total = checksum(self.ends + struct.pack("!HH", 6, len(tcp)) + tcp) ^ spoil
        tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
        for packet in put(tcp, self.clock, self.ends):
            self.socket.sendto(packet, ("c0", ETHERTYPE, 0, 0, self.gateway))

    def receive(self, until, repeat=lambda: None):
        """All segments that come, up to one that `until` is true for; `repeat` is called each second."""
        got = []
        limit, next_second = time.monotonic() + LIMIT, time.monotonic() + 1
        while time.monotonic() < limit:
            if time.monotonic() > next_second:
                repeat()
                next_second += 1
            if not select.select([self.socket], [], [], 1)[0]:
                continue
            tcp = tcp_for_client(self.socket.recv(65536))
            if not tcp:
                continue
            segment = Segment(tcp)
            if segment.dport == self.port:
                got.append(segment)
                if until(segment):
                    return got
            elif segment.dport == self.port + 1 and until is None:
                return got
        sys.exit(f"port {self.port}: in vain waited for an answer; got: {[str(one) for one in got]}")

    def silence(self):
        """Nothing comes, until the answer to a SYN of another port, sent later, has come."""
        got = self.so_far()
        if got:
            sys.exit(f"port {self.port}: expected silence, got: {[str(one) for one in got]}")

    def so_far(self):
        """All that has come by the time that a later SYN of another port is answered."""
        other = Client(self.port + 10000)
        other.syn()
        return self.drain()

    def drain(self):
        """All that has come."""
        got = []
        while select.select([self.socket], [], [], 0)[0]:
            tcp = tcp_for_client(self.socket.recv(65536))
            if tcp:
                got.append(Segment(tcp))
        return [one for one in got if one.dport == self.port]

    def syn(self, repeat=lambda: None, **how):
        """A SYN, and its SYN,ACK."""
        self.answer = None
        self.send(SYN, 0, **how)
        is_answer = lambda got: got.flags == SYN | ACK and got.ack == (self.isn + 1) & 0xFFFFFFFF
        self.answer = self.receive(is_answer, repeat)[-1]

    def shake(self):
        """The handshake with the proxy."""
        self.syn()
        self.send(ACK)

    def insist(self, **how):
        """A request, again and again until the begin of the answer to it comes."""
        first = (self.answer.seq + 1) & 0xFFFFFFFF
        ask = lambda: self.send(ACK | PSH, data=REQUEST, **how)
        ask()
        # Nothing of an older connection on these ports.
        got = self.receive(lambda got: got.data and got.seq == first, repeat=ask)[-1]
        if not got.data.startswith(b"HTTP/1.1 200"):
            sys.exit(f"expected the begin of the page, got {got}")

    def ask(self):
        """A request, and the begin of the answer to it."""
        self.send(ACK | PSH, data=REQUEST)
        # The server is there: the request again, as a kernel would.
        self.receive(lambda got: got.flags & ACK and not got.flags & RST)
        self.send(ACK | PSH, data=REQUEST)
        got = self.receive(lambda got: got.data)[-1]
        if got.seq != (self.answer.seq + 1) & 0xFFFFFFFF or not got.data.startswith(b"HTTP/1.1 200"):
            sys.exit(f"expected the begin of the page at {self.answer.seq + 1}, got {got}")


def middle(port):
    """A request that does not stand at the start of the stream."""
    client = Client(port)
    client.shake()
    for _ in range(3):
        client.send(ACK | PSH, at=101, data=REQUEST)
    client.silence()


def again(port):
    """Another connection on the ports of one that waits: it takes its place."""
    client = Client(port)
    client.shake()
    client.isn += 1000000
    client.shake()
    client.ask()


def repeated(port):
    """SYN and ACK once more while waiting: nothing is lost."""
    client = Client(port)
    client.shake()
    client.send(SYN, 0)
    client.send(ACK)
    client.so_far()
    client.ask()


def twice(port):
    """Two verdicts."""
    client = Client(port)
    client.shake()
    client.send(ACK | PSH, data=REQUEST)
    client.send(ACK | PSH, data=REQUEST)
    client.ask()


def bogus(port):
    """An ACK without a cookie, and others."""
    client = Client(port)
    client.send(ACK, ack=random.getrandbits(32))
    client.syn()
    # Off by more than 3: that much a cookie takes for another MSS.
    client.send(ACK, ack=client.answer.seq + 6)
    client.send(ACK | PSH, ack=client.answer.seq - 4, data=REQUEST)
    client.send(ACK, at=6)
    client.silence()


def stray(port):
    """All that is of no connection, and is no SYN."""
    client = Client(port)
    for flags in (ACK, ACK | PSH, ACK | URG, ACK | FIN, RST, RST | ACK, SYN | ACK, FIN, PSH, 0):
        client.send(flags, ack=random.getrandbits(32), data=REQUEST if flags & PSH else b"")
    for flags in (SYN | FIN, SYN | RST, FIN | SYN | RST | PSH | ACK | URG):
        client.send(flags, 0, ack=random.getrandbits(32))
    client.send(ACK, header=4)
    client.send(ACK, header=15)
    client.silence()


def spoiled(port):
    """What has a wrong checksum: a SYN, and the ACK to the answer of one that has not."""
    client = Client(port)
    client.send(SYN, 0, spoil=0x1234)
    client.silence()
    client = Client(port + 1)
    client.syn()
    client.send(ACK, spoil=0x1234)
    client.send(ACK | PSH, data=REQUEST, spoil=0x1234)
    client.silence()


def nowhere(port):
    """SYNs from or to whom no one connection can be, and one to whoever is on the link."""
    if IS_V6:
        nobodies = ("ff02::1", "ff05::1", "ff0e::1", "::", "::1")
    else:
        # (A directed broadcast address is known to the routing only.)
        nobodies = ("255.255.255.255", "224.0.0.1", "239.1.1.1", "0.0.0.0", "127.0.0.1")
    nobodies = [socket.inet_pton(FAMILY, name) for name in nobodies]
    client = Client(port)
    for ends in [CLIENT + one for one in nobodies] + [one + SERVER for one in nobodies]:
        client.ends = ends
        client.send(SYN, 0)
        client.port += 1
    client.ends = CLIENT + SERVER
    for client.gateway in (bytes.fromhex("ffffffffffff"), bytes.fromhex("01005e000001"), bytes.fromhex("333300000001")):
        client.send(SYN, 0)
        client.port += 1
    client.so_far()


def served(port, **how):
    """A page for a client that sends such a SYN."""
    client = Client(port)
    client.syn(**how)
    client.send(ACK)
    client.insist()


def of_a_class(port):
    """Its packet has a type of service."""
    served(port, put=classed)


def in_a_short_frame(port):
    """Bytes that are not of the packet follow."""
    served(port, put=padded)


def behind_options(port):
    """It does not follow the fixed part of the IP header."""
    served(port, put=with_options)


def in_fragments(port):
    """It comes in two packets."""
    served(port, put=fragments)


def with_data(port):
    """It has data, which nobody takes."""
    served(port, data=REQUEST)


def without_options(port):
    """It has no options, and is shorter than its answer with all that a rule can offer."""
    client = Client(port)
    client.syn(options=b"")
    client.send(ACK, options=b"")
    client.insist(options=b"")


def prompt(port):
    """The request is in the last segment of the handshake, and is sent once."""
    client = Client(port)
    client.syn()
    client.send(ACK | PSH, data=REQUEST)
    got = client.receive(lambda got: got.data)[-1]
    if not got.data.startswith(b"HTTP/1.1 200"):
        sys.exit(f"expected the begin of the page, got {got}")


def hasty(port):
    """As above, and the request is sent until there is an answer."""
    client = Client(port)
    client.syn()
    client.insist()


def returns(port):
    """A client that has lost an open connection shakes hands for another one on its ports."""
    client = Client(port)
    client.shake()
    client.insist()
    # Far from what it had, as the time that it takes to lose one has it.
    client.isn += 1 << 24
    client.shake()
    client.insist()


def aborts(port):
    """An open connection is reset."""
    client = Client(port)
    client.shake()
    client.insist()
    client.so_far()
    client.send(RST, at=1 + len(REQUEST))


def parts(port):
    """Both close a connection on which nothing was said, and the last ACK comes again."""
    client = Client(port)
    client.shake()
    # The server is there.
    client.receive(lambda got: got.flags & ACK)
    client.send(FIN | ACK)
    client.receive(lambda got: got.flags & FIN, repeat=lambda: client.send(FIN | ACK))
    for _ in range(3):
        client.send(ACK, at=2, ack=client.answer.seq + 2)
        client.so_far()


def crafted(port):
    """All that a waiting client can come up with. The last two end its wait."""
    client = Client(port)
    client.shake()
    client.send(ACK, at=0)  # a keepalive
    client.send(ACK, at=0, data=b"\0")  # an older one
    client.send(ACK | PSH, data=REQUEST)
    client.send(ACK | PSH, data=b"a" * 1400)
    client.send(ACK | PSH, data=REQUEST, spoil=0x1234)
    client.send(ACK | PSH | URG, data=REQUEST, urgent=4)
    client.send(PSH, data=REQUEST)
    client.send(0, data=REQUEST)
    client.send(FIN | SYN, 0)
    client.send(FIN | SYN | RST | PSH | ACK | URG, data=REQUEST)
    client.send(SYN | ACK, 0)
    client.send(SYN, 0)
    client.send(SYN, 0, data=REQUEST)
    client.send(ACK | PSH, at=1 << 30, data=REQUEST)
    client.send(ACK | PSH, at=-1000, data=REQUEST)
    client.send(ACK | PSH, ack=client.answer.seq + 100000, data=REQUEST)
    client.send(ACK | PSH, data=REQUEST, options=b"")
    client.send(ACK, data=REQUEST, options=b"\x08\x01\x02\x00")
    client.send(ACK, data=REQUEST, header=4)
    client.send(ACK, data=b"", header=15)
    client.send(FIN | ACK)
    client.send(ACK | PSH, data=REQUEST)
    client.so_far()


def acks(port):
    """The last ACK of the handshake, three times."""
    client = Client(port)
    client.syn()
    for _ in range(3):
        client.send(ACK)
        client.so_far()


def reset(port):
    """A client that has said something gives up, and comes back with the same cookie."""
    client = Client(port)
    client.shake()
    client.send(ACK | PSH, data=b"hello\n")
    client.send(RST, ack=0)
    client.send(RST | ACK)
    for _ in range(3):
        client.send(ACK | PSH, data=b"hello\n")
    client.so_far()


def late(port):
    """The last ACK and a first segment of two bytes are lost: the next one's cookie is good, too."""
    client = Client(port)
    client.syn()
    client.send(ACK | PSH, at=3, data=REQUEST[2:])
    client.so_far()
    client.ask()


def reboot(port):
    """A client that has lost an open connection comes again from its ports."""
    client = Client(port)
    client.shake()
    client.ask()
    expected = (client.isn + 1 + len(REQUEST)) & 0xFFFFFFFF
    client.isn += 1000000
    client.send(SYN, 0)
    client.receive(lambda got: got.flags == ACK and got.ack == expected and not got.data)
    client.send(RST, seq=expected)
    # The first one is lost when the server has sent something meanwhile.
    client.syn(repeat=lambda: client.send(SYN, 0))
    client.send(ACK)
    client.ask()


def stale(port):
    """As above, but it is the firewall that has forgotten, and the server has not."""
    client = Client(port)
    client.shake()
    client.ask()
    subprocess.run(
        ["ip", "netns", "exec", "fw", "conntrack", "-D", "-f", "ipv6" if IS_V6 else "ipv4"]
        + ["-p", "tcp", "--sport", str(port)],
        check=True,
        capture_output=True,
    )
    client.isn += 1000000
    client.shake()
    client.ask()


def below(port):
    """A request that ends where the stream starts, and what a server would read is none."""
    client = Client(port)
    client.shake()
    client.send(ACK | PSH, at=1 - len(REQUEST), data=REQUEST)
    for _ in range(3):
        client.send(ACK | PSH, data=BANNER)
    client.so_far()


def above(port):
    """A request that a server would not read as one, as something else comes before it."""
    client = Client(port)
    client.shake()
    client.send(ACK | PSH, at=1 + len(BANNER), data=REQUEST)
    for _ in range(3):
        client.send(ACK | PSH, data=BANNER)
    client.so_far()


def successor(port):
    """An open connection is reset, and another comes from its ports, with numbers close by."""
    client = Client(port)
    client.shake()
    client.ask()
    client.so_far()  # Data behind the reset would undo it: conntrack goes by the last packet.
    client.send(RST | ACK, at=1 + len(REQUEST))
    client.isn += 100
    client.shake()
    for _ in range(3):
        client.send(ACK | PSH, data=BANNER)
    client.so_far()


def renewed(port):
    """A SYN where the engine has read to, as if the request behind it began a stream."""
    client = murmur(port)
    client.send(SYN, len(BANNER))
    for _ in range(3):
        client.send(ACK | PSH, at=1 + len(BANNER), data=REQUEST)
    client.so_far()


def leaping(port):
    """An ACK so far away that it can be no part of the stream, nor then what follows where it was."""
    client = murmur(port)
    for _ in range(3):
        client.send(ACK, at=1 << 30)
        client.send(ACK | PSH, at=1 + len(BANNER), data=REQUEST)
    client.so_far()


def misled(port):
    """All that makes an engine take something for a request which is none."""
    for number, scenario in enumerate((below, above, successor, renewed, leaping)):
        scenario(port + number)


def listen(port):
    """A client that has nothing to say."""
    client = Client(port)
    client.shake()
    client.so_far()


def speak(port):
    """A request, once. What comes of it is for others to see."""
    client = Client(port)
    client.shake()
    client.send(ACK | PSH, data=REQUEST)


def twice(port):
    """A request, and the same again."""
    client = Client(port)
    client.shake()
    for _ in range(2):
        client.send(ACK | PSH, data=REQUEST)


def thrice(port):
    """As above, and another one in its place."""
    client = Client(port)
    client.shake()
    for data in (REQUEST, REQUEST, REQUEST.replace(b"64k", b"1M")):
        client.send(ACK | PSH, data=data)


def murmur(port):
    """Something that is no request."""
    client = Client(port)
    client.shake()
    client.send(ACK | PSH, data=BANNER)
    client.so_far()
    return client


def replaced(port):
    """A request, and SYNs of another connection on the same ports."""
    client = Client(port)
    client.shake()
    client.send(ACK | PSH, data=REQUEST)
    client.isn += 1000000
    for _ in range(3):
        client.send(SYN, 0)
    client.silence()


def outlived(port):
    """A cookie that has outlived itself: the kernel counts minutes, and takes those of this one and the last."""
    old, young = Client(port), Client(port + 1)
    cookies = {}
    while len(cookies) < 3 or not os.path.exists(os.environ["GO"]):
        # Rules come and go meanwhile: not every SYN is answered.
        for client in (old, young):
            client.send(SYN, 0)
        time.sleep(1)
        for got in old.drain():
            old.answer = old.answer or got
        for got in young.drain():
            # Not what the server answers meanwhile.
            if old.answer and got.window == old.answer.window:
                cookies[got.seq] = young.answer = got
    for _ in range(2):
        old.send(ACK)
        old.send(ACK | PSH, data=REQUEST)
    old.drain()
    old.silence()
    young.drain()
    young.send(ACK)
    young.ask()


def on_two_cpus(clients, act):
    """`act`, called with a client and a CPU, 0 or 1, at the same time on both."""
    turns = mmap.mmap(-1, 2)
    other = os.fork()
    me = int(other == 0)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[me]})
    for turn, client in enumerate(clients, 1):
        turns[me] = turn
        while turns[not me] < turn:
            pass
        act(client, me)
    if me:
        os._exit(0)
    os.waitpid(other, 0)


def two_cpus(port):
    """Ten clients, each with one socket on either CPU, which say different things at the same time."""
    clients = [Client(port + number) for number in range(10)]

    def contradict(client, cpu):
        # The ACK of some has data, so that it is about the entry that both are.
        if client.port % 2:
            client.send(ACK)
        for _ in range(2):
            client.send(ACK | PSH, data=(REQUEST, REQUEST.replace(b"64k", b"1M"))[cpu])

    for client in clients:
        client.syn()
    on_two_cpus(clients, contradict)


def abreast(port):
    """Fifty clients, the data of each of which comes on one CPU while the other has its ACK."""
    clients = [Client(port + number) for number in range(50)]

    def speak(client, cpu):
        if cpu:
            client.send(ACK)
        else:
            client.send(ACK | PSH, data=REQUEST[:9])
            client.send(ACK | PSH, at=10, data=REQUEST[9:])

    for client in clients:
        client.syn()
    on_two_cpus(clients, speak)


def close_behind(port):
    """Fifty clients, which have two segments: one brings a verdict while the other arrives on another CPU."""
    clients = [Client(port + number) for number in range(50)]

    def speak(client, cpu):
        if cpu:
            # Each a little later than the one before it.
            until = time.perf_counter() + (client.port - port) * 30e-6
            while time.perf_counter() < until:
                pass
            client.send(ACK | PSH, at=10, data=REQUEST[9:])
        else:
            client.send(ACK | PSH, data=REQUEST[:9])

    for client in clients:
        client.shake()
    clients[-1].so_far()
    on_two_cpus(clients, speak)


def pester(port):
    """A client that says the same 1100 times: more than an engine's queue takes."""
    client = Client(port)
    client.shake()
    for _ in range(1100):
        client.send(ACK | PSH, data=b"HELLO")


def greedy(port):
    """A client that says all that its window lets it say before it has an answer."""
    client = Client(port)
    client.shake()
    for at in range(0, 14000, 1400):
        client.send(ACK | PSH, at=1 + at, data=b"HELLO" * 280)


def many_greedy(port):
    """20 of them."""
    for number in range(20):
        greedy(port + number)


def deluge(port):
    """SYNs, and ACKs of no connection, of a thousand clients by turns and without end: 10,000 a second.

    More of them would leave nothing of an emulated processor for what is to happen meanwhile.
    """
    client, packets = Client(port), []
    for number in range(2000):
        client.port = port + number // 2
        client.send((SYN, ACK)[number % 2], put=lambda *what: packets.extend(plain(*what)) or [])
    while True:
        for number, packet in enumerate(packets):
            client.socket.sendto(packet, ("c0", ETHERTYPE, 0, 0, client.gateway))
            if number % 100 == 0:
                time.sleep(0.01)


def flood(port):
    """200 SYNs, of which each is answered."""
    client = Client(port)
    for _ in range(200):
        client.port += 1
        client.send(SYN, 0)
    client.receive(lambda got: got.flags == SYN | ACK)


def crowd(port, count=10000):
    """Clients on as many ports, which wait and have nothing to say."""
    client = Client(port, isn=1000)
    for start in range(port, port + count, 200):
        left = set(range(start, min(start + 200, port + count)))
        limit = time.monotonic() + LIMIT
        while left:
            if time.monotonic() > limit:
                sys.exit(f"in vain waited for answers to {len(left)} SYNs")
            client.answer = None
            for client.port in left:
                client.send(SYN, 0)
            # What gets lost is sent again.
            while left and select.select([client.socket], [], [], 1)[0]:
                tcp = tcp_for_client(client.socket.recv(65536))
                segment = tcp and Segment(tcp)
                if segment and segment.flags == SYN | ACK and segment.dport in left:
                    left.remove(segment.dport)
                    client.port, client.answer = segment.dport, segment
                    client.send(ACK)


def few(port):
    """The same, 600 of them."""
    crowd(port, 600)


def leave(port):
    """They reset."""
    client = Client(port, isn=1000)
    for client.port in range(port, port + 600):
        client.send(RST)


def come_and_go(port):
    """A client, 600 times; its reset does not get to the rules."""
    client = Client(port)
    client.syn()
    for _ in range(600):
        client.send(ACK)
        client.send(RST, put=short_lived)
    client.so_far()


def noise(port):
    """SYNs that nobody waits for an answer to."""
    client = Client(port)
    for client.port in range(port, port + 500):
        client.send(SYN, 0)


def turns(port):
    """SYNs from two thousands of ports in turn: no more than one a second is answered."""
    client = Client(port)
    start, answers = time.monotonic(), 0
    for number in range(2000):
        client.port = port + number // 2 + number % 2 * 1000
        client.send(SYN, 0)
        while select.select([client.socket], [], [], 0.02)[0]:
            tcp = tcp_for_client(client.socket.recv(65536))
            segment = tcp and Segment(tcp)
            answers += bool(segment) and segment.flags == SYN | ACK and port <= segment.dport < port + 2000
        took = time.monotonic() - start
        if answers > 1 + took:
            sys.exit(f"{answers} answers in {took} s")
        if answers == 6:
            return
    sys.exit(f"{answers} answers in {took} s")


def overdue(port):
    """A client that goes on when its wait is over."""
    client = Client(port)
    client.shake()
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.1)
    for _ in range(100):
        client.send(ACK | PSH, data=REQUEST)


def foreign(port):
    """SYNs, and ACKs to good answers, in packets that say they are of other protocols."""
    client = Client(port)
    for protocol in (1, 17, 58, 132, 136, 253):
        put = lambda tcp, number, ends: [ip_header(tcp, number, ends, protocol=protocol) + tcp]
        client.send(SYN, 0, put=put)
        client.silence()
        client.syn()
        client.send(ACK, put=put)
        client.send(ACK | PSH, data=REQUEST, put=put)
        client.silence()
        client.port += 1


def main():
    scenario, port = sys.argv[1:]
    globals()[scenario](int(port))


main()
