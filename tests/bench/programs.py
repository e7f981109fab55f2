"""Programs that take part in a run: started by module name, talking JSON lines, ended with the block.

A receiver (peers/) is told where the load is and how many ticks will come; it says when it has them all, and then waits
to be ended, so that its processor time can be read from outside.
"""

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench.tape import Shape

__all__ = ["PATIENCE_S", "Load", "Program", "TickLost", "load", "program"]

PATIENCE_S = 90.0
END_S = 5.0


class TickLost(RuntimeError):
    """Not everything that was sent was received: the figure of this run does not count."""

    def __init__(self, who: str, sent: int, received: int) -> None:
        super().__init__(who, sent, received)
        self.who, self.sent, self.received = who, sent, received

    def __str__(self) -> str:
        return f"{self.who}: {self.sent:,} ticks were sent, {self.received:,} received; the figure does not count"


class Program:
    """A child that prints a line of JSON per event."""

    def __init__(self, module: str, process: "subprocess.Popen[bytes]") -> None:
        self._module, self._process = module, process
        self._received = b""
        self.pid = process.pid

    def hear(self, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """What it prints next; RuntimeError when it has ended, or says nothing in time."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + within_s
        while b"\n" not in self._received:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                raise RuntimeError(f"{self._module} said nothing for {within_s:.0f} s; was a tick lost?")
            data = self._process.stdout.read1(65_536)  # type: ignore[attr-defined]  # a pipe is a BufferedReader
            if not data:
                raise RuntimeError(f"{self._module} has ended with {self._process.wait()}; see above")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def say(self, **order: Any) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()


@contextmanager
def program(module: str, *arguments: str) -> Iterator[Program]:
    """Run ``python -m MODULE ARGUMENTS`` until the block ends; it is told by the end of its standard input."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Program(module, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


class Load:
    """The load generator."""

    def __init__(self, feed: Program) -> None:
        self._feed = feed
        self.port: int = feed.hear()["port"]
        self.url = f"ws://127.0.0.1:{self.port}"

    def render(self, shape: Shape, ticks: int) -> None:
        """Prepare a tape of so many *ticks*."""
        self._ask(
            do="render",
            ticks=ticks,
            events_per_frame=shape.events_per_frame,
            symbols=shape.symbols,
            shares=shape.shares,
            seed=shape.seed,
        )

    def wait_for(self, items: int) -> None:
        """Wait until the connections have subscribed so many items."""
        deadline = time.monotonic() + PATIENCE_S
        while (seen := self._ask(do="subscribed"))["items"] < items:
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {seen} of {items} items were subscribed in {PATIENCE_S:.0f} s")
            time.sleep(0.02)

    def flood(self, times: int = 1) -> None:
        """Begin to send the tape so many times, as fast as TCP takes it."""
        self._feed.say(do="flood", times=times)

    def pace(self, ticks_per_s: float) -> None:
        """Begin to send the tape once, on schedule."""
        self._feed.say(do="pace", ticks_per_s=ticks_per_s)

    def sent(self) -> dict[str, Any]:
        """How it went, when all is written: ``sent``, ``begun_ns``, ``ended_ns``."""
        return self._feed.hear()

    def _ask(self, **order: Any) -> dict[str, Any]:
        self._feed.say(**order)
        return self._feed.hear()


@contextmanager
def load() -> Iterator[Load]:
    """A load generator of its own."""
    with program("tests.bench.feed") as feed:
        yield Load(feed)
