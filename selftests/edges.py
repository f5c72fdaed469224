#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""edges.py ORDERS ANSWERS: plays scenarios packet by packet; see wire.py.

Runs in the namespace fw, as one process for a whole test file: scapy takes six
seconds to start in an emulated machine. ORDERS and ANSWERS are named pipes. An
order is a line:

    set FAMILY CHAIN MODE PROXY   where the next scenarios play
    list                          which ones there are for that
    play SCENARIO                 asserts
    record SCENARIO               asserts nothing, and keeps what was seen
    differ SCENARIO [TAG...]      compares what was kept of both proxies

What is said in answer ends with a line "end STATUS".
"""

import itertools
import json
import socket
import struct
import subprocess
import sys
import time
import traceback

from wire import (
    REQUEST,
    Conversation,
    Expected,
    Failure,
    Packet,
    Stage,
    absolute,
    cookie_mss,
    distance,
    fold,
    pseudo,
    released,
    split,
    syn_options,
)
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN

SCENARIOS = {}
TS = ("Timestamp",)
NOP = ("NOP",)


def scenario(*modes, families=(4, 6), ours=False, **parameters):
    """A scenario of some modes: forward (no gate), gate, local (a server on the firewall), engine
    (a gate whose engine says yes to whatever packet has GET in it).

    With parameters: one for each combination of their values.
    """

    def register(function):
        for values in itertools.product(*parameters.values()):
            name = "_".join([function.__name__, *(str(value) for value in values)])
            chosen = dict(zip(parameters, values))
            SCENARIOS[name] = (modes, families, ours, lambda talk, chosen=chosen: function(talk, **chosen))
        return function

    return register


def demand(condition, text):
    if not condition:
        raise Failure(text)


### A connection from its begin to its end


def close(talk, first, second):
    talk.pass_on(first, "FA")
    talk.pass_on(second, "A")
    talk.pass_on(second, "FA")
    talk.pass_on(first, "A")


def ends(talk, first):
    return (talk.client, talk.server) if first == "client" else (talk.server, talk.client)


def exchange(talk):
    """Data in both directions, with numbers that are right."""
    talk.pass_on(talk.client, "PA", b"question")
    talk.pass_on(talk.server, "PA", b"answer")
    talk.pass_on(talk.client, "A")


@scenario("forward", first=("client", "server"))
def close_by(talk, first):
    talk.open()
    exchange(talk)
    close(talk, *ends(talk, first))


@scenario("forward")
def close_by_both(talk):
    talk.open()
    exchange(talk)
    one = talk.client.send("FA", ack=talk.server.next)
    two = talk.server.send("FA", ack=talk.client.next - 1)
    talk.see([two], [one])
    talk.pass_on(talk.client, "A")
    talk.pass_on(talk.server, "A")


@scenario("forward", "gate", side=("client", "server"))
def reset_by(talk, side):
    talk.open()
    exchange(talk)
    talk.pass_on(ends(talk, side)[0], "R")


@scenario("forward", "gate", side=("client", "server"))
def reset_with_ack_by(talk, side):
    talk.open()
    talk.pass_on(ends(talk, side)[0], "RA")


@scenario("forward")
def reset_instead_of_the_ack(talk):
    """The rules let a RST pass to the server, which knows nothing of it."""
    talk.syn()
    talk.client.send("R", seq=1)
    talk.see([], None)


@scenario("forward", "gate")
def reset_by_the_client_while_opening(talk):
    talk.syn()
    talk.ack()
    sent = talk.client.send("R", seq=1)
    # No rule of a gate lets it pass.
    talk.see([], None if talk.stage.deferred else [sent])
    if talk.stage.deferred:
        # What crosses the reset is INVALID.
        talk.server.send("SA", seq=0)
        talk.see([], None)


@scenario("forward", "gate")
def closed_port(talk):
    talk.syn()
    talk.ack()
    talk.server.isn = 0
    talk.server.send("RA", seq=0, ack=1, window=0)
    talk.see([Expected(lambda flags: "R" in flags, seq=1, data=b"")])


### The same once more


@scenario("forward", "gate")
def syn_again(talk):
    talk.syn()
    talk.syn(seq=0)
    talk.ack()
    talk.serve()


@scenario("forward")
def ack_again_while_opening(talk):
    talk.syn()
    talk.ack()
    talk.client.send("A", seq=1)
    talk.see()
    talk.serve()
    talk.pass_on(talk.client, "A")
    exchange(talk)


@scenario("forward", "gate")
def data_while_opening(talk):
    """Without a gate it is for the client to send it again."""
    talk.syn()
    talk.ack()
    talk.client.send("PA", REQUEST, seq=1)
    talk.see()
    talk.serve()
    talk.pass_on(talk.client, "PA", REQUEST)
    exchange(talk)


@scenario("forward", "gate")
def fin_while_opening(talk):
    talk.syn()
    talk.ack()
    talk.client.send("FPA", REQUEST, seq=1)
    talk.see()
    if talk.stage.deferred:
        talk.held = [released(REQUEST, flags="FPA")]
    talk.serve()
    talk.pass_on(talk.client, "FPA", REQUEST, seq=1)


@scenario("forward", "gate")
def syn_ack_again(talk):
    """The server has not got the ACK."""
    talk.syn()
    talk.ack()
    talk.serve()
    talk.server.send("SA", seq=0, ack=1)
    talk.see([], [Expected("A", seq=1, ack=1, data=b"")])
    talk.pass_on(talk.client, "PA", REQUEST)


@scenario("forward", side=("client", "server"))
def data_again_by(talk, side):
    end, _ = ends(talk, side)
    talk.open()
    at = end.next
    talk.pass_on(end, "PA", b"something")
    talk.pass_on(end, "PA", b"something", seq=at)
    exchange(talk)


@scenario("forward", first=("client", "server"))
def fins_again(talk, first):
    one, two = ends(talk, first)
    talk.open()
    for end, other in ((one, two), (two, one)):
        talk.pass_on(end, "FA")
        talk.pass_on(end, "FA", seq=end.next - 1)
        talk.pass_on(other, "A")


@scenario("forward")
def data_again_by_both_at_once(talk):
    talk.open()
    at = [end.next for end in (talk.client, talk.server)]
    sent = {"client": [], "server": []}
    for _ in range(2):
        for end, seq, other in ((talk.client, at[0], at[1]), (talk.server, at[1], at[0])):
            sent[end.name].append(end.send("PA", b"both", seq=seq, ack=other))
    talk.see(sent["server"], sent["client"])


@scenario("forward", "gate")
def data_before_ack(talk):
    """1_2_1: the ACK comes second."""
    talk.syn()
    talk.client.send("PA", REQUEST, seq=1)
    talk.see([], [talk.expected_syn()], patient=True)
    talk.client.send("A", seq=1)
    talk.see()
    if talk.stage.deferred:
        talk.held = [released(REQUEST)]
    talk.serve()
    talk.pass_on(talk.client, "PA", REQUEST)


@scenario("forward", "gate")
def second_segment_before_first(talk):
    """1_1_2: ACK, second segment, first segment."""
    talk.syn()
    if talk.stage.deferred:
        talk.client.send("A", seq=1)
        talk.client.send("PA", b"second", seq=1 + len(REQUEST))
        talk.client.send("PA", REQUEST, seq=1)
        # Its clock is that of the first segment that came.
        talk.see([], [talk.expected_syn(options=bool)], patient=True)
        talk.held = [released(REQUEST), released(b"second", seq=1 + len(REQUEST))]
    else:
        talk.ack()
        talk.client.send("PA", b"second", seq=1 + len(REQUEST))
        talk.client.send("PA", REQUEST, seq=1)
        talk.see()
    talk.serve()
    talk.pass_on(talk.client, "PA", b"second", seq=1 + len(REQUEST))
    talk.pass_on(talk.client, "PA", REQUEST, seq=1)
    talk.pass_on(talk.server, "A", ack=1 + len(REQUEST) + 6)


@scenario("forward", "gate")
def second_segment_before_all(talk):
    """2_1_1: the second segment, ACK, first segment."""
    talk.syn()
    talk.client.send("PA", b"second", seq=1 + len(REQUEST))
    talk.see()
    talk.ack()
    talk.serve()
    talk.pass_on(talk.client, "PA", b"second", seq=1 + len(REQUEST))
    talk.pass_on(talk.client, "PA", REQUEST, seq=1)


### Probes: a number that is one too low


@scenario("forward", mss=(1460, 1400, 1000), ts=(True, False))
def probes_while_opening(talk, mss, ts):
    talk.set_ends(mss=mss, ts=ts)
    talk.syn()
    talk.ack()
    for data, seq in ((b"", 0), (b"\0", 0), (b"x", 1)):
        talk.client.send("A", data, seq=seq)
        talk.see()
    talk.serve()
    exchange(talk)


# Without timestamps a probe is known only by the highest MSS that a cookie keeps.
@scenario("forward", mss=(1460, 1400, 1000), ts=(True,), size=(0, 1))
@scenario("forward", families=(4,), mss=(1460,), ts=(False,), size=(0, 1))
def probe_first(talk, mss, ts, size):
    """The last ACK is lost, and a client with a closed window sends nothing but probes."""
    talk.set_ends(mss=mss, ts=ts)
    talk.syn()
    for _ in range(3):
        talk.client.send("A", bytes(size), seq=0)
        _, server = talk.see([], None)
        demand(all(one.seq == 0 for one in server), "the server got a SYN with a number that is not the client's")
    talk.see([], None)
    demand(talk.syns, "no SYN: a client that only probes is never connected")
    talk.serve()
    exchange(talk)


@scenario("forward", "gate", size=(0, 1))
def keepalive(talk, size):
    talk.open()
    exchange(talk)
    talk.pass_on(talk.client, "A", bytes(size), seq=talk.client.next - 1)
    talk.pass_on(talk.server, "A")
    talk.pass_on(talk.server, "A", bytes(size), seq=talk.server.next - 1)
    talk.pass_on(talk.client, "A")


### State


def entries(port):
    """Conntrack's entries of a client's port."""
    command = ["conntrack", "-L", "-p", "tcp", "--sport", str(port)]
    found = b""
    for family in ("ipv4", "ipv6"):
        found += subprocess.run([*command, "-f", family], capture_output=True, check=True).stdout
    return found.decode().strip()


@scenario("forward", "gate", "local")
def nostate(talk):
    talks = [Conversation(talk.stage) for _ in range(20)]
    for one in talks:
        one.syn()
    for one in talks[:: len(talks) - 1]:
        found = entries(one.port)
        demand(not found, f"an entry was made: {found}")


def come_again(talk):
    """The ends anew, on the same ports."""
    old = talk.client, talk.server
    talk.set_ends(isn=absolute(old[0].isn, 1 << 24), server_isn=absolute(old[1].isn, 1 << 25))
    # A server that waits out the old connection takes no SYN with an older time: RFC 7323 section 5.
    talk.client.first_clock = absolute(old[0].first_clock, old[0].clock + 1000)
    talk.server.peer_clock = talk.client.first_clock
    return old


@scenario("forward", "gate", first=("client", "server"))
def port_again_after_close_by(talk, first):
    talk.open()
    close(talk, *ends(talk, first))
    come_again(talk)
    talk.open()
    exchange(talk)


@scenario("forward", "gate", side=("client", "server"))
def port_again_after_reset_by(talk, side):
    talk.open()
    talk.pass_on(ends(talk, side)[0], "R")
    come_again(talk)
    if talk.stage.deferred and side == "server":
        # Its rule takes the old entry for an open one, which goes with the first SYN.
        talk.client.send("S", seq=0)
        talk.see([], [])
    talk.open()
    exchange(talk)


@scenario("forward", "gate")
def port_again_after_reboot(talk):
    """The client has lost a connection that the firewall and the server still have."""
    talk.open()
    exchange(talk)
    old = come_again(talk)
    state = {"client": "closed", "server": "old"}
    talk.all_repeats = True
    for _ in seconds(20):
        retry(talk, state)
        for _ in range(4):
            clients, servers = talk.see(None, None)
            for packet in clients:
                client_does(talk, state, packet)
            for packet in servers:
                server_does(talk, state, packet, old)
        if state == {"client": "open", "server": "open"}:
            break
    talk.all_repeats = False
    demand(state == {"client": "open", "server": "open"}, f"no connection; {state}")
    if talk.stage.deferred:
        talk.pass_on(talk.client, "PA", REQUEST)
    exchange(talk)


def seconds(limit):
    """Again and again, until the proxy's timer had its time: its SYN comes once more after a second."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        yield
        time.sleep(0.2)


