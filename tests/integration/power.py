"""Power failure of the real program (G1, G2, G4, D1 to D7): what was not synced is gone, in part or
whole. One round for each phase by default; `--rounds 10 --seed S` by hand.

The broker runs under `power_shim` (tests/power/README.md), which writes down what it makes durable.
To hit a phase surely, the syncs of that phase are held up, as a slow disk would, until the broker
is in it; then it is killed, and its disk becomes what a power cut leaves."""
import fcntl
import os
import shutil
import subprocess

import harness
from harness import BIN, Broker, Process, expect, file_sink, sequence, stream, tcp_sink, wait_for
from verify import Floors, delivered, same

ROUND_RECORDS = 6_000
LEAVES = ("nothing", "chance", "chance", "all")


class Hold:
    """Until its end, syncs of a kind wait."""

    def __init__(self, control, kind):
        self.gate, self.sign = control / f"hold.{kind}", control / f"held.{kind}"
        self.kind = kind

        self.sign.unlink(missing_ok=True)
        self.file = open(self.gate, "w", encoding="ascii")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def end(self):
        self.file.close()

    def wait(self):
        wait_for(f"a {self.kind} sync is held up", self.sign.exists)

    def wait_in(self, what, condition):
        """Lets one sync after the other go until the condition holds, and holds up the next."""
        def look():
            if condition():
                return True
            if self.sign.exists():
                fcntl.flock(self.file, fcntl.LOCK_UN)
                fcntl.flock(self.file, fcntl.LOCK_EX)
            return False
        wait_for(what, look)
        self.wait()


class Machine(Broker):
    """A broker with a disk of its own, which also has what its `file` sink keeps."""

    def __init__(self, run, sinks, more="", journal=""):
        self.disk, self.control = run.folder / "disk", run.folder / "control"
        self.base, self.trace = run.folder / "base", run.folder / "trace"
        self.kept = self.disk / "kept"
        self.disk.mkdir()
        self.control.mkdir()
        self.cuts = []
        super().__init__(run, "broker", stream(file_sink("f", self.kept), *sinks, more=more),
                         journal=journal)

    def configure(self, streams):
        self.data_dir = self.disk / "data"
        return super().configure(streams)

    def launch(self, die_at=None):
        shutil.rmtree(self.base, ignore_errors=True)
        shutil.copytree(self.disk, self.base, symlinks=True)
        self.trace.unlink(missing_ok=True)
        preload = {"LD_PRELOAD": BIN / "libpower_shim.so", "SPILLWAY_POWER_ROOT": self.disk,
                   "SPILLWAY_POWER_TRACE": self.trace, "SPILLWAY_POWER_CONTROL": self.control,
                   "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:"
                                   "verify_asan_link_order=0"}
        if die_at:
            preload["SPILLWAY_POWER_DIE_AT"] = die_at
        self.process = Process(self.run, self.name,
                               [BIN / "spillway", "run", "--config", self.config],
                               {name: str(value) for name, value in preload.items()})
        self.starts += 1
        return self

    def cut(self, phase):
        """The power goes; afterwards the disk is what that leaves."""
        self.process.kill()
        leaves = self.run.random.choice(LEAVES)
        left = self.run.folder / "left"
        done = subprocess.run([BIN / "power_cut", self.base, self.trace, left, leaves,
                               str(self.run.random.randrange(1 << 32))],
                              capture_output=True, text=True, check=True)
        shutil.rmtree(self.disk)
        left.rename(self.disk)
        self.cuts.append(f"{phase}, which left {leaves} after {done.stdout.strip()}")
        return self

    def hold(self, kind):
        return Hold(self.control, kind)

    def wait_coverage(self, to):
        return self.wait_log("journal coverage moved", f"to={to}")


class Scene:
    """A machine, a receiver that stays when it loses power, and what is published in rounds."""

    def __init__(self, run, more, sink="", size=100, records=ROUND_RECORDS):
        self.run, self.size, self.records = run, size, records
        self.receiver = run.receiver(run.port(), "taken").start()
        self.machine = Machine(run, [tcp_sink("t", self.receiver.port, sink)], more,
                               'max_disk_bytes = "64MiB"\ncompression = "none"').start()
        self.floors = Floors(self.machine, "t")
        self.total = 0
        self.published = self.publisher = None

    def publish(self, *more):
        """The next round's records, after those of the earlier ones."""
        self.total += self.records
        self.published = self.run.records("records", self.total, self.size)
        self.more = more
        self.start_publisher()

    def start_publisher(self):
        self.publisher = self.run.publish(self.machine.address, self.published, "--resume",
                                          *self.more, name="publish")

    def wait_acked(self, records):
        """Until sink f has some of this round's."""
        goal = self.total - self.records + records
        self.machine.wait_sink(f"has {goal}", "f", lambda s: sequence(s["acked"]) >= goal)

    def away(self):
        self.receiver.stop()

    def back(self):
        self.receiver.start()

    def cut(self, phase, hold=None):
        """The power of the broker's machine, on which the producer may run as well."""
        self.machine.process.kill()
        if hold:
            hold.end()
        if self.run.random.random() < 0.5:
            self.publisher.kill()
        self.machine.cut(phase)
        self.machine.start()
        if not self.publisher.running():
            self.start_publisher()

    def wait_death(self):
        """Publishes until the broker is gone: an idle one has nothing to sync."""
        def gone():
            if self.machine.process.running() and not self.publisher.running():
                self.publisher.result()
                self.publish(*self.more)
            return not self.machine.process.running()
        wait_for("the end of the broker", gone)

    def settle(self):
        """Everything published so far arrives."""
        if not self.receiver.listening():
            self.back()
        self.publisher.result()
        self.machine.wait_drained("t")
        self.machine.wait_drained("f")
        expect(sequence(self.machine.stream()["held"]) == self.total, "not all is held")

    def compare(self):
        self.receiver.stop()
        repeats = delivered(self.receiver.path, self.published, self.floors.finish(
            self.receiver.path))
        same(self.machine.kept, self.published)
        self.run.say(f"{self.total} records, {repeats} repeats; cut while "
                     + "; ".join(self.machine.cuts))


