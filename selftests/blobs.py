#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-2.0-only
"""blobs.py SCENARIO...: hands the kernel rules that no iptables would.

$BACKEND says by which way, legacy (setsockopt) or nft (netlink), and $FAMILY for which
version of IP. For each rule there is a model, made of what the documentation and the headers in
include/uapi promise: it says which errors the rule may get, none if it is valid, and
what the module is to log. A valid rule has to be read back as it was given.

The log is bounded, so of many lines some are only counted. Those that there are have to
be those of the model, in its order; and with those that were only counted they have to
be as many as the errors that the module itself has found.

$BLOBS is the number of random rules of each kind, $BLOBS_SEED where their randomness
starts from.
"""

import ctypes
import errno
import json
import mmap
import os
import random
import re
import socket
import struct
import sys
import time

IS_V6 = os.environ["FAMILY"] == "6"
IS_NFT = os.environ["BACKEND"] == "nft"
BLOBS = int(os.environ.get("BLOBS") or 1000)
SEED = int(os.environ.get("BLOBS_SEED") or 20261122)
LIMIT = 60
TCP = 6

PRE_ROUTING, LOCAL_IN, FORWARD, LOCAL_OUT, POST_ROUTING = range(5)
HOOK_OF = {"PREROUTING": 0, "INPUT": 1, "FORWARD": 2, "OUTPUT": 3, "POSTROUTING": 4}
TABLES = {
    "filter": ["INPUT", "FORWARD", "OUTPUT"],
    "mangle": list(HOOK_OF),
    "raw": ["PREROUTING", "OUTPUT"],
    "nat": ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
    "security": ["INPUT", "FORWARD", "OUTPUT"],
}

### The model

MSS, WSCALE, SACK_PERM, TIMESTAMP, ECN, DEFER, WINDOW, TIMEOUT = (1 << bit for bit in range(8))
# By name and revision, the length of the parameters.
TARGETS = {(b"SYNPROXY", 0): 4, (b"SYNPROXY", 1): 32}
MATCHES = {(b"spstate", 0): 2}
# struct nf_synproxy_info, struct xt_synproxy_info
REVISIONS = [struct.Struct("=BBH"), struct.Struct("=BBHHHII4I")]


def aligned(length):
    return (length + 7) & ~7


def padded(data):
    return data + bytes(aligned(len(data)) - len(data))


def what_is_wrong(revision, data):
    """What the module says of the target's parameters; None of good ones."""
    fields = REVISIONS[revision].unpack(data[: TARGETS[b"SYNPROXY", revision]])
    options, wscale, mss = fields[:3]
    window, reserved0, timeout, rate, *reserved = fields[3:] or (0, 0, 0, 0)
    if reserved0 or any(reserved):
        return "what is reserved for later must be 0"
    unknown = options & ~0x1F if revision == 0 else 0
    if unknown:
        return f"options: unknown bits {unknown:#x}"
    if options & WSCALE and wscale > 14:
        return f"--wscale {wscale}: expected 0 to 14"
    if options & MSS and mss == 0:
        return "--mss 0: expected 1 to 65535"
    if revision == 1 and options & WINDOW and window == 0:
        return "--window 0: expected 1 to 65535"
    if revision == 1 and options & TIMEOUT and not 1 <= timeout <= 3600:
        return f"--timeout {timeout}: expected 1 to 3600"
    if rate > 10000000:
        return f"--rate {rate}: expected 1 to 10000000"
    return None


def what_is_wrong_with_state(data):
    state, invert = data[:2]
    if state <= 2 and invert <= 1:
        return None
    return (
        f"spstate: state {state}, invert {invert}: expected state 0 (none), 1 (in-progress) or "
        "2 (finish), invert 0 or 1"
    )


class Extension:
    """A match or a target, with the size that it says it has."""

    def __init__(self, name, revision, data, size=None):
        self.name, self.revision, self.data = name, revision, data
        self.size = 32 + aligned(len(data)) if size is None else size

    def __repr__(self):
        return f"{self.name!r}.{self.revision} size {self.size} {self.data.hex()}"

    def length(self):
        """Of the parameters, as said; no message of netlink has room for the largest."""
        return min(max(self.size - 32, 0), 4096)

    def sent(self):
        """The parameters as netlink sends them."""
        return self.data[: self.length()] + bytes(max(0, self.length() - len(self.data)))

    def has_size(self, wanted):
        if IS_NFT:
            return aligned(self.length()) == aligned(wanted)
        return self.size == 32 + aligned(wanted) and len(padded(self.data)) >= aligned(wanted)


class Case:
    """A rule, where it is put, and from which chains of the table that can be reached."""

    def __init__(self, target=None, matches=(), table="filter", chain="INPUT", callers=(), **more):
        self.target, self.matches, self.table, self.chain = target, matches, table, chain
        self.callers = callers
        self.proto = more.pop("proto", TCP)
        # For IPv6, -p is a flag as well, but the kernel knows that itself.
        self.flags = more.pop("flags", 1 if IS_V6 else 0)
        self.inverse = more.pop("inverse", 0)
        assert not more

    def __repr__(self):
        at = f"{self.table} {self.chain}" + (f" from {'/'.join(self.callers)}" if self.callers else "")
        words = [at, f"proto {self.proto} flags {self.flags:#x} inverse {self.inverse:#x}"]
        return ", ".join(words + [f"-m {match}" for match in self.matches] + [f"-j {self.target}"])

    def hooks(self):
        if self.chain != "user":
            return {HOOK_OF[self.chain]}
        # nft asks again when a chain can be reached.
        return set() if IS_NFT else {HOOK_OF[caller] for caller in self.callers}

    def asks_for_tcp(self):
        if IS_NFT:
            return self.proto == TCP and self.inverse == 0
        return self.proto == TCP and not self.inverse & 0x40

    def verdict(self):
        """Which errors it may get, and what is said of it."""
        if IS_NFT:
            # NFT_RULE_COMPAT_F_INV is the one known.
            if (self.target or self.matches) and (self.inverse & ~2 or self.proto > 0xFFFF):
                unnamed = {errno.EINVAL, errno.ERANGE, errno.ENOENT, errno.EPROTOTYPE}
                return unnamed, None
        else:
            if self.flags & ~(7 if IS_V6 else 3) or self.inverse & ~0x7F:
                return {errno.EINVAL}, None
            for extension in self.matches:
                if extension.size != 32 + aligned(len(extension.data)):
                    return {errno.EINVAL}, None
            if self.target and not 32 <= self.target.size <= 32 + aligned(len(self.target.data)):
                return {errno.EINVAL}, None
        checks = [self.unknown, self.unfit]
        # All of a rule are looked up before the first one is checked; or each by itself.
        for some in [checks[:1], checks[1:]] if IS_NFT else [checks]:
            for extension, is_target in self.extensions():
                for check in some:
                    wrong = check(extension, is_target)
                    if wrong:
                        return wrong
        return set(), None

    def extensions(self):
        return [(match, False) for match in self.matches] + [(self.target, True)] * bool(self.target)

    def unknown(self, extension, is_target):
        name, revision = extension.name, extension.revision
        known = TARGETS if is_target else MATCHES
        if len(name) > 28:
            # Not terminated.
            return {errno.EINVAL, errno.ENOENT}, None
        if revision > 255:
            return {errno.ERANGE, errno.EINVAL}, None
        if (name, revision) not in known:
            errors = {errno.ENOENT, errno.EPROTOTYPE}
            # The empty one is a verdict, and ERROR begins a chain, if it has the size of that.
            if is_target and name in (b"", b"ERROR"):
                errors |= {errno.EINVAL, errno.ELOOP} | (set() if IS_NFT else {0})
            return errors, None
        if IS_NFT and extension.length() < known[name, revision]:
            return {errno.EINVAL}, None
        return None

    def unfit(self, extension, is_target):
        wanted = (TARGETS if is_target else MATCHES)[extension.name, extension.revision]
        if not extension.has_size(wanted):
            return {errno.EINVAL}, None
        if not is_target:
            line = what_is_wrong_with_state(extension.sent())
        elif self.hooks() - {PRE_ROUTING, LOCAL_IN, FORWARD} or not self.asks_for_tcp():
            return {errno.EINVAL}, None
        else:
            line = self.what_is_wrong_with_target(extension)
        return ({errno.EINVAL}, line) if line else None

    def what_is_wrong_with_target(self, target):
        if PRE_ROUTING in self.hooks() and self.table != "raw":
            return "PREROUTING: expected the table raw"
        return what_is_wrong(target.revision, target.sent())


