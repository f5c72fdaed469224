#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Compares what "make bench" has measured with what it has before.

    compare.py BEFORE RESULT...

BEFORE is the JSON file of a workload, or a directory with such files. A value is in instructions
or ns above DROP, or in ms; of smp it is the time for a packet. Status 1 when there is nothing to compare.
"""

import argparse
import json
import pathlib
import sys


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def of_what(result):
    return result["workload"], result["ip_version"]


def unit_of(result):
    return "ms" if result["workload"] == "first-byte" else result.get("unit", "instructions")


def values(result):
    """By a name, in the order of the file."""
    found = {}
    for cell in result["cells"]:
        if result["workload"] == "first-byte":
            name = ("{client_rtt_ms} + {server_rtt_ms} ms, {request_segments} segments"
                    .format(**cell))
            found |= {(name, variant): times["median_ms"]
                      for variant, times in cell["first_byte"].items()}
        else:
            others = f", {cell['others']:,} others" if cell.get("others") else ""
            name = f"{result['kinds'][cell['kind']].strip()}, {cell['chain']}{others}"
            plain = cell["variant"] == "drop" or result["workload"] == "smp"
            value = unit_of(result) if plain else "above_drop"
            found[name, cell["variant"]] = cell[value]
    return found


def compare(before, now):
    unit = unit_of(now)
    digits = 2 if unit == "ms" else 0
    print(f"\n{now['workload']}, IPv{now['ip_version']}, {unit}"
          f"\n{'':62}{'before':>10}{'now':>10}{'ratio':>8}")
    before, now = values(before), values(now)
    for name, variant in sorted(before | now, key=list(now | before).index):
        old, new = (each.get((name, variant)) for each in (before, now))
        ratio = f"{new / old:.3f}" if old and new else "-"
        said = ["-" if each is None else f"{each:,.{digits}f}" for each in (old, new)]
        print(f"{name:52}{variant:10}{said[0]:>10}{said[1]:>10}{ratio:>8}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("before", type=pathlib.Path)
    parser.add_argument("results", nargs="+", type=pathlib.Path)
    args = parser.parse_args()

    saved = sorted(args.before.glob("*.json")) if args.before.is_dir() else [args.before]
    saved = {of_what(result): result for result in map(load, saved)}
    pairs = [(saved.get(of_what(now)), now) for now in map(load, args.results)]
    for before, now in pairs:
        if before:
            compare(before, now)
        else:
            print(f"\n{args.before} has no {now['workload']}, IPv{now['ip_version']}")
    return not any(before for before, _ in pairs)


if __name__ == "__main__":
    sys.exit(main())
