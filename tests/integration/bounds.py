"""What grows with an outage, a refusal or a crowd has a bound: memory, dead letters, the ledger,
the log (G6, G10). How much disk a backlog takes is what README says.

Larger ones by hand: SPILLWAY_BACKLOG_GIB=10; records of another size: SPILLWAY_RECORD_BYTES=20.
"""
import os
import threading

import harness
from harness import expect, file_sink, sequence, stream, tcp_sink, wait_for
from hostile import Client, example
from verify import delivered, same

MIB, GIB = 1 << 20, 1 << 30
BACKLOG = int(os.environ.get("SPILLWAY_BACKLOG_GIB", "1")) * GIB
RECORD_BYTES = int(os.environ.get("SPILLWAY_RECORD_BYTES", "256"))
MEMORY = (256 if not harness.SANITIZED else 2_048) * MIB


class Fountain(threading.Thread):
    """A FIFO that gives the same records again and again until its reader goes."""

    def __init__(self, run, size):
        super().__init__(daemon=True)
        self.path = run.folder / "fountain"
        os.mkfifo(self.path)
        line = b"".join(b"%d " % run.random.getrandbits(60) for _ in range(size // 16 + 2))
        count = max(1, 16 * MIB // size)
        self.chunk = b"".join(b"%09d " % i + line[:size - 10] + b"\n" for i in range(count))
        self.start()

    def run(self):
        try:
            with open(self.path, "wb", buffering=0) as out:
                while True:
                    out.write(self.chunk)
        except BrokenPipeError:
            pass  # the reader has gone

    def expect_in(self, path):
        """That a file holds whole records of what this gave, from the first on."""
        with open(path, "rb") as file:
            while piece := file.read(len(self.chunk)):
                expect(piece == self.chunk[:len(piece)], f"{path}: not what was published, before "
                                                         f"byte {file.tell()}")


def a_backlog_takes_the_disk_that_readme_says_and_little_memory(run):
    fountain = Fountain(run, RECORD_BYTES)
    disk = BACKLOG * 11 // 10 + 512 * MIB  # README, "How large a cache"
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(
        tcp_sink("t", receiver.port, f'max_bytes = "{BACKLOG}B"')),
        journal=f'max_disk_bytes = "{disk}B"\ncompression = "none"').start()
    begin = harness.time.monotonic()
    publisher = run.publish(broker.address, fountain.path)
    halt = broker.wait_stream("is halted", lambda s: s["halt"]["active"],
                              deadline=harness.DEADLINE * max(1, BACKLOG // GIB))["halt"]
    took = harness.time.monotonic() - begin
    causes = [(cause["kind"], cause["sink"]) for cause in halt["causes"]]
    expect(causes == [("max_bytes", "t")], f"the disk does not hold what README says: {causes}")
    publisher.kill()
    backlog = broker.sink("t")["backlog"]
    expect(BACKLOG - RECORD_BYTES - 100 < backlog["bytes"] <= BACKLOG, backlog)
    status = broker.status()["journal"]
    broker.kill()
    begin = harness.time.monotonic()
    broker.start()
    start = harness.time.monotonic() - begin
    held = sequence(broker.stream()["journal"]["end"])
    begin = harness.time.monotonic()
    receiver.start()
    wait_for("all is there", lambda: receiver.path.stat().st_size == held * (RECORD_BYTES + 1),
             harness.DEADLINE * max(1, BACKLOG // GIB))
    replay = harness.time.monotonic() - begin
    memory = run.watch.memory["broker"]
    run.say(f"{held} records of {RECORD_BYTES} bytes in {took:.1f} s; {memory >> 20} MiB of memory "
            f"at most; {run.watch.disk['broker'] >> 20} MiB of disk at most, of {disk >> 20}, and "
            f"{status['disk_bytes'] >> 20} at the halt; start in {start:.2f} s; replayed in "
            f"{replay:.1f} s")
    fountain.expect_in(receiver.path)
    expect(memory <= MEMORY, f"{memory >> 20} MiB of memory")


def dead_letters_beyond_their_limit_park_the_sink_and_nothing_is_lost(run):
    run.expects_losses = True
    published = run.folder / "records"
    bad = set(range(10, 1_001, 10))
    lines = [b"%09d" % n + (b" with\na newline" + b"x" * 100 if n in bad else b"")
             for n in range(1, 1_001)]
    published.write_bytes(b"".join(len(x).to_bytes(4, "little") + x for x in lines))
    kept = run.folder / "kept"
    broker = run.broker("broker", stream(file_sink(
        "f", kept, 'on_reject = "dead_letter"\ndead_letter_bytes = "2KiB"'),
        file_sink("other", run.folder / "other", 'framing = "length_prefixed"'))).start()
    run.publish(broker.address, published, "--framing", "length_prefixed").result()
    parked = broker.wait_state("f", "parked")
    expect("dead" in parked["parked"], parked)
    shown = broker.cli("journal", "status", "--ledger", "1000")["streams"][0]
    size = broker.metrics()['spillway_dead_letter_size_bytes{sink="f",stream="s"}']
    expect(0 < size <= 2_048, f"{size} bytes of dead letters")
    letters = shown["dead_letters"]
    expect(0 < letters < 20, f"{letters} dead letters")
    expect(sequence(parked["acked"]) == 10 * (letters + 1) - 1, f"{letters} letters, {parked}")
    ledgered = {n for e in shown["ledger"] for n in range(sequence(e["first"]),
                                                          sequence(e["last"]) + 1)}
    expect(ledgered == {n for n in bad if n <= 10 * letters}, f"the ledger: {ledgered}")
    # It stays so, and nothing is lost: with more room the rest goes the same way.
    broker.kill().start()
    broker.wait_state("f", "parked")
    broker.stop()
    broker.config.write_text(broker.config.read_text().replace('"2KiB"', '"1MiB"'))
    broker.start()
    broker.cli("sink", "resume", "s/f")
    broker.wait_drained("f")
    broker.wait_drained("other")
    expect(kept.read_bytes().splitlines() == [lines[n - 1] for n in range(1, 1_001)
                                              if n not in bad], "not what it can take")
    shown = broker.cli("journal", "status")["streams"][0]
    expect(shown["dead_letters"] == len(bad), shown)
    same(run.folder / "other", published)


def the_ledger_keeps_so_many_entries_and_every_count(run):
    run.expects_losses = True
    pairs = 12_000
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept"))).start()
    client = Client(broker)
    epoch = client.welcomed("s")[4]
    heard = threading.Thread(target=drain, args=(client, 2 * pairs))
    heard.start()
    out = []
    for number in range(1, 2 * pairs, 2):
        skip = example.field(1, number) + example.field(2, 1)
        out.append(example.frame(3, example.field(1, epoch) + example.field(2, number) +
                                 example.field(3, 1) + example.field(5, skip)))
        out.append(example.batch(epoch, number + 1, [
            example.record(epoch, number + 1, b"%09d" % (number + 1))]))
        if len(out) == 200:
            client.send(b"".join(out))
            out = []
    client.send(b"".join(out))
    heard.join(harness.DEADLINE)
    expect(not heard.is_alive(), f"not all is acknowledged: {broker.stream()}")
    broker.wait_drained("f")
    broker.stop()
    entries = broker.cli("journal", "status", "--ledger", "100000")["streams"][0]["ledger"]
    expect(9_000 <= len(entries) <= 10_000, f"{len(entries)} entries")
    counted = sum(entry["count"] for entry in entries)
    expect(counted == pairs, f"{counted} of {pairs} are counted")
    numbers = [int(line) for line in (run.folder / "kept").read_bytes().splitlines()]
    expect(numbers == list(range(2, 2 * pairs + 1, 2)), f"{len(numbers)} records were kept")


def drain(client, last):
    """Until the record of that number is acknowledged."""
    while True:
        kind, ack = client.connection.receive()
        if kind == 4 and example.position(ack.get(1))[1] >= last:
            return


def the_log_grows_with_what_happens_and_not_with_records(run):
    published = run.records("records", 100_000)
    receiver = run.receiver(run.port(), "taken").start()
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port),
                                         file_sink("f", run.folder / "kept")),
                        top='[log]\nlevel = "debug"').start()
    publisher = run.publish(broker.address, published, "--rate", "50000")
    broker.wait_sink("takes records", "t", lambda s: sequence(s["acked"]) > 10_000)
    receiver.stop()
    broker.wait_sink("is away", "t", lambda s: s["backlog"]["records"] > 10_000)
    receiver.start()
    publisher.result()
    broker.wait_drained("t")
    broker.wait_drained("f")
    broker.stop()
    lines = broker.log().splitlines()
    run.say(f"{len(lines)} lines for 100,000 records and an outage")
    expect(len(lines) < 60, f"{len(lines)} lines")
    same(run.folder / "kept", published)
    delivered(receiver.path, published)


if __name__ == "__main__":
    harness.main()
