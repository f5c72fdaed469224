#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Says what selftests/bench/flood has measured.

    flood.py --family 4 --backend nft --json FILE < SAMPLES

A sample is a line: variant, chain, kind, and what inject.py has printed.
"""

import argparse
import json
import platform
import statistics
import sys

VARIANTS = {
    "drop": "-j DROP in table raw",
    "none": "no proxy: a listener, with the stack's own SYN cookies; an ACK is reset",
    "in-tree": "the kernel's own SYNPROXY for iptables",
    "nft": "... and for nftables",
    "ours": "xt_SYNPROXY",
}
KINDS = {"syn": "W1: SYN answered", "ack": "W2: ACK dropped"}
BASE = "drop", "PREROUTING"


def read(lines):
    """Instructions for a packet of each batch, by (variant, chain) and then by kind."""
    cells = {}
    for line in lines:
        variant, chain, kind, result = line.split(maxsplit=3)
        result = json.loads(result)
        cells.setdefault((variant, chain), {})[kind] = [
            nanoseconds / result["batch"] for nanoseconds in result["batches_ns"]]
    return cells


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--family", type=int)
    parser.add_argument("--backend")
    parser.add_argument("--json")
    args = parser.parse_args()

    cells = read(sys.stdin)
    # The middle: a batch may have a tick of the clock in it.
    median = {cell: {kind: statistics.median(batches) for kind, batches in kinds.items()}
              for cell, kinds in cells.items()}

    def above(cell, kind):
        return median[cell][kind] - median[BASE][kind]

    def of_in_tree(cell, kind):
        in_tree = "in-tree", cell[1]
        return above(cell, kind) / above(in_tree, kind) if in_tree in cells else None

    print()
    for name, meaning in VARIANTS.items():
        print(f"{name:>8}  {meaning}")
    print("\nInstructions for a packet: all, above DROP, and of that in-tree's part\n\n"
          f"{'':20}", *(f"{title:^28}" for title in KINDS.values()))
    for cell in cells:
        print(f"{cell[0]:>8} {cell[1]:<11}", end="")
        for kind in KINDS:
            ratio = of_in_tree(cell, kind)
            print(f"{median[cell][kind]:>10.0f}{above(cell, kind):>10.0f}",
                  f"{ratio:>8.3f}" if ratio else f"{'':8}", end="")
        print()

    with open(args.json, "w", encoding="utf-8") as file:
        json.dump({
            "workload": "flood",
            "kernel": platform.release(),
            "ip_version": args.family,
            "iptables": args.backend,
            "clock": "virtual: 1 ns an instruction",
            "variants": VARIANTS,
            "kinds": KINDS,
            "cells": [{
                "variant": variant, "chain": chain, "kind": kind,
                "batches": len(batches),
                "instructions": round(median[variant, chain][kind], 1),
                "instructions_mean": round(statistics.mean(batches), 1),
                "above_drop": round(above((variant, chain), kind), 1),
                "of_in_tree": of_in_tree((variant, chain), kind),
            } for (variant, chain), kinds in cells.items() for kind, batches in kinds.items()],
        }, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