def retry(talk, state):
    """What the client sends when its timer goes off."""
    if state["client"] == "closed":
        talk.client.peer_isn = 0
        talk.client.send("S", seq=0)
        talk.client.next = 1
    elif state["client"] == "answered" and talk.stage.deferred:
        talk.client.send("PA", REQUEST, seq=1)
    elif state["client"] == "answered":
        talk.client.send("A", seq=1)


def client_does(talk, state, packet):
    if state["client"] == "closed" and packet.flags == "SA" and packet.ack == 1:
        state["client"] = "answered"
        talk.server.next = 1
        talk.client.send("A", seq=1)
    elif state["client"] == "closed" and packet.flags == "A":
        talk.client.send("R", seq=packet.ack)
    elif state["client"] == "answered" and packet.flags == "A":
        if (packet.seq, packet.ack) == (1, 1):
            state["client"] = "open"
        else:
            talk.client.send("A", seq=1)


def server_does(talk, state, packet, old):
    client, server = old
    if state["server"] == "old":
        if packet.flags == "S":
            server.send("A")
        elif "R" in packet.flags and packet.seq == distance(client.isn + client.next, talk.client.isn):
            state["server"] = "listening"
    elif packet.flags == "S" and packet.seq == 0:
        talk.server.first_clock = absolute(talk.server.first_clock, talk.server.clock + 1)
        talk.server.clock = -1
        talk.server.send("SA", seq=0)
        talk.server.next = 1
        state["server"] = "answered"
    elif state["server"] == "answered" and packet.flags == "A" and (packet.seq, packet.ack) == (1, 1):
        state["server"] = "open"


@scenario("forward", "gate")
def server_has_an_older_connection(talk):
    """It challenges the SYN, and takes the next one after a reset."""
    talk.syn()
    talk.ack()
    talk.server.send("A", seq=77777, ack=-5000)
    talk.see([], [Expected("R", seq=-5000)])
    if not talk.stage.deferred:
        # No need to wait for a timer.
        talk.client.send("A", seq=1)
    talk.see([], [talk.expected_syn(options=lambda options: True)], patient=True)
    talk.serve()
    exchange(talk) if not talk.stage.deferred else talk.pass_on(talk.client, "PA", REQUEST)


@scenario("forward", "gate", ours=True)
def server_is_silent(talk):
    """The SYN is sent again by a timer; after the last one the client hears of it."""
    retries = "net.ipv4.tcp_syn_retries"
    subprocess.run(["sysctl", "-qw", f"{retries}=2"], check=True)
    try:
        talk.syn()
        talk.ack()
        talk.see([Expected(lambda flags: "R" in flags, seq=1, data=b"")], [], patient=True)
    finally:
        subprocess.run(["sysctl", "-qw", f"{retries}=6"], check=True)
    demand(talk.repeats == 2, f"the SYN came {talk.repeats} times more, expected 2")


@scenario("forward", "gate", ours=True)
def first_syn_is_lost(talk):
    talk.syn()
    talk.ack()
    # Again by itself.
    talk.see([], [talk.expected_syn(options=lambda options: True)], patient=True)
    talk.serve()
    talk.pass_on(talk.client, "PA", REQUEST)


### Options


@scenario("forward", "gate", mss=(9000, 1460, 1400, 1000, 100, None))
def client_mss(talk, mss):
    talk.set_ends(mss=mss)
    talk.open()
    exchange(talk)


@scenario("forward", scale=(0, 14, None), other=(0, 14, None))
def window_scales(talk, scale, other):
    talk.set_ends(wscale=scale, server={"wscale": other if scale is not None else None})
    talk.open()
    exchange(talk)


@scenario("forward", sack=(True, False), ecn=(True, False))
def offers(talk, sack, ecn):
    talk.set_ends(sack=sack, ecn=ecn)
    talk.open()
    exchange(talk)