def a_power_cut_while_coverage_is_opening_loses_nothing(run):
    scene = Scene(run, 'checkpoint_interval = "60s"')
    for _ in range(run.rounds):
        scene.publish("--rate", "10000")
        scene.wait_acked(run.random.randrange(1, ROUND_RECORDS // 2))
        hold = scene.machine.hold("wal")
        scene.away()
        scene.machine.wait_coverage("opening")
        hold.wait()
        scene.cut("opening", hold)
        scene.machine.wait_coverage("open")
        scene.settle()
        scene.machine.wait_coverage("closed")
    scene.compare()


def a_power_cut_while_coverage_is_open_loses_nothing(run):
    scene = Scene(run, 'checkpoint_interval = "60s"')
    for _ in range(run.rounds):
        scene.publish("--rate", "10000")
        scene.away()
        scene.machine.wait_coverage("open")
        scene.wait_acked(run.random.randrange(1, ROUND_RECORDS - 1000))
        if run.random.random() < 0.5:
            hold = scene.machine.hold("wal")
            hold.wait()
            scene.cut("open, in an append", hold)
        else:
            scene.cut("open")
        scene.settle()
        scene.machine.wait_coverage("closed")
    scene.compare()


def a_power_cut_while_coverage_is_closing_loses_nothing(run):
    scene = Scene(run, 'checkpoint_interval = "60s"')
    for _ in range(run.rounds):
        scene.away()
        scene.publish()
        scene.publisher.result()  # all of it is in the journal, and nothing more is written
        hold = scene.machine.hold("wal")
        scene.back()
        hold.wait_in("coverage is closing", lambda: "to=sealing" in scene.machine.log())
        scene.cut("closing", hold)
        scene.settle()
        scene.machine.wait_coverage("closed")
    scene.compare()


def a_power_cut_in_a_checkpoint_loses_nothing(run):
    scene = Scene(run, 'checkpoint_interval = "50ms"')
    for _ in range(run.rounds):
        scene.publish("--rate", "10000")
        scene.wait_acked(run.random.randrange(1, ROUND_RECORDS // 2))
        hold = scene.machine.hold("wal")
        hold.wait()
        expect(scene.machine.stream()["coverage"] == "closed", "it is not a checkpoint")
        scene.cut("in a checkpoint", hold)
        scene.settle()
    scene.compare()


def a_power_cut_in_a_trim_loses_nothing(run):
    # Tables of 4 MiB: several of them are given back.
    scene = Scene(run, 'checkpoint_interval = "50ms"', size=2_000, records=8_000)
    for _ in range(run.rounds):
        scene.away()
        scene.publish()
        scene.publisher.result()
        hold = scene.machine.hold("trim")
        scene.back()
        hold.wait()
        scene.cut("in a trim", hold)
        scene.settle()
        scene.machine.wait_coverage("closed")
    scene.compare()


def a_power_cut_while_the_latch_is_written_loses_nothing(run):
    scene = Scene(run, 'checkpoint_interval = "60s"',
                  sink=f"max_records = {ROUND_RECORDS // 2}")
    for _ in range(run.rounds):
        scene.away()
        hold = scene.machine.hold("latch")
        scene.publish()
        hold.wait()
        scene.cut("writing the latch", hold)
        scene.machine.wait_halt()
        scene.settle()
        scene.machine.wait_halt(active=False)
    scene.compare()


def power_cuts_at_any_sync_of_a_start_and_of_what_follows_lose_nothing(run):
    scene = Scene(run, 'checkpoint_interval = "50ms"', records=ROUND_RECORDS * run.rounds)
    scene.publish("--rate", "2000")
    scene.away()
    for number in range(1, 2 + 2 * run.rounds):
        scene.machine.cut("starting" if number > 1 else "running")
        if number % 2 == 0:
            scene.back()
        elif scene.receiver.listening():
            scene.away()
        scene.machine.launch(die_at=run.random.randrange(1, 40))
        scene.wait_death()
    scene.machine.cut("starting").start()
    if not scene.publisher.running():
        scene.start_publisher()
    scene.settle()
    scene.compare()


if __name__ == "__main__":
    harness.main(rounds=1)
