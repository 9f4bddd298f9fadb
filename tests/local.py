"""What benchmark and integration tests ask of this machine alike: to wait, disk, memory, HTTP."""
import http.client
import os
import threading
import time
from pathlib import Path

_pause = threading.Event()


def pause(seconds):
    """For a moment that chance chooses; what can be awaited is awaited."""
    _pause.wait(seconds)


def wait_for(what, condition, deadline, look):
    """The first true value of condition(), looked for every `look` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"in vain: {what}")
        pause(look)


def du(folder):
    """Bytes, as `du` counts them."""
    blocks = 0
    for parent, _, names in os.walk(folder):
        for name in (*names, "."):
            try:
                blocks += os.lstat(os.path.join(parent, name)).st_blocks
            except OSError:
                pass  # deleted meanwhile
    return blocks * 512


def memory_of(pid):
    """The resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} has ended")


def ask(port, path, method="GET", deadline=90.0):
    """Status and text of an answer; OSError when there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=deadline)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
