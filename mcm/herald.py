"""The supervisor's own link: what it tells the router, and what it tells everybody, journaled in order like ticks."""

import time
from collections.abc import Sequence
from pathlib import Path

from mcm.core.gaps import GAP_TOPIC, GapRecord
from mcm.core.notices import CONTROL, STATUS, SUPERVISOR, LineNotice, Notice, group_of
from mcm.core.testing import Testing
from mcm.outlet import Outlet

__all__ = ["Herald"]


class Herald:
    """Sends notices; the router acknowledges by reporting how far it has taken this link.

    Attributes:
        acknowledged: number of the newest message that the router has taken.
    """

    def __init__(self, run_dir: Path, testing: Testing) -> None:
        self._outlet, self._names_gaps = Outlet(run_dir, SUPERVISOR, testing), testing.name_gaps
        self.acknowledged = 0

    @property
    def next_number(self) -> int:
        """Of the message that :meth:`say` sends next."""
        return self._outlet.sequence + 1

    def say(
        self,
        *,
        control: Sequence[Notice] = (),
        status: Sequence[LineNotice] = (),
        gaps: Sequence[GapRecord] = (),
    ) -> None:
        """Send notices, if there are any, as one batch."""
        told = ((CONTROL, control), (STATUS, status), (GAP_TOPIC, gaps if self._names_gaps else ()))
        groups = [group_of(topic, notices) for topic, notices in told if notices]
        if groups:
            self._outlet.send(groups, received_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())

    def heard(self, epoch: int, sequence: int) -> None:
        """The router has said how far it is."""
        if epoch == self._outlet.epoch:
            self.acknowledged = max(self.acknowledged, sequence)

    def tidy(self) -> None:
        """About once a second."""
        self._outlet.tidy()

    def close(self) -> None:
        """Bring the link to the disk."""
        self._outlet.close()
