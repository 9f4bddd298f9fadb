"""A sink goes away while a producer publishes, and comes back: each type of sink (G1, G2, G3,
G8)."""
import harness
from harness import expect, file_sink, relay_sink, sequence, stream, tcp_sink
from verify import Floors, delivered, same

RECORDS = 40_000
RATE = ("--rate", "10000")


def go_through(broker, sink, away, back):
    """Two outages, the second as soon as the replay of the first has begun. Returns what was
    acknowledged when each of them was over."""
    acked = []
    broker.wait_sink("takes records", sink, lambda s: sequence(s["acked"]) > 3_000)
    for _ in range(2):
        away()
        broker.wait_sink("is away, and its journal fills", sink, lambda s:
                         s["state"] == "journaling" and s["backlog"]["records"] > 3_000)
        acked.append(sequence(broker.sink(sink)["acked"]))
        before = acked[-1]
        back()
        broker.wait_sink("is replayed to", sink, lambda s: sequence(s["acked"]) > before)
    return acked


def finish(broker, publisher, sink):
    result = publisher.result()
    expect(result["acknowledged"] == RECORDS, result)
    broker.wait_drained(sink)
    broker.wait_stream("needs no journal any more", lambda s: s["coverage"] == "closed")
    metrics = broker.metrics()
    labels = f'{{sink="{sink}",stream="s"}}'
    # It was never live between the two, so they are one.
    expect(metrics[f"spillway_outages_total{labels}"] >= 1, "the outage was not counted")
    expect(metrics[f"spillway_sink_lag_messages{labels}"] == 0, "a lag is left")


def a_file_whose_folder_vanishes_is_complete_when_it_is_back(run):
    published = run.records("records", RECORDS)
    out, elsewhere = run.folder / "out", run.folder / "elsewhere"
    out.mkdir()
    broker = run.broker("broker", stream(file_sink("f", out / "taken"))).start()
    publisher = run.publish(broker.address, published, *RATE)
    go_through(broker, "f", lambda: out.rename(elsewhere), lambda: elsewhere.rename(out))
    finish(broker, publisher, "f")
    same(out / "taken", published)


def a_receiver_that_counts_gets_all_of_an_outage_in_order(run):
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken").start()
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port))).start()
    publisher = run.publish(broker.unix, published, *RATE)
    floors = Floors(broker, "t")
    go_through(broker, "t", receiver.stop, receiver.start)
    finish(broker, publisher, "t")
    repeats = delivered(receiver.path, published, floors.finish(receiver.path))
    run.say(f"{repeats} repeats")


def a_receiver_that_only_reads_gets_all_of_an_outage_in_order(run):
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken", acknowledge="kernel").start()
    broker = run.broker("broker", stream(
        tcp_sink("t", receiver.port, 'acknowledge = "kernel"'))).start()
    publisher = run.publish(broker.address, published, *RATE)
    go_through(broker, "t", receiver.stop, receiver.start)
    finish(broker, publisher, "t")
    broker.stop()
    receiver.stop()
    run.say(f"{delivered(receiver.path, published)} repeats")


def a_receiver_that_goes_silent_or_hangs_up_gets_all_in_order(run):
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken").start()
    broker = run.broker("broker", stream(
        tcp_sink("t", receiver.port, 'ack_timeout = "300ms"'))).start()
    publisher = run.publish(broker.address, published, *RATE)
    floors = Floors(broker, "t")

    def silence():
        receiver.counting = False

    def speak():
        receiver.counting = True
    go_through(broker, "t", silence, speak)
    receiver.close_after = 1_500  # from now on no connection lasts
    broker.wait_sink("was cut off again and again", "t", lambda s: s["attempts"] >= 8)
    receiver.close_after = None
    finish(broker, publisher, "t")
    repeats = delivered(receiver.path, published, floors.finish(receiver.path))
    run.say(f"{repeats} repeats")


def a_second_broker_that_stops_and_comes_back_has_everything_once(run):
    published = run.records("records", RECORDS)
    hub = run.broker("hub", stream(file_sink("f", run.folder / "taken"))).start()
    edge = run.broker("edge", stream(relay_sink("hub", hub.address))).start()
    publisher = run.publish(edge.address, published, *RATE)
    go_through(edge, "hub", hub.stop, hub.start)
    finish(edge, publisher, "hub")
    hub.wait_drained("f")
    same(run.folder / "taken", published)


def length_prefixed_records_with_any_bytes_survive_an_outage(run):
    published = run.folder / "records"
    with open(published, "wb") as file:
        for _ in range(5_000):
            payload = run.random.randbytes(run.random.choice((0, 1, 10, 300, 4_000)))
            file.write(len(payload).to_bytes(4, "little") + payload)
        payload = run.random.randbytes(3_000_000)  # travels in parts
        file.write(len(payload).to_bytes(4, "little") + payload)
    framing = 'framing = "length_prefixed"'
    receiver = run.receiver(run.port(), "taken", framing="length_prefixed")  # not there yet
    broker = run.broker("broker", stream(file_sink("f", run.folder / "file", framing),
                                         tcp_sink("t", receiver.port, framing))).start()
    run.publish(broker.address, published, "--framing", "length_prefixed").result()
    broker.wait_state("t", "journaling")
    broker.kill()
    receiver.start()
    broker.start()
    broker.wait_drained("t")
    broker.wait_drained("f")
    same(run.folder / "file", published)
    same(receiver.path, published)


if __name__ == "__main__":
    harness.main()
