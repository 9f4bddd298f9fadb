"""What the scenarios of this folder are made of: brokers, producers and receivers as processes, in
a folder that is removed at the end.

A scenario is a function whose name is a sentence and whose argument is a Run:

    def a_sink_that_comes_back_gets_everything(run):
        broker = run.broker("broker", ...).start()

`python3 FILE.py [SENTENCE] [--seed N] [--rounds N] [--keep]` runs one, or all of FILE.py.
Everything waits for events with one generous deadline; nothing waits for a time.
"""
import argparse
import ctypes
import inspect
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from receiver import Receiver

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import local  # noqa: E402
from local import ask, du, memory_of, pause  # noqa: E402

BIN = Path(os.environ.get("SPILLWAY_BIN", "build/release/bin")).resolve()
ROOT = Path(__file__).resolve().parents[2]
LOOK = 0.02  # between looks at something that cannot be awaited otherwise
# A sanitizer takes a few times the memory and the time: what is held against figures is not then.
SANITIZED = bool({"ASAN_OPTIONS", "TSAN_OPTIONS"} & os.environ.keys())
DEADLINE = 270.0 if SANITIZED else 90.0  # for any one event, on a busy machine
OK, FAILED, USAGE, HALTED = 0, 1, 2, 3  # exit codes of the program

_libc = ctypes.CDLL(None)
_hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _prepare_child():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    # What most systems give a process, whatever the test has asked for itself.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, _hard_limit), _hard_limit))


def wait_for(what, condition, deadline=DEADLINE):
    """The first true value of condition()."""
    return local.wait_for(what, condition, deadline, LOOK)


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def sequence(position):
    """Of "epoch/sequence"."""
    return int(position.split("/")[1])


class Watch(threading.Thread):
    """The most that each broker of a run ever took: of memory, and of the disk, which is held
    against max_disk_bytes (G6)."""

    def __init__(self, brokers):
        super().__init__(daemon=True)
        self.brokers, self.memory, self.disk = brokers, {}, {}
        self._done = threading.Event()
        self.start()

    def look(self):
        for broker in list(self.brokers):
            name, process = broker.name, broker.process
            self.disk[name] = max(self.disk.get(name, 0), du(broker.data_dir))
            if process is not None and process.running():
                try:
                    now = memory_of(process.child.pid)
                except OSError:
                    continue  # it has just ended
                self.memory[name] = max(self.memory.get(name, 0), now)

    def run(self):
        while not self._done.wait(0.1):
            self.look()

    def finish(self):
        self._done.set()
        self.join()
        self.look()
        for broker in self.brokers:
            most, bound = self.disk[broker.name], broker.max_disk_bytes
            expect(most <= bound, f"{broker.data_dir} took {most} bytes, {bound} are allowed")

    def most(self):
        """A line, which maxima.py reads."""
        mib = 1 << 20
        return "most: " + "; ".join(
            f"{b.name} {self.memory.get(b.name, 0) / mib:.1f} MiB of memory, "
            f"{self.disk.get(b.name, 0) / mib:.1f} of {b.max_disk_bytes / mib:.0f} MiB of disk"
            for b in self.brokers)


class Process:
    """A child whose output goes to files, and that does not outlive the test."""

    def __init__(self, run, name, command, environment=None):
        self.run, self.name = run, name
        self.out_path = run.folder / f"{name}.out"
        self.err_path = run.folder / f"{name}.err"
        self.err_from = self.err_path.stat().st_size if self.err_path.exists() else 0
        with open(self.out_path, "wb") as out, open(self.err_path, "ab") as err:
            self.child = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err,
                                          stdin=subprocess.DEVNULL, cwd=run.folder,
                                          env={**os.environ, **(environment or {})},
                                          preexec_fn=_prepare_child)
        run.processes.append(self)

    def running(self):
        return self.child.poll() is None

    def errors(self):
        with open(self.err_path, "rb") as file:
            file.seek(self.err_from)
            return file.read().decode(errors="replace")

    def wait(self, deadline=DEADLINE):
        """The exit code."""
        try:
            return self.child.wait(deadline)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"in vain: the end of {self.name}") from None

    def kill(self):
        if self.running():
            self.child.kill()
        self.child.wait()


class Publisher(Process):
    """`spillway publish`."""

    def result(self, code=OK):
        found = self.wait()
        text = self.out_path.read_text()
        expect(found == code, f"{self.name} ended with {found} instead of {code}: {text} "
                              f"{self.errors()[-2000:]}")
        return json.loads(text)


