"""What goes wrong around a broker: receivers that misbehave, processes that are stopped, clocks
that jump, descriptors that run out, producers that fight (G2, G3, G5, G7, G8, G10)."""
import resource
import signal
import socket
import struct
import threading
import time

import harness
from harness import (BIN, FAILED, expect, file_sink, relay_sink, sequence, stream, tcp_sink,
                     wait_for)
from hostile import example
from verify import delivered, same

RECORDS = 3_000
QUICK = 'ack_timeout = "400ms"\nreconnect = { initial = "50ms", max = "200ms" }'


class Peer(threading.Thread):
    """Listens as a receiver would, and does on each connection what `behave(socket)` says."""

    def __init__(self, port, behave):
        super().__init__(daemon=True)
        self.behave, self.ending, self.current = behave, False, None
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(8)
        self.start()

    def run(self):
        while not self.ending:
            try:
                self.current, _ = self.listener.accept()
                with self.current:
                    self.behave(self.current)
            except (OSError, struct.error):
                pass  # the broker has hung up, or this is the end

    def stop(self):
        self.ending = True
        self.listener.shutdown(socket.SHUT_RDWR)
        if self.current is not None:
            try:
                self.current.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already
        self.join()
        self.listener.close()


def listen(connection):
    """Until the other side ends it."""
    while connection.recv(65536):
        pass


def say(text):
    """A receiver that says this once it has got something."""
    def behave(connection):
        connection.recv(65536)
        connection.sendall(text)
        listen(connection)
    return behave


def reset(connection):
    """Takes some, and is gone with its acknowledgement."""
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def welcome(*then):
    """A broker that welcomes, and sends these frames after the first batch."""
    def behave(connection):
        def one():
            size, = struct.unpack("<I", connection.recv(4, socket.MSG_WAITALL))
            return connection.recv(size, socket.MSG_WAITALL)
        one()
        limits = (example.field(9, 4 << 20) + example.field(10, 64 << 20) +
                  example.field(11, 4 << 20))
        connection.sendall(example.frame(2, example.field(1, 1) + example.field(3, 1) +
                                         example.field(4, 1) + limits + example.field(12, 1_000)))
        frame = example.fields(one())
        while 3 not in frame:  # a ping, where all is slow
            frame = example.fields(one())
        batch = example.fields(frame[3])
        for frame in then:
            connection.sendall(frame(batch[1], batch[2]))
        listen(connection)
    return behave


def at(epoch, number):
    return example.field(1, epoch) + example.field(2, number)


def reject(code, retryable, with_position=False):
    return lambda epoch, first: example.frame(5, (
        example.field(1, at(epoch, first)) if with_position else b"") + example.field(2, code) +
        example.field(3, "no,\nnot \"this\"") + example.field(4, int(retryable)))


# What a receiver does; what must then be said of its sink: the reason in the metrics, words of its
# last error.
TCP = {
    "silent": (listen, "silent", "no acknowledgement"),
    "reset": (reset, "broken", "reset by peer"),
    "text": (say(b"thank you\n"), "protocol", "decimal number"),
    "too-many": (say(b"999999999\n"), "protocol", "were sent"),
    "digits": (say(b"1" * 100), "protocol", "decimal number"),
    "back": (say(b"1\n0\n"), "protocol", "went back"),
    "negative": (say(b"-1\n"), "protocol", "decimal number"),
}
RELAY = {
    "web": (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "protocol", "bytes"),
    "huge": (say(b"\xff\xff\xff\xff" + b"x" * 100), "protocol", "bytes"),
    "beyond": (welcome(lambda e, n: example.frame(4, example.field(1, at(e, n + 10 ** 9)))),
               "protocol", ""),
    "hello": (say(example.hello("s")), "protocol", "must not send"),
    "busy": (welcome(reject(16, True)), "refused", "refuses (busy)"),
    "shut": (say(reject(4, False)(1, 1)), "refused", "refuses (unauthorized)"),
    "record": (welcome(reject(15, False, True)), None, "refuses (record)"),
}


