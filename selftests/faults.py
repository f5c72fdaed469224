#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""faults.py ORDERS ANSWERS: plays scenarios while allocations fail.

As edges.py, with orders of its own:

    fault SCENARIO        plays it again and again, each time with the next one of the
                          module's allocations failing, until none is left. A packet that
                          is lost by that may be sent again, as TCP does; the connection
                          has to be as without, and the next one to need no second chance.
    fault-command DIR     the same with shell scripts DIR/act, DIR/undo and DIR/whole: what
                          fails has to say so with a status, and to leave nothing that
                          keeps the next one from being whole
    faults                how many allocations have failed so far

For kernels with CONFIG_FAULT_INJECTION_STACKTRACE_FILTER.
"""

import os
import subprocess
import sys

from edges import Failure, Records, Stage, obey, play

FAILSLAB = "/sys/kernel/debug/failslab"
# The kernel counts the allocations it has looked at since boot, and tells nobody.
COUNT = "/run/failslab.count"
# Those who would fail for ever at the same one.
MOST = 400


def symbols(choose):
    """Addresses of the functions that are chosen, by their name and module."""
    with open("/proc/kallsyms", encoding="ascii") as lines:
        for line in lines:
            address, kind, name, *module = line.split()
            if kind in "tT" and choose(name, module):
                yield int(address, 16)


class Failslab:
    """Has one allocation fail, counted from now, of those that are made below certain functions."""

    def __init__(self):
        self.failed = 0
        try:
            with open(COUNT, encoding="ascii") as count:
                self.count = int(count.read())
        except FileNotFoundError:
            self.count = 0
        for name, value in (("verbose", 0), ("ignore-gfp-wait", "N"), ("stacktrace-depth", 32), ("times", 0), ("probability", 100)):
            self.write(name, value)

    @staticmethod
    def write(name, value):
        with open(f"{FAILSLAB}/{name}", "w", encoding="ascii") as handle:
            handle.write(str(value))

    def below(self, start, end):
        self.write("require-start", hex(start))
        self.write("require-end", hex(end))

    def below_module(self):
        addresses = list(symbols(lambda name, module: module == ["[xt_SYNPROXY]"]))
        if not addresses:
            raise Failure("xt_SYNPROXY is not loaded")
        self.below(min(addresses), max(addresses) + 4096)

    def below_function(self, function):
        (start,) = symbols(lambda name, module: name == function and not module)
        self.below(start, min(one for one in symbols(lambda name, module: not module) if one > start))

    def arm(self, number):
        # The kernel's count is less than that, so it is a multiple only then.
        self.goal = self.count + number
        self.write("interval", self.goal)
        self.write("times", 1)

    def fired(self):
        """Whether it has happened; it does not any more."""
        with open(f"{FAILSLAB}/times", encoding="ascii") as handle:
            left = int(handle.read())
        self.write("times", 0)
        if left:
            return False
        self.failed += 1
        # An interval of 1 is not counted.
        self.keep(self.goal if self.goal > 1 else 0)
        return True

    def keep(self, count):
        self.count = count
        with open(COUNT, "w", encoding="ascii") as handle:
            handle.write(str(count))

    def each(self, attempt):
        """Calls attempt(number) with each allocation failing in turn, and once with none."""
        for number in range(1, MOST):
            self.arm(number)
            attempt(number)
            if not self.fired():
                break
        else:
            raise Failure(f"{MOST} allocations, and no end")
        # How many of them were counted now shows only when one fails.
        for _ in range(MOST):
            self.write("times", 1)
            attempt(0)
            if self.fired():
                return number - 1
        raise Failure("the count of allocations is lost")


def fault(stage, failslab, name):
    said = []

    def attempt(number):
        stage.second_chance = True
        talk, failure = play(stage, name)
        stage.second_chance = False
        failslab.write("probability", 0)
        if failure:
            said.append(f"allocation {number}: {failure}")
            said.extend(talk.log)
        talk, failure = play(stage, name)
        failslab.write("probability", 100)
        if failure:
            said.append(f"after allocation {number}: {failure}")
            said.extend(talk.log)

    failslab.below_module()
    most = failslab.each(attempt)
    return [f"{name}: {most} allocations failed", *said], int(bool(said) or not most)


def fault_command(failslab, directory):
    said = []

    def run(script):
        return subprocess.run([f"{directory}/{script}"], capture_output=True, text=True, check=False)

    def attempt(number):
        done = run("act")
        failslab.write("probability", 0)
        whole = run("whole")
        # Who says that it is done has done it, and who does not has left nothing.
        if (done.returncode == 0) != (whole.returncode == 0):
            said.append(f"allocation {number}: status {done.returncode}, but: {whole.stdout}{whole.stderr}")
        said.extend(f"allocation {number}: {line}" for line in done.stderr.splitlines()[:1] if done.returncode)
        run("undo")
        again, whole = run("act"), run("whole")
        if again.returncode or whole.returncode:
            said.append(f"after allocation {number}: not again: {again.stderr}{whole.stdout}{whole.stderr}")
        run("undo")
        failslab.write("probability", 100)

    if os.path.exists("/sys/module/xt_SYNPROXY"):
        failslab.below_module()
    else:
        failslab.below_function("do_one_initcall")
    most = failslab.each(attempt)
    faults = [line for line in said if "but:" in line or line.startswith("after")]
    return [f"{most} allocations failed", *said], int(bool(faults) or not most)


def main():
    orders, answers = sys.argv[1:]
    with open(orders, encoding="utf-8") as orders, open(answers, "w", encoding="utf-8") as answers:
        stage, records, failslab = Stage(), Records(), Failslab()
        for line in orders:
            words = line.split()
            try:
                if words[0] == "fault":
                    said, status = fault(stage, failslab, words[1])
                elif words[0] == "fault-command":
                    said, status = fault_command(failslab, words[1])
                elif words[0] == "faults":
                    said, status = [str(failslab.failed)], 0
                else:
                    said, status = obey(stage, records, words)
            except Failure as failure:
                said, status = [str(failure)], 1
            for text in said:
                print(text, file=answers)
            print(f"end {status}", file=answers, flush=True)


if __name__ == "__main__":
    main()
