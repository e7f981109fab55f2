"""The last ten minutes of every line, for a page that has just been opened."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["History"]

INTERVAL_S = 2.0
POINTS = 300


@dataclass
class History:
    """Ticks per second of every line at fixed intervals; a line that was not there yet has nulls.

    Attributes:
        count: points taken so far, so that whoever has some of them knows which are new.
    """

    count: int = 0
    _of: dict[str, deque[float | None]] = field(default_factory=dict)
    _next_at: float = 0.0

    def observe(self, rates: Mapping[str, float], now: float) -> bool:
        """Take a point if one is due at monotonic time *now*; whether it was."""
        if now < self._next_at:
            return False
        late_s = now - self._next_at  # on a grid, but without making up for a pause
        self._next_at = self._next_at + INTERVAL_S if late_s < INTERVAL_S else now + INTERVAL_S
        known = min(self.count, POINTS)
        for name in rates.keys() - self._of.keys():
            self._of[name] = deque([None] * known, maxlen=POINTS)
        for name, points in self._of.items():
            points.append(round(rates[name], 1) if name in rates else None)
        self.count += 1
        for name in [name for name, points in self._of.items() if not any(one is not None for one in points)]:
            del self._of[name]
        return True

    def points(self) -> dict[str, list[float | None]]:
        """Line → its points, oldest first."""
        return {name: list(points) for name, points in self._of.items()}

    def newest(self, names: Iterable[str]) -> dict[str, float | None]:
        """The last point of each of these lines."""
        return {name: self._of[name][-1] if self._of.get(name) else None for name in names}
