"""The bound on disk use, measured as `du` counts it, and a disk that fills up (G6, G7)."""
import os
import re
import resource
import subprocess
import threading

import harness
from groups import Groups
from harness import HALTED, du, expect, sequence, stream, tcp_sink, wait_for
from verify import delivered

BOUND = 64 << 20


class Du(threading.Thread):
    """The most that a folder ever took, looked at as often as can be."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.most, self._done = folder, 0, threading.Event()
        self.start()

    def run(self):
        while not self._done.wait(0.01):
            self.most = max(self.most, du(self.folder))

    def finish(self):
        self._done.set()
        self.join()
        return self.most


def data_dir_never_takes_more_than_its_bound_and_the_halt_ends_with_the_outage(run):
    published = run.records("records", 16_000, size=8_000)  # 128 MB: twice the bound
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port)),
                        journal=f'max_disk_bytes = "{BOUND}B"\ncompression = "none"').start()
    du = Du(broker.data_dir)
    publisher = run.publish(broker.address, published)
    halt = broker.wait_halt()["halt"]
    expect([(c["kind"], c["sink"]) for c in halt["causes"]] == [("disk_bound", "")], halt)
    broker.cli("status", code=HALTED)
    broker.kill().start()  # with a full journal, too
    broker.wait_halt()
    receiver.start()
    publisher.result()
    broker.wait_drained("t")
    broker.wait_halt(active=False)
    broker.wait_stream("is closed", lambda s: s["coverage"] == "closed")
    most = du.finish()
    run.say(f"{most} bytes of {BOUND} at most")
    expect(most <= BOUND, f"data_dir took {most} bytes")
    expect(most > BOUND // 3, f"it halted when data_dir took only {most} bytes")
    delivered(receiver.path, published)


def a_full_disk_takes_the_rest_of_a_group_and_no_other_group(run):
    """Also of a producer that is never between two groups when something is written."""
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port)),
                        journal=f'max_disk_bytes = "{BOUND}B"\ncompression = "none"\n'
                                'group_reserve = "8MiB"').start()
    du = Du(broker.data_dir)
    producer = Groups(broker.address, count=320, size=10)  # 128 MB
    halt = broker.wait_halt()["halt"]
    expect([c["kind"] for c in halt["causes"]] == ["disk_bound"], halt)
    wait_for("the group that had begun is acknowledged",
             lambda: producer.safe and producer.safe % producer.size == 0)
    expect(producer.safe < producer.total, "nothing was held back")
    receiver.start()
    producer.join(harness.DEADLINE)
    expect(not producer.error and not producer.is_alive(), f"the producer: {producer.error}")
    broker.wait_drained("t")
    broker.wait_halt(active=False)
    most = du.finish()
    run.say(f"{most} bytes of {BOUND} at most")
    expect(most <= BOUND, f"data_dir took {most} bytes")
    expect(broker.log().count("error stream halted") < 10, "it halts and goes on all the time")
    published = run.folder / "published"
    published.write_bytes(b"".join(producer.line(i + 1) + b"\n" for i in range(producer.total)))
    delivered(receiver.path, published)


def drop_oldest_keeps_the_newest_that_fit_the_disk(run):
    run.expects_losses = True
    published = run.records("records", 16_000, size=8_000)
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port, 'on_limit = "drop_oldest"')),
                        journal=f'max_disk_bytes = "{BOUND}B"\ncompression = "none"').start()
    du = Du(broker.data_dir)
    run.publish(broker.address, published).result()
    receiver.start()
    broker.wait_drained("t")
    most = du.finish()
    expect(most <= BOUND, f"data_dir took {most} bytes")

    def ledger():
        shown = broker.cli("journal", "status", "--ledger", "10000")["streams"][0]["ledger"]
        return shown if all(entry["last"] for entry in shown) else None
    ranges = [(sequence(e["first"]), sequence(e["last"])) for e in wait_for("the ledger", ledger)]
    lost = sum(last - first + 1 for first, last in ranges)
    expect(0 < lost < 16_000, f"{lost} records dropped")
    delivered(receiver.path, published, skipped=ranges)


def small_disk(run, megabytes):
    """A file system of so many MiB, until the run ends; nothing where mounting is not permitted."""
    folder = run.folder / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "spillway-test",
                           folder], capture_output=True)
    if done.returncode != 0:
        return None
    run.at_end.append(lambda: subprocess.run(["umount", folder], check=True))
    return folder


def a_file_system_that_is_full_halts_and_goes_on_when_there_is_space(run):
    """On a small tmpfs that something else fills up. Where mounting is not permitted, the bound of
    the configuration stands in for the size of the disk."""
    disk = small_disk(run, 96)
    published = run.records("records", 12_000, size=8_000)
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port)),
                        journal=f'max_disk_bytes = "{1 << 30 if disk else BOUND}B"\n'
                                'compression = "none"')
    if disk:
        on_disk(broker, disk)
        (disk / "other").write_bytes(bytes(40 << 20))
    broker.start()
    publisher = run.publish(broker.address, published)
    halt = broker.wait_halt()["halt"]
    kinds = [cause["kind"] for cause in halt["causes"]]
    expect(kinds == (["min_free_disk"] if disk else ["disk_bound"]), halt)
    run.say(f"halted by {kinds}" + ("" if disk else ", without a file system of its own"))
    before = sequence(broker.stream()["held"])
    if disk:
        (disk / "other").unlink()
        broker.wait_stream("goes on", lambda s: sequence(s["held"]) > before)
    receiver.start()
    publisher.result()
    broker.wait_drained("t")
    broker.stop()
    delivered(receiver.path, published)


def a_process_that_may_write_nothing_any_more_halts_and_goes_on_when_it_may(run):
    """Its limit of file sizes refuses every write of every file: WAL, tables, latch, marks, log."""
    published = run.records("records", 12_000, size=2_000)
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port)),
                        journal='journal_timeout = "1s"').start()
    publisher = run.publish(broker.address, published, "--rate", "4000")
    broker.wait_stream("is journaling", lambda s: sequence(s["held"]) > 1_000)
    pid = broker.process.child.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    halt = broker.wait_halt()["halt"]
    expect([cause["kind"] for cause in halt["causes"]] == ["journal_failing"], halt)
    held = sequence(broker.stream()["held"])
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    broker.wait_halt(active=False)
    broker.wait_stream("goes on", lambda s: sequence(s["held"]) > held)
    broker.kill().start()  # what it acknowledged is in the journal
    receiver.start()
    publisher.result()
    broker.wait_drained("t")
    delivered(receiver.path, published)


def on_disk(broker, disk):
    """The broker keeps its data on that file system."""
    folder = broker.data_dir
    broker.data_dir = disk / "data"
    broker.config.write_text(broker.config.read_text().replace(str(folder), str(disk / "data")))
    return broker


def somebody_else_who_fills_the_disk_halts_the_stream_only_until_there_is_space(run):
    """Under load, to the last byte, again and again. Where mounting is not permitted, free space
    below min_free_disk stands in for none."""
    disk = small_disk(run, 256)
    published = run.records("records", 12_000, size=8_000)
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port)),
                        journal='max_disk_bytes = "512MiB"\ncompression = "none"\n'
                                'journal_timeout = "1s"')
    if disk:
        on_disk(broker, disk)
    other = (disk or run.folder) / "other"

    def fill():
        if disk:
            with open(other, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(1 << 20))
                except OSError:
                    pass  # not a byte is left
        else:
            free = os.statvfs(run.folder)
            text = broker.config.read_text()
            needed = free.f_bavail * free.f_frsize - (16 << 20)
            broker.stop()
            broker.config.write_text(re.sub('min_free_disk = ".*"', f'min_free_disk = "{needed}B"',
                                            text))
            broker.start()

    def give_back():
        if disk:
            other.unlink()
        else:
            broker.stop()
            broker.config.write_text(re.sub('min_free_disk = ".*"', 'min_free_disk = "1MiB"',
                                            broker.config.read_text()))
            broker.start()
    broker.start()
    publisher = run.publish(broker.address, published, "--rate", "2000")
    seen = set()
    for _ in range(3):
        before = sequence(broker.stream()["held"])
        broker.wait_stream("goes on", lambda s: sequence(s["held"]) > before + 1_000)
        fill()
        halt = broker.wait_halt()["halt"]
        seen |= {cause["kind"] for cause in halt["causes"]}
        give_back()
        broker.wait_halt(active=False)
    expect(seen <= {"min_free_disk", "journal_failing"}, f"halted by {seen}")
    receiver.start()
    publisher.result()
    broker.wait_drained("t")
    broker.stop()
    run.say(f"halted by {seen}")
    delivered(receiver.path, published)


if __name__ == "__main__":
    harness.main()