@scenario("forward", "gate", ecn=(True, False))
def no_timestamps(talk, ecn):
    """There is no place to keep anything else, so all is refused."""
    talk.set_ends(ts=False, ecn=ecn)
    talk.open()
    exchange(talk)


@scenario("forward", "gate")
def server_without_timestamps(talk):
    talk.set_ends(server={"ts": False})
    talk.open()
    exchange(talk)


PADDED = {
    "odd": (NOP, TS, NOP),
    "three": (NOP, NOP, NOP, TS, NOP, NOP, NOP),
    "first": (TS, NOP, NOP),
    "end": (TS, ("EOL",)),
    "after_sack": (NOP, NOP, ("SAck", 1001, 2001), TS, NOP, NOP),
    "odd_after_sack": (NOP, ("SAck", 1001, 2001), TS, NOP, NOP, NOP),
    "before_sack": (NOP, NOP, TS, NOP, NOP, ("SAck", 501, 601, 1001, 1501, 2001, 2901)),
    "sack_only": (NOP, NOP, ("SAck", 1001, 2001)),
    "odd_sack_only": (NOP, ("SAck", 1001, 2001), NOP),
}


@scenario("forward", how=tuple(PADDED))
def padded(talk, how):
    """What is translated stands at many places."""
    talk.open()
    # So that what is selectively acknowledged has been sent.
    for end in (talk.client, talk.server):
        for at in range(0, 3000, 1000):
            end.send("A", bytes(1000), seq=end.next + at)
    talk.see(None, None)
    for end in (talk.client, talk.server):
        talk.pass_on(end, "A", options=PADDED[how])


### What is not as it should be


def resum(octets):
    """With the TCP checksum made right again."""
    four = octets[0] >> 4 == 4
    at = 20 if four else 40
    src, dst = (octets[12:16], octets[16:20]) if four else (octets[8:24], octets[24:40])
    family = socket.AF_INET if four else socket.AF_INET6
    tcp = octets[at : at + 16] + bytes(2) + octets[at + 18 :]
    if len(tcp) < 18:
        return octets
    total = fold(pseudo(socket.inet_ntop(family, src), socket.inet_ntop(family, dst), len(tcp), 6) + tcp)
    return octets[:at] + tcp[:16] + struct.pack("!H", ~total & 0xFFFF) + tcp[18:]


def start_of_tcp(octets):
    return 20 if octets[0] >> 4 == 4 else 40


def with_header(words):
    """Another length of the header."""

    def mangle(octets):
        at = start_of_tcp(octets) + 12
        return resum(octets[:at] + bytes([words << 4]) + octets[at + 1 :])

    return mangle


def wrong_sum(octets):
    at = start_of_tcp(octets) + 16
    return octets[:at] + bytes([octets[at] ^ 0x55]) + octets[at + 1 :]


def cut(length):
    """Ends within the header, and says so."""

    def mangle(octets):
        at = start_of_tcp(octets)
        octets = octets[: at + length]
        if at == 40:
            return resum(octets[:4] + struct.pack("!H", length) + octets[6:])
        head = octets[:2] + struct.pack("!H", at + length) + octets[4:10] + bytes(2) + octets[12:20]
        return resum(head[:10] + struct.pack("!H", ~fold(head) & 0xFFFF) + head[12:] + octets[20:])

    return mangle


def option_bytes(octets_of_options):
    """These bytes in the place of the options."""

    def mangle(octets):
        at = start_of_tcp(octets)
        size = (octets[at + 12] >> 4) * 4 - 20
        new = octets_of_options[:size].ljust(size, b"\1")
        return resum(octets[: at + 20] + new + octets[at + 20 + size :])

    return mangle


MALFORMED = {
    "sum": wrong_sum,
    "short_header": with_header(4),
    "no_header": with_header(0),
    "long_header": with_header(15),
    "cut_at_19": cut(19),
    "cut_at_10": cut(10),
    "cut_in_options": cut(24),
}


@scenario("forward", "gate", how=tuple(MALFORMED))
def malformed(talk, how):
    """Dropped in silence: as a SYN, as an ACK, and later on."""
    mangle = MALFORMED[how]
    talk.client.send("S", seq=0, mangle=mangle)
    talk.see()
    talk.syn()
    talk.client.send("A", seq=1, mangle=mangle)
    talk.see()
    talk.ack()
    talk.client.send("A", seq=1, mangle=mangle)
    talk.see()
    talk.serve()
    talk.pass_on(talk.client, "PA", REQUEST)
    for end in (talk.client, talk.server):
        # No data, so that a header that is too long goes beyond the end.
        end.send("A", mangle=mangle)
        talk.see()
    exchange(talk)


BAD_OPTIONS = {
    "zero_length": b"\x02\x00\x05\xb4",
    "length_one": b"\x08\x01\x02\x00",
    "beyond_the_end": b"\x01" * 17 + b"\x02\x04\x05",
    "only_a_kind": b"\x01" * 19 + b"\x08",
}


@scenario("forward", how=tuple(BAD_OPTIONS))
def bad_options(talk, how):
    """A SYN is answered as if it had none; later they are passed on as they are."""
    mangle = option_bytes(BAD_OPTIONS[how])
    talk.client.send("S", seq=0, mangle=mangle)
    talk.see([Expected("SA", seq=0, ack=1, options=())])
    talk.syn()
    talk.ack()
    talk.serve()
    talk.client.send("A", seq=1, mangle=mangle)
    talk.see([], None)
    talk.pass_on(talk.client, "PA", REQUEST)
    exchange(talk)


@scenario("forward")
def sack_without_ack(talk):
    """It is adjusted by nobody; at an odd offset, that is no reason for a wrong checksum."""
    talk.open()
    talk.client.send("R", options=(NOP, ("SAck", 1001, 2001), NOP))
    talk.see([], [Expected("R")])


@scenario("forward")
def further_by_a_byte(talk):
    """A byte further a cookie of 1300 is one of 1440; to conntrack this ACK is INVALID."""
    talk.set_ends(ts=False, mss=1300)
    talk.open()
    talk.client.send("A", ack=2)
    _, server = talk.see([], None)
    demand(all("S" not in one.flags for one in server), "another connection")
    exchange(talk)


### Fragments, and headers between IP and TCP


@scenario("forward", side=("client", "server"))
def fragments(talk, side):
    end, _ = ends(talk, side)
    talk.open()
    exchange(talk)
    parts = []
    keep = lambda octets: parts.append(split(octets, 512, 512)) or []
    sent = end.send("PA", bytes(range(256)) * 5, mangle=keep, df=False)
    first, *rest = parts[0]
    wire = talk.stage.wires[end.name]
    wire.send(first)
    talk.see()
    for part in rest:
        wire.send(part)
    sides = {end.name: [], end.peer_name: [sent]}
    talk.see(**sides)
    exchange(talk)


@scenario("forward", "gate")
def tiny_fragments(talk):
    """IPv4 puts them together; IPv6 wants the TCP header in the first one."""
    cut_up = lambda octets: split(octets, 8, 8)
    talk.client.send("S", mangle=cut_up, df=False)
    talk.see([Expected("SA", seq=0, ack=1)] if talk.stage.family == 4 else [])


# Fragments of IPv6 are put together here without a trace.
@scenario("forward", families=(4,))
def syn_ack_in_fragments(talk):
    """What the client gets for it has none."""
    talk.syn()
    talk.ack()
    talk.serve(df=False, mangle=lambda octets: split(octets, 24))
    demand(all(one.df for one in talk.last["client"]), "the window update came in fragments")
    talk.pass_on(talk.client, "A")


EXTENSIONS = {
    "hop_by_hop": lambda: IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]),
    "destination": lambda: IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]),
    "both": lambda: IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]) / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]),
}


@scenario("forward", "gate", families=(6,), which=tuple(EXTENSIONS))
def extension_headers(talk, which):
    between = EXTENSIONS[which]()
    talk.syn(between=between)
    talk.ack(between=between)
    talk.serve(between=between)
    talk.pass_on(talk.client, "PA", REQUEST, between=between)
    talk.pass_on(talk.server, "PA", b"answer", between=between)


