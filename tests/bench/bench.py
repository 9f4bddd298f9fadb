#!/usr/bin/env python3
"""The benchmark: each row with its baseline, measured in the same run and interleaved.

    bench.py [--quick] [--row NAME]... [--json FILE] [--rounds N] [--folder DIR] [--bin DIR]
    bench.py --compare FILE [FILE]

README.md in this folder says what each row stands for and what it does not show."""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import rows
from parts import Bench

ROOT = Path(__file__).resolve().parents[2]


def machine(folder):
    cpu = next((line.split(":", 1)[1].strip() for line in
                Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
               platform.machine())
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True,
                          check=False).stdout.strip()
    return {"cores": os.cpu_count(), "cpu": cpu, "kernel": platform.release(),
            "file_system": kind, "date": time.strftime("%Y-%m-%d %H:%M:%S")}


def processor_time():
    """Of all cores: what was taken away by the hypervisor, and all there was."""
    fields = [int(f) for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[7], sum(fields)


def measure(row, bench, rounds):
    """Value and baseline in turns; the best and the median of each."""
    values, baselines, extra = [], [], {}
    stolen, spent = processor_time()
    for bench.round in range(rounds if row.repeats else 1):
        value = row.value(bench)
        if isinstance(value, tuple):
            value, extra = value
        values.append(value)
        bench.clear()
        if row.baseline:
            baseline = row.baseline(bench)
            baselines.append(baseline[0] if isinstance(baseline, tuple) else baseline)
            bench.clear()
    best = max if row.more_is_better else min
    result = {"row": row.number, "name": row.name, "unit": row.unit,
              "value": best(values), "median": statistics.median(values),
              "baseline": None, "ratio": None, "target": row.target_text(), **extra}
    if row.baseline:
        result["baseline"] = best(baselines)
        result["baseline_median"] = statistics.median(baselines)
        result["ratio"] = result["value"] / result["baseline"]
    result["met"] = row.met(result)
    stolen_after, spent_after = processor_time()
    result["stolen"] = (stolen_after - stolen) / max(1, spent_after - spent)
    return result


def number(value):
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def show(results):
    heads = ("row", "what", "best", "median", "unit", "baseline", "ratio", "target", "met",
             "stolen")
    table = [heads] + [
        (str(r["row"]), r["name"], number(r["value"]), number(r["median"]), r["unit"],
         number(r["baseline"]), number(r["ratio"]), r["target"],
         {True: "yes", False: "NO", None: ""}[r["met"]], f'{r["stolen"]:.0%}') for r in results]
    widths = [max(len(line[i]) for line in table) for i in range(len(heads))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def compare(before, after):
    old = {r["name"]: r for r in before["rows"]}
    for row in after["rows"]:
        was = old.get(row["name"])
        if not was:
            continue
        print(f'{row["row"]:>4}  {row["name"]:<46} {number(was["value"]):>12} -> '
              f'{number(row["value"]):>12} {row["unit"]}'
              + (f'   ratio {number(was["ratio"])} -> {number(row["ratio"])}'
                 if was["ratio"] and row["ratio"] else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--row", action="append", help="only rows whose number or name has this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write the result there, too")
    parser.add_argument("--folder", default="/var/tmp", help="where data directories are made")
    parser.add_argument("--bin", default=os.environ.get("SPILLWAY_BIN", ROOT / "build/release/bin"),
                        help="where the programs are")
    parser.add_argument("--compare", metavar="FILE", nargs="+",
                        help="two results side by side, or one beside a new run")
    arguments = parser.parse_args()
    if arguments.compare and len(arguments.compare) == 2:
        compare(*(json.loads(Path(file).read_text()) for file in arguments.compare))
        return 0
    cache = Path(arguments.bin).resolve().parent / "CMakeCache.txt"
    if not cache.exists() or "CMAKE_BUILD_TYPE:STRING=RelWithDebInfo" not in cache.read_text():
        print(f"bench: {arguments.bin} is no release build; its figures would mislead. Run "
              "scripts/bench, which makes one", file=sys.stderr)
        return 2
    chosen = [row for row in rows.ROWS if not arguments.row or
              any(str(row.number) == w or (not w.isdigit() and w in row.name)
                  for w in arguments.row)]
    if not chosen:
        print(f"bench: no such row; there are: {', '.join(r.name for r in rows.ROWS)}",
              file=sys.stderr)
        return 2
    bench = Bench(arguments.bin, arguments.folder, arguments.quick)
    about = machine(bench.folder)
    print(f'{about["date"]}, {about["cores"]} cores of {about["cpu"]}, Linux {about["kernel"]}, '
          f'{about["file_system"]}' + (", quick" if arguments.quick else ""), flush=True)
    results = []
    try:
        for row in chosen:
            begin = time.monotonic()
            results.append(measure(row, bench, 1 if arguments.quick else arguments.rounds))
            print(f'  {row.number} {row.name}: {number(results[-1]["value"])} {row.unit} '
                  f'({time.monotonic() - begin:.0f} s)', file=sys.stderr, flush=True)
    finally:
        bench.end()
    show(results)
    report = {"machine": about, "quick": arguments.quick, "rows": results}
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")
    if arguments.compare:
        compare(json.loads(Path(arguments.compare[0]).read_text()), report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
