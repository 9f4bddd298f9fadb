"""A journal that is damaged on the disk: the broker says so and halts, check says what is lost,
repair saves the rest, and sinks get all of that in order (G10, G11)."""
import hashlib
import os
import shutil

import harness
from harness import FAILED, OK, USAGE, expect, file_sink, sequence, stream, tcp_sink
from verify import delivered, same

RECORDS = 30_000
SIZE = 2_000  # together more than a few tables of the smallest journal


def outage(run, in_tables=True, records=RECORDS):
    """A stopped broker whose journal holds everything, for a sink that was never there."""
    published = run.records("records", records, SIZE)
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port)),
                        journal='max_disk_bytes = "256MiB"\ncompression = "none"').start()
    run.publish(broker.address, published).result()
    broker.stop()
    if in_tables:  # a start writes what the WAL has into tables: no record is there twice then
        broker.start().stop()
    expect(broker.cli("journal", "check")["findings"] == [], "it is damaged from the beginning")
    return published, receiver, broker


def files(broker, suffix):
    found = [p for p in (broker.data_dir / "journal").iterdir() if p.name.endswith(suffix)]
    return sorted(found, key=lambda p: p.stat().st_size, reverse=True)


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def numbers_in(ranges):
    return {n for first, last in ranges for n in range(first, last + 1)}


def lost_of(report):
    return [(sequence(r["first"]), sequence(r["last"])) for r in report["streams"][0]["lost"]]


def contents(folder):
    return {str(p.relative_to(folder)):
            hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder"
            for p in folder.rglob("*")}


def unchanged(broker, *command, code):
    """What it says, for it must not change a byte."""
    before = contents(broker.data_dir)
    said = broker.cli(*command, code=code)
    after = contents(broker.data_dir)
    changed = [p for p in before.keys() | after.keys() if before.get(p) != after.get(p)]
    expect(not changed, f"{command} changed {changed}")
    return said


def checked(broker):
    report = unchanged(broker, "journal", "check", code=FAILED)
    expect(report["findings"], report)
    return report


def repaired(run, published, receiver, broker):
    """Checks, repairs, starts; the sink must get all but what check said is lost."""
    lost = lost_of(checked(broker))
    plan = unchanged(broker, "journal", "repair", code=OK)
    expect(plan["steps"] and not plan["applied"], plan)
    done = broker.cli("journal", "repair", "--apply")
    expect(done["applied"] and os.path.isdir(done["kept"]), done)
    expect(broker.cli("journal", "check")["findings"] == [], "it is damaged after the repair")
    receiver.start()
    broker.start()
    broker.wait_drained("t")
    expect(not broker.stream()["halt"]["active"], broker.stream()["halt"])
    kept = broker.metrics()["spillway_orphaned_journal_bytes"]
    expect(kept > 0, "the metrics do not say what the repair keeps of the disk")
    delivered(receiver.path, published, skipped=lost)
    ledger = broker.cli("journal", "status")["streams"][0]["ledger"]
    found = sorted((sequence(e["first"]), sequence(e["last"])) for e in ledger)
    expect(found == lost, f"the ledger has {found}, check said {lost}")
    return lost


