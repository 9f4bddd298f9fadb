#!/usr/bin/env python3
"""How many instructions the broker takes for one record, so that a slower data path shows without
a clock: compared with the values in instructions.json.

    instructions.py [PATH]...             compares; PATH is live, journaled or replayed
    instructions.py --record [PATH]...    writes what it counts as the new values
    instructions.py PATH --profile FILE   keeps what callgrind wrote, for callgrind_annotate

The real broker runs under valgrind, and no other program. What it is sent is the same each time:
one batch, then a wait until all of it is acknowledged, so that no group, block or read depends on
time. A short run is taken from a long one, which leaves what the records cost."""
import argparse
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

from parts import Bench, Broker, Process, free_port, spillway_sink, wait_for

RECORDED = Path(__file__).with_name("instructions.json")
MORE, LESS = 0.05, 0.12  # a replay varies by 8 %: downward, for the highest is recorded
# A batch is less than 64 KiB: one write of the generator, one read and one block of the broker.
LIVE = {"size": 256, "mode": "one", "batch": 200}
JOURNALED = {"size": 400, "mode": "one", "batch": 150, "until": "acknowledged"}


class CountedBroker(Broker):
    """A broker whose instructions are counted from start to stop."""

    def __init__(self, bench, sinks):
        # However slow the machine is just now, nothing happens for lack of time.
        super().__init__(bench, sinks + 'ack_timeout = "10m"\n',
                         'spill_after = "1m"\ncheckpoint_interval = "10m"')
        self.out = Path(f"{self.data_dir}.callgrind")

    def start(self, counted=True):
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.out}"]
        self.process = Process(*(tool if counted else []), self.bench.bin / "spillway", "run",
                               "--config", self.config, log=f"{self.data_dir}.log")
        self.bench.processes.append(self.process)
        wait_for("producers are let in", self._listens)

    def _listens(self):
        # Not by asking it, which would cost it instructions each time.
        if self.process.child.poll() is not None:
            raise RuntimeError(Path(f"{self.data_dir}.log").read_text()[-2000:])
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = "0A"
        return any(fields[3] == listening and fields[1].endswith(f":{self.ingress:04X}")
                   for fields in sockets)

    def stop(self):
        self.process.child.send_signal(signal.SIGTERM)
        if self.process.child.wait() != 0:
            raise RuntimeError(Path(f"{self.data_dir}.log").read_text()[-2000:])

    def end(self):
        """The instructions since start()."""
        self.stop()
        return int(re.search(r"^(?:summary|totals): (\d+)", self.out.read_text(), re.M)[1])


def per_record(count, bench, profile, short, long):
    def run(records):
        counted = count(bench, records, profile if records == long else None)
        bench.clear()
        return counted
    return (run(long) - run(short)) / (long - short)


def keep(broker, profile):
    if profile:
        shutil.copy(broker.out, profile)


def live(bench, profile=None):
    def count(bench, records, profile):
        port = free_port()
        bench.receiver(port)
        broker = CountedBroker(bench, spillway_sink(port))
        broker.start()
        bench.generate(broker.address, records=records, **LIVE)
        counted = broker.end()
        keep(broker, profile)
        return counted
    return per_record(count, bench, profile, 10_000, 60_000)


def journaled(bench, profile=None):
    def count(bench, records, profile):
        broker = CountedBroker(bench, spillway_sink(free_port()))
        broker.start()
        bench.generate(broker.address, records=records, **JOURNALED)
        counted = broker.end()
        keep(broker, profile)
        return counted
    return per_record(count, bench, profile, 1_500, 31_500)


def replayed(bench, profile=None):
    """The same store with nobody to take it, then with a receiver."""
    port, records = free_port(), 60_000
    broker = CountedBroker(bench, spillway_sink(port))
    broker.start(counted=False)
    bench.generate(broker.address, records=records, **{**LIVE, "until": "acknowledged"})
    broker.stop()
    broker.start(counted=False)  # what was in the WAL is in tables from here on
    broker.stop()
    broker.start()
    without = broker.end()
    receiver = bench.receiver(port, expect=records)
    broker.start()
    receiver.line("last")
    counted = broker.end() - without
    keep(broker, profile)
    bench.clear()
    return counted / records


PATHS = {"live": live, "journaled": journaled, "replayed": replayed}


def recorded():
    return json.loads(RECORDED.read_text()) if RECORDED.exists() else {}


def judge(path, counted, expected):
    """What is wrong with it; nothing when all is well."""
    again = f"tests/bench/instructions.py --record {path}"
    if expected is None:
        return f"{path} has no recorded value yet: {again}"
    change = counted / expected - 1
    if -LESS <= change <= MORE:
        return None
    if change < 0:
        return f"{path} takes {-change:.1%} less than recorded; good: record the new value: {again}"
    return (f"{path} takes {change:.1%} more than recorded. `tests/bench/instructions.py {path} "
            f"--profile FILE`, then `callgrind_annotate FILE`, before and after the change, says "
            f"where; if it is worth its price: {again}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("path", nargs="*", metavar="PATH", help=", ".join(PATHS))
    parser.add_argument("--record", action="store_true", help="write the counts as new values")
    parser.add_argument("--profile", metavar="FILE", help="keep callgrind's output of one PATH")
    arguments = parser.parse_args()
    unknown = [path for path in arguments.path if path not in PATHS]
    if unknown or (arguments.profile and len(arguments.path) != 1):
        parser.error(f"PATH is one of {', '.join(PATHS)}; --profile takes exactly one")
    default = Path(__file__).resolve().parents[2] / "build/release/bin"
    bench = Bench(os.environ.get("SPILLWAY_BIN", default), "/var/tmp", quick=False)
    values, wrong = recorded(), []
    try:
        for path in arguments.path or PATHS:
            counted = PATHS[path](bench, arguments.profile)
            if arguments.record:
                counted = max([counted] + [PATHS[path](bench) for _ in range(4)])
            print(f"{path}: {counted:,.0f} instructions for a record, recorded: "
                  f"{values.get(path, 'nothing')}", flush=True)
            if arguments.record:
                values[path] = round(counted)
            else:
                wrong.append(judge(path, counted, values.get(path)))
    finally:
        bench.end()
    if arguments.record:
        RECORDED.write_text(json.dumps(values, indent=2) + "\n")
    for text in filter(None, wrong):
        print(text, file=sys.stderr)
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
