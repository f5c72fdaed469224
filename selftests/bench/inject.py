#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Floods a device with TCP packets by the module in inject/, and measures what they cost.

    inject.py --device NAME --to ADDRESS --kind syn|ack --answers 0|1 [--counts FILE] > RESULT

A SYN is like one of Linux, an ACK one that nobody has asked for; each is of a client of its own. Of
the packets measured it is counted how many leave by the device, which must be as many as --answers
says, and how many a SYN proxy has counted in FILE, which must be all. Then one more batch of SYNs is
received, and the answers are looked at. Status 1 when anything is not as it should be.
"""

import argparse
import ipaddress
import json
import os
import random
import socket
import struct
import subprocess
import sys

BATCH = 64
WARM_UP, MEASURED = 16, 160  # batches
PORT = 80
SYN, ACK = 2, 16
# Networks for benchmarks, RFC 2544 and RFC 5180.
CLIENTS = {4: ipaddress.ip_network("198.18.0.0/15"), 6: ipaddress.ip_network("2001:2::/48")}
# MSS, SACK, timestamp, window scale, as Linux puts them into a SYN; a timestamp.
SYN_OPTIONS = bytes.fromhex("020405b4 0402 080a 12345678 00000000 01 030307")
ACK_OPTIONS = bytes.fromhex("0101 080a 12345678 9abcdef0")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_checksum(data, at, pseudo=b""):
    return data[:at] + struct.pack("!H", checksum(pseudo + data)) + data[at + 2:]


def pseudo_header(ends, length):
    return ends + struct.pack("!HH", socket.IPPROTO_TCP, length)


def counted(path, column):
    """What a SYN proxy has counted, over all CPUs."""
    if not path:
        return 0
    with open(path, encoding="ascii") as file:
        at = next(file).split().index(column)
        return sum(int(line.split()[at], 16) for line in file)


class Flood:
    """Packets for a host, and what answers to them look like."""

    def __init__(self, mac, to, kind):
        self.mac, self.to, self.kind = mac, to, kind
        self.clients = CLIENTS[to.version]
        self.random = random.Random(0)

    def packet(self):
        number = self.random.getrandbits
        host_bits = self.clients.max_prefixlen - self.clients.prefixlen
        client = self.clients[number(host_bits)].packed
        flags, window, options = ((SYN, 64240, SYN_OPTIONS) if self.kind == "syn" else
                                  (ACK, 502, ACK_OPTIONS))
        ends = client + self.to.packed
        length = 20 + len(options)
        tcp = struct.pack("!HHIIBBHHH", 1024 + number(15), PORT, number(32),
                          number(32) if flags & ACK else 0, length << 2, flags, window, 0, 0)
        tcp = with_checksum(tcp + options, 16, pseudo_header(ends, length))
        if self.to.version == 6:
            return struct.pack("!IHBB", 6 << 28, length, socket.IPPROTO_TCP, 57) + ends + tcp
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, number(16), 0x4000, 57,
                         socket.IPPROTO_TCP, 0)
        return with_checksum(ip + ends, 10) + tcp

    def batch(self):
        return [self.packet() for _ in range(BATCH)]

    def frame(self, packet):
        """With its length, as the injector wants it."""
        ethertype = 0x86DD if self.to.version == 6 else 0x0800
        frame = self.mac + bytes.fromhex("020000000001") + struct.pack("!H", ethertype) + packet
        return struct.pack("=H", len(frame)) + frame

    def parse(self, packet):
        """Source, destination and the TCP header with what follows it."""
        start, ends, size = (40, 8, 16) if self.to.version == 6 else (20, 12, 4)
        return packet[ends:ends + size], packet[ends + size:ends + 2 * size], packet[start:]

    def is_answered_by(self, syn, answer):
        """Whether it is a SYN,ACK for that SYN, with a right checksum."""
        client, server, request = self.parse(syn)
        source, destination, tcp = self.parse(answer)
        ports, seq = request[:4], int.from_bytes(request[4:8], "big")
        return ((source, destination, tcp[:4]) == (server, client, ports[2:] + ports[:2])
                and tcp[13] & 0x17 == SYN | ACK
                and int.from_bytes(tcp[8:12], "big") == (seq + 1) & 0xFFFFFFFF
                and checksum(pseudo_header(source + destination, len(tcp)) + tcp) == 0)


class Device:
    """A device of this namespace to which packets come by the injector."""

    def __init__(self, name):
        self.name = name
        self.index = struct.pack("=i", socket.if_nametoindex(name))
        self.mac = bytes.fromhex(self.attribute("address").replace(":", ""))
        self.injector = os.open("/dev/synproxy-inject", os.O_RDWR)

    def attribute(self, name):
        with open(f"/sys/class/net/{self.name}/{name}", encoding="ascii") as file:
            return file.read().strip()

    def sent(self):
        return int(self.attribute("statistics/tx_packets"))

    def receive(self, frames):
        """Says how many nanoseconds it took."""
        os.write(self.injector, self.index + b"".join(frames))
        return int.from_bytes(os.read(self.injector, 8), sys.byteorder)

    def answers(self, frames):
        """What leaves when these are received, without Ethernet headers."""
        # Or a device would have to make the checksums, and there is none.
        subprocess.run(["ethtool", "-K", self.name, "tx", "off"], check=True,
                       stdout=subprocess.DEVNULL)
        every = socket.htons(3)
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, every) as seen:
            seen.bind((self.name, 3))
            self.receive(frames)
            left = []
            while True:
                try:
                    packet, where = seen.recvfrom(2048)
                except BlockingIOError:
                    return left
                if where[2] == socket.PACKET_OUTGOING:
                    left.append(packet)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device")
    parser.add_argument("--to", type=ipaddress.ip_address)
    parser.add_argument("--kind", choices=["syn", "ack"])
    parser.add_argument("--answers", type=int)
    parser.add_argument("--counts")
    args = parser.parse_args()

    device = Device(args.device)
    flood = Flood(device.mac, args.to, args.kind)
    # All are there before the first is received: nothing else is to happen in between.
    batches = [[flood.frame(packet) for packet in flood.batch()]
               for _ in range(WARM_UP + MEASURED)]
    for frames in batches[:WARM_UP]:
        device.receive(frames)
    column = {"syn": "syn_received", "ack": "cookie_invalid"}[args.kind]
    sent, met = device.sent(), counted(args.counts, column)
    times = [device.receive(frames) for frames in batches[WARM_UP:]]
    sent, met = device.sent() - sent, counted(args.counts, column) - met

    packets = MEASURED * BATCH
    if args.counts and met != packets:
        sys.exit(f"inject.py: {packets} packets were received, and {met} met the proxy")
    if sent != packets * args.answers:
        sys.exit(f"inject.py: {packets} packets were received, and {sent} left")
    if args.kind == "syn" and args.answers:
        syns = flood.batch()
        answers = device.answers(map(flood.frame, syns))
        if len(answers) != BATCH or not all(map(flood.is_answered_by, syns, answers)):
            sys.exit("inject.py: these are not answers to the SYNs: "
                     + " ".join(answer.hex() for answer in answers[:3]))
    json.dump({"packets": packets, "sent": sent, "batch": BATCH, "batches_ns": times}, sys.stdout)


if __name__ == "__main__":
    main()
