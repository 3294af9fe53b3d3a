"""One line a step, with the time that it took, so that nobody wonders whether it hangs.

On a terminal the line of the running step is rewritten in place. Elsewhere (CI, a pipe) each
step is one line when it ends, and a long one says every half minute that it is still at work.
Everything goes to standard error: standard output is for what a script reads.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

_REDRAW = 0.5
"""Seconds between two drawings of the running step's line on a terminal."""

_REMIND = 30.0
"""Seconds between two lines of a running step elsewhere; CI ends jobs that stay silent."""


class Step:
    """A running step, whose detail (the package being compiled, say) may change.

    Parameters
    ----------
    title
        What is being done, as a sentence's beginning.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self.started = time.monotonic()

    def line(self) -> str:
        """Return the line that describes the step now."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.title}{detail} ... {duration(time.monotonic() - self.started)}"


class Progress:
    """Writes steps to a stream.

    Parameters
    ----------
    stream
        Where to; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    @property
    def stream(self) -> TextIO:
        """The stream, looked up late since tests and pagers replace standard error."""
        return self._stream or sys.stderr

    def note(self, line: str) -> None:
        """Write one line that belongs to no step."""
        print(line, file=self.stream, flush=True)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step for the length of a block."""
        step = Step(title)
        ended = threading.Event()
        painter = threading.Thread(target=self._paint, args=(step, ended), daemon=True)
        painter.start()
        outcome = "failed after"
        try:
            yield step
            outcome = ""
        finally:
            ended.set()
            painter.join()
            took = duration(time.monotonic() - step.started)
            self._end(f"{title} ... {outcome} {took}" if outcome else f"{title} ... {took}")

    def _paint(self, step: Step, ended: threading.Event) -> None:
        if self.stream.isatty():
            while not ended.wait(_REDRAW):
                self._redraw(step.line())
        else:
            while not ended.wait(_REMIND):
                self.note(step.line())

    def _redraw(self, line: str) -> None:
        self.stream.write(f"\r\x1b[K{line[: _columns()]}")
        self.stream.flush()

    def _end(self, line: str) -> None:
        if self.stream.isatty():
            self._redraw(line)
            self.stream.write("\n")
            self.stream.flush()
        else:
            self.note(line)


def duration(seconds: float) -> str:
    """Return a time span as people say it: ``3.2 s`` or ``4 min 05 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _columns() -> int:
    return shutil.get_terminal_size().columns - 1
