#!/usr/bin/env python3
"""A sink dies, the node goes on, the sink comes back and is given everything.

A broker with two sinks is given the blocks of a real chain, in a loop. The receiver behind one sink
is killed and later started again. At the end both sinks must hold exactly what was published. Exits
with 0 only if all of that happened; what it started and wrote is gone afterwards.

`scripts/demo` builds the broker and runs this.
"""
import argparse
import collections
import ctypes
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import recording
from screen import Screen, duration, size

HERE = Path(__file__).resolve().parent
STREAM, DISK_SINK, TCP_SINK = "blocks", "archive", "indexer"
USUAL_ADMIN_PORT = 9464
DEADLINE = 120  # seconds, for whatever must happen; a busy machine takes its time
STEPS = [
    ("live", "both sinks take what comes; the disk is idle"),
    ("outage", "kill -9 of the indexer: what it misses is journaled, the node goes on"),
    ("replay", "the indexer is started again: first the journal, in order"),
    ("live", "caught up: from memory again"),
    ("verify", "compare each sink with what was published, byte for byte"),
]
libc = ctypes.CDLL(None)


class Failed(Exception):
    """What did not happen."""


class View:
    """What is on the screen."""

    def __init__(self):
        self.began = time.monotonic()
        self.steps, self.at, self.progress = STEPS, 0, ""
        self.published = self.acknowledged = 0
        self.longest_wait = 0.0
        self.sinks, self.coverage = [], "unknown"
        self.volatile = TCP_SINK  # the one that goes down,
        self.down = None          # and while it is
        self.backlog = self.max_bytes = self.disk = self.most_disk = 0
        self.history, self.log = [], []
        self.catch_up = None
        self.metrics_url = self.status_command = ""
        self._recent = collections.deque(maxlen=30)  # (when, bytes of the backlog)
        self._acknowledged_at = None

    @property
    def seconds(self):
        return time.monotonic() - self.began

    @property
    def step(self):
        return self.steps[self.at][0]

    def sink(self, name):
        return next(sink for sink in self.sinks if sink["name"] == name)

    def update(self, report, publishing):
        """Takes what the broker says of itself."""
        stream = next(s for s in report["streams"] if s["name"] == STREAM)
        now = time.monotonic()
        safe = sequence(stream["safe"])
        if publishing and self._acknowledged_at is not None:
            self.longest_wait = max(self.longest_wait, now - self._acknowledged_at)
        if safe != self.acknowledged:
            self._acknowledged_at = now
        self.published, self.acknowledged = sequence(stream["held"]), safe
        self.sinks = [{
            "name": sink["name"], "state": sink["state"], "connected": sink["connected"],
            "acknowledged": sequence(sink["acked"]),
            "records": sink["backlog"]["records"], "bytes": sink["backlog"]["bytes"],
            "limits": sink["limits"],
        } for sink in stream["sinks"]]
        behind = self.sink(TCP_SINK)
        self.backlog = behind["bytes"] if behind["state"] != "live" else 0
        self.max_bytes = behind["limits"]["max_bytes"]["limit"] or 0
        self.coverage = stream["coverage"]
        self.disk = report["journal"]["disk_bytes"]
        self.most_disk = max(self.most_disk, self.disk)
        if not self._recent or now - self._recent[-1][0] >= 0.5:
            self._recent.append((now, self.backlog))
            self.history.append(self.backlog)
        growth = self.growth()
        self.catch_up = (self.backlog / -growth
                         if behind["state"] == "replaying" and growth < 0 else None)
        if stream["halt"]["active"]:
            raise Failed(f"the stream is halted: {stream['halt']['causes']}")

    def growth(self):
        """Of the backlog, in bytes a second."""
        recent = list(self._recent)[-6:]
        if len(recent) < 2:
            return 0
        return (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])

    def limits(self, sink):
        """(seconds until it would halt the node, its name), the soonest first."""
        found = []
        outage = sink["limits"]["outage_timeout_seconds"]["left"]
        if outage is not None:
            found.append((outage, "outage_timeout"))
        left = sink["limits"]["max_bytes"]["left"]
        if left is not None and self.growth() > 0:
            found.append((left / self.growth(), "max_bytes"))
        return sorted(found)

    def soonest(self, sink):
        found = self.limits(sink)
        return f"{duration(found[0][0])} ({found[0][1]})" if found else "-"


