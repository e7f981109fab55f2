"""How often a line speaks, so that silence can be told from death.

Learned from the ticks of the last minute or so, and from what the hours of its market say, if they are known.
All times are monotonic seconds.
"""

import math
from dataclasses import dataclass

from mcm.core.market_hours import Kind

__all__ = ["Rhythm", "Trading"]

_SLOT_S = 0.5
_RATE_MEMORY_S = 60.0
_SILENCE_MEMORY_S = 300.0
_KNOWN = 20.0  # so many ticks, and so many half seconds with ticks, make a habit
_QUIET_FACTOR = 20.0  # silent for so many mean intervals is no coincidence
_QUIET_S = (10.0, 120.0)
_QUIET_BETWEEN_BARS_S = 90.0
_QUIET_IN_OPEN_MARKET_S = 30.0
_KNOWN_EARLY = 9.0  # so many half seconds are enough in an open market, if they follow one another
_OWN_HABIT_S = 10 * _RATE_MEMORY_S  # after the close: whatever was heard before it is forgotten


@dataclass(frozen=True)
class Trading:
    """The session of the market, as far as a table knows it, and since when (monotonic seconds)."""

    kind: Kind
    since: float


@dataclass
class Rhythm:
    """How often a line speaks, so that silence can be told from death.

    Weighed are the half seconds in which it spoke, not its ticks: a minute's bars come in one burst, and say nothing
    about the silence that follows.
    """

    since: float = math.inf
    last: float = -math.inf
    slot: float = -math.inf
    ticks: float = 0.0
    slots: float = 0.0
    longest_s: float = 0.0

    def spoke(self, count: int, now: float) -> None:
        """So many ticks have come."""
        if self.since == math.inf:
            self.since = self.last = now
        if now - self.slot >= _SLOT_S:
            fades = math.exp((self.slot - now) / _RATE_MEMORY_S)
            self.ticks *= fades
            self.slots = self.slots * fades + 1
            self.longest_s *= math.exp((self.last - now) / _SILENCE_MEMORY_S)
            self.slot = now
        self.ticks += count
        self.longest_s = max(self.longest_s, now - self.last)
        self.last = now

    def quiet_limit_s(self, *, speaks_by_the_minute: bool) -> float | None:
        """Seconds of silence that its habits still explain; None before it has any."""
        if self.ticks < _KNOWN:
            return None
        shortest, longest = _QUIET_S
        if self.slots < _KNOWN:
            return longest
        observed_s = self.last - self.since
        if speaks_by_the_minute and observed_s < _RATE_MEMORY_S:
            shortest = _QUIET_BETWEEN_BARS_S
        return min(longest, max(shortest, _QUIET_FACTOR * self._mean_s(), 2 * self.longest_s))

    def _mean_s(self) -> float:
        """Between two half seconds with ticks."""
        observed_s = self.last - self.since
        return _RATE_MEMORY_S * (1 - math.exp(-max(1.0, observed_s) / _RATE_MEMORY_S)) / self.slots

    def quiet_limit_within_s(self, trading: Trading, *, speaks_by_the_minute: bool) -> float | None:
        """As quiet_limit_s, with what the market's hours tell: less where it is open, more elsewhere, never for long.

        Where it is closed and ticks flow all the same, the table is wrong about this line, and its own habits count.
        """
        own_s = self.quiet_limit_s(speaks_by_the_minute=speaks_by_the_minute)
        match trading.kind:
            case _ if own_s is None:
                return None
            case Kind.CLOSED:
                return own_s if self.last - trading.since >= _OWN_HABIT_S else None
            case Kind.THIN:
                return _QUIET_S[1]
            case Kind.OPEN:
                is_new = self.slots < _KNOWN and (self.slots < _KNOWN_EARLY or self._mean_s() > 2 * _SLOT_S)
                if is_new or (speaks_by_the_minute and self.last - self.since < _RATE_MEMORY_S):
                    return own_s
                return min(own_s, max(_QUIET_IN_OPEN_MARKET_S, _QUIET_FACTOR * self._mean_s()))
