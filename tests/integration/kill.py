"""SIGKILL at random moments, of broker, producer and receiver (G1, G2, G4, D1 to D7). 25 rounds by
default; `--rounds 500 --seed S` by hand."""
import signal

import harness
from harness import Process, expect, file_sink, relay_sink, sequence, stream, tcp_sink, wait_for
from verify import Floors, delivered, same

ROUND_RECORDS = 3_000
RATE = 15_000


class Lines:
    """How many records of a known size a file has."""

    def __init__(self, path, size=100):
        self.path, self.size = path, size

    def count(self):
        return self.path.stat().st_size // self.size if self.path.exists() else 0

    def wait_more(self, more, limit):
        goal = min(self.count() + more, limit)
        wait_for(f"{self.path.name} has {goal} records", lambda: self.count() >= goal)


def all_that_was_published_survives_kills_of_broker_producer_and_receiver(run):
    total = run.rounds * ROUND_RECORDS
    published = run.records("records", total)
    port = run.port()
    taken, kept = run.folder / "taken", run.folder / "kept"
    broker = run.broker("broker", stream(
        file_sink("f", kept), tcp_sink("t", port, 'ack_timeout = "1s"'),
        more='checkpoint_interval = "50ms"\nspill_after = "50ms"')).start()

    def new_producer():
        return run.publish(broker.address, published, "--resume", "--rate", RATE, name="publish")

    def new_receiver():
        return run.receiver_process(port, "taken")
    producer, receiver = new_producer(), new_receiver()
    floors = Floors(broker, "t")
    progress = Lines(kept)
    victims = {"broker": 0, "producer": 0, "receiver": 0, "all": 0, "broker in an outage": 0}
    for _ in range(run.rounds):
        progress.wait_more(run.random.randrange(1, ROUND_RECORDS), total)
        victim = run.random.choice(list(victims))
        victims[victim] += 1
        if victim == "broker in an outage":
            receiver.kill()
            broker.wait_state("t", "journaling")
            progress.wait_more(run.random.randrange(1, 500), total)
        if victim in ("receiver", "all"):
            receiver.kill()
        if victim in ("producer", "all"):
            producer.kill()
        if victim in ("broker", "broker in an outage", "all"):
            broker.kill()
            broker.launch()
        if victim != "broker" and victim != "producer":
            receiver = new_receiver()
        if victim in ("producer", "all"):
            producer = new_producer()
        wait_for("the broker is ready", broker.is_ready)
    result = producer.result()
    expect(result["skipped"] + result["published"] == total, result)
    broker.wait_drained("f")
    broker.wait_drained("t")
    expect(sequence(broker.stream()["held"]) == total, "the stream has another length")
    receiver.kill()
    seen = floors.finish(taken)
    repeats = delivered(taken, published, seen)
    same(kept, published)
    run.say(f"{run.rounds} rounds, killed: {victims}; {repeats} repeats of {total} records; "
            f"{sum(floor > 0 for floor in seen.values())} connections with a floor")


def a_chain_of_two_brokers_of_which_each_is_killed_delivers_once(run):
    total = 60_000
    published = run.records("records", total)
    kept = run.folder / "kept"
    more = 'checkpoint_interval = "50ms"'
    hub = run.broker("hub", stream(file_sink("f", kept), more=more)).start()
    edge = run.broker("edge", stream(relay_sink("hub", hub.unix), more=more)).start()
    producer = run.publish(edge.address, published, "--resume", "--rate", RATE)
    progress = Lines(kept)
    for victims in ([hub], [edge], [hub, edge], [edge], [hub], [edge, hub]):
        progress.wait_more(run.random.randrange(1, 4_000), total)
        for broker in victims:
            broker.kill()
        for broker in victims:
            broker.launch()
        for broker in victims:
            wait_for(f"{broker.name} is ready", broker.is_ready)
    producer.result()
    edge.wait_drained("hub")
    hub.wait_drained("f")
    same(kept, published)
    expect(hub.stream()["held"] == edge.stream()["held"], "the positions differ")
    expect(edge.stream()["held"].endswith(f"/{total}"), "the epoch changed")