def sequence(position):
    """Of "epoch/sequence"."""
    return int(position.split("/")[1])


def short(line):
    """2026-01-02T03:04:05.678Z info sink connected stream=blocks sink=... without what is known."""
    words = line.split(" ")
    return " ".join([words[0][11:19], *(w for w in words[2:] if w != f"stream={STREAM}")])


def reserve_port(wanted=0):
    """A socket that holds a port of the loopback until it is closed; whoever listens there sets
    SO_REUSEADDR as well."""
    placeholder = socket.socket()
    placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        placeholder.bind(("127.0.0.1", wanted))
    except OSError:
        placeholder.bind(("127.0.0.1", 0))
    return placeholder


class Demo:
    def __init__(self, options, screen):
        self.options, self.screen, self.view = options, screen, View()
        self.spillway = options.bin.resolve() / "spillway"
        self.folder = Path(tempfile.mkdtemp(prefix="spillway-demo-"))
        self.payloads = recording.load()
        self.processes = []
        self.placeholders = [reserve_port(USUAL_ADMIN_PORT), reserve_port()]
        self.admin_port, self.indexer_port = (p.getsockname()[1] for p in self.placeholders)
        self.view.metrics_url = f"http://127.0.0.1:{self.admin_port}/metrics"
        self.view.status_command = (f"{os.path.relpath(self.spillway)} status"
                                    f" --admin 127.0.0.1:{self.admin_port}")
        self.broker = self.publisher = self.indexer = None
        self.feeding, self.fed = threading.Event(), 0
        self.broken = None  # why the feeder ended early

    # --- processes ---

    def start(self, name, *command, **more):
        """Its output goes to NAME.out and NAME.err; it does not outlive the demo."""
        out = open(self.folder / f"{name}.out", "ab")
        err = open(self.folder / f"{name}.err", "ab")
        with out, err:
            process = subprocess.Popen(
                [str(part) for part in command], stdout=out, stderr=err, cwd=self.folder,
                preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),  # PR_SET_PDEATHSIG
                **{"stdin": subprocess.DEVNULL, **more})
        process.name = name
        self.processes.append(process)
        return process

    def start_indexer(self):
        self.indexer = self.start("indexer", sys.executable, "-B", HERE / "receiver.py",
                                  self.indexer_port, self.folder / "indexer.records")

    def start_broker(self):
        template = string.Template((HERE / "spillway.toml").read_text(encoding="utf-8"))
        config = self.folder / "spillway.toml"
        config.write_text(template.substitute(admin_port=self.admin_port, folder=self.folder,
                                              indexer_port=self.indexer_port), encoding="utf-8")
        self.broker = self.start("broker", self.spillway, "run", "--config", config)

    def start_publisher(self):
        self.publisher = self.start(
            "publisher", self.spillway, "publish", "--connect",
            f"unix://{self.folder}/spillway.sock", "--stream", STREAM, "--file", "-",
            "--framing", "length_prefixed", "--rate", self.options.rate, "--json",
            stdin=subprocess.PIPE)
        self.feeding.set()
        threading.Thread(target=self.feed, daemon=True).start()

    def feed(self):
        """The recording, in a loop, until feeding is cleared. The publisher's pace is ours."""
        try:
            with self.publisher.stdin as pipe:
                for payload in itertools.cycle(self.payloads):
                    if not self.feeding.is_set():
                        return
                    pipe.write(recording.framed(payload))
                    self.fed += 1
        except OSError as error:
            self.broken = f"the publisher takes no more records: {error}"

    def end(self, process, code=0):
        """Waits for it to end in order, and goes on showing what happens."""
        self.until(f"the {process.name} ends", lambda: process.poll() is not None, watch=process)
        if process.returncode != code:
            raise Failed(f"the {process.name} ended with {process.returncode}")

    def clean_up(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for placeholder in self.placeholders:
            placeholder.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- time ---

    def status(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=DEADLINE)
        try:
            connection.request("GET", "/api/v1/status")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def log(self):
        with open(self.folder / "broker.err", encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()

    def look(self, ending=None):
        """One look at everything; `ending` is a process that may end now."""
        for process in (self.broker, self.publisher, self.indexer):
            if process and process is not ending and process.poll() is not None:
                raise Failed(f"the {process.name} ended by itself with {process.returncode}")
        if self.broken:
            raise Failed(self.broken)
        self.view.log = [short(line) for line in self.log()]
        try:
            self.view.update(self.status(), self.feeding.is_set())
        except (OSError, http.client.HTTPException):
            if ending is not self.broker:
                raise
        if self.screen.due():
            self.screen.show(self.view)

    def until(self, what, condition, watch=None):
        end = time.monotonic() + DEADLINE
        while True:
            self.look(watch)
            if condition():
                return
            if time.monotonic() > end:
                raise Failed(f"waited {DEADLINE} s in vain until {what}")
            time.sleep(0.1)

    def watch(self, seconds):
        """Looks on for a while."""
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < seconds:
            self.view.progress = f"{passed:.0f} of {seconds:.0f} s"
            self.look()
            time.sleep(0.1)
        self.view.progress = ""

    def step(self, index):
        self.view.at, self.view.progress = index, ""
        if not self.screen.terminal:
            self.screen.say(f"--- {STEPS[index][0]}: {STEPS[index][1]}")

    # --- the story ---

    def state(self, name):
        return self.view.sink(name)["state"]

    def moved(self, sink, to):
        """How often the broker says that `sink` came into a state."""
        return sum("sink moved" in line and f" sink={sink} " in line and f" to={to} " in line
                   for line in self.log())

    def run(self):
        self.start_indexer()
        self.start_broker()
        end = time.monotonic() + DEADLINE
        while True:
            if self.broker.poll() is not None or time.monotonic() > end:
                raise Failed("the broker did not start")
            try:
                if self.status()["ready"]:
                    break
            except (OSError, http.client.HTTPException):
                pass  # not yet
            time.sleep(0.1)
        self.start_publisher()
        self.step(0)
        self.until("both sinks are live and take records", lambda: all(
            sink["state"] == "live" and sink["acknowledged"] > 0 for sink in self.view.sinks))
        self.watch(self.options.live)
        self.outage()
        self.replay()
        self.step(3)
        self.until("nothing is journaled any more", lambda: self.view.coverage == "closed")
        self.watch(self.options.live)
        self.verify()

    def outage(self):
        self.step(1)
        self.indexer.kill()
        self.indexer.wait()
        self.indexer, self.view.down = None, TCP_SINK
        before, disk_sink_moves = self.view.acknowledged, self.moved(DISK_SINK, "journaling")
        self.until("the broker notices", lambda: self.state(TCP_SINK) == "journaling")
        self.watch(self.options.outage)
        behind = self.view.sink(TCP_SINK)
        self.missed = behind["records"], behind["bytes"]
        if self.view.acknowledged <= before or behind["records"] == 0:
            raise Failed("the node did not go on while the sink was away")
        if self.moved(DISK_SINK, "journaling") != disk_sink_moves:
            raise Failed(f"the outage of {TCP_SINK} took {DISK_SINK} with it")

    def replay(self):
        self.step(2)
        begin, replays = time.monotonic(), self.moved(TCP_SINK, "replaying")
        self.start_indexer()
        self.until("the broker has reached it again", lambda: self.state(TCP_SINK) != "journaling")
        self.view.down = None
        self.until("the sink is live", lambda: self.state(TCP_SINK) == "live")
        self.replayed_in = time.monotonic() - begin
        if self.moved(TCP_SINK, "replaying") == replays:
            raise Failed("the sink became live without a replay")

    def verify(self):
        self.step(4)
        self.feeding.clear()
        self.end(self.publisher)
        with open(self.folder / "publisher.out", encoding="utf-8") as file:
            self.published = json.load(file)
        self.publisher = None
        count = self.fed
        if not self.published["published"] == self.published["acknowledged"] == count:
            raise Failed(f"{count} records went to the publisher, which says {self.published}")
        self.until("both sinks have acknowledged everything", lambda: all(
            sink["acknowledged"] == count for sink in self.view.sinks))
        self.screen.show(self.view)
        self.verdict(count)
        if self.options.stay:
            self.stay()
        self.broker.send_signal(signal.SIGTERM)
        self.end(self.broker)

    def verdict(self, count):
        say, total = self.screen.say, sum(len(p) + 4 for p in self.payloads)
        rounds, rest = divmod(count, len(self.payloads))
        total = rounds * total + sum(len(p) + 4 for p in self.payloads[:rest])
        repeated = sum(int(line.split()[1]) for line in (
            self.folder / "indexer.out").read_text().splitlines() if line.startswith("repeated"))
        wrong = []
        say()
        for name in (DISK_SINK, TCP_SINK):
            difference = recording.difference(self.folder / f"{name}.records", self.payloads, count)
            if difference:
                say(f" {name:<10}WRONG: {difference}", "bad")
                wrong.append(name)
                continue
            say(f" {name:<10}holds all {count:,} records ({size(total)}), in order, byte for byte",
                "good")
            if name == TCP_SINK and repeated:
                say(f"           {repeated} came again after the kill; the receiver knew them")
        records, missed = self.missed
        say(f" outage    {records:,} records ({size(missed)}) in {self.options.outage:.0f} s;"
            f" live again {self.replayed_in:.1f} s after its start, at 4 MiB/s at most")
        say(f" node      published for {self.published['seconds']:.0f} s; never without an"
            f" acknowledgement for more than {self.view.longest_wait:.1f} s")
        say(f" journal   {size(self.view.most_disk)} on disk at most, of 128 MiB allowed")
        say(f" metrics   were at {self.view.metrics_url}; metrics/README.md lists them,"
            if not self.options.stay else f" metrics   {self.view.metrics_url}")
        if not self.options.stay:
            say("           and `scripts/demo --stay` leaves the broker up to look at them")
        if wrong:
            raise Failed(f"not what was published: {', '.join(wrong)}")

    def stay(self):
        self.screen.say(f" the broker stays up until Ctrl-C: {self.view.status_command}")
        try:
            self.broker.wait()
        except KeyboardInterrupt:
            pass

    def explain(self):
        """What the processes said before something went wrong."""
        for path in sorted(self.folder.glob("*.err")):
            lines = path.read_text(errors="replace").splitlines()
            if lines:
                self.screen.say(f"--- {path.stem}, the last of {len(lines)} lines")
                self.screen.say("\n".join(lines[-20:]))


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=Path, required=True, help="folder of the program spillway")
    parser.add_argument("--rate", type=int, default=150, help="records a second (150)")
    parser.add_argument("--live", type=float, default=8, help="seconds before and after (8)")
    parser.add_argument("--outage", type=float, default=20, help="seconds without the sink (20)")
    parser.add_argument("--plain", action="store_true", help="lines, as without a terminal")
    parser.add_argument("--stay", action="store_true", help="leave the broker up until Ctrl-C")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    screen = Screen(terminal=False if options.plain else None)
    demo = Demo(options, screen)
    try:
        demo.run()
        screen.say(" PASS", "good")
        return 0
    except (Failed, OSError) as error:
        screen.say()
        demo.explain()
        screen.say(f" FAIL: {error}", "bad")
        return 1
    except KeyboardInterrupt:
        screen.say(" interrupted")
        return 130
    finally:
        demo.clean_up()


if __name__ == "__main__":
    sys.exit(main())
