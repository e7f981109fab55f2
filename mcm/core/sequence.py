"""The two number lines: our sequence per topic and the global offset, and where the router stands on each link.

All of them are dense, so that a jump is a loss and is counted.  (The upstream's own numbers have holes, which say
nothing.)
"""

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["LinkPositions", "Numbering", "Step"]


@dataclass
class Numbering:
    """Hands out numbers to published messages.

    Attributes:
        epoch: random; numbers of another epoch have nothing to do with these.
        offset: of the last message, 0 before the first.
        next_of: topic → the sequence its next tick gets; topics unknown here start at 1.
    """

    epoch: int
    offset: int = 0
    next_of: dict[bytes, int] = field(default_factory=dict)

    def number(self, topic: bytes, ticks: int) -> tuple[int, int]:
        """(offset, sequence of the first tick) for a message of so many *ticks* on *topic*."""
        first = self.next_of.get(topic, 1)
        self.next_of[topic] = first + ticks
        self.offset += 1
        return self.offset, first


class Step(Enum):
    """How a batch follows what came before on its link."""

    NEXT = "next"
    OLD = "old"  # known already: drop it
    GAP = "gap"  # batches before it are missing


@dataclass
class LinkPositions:
    """The last batch taken from every link: ``connection → (link epoch, sequence)``."""

    taken: dict[str, tuple[int, int]] = field(default_factory=dict)

    def step(self, connection: str, epoch: int, sequence: int) -> tuple[Step, int]:
        """Take a batch, unless it is old; with the number of batches missing before it."""
        known_epoch, known = self.taken.get(connection, (None, 0))
        if epoch != known_epoch:
            known = 0  # a new incarnation of the worker counts from 1
        if sequence <= known:
            return Step.OLD, 0
        self.taken[connection] = (epoch, sequence)
        missing = sequence - known - 1
        return (Step.GAP, missing) if missing else (Step.NEXT, 0)
