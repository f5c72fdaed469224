#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Draws what selftests/demo.sh has captured, and counts what must not be there.

    ladder.py --fields                      the fields to ask tshark for
    ladder.py --dpi-log FILE --same PAGE PAGE TITLE... < FIELDS
                                            draw; status 1 if the promise was broken

The capture is three files merged: the client's wire, the server's wire, and what the firewall
logged by NFLOG. In the latter each packet of a connection stands once for the hook it came in by
(PREROUTING) or, if the firewall itself made it, for OUTPUT, and its prefix is the state that
`-m spstate` saw. The prefix "verdict" is a packet on its way from the DPI program to -j SYNPROXY.
"""

import argparse
import collections
import hashlib
import itertools
import sys
import textwrap

PORT = 80
FIELDS = """frame.interface_id frame.time_epoch frame.protocols nflog.hook nflog.prefix
    ip.len ip.hdr_len tcp.hdr_len udp.dstport tcp.srcport tcp.dstport tcp.seq_raw tcp.ack_raw
    tcp.flags tcp.window_size_value tcp.options.timestamp.tsval""".split()

CLIENT, SERVER, FIREWALL = range(3)
PREROUTING, OUTPUT = 0, 3
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
NAMES = {FIN: "FIN", SYN: "SYN", RST: "RST", ACK: "ACK"}

LANE = 38
BAR = "│"
FAR = 1 << 31

SOURCES = """\
Both wires were captured at the hosts' ends. A state is what -m spstate matched when the packet
came to the firewall or was made there, as its rules logged it; "opening" is none of the three.
"""

# What happened when the state that a packet found is not the one that the next packet finds.
STEPS = {
    ("none", "in-progress"): "the cookie is back: the client waits",
    ("none", "opening"): "the cookie came back",
    ("in-progress", "opening"): "the connection is opened",
    ("opening", "finish"): "P and S are swapped from here on",
}


class Packet:
    """A line of tshark's output."""

    def __init__(self, line):
        values = dict(zip(FIELDS, line.rstrip("\n").split("\t")))

        def number(name):
            return int(values[name] or "0", 0)

        self.where = number("frame.interface_id")
        self.time = float(values["frame.time_epoch"])
        self.hook = number("nflog.hook")
        self.state = values["nflog.prefix"]
        source, destination = number("tcp.srcport"), number("tcp.dstport")
        # The end-of-capture marks of lib.sh.
        self.is_fence = number("udp.dstport") == 9
        self.is_arp = values["frame.protocols"].endswith(":arp")
        self.is_tcp = PORT in (source, destination)
        self.from_client = destination == PORT
        self.port = source if self.from_client else destination
        self.seq, self.ack = number("tcp.seq_raw"), number("tcp.ack_raw")
        self.flags = number("tcp.flags") & (FIN | SYN | RST | PSH | ACK)
        # Not tcp.len: NFLOG copies the headers only.
        self.len = number("ip.len") - number("ip.hdr_len") - number("tcp.hdr_len")
        self.window = number("tcp.window_size_value")
        self.timestamp = number("tcp.options.timestamp.tsval")
        # The packet of the other wire or of the firewall's log that is the same packet.
        self.other = self.record = None


