"""How much each topic ticks: an exponentially weighted rate, of which only what has changed is told."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Rates"]

TIME_CONSTANT_S = 30.0
NOTICEABLE = 0.1  # of the rate told last
NEGLIGIBLE = 0.05  # ticks per second


@dataclass
class Rates:
    """Of all topics of one line, in ticks per second."""

    _of: dict[str, float] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict)
    _new: set[str] = field(default_factory=set)
    _updates: int = 0

    def update(self, counts: Mapping[str, int], elapsed_s: float) -> dict[str, float]:
        """Take what ticked in the last *elapsed_s* seconds; the rates that differ noticeably from what was told.

        The time in which a topic ticks for the first time is not counted: it may have begun in the middle.
        """
        self._updates += 1
        weight = 1.0 - math.exp(-elapsed_s / TIME_CONSTANT_S)
        for name in self._of.keys() - counts.keys():
            self._of[name] *= 1.0 - weight
        for name, count in counts.items():
            rate = count / elapsed_s
            before = self._of.get(name)
            if before is not None:
                self._of[name] = before + weight * (rate - before)
            elif name in self._new:
                self._new.discard(name)
                self._of[name] = rate
            else:
                self._new.add(name)
        news = {}
        for name, rate in self._of.items():
            told = self._told.get(name, 0.0)
            if abs(rate - told) > max(NEGLIGIBLE, NOTICEABLE * told):
                news[name] = self._told[name] = round(rate, 3)
        return news

    @property
    def is_settled(self) -> bool:
        """Whether whatever ticks has a rate."""
        return self._updates > 1 and not self._new

    def forget(self, names: set[str]) -> None:
        """These are carried no more."""
        self._new -= names
        for name in names:
            self._of.pop(name, None)
            self._told.pop(name, None)
