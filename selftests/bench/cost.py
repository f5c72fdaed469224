#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Says what a workload costs that was measured in instructions.

    cost.py --workload NAME --family 4 --backend nft --json FILE < SAMPLES

A sample is a line: variant, chain, number of other conntrack entries, and what flood.py or
connections.py has printed.
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
}


def read(lines, kinds):
    """Instructions in each batch for one, by (kind, chain, others, variant)."""
    cells = {}
    for line in lines:
        variant, chain, others, result = line.split(maxsplit=3)
        for kind, batches in json.loads(result).items():
            if kind in kinds:
                cells[kind, chain, int(others), variant] = [
                    nanoseconds / batches["batch"] for nanoseconds in batches["batches_ns"]]
    return dict(sorted(cells.items(), key=lambda cell: (cell[0][2], list(kinds).index(cell[0][0]))))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", choices=KINDS)
    parser.add_argument("--family", type=int)
    parser.add_argument("--backend")
    parser.add_argument("--json")
    args = parser.parse_args()

    kinds = KINDS[args.workload]
    samples = read(sys.stdin, kinds)
    # The middle: a batch may have a tick of the clock in it.
    median = {cell: statistics.median(batches) for cell, batches in samples.items()}

    def above(cell):
        kind, _, others, _ = cell
        variant, chain = BASE
        return median[cell] - median[kind, chain, others, variant]

    def of(other, cell):
        beside = *cell[:3], other
        return above(cell) / above(beside) if {cell, beside} <= samples.keys() else None

    def growth(cell):
        alone = *cell[:2], 0, cell[3]
        return above(cell) / above(alone) if cell[2] and above(alone) else None

    used = [name for name in VARIANTS if any(cell[3] == name for cell in samples)]
    ratios = [ratio for ratio in RATIOS if {*ratio[:2]} <= {*used}]
    print()
    for name in used:
        print(f"{name:>8}  {VARIANTS[name]}")
    print(f"\nInstructions\n{'':46}", *(f"{name:>9}" for name in used),
          *(f"{title:>{width}}" for _, _, title, width in ratios), sep="")
    for row in dict.fromkeys(cell[:3] for cell in samples if (cell[3], cell[1]) != BASE):
        kind, chain, others = row
        beside = f", {others:,} others" if others else ""
        print(f"{f'{kinds[kind]}, {chain}{beside}':46}", end="")
        for name in used:
            cell = *row, name
            if name == BASE[0]:
                print(f"{median[kind, BASE[1], others, name]:>9.0f}", end="")
            else:
                print(f"{above(cell):>9.0f}" if cell in samples else f"{'':9}", end="")
        for name, other, _, width in ratios:
            ratio = of(other, (*row, name))
            print(f"{ratio:>{width}.3f}" if ratio else " " * width, end="")
        print()
        if others:
            print(f"{'  ... of what it was without':46}", *(
                f"{growth((*row, name)):>9.3f}" if (*row, name) in samples else f"{'':9}"
                for name in used), sep="")

    with open(args.json, "w", encoding="utf-8") as file:
        json.dump({
            "workload": args.workload,
            "kernel": platform.release(),
            "ip_version": args.family,
            "iptables": args.backend,
            "clock": "virtual: 1 ns an instruction",
            "variants": VARIANTS,
            "kinds": kinds,
            "cells": [{
                "kind": kind, "chain": chain, "others": others, "variant": variant,
                "batches": len(batches),
                "instructions": round(median[kind, chain, others, variant], 1),
                "instructions_mean": round(statistics.mean(batches), 1),
                "above_drop": round(above((kind, chain, others, variant)), 1),
                "of_in_tree": of("in-tree", (kind, chain, others, variant)),
                "of_xdp": of("xdp", (kind, chain, others, variant)),
                "of_alone": growth((kind, chain, others, variant)),
            } for (kind, chain, others, variant), batches in samples.items()],
        }, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
