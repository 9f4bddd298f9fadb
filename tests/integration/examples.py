"""The programs of examples/ against the real broker."""
import harness
from harness import BIN, ROOT, Process, expect, file_sink, stream, tcp_sink
from verify import same

RECORDS = 5_000


def expect_done(process):
    expect(process.wait() == 0, f"{process.out_path.read_text()[-500:]} {process.errors()[-500:]}")
    return process.out_path.read_text()


def each_example_publishes_and_waits_until_all_is_acknowledged(run):
    published = run.records("records", RECORDS)
    commands = {"cpp": [BIN / "example_publish"],
                "python": [harness.sys.executable, "-B", ROOT / "examples/python/publish.py"]}
    streams = [stream(file_sink("f", run.folder / f"kept-{name}"), name=name) for name in commands]
    broker = run.broker("broker", "".join(streams)).start()
    for name, command in commands.items():
        # Both read standard input.
        shell = ["sh", "-c", 'exec "$@" < records', "sh", *command, broker.unix, name]
        said = expect_done(Process(run, name, shell))
        expect(f"{RECORDS} records acknowledged" in said, said)
        broker.wait_drained("f", name)
        same(run.folder / f"kept-{name}", published)


def the_example_of_a_node_stops_while_halted_and_goes_on(run):
    receiver = run.receiver(run.port(), "taken")
    broker = run.broker("broker", stream(tcp_sink("t", receiver.port, "max_records = 500"))).start()
    node = Process(run, "node", [BIN / "example_halt", broker.address, "s", RECORDS])
    broker.wait_halt()
    harness.wait_for("the node hears of it", lambda: "halt: max_records t" in
                     node.out_path.read_text())
    receiver.start()
    said = expect_done(node)
    expect("resume" in said, said)
    broker.wait_drained("t")
    expect(receiver.path.read_bytes().count(b"\n") >= RECORDS, "records are missing")


if __name__ == "__main__":
    harness.main()
