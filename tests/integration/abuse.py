"""Clients that mean harm, by the thousand: memory stays bounded, and whoever behaves is served as
before (G5, G6)."""
import json
import resource
import select
import socket
import statistics
import struct
import threading
import time
import urllib.parse

import harness
from harness import expect, file_sink, memory_of, stream, wait_for
from hostile import BUSY, MALFORMED, TOO_LARGE, Client, example
from verify import same

MIB = 1 << 20
MORE_MEMORY = (64 if not harness.SANITIZED else 1_024) * MIB
GOOD_RECORDS, GOOD_RATE = 60_000, 15_000


def raise_own_limit():
    """Of descriptors: the test needs as many as it opens. What it starts keeps the usual limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Good:
    """A producer at a steady rate beside the abuse, and one that asks for an acknowledgement again
    and again."""

    def __init__(self, run, broker):
        self.published = run.records("good-records", GOOD_RECORDS)
        self.kept = run.folder / "good"
        self.broker = broker
        self.connect()
        self.before = statistics.median(self.ask() for _ in range(50))
        self.publisher = run.publish(broker.address, self.published, "--rate", GOOD_RATE,
                                     stream="good")

    def connect(self):
        self.client = Client(self.broker)
        welcome = self.client.welcomed("probe")
        self.epoch = welcome[4]
        held = example.position(welcome.get(5))
        self.sent = held[1] if held[0] == self.epoch else 0

    @staticmethod
    def streams(run):
        return (stream(file_sink("f", run.folder / "good"), name="good") +
                stream(file_sink("f", run.folder / "probe"), name="probe"))

    def ask(self):
        """Seconds until one record is acknowledged."""
        self.sent += 1
        begin = time.monotonic()
        self.client.send(example.batch(self.epoch, self.sent, [
            example.record(self.epoch, self.sent, b"probe")]))
        while True:
            kind, ack = self.client.connection.receive()
            if kind == 4 and example.position(ack.get(1))[1] >= self.sent:
                return time.monotonic() - begin

    def finish(self):
        """What the abuse has cost it, in words."""
        try:
            self.ask()
        except OSError:
            self.connect()  # who is silent for long is hung up on
        during = statistics.median(self.ask() for _ in range(50))
        expect(during < max(20 * self.before, 0.05) or harness.SANITIZED,
               f"an acknowledgement takes {during:.4f} s instead of {self.before:.4f}")
        result = self.publisher.result()
        usual = GOOD_RECORDS / GOOD_RATE
        expect(result["seconds"] < 1.5 * usual + 3 or harness.SANITIZED,
               f"it took {result['seconds']} s, not {usual}")
        self.broker.wait_drained("f", "good")
        same(self.kept, self.published)
        return (f"the good one took {result['seconds']:.2f} s instead of {usual:.2f}, and waits "
                f"{during * 1e3:.2f} ms for an acknowledgement instead of {self.before * 1e3:.2f}")


def hung_up(sockets, deadline=harness.DEADLINE):
    """Waits until the other side has ended all of them. What was received on each."""
    heard = {s.fileno(): b"" for s in sockets}
    poll = select.poll()
    for s in sockets:
        poll.register(s, select.POLLIN)
    left, end = {s.fileno(): s for s in sockets}, time.monotonic() + deadline
    while left:
        expect(time.monotonic() < end, f"{len(left)} of {len(sockets)} connections are still open")
        for number, _ in poll.poll(100):
            try:
                data = left[number].recv(65536)
            except OSError:
                data = b""
            heard[number] += data
            if not data:
                poll.unregister(number)
                left.pop(number).close()
    return list(heard.values())


def reject_of(data):
    """The code of the Reject in what was heard; 0: none."""
    if len(data) < 4:
        return 0
    (kind, message), = example.fields(data[4:4 + struct.unpack("<I", data[:4])[0]]).items()
    return example.fields(message)[2] if kind == 5 else 0


def ten_thousand_connections_are_refused_beyond_their_limit_and_hurt_nobody(run):
    hard = raise_own_limit()
    wanted = min(10_000, hard - 500)
    broker = run.broker("broker", Good.streams(run)).start()
    good = Good(run, broker)
    before = memory_of(broker.process.child.pid)
    sockets = []
    for _ in range(wanted):
        s = socket.socket()
        s.settimeout(harness.DEADLINE)
        s.connect(("127.0.0.1", broker.ingress_port))
        sockets.append(s)
    taken = broker.metrics()["spillway_ingress_connections"]
    cost = good.finish()
    after = memory_of(broker.process.child.pid)
    codes = [reject_of(data) for data in hung_up(sockets)]
    refused = codes.count(BUSY)
    run.say(f"{wanted} connections, {refused} refused; {before >> 20} MiB before, {after >> 20} "
            f"MiB with them; {cost}")
    expect(wanted - refused <= 1024, f"only {refused} of {wanted} were refused with BUSY")
    expect(set(codes) == {BUSY, MALFORMED}, f"codes {set(codes)}")
    expect(after - before < MORE_MEMORY, f"they cost {(after - before) >> 20} MiB")
    expect(taken <= 1024 + 64, f"{taken} were open")
    wait_for("all are gone", lambda: broker.metrics()["spillway_ingress_connections"] <= 1)
    lines = len(broker.log().splitlines())
    expect(lines < 500, f"{lines} lines of log for {wanted} connections")


def hellos_that_trickle_in_end_after_ten_seconds(run):
    """Slow loris at the ingress and at the admin server."""
    raise_own_limit()
    broker = run.broker("broker", Good.streams(run)).start()
    good = Good(run, broker)
    before = memory_of(broker.process.child.pid)
    hello = example.hello("good" + "d" * 60_000)
    request = b"GET /metrics HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 4_000 + b"\r\n\r\n"
    slow = {}
    for data, port, count in ((hello, broker.ingress_port, 500), (request, broker.admin_port, 200)):
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(data[:10])
            slow[s] = data
    stop = threading.Event()

    def trickle():
        at = 10
        while not stop.wait(0.2):
            for s, data in slow.items():
                try:
                    s.send(data[at:at + 1], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except OSError:
                    pass  # it is ended
            at += 1
    thread = threading.Thread(target=trickle, daemon=True)
    begin = time.monotonic()
    thread.start()
    try:
        after = memory_of(broker.process.child.pid)
        heard = hung_up(list(slow))
    finally:
        stop.set()
        thread.join()
    took = time.monotonic() - begin
    codes = [reject_of(data) for data in heard if not data.startswith(b"HTTP")]
    expect(codes.count(MALFORMED) >= 499, f"{codes.count(MALFORMED)} of 500 were told why")
    expect(broker.get("/metrics")[0] == 200, "the admin server does not answer")
    run.say(f"all are gone after {took:.1f} s; {before >> 20} MiB before, {after >> 20} MiB with "
            f"them; {good.finish()}")
    expect(after - before < MORE_MEMORY, f"they cost {(after - before) >> 20} MiB")


def a_million_tiny_frames_and_frames_that_never_end_take_no_memory(run):
    broker = run.broker("broker", Good.streams(run) +
                        stream(file_sink("f", run.folder / "bad"), name="bad")).start()
    good = Good(run, broker)
    before = memory_of(broker.process.child.pid)

    def flood(client, frame, count):
        """Sends, and reads whatever comes, until all is sent or it is ended."""
        many = frame * 10_000
        reader = threading.Thread(target=hung_up, args=([client.connection.socket.dup()],))
        reader.start()
        for _ in range(count // 10_000):
            client.send(many)
        client.send(example.frame(8, b""))  # goodbye
        reader.join()
        client.connection.socket.close()

    # Pings, each of which wants an answer; and one record, again and again.
    client = Client(broker)
    client.welcomed()
    flood(client, example.frame(9, example.field(1, 7)), 1_000_000)
    client = Client(broker)
    epoch = client.welcomed()[4]
    one = example.batch(epoch, 1, [example.record(epoch, 1, b"one")])
    flood(client, one, 1_000_000)
    # Answers that nobody reads end the connection, and not the broker's memory.
    deaf = Client(broker)
    deaf.welcomed()
    ping = example.frame(9, example.field(1, 7)) * 10_000
    deaf.connection.socket.settimeout(1)
    for _ in range(10_000):
        try:
            deaf.connection.socket.sendall(ping)
        except OSError:
            break
    else:
        raise AssertionError("it was heard for ever")
    # Announced as the largest that is allowed, and never sent whole; and one byte more.
    half = [Client(broker) for _ in range(20)]
    for client in half:
        client.welcomed()  # each ends the one before it
        client.send(struct.pack("<I", 4 * MIB) + b"\x1a" + bytes(1 * MIB))
    over = Client(broker)
    over.welcomed()
    code = over.send(struct.pack("<I", 4 * MIB + (64 << 10) + 1)).rejected()
    expect(code == TOO_LARGE, f"Reject {code}")
    after = memory_of(broker.process.child.pid)
    run.say(f"{before >> 20} MiB before, {after >> 20} MiB after; {good.finish()}")
    expect(after - before < MORE_MEMORY, f"they cost {(after - before) >> 20} MiB")
    broker.wait_drained("f", "bad")
    expect((run.folder / "bad").read_bytes() == b"one\n", "a repeat was taken for a record")


def names_from_outside_reach_no_file_no_label_and_no_line_of_their_own(run):
    published = run.records("records", 1_000)
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept")),
                        top='[log]\nformat = "json"').start()
    series = set(broker.metrics())
    evil = ["../../etc/passwd", "s/../s", 'a"b', "a\nerror event=forged", "\x1b[2J\x07", "a\0b",
            "é" * 500, "{stream=\"s\"}", "%2e%2e%2f", "x" * 60_000]
    for name in evil:
        code = Client(broker).send(example.hello(name)).rejected()
        expect(code == 3, f"{name[:20]!r}: Reject {code}")
        agent = example.frame(1, example.field(1, 1) + example.field(2, 1) +
                              example.field(4, "s") + example.field(9, 1) +
                              example.field(12, name))
        client = Client(broker).send(agent)
        kind, _ = client.connection.receive()
        expect(kind == 2, f"agent {name[:20]!r}: no Welcome")
        client.connection.socket.close()
        quoted = urllib.parse.quote(name, safe="")
        for path in (f"/api/v1/streams/{quoted}/sinks/f/pause",
                     f"/api/v1/streams/s/sinks/{quoted}/pause"):
            status, _ = broker.get(path, "POST")
            expect(status in (404, 431), f"{path[:60]}: {status}")
    code = Client(broker).send(example.hello("x" * MIB)).rejected()
    expect(code in (MALFORMED, TOO_LARGE), f"a name of a MiB: Reject {code}")
    # Broken UTF-8 where the protocol wants text.
    bad = example.frame(1, example.field(1, 1) + example.field(2, 1) + example.field(4, "s") +
                        example.field(12, b"\xff\xfe\n"))
    expect(Client(broker).send(bad).rejected() == MALFORMED, "broken UTF-8 was taken")
    run.publish(broker.address, published).result()
    broker.wait_drained("f")
    expect(set(broker.metrics()) == series, f"new series: {set(broker.metrics()) - series}")
    broker.stop()
    for line in broker.log().splitlines():
        expect(json.loads(line)["event"] != "forged", line)
        expect(len(line) < 2_000, f"a line of {len(line)} bytes: {line[:200]}")
        expect(line.isprintable(), f"it reaches the terminal: {line[:200]!r}")
    expect(not (run.folder / "etc").exists(), "a file was made")
    good = broker.config.read_text()
    for name in ("s/../s", "..", "a b", "s\\n", "", "x" * 65):
        broker.config.write_text(good.replace('name = "s"', f'name = "{name}"'))
        broker.cli("validate", code=harness.USAGE)
    same(run.folder / "kept", published)


if __name__ == "__main__":
    harness.main()
