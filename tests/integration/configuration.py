"""A configuration that is wrong: `validate` and `run` say everything that is, with exit code 2."""
import socket
import subprocess
from pathlib import Path

import harness
from harness import BIN, OK, USAGE, expect, file_sink, stream
from verify import same

GOOD = """data_dir = "data"
[admin]
listen = "127.0.0.1:0"
[journal]
min_free_disk = "1MiB"
[[ingress]]
listen = "tcp://127.0.0.1:0"
[[stream]]
name = "s"
[[stream.sink]]
name = "f"
type = "file"
path = "out"
"""

# (what is replaced, by what, what must be said of it: the line, and words)
WRONG = [
    ('data_dir = "data"', 'data_dri = "data"', 1, ["data_dri", "data_dir"]),
    ('data_dir = "data"', 'stop_timeout = "10s"', 0, ["data_dir", "required"]),
    ('min_free_disk = "1MiB"', 'max_disk_bytes = "1MiB"', 5, ["64MiB"]),
    ('min_free_disk = "1MiB"', 'max_disk_bytes = "lots"', 5, ["max_disk_bytes"]),
    ('min_free_disk = "1MiB"', 'journal_timeout = 30', 5, ["journal_timeout"]),
    ('tcp://127.0.0.1:0', 'tcp://0.0.0.0:7070', 7, ["loopback"]),
    ('name = "s"', 'name = "s"\nacks = "most"', 10, ["none", "quorum", "all"]),
    ('name = "s"', 'name = "s"\nacks = "quorum"', 10, ["quorum = n"]),
    ('name = "s"', 'name = "s"\nwindow_bytes = "1KiB"', 10, ["256KiB"]),
    ('type = "file"', 'type = "kafka"', 12, ["not built in this version"]),
    ('type = "file"', 'type = "fiel"', 12, ["file"]),
    ('path = "out"', 'path = "out"\nconnect = "tcp://h:1"', 14, ["tcp"]),
    ('path = "out"', 'path = "data/out"', 13, ["data_dir"]),
    ('path = "out"', 'path = "out"\non_outage = "drop"\nmax_bytes = "1GiB"', 0, ["on_outage"]),
    ('path = "out"', 'path = "out"\nformat = "json"', 14, ["not built in this version"]),
    ('path = "out"', 'path = "out', 13, []),
]


def everything_that_is_wrong_is_said_and_nothing_starts(run):
    config = run.folder / "wrong.toml"
    for old, new, line, words in WRONG:
        expect(old in GOOD, f"{old} is not in the good one")
        config.write_text(GOOD.replace(old, new, 1))
        answer = run.cli("validate", "--config", config, code=USAGE)
        text = "; ".join(f"{e['key']}: {e['message']}" for e in answer["errors"])
        expect(not answer["ok"] and all(word in text for word in words),
               f"{new!r}: {text} lacks one of {words}")
        expect(line == 0 or any(e["line"] == line for e in answer["errors"]),
               f"{new!r}: {answer['errors']} instead of line {line}")
        run.cli("run", "--config", config, code=USAGE)
    expect(not (run.folder / "data").exists(), "something was started")
    config.write_text(GOOD.replace("data_dir", "data_dri").replace('"file"', '"fiel"'))
    expect(len(run.cli("validate", "--config", config, code=USAGE)["errors"]) >= 3,
           "it stopped at the first error")


def a_good_one_is_good_and_says_what_was_checked(run):
    config = run.folder / "good.toml"
    config.write_text(GOOD)
    answer = run.cli("validate", "--config", config)
    expect(answer["ok"] and answer["checked"] and not answer["errors"], answer)
    expect(not (run.folder / "data").exists(), "validate made the data directory")


