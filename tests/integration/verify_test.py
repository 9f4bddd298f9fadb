"""That the comparisons find what they are there to find."""
import tempfile
import unittest
from pathlib import Path

from maxima import maxima, table
from verify import delivered, same


def line(number):
    return b"%09d payload\n" % number


class Verify(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.published, self.taken = Path(folder.name, "published"), Path(folder.name, "taken")
        self.published.write_bytes(b"".join(map(line, range(1, 11))))

    def take(self, *runs):
        """One connection for each; that number i came at i seconds."""
        data, starts = b"", ""
        for i, numbers in enumerate(runs):
            starts += f"{i} {len(data)}\n"
            data += b"".join(map(line, numbers))
        self.taken.write_bytes(data)
        Path(f"{self.taken}.connections").write_text(starts)

    def refuses(self, words, **more):
        with self.assertRaisesRegex(AssertionError, words):
            delivered(self.taken, self.published, **more)

    def test_counts_repeats_that_a_new_connection_may_bring(self):
        self.take(range(1, 8), range(5, 11))
        self.assertEqual(delivered(self.taken, self.published, {1: 4}), 3)
        self.refuses("came again", floors={1: 5})

    def test_finds_what_is_missing_inside_a_connection_between_two_and_at_the_end(self):
        self.take([1, 2, 4, 5, 6, 7, 8, 9, 10])
        self.refuses("4 follows 2")
        self.take([1, 2], range(4, 11))
        self.refuses("a gap")
        self.take(range(1, 10))
        self.refuses("ends at record 9")
        self.take()
        self.refuses("ends at record 0")

    def test_finds_what_is_repeated_or_moved_inside_a_connection(self):
        self.take([1, 2, 3, 3, *range(4, 11)])
        self.refuses("3 follows 3")
        self.take([1, 3, 2, *range(4, 11)])
        self.refuses("3 follows 1")

    def test_lets_pass_what_policy_left_out_and_nothing_else(self):
        self.take([1, 2, 6, 7, 8])
        delivered(self.taken, self.published, skipped=[(3, 5), (9, 10)])
        self.refuses("6 follows 2", skipped=[(3, 4), (9, 10)])
        self.refuses("ends at record 8", skipped=[(3, 5), (10, 10)])

    def test_finds_other_content_under_a_number(self):
        self.take(range(1, 11))
        self.taken.write_bytes(self.taken.read_bytes().replace(b"7 payload", b"7 pay1oad"))
        self.refuses("not what was published")

    def test_same_means_every_byte(self):
        for wrong in (range(1, 10), [*range(1, 11), 10], [2, 1, *range(3, 11)]):
            self.take(wrong)
            with self.assertRaises(AssertionError):
                same(self.taken, self.published)
        self.take(range(1, 11))
        same(self.taken, self.published)


class Maxima(unittest.TestCase):
    def test_are_found_in_what_scenarios_print(self):
        found = maxima("""a sink that goes away: --seed 7
most: broker 45.1 MiB of memory, 61.2 of 64 MiB of disk
ok after 3.0 s
a chain: --seed 8
most: a 50.0 MiB of memory, 1.0 of 512 MiB of disk; b 9.5 MiB of memory, 2.0 of 512 MiB of disk
""".splitlines())
        self.assertEqual(found[0], (45.1, 61.2, 64, "broker", "a sink that goes away"))
        lines = table(found)
        self.assertEqual(lines[0], "the most memory, of 3 brokers in 2 scenarios")
        self.assertEqual(lines[1].split(), "50.0 MiB a chain (a)".split())
        self.assertEqual(lines[5].split(),
                         "95.6 % of 64 MiB a sink that goes away (broker)".split())


if __name__ == "__main__":
    unittest.main()
