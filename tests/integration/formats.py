"""Stores of another version: refused with a word that says so, and left as they are (G11)."""
import hashlib
import struct

import harness
from harness import FAILED, USAGE, expect, stream, tcp_sink
from hostile import example
from verify import delivered

BLOCK = 32 * 1024  # of RocksDB's write-ahead log


class Wal:
    """The write-ahead log of a broker that was killed. What is appended counts as written by it."""

    def __init__(self, data_dir):
        self.path = max((data_dir / "journal").glob("*.log"), key=lambda p: int(p.stem))
        self.data = self.path.read_bytes()
        self.batches, at, whole = [], 0, b""
        while at + 7 <= len(self.data):
            if BLOCK - at % BLOCK < 7:
                at += BLOCK - at % BLOCK
                continue
            _, size, kind = struct.unpack_from("<IHB", self.data, at)
            if kind == 0:
                break
            piece = self.data[at + 7:at + 7 + size]
            whole = piece if kind in (1, 2) else whole + piece
            if kind in (1, 4):
                self.batches.append(whole)
            at += 7 + size
        self.end = at

    def family_of(self, key):
        """The column family in which a key was put, and its last value."""
        wanted = bytes([len(key)]) + key
        batch = next(b for b in reversed(self.batches) if wanted in b)
        at = batch.index(wanted)
        expect(batch[at - 2] == 5, "not a put into a column family")
        start = at + len(wanted)
        size, shift = 0, 0
        while True:
            byte, start = batch[start], start + 1
            size, shift = size | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return batch[at - 1], batch[start:start + size]

    def put(self, family, key, value, sequence):
        """`sequence` is RocksDB's own: beyond all that it gave."""
        batch = (struct.pack("<QI", sequence, 1) + bytes([5, family]) +
                 example.varint(len(key)) + key + example.varint(len(value)) + value)
        out = bytearray(self.data[:self.end])
        room = BLOCK - len(out) % BLOCK
        if room < 7 + len(batch):
            expect(room < 7 or len(batch) < BLOCK - 7, "too large for this")
            if room < 7:
                out += bytes(room)
        crc = example.crc32c(b"\x01" + batch)
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        expect(BLOCK - len(out) % BLOCK >= 7 + len(batch), "it does not fit the block")
        out += struct.pack("<IHB", masked, len(batch), 1) + batch
        self.path.write_bytes(out)


def write_latch(path, contents):
    """Into both slots, as the broker does the first time."""
    slot_bytes = path.stat().st_size // 2
    out = b""
    for counter in (2, 1):
        body = struct.pack("<IQ", len(contents), counter) + contents
        slot = struct.pack("<I", example.crc32c(body)) + body
        out += slot.ljust(slot_bytes, b"\0")
    path.write_bytes(out)


def contents_of(folder):
    """A digest of each file but the lock and RocksDB's own log, which nobody reads back."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith("LOG") and
            path.name.lower() != "lock"}


class Store:
    """A broker that was killed with a backlog, and whose store can be changed."""

    def __init__(self, run):
        self.run = run
        self.published = run.records("records", 2_000)
        self.receiver = run.receiver(run.port(), "taken")
        self.broker = run.broker("broker", stream(tcp_sink("t", self.receiver.port))).start()
        run.publish(self.broker.address, self.published).result()
        self.broker.kill()
        self.data_dir = self.broker.data_dir

    def expect_refused(self, number):
        code = self.broker.launch().process.wait()
        expect(code in (FAILED, USAGE), f"it ended with {code}: {self.broker.log()}")
        said = self.broker.log()
        expect(f"format {number}" in said and "the version that wrote it" in said,
               f"it does not say why: {said}")

    def finish(self):
        self.receiver.start()
        self.broker.start()
        self.broker.wait_drained("t")
        delivered(self.receiver.path, self.published)


def another_format_of_data_dir_is_refused_before_anything_is_changed(run):
    store = Store(run)
    path = store.data_dir / "format"
    good = path.read_text()
    for number in (0, 2, 77):
        path.write_text(f"{number}\n")
        before = contents_of(store.data_dir)
        for _ in range(2):
            store.expect_refused(number)
        after = contents_of(store.data_dir)
        changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
        expect(not changed, f"changed: {changed}")
    path.write_text(good)
    store.finish()


def another_format_inside_the_store_is_refused_and_nothing_is_lost(run):
    store = Store(run)
    family, state = Wal(store.data_dir).family_of(b"state/s")
    expect(state[:2] == b"\x08\x01", f"the state begins with {state[:2]}")
    latch = store.data_dir / "latch" / "s"
    no_latch = latch.read_bytes()
    sequence = 1_000_000

    def put(key, value):
        nonlocal sequence
        sequence += 1_000
        Wal(store.data_dir).put(family, key, value, sequence)
    for key, value in ((b"format", b"%d"), (b"state/s", None)):
        for number in (2, 77):
            put(key, value % number if value else bytes([8, number]) + state[2:])
            store.expect_refused(number)
        put(key, b"1" if value else state)
    write_latch(latch, bytes([8, 2]))
    for _ in range(2):
        store.expect_refused(2)
    latch.write_bytes(no_latch)
    store.finish()


if __name__ == "__main__":
    harness.main()
