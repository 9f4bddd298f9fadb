"""A producer of groups at full speed, on the frames of examples/python. Its records are large and
end alike, so that the check of each is that of a few bytes, moved over the rest by tables."""
import struct
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "python"))
import publish as protocol  # noqa: E402

BEGINS, CONTINUES, ENDS = 1, 2, 3
REST = b"." * 40_000


def update(crc, data):
    for byte in data:
        crc = crc >> 8 ^ protocol.CRC[(crc ^ byte) & 0xFF]
    return crc


class Moved:
    """update(crc, data) of any crc, for one `data`."""

    def __init__(self, data):
        self.data = update(0, data)
        zeros = bytes(len(data))
        bits = [update(1 << bit, zeros) for bit in range(32)]
        self.tables = []
        for first in (0, 8, 16, 24):
            table = [0]
            for bit in bits[first:first + 8]:
                table += [entry ^ bit for entry in table]
            self.tables.append(table)

    def __call__(self, crc):
        a, b, c, d = self.tables
        return self.data ^ a[crc & 255] ^ b[crc >> 8 & 255] ^ c[crc >> 16 & 255] ^ d[crc >> 24]


class Groups(threading.Thread):
    """Publishes `count` groups of `size` records as lines, each batch with the end of one group and
    the beginning of the next, and many of them in flight."""

    def __init__(self, address, count, size):
        super().__init__(daemon=True)
        self.size, self.total = size, count * size
        self.safe, self.error = 0, None
        self._tails = {group: REST + protocol.field(6, group)
                       for group in (BEGINS, CONTINUES, ENDS)}
        self._moved = {group: Moved(tail) for group, tail in self._tails.items()}
        self._connection = protocol.Connection(address)
        self.start()

    def line(self, sequence):
        return b"%09d " % sequence + REST

    def _record(self, epoch, sequence):
        place = (sequence - 1) % self.size
        group = BEGINS if place == 0 else ENDS if place == self.size - 1 else CONTINUES
        line = self.line(sequence)
        head = protocol.field(1, line)[:-len(REST)]
        crc = update(0xFFFFFFFF, struct.pack("<QQ", epoch, sequence) + head)
        return (head + self._tails[group] +
                struct.pack("<BI", 15 << 3 | 5, self._moved[group](crc) ^ 0xFFFFFFFF))

    def run(self):
        try:
            self._publish()
        except (OSError, SystemExit) as error:
            self.error = error

    def _publish(self):
        connection = self._connection
        connection.socket.sendall(protocol.hello("s"))
        _, welcome = connection.receive()
        epoch, limit = welcome[4], welcome[11]
        sent, halted = 0, False
        while self.safe < self.total:
            batch = self.size if sent else self.size // 2
            batch = min(batch, self.total - sent)
            room = (sent + batch - self.safe) * (len(REST) + 64) < limit
            if not halted and batch and room:
                records = [self._record(epoch, sent + 1 + i) for i in range(batch)]
                connection.socket.sendall(protocol.batch(epoch, sent + 1, records))
                sent += batch
                continue
            kind, message = connection.receive()
            if kind == 4:
                self.safe = protocol.position(message.get(1))[1]
            elif kind == 6:
                halted = True
            elif kind == 7:
                halted, sent = False, protocol.position(message.get(1))[1]
