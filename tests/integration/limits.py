"""Every limit of a sink that is away, with each `on_limit`: halts, blocks or drops exactly as it
says (G6, G7, G10)."""
import harness
from harness import (FAILED, HALTED, OK, expect, relay_sink, sequence, stream, tcp_sink,
                     wait_for)
from verify import delivered

FIRST, ALL = 5_000, 8_000
GIVE_UP = ("--resume", "--give-up-after", "1500ms")


class Trial:
    """A broker with three streams, whose sinks have the same limit and are away."""

    def __init__(self, run, limit):
        self.run = run
        self.receivers = {name: run.receiver(run.port(), f"taken-{name}")
                          for name in ("halt", "block", "drop_oldest")}
        streams = "".join(
            stream(tcp_sink("t", receiver.port, f'on_limit = "{name}"\n{limit}'), name=name)
            for name, receiver in self.receivers.items())
        self.broker = run.broker("broker", streams).start()
        self.first = run.records("first", FIRST)
        self.all = run.records("all", ALL)

    def publish(self, name, file, *more):
        return self.run.publish(self.broker.address, file, *GIVE_UP, *more, stream=name)

    def expect_halted(self, kind):
        """And that everything says so, also while the broker is stopped and after its death."""
        broker = self.broker
        for _ in range(2):
            halt = broker.wait_halt("halt")["halt"]
            causes = [(cause["kind"], cause["sink"]) for cause in halt["causes"]]
            expect(causes == [(kind, "t")], f"halted for {causes}")
            # Of this process, also where it found the halt latched.
            broker.wait_log("error stream halted", "stream=halt sink=t", f"cause={kind}",
                            f"position={halt['causes'][0]['position']}")
            broker.cli("status", code=HALTED)
            shown = broker.cli("halt", "show", code=HALTED)
            expect([s["stream"] for s in shown["streams"] if s["active"]] == ["halt"], shown)
            self.publish("halt", self.all).result(HALTED)
            answer = broker.cli("halt", "clear", "halt", code=HALTED)
            expect(answer["halted"] and "still halted" in answer["message"] and
                   kind in answer["message"], answer)
            series = f'spillway_halt_active{{cause="{kind}",stream="halt"}}'
            expect(broker.metrics()[series] == 1, f"{series} is not set")
            broker.kill()
            broker.cli("halt", "show", code=HALTED)
            broker.start()
        halts = [line for line in broker.log().splitlines() if "error stream halted" in line]
        expect(len(halts) == 1, f"each cause is logged once: {halts}")
        for other in ("block", "drop_oldest"):
            expect(not broker.stream(other)["halt"]["active"], f"{other} is halted, too")

    def expect_drops_counted(self):
        """Each record once, although a drop that goes on is the same entry of the ledger, grown."""
        told = [line for line in self.broker.log().splitlines()
                if "records did not reach a sink" in line and "stream=drop_oldest" in line]
        expect(len(told) > 1, f"that is not more than one drop: {told}")
        dropped = sum(entry["count"] for entry in self.ledger("drop_oldest"))
        counted = self.broker.metrics()['spillway_dropped_messages_total{reason="limit",sink="t",'
                                        'stream="drop_oldest"}']
        expect(counted == dropped, f"{counted} are counted, {dropped} are in the ledger")

    def extend(self, by):
        """The halt ends at its operator's word."""
        answer = self.broker.cli("halt", "clear", "halt", "--extend", by)
        expect(not answer["halted"], answer)
        self.broker.wait_halt("halt", active=False)
        self.publish("halt", self.all).result()

    def trips_with_time(self, kind):
        """What was published is left alone: each policy does what it should, by itself."""
        self.broker.wait_stream("blocks", lambda s: s["blocked"], "block")
        self.broker.wait_log("stream blocked", "stream=block")
        expect(self.blocked_gauge() == 1, "its gauge does not say that it blocks")
        self.publish("block", self.all).result(FAILED)
        wait_for("all that waits is dropped",
                 lambda: backlog(self, "drop_oldest")["records"] == 0)
        self.publish("drop_oldest", self.all).result()
        self.expect_halted(kind)
        self.extend("1h")
        self.finish()

    def finish(self, skipped=True):
        """The sinks are back: all goes on by itself, and each has what its policy promises."""
        for receiver in self.receivers.values():
            receiver.start()
        # Where the journal was not needed, only a producer can say how far the stream went.
        self.publish("drop_oldest", self.all).result()
        for name in self.receivers:
            self.broker.wait_drained("t", name)
        self.broker.wait_halt("halt", active=False)
        for name in self.receivers:
            self.publish(name, self.all).result()
            self.broker.wait_drained("t", name)
        self.broker.cli("status", code=OK)
        expect(self.blocked_gauge() == 0, "its gauge says that it still blocks")
        for name in ("halt", "block"):
            delivered(self.receivers[name].path, self.all)
            expect(not self.ledger(name), f"{name} has a ledger: {self.ledger(name)}")
        wait_for("the drop has an end",
                 lambda: all(entry["last"] for entry in self.ledger("drop_oldest")))
        ranges = [(sequence(e["first"]), sequence(e["last"])) for e in self.ledger("drop_oldest")]
        expect(bool(ranges) == skipped, f"the ledger of drop_oldest: {ranges}")
        delivered(self.receivers["drop_oldest"].path, self.all, skipped=ranges)

    def blocked_gauge(self):
        return self.broker.metrics()['spillway_stream_blocked{stream="block"}']

    def ledger(self, name):
        shown = self.broker.cli("journal", "status", "--ledger", "1000")
        return next(s for s in shown["streams"] if s["name"] == name)["ledger"]