def receivers_that_misbehave_harm_nobody_else_and_are_told_apart(run):
    published = run.records("records", RECORDS)
    ports = {name: run.port() for name in (*TCP, *RELAY)}
    streams = "".join(
        stream(file_sink("good", run.folder / f"good-{name}"),
               tcp_sink("bad", ports[name], QUICK) if name in TCP else
               relay_sink("bad", f"tcp://127.0.0.1:{ports[name]}", QUICK), name=name)
        for name in ports)
    peers = {name: Peer(ports[name], behave) for name, (behave, _, _) in (TCP | RELAY).items()}
    broker = run.broker("broker", streams).start()
    publishers = {name: run.publish(broker.address, published, stream=name) for name in ports}
    for name, publisher in publishers.items():
        expect(publisher.result()["acknowledged"] == RECORDS, f"{name}: not acknowledged")
        broker.wait_drained("good", name)
        same(run.folder / f"good-{name}", published)
    for name, (_, reason, words) in (TCP | RELAY).items():
        if reason is None:
            sink = broker.wait_state("bad", "parked", name)
            expect(words in sink["parked"] and sequence(sink["acked"]) == 0, f"{name}: {sink}")
            continue
        broker.wait_sink(f"says {words!r}", "bad", lambda s, words=words:
                         s["state"] == "journaling" and s["last_error"] and
                         words in s["last_error"]["text"], name)
        labels = f'reason="{reason}",sink="bad",stream="{name}"'
        series = f"spillway_sink_connection_failures_total{{{labels}}}"
        wait_for(f"{series} counts", lambda series=series: broker.metrics()[series] >= 2)
        if reason == "refused":
            broker.wait_sink("refuses", "bad", lambda s: s["refusing"], name)
        # "back" has acknowledged one record before it went back on its word.
        expect(sequence(broker.sink("bad", name)["acked"]) <= (name == "back"), f"{name} took some")
    # They behave.
    for peer in peers.values():
        peer.stop()
    hub = run.broker("hub", "".join(
        f'[[ingress]]\nlisten = "tcp://127.0.0.1:{ports[name]}"\n' for name in RELAY) + "".join(
        stream(file_sink("f", run.folder / f"hub-{name}"), name=name) for name in RELAY)).start()
    receivers = {name: run.receiver(ports[name], f"taken-{name}").start() for name in TCP}
    broker.cli("sink", "reconnect", "record/bad", code=FAILED)  # it takes more than that
    broker.cli("sink", "resume", "record/bad")
    for name in ports:
        broker.wait_drained("bad", name)
    for name in RELAY:
        hub.wait_drained("f", name)
        same(run.folder / f"hub-{name}", published)
    for name, receiver in receivers.items():
        delivered(receiver.path, published, first=1 + (name == "back"))
    lines = len(broker.log().splitlines())
    failures = sum(count for series, count in broker.metrics().items()
                   if series.startswith("spillway_sink_connection_failures_total"))
    expect(lines < 5 * failures + 20 * len(ports), f"{lines} lines of log, {failures} failures")


class Crawler(Peer):
    """Takes and counts a few records at a time."""

    def __init__(self, port):
        super().__init__(port, self.crawl)

    def crawl(self, connection):
        total = 0
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while data := connection.recv(2_000):
            total += data.count(b"\n")
            connection.sendall(b"%d\n" % total)
            harness.pause(0.05)