class Connection:
    """All packets of one client port."""

    def __init__(self, packets):
        self.wires = [p for p in packets if p.where != FIREWALL]
        self.log = [p for p in packets if p.where == FIREWALL]
        self.port = packets[0].port
        self.start = self.wires[0].time
        self.isn = {"C": self._isn(CLIENT, SYN), "P": self._isn(CLIENT, SYN | ACK),
                    "S": self._isn(SERVER, SYN | ACK)}
        self._find_records()
        self._find_pairs()

    def _isn(self, where, flags):
        return next((p.seq for p in self.wires
                     if p.where == where and p.flags & (SYN | ACK) == flags), None)

    def on(self, where):
        return [p for p in self.wires if p.where == where]

    def ms(self, packet):
        return (packet.time - self.start) * 1000

    def base(self, packet):
        """The letter of the server's numbers in this packet: P or S."""
        if packet.where != FIREWALL:
            return "P" if packet.where == CLIENT else "S"
        number = packet.ack if packet.from_client else packet.seq
        known = [letter for letter in "PS" if self.isn[letter] is not None]
        return min(known, key=lambda letter: (number - self.isn[letter]) % (1 << 32), default="P")

    def offset(self, number, letter):
        isn = self.isn[letter]
        return None if isn is None else (number - isn + FAR) % (1 << 32) - FAR

    def relative(self, packet):
        """Sequence and acknowledgement number, each with the letter it is relative to."""
        mine, theirs = "C", self.base(packet)
        if not packet.from_client:
            mine, theirs = theirs, mine
        ack = self.offset(packet.ack, theirs) if packet.flags & ACK else None
        return (mine, self.offset(packet.seq, mine)), (theirs, ack)

    def key(self, packet):
        (_, seq), (_, ack) = self.relative(packet)
        return packet.from_client, packet.flags, packet.len, seq, ack

    def _find_records(self):
        """Which line of the firewall's log is which packet of a wire."""
        waiting = collections.defaultdict(collections.deque)
        for record in self.log:
            if record.hook in (PREROUTING, OUTPUT):
                made_here = record.hook == OUTPUT
                to_server = record.from_client
                where = SERVER if made_here == to_server else CLIENT
                waiting[where, made_here, self.key(record)].append(record)
        for packet in self.wires:
            arrives = packet.from_client == (packet.where == CLIENT)
            key = self.key(packet)
            records = waiting[packet.where, not arrives, key]
            if records:
                packet.record = records.popleft()

    def made_here(self, packet):
        return packet.record is not None and packet.record.hook == OUTPUT

    def _find_pairs(self):
        """Which packet of one wire is which packet of the other: the last that can be."""
        arrived = collections.defaultdict(list)
        for packet in self.wires:
            if packet.from_client == (packet.where == CLIENT):
                arrived[self.key(packet)].append(packet)
            # Of its own the firewall sends no data: that was held.
            elif (packet.len or not self.made_here(packet)) and arrived[self.key(packet)]:
                packet.other = arrived[self.key(packet)].pop()
                packet.other.other = packet

    def record(self, packet):
        """What the firewall logged when it met this packet."""
        return packet.record or (packet.other and packet.other.record)

    def verdict(self):
        """The place in the firewall's log where the first packet came back marked."""
        states = [r.state for r in self.log]
        return states.index("verdict") if "verdict" in states else None

    def request(self):
        """The packet on the client's wire that the verdict was given on."""
        verdict = self.log[self.verdict()]
        return next((p for p in reversed(self.on(CLIENT)) if p.record in self.log[:self.verdict()]
                     and self.key(p) == self.key(verdict)), None)

    def clock_difference(self):
        """Server's timestamps minus those the client sees."""
        return next(((p.timestamp - p.other.timestamp + FAR) % (1 << 32) - FAR
                     for p in self.on(SERVER) if p.other and not p.from_client), None)


