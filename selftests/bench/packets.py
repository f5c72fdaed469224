# SPDX-License-Identifier: GPL-2.0-only
"""TCP packets, and devices of this namespace that receive them by the module in inject/."""

import dataclasses
import ipaddress
import os
import socket
import struct
import subprocess
import sys

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
PORT = 80
# The socket module does not have it.
SO_RCVBUFFORCE = 33
# What the injector takes at once.
BATCH = 64
# Networks for benchmarks, RFC 2544 and RFC 5180.
CLIENTS = {4: ipaddress.ip_network("198.18.0.0/15"), 6: ipaddress.ip_network("2001:2::/48")}


def total(data):
    """The sum that a checksum is the complement of: in it, 65536 is 1."""
    number = int.from_bytes(data + bytes(len(data) % 2), "big")
    return number % 0xFFFF or (0xFFFF if number else 0)


def with_sum(data, at, value):
    return data[:at] + struct.pack("!H", value) + data[at + 2:]


def random_client(version, random):
    network = CLIENTS[version]
    return network[random.getrandbits(network.max_prefixlen - network.prefixlen)].packed


@dataclasses.dataclass
class Segment:
    """A TCP segment and its addresses."""

    source: bytes
    destination: bytes
    ports: tuple
    seq: int
    ack: int
    flags: int
    window: int = 0
    options: bytes = b""
    data: bytes = b""

    def pseudo_header(self, length):
        return self.source + self.destination + struct.pack("!HH", socket.IPPROTO_TCP, length)

    def packet(self, number=0, merged=False):
        """With an IP header, which has the number. If merged, the checksum is left to a device."""
        offset = 20 + len(self.options)
        length = offset + len(self.data)
        tcp = struct.pack("!HHIIBBHHH", *self.ports, self.seq, self.ack, offset << 2, self.flags,
                          self.window, 0, 0) + self.options + self.data
        pseudo = self.pseudo_header(length)
        tcp = with_sum(tcp, 16, total(pseudo) if merged else 0xFFFF - total(pseudo + tcp))
        if len(self.source) == 16:
            return (struct.pack("!IHBB", 6 << 28, length, socket.IPPROTO_TCP, 57)
                    + self.source + self.destination + tcp)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, number, 0x4000, 57,
                         socket.IPPROTO_TCP, 0) + self.source + self.destination
        return with_sum(ip, 10, 0xFFFF - total(ip)) + tcp

    @classmethod
    def parse(cls, packet):
        """ValueError if a checksum is wrong."""
        version = packet[0] >> 4
        start, ends, size = (40, 8, 16) if version == 6 else (20, 12, 4)
        source, destination = packet[ends:ends + size], packet[ends + size:ends + 2 * size]
        tcp = packet[start:]
        *ports, seq, ack, offset, flags, window = struct.unpack("!HHIIBBH", tcp[:16])
        offset = offset >> 4 << 2
        segment = cls(source, destination, tuple(ports), seq, ack, flags, window,
                      tcp[20:offset], tcp[offset:])
        if (total(segment.pseudo_header(len(tcp)) + tcp) != 0xFFFF
                or version == 4 and total(packet[:start]) != 0xFFFF):
            raise ValueError(f"wrong checksum: {packet.hex()}")
        return segment

    def timestamp(self):
        """Its own, in the options; None without."""
        options = self.options
        while options and options[0]:
            if options[0] == 8:
                return int.from_bytes(options[2:6], "big")
            options = options[1:] if options[0] == 1 else options[options[1]:]
        return None


class Device:
    """A device of this namespace to which packets come by the injector. Its driver leaves so many
    bytes of headroom beyond what the kernel has it leave."""

    def __init__(self, name, headroom=0):
        self.name = name
        self.prefix = struct.pack("=iI", socket.if_nametoindex(name), headroom)
        self.mac = bytes.fromhex(self.attribute("address").replace(":", ""))
        self.injector = os.open("/dev/synproxy-inject", os.O_RDWR)

    def attribute(self, name):
        with open(f"/sys/class/net/{self.name}/{name}", encoding="ascii") as file:
            return file.read().strip()

    def sent(self):
        return int(self.attribute("statistics/tx_packets"))

    def frame(self, packet, gso_size=0):
        """A packet that is received by it, as the injector wants it. With a gso_size it consists of
        segments of that much data."""
        version = packet[0] >> 4
        ethertype = 0x86DD if version == 6 else 0x0800
        frame = self.mac + bytes.fromhex("020000000001") + struct.pack("!H", ethertype) + packet
        merged = 0, 0, 0
        if gso_size:
            transport = 14 + (40 if version == 6 else 20)
            merged = gso_size, transport, transport + (frame[transport + 12] >> 4 << 2)
        return struct.pack("=4H", len(frame), *merged) + frame

    def receive(self, frames, poll=0, together=1):
        """Says how many nanoseconds it took: with a poll also to make them, that many at a time. As
        many processes as that begin together, each on a CPU of its own."""
        numbers = struct.pack("=2I", poll, together)
        os.write(self.injector, self.prefix + numbers + b"".join(frames))
        return int.from_bytes(os.read(self.injector, 8), sys.byteorder)

    def checksums_by_device(self, on):
        """If not, the stack makes them, and segments, as there is no device."""
        subprocess.run(["ethtool", "-K", self.name, "tx", "on" if on else "off"], check=True,
                       stdout=subprocess.DEVNULL)


class Capture:
    """What leaves by a device. While there is one, sending costs more."""

    def __init__(self, device):
        every = 3
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK,
                                    socket.htons(every))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        self.socket.bind((device.name, every))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def packets(self):
        """Those since the last time, without Ethernet headers."""
        left = []
        while True:
            try:
                packet, where = self.socket.recvfrom(0x10000)
            except BlockingIOError:
                return left
            if where[2] == socket.PACKET_OUTGOING:
                left.append(packet)


def counted(path, column):
    """What a SYN proxy has counted, over all CPUs."""
    if not path:
        return None
    with open(path, encoding="ascii") as file:
        at = next(file).split().index(column)
        return sum(int(line.split()[at], 16) for line in file)
