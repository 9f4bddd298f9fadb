"""A start on every kind of damaged journal: it refuses with the reason, or serves and says what is
wrong; it makes nothing worse, and after a repair sinks get all that is intact, in order (G10, G11).
The table of damages in journal/README.md is the list."""
import shutil
import time

import harness
from harness import FAILED, OK, expect, sequence, stream, tcp_sink, wait_for
from repair import files, flip, lost_of, numbers_in, outage
from verify import delivered

TABLES, WAL, SIZE = 6_000, 1_000, 2_000  # records in tables, and after them in the WAL


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def halve(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip_middle(path):
    flip(path, path.stat().st_size // 2)


def flip_quarter(path):
    flip(path, path.stat().st_size // 4)


def unlink(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def damage_state(folder):
    """Of all that holds the state: what a start cannot read it must not take for a new stream."""
    for log in folder.glob("*.log"):
        log.unlink()
    for path in folder.glob("*.sst"):
        at = path.read_bytes().find(b"state/s")
        if at >= 0:
            flip(path, at)


def table(broker):
    return files(broker, ".sst")[0]


def wal(broker):
    return files(broker, ".log")[0]


def manifest(broker):
    return next((broker.data_dir / "journal").glob("MANIFEST*"))


def current(broker):
    return broker.data_dir / "journal" / "CURRENT"


def in_data_dir(*parts):
    return lambda broker: broker.data_dir.joinpath(*parts)


# What a start does: it says no and ends, it serves and halts the stream, or it serves.
REFUSES, HALTS, SERVES = "refuses", "halts", "serves"
# What is done to which file, the kinds that check finds, whether records are lost, and the start.
DAMAGES = [
    ("a table is missing", unlink, table, "file hole", True, HALTS),
    ("a table is cut short", halve, table, "file hole", True, HALTS),
    ("a table is zeros", zero, table, "file hole", True, HALTS),
    ("a bit of a table", flip_middle, table, "file hole", True, SERVES),
    ("the WAL is missing", unlink, wal, "file tail", True, HALTS),
    ("the WAL is cut short", halve, wal, "tail", True, HALTS),
    ("the WAL is zeros", zero, wal, "tail", True, HALTS),
    ("a bit of the WAL", flip_quarter, wal, "file hole", True, HALTS),
    ("the MANIFEST is missing", unlink, manifest, "file", False, HALTS),
    ("the MANIFEST is cut short", halve, manifest, "file", False, HALTS),
    ("the MANIFEST is zeros", zero, manifest, "file", False, HALTS),
    ("a bit of the MANIFEST", flip_middle, manifest, "file", False, HALTS),
    ("CURRENT is missing", unlink, current, "file", False, HALTS),
    ("CURRENT is empty", empty, current, "file", False, HALTS),
    ("CURRENT is zeros", zero, current, "file", False, HALTS),
    ("a bit of CURRENT", lambda path: flip(path, 4), current, "file", False, HALTS),
    ("the folder is missing", shutil.rmtree, in_data_dir("journal"), "file state tail", True,
     HALTS),
    ("the state", damage_state, in_data_dir("journal"), "file state tail", True, HALTS),
    ("the format file is empty", empty, in_data_dir("format"), "file", False, REFUSES),
    ("the format is not known", lambda path: path.write_text("9999\n"), in_data_dir("format"),
     "format", False, REFUSES),
    ("the latch is missing", unlink, in_data_dir("latch", "s"), "latch", False, HALTS),
    ("the latch is zeros", zero, in_data_dir("latch", "s"), "latch", False, HALTS),
    ("the mark is missing", unlink, in_data_dir("marks", "s"), "mark", False, SERVES),
    ("the mark is zeros", zero, in_data_dir("marks", "s"), "mark", False, SERVES),
]


def prepare(run, published):
    """A sound journal with tables and a WAL that holds what they do not."""
    first = run.records("first", TABLES, SIZE)
    second = run.records("second", TABLES + WAL // 2, SIZE)
    port = run.port()
    broker = run.broker("broker", stream(tcp_sink("t", port)),
                        journal='max_disk_bytes = "128MiB"\ncompression = "none"').start()
    run.publish(broker.address, first, "--resume").result()
    broker.stop()
    broker.start()
    for records in (second, published):  # two groups at least
        run.publish(broker.address, records, "--resume").result()
    mark = broker.data_dir / "marks" / "s"
    acknowledged = time.time_ns()
    wait_for("a mark of all that is acknowledged", lambda: mark.stat().st_mtime_ns > acknowledged)
    broker.kill()
    expect(broker.cli("journal", "check")["findings"] == [], "it is damaged from the beginning")
    sound = run.folder / "sound"
    broker.data_dir.rename(sound)
    return port, broker, sound


def start(broker, name, expected):
    """A start of a damaged journal. Whether it served."""
    broker.launch()
    wait_for("it serves or ends", lambda: not broker.process.running() or broker.is_ready())
    if not broker.process.running():
        expect(expected == REFUSES, f"{name}: it does not start: {broker.log()}")
        expect("cannot start" in broker.log() and
               ("journal repair" in broker.log() or "not known" in broker.log()), broker.log())
        return False
    expect(expected != REFUSES, f"{name}: it started")
    if expected == HALTS:
        causes = broker.wait_halt()["halt"]["causes"]
        expect([c["kind"] for c in causes] == ["journal_damaged"] and causes[0]["text"], causes)
    else:
        broker.wait_drained("t")
        expect(not broker.stream()["halt"]["active"], f"{name}: {broker.stream()['halt']}")
    broker.stop()
    return True


def findings(broker):
    report = broker.cli("journal", "check", code=(OK, FAILED))
    kinds = " ".join(sorted({finding["kind"] for finding in report["findings"]}))
    return kinds, numbers_in(lost_of(report)) if report["streams"] else set()


def a_start_on_any_of_them_says_so_makes_nothing_worse_and_a_repair_saves_the_rest(run):
    run.expects_losses = True
    published = run.records("records", TABLES + WAL, SIZE)
    port, broker, sound = prepare(run, published)
    for name, damage, path, kinds, loses, expected in DAMAGES:
        run.say(name)
        shutil.rmtree(broker.data_dir, ignore_errors=True)
        shutil.copytree(sound, broker.data_dir)
        damage(path(broker))
        found, lost = findings(broker)
        expect(found == kinds and bool(lost) == loses, f"{name}: {found}, {len(lost)} lost")
        receiver = run.receiver(port, f"taken, {name}")
        receiver.start()
        started = start(broker, name, expected)
        after, then_lost = findings(broker)
        expect(then_lost <= lost, f"{name}: the start lost {then_lost - lost}")
        if after == "format":
            broker.cli("journal", "repair", "--apply", code=FAILED)
            expect(findings(broker)[0] == "format", "repair guessed at an unknown format")
            receiver.stop()
            continue
        if after:
            expect(broker.cli("journal", "repair", "--apply")["applied"], f"{name}: no repair")
            expect(findings(broker)[0] == "", f"{name}: it is damaged after the repair")
        broker.start()
        if started and not after and expected == HALTS:
            broker.wait_halt()
            broker.cli("halt", "clear", "s", "--accept-loss")
        run.publish(broker.address, published, "--resume").result()  # what its end lost comes again
        broker.wait_drained("t")
        ledger = broker.cli("journal", "status", "--ledger", "1000")["streams"][0]["ledger"]
        epoch = broker.stream()["held"].split("/")[0]  # another one where the store began anew
        gone = [(sequence(e["first"]), sequence(e["last"])) for e in ledger
                if not e["upper_bound"] and e["first"].split("/")[0] == epoch]
        expect(numbers_in(gone) <= lost, f"{name}: {gone} in the ledger, of {len(lost)} lost")
        broker.stop()
        receiver.stop()
        delivered(receiver.path, published, skipped=gone)


def behind_a_damaged_end_the_byte_count_goes_on_and_a_repair_saves_what_came(run):
    run.expects_losses = True
    _, receiver, broker = outage(run, records=TABLES)
    last = f"{TABLES:09d} ".encode()  # in the last block of the newest table
    flips = [(path, path.read_bytes().find(last)) for path in files(broker, ".sst")]
    flips = [(path, at) for path, at in flips if at >= 0]
    expect(len(flips) == 1, flips)
    flip(*flips[0])
    broker.start()
    broker.wait_halt()
    broker.cli("halt", "clear", "s", "--accept-loss")
    run.publish(broker.address, run.records("more", TABLES + WAL, SIZE), "--resume").result()
    broker.stop()
    found, lost = findings(broker)
    expect(found == "file hole" and lost, f"{found}, {len(lost)} lost")
    expect(broker.cli("journal", "repair", "--apply")["applied"], "no repair")
    expect(findings(broker)[0] == "", "it is damaged after the repair")
    receiver.start()
    broker.start()
    broker.wait_drained("t")
    delivered(receiver.path, run.folder / "more", skipped=[(min(lost), max(lost))])


if __name__ == "__main__":
    harness.main()
