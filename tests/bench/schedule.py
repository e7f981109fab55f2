"""When each tick of an open-loop load is due, and how late it came.  Pure.

Latency counts from the schedule and not from the sending: a generator that is held up by the receiver would else leave
out just the moments that matter (coordinated omission).
"""

from typing import NamedTuple

from tests.bench.tape import FIRST_NUMBER

__all__ = ["Schedule"]


class Schedule(NamedTuple):
    """An even load.

    Attributes:
        begun_ns: CLOCK_MONOTONIC, when the first frame is due.
        ticks_per_s: over all connections.
        events_per_frame: a frame is due with the last of its events.
    """

    begun_ns: int
    ticks_per_s: float
    events_per_frame: int

    def due_ns(self, frame: int) -> int:
        """When a frame is to be sent."""
        return self.begun_ns + round((frame + 1) * self.events_per_frame / self.ticks_per_s * 1e9)

    def due_of(self, number: int) -> int:
        """When the tick of this ``q`` was to be sent."""
        return self.due_ns((number - FIRST_NUMBER) // self.events_per_frame)
