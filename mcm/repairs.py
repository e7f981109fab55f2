"""Has the gaps repaired: starts the back-filling process when there is one to repair, and lets it go when all are."""

import logging
from collections.abc import Callable

from mcm.children import Child
from mcm.core.control import BackfillReport, Ready, Repair, Up, in_chunks
from mcm.core.gaps import GapClosed

__all__ = ["Repairs"]

log = logging.getLogger("mcm.supervisor")

IDLE_S = 120.0
WAITING = 10_000  # repairs, each of many topics; beyond, the oldest is given up


class Repairs:
    """What is to be repaired, and the process that does it.

    Args:
        hire: makes that process, to be started.

    Attributes:
        child: the process, while there is one.
        refused: market or channel → why the vendor's REST side does not serve it.
    """

    def __init__(self, hire: Callable[[], Child]) -> None:
        self._hire = hire
        self._unfinished: list[Repair] = []
        self._sent: list[Repair] = []  # to the present life, in its order
        self._idle_since: float | None = None
        self.child: Child | None = None
        self.refused: dict[str, str] = {}

    def gap_closed(self, gap: GapClosed, rank: int) -> None:
        """Topics are carried again: fetch what they missed, lower ranks first."""
        for chunk in in_chunks(gap.topics):
            repair = Repair(gap.id, tuple(chunk), gap.since_ns, gap.until_ns, rank)
            self._unfinished.append(repair)
            self._send(repair)
        if (surplus := len(self._unfinished) - WAITING) > 0:
            log.error("%d repairs are given up: too many are waiting", surplus)
            del self._unfinished[:surplus]

    def _send(self, repair: Repair) -> None:
        if self.child is not None and self.child.state == "ready":
            self._sent.append(repair)
            self.child.send(repair)

    def heard(self, record: Up) -> None:
        """Take a report of the process."""
        match record:
            case Ready():  # a new life: what the last one did not finish, it publishes no part of twice
                self._sent = []
                for repair in self._unfinished:
                    self._send(repair)
            case BackfillReport():
                self.refused = record.refused
                open_ones = set(record.unfinished)
                done = {id(one) for n, one in enumerate(self._sent[: record.taken], start=1) if n not in open_ones}
                self._unfinished = [repair for repair in self._unfinished if id(repair) not in done]
            case _:
                log.error("backfill: unexpected report %s", type(record).__name__)

    def turn(self, now: float) -> None:
        """Start the process when it is needed, end it when it has been idle for long."""
        if self._unfinished:
            self._idle_since = None
            self.child = self.child or self._hire()
        elif self.child is not None:
            self._idle_since = self._idle_since or now
            if now - self._idle_since > IDLE_S:
                self.child.dismiss()
        if self.child is not None:
            self.child.turn(now)
            if self.child.state == "stopped" and self.child.process is None:
                self.child = None