def a_crawling_receiver_slows_the_fast_one_beside_it_by_a_tenth_at_most(run):
    """At a rate that a node would publish at, as far as this machine goes. Both in turn; the best
    of each counts, since others use the machine as well."""
    count, rate = 60_000, 40_000
    published = run.records("records", count, size=250)
    fast = {name: run.receiver(run.port(), f"fast-{name}").start() for name in ("alone", "beside")}
    second = run.receiver(run.port(), "second").start()
    crawler = Crawler(run.port())
    broker = run.broker("broker",
                        stream(tcp_sink("fast", fast["alone"].port),
                               tcp_sink("other", second.port), name="alone") +
                        stream(tcp_sink("fast", fast["beside"].port),
                               tcp_sink("other", crawler.listener.getsockname()[1],
                                        'ack_timeout = "60s"'), name="beside")).start()
    best = {"alone": 0.0, "beside": 0.0}
    rounds = 3
    for number in range(1, rounds + 1):
        for name in best:
            begin = time.monotonic()
            run.publish(broker.address, published, "--rate", rate, stream=name).result()
            wait_for("all is there", lambda name=name, number=number:
                     fast[name].path.stat().st_size == number * published.stat().st_size)
            best[name] = max(best[name], count / (time.monotonic() - begin))
    waiting = broker.sink("other", "beside")["backlog"]["records"]
    expect(waiting > rounds * count // 2, f"the crawler keeps up: only {waiting} wait for it")
    broker.stop()
    crawler.stop()
    drop = 1 - best["beside"] / best["alone"]
    run.say(f"{best['beside']:.0f} records/s beside a crawler, {best['alone']:.0f} without: "
            f"{100 * drop:.1f} % less")
    expect(drop <= 0.1 or harness.SANITIZED, f"{100 * drop:.1f} % slower")
    content = published.read_bytes()
    for name in best:
        expect(fast[name].path.read_bytes() == content * rounds, f"{name}: not what was published")


def processes_that_stand_still_for_longer_than_any_ping_are_missed_and_welcome_back(run):
    """SIGSTOP and SIGCONT of a receiving broker, a producer, and the broker in the middle."""
    total = 300_000
    published = run.records("records", total)
    hub = run.broker("hub", stream(file_sink("f", run.folder / "kept"))).start()
    edge = run.broker("edge", stream(relay_sink("hub", hub.address, 'ack_timeout = "1s"'),
                                     file_sink("f", run.folder / "near"))).start()
    producer = run.publish(edge.address, published, "--rate", "4000", "--resume")
    edge.wait_sink("takes records", "hub", lambda s: sequence(s["acked"]) > 1_000)
    for process in (hub.process, producer):
        process.child.send_signal(signal.SIGSTOP)
    edge.wait_sink("is missed", "hub", lambda s: s["state"] == "journaling" and s["last_error"])
    edge.wait_log("producer left", "three ping intervals")
    for process in (hub.process, producer):
        process.child.send_signal(signal.SIGCONT)
    before = sequence(edge.stream()["held"])
    edge.wait_stream("goes on", lambda s: sequence(s["held"]) > before + 1_000)
    edge.wait_state("hub", "live")
    edge.process.child.send_signal(signal.SIGSTOP)
    wait_for("the producer misses it", lambda: "the broker is silent" in producer.errors())
    hub.wait_log("producer left", "three ping intervals")
    edge.process.child.send_signal(signal.SIGCONT)
    before = sequence(edge.stream()["held"])
    edge.wait_stream("goes on", lambda s: sequence(s["held"]) > before + 1_000)
    producer.kill()
    run.publish(edge.address, published, "--resume").result()
    for name in ("hub", "f"):
        edge.wait_drained(name)
    hub.wait_drained("f")
    same(run.folder / "kept", published)
    same(run.folder / "near", published)
    expect(edge.stream()["held"] == hub.stream()["held"], "the positions differ")


class Clock:
    """The wall clock of brokers that run under it."""

    def __init__(self, run):
        self.path = run.folder / "clock"
        self.jump_to(0)
        options = harness.os.environ.get("ASAN_OPTIONS", "")
        self.under = ("env", f"ASAN_OPTIONS={options}:verify_asan_link_order=0",
                      f"LD_PRELOAD={BIN / 'libclock_shift.so'}",
                      f"SPILLWAY_CLOCK_SHIFT={self.path}")

    def jump_to(self, hours):
        """So far from the true time."""
        with open(self.path, "r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("<q", hours * 3600))


def a_wall_clock_that_jumps_forward_and_back_halts_nothing_and_repeats_no_position(run):
    clock = Clock(run)
    total, step = 40_000, 4_000
    published = run.records("records", total)
    receiver = run.receiver(run.port(), "taken")
    # Without --resume a producer gets a new epoch where broker and producer have forgotten.
    broker = run.broker("broker", stream(
        tcp_sink("t", receiver.port, 'outage_timeout = "2h"\nmax_age = "2h"'),
        file_sink("f", run.folder / "kept"),
        more='checkpoint_interval = "50ms"'), under=clock.under).start()
    producer = run.publish(broker.address, published, "--resume", "--rate", "8000")

    def wait_more():
        goal = sequence(broker.stream()["held"]) + step
        return broker.wait_stream("goes on", lambda s: sequence(s["held"]) >= min(goal, total))
    broker.wait_sink("is away", "t", lambda s: s["outage"] and s["backlog"]["records"] > 0)
    epochs = []
    for hours in (24, -48, 1, -1_000, 0):
        clock.jump_to(hours)
        seen = wait_more()
        epochs.append(int(seen["held"].split("/")[0]))
        expect(not seen["halt"]["active"], f"{hours} h: {seen['halt']}")
        sink = broker.sink("t")
        left = sink["outage"]["remaining_seconds"]
        expect(7_000 < left <= 7_200, f"{hours} h: {left} s are left of 2 h")
        expect(sink["backlog"]["age_seconds"] >= 0, f"{hours} h: {sink['backlog']}")
    expect(len(set(epochs)) == 1, f"epochs {epochs}")
    # Its clock is behind when it starts again: downtime counts zero, positions go on.
    clock.jump_to(-100)
    broker.kill().start()
    seen = wait_more()
    expect(seen["held"].startswith(f"{epochs[0]}/"), f"{seen['held']} after epoch {epochs[0]}")
    expect(broker.sink("t")["outage"]["remaining_seconds"] > 7_000, broker.sink("t")["outage"])
    producer.result()
    # Ahead by more than the timeout when it starts again: the downtime counts, and it will halt.
    clock.jump_to(1_000)
    broker.kill().start()
    # (That takes 30 s more, so that a sink may connect first.)
    broker.wait_sink("has no time left", "t", lambda s: s["outage"] and
                     s["outage"]["remaining_seconds"] <= 0)
    clock.jump_to(0)
    receiver.start()
    broker.wait_drained("t")
    broker.wait_halt(active=False)
    # A producer that wants a new epoch gets a newer one, whatever the clock says.
    clock.jump_to(-1_000)
    answer = example.Connection(broker.address)
    answer.socket.sendall(example.frame(1, example.field(1, 1) + example.field(2, 1) +
                                        example.field(4, "s") + example.field(10, 1)))
    _, found = answer.receive()
    expect(found[4] > epochs[0], f"epoch {found[4]} after {epochs[0]}")
    answer.socket.close()
    broker.wait_drained("f")
    same(run.folder / "kept", published)
    delivered(receiver.path, published)


def descriptors_that_run_out_stop_nobody_for_longer_than_they_are_out(run):
    total = 60_000
    published = run.records("records", total, size=1_000)
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port)),
                        journal='max_disk_bytes = "256MiB"\ncompression = "none"').start()
    producer = run.publish(broker.address, published, "--rate", "12000", "--resume")
    broker.wait_stream("is journaled", lambda s: sequence(s["held"]) > 2_000)
    pid = broker.process.child.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # From now on it gets none: no connection, no file of the journal.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, usual[1]))
    waiting = [socket.create_connection(("127.0.0.1", broker.ingress_port)) for _ in range(20)]
    broker.wait_log("accept failed", "Too many open files")
    wait_for("the journal needs a file", lambda: "journal failed" in broker.log() or
             not producer.running())
    run.say("the journal failed, too" if "journal failed" in broker.log() else
            "the journal needed no file")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
    for connection in waiting:
        connection.close()
    producer.result()
    expect(not broker.stream()["halt"]["active"], "it is halted")
    receiver.start()
    broker.wait_drained("t")
    delivered(receiver.path, published)
    expect(len(broker.log().splitlines()) < 500, "it fills the log")


