"""What the rows of the benchmark are made of: processes that print JSON lines, brokers, time."""
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import local  # noqa: E402
from local import ask, du, memory_of  # noqa: E402

DEADLINE = 300.0  # for any one thing


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, deadline=DEADLINE, look=0.005):
    return local.wait_for(what, condition, deadline, look)


class Process:
    """A program whose output is JSON lines."""

    def __init__(self, *command, log=None):
        self.lines = queue.Queue()
        self.log = open(log, "ab") if log else subprocess.DEVNULL
        self.child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE,
                                      stderr=self.log, stdin=subprocess.DEVNULL)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            if line.startswith(b"{"):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def line(self, key, deadline=DEADLINE):
        """The next line that has such a key."""
        end = time.monotonic() + deadline
        while True:
            line = self.lines.get(timeout=max(0.001, end - time.monotonic()))
            if line is None:
                raise RuntimeError(f"{self.child.args[0]} ended with {self.child.wait()}")
            if key in line:
                return line

    def kill(self):
        self.child.kill()
        self.child.wait()

    # What the kernel counts.
    def cpu(self):
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self):
        return memory_of(self.child.pid)

    def written(self):
        for line in Path(f"/proc/{self.child.pid}/io").read_text().splitlines():
            if line.startswith("write_bytes"):
                return int(line.split()[1])
        raise RuntimeError("no write_bytes")


class Broker:
    def __init__(self, bench, sinks, stream="", journal="", streams=None):
        self.bench = bench
        self.data_dir = bench.folder / f"data{bench.count()}"
        self.admin, self.ingress = free_port(), free_port()
        self.address = f"tcp://127.0.0.1:{self.ingress}"
        self.config = Path(f"{self.data_dir}.toml")
        text = streams or f'[[stream]]\nname = "s"\n{stream}\n{sinks}'
        self.config.write_text(f"""
data_dir = "{self.data_dir}"
[log]
level = "warn"
[admin]
listen = "127.0.0.1:{self.admin}"
[journal]
min_free_disk = "1GiB"
{journal}
[[ingress]]
listen = "{self.address}"
{text}
""")
        self.process = None

    def start(self):
        """Returns the seconds until it serves."""
        begin = time.monotonic()
        self.process = Process(self.bench.bin / "spillway", "run", "--config", self.config,
                               log=f"{self.data_dir}.log")
        self.bench.processes.append(self.process)
        wait_for("the broker serves", self._ready, look=0.002)
        return time.monotonic() - begin

    def _ready(self):
        if self.process.child.poll() is not None:
            raise RuntimeError(Path(f"{self.data_dir}.log").read_text()[-2000:])
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path):
        return ask(self.admin, path, deadline=30)

    def sink(self, name="out"):
        stream, = json.loads(self.get("/api/v1/status")[1])["streams"]
        return next(sink for sink in stream["sinks"] if sink["name"] == name)

    def metric(self, series):
        for line in self.get("/metrics")[1].splitlines():
            if line.rsplit(" ", 1)[0] == series:
                return float(line.rsplit(" ", 1)[1])
        raise KeyError(series)

    def wait_drained(self, name="out"):
        wait_for("drained", lambda: self.sink(name)["backlog"]["records"] == 0, look=0.05)

    def remove(self):
        if self.process:
            self.process.kill()
        shutil.rmtree(self.data_dir, ignore_errors=True)


def spillway_sink(port, name="out", more="", stream="s"):
    return (f'[[stream.sink]]\nname = "{name}"\ntype = "spillway"\n'
            f'connect = "tcp://127.0.0.1:{port}"\nstream = "{stream}"\nmax_bytes = "20GiB"\n'
            f'{more}\n')


def lines_sink(port, name="out", more=""):
    return (f'[[stream.sink]]\nname = "{name}"\ntype = "tcp"\nconnect = "tcp://127.0.0.1:{port}"\n'
            f'framing = "lines"\nacknowledge = "count"\nmax_bytes = "20GiB"\n{more}\n')


class Bench:
    """One run: its folder, its programs, and how thorough it is."""

    def __init__(self, bin_folder, folder, quick):
        self.bin = Path(bin_folder)
        self.folder = Path(tempfile.mkdtemp(prefix="spillway-bench-", dir=folder))
        self.quick = quick
        self.processes = []
        self.half_rate = None  # records/s, half of what passes through at most; once it is known
        self.round = 0  # of a row
        self._ran = {}
        self._count = 0

    def once(self, what, run):
        """What run() gave in this round, for all the rows that a run has figures for."""
        if (what, self.round) not in self._ran:
            self._ran[what, self.round] = run()
        return self._ran[what, self.round]

    def count(self):
        self._count += 1
        return self._count

    def scale(self, full, quick):
        return quick if self.quick else full

    def receiver(self, port, protocol="spillway", expect=0):
        process = Process(self.bin / "bench_receiver", "--listen", f"tcp://127.0.0.1:{port}",
                          "--protocol", protocol, "--expect", expect)
        self.processes.append(process)
        process.ready = process.line("ready")["ready"]
        return process

    def relay(self, port, target):
        process = Process(self.bin / "bench_relay", "--listen", f"tcp://127.0.0.1:{port}",
                          "--connect", f"tcp://127.0.0.1:{target}")
        self.processes.append(process)
        process.line("ready")
        return process

    def generator(self, address, **options):
        words = [word for name, value in options.items()
                 for word in ("--" + name.replace("_", "-"), value)]
        process = Process(self.bin / "bench_generator", "--connect", address, *words)
        self.processes.append(process)
        return process

    def generate(self, address, **options):
        return self.generator(address, **options).line("end")

    def disk(self, mode, total, group, value=65536, program="bench_disk"):
        folder = self.folder / f"disk{self.count()}"
        process = Process(self.bin / program, "--mode", mode, "--dir", folder,
                          "--bytes", int(total), "--group", int(group), "--value", int(value))
        try:
            return process.line("seconds")["seconds"]
        finally:
            process.kill()
            shutil.rmtree(folder, ignore_errors=True)

    def clear(self):
        """Between rows: nothing of the last one runs or lies about."""
        for process in self.processes:
            process.kill()
        self.processes.clear()
        for path in self.folder.iterdir():
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)

    def end(self):
        self.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