### Windows and numbers


@scenario("forward", window=(0, 1, 65535), scale=(0, 7, 14))
def server_window(talk, window, scale):
    talk.set_ends(server={"wscale": scale})
    talk.syn()
    talk.ack()
    talk.serve(window=window)
    talk.pass_on(talk.server, "A", window=5)


@scenario("forward", "gate", isn=(0xFFFFFFFF, 0xFFFFFFF0, 0), server_isn=(0xFFFFFFFF, 0xFFFFFFF0))
def wrap(talk, isn, server_isn):
    talk.set_ends(isn=isn, server_isn=server_isn)
    talk.open()
    talk.pass_on(talk.client, "PA", b"c" * 40)
    talk.pass_on(talk.server, "PA", b"s" * 40)
    close(talk, talk.client, talk.server)


@scenario("forward", "gate")
def traffic_class(talk):
    """Our SYN belongs to the client's traffic; ECN is no matter of a SYN."""
    tos = 0x28
    talk.syn(tos=tos)
    if talk.stage.deferred:
        talk.client.send("A", tos=tos)
        talk.client.send("PA", REQUEST, seq=1, tos=tos)
        talk.see([], [talk.expected_syn(tos=tos)], patient=True)
        talk.held = [released(REQUEST, tos=tos)]
    else:
        talk.client.send("A", tos=tos | 2)
        talk.see([], [talk.expected_syn(tos=tos)])
    talk.serve()
    talk.pass_on(talk.client, "PA", REQUEST, tos=tos | 2)


### ICMP errors


def too_big(talk):
    return (4, (3, 4)) if talk.stage.family == 4 else ("big", (2, 0))


def shortest(talk):
    """An IP header and 8 bytes more."""
    return start_of_tcp(b"\x45" if talk.stage.family == 4 else b"\x60") + 8


def forget_mtu(talk):
    """What the firewall itself has learnt of a path."""
    subprocess.run(["ip", f"-{talk.stage.family}", "route", "flush", "cache"], check=True)


@scenario("forward", "gate", side=("client", "server"), quote=("short", "tcp", "all"))
def packet_too_big_for(talk, side, quote):
    """From a router on the way to this side's end, about what was sent to it."""
    sender, receiver = ends(talk, side)
    forget_mtu(talk)
    talk.open()
    exchange(talk)
    sent = sender.send("PA", bytes(1200))
    sides = {sender.name: [], receiver.name: [sent]}
    got = dict(zip(("client", "server"), talk.see(**sides)))[receiver.name]
    demand(got, "no packet to quote")
    code, told = too_big(talk)
    length = {"short": shortest(talk), "tcp": shortest(talk) + 12, "all": None}[quote]
    if length is None and talk.stage.family == 4:
        length = 548
    receiver.error(code, got[0], number=1280, length=length)
    about = {"from": sender.name, "seq": sent.seq}
    if quote != "short":
        about["ack"] = sent.ack
    if talk.stage.family == 4:
        about["header sum"] = True
    sides = {sender.name: [Expected(kind="icmp", error=(*told, 1280), quote=about)], receiver.name: []}
    talk.see(**sides)
    exchange(talk)


UNREACHABLE = {"host": (1, 0), "port": (3, 4), "prohibited": (13, 1)}


@scenario("forward", "gate", what=tuple(UNREACHABLE))
def unreachable(talk, what):
    """The answer to our SYN: the client gets it in the form that it knows."""
    talk.syn()
    talk.ack()
    demand(talk.last["server"], "no SYN to quote")
    code = UNREACHABLE[what][talk.stage.family == 6]
    talk.server.error(code, talk.last["server"][0])
    talk.see([Expected(lambda flags: "R" in flags, seq=1, data=b"")])


@scenario("forward", "gate")
def unreachable_by_a_guess(talk):
    """With a number that is not our SYN's: RFC 5927."""
    talk.syn()
    talk.ack()
    demand(talk.last["server"], "no SYN to quote")
    packet = talk.last["server"][0]
    at = start_of_tcp(packet.raw) + 4
    packet.raw = packet.raw[:at] + bytes([packet.raw[at] ^ 0x80]) + packet.raw[at + 1 :]
    talk.server.error(UNREACHABLE["host"][talk.stage.family == 6], packet)
    talk.see()
    talk.serve()
    talk.pass_on(talk.client, "PA", REQUEST)


### A server on the firewall: its end is a socket


def local_exchange(talk):
    """Data in both directions, acknowledged."""
    client = talk.client
    client.send("PA", b"question")
    meet(talk, "A", ack=client.next)
    demand(talk.socket.recv(100) == b"question", "the server got other data")
    talk.socket.sendall(b"answer")
    meet(talk, data=b"answer", seq=talk.server.next, ack=client.next)
    talk.server.next += len(b"answer")
    client.send("A")


def meet(talk, flags=None, patience=20, **fields):
    """Waits until such a packet has come to the client; of the others only the checksums matter."""
    wanted = Expected(flags, **fields)
    for _ in range(patience):
        got, _ = talk.see(None, None)
        demand(all(packet.sums for packet in got), "a wrong checksum")
        for packet in got:
            if not list(wanted.faults(packet)):
                return packet
    raise Failure(f"it did not come: {wanted}")


@scenario("local", ts=(True, False))
def local_close_by_client(talk, ts):
    talk.set_ends(ts=ts)
    talk.open()
    local_exchange(talk)
    talk.client.send("FA")
    meet(talk, ack=talk.client.next)
    demand(talk.socket.recv(100) == b"", "the server got no end")
    talk.socket.close()
    meet(talk, "FA", seq=talk.server.next, ack=talk.client.next)
    talk.server.next += 1
    talk.client.send("A")
    talk.see()


@scenario("local")
def local_close_by_server(talk):
    talk.open()
    local_exchange(talk)
    talk.socket.close()
    meet(talk, "FA", seq=talk.server.next)
    talk.server.next += 1
    talk.client.send("A")
    talk.see()
    talk.client.send("FA")
    meet(talk, "A", seq=talk.server.next, ack=talk.client.next)


@scenario("local")
def local_reset_by_client(talk):
    talk.open()
    local_exchange(talk)
    talk.client.send("R")
    talk.see()
    try:
        talk.socket.recv(100)
        raise Failure("the server was not reset")
    except ConnectionResetError:
        pass


@scenario("local")
def local_reset_by_server(talk):
    talk.open()
    local_exchange(talk)
    talk.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    talk.socket.close()
    meet(talk, lambda flags: "R" in flags, seq=talk.server.next)


@scenario("local")
def local_closed_port(talk):
    for end in (talk.client, talk.server):
        end.port, end.peer_port = (81 if port == 80 else port for port in (end.port, end.peer_port))
    talk.syn()
    talk.client.send("A")
    talk.see([Expected(lambda flags: "R" in flags, seq=1, data=b"")], None)


@scenario("local")
def local_again(talk):
    """SYN, ACK, data and FIN, each twice."""
    client = talk.client
    talk.syn()
    talk.syn(seq=0)
    talk.ack()
    client.send("A")
    talk.see([], None)
    talk.accept()
    client.send("PA", b"question", seq=1)
    client.send("PA", b"question", seq=1)
    client.next = 9
    meet(talk, "A", ack=9)
    demand(talk.socket.recv(100) == b"question", "the server got other data")
    talk.socket.sendall(b"answer")
    # Not acknowledged, so it comes again.
    meet(talk, data=b"answer", seq=1)
    meet(talk, patience=500, data=b"answer", seq=1)
    talk.server.next += 6
    for seq in (9, 9):
        client.send("FA", seq=seq)
    client.next = 10
    meet(talk, "A", ack=10)
    demand(talk.socket.recv(100) == b"", "the server got no end")


@scenario("local", mss=(1460, 1400, 1000), ts=(True,), size=(0, 1))
@scenario("local", families=(4,), mss=(1460,), ts=(False,), size=(0, 1))
def local_probe_first(talk, mss, ts, size):
    talk.set_ends(mss=mss, ts=ts)
    talk.syn()
    for _ in range(3):
        talk.client.send("A", bytes(size), seq=0)
        _, server = talk.see(None, None)
        demand(all(one.seq == 0 for one in server if "S" in one.flags), "the server got a SYN with a number that is not the client's")
    demand(talk.syns, "no SYN: a client that only probes is never connected")
    talk.accept()
    local_exchange(talk)


