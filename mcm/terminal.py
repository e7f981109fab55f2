"""The terminal, or the pipe in its place, written to by a thread: it may stand still, and the supervisor must not."""

import contextlib
import logging
import queue
import sys
import threading
from collections.abc import Callable
from typing import TextIO

__all__ = ["Terminal"]

WAITING = 1_000
CLOSE_S = 0.5


class Terminal(logging.Handler):
    """Takes what is to be shown, log records among it; what waits for too long a queue is left out.

    Ctrl-S, or a pipe that nobody reads, stops whoever writes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], object]) -> None:
        """Call *job*, which writes something, when its turn comes."""
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(job)

    def say(self, line: str) -> None:
        """A line on stdout."""
        self._put(line, sys.stdout)

    def emit(self, record: logging.LogRecord) -> None:
        """A log record on stderr."""
        self._put(self.format(record), sys.stderr)

    def _put(self, line: str, stream: TextIO) -> None:
        def put() -> None:
            stream.write(line + "\n")
            stream.flush()

        self.do(put)

    def _write(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            while (job := self._jobs.get()) is not None:
                job()

    def end(self) -> bool:
        """Write what waits; False where it stands still, and leaving in order would wait for it as well."""
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)
        self._thread.join(CLOSE_S)
        return not self._thread.is_alive()
