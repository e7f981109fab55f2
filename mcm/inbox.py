"""A SUB socket that is read at all times, whatever its user does: in a thread, into memory that is bounded in bytes.

When the user is so slow that the bound is reached, everything is thrown away and that is said: the journal has it.
While the user has frames at hand, the thread takes its time: to fetch each message as it comes only takes the
interpreter away from the user, and cost a third of the processor time of both.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mcm import bus

__all__ = ["DOUBT", "Inbox"]

MAX_BYTES = 64 * 1024 * 1024
_BURST = 1_000
_POLL_MS = 200
_BREATH_S = 0.0005


class _Doubt:
    """The type of DOUBT."""


DOUBT = _Doubt()


class Inbox:
    """Reads *prefixes* from *run_dir* until closed.

    What :meth:`get` returns are frames in their order, or DOUBT: the socket has lost its router, or its user is too
    slow for the memory, so that frames may be missing before the next ones.
    """

    def __init__(self, run_dir: Path, prefixes: Iterable[bytes], *, max_bytes: int = MAX_BYTES) -> None:
        self._address = bus.endpoint(run_dir, bus.TICKS)
        self._prefixes, self._max_bytes = list(prefixes), max_bytes
        self._waiting: queue.SimpleQueue[list[bytes] | _Doubt] = queue.SimpleQueue()
        self._size = self._taken = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name="mcm:inbox", daemon=True)
        self.overflows = 0

    def start(self) -> None:
        """Connect and begin to read; once."""
        self._thread.start()

    def get(self, timeout_s: float) -> list[bytes] | _Doubt | None:
        """What came next; None if nothing comes in time."""
        try:
            found = self._waiting.get(timeout=timeout_s) if timeout_s > 0 else self._waiting.get_nowait()
        except queue.Empty:
            return None
        if isinstance(found, list):
            self._taken += sum(map(len, found))
        return found

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _read(self) -> None:
        context: bus.Context[bus.Socket[bytes]] = bus.Context()
        try:
            socket = bus.subscriber(context, self._address, self._prefixes)
            disconnects = bus.disconnects(socket)
            poller = bus.Poller()
            poller.register(socket, 1)  # readable
            poller.register(disconnects, 1)
            while not self._closing.is_set():
                ready = dict(poller.poll(_POLL_MS))
                if disconnects in ready:
                    self._waiting.put(DOUBT)
                    while bus.receive_nowait(disconnects) is not None:
                        pass
                is_user_busy = not self._waiting.empty()
                if not self._take(socket.recv, self._waiting.put) and is_user_busy:
                    time.sleep(_BREATH_S)
        finally:
            context.destroy(linger=0)

    def _take(self, receive: Callable[..., bytes], put: Callable[[list[bytes]], None]) -> bool:
        """Take what is there; whether there may be more."""
        burst: list[bytes] = []
        with contextlib.suppress(bus.Again):
            while len(burst) < _BURST:
                burst.append(receive(bus.DONTWAIT))
        if not burst:
            return False
        self._size += sum(map(len, burst))
        if self._size - self._taken > self._max_bytes:
            self._throw_away()
        else:
            put(burst)
        return len(burst) == _BURST

    def _throw_away(self) -> None:
        self.overflows += 1
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._size = self._taken
        self._waiting.put(DOUBT)
