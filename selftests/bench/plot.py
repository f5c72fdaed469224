#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Draws what "make bench" has measured.

    plot.py --svg FILE RESULT...

A result is the JSON file of a workload.
"""

import argparse
import json

import matplotlib
from matplotlib.figure import Figure

COLOURS = {
    "none": "#bdbdbd", "direct": "#bdbdbd", "engine": "#737373", "in-tree": "#2166ac",
    "nft": "#67a9cf", "xdp": "#1b7837", "xdp-room": "#7fbf7b", "drop-wait": "#dfa635",
    "ours": "#c4331d", "one-rule": "#f4a582", "gate": "#762a83",
}
STYLE = {
    # Text that can be read, searched, and set in the reader's own font.
    "svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.axisbelow": True, "axes.grid": True, "axes.grid.axis": "x",
    "grid.color": "#e4e4e4", "ytick.major.size": 0, "legend.frameon": False,
}
WIDTH = 7  # of a panel, in inches


def variants(rows):
    """Those that the rows have; each has to have a colour."""
    return sorted({name for _, values in rows for name in values}, key=list(COLOURS).index)


def said(values, name):
    value = f"{values[name]:,.0f}"
    if name in ("ours", "one-rule", "gate"):
        shares = [f"{values[name] / values[other]:.2f} of {other}"
                  for other in ("in-tree", "xdp") if other in values]
        value = "  ".join([value, ", ".join(shares)])
    return value.rstrip()


def bars(axes, rows):
    """Rows of bars, one for each variant that a row has."""
    at, ticks = 0, []
    for label, values in rows:
        names = [name for name in COLOURS if name in values]
        ticks.append((at + (len(names) - 1) / 2, label))
        for name in names:
            axes.barh(at, values[name], 0.85, color=COLOURS[name])
            axes.annotate(said(values, name), (values[name], at), (4, 0), fontsize=8,
                          textcoords="offset points", va="center")
            at += 1
        at += 0.7
    axes.set_yticks(*zip(*ticks))
    axes.set_ylim(at - 1, -0.7)
    # Room for what is said beside the longest.
    axes.set_xlim(0, 1.35 * max(value for _, values in rows for value in values.values()))


def dots(axes, rows):
    """Rows of dots, one above the other so that all can be seen."""
    names = variants(rows)
    for row, (_, values) in enumerate(rows):
        axes.axhspan(row - 0.45, row + 0.45, color="#f5f5f5", zorder=0)
        for lane, name in enumerate(names):
            if name in values:
                at = row + 0.7 * ((lane + 0.5) / len(names) - 0.5)
                axes.plot([0, values[name]], [at, at], color=COLOURS[name], lw=0.8)
                axes.plot(values[name], at, "o", color=COLOURS[name], ms=4.5)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)


def lines(axes, rows):
    """What grows from row to row."""
    last = rows[-1][1]
    for name in variants(rows):
        points = [(label, values[name]) for label, values in rows if name in values]
        axes.plot(*zip(*points), "o-", color=COLOURS[name], ms=4.5)
        # None over the other.
        if name != "nft" or "in-tree" not in last:
            axes.annotate(f"{last[name]:,.0f}", (len(rows) - 1, last[name]), (6, 0), fontsize=8,
                          textcoords="offset points", va="center", color=COLOURS[name])
    axes.grid(axis="y")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")


def above(result):
    """What a value is."""
    unit = {"instructions": "instructions above those", "ns": "ns above that"}[result["unit"]]
    return f"{unit} of -j DROP in table raw"


def how(result):
    return ", native time" if result["unit"] == "ns" else ""


def rows_of(result, label, wanted=lambda cell: True):
    """What a workload costs above DROP, by row and variant."""
    rows = {}
    for kind in result["kinds"]:
        for cell in result["cells"]:
            if cell["kind"] == kind and cell["variant"] != "drop" and wanted(cell):
                rows.setdefault(label(cell), {})[cell["variant"]] = cell["above_drop"]
    return list(rows.items())


def titles(result):
    """Those of the kinds, in lines."""
    return {kind: title.split(": ")[-1].strip().replace(", ", ",\n")
            for kind, title in result["kinds"].items()}


def flood(result):
    title = titles(result)
    yield ("W1, W2: a packet of a flood" + how(result), above(result), bars,
           rows_of(result, lambda cell: f"{title[cell['kind']]},\n{cell['chain']}"))


def connection(result):
    title = titles(result)
    yield ("W3: a connection: handshakes, request, answer, close" + how(result), above(result),
           bars,
           rows_of(result, lambda cell: "all of it", lambda cell: cell["kind"] == "connection"))
    yield ("W3: of which" + how(result), above(result), dots,
           rows_of(result, lambda cell: title[cell["kind"]],
                   lambda cell: cell["kind"] != "connection"))


def bulk(result):
    title = titles(result)
    yield ("W4: a packet of an open connection" + how(result), above(result), dots,
           rows_of(result, lambda cell: title[cell["kind"]]))


def crowd(result):
    for kind, title in titles(result).items():
        yield (f"W6: {title}, beside other connections{how(result)}", above(result), lines,
               rows_of(result, lambda cell: f"{cell['others']:,}",
                       lambda cell, kind=kind: cell["kind"] == kind))


def first_byte(result):
    sizes = sorted({cell["request_segments"] for cell in result["cells"]})
    for segments in sizes:
        rows = [(f"{cell['client_rtt_ms']} + {cell['server_rtt_ms']} ms",
                 {name: values["median_ms"] for name, values in cell["first_byte"].items()})
                for cell in result["cells"] if cell["request_segments"] == segments]
        yield (f"W5: time to first byte, request of {segments} segment{'s' * (segments > 1)}",
               "ms, by the RTTs to client and server", dots, rows)


def smp(result):
    title = titles(result)
    rows = {}
    for cell in result["cells"]:
        if cell["variant"] != "drop":
            rows.setdefault(title[cell["kind"]], {})[cell["variant"]] = 1e6 / cell["ns"]
    yield ("W7: SYNs answered by two CPUs, native time", "thousands a second", bars,
           list(rows.items()))


PANELS = {"flood": flood, "connection": connection, "bulk": bulk, "first-byte": first_byte,
          "crowd": crowd, "smp": smp}


def height(panel):
    """In inches."""
    *_, marks, rows = panel
    if marks is bars:
        return 1.1 + 0.2 * sum(len(values) + 0.7 for _, values in rows)
    if marks is dots:
        return 1.1 + len(rows) * (0.12 + 0.085 * len(variants(rows)))
    return 3.2


def draw(panel, axes):
    title, unit, marks, rows = panel
    axes.set_title(title, pad=22)
    marks(axes, rows)
    if marks is lines:
        axes.set_ylabel("\nabove ".join(unit.split(" above ")))
        axes.set_xlabel("other conntrack entries")
    else:
        axes.set_xlabel(unit)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    legend = [axes.plot([], [], "s", color=COLOURS[name], label=name)[0]
              for name in variants(rows)]
    axes.legend(handles=legend, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(legend),
                borderaxespad=0.1, handlelength=1, handletextpad=0.3, columnspacing=1.5)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--svg")
    parser.add_argument("results", nargs="+")
    args = parser.parse_args()

    results = []
    for path in args.results:
        with open(path, encoding="utf-8") as file:
            results.append(json.load(file))
    panels = [panel for name, panels_of in PANELS.items() for result in results
              if result["workload"].removesuffix("-native") == name for panel in panels_of(result)]
    columns = [[], []]
    for panel in panels:
        min(columns, key=lambda column: sum(map(height, column))).append(panel)
    columns = [column for column in columns if column]

    matplotlib.rcParams.update(STYLE)
    longest = max(sum(map(height, column)) for column in columns)
    figure = Figure((WIDTH * len(columns), 0.4 + longest), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    where = dict.fromkeys(f"Linux {result['kernel']}, {result['clock']}" for result in results)
    figure.suptitle(f"xt_SYNPROXY beside what else there is: IPv{results[0]['ip_version']}, "
                    + "; ".join(where), x=0.01, ha="left", fontsize=10)
    for column, part in zip(columns, figure.subfigures(1, len(columns), squeeze=False).flat):
        grid = part.subplots(len(column), height_ratios=list(map(height, column)), squeeze=False)
        for panel, axes in zip(column, grid.flat):
            draw(panel, axes)
    figure.savefig(args.svg, metadata={"Date": None})


if __name__ == "__main__":
    main()
