#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Is clients beyond eth0 and servers beyond eth1, by the module in inject/, and measures what
the packets of their connections cost.

    connections.py connection|bulk --to ADDRESS --conduct CONDUCT [--counts FILE]
                   [--look RECEIVER SENDER] > RESULT

Many connections take each step together, and the time of a step is measured, so that nothing of
what the clients and servers themselves do is in it. A client has to acknowledge the number that a
proxy gave to it, and to look at what leaves would be in the time as well: so each SYN has been
answered once before, and the client goes on by that cookie.

After each step it is counted how many packets have left on either side, and in the end how many
cookies a SYN proxy has counted in FILE. Connections that are not measured show that all numbers,
data and checksums are right: while that is looked at, SYNs are received by RECEIVER, and answered by
SENDER (eth0). Status 1 when anything is not as it should be.
"""

import argparse
import collections
import ipaddress
import json
import random
import sys
import time

from packets import (ACK, BATCH, FIN, PORT, PSH, SYN, Capture, Device, Segment, counted,
                     random_client)

REQUEST, ANSWER = 120, 1200  # bytes
# So long after a connection was opened, a proxy may have something left to do about it, in seconds.
REST = 3

Step = collections.namedtuple("Step", "sender flags seq ack length", defaults=[0])
# A connection's segments, with the numbers relative to the first of each side.
STEPS = {
    "syn": Step("client", SYN, 0, 0),
    "syn-ack": Step("server", SYN | ACK, 0, 1),
    "ack": Step("client", ACK, 1, 1),
    "update": Step("server", ACK, 1, 1),
    "request": Step("client", PSH | ACK, 1, 1, REQUEST),
    "answer": Step("server", PSH | ACK, 1, 1 + REQUEST, ANSWER),
    "server-fin": Step("server", FIN | ACK, 1 + ANSWER, 1 + REQUEST),
    "client-fin": Step("client", FIN | ACK, 1 + REQUEST, 2 + ANSWER),
    "last-ack": Step("server", ACK, 2 + ANSWER, 2 + REQUEST),
}
CLOSE = ["server-fin", "client-fin", "last-ack"]
# What is received, and what leaves then.
CONDUCTS = {
    "drop": [(name, []) for name in STEPS if name != "update"],
    "none": [(name, [name]) for name in STEPS if name != "update"],
    "proxy": [("syn", ["syn-ack"]), ("ack", ["syn"]), ("syn-ack", ["ack", "update"])]
             + [(name, [name]) for name in ["request", "answer"] + CLOSE],
    "gate": [("syn", ["syn-ack"]), ("ack", []), ("request", ["syn"]),
             ("syn-ack", ["ack", "request", "update"])]
            + [(name, [name]) for name in ["answer"] + CLOSE],
}
OTHER = {"client": "server", "server": "client"}


def fail(*words):
    sys.exit("connections.py: " + " ".join(map(str, words)))


class Connection:
    """Both ends of it, and what a proxy between them tells the client of the server's numbers."""

    def __init__(self, server, source, timestamps):
        number = source.getrandbits
        self.addresses = {"client": random_client(server.version, source),
                          "server": server.packed}
        self.ports = {"client": 1024 + number(15), "server": PORT}
        self.timestamps = timestamps
        self.first = {"client": number(32), "server": number(32)}
        self.clock = {"client": number(31), "server": number(31)}
        # On the client's wire.
        self.seen_first, self.seen_clock = self.first["server"], self.clock["server"]
        self.number = number(16)
        # What each side has sent.
        self.sent = {"client": 1, "server": 1}
        self.data = source.randbytes(1 << 15)

    def mss(self):
        return (1440 if len(self.addresses["server"]) == 16 else 1460) - 12 * self.timestamps

    def options(self, step, clocks):
        stamps = b"".join(clock.to_bytes(4, "big") for clock in clocks)
        if not step.flags & SYN:
            return bytes.fromhex("0101 080a") + stamps if self.timestamps else b""
        # As Linux has them, if it has been offered them.
        if self.timestamps:
            return bytes.fromhex("020405b4 0402 080a") + stamps + bytes.fromhex("01 030307")
        return bytes.fromhex("020405b4" + " 01010402 01030307" * (step.sender == "client"))

    def segment(self, step, wire):
        first, clock = dict(self.first), dict(self.clock)
        if wire == "client":
            first["server"], clock["server"] = self.seen_first, self.seen_clock
        sender, receiver = step.sender, OTHER[step.sender]
        acked = step.flags & ACK
        at = step.seq % 1000
        return Segment(
            self.addresses[sender], self.addresses[receiver],
            (self.ports[sender], self.ports[receiver]),
            (first[sender] + step.seq) % 2**32,
            (first[receiver] + step.ack) % 2**32 if acked else 0,
            step.flags,
            502 if self.timestamps and not step.flags & SYN else 64240,
            self.options(step, (clock[sender], clock[receiver] if acked else 0)),
            self.data[at:at + step.length])

    def learn(self, answer):
        """How a proxy answers to its SYN."""
        if (answer.flags & 0x17 != SYN | ACK or answer.ack != (self.first["client"] + 1) % 2**32
                or (answer.timestamp() is not None) != self.timestamps):
            fail("that is no answer to a SYN:", answer)
        self.seen_first, self.seen_clock = answer.seq, answer.timestamp() or 0

    def sends(self, sender, length):
        """The next data, as a step."""
        step = Step(sender, ACK, self.sent[sender], self.sent[OTHER[sender]], length)
        self.sent[sender] += length
        return step