@scenario("local", size=(0, 1))
def local_keepalive(talk, size):
    talk.open()
    local_exchange(talk)
    talk.client.send("A", bytes(size), seq=talk.client.next - 1)
    meet(talk, "A", seq=talk.server.next, ack=talk.client.next)


INFO = {"timestamps": 1, "sack": 2, "scale": 4, "ecn": 8}


@scenario("local", ts=(True, False), ecn=(True, False), mss=(1460, 1400, 1000))
def local_options(talk, ts, ecn, mss):
    """What the server has made of the SYN."""
    talk.set_ends(ts=ts, ecn=ecn, mss=mss)
    talk.open()
    local_exchange(talk)
    info = talk.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    wanted = INFO["timestamps"] | INFO["sack"] | INFO["scale"] if ts else 0
    wanted |= INFO["ecn"] if ts and ecn else 0
    demand(info[5] & 15 == wanted, f"the server's options are {info[5] & 15:#x}, expected {wanted:#x}")
    demand(not ts or info[6] & 15 == 7, "the client's window scale did not arrive")
    largest = struct.unpack("=I", info[16:20])[0]
    agreed = cookie_mss(talk.stage.family, mss) - (12 if ts else 0)
    demand(largest <= agreed, f"the server would send {largest} bytes, the client takes {agreed}")


@scenario("local", how=tuple(name for name in PADDED if "sack" not in name))
def local_padded(talk, how):
    """The server drops what has no good timestamp."""
    talk.open()
    local_exchange(talk)
    talk.client.send("PA", b"padded", options=PADDED[how])
    meet(talk, ack=talk.client.next)
    demand(talk.socket.recv(100) == b"padded", "the server got other data")


@scenario("local", how=tuple(MALFORMED))
def local_malformed(talk, how):
    mangle = MALFORMED[how]
    talk.client.send("S", seq=0, mangle=mangle)
    talk.see()
    talk.syn()
    talk.client.send("A", seq=1, mangle=mangle)
    talk.see()
    talk.ack()
    talk.accept()
    talk.client.send("A", seq=1, mangle=mangle)
    talk.see()
    local_exchange(talk)


@scenario("local")
def local_fragments(talk):
    talk.open()
    data = bytes(range(256)) * 5
    talk.client.send("PA", data, mangle=lambda octets: split(octets, 512, 512), df=False)
    meet(talk, ack=talk.client.next)
    demand(talk.socket.recv(2000) == data, "the server got other data")


@scenario("local", families=(6,), which=tuple(EXTENSIONS))
def local_extension_headers(talk, which):
    between = EXTENSIONS[which]()
    talk.syn(between=between)
    talk.ack(between=between)
    talk.accept()
    talk.client.send("PA", b"question", between=between)
    meet(talk, ack=talk.client.next)
    demand(talk.socket.recv(100) == b"question", "the server got other data")


@scenario("local", isn=(0xFFFFFFFF, 0xFFFFFFF0, 0))
def local_wrap(talk, isn):
    talk.set_ends(isn=isn)
    talk.open()
    local_exchange(talk)
    local_exchange(talk)


@scenario("local", by=("client", "server", "reset"))
def local_port_again(talk, by):
    talk.open()
    local_exchange(talk)
    if by == "server":
        talk.socket.close()
        meet(talk, "FA", seq=talk.server.next)
        talk.server.next += 1
        talk.client.send("FA")
    elif by == "client":
        talk.client.send("FA")
        meet(talk, ack=talk.client.next)
        talk.socket.close()
        meet(talk, "FA")
        talk.server.next += 1
        talk.client.send("A")
    else:
        talk.client.send("R")
    talk.see(None, None)
    come_again(talk)
    talk.open()
    local_exchange(talk)


@scenario("local")
def local_port_again_after_reboot(talk):
    talk.open()
    local_exchange(talk)
    come_again(talk)
    state = {"client": "closed"}
    for _ in seconds(20):
        retry(talk, state)
        for _ in range(4):
            for packet in talk.see(None, None)[0]:
                client_does(talk, state, packet)
        if state["client"] == "open":
            break
    demand(state["client"] == "open", "no connection")
    talk.accept()
    local_exchange(talk)


@scenario("local", quote=("short", "tcp", "all"))
def local_packet_too_big(talk, quote):
    """The server learns of it; what it knows from an earlier one is forgotten first."""
    forget_mtu(talk)
    talk.open()
    local_exchange(talk)
    talk.socket.sendall(bytes(1300))
    got = meet(talk, data=lambda data: len(data) > 1100)
    code, _ = too_big(talk)
    length = {"short": shortest(talk), "tcp": shortest(talk) + 12, "all": 548 if talk.stage.family == 4 else None}[quote]
    mtu = 1100 if talk.stage.family == 4 else 1280
    talk.client.error(code, got, number=mtu, length=length)
    talk.see(None, None)
    info = talk.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    known = struct.unpack("=I", info[60:64])[0]
    demand(known == mtu, f"the server believes in {known} bytes, told were {mtu}")


### No way around: an engine that says yes to whatever packet has GET in it. evasion.t has its rules.

NO = b"POST / HTTP/1.0\r\n\r\n"


def begin(talk, **fields):
    """The handshake; the client waits."""
    talk.syn(**fields)
    talk.client.next = 1
    talk.client.send("A")
    talk.see()


def begin_elsewhere(talk):
    """Nor does a SYN help who is refused, but from another port."""
    come_again(talk)
    say(talk, "S", seq=0)
    Conversation.ports += 1
    talk.port = Conversation.ports
    talk.set_ends()
    begin(talk)


def refused(talk):
    """The client is told."""
    talk.see([Expected(lambda flags: "R" in flags, seq=1)], [])


def say(talk, *what, **fields):
    """Something that neither side hears of."""
    sent = talk.client.send(*what, **fields)
    talk.see()
    return sent


def yes(talk, data=REQUEST, flags="PA", seq=1, **fields):
    """Something that the engine says yes to, and that counts."""
    talk.client.send(flags, data, seq=seq, **fields)
    talk.see([], [talk.expected_syn(options=bool)])


def answer(talk, *held):
    """The server's SYN,ACK; this and nothing else was held."""
    server = talk.server
    server.next, talk.client.next = 0, max((one.end() for one in held), default=1)
    server.first_clock, server.clock = absolute(server.first_clock, server.clock + 1), -1
    server.send("SA", window=65160, ack=1)
    acks = [Expected("A", seq=1, ack=1, data=b"")], [Expected("A", seq=1, ack=1, data=b"")]
    talk.see(acks[0], [*acks[1], *held])


def served(talk, *held):
    """As above, and the connection is a good one."""
    answer(talk, *held)
    talk.pass_on(talk.server, "A")
    exchange(talk)


def counted(name):
    """What the proxy has counted in all."""
    with open("/proc/net/stat/xt_synproxy", encoding="ascii") as file:
        names, *lines = file
        return sum(int(line.split()[names.split().index(name)], 16) for line in lines)


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def iptables(talk, *words):
    run("iptables-nft" if talk.stage.family == 4 else "ip6tables-nft", *words)


def forget(talk):
    """conntrack -D"""
    run("conntrack", "-D", "-f", f"ipv{talk.stage.family}", "-p", "tcp", "--sport", str(talk.port))


def judged(talk):
    """To how many packets the engine has said yes."""
    program = "iptables-nft" if talk.stage.family == 4 else "ip6tables-nft"
    listed = subprocess.run([program, "-t", "mangle", "-nvxL", "FORWARD", "1"], check=True, capture_output=True, text=True)
    return int(listed.stdout.split()[0])


@scenario("engine")
def the_engine_decides(talk):
    """So that all that follows can fail."""
    begin(talk)
    say(talk, "PA", NO, seq=1)
    yes(talk, NO + REQUEST)
    served(talk, released(NO + REQUEST))


