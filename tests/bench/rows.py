"""The rows: what is measured, against what, and what it should be."""
import statistics
import time
from dataclasses import dataclass
from typing import Callable, Optional

import instructions
from parts import Broker, du, free_port, lines_sink, spillway_sink, wait_for

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
LARGEST = 64 * MIB - 64 * KIB  # a payload whose record is within 64 MiB with all its parts


@dataclass
class Row:
    number: int
    name: str
    unit: str
    value: Callable                      # of a Bench; or (value, {more})
    baseline: Optional[Callable] = None  # of a Bench
    more_is_better: bool = True
    target: Optional[float] = None       # of the value
    target_ratio: Optional[float] = None  # of value over baseline
    repeats: bool = True

    def target_text(self):
        sign = ">=" if self.more_is_better else "<="
        texts = []
        if self.target is not None:
            texts.append(f"{sign} {self.target:,.6g}")
        if self.target_ratio is not None:
            texts.append(f"{sign} {self.target_ratio:g} x")
        return ", ".join(texts)

    def met(self, result):
        wanted = [(self.target, result["value"]), (self.target_ratio, result["ratio"])]
        wanted = [(target, found) for target, found in wanted if target is not None]
        if not wanted:
            return None
        return all(found >= target if self.more_is_better else found <= target
                   for target, found in wanted)


# --- 1, 2, 17: what passes through --------------------------------------------------------------

def rate_of(line):
    return line["records"] / (line["end"] - line["begin"])


