#!/usr/bin/env python3
"""Publishes the lines of a file to a Spillway broker, and waits until all are acknowledged.

    publish.py tcp://127.0.0.1:7070 STREAM [FILE]

Written from wire/README.md with the standard library only. The i-th line is sequence i of the
stream's epoch (Hello's `resumes`), so it can be killed and run again: what the broker holds is not
sent twice.
"""
import socket
import struct
import sys
import time

CRC = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
    CRC.append(i)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(value):
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number, value):
    """A field: an int as varint, bytes or text with its length; 0 and None are left out."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    if value is None:
        return b""
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(data):
    """{number: value} of a message, the last one of each."""
    result, at = {}, 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte, at = data[at], at + 1
            value, shift = value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 2:
            size = number()
            result[tag >> 3], at = data[at:at + size], at + size
        else:
            result[tag >> 3] = number()
    return result


def position(data):
    pair = fields(data or b"")
    return pair.get(1, 0), pair.get(2, 0)


def frame(kind, message):
    data = varint(kind << 3 | 2) + varint(len(message)) + message
    return struct.pack("<I", len(data)) + data


def hello(stream):
    return frame(1, field(1, 1) + field(2, 1) + field(4, stream) + field(9, 1))


def record(epoch, sequence, payload, rest=b""):
    data = (field(1, payload) if payload else b"") + rest
    crc = crc32c(struct.pack("<QQ", epoch, sequence) + data)
    return data + struct.pack("<BI", 15 << 3 | 5, crc)


def batch(epoch, first, records, previous=None):
    head = field(1, epoch) + field(2, first) + field(3, len(records))
    if previous:
        head += field(4, field(1, previous[0]) + field(2, previous[1]))
    return frame(3, head + b"".join(field(15, r) for r in records))


class Connection:
    def __init__(self, address):
        if address.startswith("unix://"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(address[7:])
        else:
            host, port = address.removeprefix("tcp://").rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)))

    def exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("the broker closed the connection")
            data += piece
        return data

    def receive(self):
        """The next frame as (kind, fields); answers pings, and stops at a Reject."""
        while True:
            data = self.exactly(struct.unpack("<I", self.exactly(4))[0])
            (kind, message), = fields(data).items()
            if kind == 9:
                self.socket.sendall(frame(10, message))
            elif kind == 5:
                refusal = fields(message)
                text = refusal.get(3, b"").decode()
                if refusal.get(4):  # retryable: the same thing may work later
                    raise ConnectionError(text)
                sys.exit(f"refused with code {refusal.get(2)}: {text}")
            else:
                return kind, fields(message)


def publish(address, stream, lines):
    connection = Connection(address)
    connection.socket.sendall(hello(stream))
    _, welcome = connection.receive()
    epoch, limit = welcome[4], welcome[11]
    held, safe = position(welcome.get(5)), position(welcome.get(6))
    previous = held if held < (epoch, 0) and held > (0, 0) else None
    sent = held[1] if held[0] == epoch else 0
    sizes, in_flight, halted = {}, 0, 13 in welcome
    while safe < (epoch, len(lines)):
        records, room = [], min(in_flight + 65536, limit // 2)
        # Beyond the limit or halted, only acknowledgements can move things.
        while not halted and sent < len(lines) and in_flight < room:
            sent += 1
            records.append(record(epoch, sent, lines[sent - 1]))
            sizes[sent] = len(field(15, records[-1]))
            in_flight += sizes[sent]
        if records:
            first = sent - len(records) + 1
            before = previous if first == 1 else None
            connection.socket.sendall(batch(epoch, first, records, before))
            continue
        kind, message = connection.receive()
        if kind == 4:
            safe = max(safe, position(message.get(1)))
            for sequence in [s for s in sizes if (epoch, s) <= safe]:
                in_flight -= sizes.pop(sequence)
        elif kind == 6:
            halted = True
        elif kind == 7:  # what was sent beyond held has been discarded
            held = position(message.get(1))
            halted, sent = False, held[1] if held[0] == epoch else 0
            in_flight -= sum(sizes.pop(s) for s in list(sizes) if s > sent)
        elif kind == 8:
            raise ConnectionError("the broker says goodbye")
    print(f"{len(lines)} records acknowledged, through {epoch}/{len(lines)}")


def main():
    address, stream = sys.argv[1:3]
    with open(sys.argv[3] if len(sys.argv) > 3 else 0, "rb") as file:
        lines = file.read().splitlines()
    while True:
        try:
            return publish(address, stream, lines)
        except OSError as error:
            print(f"{error}; trying again", file=sys.stderr)
            time.sleep(0.5)


if __name__ == "__main__":
    main()
