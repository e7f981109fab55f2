"""How long things take, as histograms: what they show is a sample, and its buckets grow with the value."""

from bisect import bisect_left
from dataclasses import dataclass, field

__all__ = ["BOUNDS_S", "Histogram", "Recent"]

# Upper ends, in seconds; what takes longer falls behind the last.
BOUNDS_S = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 1_000.0,
)  # fmt: skip


@dataclass
class Histogram:
    """Counts by bucket; bucket i holds what is at most ``BOUNDS_S[i]``, the last one everything longer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Take one value; clocks of two machines can make it negative, which counts as nothing."""
        seconds = max(0.0, seconds)
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def total(self) -> int:
        """How many values it holds."""
        return sum(self.counts)

    def quantile_s(self, share: float) -> float | None:
        """What so much of the values is at most, interpolated within its bucket; None for no values."""
        rank, total = share * self.total, 0
        if not self.total:
            return None
        for index, count in enumerate(self.counts):
            if count and total + count >= rank:
                low = BOUNDS_S[index - 1] if index else 0.0
                high = BOUNDS_S[index] if index < len(BOUNDS_S) else BOUNDS_S[-1]
                return low + (high - low) * max(0.0, rank - total) / count
            total += count
        return BOUNDS_S[-1]

    def __add__(self, other: "Histogram") -> "Histogram":
        """Both together."""
        counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        return Histogram(counts, self.sum_s + other.sum_s)


@dataclass
class Recent:
    """All values so far, and those of the last half to whole minute.

    Attributes:
        whole: since the beginning, for whoever takes differences itself.
    """

    whole: Histogram = field(default_factory=Histogram)
    _older: Histogram = field(default_factory=Histogram)
    _newer: Histogram = field(default_factory=Histogram)
    _turned_at: float = 0.0
    HALF_S = 30.0

    def add(self, seconds: float, now: float) -> None:
        """Take one value at monotonic time *now*."""
        self._turn(now)
        self.whole.add(seconds)
        self._newer.add(seconds)

    def recent(self, now: float) -> Histogram:
        """What came lately."""
        self._turn(now)
        return self._older + self._newer

    def _turn(self, now: float) -> None:
        if now - self._turned_at >= 2 * self.HALF_S:
            self._older, self._newer, self._turned_at = Histogram(), Histogram(), now
        elif now - self._turned_at >= self.HALF_S:
            self._older, self._newer, self._turned_at = self._newer, Histogram(), self._turned_at + self.HALF_S
