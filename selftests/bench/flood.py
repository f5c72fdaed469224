#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Floods eth0 with TCP packets by the module in inject/, and measures what they cost.

    flood.py --to ADDRESS --kind syn|ack --leaving 0|1 [--counts FILE] > RESULT

A SYN is like one of Linux, an ACK one that nobody has asked for; each is of a client of its own. Of
the packets measured it is counted how many leave by the device, which must be as many as --leaving
says, and how many a SYN proxy has counted in FILE, which must be all. Then one more batch of SYNs
is received, and the answers are looked at. Status 1 when anything is not as it should be.
"""

import argparse
import ipaddress
import json
import random
import sys

from packets import ACK, BATCH, PORT, SYN, Capture, Device, Segment, counted, random_client

WARM_UP, MEASURED = 16, 160  # batches
# MSS, SACK, timestamp, window scale, as Linux puts them into a SYN; a timestamp.
OPTIONS = {
    "syn": bytes.fromhex("020405b4 0402 080a 12345678 00000000 01 030307"),
    "ack": bytes.fromhex("0101 080a 12345678 9abcdef0"),
}


class Flood:
    """Segments for a host, and what answers to them look like."""

    def __init__(self, to, kind):
        self.to, self.kind = to, kind
        self.random = random.Random(0)

    def segment(self):
        number = self.random.getrandbits
        client = random_client(self.to.version, self.random)
        ports = 1024 + number(15), PORT
        if self.kind == "syn":
            return Segment(client, self.to.packed, ports, number(32), 0, SYN, 64240,
                           OPTIONS["syn"])
        return Segment(client, self.to.packed, ports, number(32), number(32), ACK, 502,
                       OPTIONS["ack"])

    def batch(self):
        return [self.segment() for _ in range(BATCH)]


def frames(device, segments):
    return [device.frame(segment.packet(segment.seq & 0xFFFF)) for segment in segments]


def is_answered_by(syn, packet):
    """Whether it is a SYN,ACK for that SYN, with a right checksum."""
    answer = Segment.parse(packet)
    return ((answer.source, answer.destination, answer.ports)
            == (syn.destination, syn.source, syn.ports[::-1])
            and answer.flags & 0x17 == SYN | ACK
            and answer.ack == (syn.seq + 1) & 0xFFFFFFFF)


def look(device, syns):
    """At what leaves when these are received."""
    device.checksums_by_device(False)
    with Capture(device) as capture:
        device.receive(frames(device, syns))
        left = capture.packets()
    if len(left) != len(syns) or not all(map(is_answered_by, syns, left)):
        sys.exit("flood.py: these are not answers to the SYNs: "
                 + " ".join(packet.hex() for packet in left[:3]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=ipaddress.ip_address)
    parser.add_argument("--kind", choices=OPTIONS)
    parser.add_argument("--leaving", type=int)
    parser.add_argument("--counts")
    args = parser.parse_args()

    device = Device("eth0")
    flood = Flood(args.to, args.kind)
    # All are there before the first is received: nothing else is to happen in between.
    batches = [frames(device, flood.batch()) for _ in range(WARM_UP + MEASURED)]
    for batch in batches[:WARM_UP]:
        device.receive(batch)
    column = {"syn": "syn_received", "ack": "cookie_invalid"}[args.kind]
    sent, met = device.sent(), counted(args.counts, column)
    times = [device.receive(batch) for batch in batches[WARM_UP:]]

    packets = MEASURED * BATCH
    if args.counts and counted(args.counts, column) - met != packets:
        sys.exit(f"flood.py: not all of {packets} packets have met the proxy")
    if device.sent() - sent != packets * args.leaving:
        sys.exit(f"flood.py: {packets} packets were received, and {device.sent() - sent} left")
    if args.kind == "syn" and args.leaving:
        look(device, flood.batch())
    json.dump({f"flood-{args.kind}": {"batch": BATCH, "batches_ns": times}}, sys.stdout)


if __name__ == "__main__":
    main()
