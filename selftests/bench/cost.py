#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Says what a workload costs that was measured in instructions, or in time (NAME-native, smp).

    cost.py --workload NAME --family 4 --backend nft --json FILE < SAMPLES

A sample is a line: variant, chain, number of other conntrack entries, and what flood.py,
connections.py or smp.py has printed. There may be several of a variant.
"""

import argparse
import json
import platform
import statistics
import sys

VARIANTS = {
    "drop": "-j DROP in table raw; the others are above this",
    "none": "no proxy: a stateful rule (FORWARD); a listener with the stack's SYN cookies (INPUT)",
    "in-tree": "the kernel's own SYNPROXY for iptables",
    "nft": "... and for nftables",
    "xdp": "the kernel tree's xdp_synproxy in generic mode, with in-tree's rules behind it",
    "xdp-room": "... if the driver leaves 256 bytes of headroom; else they are made",
    "ours": "xt_SYNPROXY",
    "one-rule": "... with one rule in PREROUTING of the table raw",
    "gate": "... as a gate, with a rule in place of an engine",
}
BASE = "drop", "PREROUTING"
# What is said of them beside each other, and how wide.
RATIOS = [("ours", "in-tree", "ours / in-tree", 16), ("ours", "nft", "/ nft", 7),
          ("one-rule", "xdp", "one-rule / xdp", 16), ("one-rule", "xdp-room", "/ xdp-room", 12)]
# What is said of what is measured. What is indented is a part of what is above it.
KINDS = {
    "flood": {
        "flood-syn": "W1: SYN answered",
        "flood-ack": "W2: ACK dropped, stale echo",
        "flood-ack-fresh": "W2: ACK dropped, fresh echo",
        "flood-ack-plain": "W2: ACK dropped, no timestamps",
    },
    "connection": {
        "connection": "W3: connection",
        "syn": "  client's SYN",
        "ack": "  client's ACK",
        "syn-ack": "  server's SYN,ACK",
        "request": "  request",
        "answer": "  answer",
        "server-fin": "  server's FIN",
        "client-fin": "  client's FIN",
        "last-ack": "  last ACK",
    },
    "bulk": {
        "client-data": "W4: client's segment",
        "client-data-plain": "W4: client's segment, no timestamps",
        "client-data-busy": "W4: client's segment, another opens",
        "server-data": "W4: server's segment",
        "server-data-plain": "W4: server's segment, no timestamps",
        "server-data-busy": "W4: server's segment, another opens",
        "client-ack": "W4: client's ACK",
        "client-ack-plain": "W4: client's ACK, no timestamps",
        "server-ack": "W4: server's ACK",
        "server-ack-plain": "W4: server's ACK, no timestamps",
        "client-merged": "W4: client's 16 merged",
        "client-merged-plain": "W4: client's 16 merged, no timestamps",
        "server-merged": "W4: server's 16 merged",
        "server-merged-plain": "W4: server's 16 merged, no timestamps",
    },
    "crowd": {
        "flood-syn": "W6: SYN answered",
        "connection": "W6: connection",
    },
    "smp": {
        "one": "W7: SYNs, one CPU",
        "two": "W7: SYNs, two CPUs",
    },
}


def read(lines, kinds):
    """What it was in each batch for one packet, by (kind, chain, others, variant)."""
    cells = {}
    for line in lines:
        variant, chain, others, result = line.split(maxsplit=3)
        for kind, batches in json.loads(result).items():
            if kind in kinds:
                cells.setdefault((kind, chain, int(others), variant), []).extend(
                    nanoseconds / batches["batch"] for nanoseconds in batches["batches_ns"])
    return dict(sorted(cells.items(), key=lambda cell: (cell[0][2], list(kinds).index(cell[0][0]))))


class Costs:
    """What a packet costs, by (kind, chain, others, variant)."""

    def __init__(self, samples, native):
        self.samples = samples
        self.cost = {cell: typical(batches, native) for cell, batches in samples.items()}

    def base(self, cell):
        kind, _, others, _ = cell
        variant, chain = BASE
        return self.cost[kind, chain, others, variant]

    def above(self, cell):
        return self.cost[cell] - self.base(cell)

    def of(self, other, cell):
        """How much of the other variant's."""
        beside = *cell[:3], other
        return self.above(cell) / self.above(beside) if {cell, beside} <= self.cost.keys() else None

    def growth(self, cell):
        alone = *cell[:2], 0, cell[3]
        return self.above(cell) / self.above(alone) if cell[2] and self.above(alone) else None

    def speed_up(self, cell):
        """How many times as many packets two CPUs take in the same time."""
        one = "one", *cell[1:]
        return self.cost[one] / self.cost[cell] if cell[0] == "two" else None