def flows(segments):
    """What can be compared: by flow, as neighbours may have been merged, or split."""
    found = collections.defaultdict(list)
    for segment in segments:
        flow = found[segment.source, segment.destination, segment.ports]
        part = [segment.flags & 0x17, segment.ack if segment.flags & ACK else 0, segment.seq,
                segment.data]
        if flow and part[:2] == flow[-1][:2] and part[2] == flow[-1][2] + len(flow[-1][3]):
            flow[-1][3] += segment.data
        else:
            flow.append(part)
    return found


class Firewall:
    """What connections meet between eth0 and eth1."""

    def __init__(self, args):
        self.devices = {"client": Device("eth0"), "server": Device("eth1")}
        self.receiver, self.sender = map(Device, args.look)
        self.conduct = CONDUCTS[args.conduct]
        # A client's SYN is answered by a proxy itself.
        self.proxy = self.conduct[0] == ("syn", ["syn-ack"])
        self.drops = self.conduct[0] == ("syn", [])
        self.counts = args.counts

    def frames(self, steps, merge=1, device=None):
        """These (connection, step), on the wires of their senders."""
        device = device or self.devices[steps[0][1].sender]
        return [device.frame(connection.segment(step, step.sender)
                             .packet(connection.number, merge > 1),
                             connection.mss() if merge > 1 else 0)
                for connection, step in steps]

    def receive(self, sender, frames, leaving):
        """In nanoseconds. That many are to leave on the wires of client and server."""
        before = [device.sent() for device in self.devices.values()]
        taken = self.devices[sender].receive(frames)
        left = [device.sent() - sent for device, sent in zip(self.devices.values(), before)]
        if left != leaving:
            fail(f"{len(frames)} packets of {sender}s were received;",
                 f"{left} instead of {leaving} have left to clients and servers")
        return taken

    def look(self, steps, leaving, merge=1):
        """Receives them, and looks at all that leaves: it has to be these."""
        first = steps[0][1]
        receiver, sender = self.devices[first.sender], self.devices["client"]
        if first == STEPS["syn"]:
            receiver, sender = self.receiver, self.sender
        with Capture(sender) as client, Capture(self.devices["server"]) as server:
            receiver.receive(self.frames(steps, merge, receiver))
            left = {"client": client.packets(), "server": server.packets()}
        for wire, packets in left.items():
            got = flows(map(Segment.parse, packets))
            wanted = flows(connection.segment(step, wire)
                           for connection, step in leaving if OTHER[step.sender] == wire)
            if got != wanted:
                wrong = next(flow for flow in got | wanted if got.get(flow) != wanted.get(flow))
                fail(f"to {wire}s has left\n{got.get(wrong)}\ninstead of\n{wanted.get(wrong)}")

    def leaving(self, names, times=1):
        """How many packets that is, on each wire."""
        wires = [OTHER[STEPS[name].sender] for name in names]
        return [times * wires.count(wire) for wire in self.devices]

    def take(self, connection, steps):
        """These of the conduct."""
        for name, leaving in steps:
            step = STEPS[name]
            self.receive(step.sender, self.frames([(connection, step)]), self.leaving(leaving))

    def checksums_by_devices(self, on):
        for device in self.devices.values():
            device.checksums_by_device(on)

    def learn(self, connections):
        """What a proxy answers to their SYNs."""
        if not self.proxy:
            return
        with Capture(self.sender) as capture:
            for at in range(0, len(connections), BATCH):
                some = connections[at:at + BATCH]
                syns = [(each, STEPS["syn"]) for each in some]
                self.receiver.receive(self.frames(syns, device=self.receiver))
                answers = capture.packets()
                if len(answers) != len(some):
                    fail(f"{len(some)} SYNs have been received, and {len(answers)} have left")
                for each, answer in zip(some, answers):
                    each.learn(Segment.parse(answer))

    def look_at_all(self, connections, last):
        """At each step of these, until the last."""
        for name, leaving in self.conduct:
            self.look([(each, STEPS[name]) for each in connections],
                      [(each, STEPS[left]) for each in connections for left in leaving])
            if name == last:
                break


