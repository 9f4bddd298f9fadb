"""What hostile or broken clients send harms their own connection only."""
import importlib.util
import signal
import socket
import struct

import harness
from harness import FAILED, HALTED, ROOT, expect, file_sink, stream
from verify import same

spec = importlib.util.spec_from_file_location("example", ROOT / "examples/python/publish.py")
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

# Codes of Reject.
MALFORMED, UNSUPPORTED, UNKNOWN_STREAM, UNAUTHORIZED = 1, 2, 3, 4
FENCED, FORK, GAP, TOO_LARGE, CORRUPT, EPOCH = 5, 7, 8, 9, 10, 11
BUSY = 16


class Client:
    """Sends any bytes, and hears what comes of it."""

    def __init__(self, broker):
        self.connection = example.Connection(broker.address)
        self.connection.socket.settimeout(harness.DEADLINE)

    def send(self, data):
        try:
            self.connection.socket.sendall(data)
        except OSError:
            pass  # it is refused already
        return self

    def rejected(self):
        """The code of the Reject that ends the connection; nothing: it just ends."""
        code = None
        try:
            while True:
                size, = struct.unpack("<I", self.connection.exactly(4))
                (kind, message), = example.fields(self.connection.exactly(size)).items()
                if kind == 5:
                    code = example.fields(message)[2]
        except OSError:
            return code
        finally:
            self.connection.socket.close()

    def welcomed(self, name="bad"):
        self.send(example.hello(name))
        kind, welcome = self.connection.receive()
        expect(kind == 2, f"no Welcome but {kind}")
        return welcome


def broken_clients_are_refused_each_by_itself(run):
    published = run.records("records", 60_000)
    token = run.folder / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    broker = run.broker("broker",
                        stream(file_sink("f", run.folder / "good"), name="good") +
                        stream(file_sink("f", run.folder / "bad"), name="bad",
                               more='max_record_bytes = "64KiB"') +
                        stream(file_sink("f", run.folder / "shut"), name="shut",
                               more=f'token_file = "{token}"')).start()
    good = run.publish(broker.address, published, "--rate", "10000", stream="good")

    def expect_code(wanted, client, *data):
        for piece in data:
            client.send(piece)
        code = client.rejected()
        expect(code == wanted, f"{data[:1]}: Reject {code} instead of {wanted}")

    hello = example.hello("bad")
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\xff" * 64, b"\x05\0\0\0abcde",
                 run.random.randbytes(4_096), example.frame(3, b"\x08\x01")):
        expect(Client(broker).send(junk).rejected() in (MALFORMED, TOO_LARGE), f"taken: {junk}")
    expect_code(UNKNOWN_STREAM, Client(broker), example.hello("nobody"))
    expect_code(UNAUTHORIZED, Client(broker), example.hello("shut"))
    wrong = example.field(1, 1) + example.field(2, 1) + example.field(4, "shut")
    expect_code(UNAUTHORIZED, Client(broker), example.frame(1, wrong + example.field(5, "guess")))
    expect_code(UNSUPPORTED, Client(broker), example.frame(
        1, example.field(1, 7) + example.field(2, 9) + example.field(4, "bad")))

    def batch(first, payload, epoch=None, **more):
        return lambda e: example.batch(epoch or e, first,
                                       [example.record(epoch or e, first, payload)], **more)

    def spoilt(e):
        data = bytearray(example.batch(e, 2, [example.record(e, 2, b"payload")]))
        data[-1] ^= 1
        return bytes(data)
    first = Client(broker)
    epoch = first.welcomed()[4]
    first.send(batch(1, b"one")(epoch))
    kind, _ = first.connection.receive()
    expect(kind == 4, f"no Ack but {kind}")
    for code, frame in ((GAP, batch(7, b"seven")),
                        (CORRUPT, spoilt), (EPOCH, batch(1, b"one", epoch=7)),
                        (TOO_LARGE, batch(2, b"x" * 70_000)),
                        (TOO_LARGE, lambda e: struct.pack("<I", 1 << 31) + b"x" * 100),
                        (MALFORMED, lambda e: hello),
                        (MALFORMED, lambda e: example.frame(3, b"\x7a\x01x\x08\x01")),
                        # In one piece, so that the first is still in memory.
                        (FORK, lambda e: batch(2, b"two")(e) + batch(2, b"deux")(e))):
        client = Client(broker)
        client.welcomed()
        expect_code(code, client, frame(epoch))
    expect(not good.child.poll(), "the good producer was ended")
    good.result()
    broker.wait_drained("f", "good")
    same(run.folder / "good", published)
    expect((run.folder / "bad").read_bytes() == b"one\ntwo\n", "bad ones were taken")
    rejects = {s: n for s, n in broker.metrics().items() if "ingress_rejects" in s and n > 0}
    expect(len(rejects) >= 8, f"they were not counted: {rejects}")


