"""Is a line dead that says nothing, although its market is open?  What can be concluded, and no more than that.

A line that has spoken for ten seconds is judged by its own habits alone (core.rhythm): its silences may be long.  One
that has just been opened has none; but something may be known of its topics:

* what each ticked when it was heard last, by this line or another;
* that a whole channel (``T.*``) of an open market is never silent;
* what topics of the same channel tick on other lines that speak right now.  Of ten topics or more it is assumed that
  they tick at least as much as the lowest tenth of those; of fewer, nothing: one rare symbol proves no death.

Silence is death when it is as improbable as e⁻²⁰ by that, and lasts for 15 s.  Should a new line be as silent as the
old one, the conclusion was wrong, or does not help: the next one needs twice the time, or eight times where no line of
the market speaks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mcm.core.topics import WILDCARD

__all__ = ["Seen", "Silence"]

SILENT_S = (15.0, 1_800.0)
CERTAIN = 20.0  # expected ticks, none of which came
COHORT = 10  # topics, and so many of others to compare them with
SPEAKS_S = 5.0
HABITS_S = 10.0
_SPARE = 1_000  # remembered rates of topics that nobody carries any more
_WHOLE_CHANNEL_PER_S = 2.0  # far below any that is open
_BUSY_CHANNELS = frozenset({"T", "Q", "A", "V", "C", "CAS", "XT", "XQ", "XAS"})


@dataclass(frozen=True)
class Seen:
    """One line at one moment.

    Attributes:
        items: that it carries: ``T.AAPL``, ``T.*``; may be left out while no line is silent for long.
        live_s: for how long it has been live; None while it is not.
        tick_age_s: seconds since its last tick; None before the first.
        is_watched: whether its worker knows its habits, and takes care of its silence; it forgets them when the market
            changes its session, and when something is unsubscribed.
    """

    market: str
    live_s: float | None
    tick_age_s: float | None
    items: frozenset[str] = frozenset()
    is_watched: bool = True

    @property
    def is_suspect(self) -> bool:
        """Whether it has been silent for so long, and has no habits that explain it."""
        return self.silent_s >= SILENT_S[0] and not self.has_habits

    @property
    def has_habits(self) -> bool:
        """Whether it has spoken for long enough to be judged by that, and is."""
        if not self.is_watched or self.live_s is None or self.tick_age_s is None:
            return False
        return self.live_s - self.tick_age_s >= HABITS_S

    @property
    def speaks(self) -> bool:
        """Whether it ticks right now."""
        return self.live_s is not None and self.tick_age_s is not None and self.tick_age_s < SPEAKS_S

    @property
    def silent_s(self) -> float:
        """For how long it has said nothing, although it is live."""
        return min(self.live_s or 0.0, self.tick_age_s if self.tick_age_s is not None else float("inf"))


@dataclass
class Silence:
    """Remembers what topics ticked, and judges lines by it."""

    _rates: dict[str, float] = field(default_factory=dict)  # topic → ticks/s when it was heard last
    _patience_s: dict[str, float] = field(default_factory=dict)  # of lines that were judged

    def measured(self, market: str, per_s: Mapping[str, float], carried: Collection[str]) -> None:
        """Take what a line that speaks has measured of its items, for those topics that somebody carries by name.

        Not of a silent one, which would wear down what is known.
        """
        for item, rate in per_s.items():
            if (topic := f"{market}.{item}") in carried:
                self._rates[topic] = rate
        if len(self._rates) > 2 * len(carried) + _SPARE:
            self._rates = {topic: rate for topic, rate in self._rates.items() if topic in carried}

    def forgive(self, lines: Mapping[str, Seen]) -> None:
        """A line that speaks again needs no more patience than any other; to be called also while none is suspect."""
        for name in list(self._patience_s):
            line = lines.get(name)
            if line is None or (line.speaks and (line.live_s or 0.0) > SILENT_S[0]):
                del self._patience_s[name]

    def judge(self, lines: Mapping[str, Seen], open_s: Mapping[str, float]) -> dict[str, str]:
        """Line → why it is taken for dead, for those that are; *open_s*: open market → for how many seconds it is."""
        self.forgive(lines)
        found = {}
        for name, line in lines.items():
            patience_s = self._patience_s.get(name, SILENT_S[0])
            silent_s = min(line.silent_s, open_s.get(line.market, 0.0))
            if silent_s < patience_s or line.has_habits:
                continue
            expected = silent_s * self._expected_per_s(line, [other for other in lines.values() if other is not line])
            if expected >= CERTAIN:
                # Where nobody speaks, the market may be closed after all: a holiday that no table has told us of.
                factor = 2 if any(other.speaks and other.market == line.market for other in lines.values()) else 8
                self._patience_s[name] = min(SILENT_S[1], factor * patience_s)
                found[name] = f"silent for {silent_s:.0f} s in an open market, expected were {expected:,.0f} ticks"
        return found

    def _expected_per_s(self, line: Seen, others: Sequence[Seen]) -> float:
        total, unknown = 0.0, dict[str, int]()
        for item in line.items:
            channel, _, symbol = item.partition(".")
            rate = self._rates.get(f"{line.market}.{item}")
            if symbol == WILDCARD:
                total += _WHOLE_CHANNEL_PER_S if channel in _BUSY_CHANNELS else 0.0
            elif rate is not None:
                total += rate
            else:
                unknown[channel] = unknown.get(channel, 0) + 1
        return total + sum(
            number * self._least_per_s(line.market, channel, others)
            for channel, number in unknown.items()
            if number >= COHORT
        )

    def _least_per_s(self, market: str, channel: str, others: Sequence[Seen]) -> float:
        """Ticks/s that nine of ten topics of other, speaking lines have at least; 0 where too few are known."""
        rates = sorted(
            self._rates.get(f"{market}.{item}", 0.0)
            for other in others
            if other.market == market and other.speaks
            for item in other.items
            if item.startswith(f"{channel}.") and not item.endswith(f".{WILDCARD}")
        )
        return rates[len(rates) // 10] if len(rates) >= COHORT else 0.0