def of_producers_that_fight_for_a_stream_one_wins_and_the_others_are_told(run):
    count, fighters = 20_000, 6
    files = []
    for number in range(fighters):
        files.append(run.folder / f"records{number}")
        files[-1].write_text("".join(f"{number} {i:07d} {'x' * 80}\n"
                                     for i in range(1, count + 1)))
    kept = run.folder / "kept"
    broker = run.broker("broker", stream(file_sink("f", kept))).start()
    publishers = []
    for number, file in enumerate(files):
        publishers.append(run.publish(broker.address, file, "--rate", "20000"))
        before = run.random.randrange(0, 3_000) * 91 if number else 0
        size = kept.stat().st_size if kept.exists() else 0
        wait_for("some of it is there", lambda goal=size + before:
                 kept.exists() and kept.stat().st_size >= goal)
    codes = [publisher.wait() for publisher in publishers]
    results = [harness.json.loads(p.out_path.read_text()) for p in publishers]
    winners = [i for i, code in enumerate(codes) if code == harness.OK]
    expect(len(winners) == 1, f"ended with {codes}: {results}")
    for result in results[:winners[0]] + results[winners[0] + 1:]:
        expect("refused (fenced)" in result["error"], f"a loser was told: {result}")
    broker.wait_drained("f")
    taken = [(int(who), int(number)) for who, number, _ in
             (line.split() for line in kept.read_text().splitlines())]
    runs = [taken[0][0]]
    last = dict.fromkeys(range(fighters), 0)
    for who, number in taken:
        if who != runs[-1]:
            runs.append(who)
        expect(number == last[who] + 1, f"{who} {number} follows its {last[who]}")
        last[who] = number
    expect(len(runs) == len(set(runs)), f"they are interleaved: {runs}")
    expect(runs[-1] == winners[0], f"{winners[0]} won, but not as the last: {runs}")
    for who, result in enumerate(results):
        expect(last[who] >= result["acknowledged"], f"{who} lost some: {last[who]}, {result}")
    expect(last[winners[0]] == count, "the winner lost some")
    rejects = broker.metrics()['spillway_ingress_rejects_total{code="fenced"}']
    expect(rejects == fighters - 1, f"{rejects} were fenced")


if __name__ == "__main__":
    harness.main()
