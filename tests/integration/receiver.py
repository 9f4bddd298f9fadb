"""A receiver for `tcp` sinks: keeps what it takes in a file, and counts it back.

    receiver.py PORT FILE [--framing lines|length_prefixed] [--acknowledge count|kernel]

Whole records are appended to FILE as framed; FILE.connections gets a line for each connection: when
it was accepted (CLOCK_MONOTONIC) and where in FILE it begins. A record is counted once it is in
FILE, so a receiver that is killed and started again has lost nothing that it counted.

In a test it runs as a thread (Receiver) or, to be killed, as a process of its own.
"""
import argparse
import os
import selectors
import socket
import threading
import time

READ_BYTES = 256 * 1024


def whole_records(data, framing):
    """(bytes that are whole records, how many) at the start of `data`."""
    if framing == "lines":
        return data.rfind(b"\n") + 1, data.count(b"\n")
    at = count = 0
    while len(data) - at >= 4:
        end = at + 4 + int.from_bytes(data[at:at + 4], "little")
        if end > len(data):
            break
        at, count = end, count + 1
    return at, count


class Receiver:
    """Listens on `port` from start() to stop(). `counting` and `reading` are switches of a hostile
    receiver: it goes silent, or takes nothing; `close_after` ends a connection after so many
    records, the last of them uncounted."""

    def __init__(self, port, path, framing="lines", acknowledge="count"):
        self.port, self.path, self.framing = port, path, framing
        self.acknowledge = acknowledge
        self.counting = True
        self.close_after = None
        self.reading = threading.Event()
        self.reading.set()
        self.connected = threading.Event()
        self._thread = None
        open(self.path, "ab").close()
        open(f"{self.path}.connections", "ab").close()
        self._cut_tail()

    def _cut_tail(self):
        """What a killed receiver wrote in part was not counted."""
        with open(self.path, "r+b") as file:
            whole, _ = whole_records(file.read(), self.framing)
            file.truncate(whole)

    def start(self):
        self._stop = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def stop(self):
        """Refuses connections from now on. The one there is is ended in order: what was sent on it
        is taken until the other side closes."""
        if self._thread is None:
            return
        self._stop.set()
        self.reading.set()
        self._wake.send(b"x")
        self._thread.join()
        self._thread = None

    def listening(self):
        return self._thread is not None

    def join(self):
        self._thread.join()

    def _serve(self):
        with self._listener, self._wake, self._woken, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stop.is_set():
                if all(key.fileobj is not self._listener for key, _ in selector.select()):
                    continue
                connection, _ = self._listener.accept()
                with connection:
                    self.connected.set()
                    try:
                        self._take(connection)
                    except OSError:
                        pass  # the other side is gone
                    self.connected.clear()

    def _take(self, connection):
        """One connection to its end."""
        buffered, total, ending = b"", 0, False
        with open(self.path, "ab", buffering=0) as out, selectors.DefaultSelector() as selector:
            with open(f"{self.path}.connections", "ab", buffering=0) as connections:
                connections.write(b"%.6f %d\n" % (time.monotonic(), out.tell()))
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._stop.is_set() and not ending:
                    ending = True
                    selector.unregister(self._woken)
                    self._listener.close()
                    connection.shutdown(socket.SHUT_WR)
                if connection not in ready:
                    continue
                self.reading.wait()
                data = connection.recv(READ_BYTES)
                if not data:
                    return
                buffered += data
                size, count = whole_records(buffered, self.framing)
                if size == 0:
                    continue
                out.write(buffered[:size])
                buffered, total = buffered[size:], total + count
                if self.close_after is not None and total >= self.close_after:
                    return
                if self.acknowledge == "count" and self.counting and not ending:
                    connection.sendall(b"%d\n" % total)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--framing", default="lines")
    parser.add_argument("--acknowledge", default="count")
    options = parser.parse_args()
    receiver = Receiver(options.port, options.path, options.framing, options.acknowledge).start()
    os.write(1, b"listening\n")
    receiver.join()


if __name__ == "__main__":
    main()