def measure_connections(firewall, to):
    """All steps of connections."""
    warm_up, measured = 4, 32  # batches
    source = random.Random(0)
    batches = [[Connection(to, source, True) for _ in range(BATCH)]
               for _ in range(warm_up + measured + 1)]
    firewall.checksums_by_devices(False)
    firewall.learn(sum(batches, []))
    firewall.look_at_all(batches.pop(), "last-ack")
    firewall.checksums_by_devices(True)

    steps = [(name, STEPS[name].sender, firewall.leaving(leaving, BATCH))
             for name, leaving in firewall.conduct]
    frames = [[firewall.frames([(each, STEPS[name]) for each in batch]) for name, _, _ in steps]
              for batch in batches]
    times = collections.defaultdict(list)
    for batch in frames:
        if batch is frames[warm_up]:
            times.clear()
            met = counted(firewall.counts, "cookie_valid")
        for (name, sender, leaving), packets in zip(steps, batch):
            times[name].append(firewall.receive(sender, packets, leaving))
    if firewall.counts:
        met = counted(firewall.counts, "cookie_valid") - met
        if met != measured * BATCH:
            fail(f"the proxy has seen {met} cookies of {measured * BATCH} connections")
    times["connection"] = [sum(batch) for batch in zip(*times.values())]
    return {name: {"batch": BATCH, "batches_ns": batches} for name, batches in times.items()}


class Bulk:
    """Open connections, of which each sends two segments, and gets an ACK for both."""

    def __init__(self, firewall, to, source, timestamps):
        self.firewall = firewall
        self.connections = [Connection(to, source, timestamps) for _ in range(BATCH // 4)]
        # Is not open, and may be while others are measured.
        self.opening = Connection(to, source, timestamps)
        firewall.checksums_by_devices(False)
        firewall.learn(self.connections + [self.opening])
        firewall.look_at_all(self.connections, "answer")
        firewall.checksums_by_devices(True)
        for each in self.connections:
            each.sent = {"client": 1 + REQUEST, "server": 1 + ANSWER}

    def turn(self, sender, merge):
        """The steps of one batch: data, and ACKs."""
        length = merge * self.connections[0].mss()
        return [[(each, each.sends(side, length)) for each in self.connections
                 for _ in range(times)]
                for side, length, times in ((sender, length, 2), (OTHER[sender], 0, 1))]

    def look(self, sender, merge):
        """At the data that leaves, and the ACKs."""
        self.firewall.checksums_by_devices(False)
        data, acks = self.turn(sender, merge)
        for steps, merge_these in ((data, merge), (acks, 1)):
            self.firewall.look(steps, [] if self.firewall.drops else steps, merge_these)
        self.firewall.checksums_by_devices(True)

    def measure(self, sender, merge, busy=False):
        """The times of data and ACKs. If busy, a server has not answered another client meanwhile."""
        warm_up, measured = 4, 48  # batches
        firewall = self.firewall
        self.look(sender, merge)
        batches = [self.turn(sender, merge) for _ in range(warm_up + measured)]
        batches = [((sender, firewall.frames(data, merge)),
                    (OTHER[sender], firewall.frames(acks))) for data, acks in batches]
        answered = [name for name, _ in firewall.conduct].index("syn-ack")
        time.sleep(REST)
        if busy:
            firewall.take(self.opening, firewall.conduct[:answered])
        times = [[firewall.receive(side, frames, [
            0 if firewall.drops or wire == side else len(frames) for wire in firewall.devices])
            for side, frames in batch] for batch in batches]
        if busy:
            firewall.take(self.opening, firewall.conduct[answered:])
        return [{"batch": len(frames), "batches_ns": taken}
                for (_, frames), taken in zip(batches[0], zip(*times[warm_up:]))]


def measure_bulk(firewall, to):
    """Data and ACKs of open connections."""
    source = random.Random(0)
    result = {}
    for timestamps, plain in ((True, ""), (False, "-plain")):
        bulk = Bulk(firewall, to, source, timestamps)
        for sender, receiver in OTHER.items():
            data, acks = bulk.measure(sender, 1)
            merged, _ = bulk.measure(sender, 16)
            result |= {f"{sender}-data{plain}": data, f"{receiver}-ack{plain}": acks,
                       f"{sender}-merged{plain}": merged}
    for sender in OTHER:
        bulk = Bulk(firewall, to, source, True)
        result[f"{sender}-data-busy"], _ = bulk.measure(sender, 1, busy=True)
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["connection", "bulk"])
    parser.add_argument("--to", type=ipaddress.ip_address)
    parser.add_argument("--conduct", choices=CONDUCTS)
    parser.add_argument("--counts")
    parser.add_argument("--look", nargs=2, default=["eth0", "eth0"])
    args = parser.parse_args()

    measure = {"connection": measure_connections, "bulk": measure_bulk}[args.what]
    json.dump(measure(Firewall(args), args.to), sys.stdout)


if __name__ == "__main__":
    main()
