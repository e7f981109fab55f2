"""How long a worker rests behind a batch: not at all while there are processors to spare.

A wake-up costs nearly the same for one tick as for twenty, in the worker and in everybody behind it.  With processors
to spare that is no matter, and every tick leaves at once.  Where processes have to wait for one, fewer and larger
batches shorten the wait: at 20,000 ticks/s on two cores, one in each frame, half of the ticks took more than 50 ms
without a rest, and 1.1 ms with it.
"""

__all__ = ["LONGEST_S", "LOOK_S", "Respite"]

LOOK_S = 0.05
LONGEST_S = 0.001
_SHORTEST_S = 0.0001
_STEP = 1.5
# Shares of the time in which this process was ready to run and did not.
_CROWDED, _SPACIOUS = 0.10, 0.05


class Respite:
    """Learns from how long this process had to wait for a processor.

    Attributes:
        rest_s: 0 to LONGEST_S.
    """

    def __init__(self) -> None:
        self.rest_s = 0.0
        self._waited_ns = 0
        self._looked: float | None = None

    def observe(self, waited_ns: int, *, now: float) -> None:
        """Take how long it has waited in all; every LOOK_S or so, *now* in monotonic seconds."""
        looked, before = self._looked, self._waited_ns
        self._looked, self._waited_ns = now, waited_ns
        if looked is None or now <= looked:
            return
        share = (waited_ns - before) / 1e9 / (now - looked)
        if share > _CROWDED:
            self.rest_s = min(LONGEST_S, max(_SHORTEST_S, _STEP * self.rest_s))
        elif share < _SPACIOUS:
            rest_s = self.rest_s / _STEP
            self.rest_s = rest_s if rest_s >= _SHORTEST_S else 0.0
