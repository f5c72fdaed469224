#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Makes conntrack entries: a UDP packet for each, that eth0 receives and the firewall forwards.

    crowd.py --to ADDRESS --from FIRST --entries END
"""

import argparse
import ipaddress
import random
import socket
import struct

from packets import BATCH, Device, random_client, total, with_sum

PORTS = 50000


def headers(to):
    """All of a packet but its ports, which no checksum is about."""
    ends = random_client(to.version, random.Random(0)) + to.packed
    if to.version == 6:
        return struct.pack("!IHBB", 6 << 28, 8, socket.IPPROTO_UDP, 57) + ends
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0x4000, 57, socket.IPPROTO_UDP, 0) + ends
    return with_sum(ip, 10, 0xFFFF - total(ip))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=ipaddress.ip_address)
    parser.add_argument("--from", type=int, dest="first")
    parser.add_argument("--entries", type=int)
    args = parser.parse_args()

    device = Device("eth0")
    packet = device.frame(headers(args.to) + bytes(8))[:-8]
    udp = struct.Struct("!4H")
    for start in range(args.first, args.entries, BATCH):
        device.receive([packet + udp.pack(1024 + each % PORTS, 1024 + each // PORTS, 8, 0)
                        for each in range(start, min(start + BATCH, args.entries))])


if __name__ == "__main__":
    main()