@scenario("engine")
def out_of_the_window(talk):
    """Nobody sees it, whatever it says."""
    begin(talk)
    for seq in (15000, 1 << 30, 1 << 31, -1000, 0):
        talk.client.send("PA", REQUEST, seq=seq)
        talk.client.send("PA", b"x" * 1000, seq=seq)
    # Begins in the window, and does not end there.
    talk.client.send("PA", NO + b"x" * 1000, seq=14500)
    talk.see()
    yes(talk)
    served(talk, released(REQUEST))


@scenario("engine")
def in_the_middle(talk):
    """A verdict on what nobody knows the beginning of."""
    begin(talk)
    say(talk, "PA", REQUEST, seq=1 + len(NO))
    say(talk, "PA", REQUEST, seq=1 + len(NO))
    say(talk, "PA", NO, seq=1)
    # Now it counts.
    yes(talk, seq=1 + len(NO))
    served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))


@scenario("engine")
def guessed_acknowledgement(talk):
    """Of nothing, of our SYN,ACK, and while waiting."""
    near, far = (-3, -2, -1, 1, 2, 3), (-100000, -4, 4, 100000, 1 << 31)
    talk.client.peer_isn = 77
    for number in (*near, *far):
        talk.client.send("PA", REQUEST, seq=1, ack=1 + number)
    talk.see()
    talk.syn()
    talk.client.next = 1
    # Three numbers further a cookie may be that of another MSS.
    for number in far:
        talk.client.send("A", seq=1, ack=1 + number)
        talk.client.send("PA", REQUEST, seq=1, ack=1 + number)
        talk.client.send("PA", REQUEST, seq=1 + number)
    talk.see()
    demand(not entries(talk.port), "an entry was made")
    talk.client.send("A")
    for number in (*near, *far):
        talk.client.send("PA", REQUEST, seq=1, ack=1 + number)
    talk.see()
    yes(talk)
    served(talk, released(REQUEST))


OTHERS = {
    "all": ("PA", 1, REQUEST),
    "longer": ("PA", 1, REQUEST + REQUEST),
    "first_byte": ("PA", 1, b"Q" + NO[1:]),
    "last_byte": ("PA", len(NO), b"?" + REQUEST),
    "another_segment": ("PA", 1 + len(NO), b"...?.." + REQUEST),
    "earlier_end": ("FPA", 1, NO[:-1]),
}


@scenario("engine", how=tuple(OTHERS))
def other_bytes(talk, how):
    """For the same place: whichever the engine has judged, the server gets none."""
    before = counted("contradictions")
    begin(talk)
    say(talk, "PA", NO, seq=1)
    say(talk, "PA", b"......", seq=1 + len(NO))
    flags, seq, data = OTHERS[how]
    say(talk, flags, data, seq=seq)
    demand(counted("contradictions") == before + 1, "it was not counted")
    before = judged(talk)
    # The cookie is still good, but of no use.
    for flags, data in (("PA", REQUEST), ("PA", NO + b"......" + REQUEST), ("A", b""), ("PA", NO)):
        talk.client.send(flags, data, seq=1)
        refused(talk)
    demand(judged(talk) == before, "the engine has seen it")
    begin_elsewhere(talk)
    yes(talk)
    served(talk, released(REQUEST))


@scenario("engine")
def other_bytes_while_opening(talk):
    begin(talk)
    yes(talk)
    for flags, seq, data in (("PA", 1, NO), ("PA", 1, REQUEST[:-1] + b"?"), ("PA", 5, REQUEST), ("PA", len(REQUEST), b"?more"), ("FPA", 1, REQUEST[:-2])):
        talk.client.send(flags, data, seq=seq)
    talk.see()
    served(talk, released(REQUEST))


@scenario("engine")
def the_same_bytes_again(talk):
    """In other pieces, before and after the verdict: no contradiction."""
    begin(talk)
    say(talk, "PA", NO[:7], seq=1)
    say(talk, "PA", NO[3:12], seq=4)
    say(talk, "PA", NO[10:], seq=11)
    yes(talk, seq=1 + len(NO))
    say(talk, "PA", NO + REQUEST[:5], seq=1)
    say(talk, "PA", b"more", seq=1 + len(NO + REQUEST))
    answer_in_order(talk, NO + REQUEST + b"more")


def answer_in_order(talk, stream):
    """However it was cut, the server reads this, and no two versions of it."""
    server = talk.server
    server.next, talk.client.next = 0, 1 + len(stream)
    server.first_clock, server.clock = absolute(server.first_clock, server.clock + 1), -1
    server.send("SA", window=65160, ack=1)
    _, got = talk.see(None, None)
    read = bytearray()
    for packet in got[1:]:
        demand(packet.seq <= 1 + len(read), f"a gap before {packet}")
        again = read[packet.seq - 1 :]
        demand(again[: len(packet.data)] == packet.data[: len(again)], f"another version: {packet}")
        read += packet.data[len(again) :]
    demand(bytes(read) == stream, f"the server has read {bytes(read)}")
    talk.pass_on(server, "A")
    exchange(talk)


@scenario("engine")
def other_bytes_later(talk):
    """The engine goes on looking: rules for all packets, not only for those in progress."""
    begin(talk)
    yes(talk)
    iptables(talk, "-t", "mangle", "-I", "FORWARD", "-p", "tcp", "--dport", "80", "-m", "string", "--algo", "kmp", "--string", "POST", "-j", "DROP")
    try:
        say(talk, "PA", NO, seq=1)
        answer(talk, released(REQUEST))
        say(talk, "PA", NO, seq=1)
        say(talk, "PA", NO)
        talk.client.next = 1 + len(REQUEST)
        exchange(talk)
    finally:
        iptables(talk, "-t", "mangle", "-D", "FORWARD", "1")


@scenario("engine")
def low_ttl(talk):
    """It would not get to the server, but for the engine it has been said."""
    begin(talk)
    yes(talk, ttl=2)
    say(talk, "PA", NO, seq=1)
    served(talk, released(REQUEST))


@scenario("engine")
def wrong_checksum(talk):
    """Where conntrack does not look at it, an engine might see what a server never would."""
    begin(talk)
    run("sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0")
    try:
        say(talk, "PA", REQUEST, seq=1, mangle=wrong_sum)
    finally:
        run("sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=1")
    say(talk, "PA", NO, seq=1)
    yes(talk, seq=1 + len(NO))
    served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))


ODD = {
    "md5": (("MD5", bytes(16)), NOP, NOP),
    "sack": (NOP, NOP, ("SAck", 1001, 2001), NOP, NOP, TS),
    "unknown": (NOP, NOP, TS, (77, b"odd!")),
}


@scenario("engine", which=tuple(ODD))
def odd_options(talk, which):
    """With which a server might not take it."""
    talk.set_ends(ts=which != "md5")
    begin(talk)
    yes(talk, options=ODD[which])
    options = () if which == "md5" else ["NOP", "NOP", "Timestamp"]
    served(talk, released(REQUEST, options=lambda got: [one[0] for one in got] == list(options)))


@scenario("engine")
def urgent(talk):
    """A server may take an urgent byte out of the stream."""

    def mangle(octets):
        at = start_of_tcp(octets)
        return resum(octets[: at + 18] + b"\0\4" + octets[at + 20 :])

    begin(talk)
    say(talk, "PAU", REQUEST, seq=1, mangle=mangle)
    say(talk, "PA", NO, seq=1)
    yes(talk, seq=1 + len(NO))
    say(talk, "PAU", REQUEST, seq=1 + len(NO + REQUEST), mangle=mangle)
    served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))


@scenario("engine", fast_open=(False, True))
def syn_with_data(talk, fast_open):
    """Also with a cookie of TCP Fast Open."""
    options = syn_options()
    if fast_open:
        options += (("TFO", (0x12345678, 0x9ABCDEF0)),)
    for _ in range(2):
        talk.syn(data=REQUEST, options=options, seq=0)
    demand(not entries(talk.port), "an entry was made")
    talk.client.next = 1
    # What the SYN has said counts for nothing.
    say(talk, "A", seq=1)
    say(talk, "PA", NO, seq=1 + len(REQUEST))
    yes(talk)
    served(talk, released(REQUEST), released(NO, seq=1 + len(REQUEST)))


@scenario("engine")
def fin_with_data(talk):
    begin(talk)
    yes(talk, flags="FPA")
    answer(talk, released(REQUEST, flags="FPA"))
    talk.pass_on(talk.server, "FA")
    talk.pass_on(talk.client, "A")


