"""Whether sinks hold what was published: nothing lost, nothing out of order, nothing twice but what
G4 allows, computed from what this very run was seen to do."""
import threading
import time

from harness import LOOK, expect, sequence


def same(path, published):
    """A sink that takes each record exactly once."""
    with open(path, "rb") as file, open(published, "rb") as source:
        held, wanted = file.read(), source.read()
    if held != wanted:
        held, wanted = held.splitlines(), wanted.splitlines()
        at = next((i for i, (a, b) in enumerate(zip(held, wanted)) if a != b),
                  min(len(held), len(wanted)))
        raise AssertionError(f"{path} holds {len(held)} records of {len(wanted)}; record {at + 1} "
                             f"is {held[at:at + 1]} instead of {wanted[at:at + 1]}")


def connections(path):
    """What a receiver took: [(when the connection came, [numbers of the records on it])]."""
    with open(path, "rb") as file:
        data = file.read()
    with open(f"{path}.connections", encoding="ascii") as file:
        starts = [(float(when), int(at)) for when, at in (line.split() for line in file)]
    ends = [at for _, at in starts[1:]] + [len(data)]
    return [(when, [int(line[:9]) for line in data[at:end].splitlines()])
            for (when, at), end in zip(starts, ends)]


def delivered(path, published, floors=None, first=1, skipped=()):
    """A sink that may be sent records again. On one connection there is never a repeat; a new one
    goes on without a gap, and repeats nothing at or below its floor (of `floors`: when a connection
    came -> sequence). `skipped` are ranges (first, last) that policy left out. Returns the
    repeats."""
    left_out = {n for low, high in skipped for n in range(low, high + 1)}
    with open(published, "rb") as file:
        source = file.read().splitlines()
    with open(path, "rb") as file:
        for line in file.read().splitlines():
            number = int(line[:9])
            expect(line == source[number - 1], f"{path}: record {number} is not what was published")
    highest, repeats = first - 1, 0

    def next_after(number):
        number += 1
        while number in left_out:
            number += 1
        return number
    for when, numbers in connections(path):
        if not numbers:
            continue
        for before, number in zip(numbers, numbers[1:]):
            expect(number == next_after(before), f"{path}: record {number} follows {before}")
        begin = numbers[0]
        expect(begin <= next_after(highest), f"{path}: {begin} after {highest}: a gap")
        floor = (floors or {}).get(when, 0)
        expect(begin > floor, f"{path}: record {begin} came again, though {floor} was noted")
        repeats += sum(number <= highest for number in numbers)
        highest = max(highest, numbers[-1])
    expect(next_after(highest) > len(source), f"{path} ends at record {highest} of {len(source)}")
    return repeats


class Floors(threading.Thread):
    """Watches a sink: what was acknowledged is not repeated by the same broker, and what was stored
    not even by one that was killed."""

    def __init__(self, broker, sink, stream="s"):
        super().__init__(daemon=True)
        self.broker, self.sink, self.stream = broker, sink, stream
        self._seen, self._done = [], threading.Event()
        self.start()

    def run(self):
        while not self._done.wait(LOOK):
            process, starts = self.broker.process, self.broker.starts
            try:
                sink = self.broker.sink(self.sink, self.stream)
            except (OSError, ValueError, StopIteration):
                continue  # it is down
            if process is self.broker.process and process.running():
                self._seen.append((time.monotonic(), starts, sequence(sink["acked"]),
                                   sequence(sink["cursor"])))

    def finish(self, path):
        """The floor of each connection of the receiver at `path`."""
        self._done.set()
        self.join()
        floors = {}
        for when, _ in connections(path):
            before = [sample for sample in self._seen if sample[0] < when]
            if not before:
                continue
            starts = [s for s in self._seen if s[0] >= when]
            # Of which broker it is: that of the samples on both sides of it, if it is one.
            same_broker = starts and starts[0][1] == before[-1][1]
            noted = [cursor for _, _, _, cursor in before]
            if same_broker:
                noted += [acked for _, boot, acked, _ in before if boot == before[-1][1]]
            floors[when] = max(noted)
        return floors
