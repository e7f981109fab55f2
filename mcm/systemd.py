"""What systemd is told, when it started us as ``Type=notify``: ready, alive, how we are, reloading, stopping.

Without it, nothing happens.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping

from mcm.core.legible import legible

__all__ = ["Notifier"]

STATUS_S = 5.0


class Notifier:
    """Speaks sd_notify(3) over the socket named in *environment*; tells the watchdog twice per interval."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # The watchdog may be meant for another process than the one that inherited its variables.
        is_ours = environment.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
        self._watchdog_s = int(environment.get("WATCHDOG_USEC") or 0) / 2e6 if is_ours else 0.0
        self._watchdog_due = self._status_due = 0.0
        self._is_ready = False

    def _tell(self, *assignments: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)  # a service manager that does not read must not stop us
            sock.sendto("\n".join(assignments).encode(errors="replace"), self._address)

    def ready(self) -> None:
        """Whoever waits for us may go on."""
        self._is_ready = True
        self._tell("READY=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is read anew for as long as the block lasts."""
        if self._is_ready:  # before, the READY at its end would be a lie
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")
        try:
            yield
        finally:
            if self._is_ready:
                self._tell("READY=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def turn(self, now: float, words: Callable[[], str]) -> None:
        """To be called by the loop whose turning is what the watchdog watches; *words* for ``systemctl status``."""
        if not self._address:
            return
        if self._watchdog_s and now >= self._watchdog_due:
            self._watchdog_due = now + self._watchdog_s
            self._tell("WATCHDOG=1")
        if now >= self._status_due:
            self._status_due = now + STATUS_S
            # Words of an upstream may be among them: a line feed would begin another assignment.
            self._tell("STATUS=" + legible(words(), " "))
