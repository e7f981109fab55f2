"""The two number lines: our sequence per topic and the global offset.

Both are dense, so that a jump is a loss and is counted.  (The upstream's own numbers have holes, which say nothing.)
"""

from dataclasses import dataclass, field

__all__ = ["Numbering"]


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