def a_receiver_that_is_killed_after_a_burst_goes_on_where_its_relay_saw_it(run):
    kept = run.folder / "kept"
    more = 'checkpoint_interval = "1h"'  # what was acknowledged is only in memory, at both
    hub = run.broker("hub", stream(file_sink("f", kept), more=more)).start()
    edge = run.broker("edge", stream(relay_sink("hub", hub.unix), more=more)).start()
    total = 0
    for burst in (1_000, 1_000):
        records = run.records(f"records-{total}", burst, first=total + 1)
        run.publish(edge.address, records).result()
        total += burst
        edge.wait_drained("hub")
        hub.wait_drained("f")
        hub.kill()
        hub.start()
        edge.wait_state("hub", "live")
        hub.wait_stream("has its producer", lambda s: s["producer"]["connected"])
        for broker in (hub, edge):
            expect(not broker.stream()["halt"]["active"], f"{broker.name} is halted")
        expect(sequence(hub.stream()["held"]) == total, hub.stream()["held"])
    run.publish(edge.address, run.records("more", 1_000, first=total + 1)).result()
    edge.wait_drained("hub")
    hub.wait_drained("f")
    same(kept, run.records("all", total + 1_000))


def a_producer_that_keeps_its_memory_loses_nothing_when_the_broker_dies_under_it(run):
    """Without --resume the client sends what it did not see acknowledged again, under any acks."""
    total = 40_000
    published = run.records("records", total)
    streams, kept = [], {}
    for acks in ("all", "quorum", "none"):
        kept[acks] = run.folder / f"kept-{acks}"
        more = f'acks = "{acks}"' + ("\nquorum = 1" if acks == "quorum" else "")
        streams.append(stream(file_sink("f", kept[acks]), name=acks, more=more))
    broker = run.broker("broker", "".join(streams)).start()
    producers = [run.publish(broker.address, published, "--rate", "10000", stream=acks)
                 for acks in kept]
    progress = Lines(kept["all"])
    for round in range(4):
        progress.wait_more(run.random.randrange(1, 3_000), total)
        for producer in producers:
            producer.child.send_signal(signal.SIGSTOP)
        # Once a producer is done nobody could tell the next broker how far its stream went.
        if all(producer.running() for producer in producers):
            broker.kill()
            broker.start()
        else:
            expect(round > 0, "a producer was done before the first kill")
        for producer in producers:
            producer.child.send_signal(signal.SIGCONT)
    for producer in producers:
        expect(producer.result()["acknowledged"] == total, "not all was acknowledged")
    for acks in kept:
        broker.wait_drained("f", acks)
    # One sink that says what it holds: under `all` and `quorum` nothing is lost or repeated.
    same(kept["all"], published)
    same(kept["quorum"], published)
    # Under `none` what was acknowledged on receipt may be lost, and then it is in the ledger.
    with open(kept["none"], "rb") as file:
        numbers = [int(line[:9]) for line in file]
    expect(numbers == sorted(set(numbers)), "out of order, or twice")
    missing = set(range(1, total + 1)) - set(numbers)
    broker.stop()
    journal = run.cli("journal", "status", "--ledger", "1000", "--config", broker.config)
    ledger = next(s for s in journal["streams"] if s["name"] == "none")["ledger"]
    for entry in ledger:
        expect(entry["upper_bound"] and entry["reason"] == "crash", entry)
        first, last = sequence(entry["first"]), sequence(entry["last"])  # the last may be open
        missing = {number for number in missing if not first <= number <= last}
    expect(not missing, f"lost without a word: {sorted(missing)[:10]}")


def the_python_example_is_killed_and_run_again(run):
    total = 20_000
    published = run.records("records", total)
    kept = run.folder / "kept"
    broker = run.broker("broker", stream(file_sink("f", kept))).start()
    command = [harness.sys.executable, "-B", harness.ROOT / "examples/python/publish.py",
               broker.address, "s", published]
    progress = Lines(kept)
    for number in range(3):
        process = Process(run, f"example{number}", command)
        progress.wait_more(run.random.randrange(500, 3_000), total)
        process.kill()
        if number == 1:
            broker.kill().start()
    process = Process(run, "example", command)
    expect(process.wait() == 0, process.errors())
    broker.wait_drained("f")
    same(kept, published)


if __name__ == "__main__":
    harness.main()