### The log


class Log:
    """What the module says from now on."""

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.fd, 0, os.SEEK_END)
        self.lines = self.suppressed = self.expected = 0
        self.kinds = set()

    def read(self):
        said = []
        while True:
            try:
                record = os.read(self.fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return said
            text = record.split(";", 1)[1].split("\n", 1)[0]
            suppressed = re.fullmatch(r"rust_helper_may_log: (\d+) callbacks suppressed", text)
            if suppressed:
                self.suppressed += int(suppressed[1])
            elif text.startswith("xt_SYNPROXY: "):
                said.append(text.removeprefix("xt_SYNPROXY: "))

    def compare(self, expected):
        """Those lines and no others, though some may have been suppressed; returns what is wrong."""
        self.expected += len(expected)
        rest = iter(expected)
        for line in self.read():
            self.lines += 1
            self.kinds.add(kind(line))
            if line not in rest:
                return f"the log says {line!r}; expected were {list(expected)}"
        return None


def kind(line):
    return re.sub(r"(?<![a-z])(0x)?[0-9a-f]*\d[0-9a-f]*", "N", line)


### setsockopt


class Legacy:
    """iptables' own tables."""

    SET_REPLACE, GET_INFO, GET_ENTRIES = 64, 64, 65
    GET_REVISION_MATCH, GET_REVISION_TARGET = (68, 69) if IS_V6 else (66, 67)
    FAMILY, LEVEL = (socket.AF_INET6, 41) if IS_V6 else (socket.AF_INET, 0)
    # struct ip6t_entry or ipt_entry: its length, and where in it things are.
    ENTRY, AT_PROTO, AT_FLAGS, AT_TARGET, AT_COMEFROM, AT_COUNTERS = (
        (168, 128, 131, 140, 144, 152) if IS_V6 else (112, 80, 82, 88, 92, 96)
    )
    REPLACE = struct.Struct("@32s14IP")
    ACCEPT, RETURN = -2, -5
    BATCH = 1

    def __init__(self):
        self.sock = socket.socket(self.FAMILY, socket.SOCK_RAW, 255)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.counters = ctypes.create_string_buffer(16 * 65536)
        self.tables = [table for table in TABLES if self.info(table)]

    def prepare(self):
        """iptables has made them."""

    def getsockopt(self, option, request, length=None):
        """The result and what was written over the request."""
        buffer = ctypes.create_string_buffer(request, length or len(request))
        size = ctypes.c_uint(len(buffer))
        result = self.libc.getsockopt(self.sock.fileno(), self.LEVEL, option, buffer, ctypes.byref(size))
        return (-ctypes.get_errno() if result < 0 else result), buffer.raw

    def setsockopt(self, option, blob):
        try:
            self.sock.setsockopt(self.LEVEL, option, blob)
        except OSError as error:
            return error.errno
        return 0

    def info(self, table):
        """Number of entries and size; None if there is no such table."""
        result, raw = self.getsockopt(self.GET_INFO, struct.pack("32s13I", table.encode(), *[0] * 13))
        return None if result < 0 else struct.unpack("32s13I", raw)[-2:]

    def entries(self, table):
        size = self.info(table)[1]
        result, raw = self.getsockopt(self.GET_ENTRIES, struct.pack("32sI4x", table.encode(), size), 40 + size)
        assert result == 0, (table, result)
        return raw[40:]

    def entry(self, target, matches=b"", proto=0, flags=0, inverse=0):
        target = padded(target)
        at = self.ENTRY + len(matches)
        head = bytearray(self.ENTRY)
        struct.pack_into("=H", head, self.AT_PROTO, proto & 0xFFFF)
        struct.pack_into("=BB", head, self.AT_FLAGS, flags, inverse)
        struct.pack_into("=HH", head, self.AT_TARGET, at, min(at + len(target), 0xFFFF))
        return bytes(head) + matches + target

    def extension(self, extension):
        return (
            struct.pack("=H29sB", extension.size & 0xFFFF, extension.name[:29], extension.revision & 0xFF)
            + padded(extension.data)
        )

    def standard(self, verdict, **more):
        return self.entry(struct.pack("=H29sBi", 40, b"", 0, verdict), **more)

    def error(self, name):
        return self.entry(struct.pack("=H29sB30s", 64, b"ERROR", 0, name))

    def rule(self, case):
        return self.entry(
            self.extension(case.target) if case.target else struct.pack("=H29sBi", 40, b"", 0, self.ACCEPT),
            b"".join(self.extension(match) for match in case.matches),
            case.proto,
            case.flags,
            case.inverse,
        )

    def blob(self, cases, table):
        """A table that has these rules, each in its chain, and nothing else."""
        chains = {}
        for case in cases:
            chains.setdefault(case.chain, []).append(self.rule(case))
        callers = {caller for case in cases for caller in case.callers}
        # Where the user chain begins has to be known by those who call it.
        jump = len(self.standard(0))
        user = jump * len(callers) + sum(
            sum(map(len, chains.get(chain, []))) + jump for chain in TABLES[table]
        ) + len(self.error(b"user"))
        entries, at, hooks, underflows, valid = [], 0, [0] * 5, [0] * 5, 0
        for chain in TABLES[table]:
            hook = HOOK_OF[chain]
            valid |= 1 << hook
            hooks[hook] = at
            calls = [self.standard(user)] if chain in callers else []
            rules = calls + chains.get(chain, [])
            underflows[hook] = at + sum(map(len, rules))
            rules.append(self.standard(self.ACCEPT))
            entries += rules
            at += sum(map(len, rules))
        if "user" in chains:
            entries += [self.error(b"user"), *chains["user"], self.standard(self.RETURN)]
        entries.append(self.error(b"ERROR"))
        number = self.info(table)[0]
        blob = b"".join(entries)
        return (
            self.REPLACE.pack(
                table.encode(), valid, len(entries), len(blob), *hooks, *underflows, number,
                ctypes.addressof(self.counters),
            )
            + blob
        )

    def walk(self, entries):
        """Each entry, its matches and its target, as (start, name, revision, data)."""
        at = 0
        while at < len(entries):
            to_target, length = struct.unpack_from("=HH", entries, at + self.AT_TARGET)
            parts, part = [], at + self.ENTRY
            while part <= at + to_target:
                size, name, revision = struct.unpack_from("=H29sB", entries, part)
                parts.append((part, name.split(b"\0")[0], revision, entries[part + 32 : part + size]))
                part += size
            yield at, parts[:-1], parts[-1]
            at += length

    def normal(self, entries):
        """Without what the kernel counts and notes, and behind each extension's end."""
        out = bytearray(entries)
        for at, matches, target in self.walk(entries):
            if IS_V6 and out[at + self.AT_PROTO : at + self.AT_PROTO + 2] != b"\0\0":
                out[at + self.AT_FLAGS] |= 1
            out[at + self.AT_COMEFROM : at + self.AT_COMEFROM + 4] = bytes(4)
            out[at + self.AT_COUNTERS : at + self.AT_COUNTERS + 16] = bytes(16)
            for known, parts in ((MATCHES, matches), (TARGETS, [target])):
                for start, name, revision, data in parts:
                    end = start + 32 + known.get((name, revision), len(data))
                    out[end : start + 32 + len(data)] = bytes(start + 32 + len(data) - end)
            slack = target[0] + 32 + len(target[3])
            following = at + struct.unpack_from("=H", entries, at + self.AT_TARGET + 2)[0]
            out[slack:following] = bytes(following - slack)
        return bytes(out)

    def insert(self, cases):
        """The error of each, and what of it is read back wrongly."""
        [case] = cases
        blob = self.blob(cases, case.table)
        error = self.setsockopt(self.SET_REPLACE, blob)
        wrong = None
        if error == 0:
            sent, got = self.normal(blob[self.REPLACE.size :]), self.normal(self.entries(case.table))
            if sent != got:
                at = next((at for at, (one, other) in enumerate(zip(sent, got)) if one != other), 0)
                wrong = f"from byte {at} of {len(sent)} on: {sent[at : at + 80].hex()}, {got[at : at + 80].hex()}"
        return [(error, wrong)]

    def clean(self):
        for table in self.tables:
            error = self.setsockopt(self.SET_REPLACE, self.blob([], table))
            assert error == 0, (table, error)

    def mutant(self, rng, case):
        """Of a good rule's table, with any bytes changed."""
        blob = bytearray(self.blob([case], case.table))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            # Of the head: what says where things are. The number of entries is kept small, and that of
            # counters right, or the kernel allocates what it is asked to.
            at = rng.randrange(32, len(blob))
            if 36 <= at < 40:
                struct.pack_into("=H", blob, 36, rng.choice((0, 1, 5, 6, 0xFFFF, rng.randrange(65536))))
            elif not 84 <= at < 96:
                mutate(rng, blob, at)
        return bytes(blob)

    def insert_mutants(self, rng, cases):
        """The error of each, and what is there that must not be."""
        for case in cases:
            error = self.setsockopt(self.SET_REPLACE, self.mutant(rng, case))
            yield error, (self.unsound(case.table) if error == 0 else None)

    def unsound(self, table):
        entries = self.entries(table)
        for at, matches, (_, name, revision, data) in self.walk(entries):
            for _, match, number, state in matches:
                if (match, number) not in MATCHES or what_is_wrong_with_state(state):
                    return f"-m {match!r}.{number} {state.hex()}"
            if name != b"SYNPROXY":
                continue
            hooks = struct.unpack_from("=I", entries, at + self.AT_COMEFROM)[0]
            proto, = struct.unpack_from("=H", entries, at + self.AT_PROTO)
            flags, inverse = struct.unpack_from("=BB", entries, at + self.AT_FLAGS)
            if (
                what_is_wrong(revision, data)
                or hooks & ~7
                or (hooks & 1 and table != "raw")
                or proto != TCP
                or inverse & 0x40
                or (IS_V6 and not flags & 1)
            ):
                return f"hooks {hooks:#x} proto {proto} flags {flags:#x} {inverse:#x} {revision} {data.hex()}"
        return None

    def revision(self, name, revision, is_target):
        """The best one there is, if it is told, or an error."""
        option = self.GET_REVISION_TARGET if is_target else self.GET_REVISION_MATCH
        return self.getsockopt(option, struct.pack("29sB", name, revision))[0]


### Netlink


def attribute(kind, data):
    return padded4(struct.pack("=HH", 4 + len(data), kind) + data)


def padded4(data):
    return data + bytes(-len(data) % 4)


def attributes(data):
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


class Nft:
    """nf_tables' rules with targets and matches of x_tables."""

    BATCH = 50
    PF = 10 if IS_V6 else 2
    NAME = "ip6" if IS_V6 else "ip"
    NFT, COMPAT = 10 << 8, 11 << 8
    NEWRULE, GETRULE, DELRULE = 6, 7, 8
    BEGIN, END = 0x10, 0x11
    REQUEST, ACK, DUMP, CREATE, APPEND = 1, 4, 0x300, 0x400, 0x800

    def __init__(self):
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.sock.bind((0, 0))
        self.sock.settimeout(LIMIT)
        self.seq = 0
        self.tables = list(TABLES)
        self.nft = Library()

    def prepare(self):
        """Tables like those of iptables."""
        for table, chains in TABLES.items():
            kind, priority = ("nat", 0) if table == "nat" else ("filter", -300 if table == "raw" else 0)
            script = f"table {self.NAME} {table} {{ chain user {{ }}\n"
            for chain in chains:
                script += f"chain {chain} {{ type {kind} hook {chain.lower()} priority {priority}; }}\n"
            error = self.nft(script + "}")
            assert not error, error

    def message(self, kind, flags, body, family=None, resource=0):
        self.seq += 1
        payload = struct.pack("=BBH", self.PF if family is None else family, 0, socket.htons(resource)) + body
        return padded4(struct.pack("=IHHII", 16 + len(payload), kind, self.REQUEST | flags, self.seq, 0) + payload)

    def ask(self, message, until):
        """Sends, and reads messages until there is one of a kind that "until" takes."""
        self.sock.send(message)
        while True:
            raw = self.sock.recv(1 << 20)
            at = 0
            while at < len(raw):
                length, kind, _, seq, _ = struct.unpack_from("=IHHII", raw, at)
                if until(kind, seq, raw[at + 16 : at + length]):
                    return
                at += (length + 3) & ~3

    def batch(self, messages, complete=True):
        """The errors, by message; that of the last one is the batch's own."""
        begin = self.message(self.BEGIN, 0, b"", 0, 10)
        made = []
        for kind, body, *family in messages:
            flags = self.ACK | self.CREATE | (self.APPEND if kind == self.NEWRULE else 0)
            made.append((self.seq + 1, self.message(self.NFT | kind, flags, body, *family)))
        # Whoever answers this one has answered the others: it is no part of the batch.
        last = self.seq + 2
        end = self.message(self.END, 0, b"", 0, 10) if complete else b""
        self.seq = last - 1
        fence = self.message(self.COMPAT, self.ACK, b"")
        errors = {}

        def note(kind, seq, payload):
            if kind == 2:
                errors.setdefault(seq, -struct.unpack_from("=i", payload)[0])
            return seq == last

        self.sock.send(begin + b"".join(raw for _, raw in made) + end)
        self.ask(fence, note)
        whole = errors.get(made[0][0] - 1, 0)
        return [errors.get(seq, 0) for seq, _ in made] + [whole]

    def expression(self, name, extension, **more):
        length = extension.length()
        data = (
            attribute(1, more.get("name", extension.name + b"\0"))
            + attribute(2, struct.pack("!I", extension.revision))
            + attribute(3, extension.sent())
        )
        return attribute(1, attribute(1, name + b"\0") + attribute(2, data))

    def rule(self, case):
        expressions = b"".join(self.expression(b"match", match) for match in case.matches)
        if case.target:
            expressions += self.expression(b"target", case.target)
        body = attribute(1, case.table.encode() + b"\0") + attribute(2, case.chain.encode() + b"\0")
        body += attribute(4, expressions)
        if case.proto or case.inverse:
            compat = attribute(1, struct.pack("!I", case.proto)) + attribute(2, struct.pack("!I", case.inverse))
            body += attribute(5, compat)
        return body

    def dump(self, table):
        """The expressions of each rule, by chain."""
        rules = []

        def note(kind, _, payload):
            if kind == self.NFT | self.NEWRULE:
                found = dict(attributes(payload[4:]))
                rules.append((found[1][:-1].decode(), found[2][:-1].decode(), found.get(4, b"")))
            assert kind != 2, payload
            return kind == 3

        body = attribute(1, table.encode() + b"\0")
        self.ask(self.message(self.NFT | self.GETRULE, self.DUMP, body), note)
        return rules

    def read_back(self, expressions):
        """As extensions."""
        for _, element in attributes(expressions):
            parts = dict(attributes(element))
            if parts[1] in (b"match\0", b"target\0"):
                data = dict(attributes(parts[2]))
                yield parts[1] == b"target\0", data[1][:-1], int.from_bytes(data[2], "big"), data[3]

    def as_read(self, case):
        for extension, is_target in case.extensions():
            name, revision = extension.name, extension.revision
            size = (TARGETS if is_target else MATCHES)[name, revision]
            yield is_target, name, revision, padded(extension.sent()[:size])

    def insert(self, cases):
        errors = self.batch([(self.NEWRULE, self.rule(case)) for case in cases])
        whole = errors.pop()
        results = [(error, None) for error in errors]
        good = [case for case, error in zip(cases, errors) if error == 0]
        if good and len(good) < len(cases):
            again = self.batch([(self.NEWRULE, self.rule(case)) for case in good])
            whole = next((error for error in again if error), 0)
        if whole:
            return [(error or whole, None) for error in errors]
        for table in {case.table for case in good}:
            got = {}
            for _, chain, expressions in self.dump(table):
                got.setdefault(chain, []).append(list(self.read_back(expressions)))
            for at, case in enumerate(cases):
                if errors[at] == 0 and case.table == table:
                    sent, read = list(self.as_read(case)), got[case.chain].pop(0)
                    if sent != read:
                        results[at] = 0, f"sent {sent}\nread {read}"
        if good:
            self.clean()
        return results

    def clean(self):
        deletions = [(self.DELRULE, attribute(1, table.encode() + b"\0")) for table in self.tables]
        errors = self.batch(deletions)
        assert not any(errors), errors

    def insert_mutants(self, rng, cases):
        made = []
        for case in cases:
            body = bytearray(self.rule(case))
            for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
                mutate(rng, body, rng.randrange(len(body)))
            made.append(bytes(body))
        errors = self.batch([(self.NEWRULE, body) for body in made])[:-1]
        good = [body for body, error in zip(made, errors) if error == 0]
        wrong = None
        if good:
            # What no hook may reach shows now.
            again = self.batch([(self.NEWRULE, body) for body in good])
            if not any(again):
                wrong = next(filter(None, map(self.unsound, self.tables)), None)
                self.clean()
        for error in errors:
            yield error, wrong
            wrong = None

    def unsound(self, table):
        for _, chain, expressions in self.dump(table):
            for is_target, name, revision, data in self.read_back(expressions):
                if is_target:
                    wrong = what_is_wrong(revision, data) or chain in ("OUTPUT", "POSTROUTING")
                    wrong = wrong or (chain == "PREROUTING" and table != "raw")
                else:
                    wrong = what_is_wrong_with_state(data)
                if wrong:
                    return f"{table} {chain}: {name!r}.{revision} {data.hex()}"
        return None

    def revision(self, name, revision, is_target):
        body = attribute(1, name + b"\0") + attribute(2, struct.pack("!I", revision))
        body += attribute(3, struct.pack("!I", is_target))
        got = []

        def note(kind, _, payload):
            if kind == 2:
                got.append(struct.unpack_from("=i", payload)[0])
            else:
                got.append(int.from_bytes(dict(attributes(payload[4:]))[2], "big"))
            return True

        self.ask(self.message(self.COMPAT, 0, body), note)
        return got[0]


class Library:
    """nft in this process: to start it takes longer than what it does."""

    def __init__(self):
        self.lib = ctypes.CDLL("libnftables.so.1")
        self.lib.nft_ctx_new.restype = ctypes.c_void_p
        self.lib.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self.context = ctypes.c_void_p(self.lib.nft_ctx_new(0))
        self.lib.nft_ctx_buffer_error(self.context)

    def __call__(self, script):
        """What it has against a script."""
        if self.lib.nft_run_cmd_from_buffer(self.context, script.encode()) == 0:
            return None
        return self.lib.nft_ctx_get_error_buffer(self.context).decode()


def mutate(rng, blob, at):
    how = rng.randrange(4)
    if how == 0:
        blob[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        blob[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    else:
        form = struct.Struct("=H" if how == 2 else "=I")
        at = min(at, len(blob) - form.size) & ~(form.size - 1)
        value, = form.unpack_from(blob, at)
        top = (1 << 8 * form.size) - 1
        edges = (0, 1, 8, top, top >> 1, (top >> 1) + 1, value + 1, value - 1, value + 8, value - 8)
        form.pack_into(blob, at, rng.choice(edges) & top)


### What is tried


class Trial:
    """Inserts rules, and keeps account of what comes of it."""

    def __init__(self):
        self.backend = Nft() if IS_NFT else Legacy()
        assert "filter" in self.backend.tables
        self.log = Log()
        self.wrong = []
        self.errors = {}

    def complain(self, text):
        self.wrong.append(text)

    def note(self, error):
        self.errors[error] = self.errors.get(error, 0) + 1

    def cases(self, cases):
        cases = [case for case in cases if case.table in self.backend.tables]
        step = self.backend.BATCH
        for start in range(0, len(cases), step):
            self.some(cases[start : start + step])
        return self

    def some(self, cases):
        lines = []
        for case, (error, misread) in zip(cases, self.backend.insert(cases)):
            self.note(error)
            allowed, line = case.verdict()
            if error not in (allowed or {0}):
                wanted = "/".join(sorted(map(name_of, allowed or {0})))
                self.complain(f"{name_of(error)} instead of {wanted}: {case}")
            if misread:
                self.complain(f"read back otherwise: {case}\n{misread}")
            if line:
                lines.append(line)
        wrong = self.log.compare(lines)
        if wrong:
            self.complain(f"{wrong}; {cases if len(cases) == 1 else 'a batch'}")

    def report(self, name):
        taken = self.errors.pop(0, 0)
        errors = ", ".join(f"{name_of(error)} {count}" for error, count in sorted(self.errors.items()))
        print(f"{name}: {taken + sum(self.errors.values())} tried, {taken} taken; refused: {errors or 'none'}")
        self.errors = {}

    def settle(self):
        """Has the log say how much it has kept to itself."""
        log, lines = self.log, self.log.lines
        limit = time.monotonic() + LIMIT
        while log.lines + log.suppressed < log.expected and time.monotonic() < limit:
            self.some([Case(target(0, mss=0))])
            if log.lines > lines:
                break
            time.sleep(0.2)

    def finish(self, is_counted):
        log = self.log
        if is_counted:
            self.settle()
            if log.lines + log.suppressed != log.expected:
                self.complain(f"the log has {log.lines} lines and {log.suppressed} more; expected {log.expected}")
            print(f"log: {log.lines} lines, of {len(log.kinds)} kinds, and {log.suppressed} only counted")
        for text in self.wrong[:8]:
            print(text[:1000])
        if self.wrong:
            sys.exit(f"{len(self.wrong)} are wrong")


def name_of(error):
    return errno.errorcode.get(error, str(error)) if error else "success"


def target(revision, size=None, **fields):
    """SYNPROXY with good parameters, but for those given."""
    names = ("options", "wscale", "mss", "window", "reserved0", "timeout", "rate", "r0", "r1", "r2", "r3")
    values = dict.fromkeys(names, 0)
    values.update(options=0x1F, wscale=7, mss=1460)
    if revision == 1:
        values.update(options=0xFF, window=14600, timeout=30)
    values.update(fields)
    packed = REVISIONS[revision].pack(*[values[name] for name in names[: 11 if revision else 3]])
    return Extension(b"SYNPROXY", revision, packed, size)


def state(value, invert=0, rest=b""):
    return Extension(b"spstate", 0, bytes((value, invert)) + rest)


def systematic():
    """Each parameter at each boundary, and each single bit."""
    for revision in (0, 1):
        for options in range(256):
            yield Case(target(revision, options=options))
        # Where nothing is set, nothing is asked for but what is reserved.
        for options in (0, 0x1F, 0xFF):
            if options == 0xFF and revision == 0:
                continue
            for wscale in (*range(17), 127, 128, 255):
                yield Case(target(revision, options=options, wscale=wscale))
            for mss in edges(16):
                yield Case(target(revision, options=options, mss=mss))
        good = target(revision).data
        for bit in range(8 * len(good)):
            data = bytearray(good)
            data[bit // 8] ^= 1 << bit % 8
            yield Case(Extension(b"SYNPROXY", revision, bytes(data)))
        yield Case(Extension(b"SYNPROXY", revision, bytes(len(good))))
        yield Case(Extension(b"SYNPROXY", revision, b"\xff" * len(good)))
    for options in (0, 0xFF):
        for window in edges(16):
            yield Case(target(1, options=options, window=window))
        for timeout in (*edges(32), 3599, 3600, 3601):
            yield Case(target(1, options=options, timeout=timeout))
        for rate in (*edges(32), 9999999, 10000000, 10000001):
            yield Case(target(1, options=options, rate=rate))
    for field, bits in (("reserved0", 16), ("r0", 32), ("r1", 32), ("r2", 32), ("r3", 32)):
        for value in edges(bits)[1:]:
            yield Case(target(1, **{field: value}))
            yield Case(target(1, options=0, **{field: value}))
    for value in range(256):
        yield Case(matches=[state(value)])
        yield Case(matches=[state(1, value)])
    for rest in (b"\0\0\0\0\0\1", b"\xff" * 6):
        # Behind their end there is nothing.
        yield Case(matches=[state(2, 1, rest)])
        yield Case(Extension(b"SYNPROXY", 0, target(0).data + rest[:4]))


def edges(bits):
    top = (1 << bits) - 1
    return [0, 1, *(1 << bit for bit in range(1, bits)), top >> 1, top - 1, top]


NAMES = [b"", b"ERROR", b"synproxy", b"SynProxy", b"SYNPROX", b"SYNPROXY ", b"SYNPROXY\x01", b"SYNPROXYSYNPROXY"]
NAMES += [b"SPSTATE", b"spstat", b"spstate.", b"\xff" * 8, b"%s%n%x", b"../x"]
NAMES += [b"S" * 28, b"S" * 29, b"SYNPROXY" + b"\x01" * 21]


def shapes():
    """Sizes, revisions, names, protocols and places."""
    for revision in (0, 1):
        wanted = 32 + aligned(len(target(revision).data))
        sizes = {0, 1, 8, 31, 32, 33, 36, 40, 47, 48, 63, 64, 65, 72, 128, 4096, 0x7FFF, 0x8000, 0xFFF8, 0xFFFF}
        for size in sorted(sizes | set(range(wanted - 9, wanted + 10))):
            yield Case(target(revision, size))
        for length in (0, 1, 3, 4, 5, 8, 9, 16, 31, 32, 33, 40, 64, 100, 1000):
            data = (target(revision).data + bytes(1000))[:length]
            yield Case(Extension(b"SYNPROXY", revision, data))
            # The size is that of good ones, and more, or less, is there.
            yield Case(Extension(b"SYNPROXY", revision, data, wanted))
    for size in (0, 1, 8, 31, 32, 33, 34, 39, 40, 41, 47, 48, 72, 4096, 0x7FFF, 0x8000, 0xFFFF):
        yield Case(matches=[Extension(b"spstate", 0, b"\1\0", size)])
    for length in (0, 1, 2, 3, 7, 8, 9, 16, 32, 100):
        yield Case(matches=[Extension(b"spstate", 0, bytes(length))])
    for revision in (0, 1, 2, 3, 127, 128, 254, 255):
        for data in (target(0).data, target(1).data, bytes(8)):
            yield Case(Extension(b"SYNPROXY", revision, data))
        yield Case(matches=[Extension(b"spstate", revision, b"\1\0")])
    if IS_NFT:
        for revision in (256, 65536, 1 << 31, (1 << 32) - 1):
            yield Case(Extension(b"SYNPROXY", revision, target(1).data))
            yield Case(matches=[Extension(b"spstate", revision, b"\1\0")])
    for name in NAMES:
        for data in (target(0).data, target(1).data):
            yield Case(Extension(name, 0, data))
            yield Case(matches=[Extension(name, 0, data)])
    yield Case(Extension(b"spstate", 0, b"\1\0"))
    yield Case(matches=[Extension(b"SYNPROXY", 0, target(0).data)])
    for proto in (*range(257), 0x600, 0x606, 0x8006, 0xFFFF, *([65536 + TCP, 1 << 31] if IS_NFT else [])):
        yield Case(target(1), proto=proto)
    for bit in range(8):
        yield Case(target(0), flags=1 << bit)
        yield Case(target(1), inverse=1 << bit)
        yield Case(target(0), flags=0xFF & ~(1 << bit), inverse=0xFF & ~(1 << bit))
    yield Case(target(0), flags=0)
    for table, chains in TABLES.items():
        for revision in (0, 1):
            for chain in (*chains, "user"):
                yield Case(target(revision), table=table, chain=chain)
                yield Case(target(revision, mss=0), table=table, chain=chain)
        for chain in (*chains, "user"):
            for value in range(4):
                yield Case(matches=[state(value)], table=table, chain=chain)
        if not IS_NFT:
            for mask in range(1, 1 << len(chains)):
                callers = [chain for bit, chain in enumerate(chains) if mask & 1 << bit]
                yield Case(target(1), table=table, chain="user", callers=callers)
                yield Case(matches=[state(2)], table=table, chain="user", callers=callers)
    for match in (state(0), state(1, 1), state(3), state(0, 2), Extension(b"spstate", 1, b"\0\0")):
        for revision, mss in ((0, 1460), (1, 1460), (0, 0), (1, 0)):
            # The first that is wrong is what is said, and only that.
            yield Case(target(revision, mss=mss), [match])
            yield Case(target(revision, mss=mss), [state(0), match])
            yield Case(target(revision, mss=mss), [match] * 3)


def at_random(rng):
    """Something wrong here and there, in about two rules of three."""

    def rarely(usual, other, one_in=12):
        return other() if rng.randrange(one_in) == 0 else usual

    def parameters(revision):
        top = (1 << 32) - 1
        some = lambda bits: rng.choice(edges(bits)) if rng.randrange(2) else rng.getrandbits(bits)  # noqa: E731
        fields = {
            "options": rarely(rng.getrandbits(8 if revision else 5), lambda: rng.getrandbits(8), 4),
            "wscale": rarely(rng.randrange(15), lambda: some(8)),
            "mss": rarely(1460, lambda: some(16), 3),
        }
        if revision:
            fields["window"] = rarely(14600, lambda: some(16), 3)
            fields["timeout"] = rarely(rng.randrange(1, 3601), lambda: some(32), 6)
            fields["rate"] = rarely(0, lambda: rng.choice((rng.randrange(10000001), some(32))), 3)
            if rng.randrange(10) == 0:
                fields[rng.choice(("reserved0", "r0", "r1", "r2", "r3"))] = 1 << rng.randrange(16)
        return fields

    def extension(made, sizes):
        made.size = rarely(made.size, lambda: rng.choice((*sizes, rng.randrange(200), rng.getrandbits(16))), 25)
        made.revision = rarely(made.revision, lambda: rng.randrange(256), 25)
        made.name = rarely(made.name, lambda: rng.choice((*NAMES[2:], rng.randbytes(6).replace(b"\0", b"x"))), 40)
        return made

    table = rng.choice(("filter", "filter", "filter", *TABLES))
    # Most stand where they may.
    chains = [chain for chain in TABLES[table] if chain in ("INPUT", "FORWARD")]
    if table == "raw":
        chains = ["PREROUTING"]
    callers = ()
    chain = rarely(rng.choice(chains or ["user"]), lambda: rng.choice((*TABLES[table], "user")), 6)
    if chain == "user" and not IS_NFT:
        callers = rng.sample(TABLES[table], rng.randrange(len(TABLES[table]) + 1))
    matches = []
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        some = [rarely(rng.randrange(end), lambda: rng.randrange(256)) for end in (3, 2)]
        matches.append(extension(state(*some), (0, 32, 40, 48)))
    revision = rng.randrange(2)
    return Case(
        rarely(extension(target(revision, **parameters(revision)), (0, 32, 36, 40, 48, 64, 72)), lambda: None, 8),
        matches,
        table,
        chain,
        callers,
        proto=rarely(TCP, lambda: rng.choice((0, 1, 17, 256 + TCP, rng.randrange(65536))), 15),
        flags=rarely(1 if IS_V6 else 0, lambda: rng.randrange(256), 25),
        inverse=rarely(0, lambda: rng.randrange(256), 25),
    )


### Scenarios


def prepare():
    """Before modules cannot be loaded any more. Prints which tables there are not."""
    backend = Nft() if IS_NFT else Legacy()
    backend.prepare()
    for table in set(TABLES) - set(backend.tables):
        print(table)


def without_errors(trial):
    """Good rules only."""
    trial.cases([case for case in systematic() if not case.verdict()[0]])


def refused(trial):
    """Bad rules only."""
    trial.cases([case for case in systematic() if case.verdict()[0]])


def all_kinds(trial):
    """Each thing that the module can say is said once, and in as many words."""
    cases = {}
    for case in (*systematic(), *shapes()):
        line = case.verdict()[1]
        if line and case.table in trial.backend.tables:
            cases.setdefault(kind(line), case)
    limit = time.monotonic() + LIMIT
    for wanted, case in cases.items():
        while wanted not in trial.log.kinds and time.monotonic() < limit:
            trial.some([case])
            if wanted not in trial.log.kinds:
                time.sleep(0.2)
        if wanted not in trial.log.kinds:
            trial.complain(f"never said: {wanted}")
    print("\n".join(sorted(trial.log.kinds)))


def shaped(trial):
    """Sizes, names, revisions, protocols, chains."""
    trial.cases(shapes())


def randomly(trial):
    """Any of these at once."""
    print(f"BLOBS={BLOBS} BLOBS_SEED={SEED}")
    rng = random.Random(SEED)
    for _ in range(0, BLOBS, 1000):
        trial.cases([at_random(rng) for _ in range(min(BLOBS, 1000))])


def wildly(trial):
    """Bytes of what is good are changed, wherever they are: what is taken then must still be good."""
    print(f"BLOBS={BLOBS} BLOBS_SEED={SEED}")
    rng = random.Random(SEED)
    places = [("filter", "INPUT"), ("filter", "user"), ("raw", "PREROUTING"), ("mangle", "FORWARD")]
    places = [place for place in places if place[0] in trial.backend.tables]
    known = {kind(line) for case in (*systematic(), *shapes()) for line in [case.verdict()[1]] if line}
    step = trial.backend.BATCH
    for _ in range(0, BLOBS, step):
        cases = []
        for _ in range(step):
            table, chain = rng.choice(places)
            callers = [rng.choice(TABLES[table][:2])] if chain == "user" and not IS_NFT else []
            matches = [state(rng.randrange(3))] * rng.randrange(3)
            cases.append(Case(target(rng.randrange(2)), matches, table, chain, callers))
        for error, unsound in trial.backend.insert_mutants(rng, cases):
            trial.note(error)
            if error and error not in errno.errorcode:
                trial.complain(f"error {error}")
            if unsound:
                trial.complain(f"was taken: {unsound}")
        for line in trial.log.read():
            if kind(line) not in known:
                trial.complain(f"the log says {line!r}")


def users():
    with open("/sys/module/xt_SYNPROXY/refcnt", encoding="ascii") as file:
        return int(file.read())


def aborted(trial):
    """A bad rule takes those before it, and behind it, along."""
    backend = trial.backend
    good = [
        Case(target(0)),
        Case(target(1)),
        Case(target(0), [state(1)], chain="FORWARD"),
        Case(matches=[state(2, 1)], chain="OUTPUT"),
    ] * 5
    bad = [
        Case(target(0, mss=0)),
        Case(target(1, r3=1)),
        Case(target(1), chain="OUTPUT"),
        Case(target(1, 63)),
        Case(target(1), proto=17),
        Case(target(1), [state(1), state(2), state(3)]),
        Case(Extension(b"SYNPROXY", 2, target(1).data)),
        Case(Extension(b"synproxy", 0, target(0).data)),
    ]
    before = users()
    for case in bad:
        for at in (0, len(good) // 2, len(good)):
            cases = good[:at] + [case] + good[at:]
            allowed, line = case.verdict()
            if IS_NFT:
                errors = backend.batch([(backend.NEWRULE, backend.rule(case)) for case in cases])
                error = errors.pop(at)
                if any(errors):
                    trial.complain(f"{errors} of good rules beside {case}")
            else:
                error = backend.setsockopt(backend.SET_REPLACE, backend.blob(cases, "filter"))
            trial.note(error)
            if error not in allowed:
                trial.complain(f"{name_of(error)}: {case}")
            wrong = trial.log.compare([line] if line else [])
            if wrong:
                trial.complain(f"{wrong}: {case}")
            wait_until(lambda: users() == before)
            if users() != before:
                trial.complain(f"{users() - before} references are left by {case}")
    if IS_NFT:
        add = lambda case: (backend.NEWRULE, backend.rule(case))  # noqa: E731
        rules = [add(case) for case in good]
        name = attribute(1, b"blobs\0")
        made = [(0, name), (3, name + attribute(3, b"user\0"))]
        made += [add(Case(target(1), table="blobs", chain="user"))] * 3
        transactions = {
            "no end": (rules, False),
            "a table that is not there": (rules + [add(Case(target(0), table="none"))], True),
            "a chain that is not there": (rules + [add(Case(target(0), chain="none"))], True),
            "a message that does not exist": (rules + [(0xFE, b"")], True),
            "of another subsystem": (rules + [((1 << 8) ^ (10 << 8), b"")], True),
            "a table made and deleted": (made + [(2, name)], True),
            "a table made, then an error": (made + [(2, attribute(1, b"none\0"))], True),
            "rules and all rules deleted": (rules + [(backend.DELRULE, attribute(1, b"filter\0"))], True),
        }
        for what, (messages, complete) in transactions.items():
            errors = backend.batch(messages, complete)
            wanted = "error" in what or "not" in what or "another" in what
            if any(errors) != wanted:
                trial.complain(f"{what}: {list(map(name_of, errors))}")
            trial.note(next(filter(None, errors), 0))
            wait_until(lambda: users() == before)
            if users() != before or backend.dump("filter"):
                trial.complain(f"{what}: {users() - before} references are left")
        if backend.nft(f"delete table {backend.NAME} blobs") is None:
            trial.complain("a table is left")
    else:
        blob = backend.blob(good, "filter")
        error = backend.setsockopt(backend.SET_REPLACE, blob)
        trial.note(error)
        if error or backend.normal(backend.entries("filter")) != backend.normal(blob[backend.REPLACE.size :]):
            trial.complain(f"{name_of(error)}: {len(good)} good rules at once")
        backend.clean()
        # What is wrong is found behind all checks of ours.
        blob = backend.blob(good, "filter")
        for at, value in ((32, 0x1F), (84, backend.info("filter")[0] + 1), (84, 0), (36, len(good)), (40, 8)):
            changed = bytearray(blob)
            struct.pack_into("=I", changed, at, value)
            error = backend.setsockopt(backend.SET_REPLACE, bytes(changed))
            trial.note(error)
            if not error or users() != before:
                trial.complain(f"{value:#x} at {at}: {name_of(error)}, {users() - before} references are left")
        for length in (0, 1, 95, 96, 97, len(blob) // 2, len(blob) - 1):
            error = backend.setsockopt(backend.SET_REPLACE, blob[:length])
            trial.note(error)
            if not error or users() != before:
                trial.complain(f"{length} bytes: {name_of(error)}, {users() - before} references are left")


def wait_until(condition):
    limit = time.monotonic() + LIMIT
    while not condition() and time.monotonic() < limit:
        time.sleep(0.01)


def revisions(trial):
    """Which revisions there are."""
    for name in (b"SYNPROXY", b"spstate", *NAMES):
        for is_target in (True, False):
            known = [number for known, number in (TARGETS if is_target else MATCHES) if known == name[:28]]
            for revision in range(256) if known else (0, 1, 255):
                got = trial.backend.revision(name, revision, is_target)
                if revision in known:
                    # getsockopt() keeps the best one to itself.
                    wanted = {max(known) if IS_NFT else 0}
                elif known:
                    wanted = {-errno.EPROTONOSUPPORT}
                elif name in (b"", b"ERROR"):
                    # Of x_tables itself.
                    wanted = {0, -errno.EPROTONOSUPPORT, -errno.ENOENT}
                else:
                    wanted = {-errno.ENOENT} | ({-errno.EINVAL} if len(name) > 28 else set())
                if got not in wanted:
                    trial.complain(f"{name!r}.{revision}: {got}, wanted {wanted}")
                trial.note(-min(got, 0))


def malformed(trial):
    """Netlink attributes that are missing, come twice, or have other lengths."""
    backend = trial.backend
    parts = {1: b"SYNPROXY\0", 2: struct.pack("!I", 1), 3: target(1).data}
    match = {1: b"spstate\0", 2: bytes(4), 3: b"\1\0"}
    compat = {1: struct.pack("!I", TCP), 2: bytes(4)}

    def rule(parts, compat, name=b"target\0"):
        data = b"".join(attribute(kind, value) for kind, value in parts)
        expression = attribute(1, attribute(1, name) + attribute(2, data))
        body = attribute(1, b"filter\0") + attribute(2, b"INPUT\0") + attribute(4, expression)
        return body + attribute(5, b"".join(attribute(kind, value) for kind, value in compat))

    tried = []
    for name, good in ((b"target\0", parts), (b"match\0", match)):
        whole = list(good.items())
        for kind in good:
            others = [(number, value) for number, value in whole if number != kind]
            tried.append((False, rule(others, compat.items(), name)))
            for value in (b"", b"\0", b"x", b"x" * 29, b"x" * 30, b"x" * 200, b"\xff" * 3, b"\xff" * 5, bytes(3)):
                if not (name == b"match\0" and kind == 3 and 2 <= len(value) <= 8):
                    tried.append((False, rule(others + [(kind, value)], compat.items(), name)))
            # The last one counts.
            tried.append((True, rule([(kind, b"\1")] + whole, compat.items(), name)) if kind == 3 else None)
        tried.append((True, rule(whole + [(9, b"\xff" * 9)], compat.items(), name)))
        tried.append((True, rule(whole[::-1], compat.items(), name)))
        tried.append((False, rule([], compat.items(), name)))
    for some in ([], [(1, compat[1])], [(2, compat[2])]):
        tried.append((False, rule(parts.items(), some)))
    for value in (b"", b"\6", b"\0\6", bytes(4), struct.pack("=I", TCP), struct.pack("!I", 65536 + TCP)):
        tried.append((False, rule(parts.items(), [(1, value), (2, compat[2])])))
    for bit in range(32):
        tried.append((False, rule(parts.items(), [(1, compat[1]), (2, struct.pack("!I", 1 << bit))])))
    before = users()
    for good, body in filter(None, tried):
        errors = backend.batch([(backend.NEWRULE, body)])
        trial.note(errors[0])
        if good == any(errors):
            trial.complain(f"{name_of(errors[0])} of {body.hex()}")
        if good:
            backend.clean()
        trial.log.read()
        wait_until(lambda: users() == before)
        if users() != before:
            trial.complain(f"{users() - before} references are left by {body.hex()}")
    for missing in (1, 2, 3):
        whole = {1: b"SYNPROXY\0", 2: bytes(4), 3: struct.pack("!I", 1)}
        del whole[missing]
        for family in (None, 0, 1, 3, 5, 7, 13, 255):
            body = b"".join(attribute(kind, value) for kind, value in whole.items())

            def note(kind, _, payload):
                if kind != 2 or struct.unpack_from("=i", payload)[0] >= 0:
                    trial.complain(f"without attribute {missing}: {kind} {payload}")
                return True

            backend.ask(backend.message(backend.COMPAT, 0, body, family), note)


HOOKS_OF_NFT = ["prerouting", "input", "forward", "output", "postrouting"]


def places(trial):
    """Families, types of chains, and ways to a chain that are not for our target."""
    backend = trial.backend
    chains = []
    for family, number in ((backend.NAME, backend.PF), ("inet", 1), ("bridge", 7)):
        chains += [(family, number, f"type filter hook {hook} priority 0", hook) for hook in HOOKS_OF_NFT]
        chains.append((family, number, "", "user"))
    for family, number in ((backend.NAME, backend.PF), ("inet", 1)):
        hooks = [hook for hook in HOOKS_OF_NFT if hook != "forward"]
        chains += [(family, number, f"type nat hook {hook} priority 0", hook) for hook in hooks]
    chains.append((backend.NAME, backend.PF, "type route hook output priority 0", "output"))
    chains.append(("inet", 1, "type filter hook ingress device eth0 priority 0", "ingress"))
    for hook in ("input", "output"):
        chains.append(("arp", 3, f"type filter hook {hook} priority 0", hook))
    for hook in ("ingress", "egress"):
        chains.append(("netdev", 5, f"type filter hook {hook} device eth0 priority 0", hook))
    for family in ("arp", "netdev"):
        chains.append((family, dict(arp=3, netdev=5)[family], "", "user"))
    for family, number, kind, hook in chains:
        error = backend.nft(f"table {family} blobs {{ chain at {{ {kind + ';' if kind else ''} }}\n}}")
        if error:
            # Not every kernel has bridges, arp, and netdev.
            print(f"left out: {family} {kind}: {error.splitlines()[0]}")
            if family in (backend.NAME, "inet") or "Could not process rule" not in error:
                trial.complain("left out")
            continue
        for extension in (target(0), target(1), state(1)):
            is_target = extension.name == b"SYNPROXY"
            if is_target and family != backend.NAME:
                wanted = errno.ENOENT
            elif is_target:
                wanted = 0 if hook in ("input", "forward", "user") else errno.EINVAL
            elif family == "arp":
                wanted = errno.EINVAL
            else:
                wanted = errno.EOPNOTSUPP if hook in ("ingress", "egress") else 0
            case = Case(extension if is_target else None, [] if is_target else [extension], "blobs", "at")
            errors = backend.batch([(backend.NEWRULE, backend.rule(case), number)])
            error = next(filter(None, errors), 0)
            trial.note(error)
            if error != wanted:
                trial.complain(f"{name_of(error)} instead of {name_of(wanted)}: {family} {kind} {case}")
            if not error:
                backend.nft(f"flush table {family} blobs")
        assert not backend.nft(f"delete table {family} blobs")
    roads(trial)
    said = set(trial.log.read())
    if not said <= {"PREROUTING: expected the table raw"}:
        trial.complain(f"the log says {said}")


def roads(trial):
    """From a chain to a user chain, before our rule is there and after it."""
    backend = trial.backend
    for table, chain, is_good in (
        ("raw", "PREROUTING", True),
        ("raw", "OUTPUT", False),
        ("mangle", "PREROUTING", False),
        ("mangle", "FORWARD", True),
        ("mangle", "POSTROUTING", False),
        ("filter", "INPUT", True),
        ("nat", "PREROUTING", False),
    ):
        at = f"{backend.NAME} {table}"
        case = Case(target(1), table=table, chain="user")
        for road, undone in (
            ([f"add rule {at} {chain} jump user"], []),
            ([f"add rule {at} {chain} goto user"], []),
            ([f"add rule {at} {chain} tcp dport vmap {{ 80 : jump user }}"], []),
            (
                [f"add chain {at} middle", f"add rule {at} {chain} jump middle", f"add rule {at} middle jump user"],
                [f"delete chain {at} middle"],
            ),
            (
                [
                    f"add map {at} ports {{ type inet_service : verdict; }}",
                    f"add rule {at} {chain} tcp dport vmap @ports",
                    f"add element {at} ports {{ 80 : jump user }}",
                ],
                [f"delete map {at} ports"],
            ),
        ):
            # The rule comes behind so many steps of the road.
            for steps in {0, len(road) - 1, len(road)}:
                taken = not (road[:steps] and backend.nft("\n".join(road[:steps])))
                taken = taken and not any(backend.batch([(backend.NEWRULE, backend.rule(case))]))
                taken = taken and not (road[steps:] and backend.nft("\n".join(road[steps:])))
                trial.note(0 if taken else errno.EINVAL)
                if taken != is_good:
                    trial.complain(f"{'taken' if taken else 'refused'}: after {steps} of {road}")
                backend.clean()
                for line in undone:
                    # It may not have been made.
                    backend.nft(line)


def lie(table, chain, revision):
    """Leaves a rule that says it is for TCP, and gets all packets."""
    backend = Nft()
    options = TIMESTAMP | MSS if revision == "0" else TIMESTAMP | MSS | DEFER
    case = Case(target(int(revision), options=options), [], table, chain)
    errors = backend.batch([(backend.NEWRULE, backend.rule(case))])
    assert not any(errors), errors


class Legacy32(Legacy):
    """The tables as a 32-bit program has them."""

    ENTRY, AT_COUNTERS = (164, 148) if IS_V6 else (112, 96)
    REPLACE = struct.Struct("=32s15I")

    def __init__(self):
        super().__init__()
        map_32bit = 0x40
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | map_32bit
        self.low = mmap.mmap(-1, 1 << 20, flags, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.low))
        # Moves its arguments to where "int $0x80" looks for them.
        code = bytes.fromhex("53 89f8 89f3 4189ca 89d1 4489d2 4489c6 4489cf cd80 5b c3")
        self.low[: len(code)] = code
        self.call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 6)(start)
        self.at = start + 4096
        self.counters = (ctypes.c_char * (1 << 19)).from_buffer(self.low, 1 << 19)

    def setsockopt(self, option, blob):
        self.low[4096 : 4096 + len(blob)] = blob
        return -self.call(366, self.sock.fileno(), self.LEVEL, option, self.at, len(blob))


def from_32_bits(trial):
    """The kernel's part of it is not there: all of this is refused."""
    backend = Legacy32()
    before = users()
    for case in systematic():
        error = backend.setsockopt(backend.SET_REPLACE, backend.blob([case], "filter"))
        trial.note(error)
        if error <= 0 or users() != before:
            trial.complain(f"{name_of(error)}: {case}")


def verdicts(path):
    """What becomes of rules of revision 0, by whatever module is there."""
    backend = Nft() if IS_NFT else Legacy()
    cases = [case for case in (*systematic(), *shapes()) if case.target and not case.matches]
    cases = [case for case in cases if case.target.revision == 0 and case.table in backend.tables]
    results = []
    for start in range(0, len(cases), backend.BATCH):
        some = cases[start : start + backend.BATCH]
        for case, (error, _) in zip(some, backend.insert(some)):
            line = case.verdict()[1]
            results.append((repr(case), case.hooks() == {PRE_ROUTING}, line and kind(line), error))
    backend.clean()
    with open(path, "w", encoding="ascii") as file:
        json.dump(results, file)


def differ(ours, theirs):
    """Where ours and the in-tree target are not of one mind, and why."""
    reasons = {}
    with open(ours, encoding="ascii") as one, open(theirs, encoding="ascii") as other:
        for (case, is_early, line, error), (_, _, _, error_of_theirs) in zip(json.load(one), json.load(other)):
            if bool(error) == bool(error_of_theirs):
                reason = "refused by both" if error else "taken by both"
            elif error:
                reason = f"taken in-tree: {line}"
            else:
                reason = "taken by ours: in PREROUTING of raw" if is_early else case
            reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        print(f"{count:6} {reason}")
    known = {
        "refused by both",
        "taken by both",
        "taken in-tree: options: unknown bits N",
        "taken in-tree: --wscale N: expected N to N",
        "taken in-tree: --mss N: expected N to N",
        "taken by ours: in PREROUTING of raw",
    }
    if set(reasons) != known:
        sys.exit(f"not as known: {set(reasons) ^ known}")


SCENARIOS = {
    "good": without_errors,
    "bad": refused,
    "kinds": all_kinds,
    "shapes": shaped,
    "random": randomly,
    "aborted": aborted,
    "revisions": revisions,
    "compat32": from_32_bits,
}
# How many lines the log should have is not known: nf_tables may begin a batch anew, and look twice.
UNCOUNTED = {"wild": wildly, "malformed": malformed, "places": places}
COMMANDS = {"prepare": prepare, "lie": lie, "verdicts": verdicts, "differ": differ}


def main(name, *arguments):
    if name in COMMANDS:
        COMMANDS[name](*arguments)
        return
    trial = Trial()
    for scenario in (name, *arguments):
        {**SCENARIOS, **UNCOUNTED}[scenario](trial)
        trial.report(scenario)
        trial.backend.clean()
    trial.finish(not {name, *arguments} & UNCOUNTED.keys())


main(*sys.argv[1:])