def nothing_behind_a_fork_is_taken(run):
    broker = run.broker("broker",
                        stream(file_sink("f", run.folder / "bad"), name="bad")).start()
    # Both in one piece, so that what is forked is still in memory; the small ones are joined.
    shapes = {"one batch": [(5, 11)], "several batches": [(n, n + 1) for n in range(5, 11)],
              "a batch that holds no new one": [(5, 8), (8, 11)]}
    epoch, base = None, 0
    for name, others in shapes.items():
        client = Client(broker)
        epoch = client.welcomed()[4]

        def batch(first, end, text):
            return example.batch(epoch, base + first, [
                example.record(epoch, base + n, b"%d %s" % (base + n, text))
                for n in range(first, end)])
        client.send(batch(1, 8, b"good") + b"".join(batch(*other, b"other") for other in others))
        code = client.rejected()
        expect(code == FORK, f"{name}: Reject {code}")
        base += 7
        held = broker.stream("bad")["held"]
        expect(held == f"{epoch}/{base}", f"{name}: taken through {held}")
        broker.wait_drained("f", "bad")
    good = b"".join(b"%d good\n" % n for n in range(1, base + 1))
    expect((run.folder / "bad").read_bytes() == good, "others were delivered")


def numbers_without_measure_neither_end_nor_hold_up_the_broker(run):
    run.expects_losses = True
    published = run.records("records", 2_000)
    names = ("full", "long", "gap")
    broker = run.broker("broker",
                        stream(file_sink("f", run.folder / "good"), name="good") + "".join(
                            stream(file_sink("f", run.folder / name), name=name,
                                   more='on_gap = "record"') for name in names)).start()
    most, middle = (1 << 63) - 1, 1 << 62

    def skip(epoch, first, through):
        return example.frame(3, example.field(1, epoch) + example.field(2, first) +
                             example.field(3, through - first + 1) +
                             example.field(5, example.field(1, through) + example.field(2, 10)))

    def records(epoch, first, count=1):
        return example.batch(epoch, first, [example.record(epoch, n, b"%d" % n)
                                            for n in range(first, first + count)])

    def hello(name, *more):
        return example.frame(1, example.field(1, 1) + example.field(2, 1) +
                             example.field(4, name) + b"".join(more))

    def at(number, epoch, sequence):
        return example.field(number, example.field(1, epoch) + example.field(2, sequence))

    def expect_refused(client, what):
        code = client.rejected()
        expect(code == MALFORMED, f"{what}: Reject {code}")
    # As many as there are, and then a new epoch.
    client = Client(broker)
    client.send(skip(client.welcomed("full")[4], 1, most))
    broker.wait_sink("is past it", "f", lambda s: s["acked"].endswith(f"/{most}"), "full")
    client.connection.socket.close()
    client = Client(broker).send(hello("full", example.field(10, 1)))
    _, welcome = client.connection.receive()
    expect_refused(client.send(records(welcome[4], 1, 3)), "more records than there are")
    # A repeated range of which only the last record is still in memory.
    client = Client(broker)
    epoch = client.welcomed("long")[4]
    client.send(skip(epoch, 1, middle))
    broker.wait_sink("is past it", "f", lambda s: s["acked"] == f"{epoch}/{middle}", "long")
    client.send(records(epoch, middle + 1) + skip(epoch, 1, middle + 1) +
                records(epoch, middle + 2))
    broker.wait_sink("goes on", "f", lambda s: s["acked"] == f"{epoch}/{middle + 2}", "long")
    # What a Hello says.
    epoch = Client(broker).welcomed("gap")[4]
    for position in ((epoch, most + 1), (epoch, (1 << 64) - 1), (epoch + 9, most + 1),
                     ((1 << 64) - 1, 1)):
        for field in (7, 8):  # acknowledged, oldest
            expect_refused(Client(broker).send(hello("gap", at(field, *position))),
                           f"{field}: {position}")
    expect_refused(Client(broker).send(hello("gap", example.field(11, (1 << 64) - 1))), "epoch")
    run.publish(broker.address, published, stream="gap").result()
    broker.wait_drained("f", "gap")
    broker.kill().start()  # it can be started with what it took
    client = Client(broker)
    epoch = client.welcomed("full")[4]
    expect_refused(client.send(records(epoch, 1)), "more records after a start")
    run.publish(broker.address, published, stream="good").result()
    broker.wait_drained("f", "good")
    for name in ("good", "gap"):
        same(run.folder / name, published)


