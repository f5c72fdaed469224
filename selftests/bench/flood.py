#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Floods eth0 with TCP packets by the module in inject/, and measures what they cost.

    flood.py --to ADDRESS --kind KIND --leaving 0|1 [--counts FILE --meeting 0|1]
             [--look RECEIVER SENDER] [--headroom BYTES] > RESULT

First a batch of SYNs is received by the device RECEIVER, and the answers are looked at as they
leave by the device SENDER. Then eth0 is flooded. A SYN is like one of Linux, an ACK one that nobody
has asked for: what it echoes is a timestamp that can go with no cookie of today (ack), or one that
was in an answer just now (ack-fresh), or it has no timestamps (ack-plain). Each is of a client of
its own. Of the packets measured it is counted how many leave by the device, and how many a SYN
proxy has counted in FILE: all or none, as --leaving and --meeting say. Status 1 when anything is
not as it should be.
"""

import argparse
import ipaddress
import json
import random
import sys

from packets import ACK, BATCH, PORT, SYN, Capture, Device, Segment, counted, random_client

WARM_UP, MEASURED = 16, 160  # batches
# MSS, SACK, timestamp, window scale, as Linux puts them into a SYN.
SYN_OPTIONS = bytes.fromhex("020405b4 0402 080a 12345678 00000000 01 030307")
KINDS = "syn", "ack", "ack-fresh", "ack-plain"
STALE = 0x9abcdef0


class Flood:
    """Segments for a host, and what answers to them look like."""

    def __init__(self, to, seed=0):
        self.to = to
        self.random = random.Random(seed)

    def segment(self, kind, echo):
        number = self.random.getrandbits
        client = random_client(self.to.version, self.random)
        ports = 1024 + number(15), PORT
        if kind == "syn":
            return Segment(client, self.to.packed, ports, number(32), 0, SYN, 64240, SYN_OPTIONS)
        options = b""
        if kind != "ack-plain":
            options = bytes.fromhex("0101 080a 12345678") + echo.to_bytes(4, "big")
        return Segment(client, self.to.packed, ports, number(32), number(32), ACK, 502, options)

    def batch(self, kind, echo=STALE):
        return [self.segment(kind, echo) for _ in range(BATCH)]


def frames(device, segments):
    return [device.frame(segment.packet(segment.seq & 0xFFFF)) for segment in segments]


def is_answered_by(syn, packet):
    """Whether it is a SYN,ACK for that SYN, with a right checksum."""
    answer = Segment.parse(packet)
    return ((answer.source, answer.destination, answer.ports)
            == (syn.destination, syn.source, syn.ports[::-1])
            and answer.flags & 0x17 == SYN | ACK
            and answer.ack == (syn.seq + 1) & 0xFFFFFFFF)


def look(receiver, sender, syns):
    """At what leaves when these are received. Says by which timestamp the last was answered."""
    sender.checksums_by_device(False)
    with Capture(sender) as capture:
        receiver.receive(frames(receiver, syns))
        left = capture.packets()
    sender.checksums_by_device(True)
    if len(left) != len(syns) or not all(map(is_answered_by, syns, left)):
        sys.exit("flood.py: these are not answers to the SYNs: "
                 + " ".join(packet.hex() for packet in left[:3]))
    return Segment.parse(left[-1]).timestamp()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=ipaddress.ip_address)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--leaving", type=int)
    parser.add_argument("--counts")
    parser.add_argument("--meeting", type=int)
    parser.add_argument("--look", nargs=2)
    parser.add_argument("--headroom", type=int, default=0)
    args = parser.parse_args()

    device = Device("eth0", args.headroom)
    flood = Flood(args.to)
    echo = STALE
    if args.look:
        answered = look(*map(Device, args.look), flood.batch("syn"))
        echo = answered if args.kind == "ack-fresh" else STALE
    # All are there before the first is received: nothing else is to happen in between.
    batches = [frames(device, flood.batch(args.kind, echo)) for _ in range(WARM_UP + MEASURED)]
    for batch in batches[:WARM_UP]:
        device.receive(batch)
    column = "syn_received" if args.kind == "syn" else "cookie_invalid"
    sent, met = device.sent(), counted(args.counts, column)
    times = [device.receive(batch) for batch in batches[WARM_UP:]]

    packets = MEASURED * BATCH
    if args.counts:
        met = counted(args.counts, column) - met
        if met != packets * args.meeting:
            sys.exit(f"flood.py: {packets} packets were received, and {met} have met the proxy")
    if device.sent() - sent != packets * args.leaving:
        sys.exit(f"flood.py: {packets} packets were received, and {device.sent() - sent} left")
    json.dump({f"flood-{args.kind}": {"batch": BATCH, "batches_ns": times}}, sys.stdout)


if __name__ == "__main__":
    main()
