#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Floods eth0 with SYNs on one CPU and on two, by the module in inject/, and measures the time.

    smp.py --to ADDRESS --leaving 0|1 [--counts FILE] > RESULT

Each CPU has a process of its own, with clients of its own. By turns one of them receives a batch,
the other one, and both, which begin at the same time and are timed until both are done. What is
measured is all that a driver and the kernel do for a packet, from its copy into a buffer of its own
on: like a driver, each receives a few that it has just made, so that buffers do not wander from one
CPU to the other. It is counted how many packets leave by the device, which must be as many as
--leaving says, and how many a SYN proxy has counted in FILE, which must be all. Status 1 when
anything is not as it should be.
"""

import argparse
import ipaddress
import json
import multiprocessing
import os
import sys

from flood import Flood, frames
from packets import Device, counted

BATCH, BATCHES, WARM_UP, MEASURED = 1024, 8, 16, 240
# As many as receive offload hands to the stack at once, GRO_NORMAL_BATCH.
POLL = 8


def receive(cpu, to, orders):
    """A batch, whenever it is told with how many to begin together; says how long that took."""
    os.sched_setaffinity(0, {cpu})
    device = Device("eth0")
    flood = Flood(to, cpu)
    batches = [frames(device, [flood.segment("syn", 0) for _ in range(BATCH)]) for _ in range(BATCHES)]
    orders.send(None)
    for turn, together in enumerate(iter(orders.recv, None)):
        orders.send(device.receive(batches[turn % BATCHES], POLL, together))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=ipaddress.ip_address)
    parser.add_argument("--leaving", type=int)
    parser.add_argument("--counts")
    args = parser.parse_args()

    processes = []
    for cpu in 0, 1:
        orders, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=receive, args=(cpu, args.to, theirs), daemon=True)
        process.start()
        processes.append(orders)
    for orders in processes:
        orders.recv()

    def take(*some):
        for orders in some:
            orders.send(len(some))
        return max([orders.recv() for orders in some])

    device = Device("eth0")
    one, two = [], []
    for turn in range(WARM_UP + MEASURED):
        if turn == WARM_UP:
            one, two = [], []
            sent, met = device.sent(), counted(args.counts, "syn_received")
        one += [take(orders) for orders in processes]
        two += [take(*processes)]
    for orders in processes:
        orders.send(None)

    packets = 4 * MEASURED * BATCH
    if args.counts and counted(args.counts, "syn_received") - met != packets:
        sys.exit(f"smp.py: not all of {packets} packets have met the proxy")
    if device.sent() - sent != packets * args.leaving:
        sys.exit(f"smp.py: {packets} packets were received, and {device.sent() - sent} left")
    json.dump({"one": {"batch": BATCH, "batches_ns": one},
               "two": {"batch": 2 * BATCH, "batches_ns": two}}, sys.stdout)


if __name__ == "__main__":
    main()