def half_a_hello_and_many_idle_connections_keep_nobody_out(run):
    published = run.records("records", 10_000)
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept"))).start()
    idle = [socket.create_connection(("127.0.0.1", broker.ingress_port)) for _ in range(200)]
    for connection in idle[::2]:
        connection.sendall(b"\x10\0\0")
    run.publish(broker.address, published).result()
    broker.wait_drained("f")
    same(run.folder / "kept", published)
    for connection in idle:
        connection.close()


def a_hello_left_behind_does_not_fence_the_connection_after_it(run):
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept"), name="bad")).start()
    process = broker.process.child
    process.send_signal(signal.SIGSTOP)
    # Both wait to be accepted: the first has hung up before its Hello is read.
    left = Client(broker).send(example.hello("bad"))
    left.connection.socket.close()
    after = Client(broker)
    process.send_signal(signal.SIGCONT)
    welcome = after.welcomed()
    expect(welcome[3] == 1, f"generation {welcome[3]}: the one that left was given one too")
    after.send(example.batch(welcome[4], 1, [example.record(welcome[4], 1, b"one")]))
    kind, _ = after.connection.receive()
    expect(kind == 4, f"no Ack but {kind}")


def a_producer_that_no_longer_has_records_halts_until_its_operator_accepts_the_gap(run):
    run.expects_losses = True
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept"), name="bad")).start()
    before = Client(broker)
    epoch = before.welcomed()[4]
    before.send(example.batch(epoch, 1, [example.record(epoch, n, b"%d" % n) for n in (1, 2, 3)]))
    broker.wait_sink("has three", "f", lambda s: s["acked"] == f"{epoch}/3", "bad")
    before.connection.socket.close()
    after = Client(broker)
    oldest = example.field(1, epoch) + example.field(2, 6)
    after.send(example.frame(1, example.field(1, 1) + example.field(2, 1) +
                             example.field(4, "bad") + example.field(8, oldest) +
                             example.field(9, 1)))
    causes = broker.wait_halt("bad")["halt"]["causes"]
    expect([c["kind"] for c in causes] == ["gap"] and f"{epoch}/4 to {epoch}/5" in
           causes[0]["text"], causes)
    broker.wait_log("error stream halted", "cause=gap")
    answer = broker.cli("halt", "clear", "bad", code=HALTED)
    expect("--accept-loss" in answer["message"], answer)
    broker.cli("halt", "clear", "bad", "--accept-loss")
    frames = [after.connection.receive()]
    while frames[-1][0] != 7:  # until Resume
        frames.append(after.connection.receive())
    expect(example.position(frames[-1][1][1]) == (epoch, 5), f"it goes on after {frames[-1]}")
    after.send(example.batch(epoch, 6, [example.record(epoch, 6, b"6")]))
    broker.wait_sink("has the last", "f", lambda s: s["acked"] == f"{epoch}/6", "bad")
    expect((run.folder / "kept").read_bytes() == b"1\n2\n3\n6\n", "other records")
    ledger = broker.cli("journal", "status")["streams"][0]["ledger"]
    expect([(e["reason"], e["first"], e["last"]) for e in ledger] ==
           [("gap", f"{epoch}/4", f"{epoch}/5")], ledger)


def a_producer_with_the_wrong_token_or_stream_is_told_and_gives_up(run):
    published = run.records("records", 10)
    token, wrong = run.folder / "token", run.folder / "wrong"
    token.write_text("# who may publish\nold\nsecret\n")
    wrong.write_text("guess\n")
    for path in (token, wrong):
        path.chmod(0o600)
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept"),
                                         more=f'token_file = "{token}"')).start()
    run.publish(broker.address, published).result(FAILED)
    run.publish(broker.address, published, "--token-file", wrong).result(FAILED)
    answer = run.publish(broker.address, published, stream="other").result(FAILED)
    expect("no stream of that name" in answer["error"], answer)
    run.publish(broker.unix, published, "--token-file", token).result()
    broker.wait_drained("f")
    same(run.folder / "kept", published)


if __name__ == "__main__":
    harness.main()