def a_flipped_bit_in_a_table_costs_the_records_around_it_and_no_others(run):
    run.expects_losses = True
    published, receiver, broker = outage(run)
    table = files(broker, ".sst")[0]
    expect(table.stat().st_size > 1 << 20, table)
    flip(table, table.stat().st_size // 2)
    lost = repaired(run, published, receiver, broker)
    expect(len(lost) == 1 and lost[0][1] - lost[0][0] < 500, lost)


def a_broker_that_meets_a_flipped_bit_delivers_the_rest_and_says_what_is_lost(run):
    run.expects_losses = True
    published, receiver, broker = outage(run)
    table = files(broker, ".sst")[0]
    flip(table, table.stat().st_size // 2)
    lost = lost_of(checked(broker))
    receiver.start()
    broker.start()
    broker.wait_drained("t")
    delivered(receiver.path, published, skipped=lost)
    ledger = broker.cli("journal", "status")["streams"][0]["ledger"]
    ledgered = sorted((sequence(e["first"]), sequence(e["last"])) for e in ledger)
    expect(numbers_in(ledgered) == numbers_in(lost), f"{ledgered} instead of {lost}")


def a_flipped_bit_in_the_wal_halts_the_stream_until_it_is_repaired(run):
    run.expects_losses = True
    published, receiver, broker = outage(run, in_tables=False)
    wal = files(broker, ".log")[0]
    flip(wal, wal.stat().st_size // 2)
    broker.start()
    causes = broker.wait_halt()["halt"]["causes"]
    expect([c["kind"] for c in causes] == ["journal_damaged"], causes)
    expect("journal repair" in causes[0]["text"], causes)
    refused = broker.cli("halt", "clear", "s", "--accept-loss", code=FAILED)
    expect("journal repair" in refused["error"], refused)
    broker.cli("journal", "repair", "--apply", code=FAILED)  # it runs
    broker.stop()
    lost = repaired(run, published, receiver, broker)  # nothing, if a table has them too
    expect(numbers_in(lost) == set() or len(lost) == 1 and len(numbers_in(lost)) < 3_300, lost)


def a_missing_table_costs_its_records(run):
    run.expects_losses = True
    published, receiver, broker = outage(run)
    files(broker, ".sst")[0].unlink()
    lost = repaired(run, published, receiver, broker)
    expect(len(lost) == 1, lost)


def a_broker_that_misses_a_table_halts_and_delivers_what_comes_before_it(run):
    """The one that a sink needs first, and one later on: a start without a repair serves, names it,
    and does not wait for it to come back."""
    run.expects_losses = True
    published, receiver, broker = outage(run)
    sound = run.folder / "sound"
    shutil.copytree(broker.data_dir, sound)
    large = sorted(p.name for p in files(broker, ".sst") if p.stat().st_size > 1 << 20)
    expect(len(large) > 3, large)
    for name in (large[0], large[len(large) // 2]):
        shutil.rmtree(broker.data_dir)
        shutil.copytree(sound, broker.data_dir)
        (broker.data_dir / "journal" / name).unlink()
        report = checked(broker)
        lost = lost_of(report)
        expect(len(lost) == 1 and (lost[0][0] == 1) == (name == large[0]), (name, lost))
        receiver = run.receiver(receiver.port, f"taken.{name}")
        receiver.start()
        broker.start()
        causes = broker.wait_halt()["halt"]["causes"]
        expect([c["kind"] for c in causes] == ["journal_damaged"], causes)
        expect(name.split(".")[0] in causes[0]["text"], causes)
        broker.wait_log("journal is damaged", "sink=t", f"/{lost[0][0]} last=", f"/{lost[0][1]} ")
        broker.wait_sink("stands before it", "t", lambda s: s["state"] == "journaling"
                         and sequence(s["acked"]) < lost[0][0])
        refused = broker.cli("halt", "clear", "s", "--accept-loss", code=FAILED)
        expect("journal repair" in refused["error"], refused)
        broker.stop()
        receiver.stop()
        expect(repaired(run, published, receiver, broker) == lost, "the start lost more")
        broker.stop()
        receiver.stop()


def a_missing_manifest_costs_nothing(run):
    published, receiver, broker = outage(run)
    next((broker.data_dir / "journal").glob("MANIFEST*")).unlink()
    expect(repaired(run, published, receiver, broker) == [], "something is lost")


def a_latch_that_is_gone_halts_the_stream_it_may_have_halted(run):
    published, receiver, broker = outage(run, records=2_000)
    (broker.data_dir / "latch" / "s").unlink()
    expect([f["kind"] for f in checked(broker)["findings"]] == ["latch"], "found otherwise")
    receiver.start()
    broker.start()
    causes = broker.wait_halt()["halt"]["causes"]
    expect([c["kind"] for c in causes] == ["journal_damaged"], causes)
    expect("latch" in causes[0]["text"], causes)
    broker.cli("halt", "clear", "s", "--accept-loss")
    broker.wait_drained("t")
    delivered(receiver.path, published)
    broker.stop()
    broker.start()
    expect(not broker.stream()["halt"]["active"], broker.stream()["halt"])


def a_stream_that_is_no_longer_configured_is_exported_and_forgotten_before_the_start(run):
    published, receiver, broker = outage(run, records=5_000)
    gone, kept = broker.config.read_text(), file_sink("f", run.folder / "kept")
    broker.configure(stream(kept, name="other"))
    problems = broker.cli("validate", code=USAGE)["errors"]
    expect([p["key"] for p in problems] == ["s"], problems)
    expect("--forget-stream" in problems[0]["message"], problems)
    expect(broker.launch().process.wait() == USAGE, "it started")
    expect("5000 records of it wait" in broker.log(), broker.log())
    found = checked(broker)["findings"]
    expect([f["kind"] for f in found] == ["foreign"], found)
    broker.cli("journal", "export", "--stream", "s", "--output", run.folder / "exported")
    same(run.folder / "exported", published)
    expect(broker.cli("journal", "repair", code=FAILED)["steps"] == [], "it decides by itself")
    forget = ("journal", "repair", "--forget-stream", "s")
    plan = broker.cli(*forget)
    expect("(5000 records)" in " ".join(plan["steps"]) and not plan["applied"], plan)
    done = broker.cli(*forget, "--apply")
    expect(broker.cli("journal", "check")["findings"] == [], "it is there all the same")
    run.cli("journal", "export", "--data-dir", done["kept"], "--stream", "s",
            "--output", run.folder / "again")
    same(run.folder / "again", published)
    broker.start()
    run.publish(broker.address, published, stream="other").result()
    broker.wait_drained("f", "other")
    same(run.folder / "kept", published)
    broker.stop()
    broker.config.write_text(gone)  # a stream of that name begins anew
    receiver.start()
    broker.start()
    run.publish(broker.address, published).result()
    broker.wait_drained("t")
    delivered(receiver.path, published)


if __name__ == "__main__":
    harness.main()
