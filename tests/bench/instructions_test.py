#!/usr/bin/env python3
"""That a count which moved is noticed, in both directions, and within the margin is not."""
import unittest

from instructions import judge


class Judge(unittest.TestCase):
    def test_lets_pass_what_is_within_the_margins(self):
        for counted in (881, 1000, 1049):
            self.assertIsNone(judge("live", counted, 1000))

    def test_says_how_to_find_out_where_more_instructions_are_spent(self):
        self.assertIn("callgrind_annotate", judge("live", 1051, 1000))

    def test_asks_for_the_new_value_where_fewer_are(self):
        self.assertIn("--record live", judge("live", 879, 1000))

    def test_asks_for_a_value_where_there_is_none(self):
        self.assertIn("--record live", judge("live", 1000, None))


if __name__ == "__main__":
    unittest.main()
