#!/usr/bin/env python3
"""The scenarios whose brokers took the most memory, and the most of the disk that they may take.

    maxima.py LOG...     outputs of scenarios, such as the log of ctest
"""
import re
import sys

ROWS = 5
HEAD = re.compile(r"^(?P<name>[a-z0-9 ]+): --seed \d+$")
MOST = re.compile(r"(?P<broker>\S+) (?P<memory>[\d.]+) MiB of memory, "
                  r"(?P<disk>[\d.]+) of (?P<bound>\d+) MiB of disk")


def maxima(lines):
    """(memory, disk, bound, broker, scenario) of each broker, in MiB."""
    found, scenario = [], ""
    for line in lines:
        if head := HEAD.match(line.strip()):
            scenario = head["name"]
        elif line.startswith("most: "):
            found += [(float(m["memory"]), float(m["disk"]), int(m["bound"]), m["broker"], scenario)
                      for m in MOST.finditer(line)]
    return found


def table(found):
    lines = [f"the most memory, of {len(found)} brokers in {len({f[4] for f in found})} scenarios"]
    for memory, _, _, broker, scenario in sorted(found, reverse=True)[:ROWS]:
        lines.append(f"  {memory:8.1f} MiB  {scenario} ({broker})")
    lines.append("the most of max_disk_bytes")
    for _, disk, bound, broker, scenario in sorted(found, key=lambda f: -f[1] / f[2])[:ROWS]:
        lines.append(f"  {100 * disk / bound:6.1f} % of {bound} MiB  {scenario} ({broker})")
    return lines


def main():
    found = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8", errors="replace") as file:
            found += maxima(file)
    print("\n".join(table(found) if found else ["no scenario says what its brokers took"]))


if __name__ == "__main__":
    main()
