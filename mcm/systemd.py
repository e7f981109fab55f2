"""What systemd is told, when it started us as ``Type=notify``: ready, alive, stopping.  Without it, nothing happens."""

import contextlib
import socket
from collections.abc import Mapping

__all__ = ["Notifier"]


class Notifier:
    """Speaks sd_notify(3) over the socket named in *environment*; tells the watchdog twice per interval."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = int(environment.get("WATCHDOG_USEC") or 0) / 2e6
        self._due = 0.0

    def tell(self, state: str) -> None:
        """Send e.g. ``READY=1``."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), self._address)

    def turn(self, now: float) -> None:
        """To be called by the loop whose turning is what the watchdog watches."""
        if self._watchdog_s and now >= self._due:
            self._due = now + self._watchdog_s
            self.tell("WATCHDOG=1")
