"""What the broker says of itself: metrics from the start and right after a restart, health,
status."""
import json
import re

import harness
from harness import HALTED, ROOT, expect, file_sink, stream, tcp_sink, wait_for
from hostile import FORK, Client, example
from verify import delivered, same

RECORDS = 5_000


def catalogue():
    """[(name, type)] as the source has them."""
    text = (ROOT / "metrics/catalogue.cc").read_text()
    return re.findall(r'^    \{"(\w+)", (counter|gauge|histogram), "', text, re.MULTILINE)


def expect_all_series(broker):
    """Every family of the catalogue has samples, and for every sink."""
    series = broker.metrics()
    names = {key.split("{")[0] for key in series}
    found = catalogue()
    expect(len(found) > 80, f"only {len(found)} in the catalogue")
    for name, kind in found:
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        for suffix in suffixes:
            expect(name + suffix in names, f"{name}{suffix} is not there from the start")
    for sink in ("f", "t"):
        for state in ("journaling", "replaying", "live", "parked", "paused"):
            key = f'spillway_sink_state{{sink="{sink}",state="{state}",stream="s"}}'
            expect(key in series, f"{key} is not there")
    return series


def every_series_exists_from_the_start_and_is_right_after_a_restart(run):
    published = run.records("records", RECORDS)
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept"),
                                         tcp_sink("t", run.port(), 'max_bytes = "1GiB"'))).start()
    fresh = expect_all_series(broker)
    expect(fresh['spillway_sink_lag_messages{sink="t",stream="s"}'] == 0, "a lag from the start")
    run.publish(broker.address, published).result()
    broker.wait_drained("f")

    def wanted():
        away, near = '{sink="t",stream="s"}', '{sink="f",stream="s"}'
        return {f"spillway_sink_lag_messages{away}": RECORDS,
                f"spillway_sink_lag_messages{near}": 0,
                f"spillway_journal_size_messages{away}": RECORDS,
                f"spillway_journal_limit_bytes{away}": 1 << 30,
                f"spillway_sink_up{away}": 0, f"spillway_sink_up{near}": 1,
                f"spillway_sink_cursor_sequence{near}": RECORDS,
                f"spillway_sink_cursor_sequence{away}": 0,
                'spillway_sink_state{sink="t",state="journaling",stream="s"}': 1,
                'spillway_last_received_sequence{stream="s"}': RECORDS,
                'spillway_durable_sequence{stream="s"}': RECORDS,
                'spillway_safe_sequence{stream="s"}': RECORDS,
                'spillway_coverage_open{stream="s"}': 1}

    def differences():
        series = broker.metrics()
        return {k: (series.get(k), v) for k, v in wanted().items() if series.get(k) != v}

    def expect_right():
        try:
            wait_for("the metrics are right", lambda: not differences())
        except TimeoutError:
            raise AssertionError(f"(found, wanted): {differences()}") from None
    expect_right()
    before = broker.metrics()
    key = 'spillway_received_messages_total{stream="s"}'
    expect(before[key] == RECORDS, f"{key} is {before[key]}")
    key = 'spillway_sink_delivered_messages_total{mode="live",sink="f",stream="s"}'
    replayed = before[key.replace('"live"', '"replay"')]
    expect(before[key] + replayed == RECORDS, f"{before[key]} and {replayed} delivered")
    broker.kill().start()
    expect_all_series(broker)
    expect_right()
    for name in ("lag_bytes", "lag_seconds"):
        key = f'spillway_sink_{name}{{sink="t",stream="s"}}'
        expect(broker.metrics()[key] > 0, f"{key} is forgotten")
    started = f'spillway_outage_started_timestamp_seconds{{sink="t",stream="s"}}'
    expect(abs(broker.metrics()[started] - before[started]) < 1, "the outage began anew")


def what_a_halt_refuses_counts_as_received_when_it_is_taken(run):
    published = run.records("records", RECORDS)
    receiver = run.receiver(run.port(), "taken")
    sink = tcp_sink("t", receiver.port, "max_records = 1000")
    broker = run.broker("broker", stream(sink)).start()

    def received():
        series = broker.metrics()
        return tuple(series[f'spillway_received_{what}_total{{stream="s"}}']
                     for what in ("messages", "bytes"))
    run.publish(broker.address, published, "--resume", "--give-up-after", "1500ms").result(HALTED)
    waits = broker.wait_halt()["sinks"][0]["backlog"]
    expect(received() == (waits["records"], waits["bytes"]) and waits["records"] == 1_000,
           f"{received()} is received, {waits} is held")
    receiver.start()
    broker.wait_halt(active=False)
    run.publish(broker.address, published, "--resume").result()
    broker.wait_drained("t")
    expect(received()[0] == RECORDS, f"{received()} is received of {RECORDS}")
    delivered(receiver.path, published)


def what_comes_again_does_not_count_as_received(run):
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept"), name="bad")).start()
    client = Client(broker)
    epoch = client.welcomed()[4]

    def batch(first, end, text=b"good"):
        return example.batch(epoch, first, [example.record(epoch, n, b"%d %s" % (n, text))
                                            for n in range(first, end)])
    # Again, some of it again with new ones, and other content, which is refused.
    client.send(batch(1, 4) + batch(1, 4) + batch(2, 6) + batch(5, 8, b"other"))
    code = client.rejected()
    expect(code == FORK, f"Reject {code}")
    counted = broker.metrics()['spillway_received_messages_total{stream="bad"}']
    expect(counted == 5, f"{counted} are counted, 5 were taken")
    expect(broker.stream("bad")["held"].endswith("/5"), broker.stream("bad"))


def health_and_status_answer_from_the_start_to_the_end(run):
    published = run.records("records", RECORDS)
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept")),
                        top='[log]\nformat = "json"').start()
    expect(broker.get("/healthz")[0] == 200, "not healthy")
    expect(broker.get("/readyz")[0] == 200, "not ready")
    expect(broker.get("/nowhere")[0] == 404, "there is something nowhere")
    expect(broker.get("/api/v1/streams/s/sinks/nobody/pause", "POST")[0] == 404, "no such sink")
    run.publish(broker.address, published).result()
    broker.wait_drained("f")
    status = broker.cli("status")
    expect(status["ready"] and not status["stopping"], status)
    one, = status["streams"]
    expect(one["held"] == one["safe"] == one["taken"] == one["sinks"][0]["acked"], one)
    expect(one["held"].endswith(f"/{RECORDS}") and not one["halt"]["active"], one)
    expect(status["journal"]["disk_bytes"] <= status["journal"]["max_disk_bytes"], status)
    broker.stop()
    for line in broker.log().splitlines():
        expect({"time", "level", "event"} <= json.loads(line).keys(), line)
    expect(len(broker.log().splitlines()) < 200, "a line per record?")
    same(run.folder / "kept", published)


if __name__ == "__main__":
    harness.main()
