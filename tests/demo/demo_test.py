"""The parts of the demo on which its verdict rests: what is compared, and a receiver that dies."""
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "examples/demo"
sys.path.insert(0, str(DEMO))

import demo  # noqa: E402
import recording  # noqa: E402
import screen  # noqa: E402

RECORDS = [b"record %d" % i * (i + 1) for i in range(10)]


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = Path(self.folder.name, "records")

    def write(self, payloads, tail=b""):
        self.path.write_bytes(b"".join(map(recording.framed, payloads)) + tail)


class Comparison(Folder):
    def difference(self, payloads, count=25, tail=b""):
        self.write(payloads, tail)
        return recording.difference(self.path, RECORDS, count)

    def test_the_recording_has_600_different_records(self):
        payloads = recording.load()
        self.assertEqual((len(payloads), len(set(payloads))), (600, 600))
        self.assertEqual([p[0] for p in payloads], [0, 1] * 300)

    def test_a_file_with_exactly_what_was_published_is_right(self):
        self.assertIsNone(self.difference((RECORDS * 3)[:25]))

    def test_each_way_to_be_wrong_is_named(self):
        good = (RECORDS * 3)[:25]
        self.assertIn("records 25 to 25 are missing", self.difference(good[:-1]))
        self.assertIn("more than 25", self.difference((RECORDS * 3)[:26]))
        self.assertIn("record 4 is missing: record 5", self.difference(good[:3] + good[4:]))
        self.assertIn("record 5 is record 4 again", self.difference(good[:4] + good[3:]))
        self.assertIn("record 4 is missing",
                      self.difference(good[:3] + [good[4], good[3]] + good[5:]))
        self.assertIn("not what was published", self.difference(good[:3] + [b"?"] + good[4:]))
        self.assertIn("more than 25", self.difference(good, tail=b"\1\0"))
        self.assertIn("record 25", self.difference(good[:-1], tail=b"\x20\0\0\0torn"))
        self.path.unlink()
        self.assertIn("not there", recording.difference(self.path, RECORDS, 25))


class Receiver(Folder):
    def setUp(self):
        super().setUp()
        self.placeholder = demo.reserve_port()
        self.addCleanup(self.placeholder.close)
        self.address = self.placeholder.getsockname()

    def start(self):
        child = subprocess.Popen([sys.executable, "-B", DEMO / "receiver.py", str(self.address[1]),
                                  self.path], stdout=subprocess.PIPE, text=True)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        self.addCleanup(child.stdout.close)
        self.assertEqual(child.stdout.readline(), "listening\n")
        return child

    def send(self, payloads, tail=b""):
        """On a connection of its own; returns when all are counted."""
        with socket.create_connection(self.address, timeout=60) as connection:
            connection.sendall(b"".join(map(recording.framed, payloads)) + tail)
            with connection.makefile("r") as counts:
                while payloads and int(counts.readline()) < len(payloads):
                    pass

    def held(self):
        with open(self.path, "rb") as file:
            return list(recording.records_of(file))

    def test_it_counts_what_it_has_kept(self):
        self.start()
        self.send(RECORDS)
        self.assertEqual(self.held(), RECORDS)

    def test_what_comes_again_after_a_kill_is_counted_and_not_kept_twice(self):
        child = self.start()
        self.send(RECORDS[:6], tail=b"\x10\0\0\0half of it")
        child.send_signal(signal.SIGKILL)
        child.wait()
        with open(self.path, "ab") as file:
            file.write(b"\x10\0\0\0torn")  # as if it had died while writing
        child = self.start()
        self.send(RECORDS[3:])
        self.assertEqual(self.held(), RECORDS)
        self.assertEqual(child.stdout.readline(), "repeated 3\n")

    def test_a_new_record_ends_the_repeats(self):
        self.start()
        self.send(RECORDS[:5])
        self.send([RECORDS[4], b"new", RECORDS[4]])
        self.assertEqual(self.held(), RECORDS[:5] + [b"new", RECORDS[4]])


class Words(unittest.TestCase):
    def test_sizes_and_durations_are_short(self):
        self.assertEqual([screen.size(n) for n in (0, 1023, 1536, 5 << 20, 3 << 30)],
                         ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3072.0 MiB"])
        self.assertEqual([screen.duration(s) for s in (-1, 59.9, 60, 125)],
                         ["0 s", "59 s", "1m00s", "2m05s"])


if __name__ == "__main__":
    unittest.main()