class Broker:
    """`spillway run` with a configuration, started and stopped as often as needed on the same
    ports. `streams` is TOML; so are `journal` (keys of [journal]) and `top` (what comes first).
    `under` is a command that runs it, such as env.
    What data_dir takes is held against max_disk_bytes as long as the run lasts."""

    def __init__(self, run, name, streams, journal="", top="", under=()):
        self.run, self.name, self.under = run, name, under
        self.data_dir = run.folder / f"{name}.data"
        self.config = run.folder / f"{name}.toml"
        self.admin_port, self.ingress_port = run.port(), run.port()
        self.address = f"tcp://127.0.0.1:{self.ingress_port}"
        self.unix = f"unix://{run.folder}/{name}.sock"
        if "max_disk_bytes" not in journal:
            journal += '\nmax_disk_bytes = "512MiB"'
        number, unit = re.search(r'max_disk_bytes = "(\d+)(B|MiB|GiB)"', journal).groups()
        self.max_disk_bytes = int(number) << {"B": 0, "MiB": 20, "GiB": 30}[unit]
        self.journal, self.top = journal, top
        self.process = None
        self.starts = 0
        self.configure(streams)

    def configure(self, streams):
        self.config.write_text(f"""
data_dir = "{self.data_dir}"
{self.top}
[admin]
listen = "127.0.0.1:{self.admin_port}"
[journal]
min_free_disk = "1MiB"
{self.journal}
[[ingress]]
listen = "{self.address}"
[[ingress]]
listen = "{self.unix}"
{streams}
""")
        return self

    def launch(self, *options):
        self.process = Process(self.run, self.name, [*self.under, BIN / "spillway", "run",
                                                     "--config", self.config, *options])
        self.starts += 1
        return self

    def start(self, *options):
        self.launch(*options)
        wait_for(f"{self.name} is ready", self.is_ready)
        return self

    def is_ready(self):
        expect(self.process.running(), f"{self.name} ended with {self.process.child.returncode}: "
                                       f"{self.log()[-3000:]}")
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        return self

    def stop(self, code=OK):
        """In order. Returns the seconds it took."""
        begin = time.monotonic()
        self.process.child.terminate()
        found = self.process.wait()
        expect(found == code, f"{self.name} stopped with {found}: {self.log()[-3000:]}")
        return time.monotonic() - begin

    def log(self):
        """Of the present process."""
        return self.process.errors()

    def wait_log(self, *texts):
        """Until one line has all of them."""
        return wait_for(f"{self.name} logs {texts}", lambda: next(
            (line for line in self.log().splitlines() if all(t in line for t in texts)), None))

    # --- what it says ---

    def get(self, path, method="GET"):
        return ask(self.admin_port, path, method, DEADLINE)

    def status(self):
        return json.loads(self.get("/api/v1/status")[1])

    def stream(self, name="s"):
        return next(s for s in self.status()["streams"] if s["name"] == name)

    def sink(self, name, stream="s"):
        return next(s for s in self.stream(stream)["sinks"] if s["name"] == name)

    def metrics(self):
        """{series: value}"""
        lines = self.get("/metrics")[1].splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {series: float(value) for series, value in pairs}

    # --- until it says something ---

    def _wait_seen(self, what, ask, condition, deadline):
        """The first answer of ask() that meets the condition; or what it said last, as an error."""
        seen = {}

        def look():
            expect(self.process.running(), f"{self.name} ended with "
                                           f"{self.process.child.returncode}")
            seen.clear()
            seen.update(ask())
            return condition(seen)
        try:
            wait_for(f"{self.name}: {what}", look, deadline)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it says {json.dumps(seen)}") from None
        return seen

    def wait_sink(self, what, name, condition, stream="s", deadline=DEADLINE):
        return self._wait_seen(f"{name} {what}", lambda: self.sink(name, stream), condition,
                               deadline)

    def wait_state(self, name, state, stream="s"):
        return self.wait_sink(f"is {state}", name, lambda sink: sink["state"] == state, stream)

    def wait_drained(self, name, stream="s"):
        """Live, and nothing waits."""
        return self.wait_sink("is drained", name, lambda sink: sink["state"] == "live" and
                              sink["backlog"]["records"] == 0, stream)

    def wait_stream(self, what, condition, stream="s", deadline=DEADLINE):
        return self._wait_seen(f"stream {stream} {what}", lambda: self.stream(stream), condition,
                               deadline)

    def wait_halt(self, stream="s", active=True):
        return self.wait_stream("is halted" if active else "goes on",
                                lambda s: s["halt"]["active"] == active, stream)

    # --- the command line ---

    def cli(self, *command, code=OK):
        """What `spillway COMMAND --json --config ...` prints."""
        return self.run.cli(*command, "--config", self.config, code=code)