@scenario("engine")
def fin_without_data(talk):
    """And data where the stream has ended."""
    before = counted("contradictions")
    begin(talk)
    say(talk, "FA", seq=1)
    say(talk, "PA", REQUEST, seq=1)
    demand(counted("contradictions") == before + 1, "it was not counted")


@scenario("engine", flags=("R", "RA", "RPA"))
def reset_with_data(talk, flags):
    begin(talk)
    # One that is not in the window is nobody's.
    say(talk, flags, REQUEST, seq=1 << 20)
    say(talk, "PA", NO, seq=1)
    # What the engine knows of it is not to be gone on with, however often it resets.
    for _ in range(3):
        say(talk, flags, REQUEST, seq=1)
        say(talk, flags, seq=1 + len(NO), ttl=1)
    talk.client.send("PA", REQUEST, seq=1 + len(NO))
    refused(talk)
    begin_elsewhere(talk)
    yes(talk)
    served(talk, released(REQUEST))


@scenario("engine", ttl=(1, 64))
def reset_without_data(talk, ttl):
    """It need not get to the rules, and it waits anew."""
    begin(talk)
    say(talk, "R", seq=1, ttl=ttl)
    demand(not entries(talk.port), "it waits")
    say(talk, "A", seq=1)
    yes(talk)
    served(talk, released(REQUEST))


@scenario("engine", by=("mss", "acknowledgement", "syn", "far_syn", "fins", "reset", "reset_and_acknowledgement"))
def another_beginning(talk, by):
    """Some bytes further a cookie of a client without timestamps is one of another MSS, and it is good
    for another handshake: what the engine has seen stays the beginning of the stream."""
    talk.set_ends(ts=False)
    begin(talk)
    if by == "mss":
        for at, data in enumerate((b"P", b"O", b"S")):
            say(talk, "PA", data, seq=1 + at)
        yes(talk, seq=4)
        served(talk, *(released(data, seq=1 + at) for at, data in enumerate((b"P", b"O", b"S", REQUEST))))
        return
    say(talk, "PA", NO, seq=1)
    if by == "acknowledgement":
        for further in (*range(3, len(NO), 3), len(NO)):
            say(talk, "PA", b"x", seq=1 + further, ack=1 + further)
        yes(talk, seq=1 + len(NO))
        served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))
        return
    if by in ("syn", "far_syn"):
        say(talk, "S", seq=len(NO) if by == "syn" else 1 << 24)
        say(talk, "PA", b"x", seq=4, ack=4)
        yes(talk, seq=1 + len(NO))
        served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))
        return
    # They die before there is a rule for them.
    if by == "fins":
        for flags in ("FA", "FA", "A", "FA", "A"):
            talk.client.send(flags, seq=1 + len(NO), ttl=1)
            talk.see(None, [])
        say(talk, "S", seq=len(NO))
        yes(talk, NO + REQUEST)
        served(talk, released(NO + REQUEST))
        return
    talk.client.send("R", seq=1 + len(NO), ttl=1)
    ack = 1 if by == "reset" else 4
    for flags, data in (("A", b""), ("PA", REQUEST), ("PA", REQUEST)):
        talk.client.send(flags, data, seq=4, ack=ack)
    talk.see(None, [])
    talk.see(None, [])


@scenario("forward", "engine")
def acknowledgement_of_nothing(talk):
    """A cookie is good for any two numbers that are as far from each other: also for a SYN,ACK with
    the number 0, which none has had."""
    talk.set_ends(ts=False)
    talk.syn()
    cookie = talk.client.peer_isn
    for _ in range(2):
        talk.client.send("A", seq=1 - cookie, ack=1 - cookie)
        talk.see()
    demand(not entries(talk.port), "an entry was made")


@scenario("engine")
def verdict_before_it_is_held(talk):
    """A rule in the table mangle: what it judges is compared, too."""
    rule = ("-t", "mangle", "-p", "tcp", "--dport", "80", "-m", "mark", "--mark", "0x0b", "-j", "SYNPROXY", "--mss", "1460")
    begin(talk)
    iptables(talk, rule[0], rule[1], "-A", "FORWARD", *rule[2:])
    try:
        say(talk, "PA", b"x" * len(REQUEST), seq=1)
        say(talk, "PA", REQUEST, seq=1)
        begin_elsewhere(talk)
        yes(talk)
        served(talk, released(REQUEST))
    finally:
        iptables(talk, rule[0], rule[1], "-D", "FORWARD", *rule[2:])


@scenario("engine")
def without_room(talk):
    """What cannot be held is not shown to the engine, or there could be another version of it."""
    begin(talk)
    for at in range(100, 164):
        talk.client.send("A", b"x", seq=at)
    talk.see()
    before = judged(talk)
    say(talk, "PA", REQUEST, seq=1)
    demand(judged(talk) == before, "the engine has seen it")
    say(talk, "PA", b"x" * 65, seq=100)
    yes(talk)
    served(talk, released(REQUEST), released(b"x" * 65, seq=100))


@scenario("engine", flags=("", "P", "SP", "SPA", "FRPA", "SRFPAU"))
def odd_flags(talk, flags):
    begin(talk)
    talk.client.send(flags, REQUEST, seq=1, options=talk.client.stamp())
    talk.see(None, [])
    talk.see(None, [])


@scenario("engine", again=(True, False))
def second_syn(talk, again):
    """With the same number, and with another: of a client that has said nothing."""
    begin(talk)
    if again:
        say(talk, "PA", NO, seq=1)
        talk.client.send("S", seq=0)
        talk.see(None, [])
        talk.client.send("S", REQUEST, seq=0)
        talk.see(None, [])
        yes(talk, seq=1 + len(NO))
        served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))
        return
    come_again(talk)
    talk.syn()
    talk.client.next = 1
    say(talk, "PA", REQUEST, seq=1 + len(NO))
    talk.client.send("A", seq=1)
    talk.see()
    yes(talk)
    served(talk, released(REQUEST))


@scenario("engine", first=(1, 20))
def data_for_the_ack(talk, first):
    """The handshake's last ACK has data, and is sent once: the engine sees it."""
    talk.syn()
    talk.client.next = 1
    if first == 1:
        yes(talk)
        served(talk, released(REQUEST))
    else:
        say(talk, "PA", REQUEST, seq=first)
        say(talk, "PA", NO, seq=1)
        yes(talk, seq=1 + len(NO))
        served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))


@scenario("engine")
def tiny_segments(talk):
    """There is an end to them, and a way out."""
    before = counted("hold_full")
    begin(talk)
    data = b"POST /" + b"a" * 70 + b" HTTP/1.0\r\n\r\n"
    for at in range(len(data)):
        talk.client.send("A", data[at : at + 1], seq=1 + at)
    talk.see()
    demand(counted("hold_full") == before + len(data) - 64, f"{counted('hold_full') - before} were not held")
    # What follows a gap is not known.
    say(talk, "PA", REQUEST, seq=1 + len(data))
    yes(talk, data + REQUEST)
    served(talk, released(data + REQUEST))


@scenario("engine", policy=("DROP", "ACCEPT"))
def no_rules_while_waiting(talk, policy):
    """Rules go and come back; meanwhile the kernel itself keeps who waits."""
    begin(talk)
    say(talk, "PA", NO, seq=1)
    without_rules(talk, policy, lambda: say(talk, "PA", REQUEST, seq=1 + len(NO)))
    yes(talk, seq=1 + len(NO))
    served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))


@scenario("engine")
def no_rules_while_opening(talk):
    begin(talk)
    yes(talk)
    without_rules(talk, "ACCEPT", lambda: say(talk, "PA", NO, seq=1))
    served(talk, released(REQUEST))


def without_rules(talk, policy, do):
    tables = "iptables" if talk.stage.family == 4 else "ip6tables"
    kept = subprocess.run([f"{tables}-nft-save"], check=True, capture_output=True).stdout
    try:
        iptables(talk, "-P", "FORWARD", policy)
        iptables(talk, "-t", "mangle", "-F")
        iptables(talk, "-F")
        iptables(talk, "-A", "FORWARD", "-p", "udp", "-j", "ACCEPT")
        do()
    finally:
        subprocess.run([f"{tables}-nft-restore"], input=kept, check=True)


