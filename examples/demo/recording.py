"""The recording of a real chain: what the demo publishes, and what the sinks must hold.

    recording.py RECORDING [--count N]   writes N records (default: all, once) for
                                         `spillway publish --framing length_prefixed`

Format of the recording: tests/data/README.md. A payload is the kind's byte and the request's bytes.
After the last record comes the first one again, as often as needed.
"""
import argparse
import itertools
import lzma
import struct
import sys
from pathlib import Path

RECORDING = Path(__file__).resolve().parents[2] / "tests/data/cosmos_v0.53.8.frames.xz"
LENGTH = struct.Struct("<I")


def framed(payload):
    """As length_prefixed has it."""
    return LENGTH.pack(len(payload)) + payload


def load(path=RECORDING):
    """The payloads of the recording, in order."""
    with lzma.open(path) as file:
        data = file.read()
    payloads, at = [], 0
    while at < len(data):
        end = at + 5 + LENGTH.unpack_from(data, at)[0]
        payloads.append(data[at + 4:end])
        at = end
    if at != len(data):
        raise ValueError(f"{path} ends inside a record")
    return payloads


def records_of(file):
    """The payloads of a length_prefixed file; of a torn one at the end, what is there."""
    while head := file.read(LENGTH.size):
        if len(head) < LENGTH.size:
            yield head
            return
        yield file.read(LENGTH.unpack(head)[0])


def difference(path, expected, count):
    """How the length_prefixed file at `path` differs from the first `count` records of the loop
    over `expected`: None, or a sentence about the first difference."""
    if not Path(path).exists():
        return "the file is not there"
    held, size = 0, 0
    with open(path, "rb") as file:
        for payload in records_of(file):
            if held == count:
                return f"more than {count:,} records are there"
            size += LENGTH.size + len(payload)
            if payload != expected[held % len(expected)]:
                return f"record {held + 1:,} {diagnosis(payload, expected, held)}"
            held += 1
        if held < count:
            return f"records {held + 1:,} to {count:,} are missing"
        if file.tell() != size:
            return f"record {held:,} is torn"
    return None


def diagnosis(payload, expected, index):
    """What is at `index` instead of what should be."""
    for distance in range(1, len(expected)):
        if payload == expected[(index - distance) % len(expected)] and distance <= index:
            return f"is record {index - distance + 1:,} again"
        if payload == expected[(index + distance) % len(expected)]:
            return f"is missing: record {index + distance + 1:,} is in its place"
    return "is not what was published"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", nargs="?", default=RECORDING)
    parser.add_argument("--count", type=int)
    options = parser.parse_args()
    payloads = load(options.recording)
    count = len(payloads) if options.count is None else options.count
    for payload in itertools.islice(itertools.cycle(payloads), count):
        sys.stdout.buffer.write(framed(payload))


if __name__ == "__main__":
    main()
