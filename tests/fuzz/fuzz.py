#!/usr/bin/env python3
"""Feeds the readers of outside bytes with what libFuzzer makes up, under ASan and UBSan.

    fuzz.py [TARGET ...] [--runs N] [--merge]

Needs clang++-14 and libFuzzer (Debian: clang-14 libclang-rt-14-dev); builds with the preset `fuzz`.
Starts from tests/fuzz/corpus/TARGET and keeps what it finds in build/fuzz/corpus/TARGET; an input
that fails is left there as crash-*: put it into the corpus with the fix. With --merge, instead of a
run, what reaches more code than the corpus in the tree is added to that.
"""
import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
TARGETS = ("frame", "batch", "journal", "config", "count", "http")
MAX_BYTES = 4096


def build(targets):
    subprocess.run(["cmake", "--preset", "fuzz"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", "--preset", "fuzz", "--target",
                    *(f"fuzz_{target}" for target in targets)], cwd=ROOT, check=True)


def fuzz(target, runs):
    """Whether it went well. Prints the last line of libFuzzer's statistics."""
    found = BUILD / "corpus" / target
    found.mkdir(parents=True, exist_ok=True)
    command = [BUILD / "bin" / f"fuzz_{target}", f"-runs={runs}", f"-max_len={MAX_BYTES}",
               f"-artifact_prefix={found}/", "-print_final_stats=1", "-timeout=10",
               found, Path(__file__).parent / "corpus" / target]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          check=False)
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)
    print(f"{target}: {stats.get('number_of_executed_units', '?')} executions, "
          f"{stats.get('average_exec_per_sec', '?')}/s, "
          f"edges, features, inputs: {coverage[-1] if coverage else '?'}, "
          f"{'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
    if done.returncode != 0:
        print(done.stderr[-4000:])
    return done.returncode == 0


def merge(target):
    found, kept = BUILD / "corpus" / target, Path(__file__).parent / "corpus" / target
    subprocess.run([BUILD / "bin" / f"fuzz_{target}", "-merge=1", "-max_len=512", kept, found],
                   check=True, stderr=subprocess.DEVNULL)
    print(f"{target}: {len(list(kept.iterdir()))} inputs in the tree")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--merge", action="store_true")
    options = parser.parse_args()
    targets = options.targets or TARGETS
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    build(targets)
    results = [merge(t) if options.merge else fuzz(t, options.runs) for t in targets]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