def backlog(trial, name):
    return trial.broker.sink("t", name)["backlog"]


def max_records_halts_blocks_or_drops_at_exactly_so_many(run):
    run.expects_losses = True
    trial = Trial(run, "max_records = 1000")
    result = trial.publish("halt", trial.first).result(HALTED)
    expect(result["acknowledged"] == 1_000, result)
    result = trial.publish("block", trial.first).result(FAILED)
    expect(result["acknowledged"] <= 1_000, result)
    expect(trial.broker.stream("block")["blocked"], "it does not say that it blocks")
    trial.publish("drop_oldest", trial.first).result()
    expect(backlog(trial, "halt")["records"] == 1_000, backlog(trial, "halt"))
    wait_for("what is over it was dropped",  # once that is in the ledger
             lambda: 0 < backlog(trial, "drop_oldest")["records"] <= 1_000)
    trial.publish("drop_oldest", trial.all).result()
    wait_for("what is over it was dropped again",
             lambda: 0 < backlog(trial, "drop_oldest")["records"] <= 1_000)
    trial.expect_drops_counted()
    trial.expect_halted("max_records")
    trial.finish()


def a_limit_lowered_below_the_backlog_halts_until_its_operator_accepts_the_drop(run):
    run.expects_losses = True
    receiver = run.receiver(run.port(), "taken")

    def config(limit):
        return stream(tcp_sink("t", receiver.port,
                               f'on_limit = "drop_oldest"\nmax_records = {limit}'))
    published, more = run.records("first", FIRST), run.records("all", ALL)
    broker = run.broker("broker", config(FIRST)).start()
    run.publish(broker.address, published, "--resume").result()
    broker.stop()
    broker.configure(config(1_000)).start()
    run.publish(broker.address, more, *GIVE_UP).result(HALTED)
    halt = broker.wait_halt()["halt"]
    expect("--accept-drop" in halt["causes"][0]["text"], halt)
    expect(broker.sink("t")["backlog"]["records"] == FIRST, "it dropped unasked")
    broker.stop()
    broker.start("--accept-drop")
    broker.wait_halt(active=False)
    run.publish(broker.address, more, "--resume").result()
    broker.wait_sink("has dropped", "t", lambda sink: sink["backlog"]["records"] <= 1_000)
    receiver.start()
    broker.wait_drained("t")
    shown = broker.cli("journal", "status", "--ledger", "1000")["streams"][0]["ledger"]
    ranges = [(sequence(e["first"]), sequence(e["last"])) for e in shown]
    expect(ranges and ranges[0][0] == 1, f"the ledger: {ranges}")
    delivered(receiver.path, more, skipped=ranges)