@scenario("engine")
def forgotten_while_waiting(talk):
    begin(talk)
    say(talk, "PA", NO, seq=1)
    forget(talk)
    say(talk, "PA", REQUEST, seq=1 + len(NO))
    say(talk, "A", seq=1)
    forget(talk)
    yes(talk)
    served(talk, released(REQUEST))


@scenario("engine")
def forgotten_while_opening(talk):
    begin(talk)
    yes(talk)
    forget(talk)
    say(talk, "PA", NO, seq=1 + len(REQUEST))
    talk.server.next = 0
    talk.server.send("SA")
    talk.see()
    say(talk, "A", seq=1)
    say(talk, "PA", NO, seq=1)
    yes(talk, seq=1 + len(NO))
    served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))


@scenario("engine")
def forgotten_while_open(talk):
    """What is no connection any more is nobody's."""
    begin(talk)
    yes(talk)
    served(talk, released(REQUEST))
    forget(talk)
    say(talk, "PA", NO)
    say(talk, "A")
    say(talk, "FA")
    say(talk, "R")
    # Its cookie is still good: it waits as anybody does.
    say(talk, "A", seq=1, ack=1)
    say(talk, "PA", NO, seq=1, ack=1)


SPOOFED = {"acknowledgements": ("A", "PA", "FA"), "syns": ("SA", "S"), "resets": ("R", "RA"), "nothing": ("", "FRPA")}


@scenario("engine", what=tuple(SPOOFED))
def spoofed_by_the_server_while_waiting(talk, what):
    """Neither side hears of it, and the client does not get in by it."""
    server = talk.server
    begin(talk)
    say(talk, "PA", NO, seq=1)
    true = server.isn
    for flags in SPOOFED[what]:
        # In numbers of its own, and in those that the client knows.
        for isn in (true, talk.client.peer_isn):
            server.isn = isn
            for seq, ack in ((0, 1), (1, 1), (1, 1 + len(NO)), (5000, 77777)):
                server.send(flags, b"data" if "P" in flags else b"", seq=seq, ack=ack)
    talk.see()
    say(talk, "PA", NO, seq=1)
    # The rules may take what it says for that of an open connection.
    server.isn = true
    yes(talk, seq=1 + len(NO))
    served(talk, released(NO), released(REQUEST, seq=1 + len(NO)))


@scenario("engine", what=tuple(SPOOFED))
def spoofed_by_the_server_while_opening(talk, what):
    """With a wrong number it opens nothing: the server hears no data."""
    begin(talk)
    yes(talk)
    for flags in SPOOFED[what]:
        for seq, ack in ((0, 0), (0, 2), (5000, 77777), (1, -1)):
            talk.server.send(flags, b"data" if "P" in flags else b"", seq=seq, ack=ack)
    _, got = talk.see([], None)
    demand(all("R" in one.flags and not one.data for one in got), "the server got something else than resets")
    if what == "resets":
        # Conntrack believes them, and forgets the connection.
        yes(talk)
    served(talk, released(REQUEST))


@scenario("engine", state=("answered", "waiting", "opening"), side=("client", "server"))
def forged_errors(talk, state, side):
    """ICMP errors about a connection that the server does not know of."""
    talk.syn()
    talk.client.next = 1
    heard = talk.last["client"][0]
    if state != "answered":
        talk.client.send("A")
        talk.see()
    kept = []
    talk.client.send("PA", NO, seq=1, mangle=lambda octets: kept.append(octets) or [])
    heard_by = {"client": heard, "server": Packet("server", raw=kept[0])}
    if state == "opening":
        yes(talk)
    for code in ((1, 3, 4, 13) if talk.stage.family == 4 else (1, 3, 4, "big")):
        ends(talk, side)[0].error(code, heard_by[side], number=1280)
    talk.see()
    if state == "answered":
        talk.client.send("A")
        talk.see()
    if state != "opening":
        yes(talk)
    served(talk, released(REQUEST))


@scenario("engine")
def larger_than_the_way(talk):
    """In fragments it gets to the engine in one piece, and has to get to the server, too."""
    data = REQUEST + b"x" * 3000
    begin(talk)
    yes(talk, data, mangle=lambda octets: split(octets, 1400, 1400), df=False)
    answer_in_order(talk, data)


### Orders


def modes_of(stage):
    return "local" if stage.local else "engine" if stage.engine else "gate" if stage.deferred else "forward"


def listed(stage):
    for name, (modes, families, ours, _) in SCENARIOS.items():
        if modes_of(stage) in modes and stage.family in families and (stage.ours or not ours):
            yield name


def play(stage, name, recording=False):
    """The conversation, and what went wrong with it."""
    talk = Conversation(stage, recording)
    fault = None
    try:
        SCENARIOS[name][3](talk)
    except (Failure, OSError) as failure:
        fault = str(failure) or repr(failure)
    except Exception:  # a mistake of the script's: the test has failed
        fault = traceback.format_exc()
    finally:
        if talk.socket:
            talk.socket.close()
    return talk, fault


class Records:
    """What was seen of both proxies, for a comparison."""

    def __init__(self):
        self.kept = {}

    def keep(self, stage, name, talk, fault):
        seen = {"ends": fault.splitlines()[0] if fault else "well"}
        for step, side, _, fields in talk.record:
            seen.setdefault(f"{step}.{side}", []).append(by_name(fields))
        key = (stage.family, modes_of(stage), name)
        self.kept.setdefault(key, {})["ours" if stage.ours else "in-tree"] = seen

    def differences(self, stage, name):
        """Places like "3.server.SA.window", with what both have there."""
        both = self.kept[(stage.family, modes_of(stage), name)]
        in_tree, ours = both["in-tree"], both["ours"]
        if in_tree["ends"] != ours["ends"]:
            yield "ends", in_tree["ends"], ours["ends"]
        for place in sorted({*in_tree, *ours} - {"ends"}):
            for one, two in itertools.zip_longest(in_tree.get(place, []), ours.get(place, [])):
                yield from self.compare(place, one, two)

    @staticmethod
    def compare(place, one, two):
        if one is None or two is None or (one["kind"], one["flags"]) != (two["kind"], two["flags"]):
            yield f"{place}.packet", one and brief(one), two and brief(two)
            return
        for field in sorted({*one, *two}):
            if one.get(field) != two.get(field):
                yield f"{place}.{one['flags'] or one['kind']}.{field}", one.get(field), two.get(field)


def by_name(fields):
    """The options as fields of their own, beside their order."""
    flat = {**fields, "options": [option[0] for option in fields["options"]]}
    for name, *values in fields["options"]:
        if name == "Timestamp":
            flat["TSval"], flat["TSecr"] = values
        elif values:
            flat[name] = values
    return flat


def brief(fields):
    return {name: fields[name] for name in ("kind", "flags", "seq", "ack", "error", "quote") if fields[name] not in ((), None)}


def obey(stage, records, words):
    """Does what an order says; what it says itself, and whether it is well."""
    verb, *rest = words
    if verb == "set":
        stage.set(*rest)
        return [], 0
    if verb == "list":
        return list(listed(stage)), 0
    if verb == "play":
        talk, fault = play(stage, rest[0])
        return [*talk.log, *([fault] if fault else [])], int(fault is not None)
    if verb == "record":
        talk, fault = play(stage, rest[0], recording=True)
        records.keep(stage, rest[0], talk, fault)
        return [*talk.log, *([fault] if fault else [])], 0
    if verb == "differ":
        found = list(records.differences(stage, rest[0]))
        return [f"{place}\t{json.dumps(one, default=str)}\t{json.dumps(two, default=str)}" for place, one, two in found], 0
    return [f"no such order: {words}"], 1


def main():
    orders, answers = sys.argv[1:]
    with open(orders, encoding="utf-8") as orders, open(answers, "w", encoding="utf-8") as answers:
        stage, records = Stage(), Records()
        for line in orders:
            said, status = obey(stage, records, line.split())
            for text in said:
                print(text, file=answers)
            print(f"end {status}", file=answers, flush=True)


if __name__ == "__main__":
    main()
