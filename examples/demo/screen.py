"""What the demo shows: on a terminal a page drawn again in place, elsewhere a line a second."""
import os
import shutil
import sys
import time

STYLES = {"good": "32", "busy": "33", "bad": "31", "dim": "2", "bold": "1", "plain": ""}
STATE_STYLE = {"live": "good", "replaying": "busy"}
REFRESH = {True: 0.2, False: 1.0}  # seconds, on a terminal and elsewhere
LOG_LINES = 5


def size(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024 or unit == "MiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024


def duration(seconds):
    seconds = max(0, int(seconds))
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds} s"


def span(*parts):
    """A line: texts, or (style, text)."""
    return [part if isinstance(part, tuple) else ("plain", part) for part in parts]


class Screen:
    """`show` takes a View; `say` writes a line that stays."""

    def __init__(self, out=sys.stdout, terminal=None):
        self.out = out
        self.terminal = out.isatty() if terminal is None else terminal
        self.colour = self.terminal and "NO_COLOR" not in os.environ
        unicode = (out.encoding or "").lower().replace("-", "") == "utf8"
        self.marks = ("✓", "▶", "·", "●", "○") if unicode else ("x", ">", ".", "*", "o")
        self.bar = ("█", "░") if unicode else ("#", "-")
        self.spark = "▁▂▃▄▅▆▇█" if unicode else "_.-=+*%#"
        self.rule = "─" if unicode else "-"
        self.drawn = 0  # lines of the page that are on the terminal
        self.shown = 0.0

    def due(self):
        return time.monotonic() - self.shown >= REFRESH[self.terminal]

    def show(self, view):
        self.shown = time.monotonic()
        if self.terminal:
            self._draw(self._page(view))
        else:
            print(self._line(view), file=self.out, flush=True)

    def say(self, text="", style="plain"):
        self.drawn = 0  # the page stays where it is, above
        self.out.write(self._styled(style, text) + "\n")
        self.out.flush()

    def _styled(self, style, text):
        code = STYLES[style]
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code and text else text

    def _draw(self, lines):
        columns, rows = shutil.get_terminal_size()
        lines = lines[:rows - 1]
        text = f"\x1b[{self.drawn}A\r" if self.drawn else ""
        for line in lines:
            room = columns - 1
            for style, part in line:
                text += self._styled(style, part[:room])
                room -= min(room, len(part))
            text += "\x1b[K\n"
        self.out.write(text + "\x1b[J")
        self.out.flush()
        self.drawn = len(lines)

    # --- elsewhere: one line ---

    def _line(self, view):
        sinks = "; ".join(
            f"{sink['name']} {sink['state']}"
            + (f", backlog {sink['records']:,} records {size(sink['bytes'])}"
               if sink["state"] != "live" else "")
            + (f", halt in {view.soonest(sink)}" if sink["name"] == view.down else "")
            for sink in view.sinks)
        return (f"{view.seconds:5.1f} s  {view.step:<8} published {view.published:,}, acknowledged "
                f"{view.acknowledged:,}; {sinks}; journal {size(view.disk)}, "
                + ("idle" if view.coverage == "closed" else "in use"))

    # --- a terminal: a page ---

    def _page(self, view):
        width = min(shutil.get_terminal_size().columns, 100) - 2
        clock = duration(view.seconds)
        title = "Spillway: a real chain's blocks on their way to two sinks"
        lines = [span(("bold", " " + title), clock.rjust(width - len(title))),
                 span(("dim", " " + self.rule * width))]
        done, now, later, _, _ = self.marks
        for index, (name, text) in enumerate(view.steps):
            if index < view.at:
                lines.append(span(("good", f" {done} "), f"{name:<9}{text}"))
            elif index == view.at:
                gap = max(2, width - 12 - len(text) - len(view.progress))
                lines.append(span(("busy", f" {now} "), ("bold", f"{name:<9}{text}"),
                                  " " * gap + view.progress))
            else:
                lines.append(span(("dim", f" {later} {name:<9}{text}")))
        lines += [[], span(("dim", " node      "), f"published {view.published:,}   ",
                           ("bold", f"acknowledged {view.acknowledged:,}"),
                           f"   longest time without an acknowledgement {view.longest_wait:.1f} s")]
        lines += [[], span(("dim", " sink      state          acknowledged      backlog"
                                   "                  what would halt the node"))]
        for sink in view.sinks:
            lines += self._sink(view, sink)
        lines += [[], *self._journal(view, width), []]
        lines += [span(("dim", " the broker's log"))]
        log = view.log[-LOG_LINES:]
        lines += [span(("dim", " " + line)) for line in log + [""] * (LOG_LINES - len(log))]
        lines += [[], span(("dim", " metrics   "), view.metrics_url),
                  span(("dim", " look      "), view.status_command)]
        return lines

    def _sink(self, view, sink):
        state = sink["state"]
        mark = self.marks[3] if sink["connected"] else self.marks[4]
        halts = [("dim", "nothing is near")]
        if sink["name"] == view.down:
            halts = [f"{name} in {duration(left)}" for left, name in view.limits(sink)]
        elif state == "replaying" and view.catch_up:
            halts = [("dim", f"live in about {duration(view.catch_up)}")]
        lines = [span(f" {sink['name']:<10}",
                      (STATE_STYLE.get(state, "bad"), f"{mark} {state:<11}"),
                      f"{sink['acknowledged']:>14,}",
                      f"{sink['records']:>10,} records{size(sink['bytes']):>11}   ",
                      *halts[:1])]
        # The sink that goes down has room for two limits, so that nothing below moves.
        if sink["name"] == view.volatile:
            lines.append(span(" " * 68, *halts[1:2]))
        return lines

    def _journal(self, view, width):
        full, empty = self.bar
        filled = min(40, round(40 * view.backlog / view.max_bytes)) if view.max_bytes else 0
        history = view.history[-(width - 10):]
        top = max(max(history, default=0), 1)
        curve = "".join(self.spark[min(7, b * 8 // top)] if b else " " for b in history)
        return [span(("dim", " journal   "), ("busy", full * filled),
                     ("dim", empty * (40 - filled)),
                     f" {size(view.backlog)} of {size(view.max_bytes)},"
                     f" {size(view.disk)} on disk, "
                     + ("idle" if view.coverage == "closed" else "in use")),
                span(("dim", " backlog   "), ("busy", curve))]