def max_bytes_halts_blocks_or_drops_and_a_halt_can_be_extended(run):
    run.expects_losses = True
    limit = 200_000
    trial = Trial(run, f'max_bytes = "{limit}B"')
    trial.publish("halt", trial.first).result(HALTED)
    trial.publish("block", trial.first).result(FAILED)
    trial.publish("drop_oldest", trial.first).result()
    halted = backlog(trial, "halt")
    each = halted["bytes"] / halted["records"]
    expect(limit - each < halted["bytes"] <= limit, f"{halted} with a limit of {limit}")
    wait_for("what is over it was dropped",
             lambda: 0 < backlog(trial, "drop_oldest")["bytes"] <= limit)
    wait_for("no time is left", lambda: trial.broker.metrics()[
        "spillway_journal_exhaustion_seconds"] == 0)
    trial.expect_halted("max_bytes")
    trial.extend("1MiB")
    trial.finish()


def an_extension_shows_in_the_status_and_in_the_forecast(run):
    published = run.records("records", 10_000)
    receiver = run.receiver(run.port(), "taken")
    limit = 200_000
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port, f"""max_bytes = "{limit}B"
        max_age = "1h"\noutage_timeout = "2h\""""))).start()

    def left_of_all():
        return broker.metrics()["spillway_journal_exhaustion_seconds"]
    run.publish(broker.address, published, *GIVE_UP).result(HALTED)
    wait_for("no time is left", lambda: left_of_all() == 0)
    expect(not broker.cli("halt", "clear", "s", "--extend", "1MiB")["halted"], "still halted")
    run.publish(broker.address, run.records("more", 6_000), *GIVE_UP).result()
    waits, limits = (broker.sink("t")[key] for key in ("backlog", "limits"))
    wider = limit + (1 << 20)
    expect(limit < waits["bytes"] < wider, f"{waits} is not between the old limit and the new one")
    expect(limits["max_bytes"] == {"limit": wider, "left": wider - waits["bytes"]}, limits)
    wait_for("time is left again", lambda: left_of_all() > 0)
    broker.cli("halt", "clear", "s", "--extend", "3h")  # ahead of time
    limits = broker.sink("t")["limits"]
    expect(limits["max_age_seconds"]["limit"] == 4 * 3600, limits)
    expect(limits["max_age_seconds"]["left"] > 3 * 3600, limits)
    expect(limits["outage_timeout_seconds"]["limit"] == 5 * 3600, limits)
    receiver.start()
    broker.wait_drained("t")
    expect(broker.sink("t")["limits"]["outage_timeout_seconds"]["left"] == 5 * 3600, "it is over")
    remaining = 'spillway_outage_remaining_seconds{sink="t",stream="s"}'
    wait_for("the outage is over", lambda: broker.metrics()[remaining] == 5 * 3600)


