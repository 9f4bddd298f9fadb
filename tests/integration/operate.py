"""What an operator does through the command line, and a slow sink beside a fast one (G5, G9, D5,
D8)."""
import shutil
import time

import harness
from harness import (FAILED, USAGE, expect, file_sink, relay_sink, sequence, stream,
                     tcp_sink)
from verify import connections, delivered, same

RECORDS = 10_000


def a_sink_that_takes_nothing_delays_neither_the_producer_nor_the_other_sink(run):
    published = run.records("records", 200_000)
    slow = run.receiver(run.port(), "slow").start()
    slow.reading.clear()
    fast = run.receiver(run.port(), "fast").start()
    broker = run.broker("broker", stream(
        tcp_sink("slow", slow.port, 'ack_timeout = "2s"'), tcp_sink("fast", fast.port),
        more='window_bytes = "1MiB"')).start()
    run.publish(broker.address, published).result()
    broker.wait_drained("fast")
    waiting = broker.sink("slow")["backlog"]["records"]
    expect(waiting == 200_000, f"only {waiting} wait for the slow sink")
    expect(broker.stream()["window"]["bytes"] <= 1 << 20, "the window is larger than it may be")
    slow.reading.set()
    broker.wait_drained("slow")
    delivered(fast.path, published)
    delivered(slow.path, published)


def a_paused_sink_waits_for_its_operator_and_not_for_its_clock(run):
    published = run.records("records", RECORDS)
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept"))).start()
    broker.cli("sink", "pause", "s/f")
    broker.wait_state("f", "paused")
    run.publish(broker.address, published).result()
    sink = broker.sink("f")
    expect(sink["backlog"]["records"] == RECORDS and sink["outage"] is None, sink)
    broker.kill().start()
    broker.wait_state("f", "paused")  # it is durable
    broker.cli("sink", "resume", "f")
    broker.wait_drained("f")
    same(run.folder / "kept", published)
    listed = broker.cli("sink", "list")["sinks"]
    expect([(s["stream"], s["name"], s["state"]) for s in listed] == [("s", "f", "live")], listed)


def reconnect_does_not_wait_for_the_next_try(run):
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink(
        "t", receiver.port, 'reconnect = { initial = "1h", max = "1h" }'))).start()
    run.publish(broker.address, published).result()
    broker.wait_sink("was tried", "t", lambda s: s["attempts"] == 1 and s["last_error"])
    receiver.start()
    expect(broker.cli("sink", "reconnect", "t")["message"] == "reconnecting", "it says nothing")
    broker.wait_drained("t")
    delivered(receiver.path, published)


def reset_sends_again_what_the_journal_still_has(run):
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken").start()
    broker = run.broker("broker", stream(
        tcp_sink("t", receiver.port), tcp_sink("away", run.port()))).start()
    run.publish(broker.address, published).result()
    held = broker.wait_drained("t")["acked"]
    epoch = held.split("/")[0]
    before = len(connections(receiver.path))
    answer = broker.cli("sink", "reset", "s/t", "--from", f"{epoch}/2001")
    expect(f"goes on after {epoch}/2000" in answer["message"], answer)
    broker.wait_sink("has it again", "t", lambda s: s["state"] == "live" and s["acked"] == held)
    harness.wait_for("it comes again", lambda: len(connections(receiver.path)) > before)
    broker.wait_drained("t")
    again = [n for _, numbers in connections(receiver.path)[before:] for n in numbers]
    expect(again == list(range(2_001, RECORDS + 1)), f"{again[:3]} ... {again[-3:]}")
    broker.cli("sink", "reset", "s/t", "--from", "nonsense", code=USAGE)
    broker.cli("sink", "reset", "s/nobody", code=FAILED)


def a_destination_restored_from_a_backup_waits_until_its_operator_says_from_where(run):
    files = run.folder / "files"
    files.mkdir()
    half, published = run.records("half", 2_000), run.records("records", RECORDS)
    hub = run.broker("hub", stream(file_sink("f", files / "taken"))).start()
    edge = run.broker("edge", stream(relay_sink("hub", hub.address),
                                     tcp_sink("away", run.port()))).start()

    def publish(records):
        run.publish(edge.address, records, "--resume").result()
        edge.wait_drained("hub")
        hub.wait_drained("f")
        hub.stop()
    publish(half)
    for folder in (hub.data_dir, files):
        shutil.copytree(folder, f"{folder}.backup")
    hub.start()
    publish(published)
    same(files / "taken", published)
    for folder in (hub.data_dir, files):
        shutil.rmtree(folder)
        shutil.copytree(f"{folder}.backup", folder)
    hub.start()
    parked = edge.wait_state("hub", "parked")
    why = parked["parked"]
    expect("restored from a backup" in why and f"it holds {hub.stream()['held']}" in why, why)
    same(files / "taken", half)
    position = why.split("--from ")[1].split()[0]
    expect(sequence(position) == 2_001, why)
    # To the end of the stream, it would be without what it says that it lacks.
    refused = edge.cli("sink", "reset", "s/hub", code=FAILED)
    expect("has not taken the 8000 records" in refused["error"], refused)
    expect(not edge.cli("journal", "status")["streams"][0]["ledger"], "they are given up")
    edge.cli("sink", "reset", "s/hub", "--from", position)
    edge.wait_drained("hub")
    hub.wait_drained("f")
    same(files / "taken", published)


