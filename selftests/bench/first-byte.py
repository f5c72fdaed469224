#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Says what selftests/bench/first-byte has measured; status 1 if the gate takes too long.

    first-byte.py --family 4 --json FILE < SAMPLES

A sample is a line: variant, client's RTT and server's in ms, segments of the request, seconds.
"""

import argparse
import collections
import json
import platform
import statistics
import sys

# What the gate may take longer than a direct connection, in ms.
LIMIT = 2
# What does not add up this closely is no sum of round trips. A timer of more than 252 ms may be
# that late, as the kernel keeps it in a coarser wheel.
WHEEL = 32
VARIANTS = {
    "direct": "the firewall only forwards",
    "engine": "no proxy: the engine sees the client's data on the open connection",
    "in-tree": "the kernel's own SYNPROXY",
    "drop-wait": "the gate without what it holds: the client's timers bring it again",
    "gate": "the gate",
}


def read(lines):
    """The samples in ms, by (client's RTT, server's RTT, segments) and then by variant."""
    cells = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in lines:
        variant, client, server, segments, seconds = line.split()
        cells[int(client), int(server), int(segments)][variant].append(float(seconds) * 1000)
    return cells


def summary(samples):
    cuts = statistics.quantiles(samples, n=4, method="inclusive")
    names = "quartile_1", "median", "quartile_3"
    return {"samples": len(samples)} | {f"{name}_ms": round(cut, 3)
                                        for name, cut in zip(names, cuts)}


def round_trips(median, segments):
    """Of how many round trips a time consists, by the longest RTT on either side alone."""
    client, server = (max(cell[side] for cell in median) for side in (0, 1))
    rest = median[0, 0, segments]
    per_client = (median[client, 0, segments] - rest) / client
    per_server = (median[0, server, segments] - rest) / server
    error = max(abs(per_client * cell[0] + per_server * cell[1] + rest - time)
                for cell, time in median.items() if cell[2] == segments)
    return {
        "client_rtts": round(per_client, 2),
        "server_rtts": round(per_server, 2),
        "rest_ms": round(rest, 3),
        "largest_error_ms": round(error, 3),
    }


def said(trip):
    if trip["largest_error_ms"] > WHEEL:
        return "no sum of round trips: timers race"
    return "{client_rtts:.1f} client's + {server_rtts:.1f} server's +{rest_ms:7.2f} ms".format(**trip)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--family", type=int)
    parser.add_argument("--json")
    args = parser.parse_args()

    cells = read(sys.stdin)
    medians = {variant: {cell: statistics.median(samples[variant])
                         for cell, samples in cells.items()} for variant in VARIANTS}

    def late(cell):
        return medians["gate"][cell] - medians["direct"][cell]

    sizes = sorted({segments for _, _, segments in cells})
    trips = [{"variant": variant, "segments": segments, **round_trips(median, segments)}
             for segments in sizes for variant, median in medians.items()]
    worst = max(map(late, cells))

    print()
    for name, meaning in VARIANTS.items():
        print(f"{name:>11}  {meaning}")
    print(f"\n{'RTT, ms':>15}{'':10}time to first byte, ms, median")
    print(f"{'client':>7}{'server':>8}{'segments':>10}", *(f"{name:>10}" for name in VARIANTS),
          f"{'gate-direct':>13}", sep="")
    for cell in sorted(cells, key=lambda cell: (cell[2], cell)):
        client, server, segments = cell
        print(f"{client:>7}{server:>8}{segments:>10}",
              *(f"{median[cell]:>10.2f}" for median in medians.values()),
              f"{late(cell):>+13.2f}", sep="")
    for segments in sizes:
        print(f"\nIn round trips, for a request of {segments} segment{'s' * (segments > 1)}")
        for trip in trips:
            if trip["segments"] == segments:
                print(f"  {trip['variant']:11}{said(trip)}")

    with open(args.json, "w", encoding="utf-8") as file:
        json.dump({
            "workload": "first-byte",
            "kernel": platform.release(),
            "ip_version": args.family,
            "clock": "virtual: 1 ns an instruction",
            "variants": VARIANTS,
            "cells": [{
                "client_rtt_ms": client, "server_rtt_ms": server, "request_segments": segments,
                "first_byte": {name: summary(cells[client, server, segments][name])
                               for name in VARIANTS},
                "gate_minus_direct_ms": round(late((client, server, segments)), 3),
            } for client, server, segments in sorted(cells)],
            "round_trips": trips,
            "limit_gate_minus_direct_ms": LIMIT,
            "worst_gate_minus_direct_ms": round(worst, 3),
        }, file, indent=1)
        file.write("\n")

    print(f"\nThe gate takes at most {worst:.2f} ms longer than a direct connection"
          f" ({'ok' if worst <= LIMIT else 'FAILED'}: {LIMIT} ms allowed)")
    return worst > LIMIT


if __name__ == "__main__":
    sys.exit(main())