def a_configuration_named_from_its_own_folder_means_the_same_destinations(run):
    published, more = run.records("records", 100), run.records("more", 200)
    broker = run.broker("broker", "")
    broker.unix = "unix://broker.sock"
    broker.configure(stream(file_sink("f", "kept")))
    absolute, broker.config = broker.config, Path(broker.config.name)
    broker.cli("validate")
    broker.start()
    run.publish("unix://broker.sock", published, "--resume").result()  # from the same folder
    broker.wait_drained("f")
    broker.stop()
    broker.config = absolute
    broker.start()
    run.publish(broker.address, more, "--resume").result()
    broker.wait_drained("f")
    same(run.folder / "kept", more)


def folders_that_nobody_makes_are_named_before_and_at_the_start(run):
    published = run.records("records", 100)
    there, gone = run.folder / "there", run.folder / "gone"
    broker = run.broker("broker", "")
    broker.unix = f"unix://{there}/broker.sock"
    broker.configure(stream(file_sink("f", gone / "kept")))
    errors = broker.cli("validate", code=USAGE)["errors"]
    expect([e["key"] for e in errors] == ["ingress[1].listen"] and
           f"mkdir -p {there}" in errors[0]["message"], errors)
    expect(broker.launch().process.wait() == USAGE, "it started")
    broker.wait_log("cannot start", "ingress[1].listen", f"mkdir -p {there}")
    there.mkdir()
    answer = broker.cli("validate")
    warnings = [w for w in answer["warnings"] if w["key"] == "stream[0].sink[0].path"]
    expect(len(warnings) == 1 and f"mkdir -p {gone}" in warnings[0]["message"], answer)
    broker.start()
    broker.wait_log("sink cannot be reached", f"mkdir -p {gone}")
    run.publish(broker.unix, published).result()
    gone.mkdir()  # what was away is back
    broker.wait_drained("f")
    same(gone / "kept", published)


def a_socket_has_the_mode_that_is_configured(run):
    sockets = {name: run.folder / name for name in ("admin", "in")}
    config = run.folder / "modes.toml"
    config.write_text(GOOD.replace('"127.0.0.1:0"', f'"unix://{sockets["admin"]}"\nmode = "0600"')
                      .replace('"tcp://127.0.0.1:0"', f'"unix://{sockets["in"]}"\nmode = "0622"'))
    harness.Process(run, "broker", [BIN / "spillway", "run", "--config", config])
    harness.wait_for("both listen", lambda: all(path.exists() for path in sockets.values()))
    published = run.records("records", 10)
    run.publish(f"unix://{sockets['in']}", published).result()
    modes = {name: oct(path.stat().st_mode & 0o777) for name, path in sockets.items()}
    expect(modes == {"admin": "0o600", "in": "0o622"}, modes)
    run.cli("status", "--config", config)


def only_a_socket_that_nobody_listens_on_is_replaced(run):
    broker = run.broker("broker", stream(file_sink("f", run.folder / "kept")))
    path = broker.unix.removeprefix("unix://")
    published = run.records("records", 10)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        broker.launch()
        expect(broker.process.wait() != OK, "it started")
        expect("in use" in broker.log(), broker.log())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"still here", path)
        expect(other.recv(100) == b"still here", "it was taken over")
    Path(path).unlink()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)
    broker.start()
    run.publish(broker.unix, published).result()
    broker.wait_drained("f")
    same(run.folder / "kept", published)


def wrong_usage_ends_with_2_and_a_broker_that_is_not_there_with_1(run):
    def code(*command):
        return subprocess.run([BIN / "spillway", *command], capture_output=True,
                              timeout=harness.DEADLINE).returncode
    for command in ((), ("fly",), ("run",), ("sink", "pause"), ("publish", "--stream", "s"),
                    ("status", "--admin", "nonsense"), ("halt", "clear", "--extend", "soon"),
                    ("run", "--config", "/nowhere/at/all.toml")):
        expect(code(*command) == 2, f"{command} ended with {code(*command)}")
    for command in (("status",), ("sink", "list"), ("halt", "show"), ("sink", "pause", "s/f")):
        found = code(*command, "--admin", f"127.0.0.1:{run.port()}")
        expect(found == 1, f"{command} ended with {found}")
    expect(code("--help") == 0 and code("--version") == 0, "help is an error")


if __name__ == "__main__":
    harness.main()
