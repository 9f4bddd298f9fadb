"""Records that sinks refuse for good, and the commands for them (D8)."""
import subprocess

import harness
from harness import BIN, FAILED, USAGE, expect, file_sink, sequence, stream
from verify import same

RECORDS = 1_000
BAD = range(50, RECORDS + 1, 50)  # no lines: a file of lines refuses them


def records(path):
    """Of `path`: what is in each, and all of them in a file."""
    bodies = [b"%09d" % n + (b" with\na newline" + b"x" * 100 if n in BAD else b"")
              for n in range(1, RECORDS + 1)]
    path.write_bytes(prefixed(bodies))
    return bodies


def prefixed(bodies):
    return b"".join(len(body).to_bytes(4, "little") + body for body in bodies)


def refusing(run, more=""):
    return file_sink("f", run.folder / "kept", f'on_reject = "dead_letter"\n{more}')


def letters(broker, *filters):
    return broker.cli("dead-letters", "list", *filters)["dead_letters"]


def dead_letters_are_shown_replayed_and_purged_and_a_full_sink_goes_on(run):
    run.expects_losses = True
    path = run.folder / "records"
    bodies = records(path)
    broker = run.broker("broker", stream(
        refusing(run, 'dead_letter_bytes = "2KiB"'),
        file_sink("other", run.folder / "other", 'framing = "length_prefixed"')) + stream(
        file_sink("again", run.folder / "again", 'framing = "length_prefixed"'), name="again")
    ).start()
    run.publish(broker.address, path, "--framing", "length_prefixed").result()
    broker.wait_state("f", "parked")
    broker.wait_drained("other")
    full = letters(broker)
    expect([sequence(x["position"]) for x in full] == list(BAD)[:len(full)], full)
    expect(0 < len(full) < len(BAD) and all(
        (x["stream"], x["sink"], x["damaged"]) == ("s", "f", False) and x["reason"] and x["time_ms"]
        for x in full), full)
    size = broker.metrics()['spillway_dead_letter_size_bytes{sink="f",stream="s"}']
    expect(sum(x["bytes"] for x in full) == size <= 2_048, f"{size} bytes, {full}")
    expect(letters(broker, "--sink", "other") == [], "letters of another sink")

    shown = subprocess.run([BIN / "spillway", "dead-letters", "show", full[0]["position"],
                            "--config", broker.config], capture_output=True, check=True)
    expect(shown.stdout == bodies[BAD[0] - 1], shown)
    broker.cli("dead-letters", "show", "7/7", code=FAILED)

    done = broker.cli("dead-letters", "replay", "--stream", "s", "--into", "again", "--connect",
                      broker.address)
    expect(done["published"] == len(full), done)
    broker.wait_drained("again", stream="again")
    refused = [bodies[n - 1] for n in BAD[:len(full)]]
    expect((run.folder / "again").read_bytes() == prefixed(refused), "not what was refused")
    expect(letters(broker) == full, "a replay removed some")

    said = broker.cli("dead-letters", "purge", "--stream", "s", code=FAILED)
    expect("in use" in said["error"], said)
    broker.stop()
    broker.cli("dead-letters", "purge", code=USAGE)
    broker.cli("dead-letters", "purge", "--stream", "s", "--sink", "nobody", code=FAILED)
    one = full.pop(0)["position"]
    broker.cli("dead-letters", "purge", "--stream", "s", "--position", one)
    expect(letters(broker) == full, "another one is gone")
    broker.cli("dead-letters", "purge", "--stream", "s", "--sink", "f")
    expect(letters(broker) == [], "some are left")
    broker.start()
    broker.wait_drained("f")
    rest = letters(broker)
    expect([sequence(x["position"]) for x in rest] == list(BAD)[len(full) + 1:], rest)
    size = broker.metrics()['spillway_dead_letter_size_bytes{sink="f",stream="s"}']
    expect(size == sum(x["bytes"] for x in rest), f"{size} bytes, {rest}")
    expect((run.folder / "kept").read_bytes() == b"".join(
        bodies[n - 1] + b"\n" for n in range(1, RECORDS + 1) if n not in BAD), "it did not go on")
    same(run.folder / "other", path)


def dead_letters_go_with_a_sink_that_is_renamed(run):
    run.expects_losses = True
    path = run.folder / "records"
    records(path)
    broker = run.broker("broker", stream(refusing(run))).start()
    run.publish(broker.address, path, "--framing", "length_prefixed").result()
    broker.wait_drained("f")
    before = letters(broker)
    broker.stop()
    broker.cli("sink", "rename", "s/f", "g")
    after = letters(broker, "--sink", "g")
    expect([x | {"sink": "f"} for x in after] == before, after)
    said = broker.cli("dead-letters", "purge", "--stream", "s", "--sink", "g")
    expect(f"{len(BAD)} dead letters" in said["message"], said)
    broker.configure(stream(refusing(run).replace('"f"', '"g"'))).start()
    size = broker.metrics()['spillway_dead_letter_size_bytes{sink="g",stream="s"}']
    expect(size == 0, f"{size} bytes of dead letters")


if __name__ == "__main__":
    harness.main()
