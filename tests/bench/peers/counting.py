"""What every receiver does: count to the expected number, say so once, and wait to be ended.

Used as ``python -m tests.bench.peers.NAME PLACE TICKS``; PLACE is the address of the load, or a run directory.
"""

import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcm import Subscriber

__all__ = ["ITEMS", "Count", "arguments", "end_with_input", "say_joined", "say_when_joined", "wait_for_end"]

ITEMS = "T.*,Q.*"


def arguments() -> tuple[str, int]:
    """(place, ticks that will come) from the command line."""
    return sys.argv[1], int(sys.argv[2])


class Count:
    """Ticks received; at the expected number it prints ``{"received": …, "at_ns": …}`` (CLOCK_MONOTONIC)."""

    def __init__(self, expected: int) -> None:
        self._expected, self.received = expected, 0

    def add(self, ticks: int) -> bool:
        """Count *ticks*; whether all have come."""
        self.received += ticks
        if self.received < self._expected:
            return False
        if self.received > self._expected:
            raise RuntimeError(f"{self.received} ticks have come, {self._expected} were sent")
        print(json.dumps({"received": self.received, "at_ns": time.monotonic_ns()}), flush=True)  # noqa: T201
        return True


def wait_for_end() -> None:
    """Sleep until the standard input ends."""
    while os.read(0, 4_096):
        pass


def say_joined() -> None:
    """Print that from here on nothing is missed."""
    print(json.dumps({"joined": True}), flush=True)  # noqa: T201


def say_when_joined(subscriber: "Subscriber") -> None:
    """Print so, from a thread, as soon as it is true; whoever iterates has to begin for that."""

    def wait() -> None:
        while not subscriber.is_joined:
            time.sleep(0.01)
        say_joined()

    threading.Thread(target=wait, daemon=True).start()


def end_with_input() -> None:
    """End this process, whatever it is doing, when its standard input does; a child of it that shares that, too."""

    def end() -> None:
        wait_for_end()
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