class Ladder:
    """The drawing of a connection: a row is a packet, or a note on what it brought about."""

    def __init__(self, connection, words):
        self.connection = connection
        self.words = words
        # What has been said once.
        self.said = set()

    def draw(self):
        self.legend()
        print(f"{'ms':>8} {'client':<{LANE - 3}}{'firewall':<{LANE + 1}} {'server':>5}   state")
        pairs = itertools.groupby(self.pairs(), is_bulk)
        for bulk, run in pairs:
            run = list(run)
            if bulk and len(run) > 8:
                for pair in run[:4]:
                    self.packet(*pair)
                self.elided(run[4:-2])
                run = run[-2:]
            for pair in run:
                self.packet(*pair)
        if not self.connection.on(SERVER):
            row(right=f"{'nothing, ever':^{LANE}}")
        print()

    def legend(self):
        isn = self.connection.isn
        print(f"{'C':>8} = {isn['C']:<10}  the client's first sequence number")
        print(f"{'P':>8} = {isn['P']:<10}  the proxy's: a SYN cookie")
        if isn["S"] is not None:
            print(f"{'S':>8} = {isn['S']:<10}  the server's")
            print(f"{'S-P':>8} = {signed(isn['S'] - isn['P']):<+11} added or taken off, modulo 2^32")
            clock = self.connection.clock_difference()
            if clock:
                print(f"{'':>8}   {clock:<+11} the same for the server's timestamps")
        print()

    def pairs(self):
        """Packets in order, as (on the client's wire, on the server's wire); None where it was not.

        One that was kept while the firewall talked to the server is two steps.
        """
        made_here = [p.time for p in self.connection.wires if self.connection.made_here(p)]
        for packet in self.connection.wires:
            first, last = sorted((packet, packet.other or packet), key=lambda p: p.time)
            if any(first.time < time < last.time for time in made_here):
                first = last = packet
            if packet is first:
                yield tuple(next((p for p in (first, last) if p.where == where), None)
                            for where in (CLIENT, SERVER))

    def packet(self, client, server):
        first = min((p for p in (client, server) if p), key=lambda p: p.time)
        lanes = [arrow(self.label(p), p.from_client) if p else "" for p in (client, server)]
        if client and not server:
            lanes[1] = f" {self.fate(client)}"
        record = self.connection.record(first)
        row(f"{self.connection.ms(first):.1f}", *lanes, record.state if record else "?")
        if record:
            self.notes(first, record)

    def label(self, packet):
        """A packet in at most LANE - 6 characters; what does not fit is left out."""
        (mine, seq), (theirs, ack) = self.connection.relative(packet)
        name = ",".join(name for bit, name in NAMES.items() if packet.flags & bit)
        plain = not packet.flags & (SYN | FIN | RST)
        to_client = self.connection.made_here(packet) and not packet.from_client
        if plain and not packet.len and to_client:
            return f"{name}: window opens, win={packet.window}"
        words = ["data" if plain and packet.len else name, number("seq", mine, seq)]
        words += [f"len={packet.len}"] if packet.len else []
        words += [number("ack", theirs, ack)] if ack is not None else []
        words += [] if packet.len or packet.flags & (FIN | RST) else [f"win={packet.window}"]
        while len(" ".join(words)) > LANE - 6:
            words.pop()
        return " ".join(words)

    def fate(self, packet):
        """What became of a packet of the client's that was not forwarded at once."""
        if not packet.from_client or not packet.len:
            return ""
        if packet.other:
            return "held here, released below"
        again = ("held", packet.seq) in self.said
        self.said.add(("held", packet.seq))
        return "held already" if again else "held here"

    def notes(self, packet, record):
        """What the engine said, and what it means if the next packet finds another state."""
        if packet.from_client and packet.len and self.words and "words" not in self.said:
            self.said.add("words")
            note(f"dpi-http: {self.words}")
        log = self.connection.log
        later = (r.state for r in log[log.index(record) + 1:] if r.hook in (PREROUTING, OUTPUT))
        step = STEPS.get((record.state, next(later, record.state)))
        if step and step not in self.said:
            self.said.add(step)
            note(step)

    def elided(self, pairs):
        kinds = ("segments", False, True), ("acknowledgements", True, False)
        for what, from_client, data in kinds:
            lanes = []
            for where in (CLIENT, SERVER):
                lens = [pair[where].len for pair in pairs
                        if pair[where].from_client == from_client and bool(pair[where].len) == data]
                text = f"{len(lens)} {what}" + (f", {sum(lens)} bytes" if data else "")
                lanes.append(arrow(text, from_client, "┄"))
            row("...", *lanes)


def signed(number):
    return (number + FAR) % (1 << 32) - FAR


def number(name, letter, offset):
    return f"{name}={letter}" + (f"{offset:+}" if offset else "")


