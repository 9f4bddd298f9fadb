#!/usr/bin/env python3
"""A receiver for a sink of type tcp with acknowledge = "count" and framing = "length_prefixed".

    receiver.py PORT FILE

Appends each record to FILE as it is framed, and writes back how many it has taken on this
connection, after they are on the disk. It may be killed at any moment and started again with the
same FILE.

A broker that lost its receiver cannot know whether its last records arrived, and sends again what
was not counted. Those are the last ones that FILE holds, in the same order; so the first record of
a connection tells where it goes on, and what FILE holds already is counted, not written twice.
"""
import collections
import hashlib
import os
import socket
import sys

READ_BYTES = 256 * 1024
# How far back a repeat is looked for: much more than can be under way, and less than one round of
# the demo's recording, after which every record comes again.
REMEMBERED = 500


def whole_records(data):
    """(first byte, byte after the last) of each whole record in `data`, its length included."""
    at = 0
    while len(data) - at >= 4:
        end = at + 4 + int.from_bytes(data[at:at + 4], "little")
        if end > len(data):
            return
        yield at, end
        at = end


class Kept:
    """The file of records, and which ones were the last."""

    def __init__(self, path):
        self.file = open(path, "a+b", buffering=0)
        self.recent = collections.deque(maxlen=REMEMBERED)
        self.repeats = None  # what may come again; None: nothing any more
        end, rest = 0, b""
        self.file.seek(0)
        while data := self.file.read(READ_BYTES):
            data, at = rest + data, 0
            for begin, at in whole_records(data):
                self.recent.append(self.digest(data[begin:at]))
            end, rest = end + at, data[at:]
        self.file.truncate(end)  # a record that was being written when the receiver died

    @staticmethod
    def digest(record):
        return hashlib.blake2b(record, digest_size=16).digest()

    def connected(self):
        self.repeats = list(self.recent)

    def take(self, records):
        """Keeps what is new. Returns how many were not."""
        new = []
        for record in records:
            digest = self.digest(record)
            if self.repeats and digest in self.repeats:
                self.repeats = self.repeats[self.repeats.index(digest) + 1:]
                continue
            self.repeats = None
            self.recent.append(digest)
            new.append(record)
        if new:
            data = memoryview(b"".join(new))
            while data:
                data = data[self.file.write(data):]
            os.fdatasync(self.file.fileno())
        return len(records) - len(new)


def serve(connection, kept):
    """One connection to its end."""
    buffered, total = b"", 0
    kept.connected()
    while data := connection.recv(READ_BYTES):
        buffered, end = buffered + data, 0
        records = []
        for begin, end in whole_records(buffered):
            records.append(buffered[begin:end])
        if not records:
            continue
        repeated = kept.take(records)
        if repeated:
            print(f"repeated {repeated}", flush=True)
        buffered, total = buffered[end:], total + len(records)
        connection.sendall(b"%d\n" % total)


def main():
    port, path = int(sys.argv[1]), sys.argv[2]
    kept = Kept(path)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    serve(connection, kept)
                except OSError as error:
                    print(f"lost: {error}", flush=True)


if __name__ == "__main__":
    main()