class Run:
    """One scenario: what it started, and the chance it took."""

    def __init__(self, name, seed, rounds):
        self.seed, self.rounds = seed, rounds
        self.random = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix=f"spillway-{name[:24]}-"))
        self.processes, self.receivers, self._ports = [], [], []
        self.at_end = []  # what is called when nobody runs any more
        self.brokers = []
        self.watch = Watch(self.brokers)
        self.expects_losses = False  # and looks for them in the ledger itself
        self._last = 0

    def say(self, text):
        print(text, flush=True)

    def port(self):
        """A port that nobody else is given while the test runs: it stays bound, and whoever listens
        on it sets SO_REUSEADDR as well."""
        placeholder = socket.socket()
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        placeholder.bind(("127.0.0.1", 0))
        self._ports.append(placeholder)
        return placeholder.getsockname()[1]

    def broker(self, name, streams, **more):
        self.brokers.append(Broker(self, name, streams, **more))
        return self.brokers[-1]

    def receiver(self, port, name, **more):
        receiver = Receiver(port, self.folder / name, **more)
        self.receivers.append(receiver)
        return receiver

    def receiver_process(self, port, name):
        process = Process(self, f"{name}.process", [sys.executable, "-B", Path(__file__).parent /
                                                    "receiver.py", port, self.folder / name])
        wait_for("the receiver listens", lambda: process.out_path.read_bytes())
        return process

    def publish(self, address, file, *more, stream="s", name=None):
        self._last += 1
        return Publisher(self, name or f"publish{self._last}",
                         [BIN / "spillway", "publish", "--connect", address, "--stream", stream,
                          "--file", file, "--json", *more])

    def cli(self, *command, code=OK):
        """What `spillway COMMAND --json` prints."""
        done = subprocess.run([str(part) for part in (BIN / "spillway", *command, "--json")],
                              capture_output=True, text=True, timeout=DEADLINE, cwd=self.folder)
        codes = code if isinstance(code, tuple) else (code,)
        expect(done.returncode in codes, f"{command} ended with {done.returncode} instead of "
                                         f"{code}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout)

    def records(self, name, count, size=100, first=1):
        """A file with a record a line, which begins with its number."""
        path = self.folder / name
        with open(path, "w", encoding="ascii") as file:
            for number in range(first, first + count):
                file.write(f"{number:09d} ".ljust(size - 1, chr(97 + number % 26)) + "\n")
        return path

    def check_ledgers(self):
        """Nothing was given up, but in scenarios that say which losses they expect (G10)."""
        if self.expects_losses:
            return
        for broker in self.brokers:
            command = ["journal", "status", "--ledger", "1000"]
            if broker.process is not None and broker.process.running():
                found = broker.cli(*command, code=(OK, HALTED))
            elif broker.starts > 0 and broker.data_dir.exists():
                found = self.cli(*command, "--data-dir", broker.data_dir, code=(OK, HALTED))
            else:
                continue
            for stream_ in found["streams"]:
                lost = [entry for entry in stream_.get("ledger", []) if not entry["upper_bound"]]
                expect(not lost, f"the ledger of {broker.name} has what nobody lost: {lost}")

    def end(self, good, keep):
        for receiver in self.receivers:
            receiver.stop()
        for process in self.processes:
            process.kill()
        for undo in self.at_end:
            undo()
        for placeholder in self._ports:
            placeholder.close()
        if not good:
            for path in sorted(self.folder.glob("*.err")):
                text = path.read_text(errors="replace").splitlines()
                print(f"--- {path.name}, the last of {len(text)} lines")
                print("\n".join(line[:400] for line in text[-60:]))
        if keep:
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def file_sink(name, path, more=""):
    return f'[[stream.sink]]\nname = "{name}"\ntype = "file"\npath = "{path}"\n{more}\n'


def tcp_sink(name, port, more=""):
    return (f'[[stream.sink]]\nname = "{name}"\ntype = "tcp"\nconnect = "tcp://127.0.0.1:{port}"\n'
            f"{more}\n")


def relay_sink(name, address, more=""):
    return f'[[stream.sink]]\nname = "{name}"\ntype = "spillway"\nconnect = "{address}"\n{more}\n'


def stream(*sinks, name="s", more=""):
    return f'[[stream]]\nname = "{name}"\n{more}\n' + "".join(sinks)


def scenarios_of(module):
    """The functions of a file that take a Run, in the order of the file."""
    found = [f for f in vars(module).values() if inspect.isfunction(f) and
             f.__module__ == module.__name__ and list(inspect.signature(f).parameters) == ["run"]]
    return {f.__name__: f for f in sorted(found, key=lambda f: f.__code__.co_firstlineno)}


def main(rounds=25):
    scenarios = scenarios_of(sys.modules["__main__"])
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", nargs="*", metavar="SENTENCE")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run")
    options = parser.parse_args()
    unknown = [name for name in options.scenario if name not in scenarios]
    if unknown:
        parser.error(f"no such scenario: {unknown}; there are {list(scenarios)}")
    failed = []
    for name in options.scenario or scenarios:
        seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
        print(f"{re.sub('_', ' ', name)}: --seed {seed}", flush=True)
        begin = time.monotonic()
        run, good = Run(name, seed, options.rounds), False
        try:
            scenarios[name](run)
            run.check_ledgers()
            run.watch.finish()
            if run.brokers:
                print(run.watch.most())
            good = True
        except BaseException:  # also an interrupt: the children must end
            traceback.print_exc(file=sys.stdout)
            failed.append(name)
        finally:
            run.end(good, options.keep)
        print(f"{'ok' if good else 'FAILED'} after {time.monotonic() - begin:.1f} s", flush=True)
    sys.exit(1 if failed else 0)