def is_bulk(pair):
    """In the middle of an open connection."""
    return all(pair) and not any(p.flags & (SYN | FIN | RST) for p in pair)


def arrow(text, rightwards, line="─"):
    if rightwards:
        return f"{line * 2} {text} ".ljust(LANE - 1, line) + ">"
    return f"<{line * 2} {text} ".ljust(LANE, line)


def row(time="", left="", right="", state=""):
    print(f"{time:>8} {BAR}{left:{LANE}}{BAR}{right:{LANE}}{BAR} {state}".rstrip())


def note(text):
    for line in textwrap.wrap(text, LANE - 2):
        row(right=f" {line}")


def check(what, found, good):
    print(f"{'ok' if good else 'FAILED':>8}  {what + ' ':.<60} {found}")
    return good


def gate_was_shut(packets, page):
    """Until the verdict nothing, of whatever kind, was on the server's wire."""
    verdict = page.verdict()
    request = None if verdict is None else page.request()
    if request is None:
        return check("the engine's verdict on the page", "none", False)
    # By the clock for all of them; by the firewall's own order of events for the page's. That log
    # may miss a packet, but not the first: what is on a wire after it is later.
    wire = [p for p in packets if p.where == SERVER]
    early = {p for p in wire if p.time <= request.time}
    for place, packet in enumerate(page.on(SERVER)):
        record = page.record(packet)
        if page.log.index(record) < verdict if record else place == 0:
            early.add(packet)
    delay = (wire[0].time - request.time) * 1000
    return all([
        check("packets on the server's wire before the verdict", len(early), not early),
        check("the first one there came after the request, by", f"{delay:.1f} ms", delay > 0),
    ])


def same(here, there):
    """The page came as it was sent."""
    sums = []
    for name in here, there:
        with open(name, "rb") as file:
            data = file.read()
        sums.append((len(data), hashlib.sha256(data).hexdigest()))
    (length, digest), sent = sums
    return check(f"the page: {length} bytes, sha256 {digest[:16]}...",
                 "as sent" if sums[0] == sent else f"{sent[1][:16]}...", sums[0] == sent)


def refused(packets, page, ssh):
    """The other client did send, again and again, and the server has not heard of it."""
    seen = len(ssh.on(CLIENT))
    insisted = sum(p.len > 0 and p.from_client for p in ssh.on(CLIENT)) > 2
    astray = [p for p in packets if p.where == SERVER and not p.is_arp and p not in page.wires]
    verdict = "none" if ssh.verdict() is None else "given"
    return all([
        check("a verdict that lets the SSH client through", verdict, verdict == "none"),
        check("packets of the SSH client on its own wire", seen, insisted),
        check("... on the server's wire, or any but the page's", len(astray), not astray),
    ])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fields", action="store_true")
    parser.add_argument("--dpi-log")
    parser.add_argument("--same", nargs=2, metavar="FILE")
    parser.add_argument("titles", nargs="*", help="of the connections")
    args = parser.parse_args()
    if args.fields:
        print(*FIELDS)
        return 0

    packets = [p for p in map(Packet, sys.stdin) if not p.is_fence]
    with open(args.dpi_log, encoding="utf-8") as file:
        log = file.read().splitlines()
    ports = dict.fromkeys(p.port for p in packets if p.is_tcp and p.where == CLIENT)
    connections = [Connection([p for p in packets if p.is_tcp and p.port == port])
                   for port in ports]
    for title, connection in zip(args.titles, connections):
        words = next((line.split(" ", 3)[3] for line in log if f":{connection.port} " in line), "")
        print(f"{title}\n")
        Ladder(connection, words).draw()
    print(SOURCES)
    if len(connections) != 2:
        return not check("connections on the client's wire", len(connections), False)
    return not all([gate_was_shut(packets, connections[0]), same(*args.same),
                    refused(packets, *connections)])


if __name__ == "__main__":
    sys.exit(main())
