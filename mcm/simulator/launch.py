"""Start a simulator as a process of its own, for a test, and end it again::

with launch("--ticks-per-s", "100") as simulator:
    my_program.connect(simulator.url("stocks"))
    simulator.remote.drop()
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mcm.simulator.remote import Remote

__all__ = ["Simulator", "launch"]

_LISTENING = re.compile(r"simulator: listening on 127\.0\.0\.1:(\d+), orders on 127\.0\.0\.1:(\d+)")
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Simulator:
    """A running simulator: where it listens, and what it takes orders by."""

    process: subprocess.Popen[str]
    port: int
    orders_port: int

    @property
    def remote(self) -> Remote:
        """Its remote control."""
        return Remote(self.orders_port)

    @property
    def rest_url(self) -> str:
        """Base of the vendor's REST paths."""
        return f"http://127.0.0.1:{self.orders_port}"

    def url(self, market: str) -> str:
        """Of the WebSocket of *market*."""
        return f"ws://127.0.0.1:{self.port}/{market}"


@contextmanager
def launch(*options: str) -> Iterator[Simulator]:
    """Run ``python -m mcm.simulator`` with *options* on free ports, until the block ends.

    Raises RuntimeError when it does not start; its complaint stands on stderr.
    """
    command = [sys.executable, "-P", "-m", "mcm.simulator", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            listening = _LISTENING.match(process.stdout.readline())
            if listening is None:
                raise RuntimeError(f"`{' '.join(command)}` did not start; it ended with {process.wait(_PATIENCE_S)}")
            yield Simulator(process, int(listening[1]), int(listening[2]))
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
