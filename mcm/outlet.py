"""The sending end of a link: every batch into the link file first, then over the socket, which may drop it.

What the socket drops, or a killed router had taken, the router reads from the file.
"""

import logging
import secrets
from pathlib import Path
from random import Random

from mcm import bus
from mcm.core.testing import Testing
from mcm.core.wire import Batch, Group, encode_batch
from mcm.journal import LogFull
from mcm.links import OutgoingLink

__all__ = ["Outlet"]

log = logging.getLogger("mcm.link")

LINGER_MS = 500


class Outlet:
    """The link *name* of this process, from its start to its end; raises UsageError when another process writes it.

    Attributes:
        epoch: of this incarnation; sequence: of the last batch sent, 0 before the first.
        skipped: batches that the socket did not take; lost: those that the file did not take either.
    """

    def __init__(self, run_dir: Path, name: str, testing: Testing) -> None:
        self.name, self.epoch = name, secrets.randbits(63)
        self._testing, self._chance = testing, Random()
        self._file = OutgoingLink(run_dir, name, self.epoch, keep=testing.keep_links)
        self._context: bus.Context[bus.Socket[bytes]] = bus.Context()
        self._socket = bus.push(self._context, run_dir, high_water_mark=testing.high_water_mark)
        self.sequence = self.skipped = self.lost = 0

    def send(self, groups: list[Group], *, received_ns: int, monotonic_ns: int) -> None:
        """Hand one batch on; never waits."""
        self.sequence += 1
        frame = encode_batch(Batch(self.name, self.epoch, self.sequence, monotonic_ns, received_ns, groups))
        try:
            self._file.append(self.sequence, received_ns, frame)
        except LogFull as error:
            log.warning("the link file does not take batches, the socket alone does: %s", error)
            self.lost += not self._push(frame)
        else:
            self.skipped += not self._push(frame)

    def _push(self, frame: bytes) -> bool:
        if self._testing.drop_push and self._chance.random() < self._testing.drop_push:
            return False
        return bus.send_nowait(self._socket, frame)

    def tidy(self) -> None:
        """Delete what the router has taken; about once a second."""
        self._file.tidy()

    def close(self) -> None:
        """Bring the file to the disk; what the socket still holds has half a second to leave."""
        self._context.destroy(linger=LINGER_MS)
        self._file.close()