def typical(batches, native):
    """The middle: a batch may have a tick of the clock in it. In native time other programs are in
    the way of many, and the clock is a coarse one: the mean of the fastest quarter."""
    if native:
        return statistics.mean(sorted(batches)[:len(batches) // 4])
    return statistics.median(batches)


def print_costs(costs, kinds, used, unit):
    ratios = [ratio for ratio in RATIOS if {*ratio[:2]} <= {*used}]
    print(f"\n{unit}\n{'':46}", *(f"{name:>9}" for name in used),
          *(f"{title:>{width}}" for _, _, title, width in ratios), sep="")
    for row in dict.fromkeys(cell[:3] for cell in costs.cost if (cell[3], cell[1]) != BASE):
        kind, chain, others = row
        beside = f", {others:,} others" if others else ""
        print(f"{f'{kinds[kind]}, {chain}{beside}':46}", end="")
        for name in used:
            cell = *row, name
            if name == BASE[0]:
                print(f"{costs.base(cell):>9.0f}", end="")
            else:
                print(f"{costs.above(cell):>9.0f}" if cell in costs.cost else f"{'':9}", end="")
        for name, other, _, width in ratios:
            ratio = costs.of(other, (*row, name))
            print(f"{ratio:>{width}.3f}" if ratio else " " * width, end="")
        print()
        if others:
            print(f"{'  ... of what it was without':46}", *(
                f"{costs.growth((*row, name)):>9.3f}" if (*row, name) in costs.cost else f"{'':9}"
                for name in used), sep="")


def print_speed_up(costs, kinds, used):
    print(f"\nNanoseconds for each packet\n{'':46}", *(f"{name:>9}" for name in used), sep="")
    for kind, title in kinds.items():
        cells = {cell[3]: cell for cell in costs.cost if cell[0] == kind}
        print(f"{title:46}", *(f"{costs.cost[cells[name]]:>9.0f}" for name in used), sep="")
    print(f"{'  ... how many times as many':46}",
          *(f"{costs.speed_up(cells[name]):>9.2f}" for name in used), sep="")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload")
    parser.add_argument("--family", type=int)
    parser.add_argument("--backend")
    parser.add_argument("--json")
    args = parser.parse_args()

    kinds = KINDS[args.workload.removesuffix("-native")]
    native = args.workload == "smp" or args.workload.endswith("-native")
    unit = "ns" if native else "instructions"
    costs = Costs(read(sys.stdin, kinds), native)

    used = [name for name in VARIANTS if any(cell[3] == name for cell in costs.cost)]
    print()
    for name in used:
        print(f"{name:>8}  {VARIANTS[name]}")
    if args.workload == "smp":
        print_speed_up(costs, kinds, used)
    else:
        print_costs(costs, kinds, used, "Nanoseconds" if native else "Instructions")

    with open(args.json, "w", encoding="utf-8") as file:
        json.dump({
            "workload": args.workload,
            "kernel": platform.release(),
            "ip_version": args.family,
            "iptables": args.backend,
            "clock": "native time: the fastest quarter" if native else "virtual: 1 ns an instruction",
            "unit": unit,
            "variants": VARIANTS,
            "kinds": kinds,
            "cells": [{
                "kind": cell[0], "chain": cell[1], "others": cell[2], "variant": cell[3],
                "batches": len(batches),
                unit: round(costs.cost[cell], 1),
                f"{unit}_mean": round(statistics.mean(batches), 1),
                "above_drop": round(costs.above(cell), 1),
                "of_in_tree": costs.of("in-tree", cell),
                "of_xdp": costs.of("xdp", cell),
                "of_alone": costs.growth(cell),
                "of_one_cpu": costs.speed_up(cell),
            } for cell, batches in costs.samples.items()],
        }, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