def live_records(bench, size):
    total = bench.scale(1200 * MIB, 300 * MIB) if size < LARGEST else 256 * MIB
    return max(4, min(bench.scale(3_000_000, 700_000), total // (size + 20)))


def through_broker(size):
    def run(bench):
        port = free_port()
        bench.receiver(port)
        broker = Broker(bench, spillway_sink(port),
                        'window_bytes = "256MiB"' if size >= LARGEST else "")
        broker.start()
        records = live_records(bench, size)
        before = broker.process.cpu()
        line = bench.generate(broker.address, size=size, records=records)
        per_record = (broker.process.cpu() - before) / records * 1e6
        return rate_of(line), {"broker_cpu_us_per_record": per_record,
                               "bytes_per_second": rate_of(line) * size}
    return run


def relay_to(bench, receiver):
    """A bare relay before a receiver's port, and its address."""
    port = free_port()
    return bench.relay(port, receiver), f"tcp://127.0.0.1:{port}"


def through_relay(size):
    def run(bench):
        port = free_port()
        bench.receiver(port)
        relay, address = relay_to(bench, port)
        records = live_records(bench, size)
        line = bench.generate(address, size=size, records=records)
        return rate_of(line), {"relay_cpu_us_per_record": relay.cpu() / records * 1e6}
    return run


def cpu_of(through, key):
    def run(bench):
        return through(256)(bench)[1][key]
    return run


# --- 3: sinks that stall ------------------------------------------------------------------------

def sinks(count, stalled):
    def run(bench):
        ports = [free_port() for _ in range(count)]
        for port in ports[stalled:]:
            bench.receiver(port, "lines")
        broker = Broker(bench, "".join(lines_sink(port, f"out{i}")
                                       for i, port in enumerate(ports)))
        broker.start()
        line = bench.generate(broker.address, size=256, until="acknowledged",
                              records=bench.scale(2_000_000, 500_000))
        last = f"out{count - 1}"
        wait_for("taken", lambda: broker.sink(last)["backlog"]["records"] == 0)
        return rate_of(line)
    return run


# --- 4, 5: latency ------------------------------------------------------------------------------

def latency_one(key, hops):
    def line_of(bench):
        port = free_port()
        bench.receiver(port)
        address = f"tcp://127.0.0.1:{port}"
        if hops == 2:
            broker = Broker(bench, spillway_sink(port))
            broker.start()
            address = broker.address
        return bench.generate(address, size=256, records=bench.scale(20_000, 4_000), mode="one")

    def run(bench):
        line = bench.once(("one", hops), lambda: line_of(bench))
        return line[key] * 1e6 * (1 if hops == 2 else 2)
    return run


def latency_paced(key, relayed):
    """Of the broker, or of a bare relay at the same rate."""
    def line_of(bench):
        if bench.half_rate is None:
            bench.half_rate = int(through_broker(256)(bench)[0] / 2)
            bench.clear()
        port = free_port()
        bench.receiver(port)
        if relayed:
            _, address = relay_to(bench, port)
        else:
            broker = Broker(bench, spillway_sink(port))
            broker.start()
            address = broker.address
        return bench.generate(address, size=256, mode="paced", rate=bench.half_rate,
                              records=bench.half_rate * bench.scale(8, 3))

    def run(bench):
        line = bench.once(("paced", relayed), lambda: line_of(bench))
        return line[key] * 1e3, {"rate": bench.half_rate}
    return run


# --- 6, 7: journaling ---------------------------------------------------------------------------

def journaling(size, in_flight, full, quick, after=None):
    def run(bench):
        broker = Broker(bench, spillway_sink(free_port()), journal='compression = "none"')
        broker.start()
        more = {"mode": "one"} if in_flight == 1 else {"in_flight": in_flight * (size + 24)}
        line = bench.generate(broker.address, size=size, records=bench.scale(full, quick),
                              until="acknowledged", **more)
        commits = broker.metric("spillway_journal_fsyncs_total")
        total = broker.metric("spillway_journal_append_bytes_total")
        bench.group = total / max(1, commits)
        bench.total = total
        found = {"group_bytes": bench.group}
        if after == "append":
            seconds = bench.disk("append", total, bench.group)
            found["append_fdatasync_records_per_second"] = line["records"] / seconds
            seconds = bench.disk("rocksdb", total, bench.group, program="bench_disk_crc")
            found["rocksdb_with_our_crc_records_per_second"] = line["records"] / seconds
        return rate_of(line), found
    return run


def plain_rocksdb(full, quick):
    """The groups are those that formed in the run of the broker just before."""
    def run(bench):
        seconds = bench.disk("rocksdb", bench.total, bench.group)
        return bench.scale(full, quick) / seconds
    return run


# --- 8 to 12: replay ----------------------------------------------------------------------------

def backlog_for(bench, broker, size, total, compressible=False):
    more = {"compressible": 1} if compressible else {}
    records = max(1, int(total // (size + 20)))
    bench.generate(broker.address, size=size, records=records, until="acknowledged", **more)
    return records


def replay(protocol, size, full, quick):
    def run(bench):
        port = free_port()
        sink = spillway_sink(port) if protocol == "spillway" else lines_sink(port)
        broker = Broker(bench, sink, journal='max_disk_bytes = "24GiB"')
        broker.start()
        records = backlog_for(bench, broker, size, bench.scale(full, quick))
        line = bench.receiver(port, protocol, records).line("last")
        return line["records"] / (line["last"] - line["first"])
    return run


def plain_read(size, full, quick):
    """Records a second, if all there were to do was to read a file of as many bytes."""
    def run(bench):
        total = bench.scale(full, quick)
        return total / (size + 20) / bench.disk("read", total, MIB)
    return run


def replay_under_load(bench):
    """How long it takes to catch up, and whether the producer feels it."""
    port = free_port()
    broker = Broker(bench, spillway_sink(port), journal='max_disk_bytes = "24GiB"')
    broker.start()
    backlog_for(bench, broker, 256, bench.scale(2 * GIB, 200 * MIB))
    rate, seconds = 200_000, bench.scale(12, 6)
    producer = bench.generator(broker.address, size=256, mode="paced", rate=rate,
                               records=rate * seconds, until="acknowledged")
    bench.receiver(port)
    begin = time.monotonic()
    wait_for("live", lambda: broker.sink()["state"] == "live" and
             broker.sink()["backlog"]["records"] < rate / 2, look=0.05)
    caught_up = time.monotonic() - begin
    line = producer.line("end")
    return rate_of(line) / rate, {"caught_up_seconds": caught_up}


def first_replayed(since):
    """The median over outages, with the default retry."""
    def outages(bench):
        port = free_port()
        broker = Broker(bench, lines_sink(port))
        broker.start()
        receiver = bench.receiver(port, "lines")
        bench.generate(broker.address, size=256, records=10)
        seen = []
        for _ in range(bench.scale(50, 8)):
            receiver.kill()
            wait_for("down", lambda: broker.sink()["state"] != "live")
            bench.generate(broker.address, size=256, records=10, until="acknowledged")
            receiver = bench.receiver(port, "lines")
            connected = receiver.line("connected")["connected"]
            first = receiver.line("first")["first"]
            seen.append({"connected": first - connected, "ready": first - receiver.ready})
            broker.wait_drained()
        return seen

    def run(bench):
        seen = bench.once("outages", lambda: outages(bench))
        return statistics.median(outage[since] for outage in seen) * 1e3
    return run


# --- 13 to 15, 18, 19: disk, memory, start ------------------------------------------------------

def write_amplification(compression, compressible):
    def run(bench):
        broker = Broker(bench, spillway_sink(free_port()),
                        journal=f'compression = "{compression}"')
        broker.start()
        total = bench.scale(2 * GIB, 512 * MIB)
        backlog_for(bench, broker, KIB, total, compressible)
        received = broker.metric('spillway_received_bytes_total{stream="s"}')
        return broker.process.written() / received
    return run


def with_backlog(bench):
    broker = Broker(bench, spillway_sink(free_port()), journal='max_disk_bytes = "24GiB"')
    broker.start()
    backlog_for(bench, broker, KIB, bench.scale(10 * GIB, GIB))
    return broker


def resident(bench):
    """One sink is live, one goes away half-way, one comes only in the end: then both are replayed
    to, from places far apart."""
    ports = {name: free_port() for name in ("live", "half", "late")}
    broker = Broker(bench, "".join(lines_sink(port, name) for name, port in ports.items()),
                    journal='max_disk_bytes = "24GiB"')
    broker.start()
    bench.receiver(ports["live"], "lines")
    half = bench.receiver(ports["half"], "lines")
    most = 0

    def watch(what, ended):
        def look():
            nonlocal most
            most = max(most, broker.process.resident())
            return ended()
        wait_for(what, look, look=0.05)
    total = bench.scale(10 * GIB, GIB)
    for part in range(2):
        producer = bench.generator(broker.address, size=KIB, records=int(total // 2 // (KIB + 20)),
                                   until="acknowledged")
        watch("all is published", lambda: producer.child.poll() is not None)
        if part == 0:
            half.kill()
    bench.receiver(ports["half"], "lines")
    bench.receiver(ports["late"], "lines")
    watch("all is replayed", lambda: not any(broker.sink(name)["backlog"]["records"]
                                             for name in ports))
    return most / MIB


def start_seconds(killed):
    def run(bench):
        broker = with_backlog(bench)
        if killed:
            broker.process.kill()
        else:
            broker.process.child.terminate()
            broker.process.child.wait()
        return broker.start()
    return run


def start_seconds_of_many(count):
    """After SIGKILL, all of them with a part of the backlog."""
    def run(bench):
        broker = many_streams(bench, count, free_port(), 'max_disk_bytes = "24GiB"')
        broker.start()
        bench.generate(broker.address, size=KIB, streams=count, until="acknowledged",
                       records=bench.scale(10 * GIB, 256 * MIB) // (KIB + 20))
        broker.process.kill()
        return broker.start()
    return run


def given_back(bench):
    port = free_port()
    broker = Broker(bench, spillway_sink(port), journal='max_disk_bytes = "24GiB"')
    broker.start()
    records = backlog_for(bench, broker, KIB, bench.scale(2 * GIB, 512 * MIB))
    bench.receiver(port, "spillway", records).line("last")
    begin = time.monotonic()
    ballast = 64 * MIB
    wait_for("the disk is given back", lambda: du(broker.data_dir) - ballast < 100 * MIB)
    return time.monotonic() - begin


# --- 16: many streams ---------------------------------------------------------------------------

def many_streams(bench, count, port, journal='compression = "none"'):
    return Broker(bench, "", streams="".join(
        f'[[stream]]\nname = "s{i}"\n{spillway_sink(port, stream=f"s{i}")}'
        for i in range(1, count + 1)), journal=journal)


def rate_of_many(count, live):
    """The same records, and as many bytes in flight, shared by so many streams."""
    def run(bench):
        port = free_port()
        if live:
            bench.receiver(port)
        broker = many_streams(bench, count, port)
        broker.start()
        size, records = (256, bench.scale(3_000_000, 500_000)) if live else (
            400, bench.scale(2_000_000, 300_000))
        more = {"size": size, "streams": count, "in_flight": 16 * MIB // count,
                "until": "taken" if live else "acknowledged"}
        # First what happens once in the life of a stream: an epoch, a place in the journal.
        bench.generate(broker.address, records=512 * count, **more)
        before = broker.process.cpu()
        line = bench.generate(broker.address, records=records, **more)
        per_record = (broker.process.cpu() - before) / records * 1e6
        return rate_of(line), {"broker_cpu_us_per_record": per_record}
    return run


def memory_per_stream(bench):
    """Each with a sink that is live, and no producer."""
    def resident_with(count):
        port = free_port()
        receiver = bench.receiver(port)
        broker = many_streams(bench, count, port)
        broker.start()
        for _ in range(count):
            receiver.line("connected")
        readings = []

        def settled():
            readings.append(broker.process.resident())
            return len(readings) > 1 and readings[-1] == readings[-2]
        wait_for("its memory grows no more", settled, look=0.5)
        found = readings[-1]
        bench.clear()
        return found
    idle = 1000
    return (resident_with(idle + 1) - resident_with(1)) / idle / KIB


def idle_disk(bench):
    port = free_port()
    bench.receiver(port)
    broker = Broker(bench, spillway_sink(port))
    broker.start()
    bench.generate(broker.address, size=256, records=1000)
    wait_for("closed", lambda: broker.metric('spillway_coverage_open{stream="s"}') == 0)
    before, begin = broker.process.written(), time.monotonic()
    seconds = bench.scale(20, 5)
    bench.generate(broker.address, size=256, mode="paced", rate=20_000, records=20_000 * seconds)
    return (broker.process.written() - before) / (time.monotonic() - begin) / KIB


def disk_of_a_further_stream(bench):
    """Each with its producer and its sink, and all is well."""
    seconds, rate = bench.scale(15, 5), 1000

    def written_with(count):
        port = free_port()
        bench.receiver(port)
        broker = many_streams(bench, count, port)
        broker.start()
        for i in range(1, count + 1):
            bench.generate(broker.address, stream=f"s{i}", size=256, records=100)
        before, begin = broker.process.written(), time.monotonic()
        producers = [bench.generator(broker.address, stream=f"s{i}", size=256, mode="paced",
                                     rate=rate, records=rate * seconds)
                     for i in range(1, count + 1)]
        for producer in producers:
            producer.line("end")
        found = (broker.process.written() - before) / (time.monotonic() - begin)
        bench.clear()
        return found
    further = 10
    return (written_with(further + 1) - written_with(1)) / further / KIB


def instructions_row(path, name):
    most = instructions.recorded().get(path, 0) * (1 + instructions.MORE)
    return Row(17, f"instructions, {name}", "a record", instructions.PATHS[path],
               more_is_better=False, target=most, repeats=False)


def live_row(name, size, target, ratio):
    return Row(1 if size == 256 else 2, f"live, {name}", "records/s", through_broker(size),
               through_relay(size), target=target, target_ratio=ratio)


ROWS = [
    live_row("256 B", 256, 1_000_000, 0.5),
    live_row("1 KiB", KIB, None, 0.5),
    live_row("16 KiB", 16 * KIB, None, 0.6),
    live_row("1 MiB", MIB, None, 0.7),
    live_row("64 MiB", LARGEST, None, 0.7),
    Row(3, "live, 2 sinks, one stalled", "records/s", sinks(2, 1), sinks(2, 0), target_ratio=0.9),
    Row(3, "live, 4 sinks, one stalled", "records/s", sinks(4, 1), sinks(4, 0), target_ratio=0.9),
    Row(4, "one in flight, p50", "us", latency_one("p50", 2), latency_one("p50", 1),
        more_is_better=False, target_ratio=2),
    Row(4, "one in flight, p99", "us", latency_one("p99", 2), latency_one("p99", 1),
        more_is_better=False, target_ratio=5),
    Row(5, "at half the maximum, p99", "ms", latency_paced("p99", False),
        latency_paced("p99", True), more_is_better=False, target=5),
    Row(5, "at half the maximum, p99.9", "ms", latency_paced("p999", False),
        latency_paced("p999", True), more_is_better=False, target=20),
    Row(6, "journaling, 1,000 x 400 B in flight", "records/s",
        journaling(400, 1000, 3_000_000, 500_000, "append"),
        plain_rocksdb(3_000_000, 500_000), target=450_000, target_ratio=0.85),
    Row(7, "journaling, one in flight", "records/s", journaling(400, 1, 15_000, 2_000),
        plain_rocksdb(15_000, 2_000), target_ratio=0.85),
    Row(8, "replay to a broker, 256 B", "records/s", replay("spillway", 256, GIB, 200 * MIB),
        plain_read(256, GIB, 200 * MIB), target=1_000_000),
    Row(9, "replay to tcp lines, 400 B", "records/s", replay("lines", 400, GIB, 200 * MIB),
        plain_read(400, GIB, 200 * MIB), target=650_000),
    Row(10, "producer's rate while replaying", "of 200,000/s", replay_under_load, target=0.99),
    Row(11, "replay, 10 GiB of backlog", "records/s", replay("spillway", KIB, 10 * GIB, GIB),
        replay("spillway", KIB, 100 * MIB, 100 * MIB), target_ratio=0.95, repeats=False),
    Row(12, "first replayed after connecting", "ms", first_replayed("connected"),
        more_is_better=False, target=100, repeats=False),
    Row(12, "first replayed after listening", "ms", first_replayed("ready"),
        more_is_better=False, target=1100, repeats=False),
    Row(13, "write amplification", "x", write_amplification("none", False), more_is_better=False,
        target=2.1, repeats=False),
    Row(13, "write amplification, LZ4", "x", write_amplification("lz4", True),
        more_is_better=False, target=1.6, repeats=False),
    Row(14, "memory with a backlog, 3 sinks", "MiB", resident, more_is_better=False, target=256,
        repeats=False),
    Row(15, "start with a backlog", "s", start_seconds(False), more_is_better=False, target=1,
        repeats=False),
    Row(15, "start with a backlog after SIGKILL", "s", start_seconds(True), more_is_better=False,
        target=1, repeats=False),
    Row(15, "start of 64 streams with a backlog, killed", "s", start_seconds_of_many(64),
        more_is_better=False, target=3, repeats=False),
    Row(16, "journaling, 8 streams", "records/s", rate_of_many(8, False), rate_of_many(1, False)),
    Row(16, "journaling, 64 streams", "records/s", rate_of_many(64, False), rate_of_many(1, False),
        target_ratio=0.6),
    Row(16, "live, 1,000 streams", "records/s", rate_of_many(1000, True), rate_of_many(1, True),
        target_ratio=0.6),
    Row(16, "memory of an idle stream", "KiB", memory_per_stream, more_is_better=False, target=64,
        repeats=False),
    Row(17, "CPU of the broker, live, 256 B", "us/record",
        cpu_of(through_broker, "broker_cpu_us_per_record"),
        cpu_of(through_relay, "relay_cpu_us_per_record"), more_is_better=False, target=0.4),
    instructions_row("live", "live, 256 B"),
    instructions_row("journaled", "journaled, 400 B"),
    instructions_row("replayed", "replayed, 256 B"),
    Row(18, "disk given back after a replay", "s", given_back, more_is_better=False, target=5,
        repeats=False),
    Row(19, "disk written while live", "KiB/s", idle_disk, more_is_better=False, target=16,
        repeats=False),
    Row(19, "disk written for a further live stream", "KiB/s", disk_of_a_further_stream,
        more_is_better=False, target=1, repeats=False),
]