def a_drop_leaves_seven_eighths_of_a_limit_far_larger_than_the_window(run):
    run.expects_losses = True
    receiver = run.receiver(run.port(), "taken")
    limit, size, count = 4_000_000, 1_000, 10_000
    broker = run.broker("broker", stream(
        tcp_sink("t", receiver.port, f'on_limit = "drop_oldest"\nmax_bytes = "{limit}B"'),
        more='window_bytes = "512KiB"')).start()
    published = run.records("records", count, size)
    run.publish(broker.address, published).result()

    def waits():
        return broker.sink("t")["backlog"]["bytes"]
    wait_for("what is over it was dropped", lambda: waits() <= limit)
    expect(waits() > limit * 7 // 8 - 100_000, f"{waits()} bytes are left of {limit}")
    before = waits()
    broker.kill()
    broker.start()
    broker.wait_sink("counts what it left", "t", lambda s: s["backlog"]["bytes"] == before)
    expect(not broker.stream()["halt"]["active"], "a start halts for what was dropped")
    receiver.start()
    broker.wait_drained("t")
    shown = broker.cli("journal", "status", "--ledger", "1000")["streams"][0]["ledger"]
    ranges = [(sequence(e["first"]), sequence(e["last"])) for e in shown]
    delivered(receiver.path, published, skipped=ranges)


def max_age_halts_blocks_or_drops_what_is_too_old(run):
    run.expects_losses = True
    trial = Trial(run, 'max_age = "2s"')
    for name in trial.receivers:
        trial.publish(name, trial.first).result()
    trial.trips_with_time("max_age")


def outage_timeout_halts_blocks_or_drops_until_the_sink_is_live(run):
    run.expects_losses = True
    trial = Trial(run, 'outage_timeout = "2s"')
    for name in trial.receivers:
        trial.publish(name, trial.first).result()
    expect(trial.broker.sink("t", "halt")["outage"]["remaining_seconds"] <= 2, "the clock stands")
    trial.trips_with_time("outage_timeout")


def on_outage_halt_stops_at_the_first_loss_and_on_outage_drop_never_waits(run):
    run.expects_losses = True
    published = run.records("records", FIRST)
    receivers = {name: run.receiver(run.port(), f"taken-{name}") for name in ("halt", "drop")}
    broker = run.broker("broker", "".join(
        stream(tcp_sink("t", receiver.port, f'on_outage = "{name}"'), name=name)
        for name, receiver in receivers.items())).start()
    run.publish(broker.address, published, stream="drop").result()
    expect(broker.sink("t", "drop")["backlog"]["records"] == 0, "something waits")
    run.publish(broker.address, published, *GIVE_UP, stream="halt")
    halt = broker.wait_halt("halt")["halt"]
    expect([cause["kind"] for cause in halt["causes"]] == ["outage_timeout"], halt)
    for receiver in receivers.values():
        receiver.start()
    broker.wait_halt("halt", active=False)
    run.publish(broker.address, published, "--resume", stream="halt").result()
    broker.wait_drained("t", "halt")
    delivered(receivers["halt"].path, published)


def a_halt_passes_through_a_chain_to_the_first_producer(run):
    some, published = run.records("some", 600), run.records("records", FIRST)
    receiver = run.receiver(run.port(), "taken")
    hub = run.broker("hub", stream(tcp_sink("t", receiver.port, "max_records = 500"))).start()
    edge = run.broker("edge", stream(
        relay_sink("hub", hub.address, "max_records = 1000"))).start()
    run.publish(edge.address, some).result()
    expect(hub.wait_halt()["held"].endswith("/500"), "the hub took more than its limit")
    # What is in flight to a live sink is not held against its limits: first the hub has to refuse.
    edge.wait_state("hub", "journaling")
    run.publish(edge.address, published, *GIVE_UP).result(HALTED)
    # The hub may have halted before it acknowledged what it has.
    held = sequence(edge.wait_halt()["held"])
    acked = sequence(edge.sink("hub")["acked"])
    expect(acked <= 500, f"the hub acknowledged {acked}")
    expect(held == acked + 1_000, f"the edge halts at {held}, and not 1,000 beyond {acked}")
    edge_sink = edge.sink("hub")
    expect(edge_sink["refusing"] and "max_records" in edge_sink["last_error"]["text"],
           f"the edge does not say why: {edge_sink}")
    receiver.start()
    run.publish(edge.address, published, "--resume").result()
    edge.wait_drained("hub")
    hub.wait_drained("t")
    delivered(receiver.path, published)


if __name__ == "__main__":
    harness.main()