def a_sink_that_was_removed_is_forgotten_or_renamed_before_the_start(run):
    run.expects_losses = True
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken")
    kept = file_sink("f", run.folder / "kept")
    broker = run.broker("broker", stream(kept, tcp_sink("old", receiver.port),
                                         tcp_sink("lost", run.port()))).start()
    run.publish(broker.address, published).result()
    broker.stop()
    broker.configure(stream(kept, tcp_sink("new", receiver.port)))
    problems = broker.cli("validate", code=USAGE)["errors"]
    expect({p["key"] for p in problems} == {"s/old", "s/lost"}, problems)
    expect(broker.launch().process.wait() == USAGE, "it started")
    expect("no longer configured" in broker.log(), broker.log())
    for name in ("../x y", "other/new"):
        broker.cli("sink", "rename", "s/old", name, code=USAGE)
    renamed = broker.cli("sink", "rename", "s/old", "s/new")["message"]
    expect(renamed == "sink old of stream s is now new", renamed)
    broker.cli("sink", "forget", "s/lost", code=FAILED)
    broker.cli("sink", "forget", "s/lost", "--accept-drop")
    broker.cli("validate")
    receiver.start()
    broker.start()
    broker.wait_drained("new")
    delivered(receiver.path, published)
    same(run.folder / "kept", published)
    ledger = broker.cli("journal", "status")["streams"][0]["ledger"]
    expect([(e["sink"], e["reason"], e["count"]) for e in ledger] == [("lost", "reset", RECORDS)],
           ledger)


def a_new_sink_begins_where_it_is_told_and_a_replay_keeps_to_its_rate(run):
    size, rate = 500, 2 << 20
    published = run.records("records", RECORDS, size)
    more = run.records("more", RECORDS + 1_000, size)
    away = tcp_sink("away", run.port())
    broker = run.broker("broker", stream(away)).start()
    run.publish(broker.address, published, "--resume").result()
    epoch = broker.stream()["held"].split("/")[0]
    broker.stop()
    begins = {"earliest": 1, f"{epoch}/2001": 2_001, "latest": RECORDS + 1}
    receivers = {place: run.receiver(run.port(), f"taken-{begin}").start()
                 for place, begin in begins.items()}
    slowly = f'replay = {{ rate_limit = "{rate}B/s" }}'
    broker.configure(stream(away, *(
        tcp_sink(f"t{begins[place]}", receiver.port, f'start_at = "{place}"\n{slowly}')
        for place, receiver in receivers.items())))
    began = time.monotonic()
    broker.start()
    run.publish(broker.address, more, "--resume").result()
    for place, receiver in receivers.items():
        broker.wait_drained(f"t{begins[place]}")
        took = time.monotonic() - began
        delivered(receiver.path, more, first=begins[place])
        least = (RECORDS - begins[place] + 1) * size / rate - 1  # a second's worth at once, at most
        expect(took >= least, f"{place}: {took} s instead of {least} at least")


def another_destination_under_the_same_name_needs_a_reset(run):
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken").start()
    broker = run.broker("broker", stream(tcp_sink("t", run.port()))).start()
    run.publish(broker.address, published).result()
    broker.stop()
    broker.configure(stream(tcp_sink("t", receiver.port, 'start_at = "earliest"')))
    expect(broker.launch().process.wait() == USAGE, "it started")
    expect("cursor belongs to the old destination" in broker.log(), broker.log())
    broker.cli("sink", "reset", "s/t")
    broker.start()
    broker.wait_drained("t")
    delivered(receiver.path, published)


def with_journal_always_records_are_journaled_while_their_sink_is_live(run):
    first, published = run.records("first", 1), run.records("records", RECORDS)
    broker = run.broker("broker", "".join(
        stream(file_sink("f", run.folder / f"kept-{mode}"), name=mode, more=f'journal = "{mode}"')
        for mode in ("always", "on_failure"))).start()
    written = 'spillway_durable_sequence{stream="%s"}'
    for mode in ("always", "on_failure"):
        run.publish(broker.address, first, stream=mode).result()
        broker.wait_drained("f", mode)  # live, so that nothing else needs the journal
        run.publish(broker.address, published, "--resume", stream=mode).result()
        broker.wait_drained("f", mode)
        same(run.folder / f"kept-{mode}", published)
    metrics = broker.metrics()
    expect(metrics[written % "always"] == RECORDS, "it is not in the journal")
    expect(metrics['spillway_coverage_open{stream="always"}'] == 1, "the journal is not open")
    expect(metrics[written % "on_failure"] == 0, "a live sink is journaled for")


def a_record_that_cannot_be_framed_parks_the_sink_or_becomes_a_dead_letter(run):
    run.expects_losses = True
    published = run.folder / "records"
    lines = [b"%09d" % n for n in range(1, 101)]
    lines[49] = b"000000050 with a\nnewline"
    published.write_bytes(b"".join(len(x).to_bytes(4, "little") + x for x in lines))
    receiver = run.receiver(run.port(), "taken").start()
    broker = run.broker("broker", stream(
        file_sink("parks", run.folder / "parks"),
        tcp_sink("goes_on", receiver.port, 'on_reject = "dead_letter"'))).start()
    run.publish(broker.address, published, "--framing", "length_prefixed").result()
    parked = broker.wait_state("parks", "parked")
    expect(sequence(parked["acked"]) == 49 and parked["parked"], parked)
    broker.wait_drained("goes_on")
    taken = [n for _, numbers in connections(receiver.path) for n in numbers]
    expect(sorted(set(taken)) == [n for n in range(1, 101) if n != 50], taken)
    expect((run.folder / "parks").read_bytes().count(b"\n") == 49, "more than what came before")
    shown = broker.cli("journal", "status")["streams"][0]
    expect(shown["dead_letters"] == 1, shown)
    expect([(e["sink"], sequence(e["first"]), e["count"]) for e in shown["ledger"]] ==
           [("goes_on", 50, 1)], shown["ledger"])


if __name__ == "__main__":
    harness.main()
