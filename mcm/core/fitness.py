"""Which lines may carry topics, as far as their health goes.

A line that is down for longer than a hiccup of this machine is *unfit*: survivors carry its topics.  Once it is up it
is on probation, and fit again after a minute without another end, after twice as long if it relapsed soon; so a
flapping line does not drag its topics to and fro.  All times are monotonic seconds.
"""

import math
from dataclasses import dataclass, field

__all__ = ["Fitness"]

# A redial with TLS, key and subscriptions takes 0.3 s and more, survivors confirm within one round trip: what waits
# for the redial loses ticks, and to go back costs none.
PATIENCE_S = 0.1
START_S = 10.0  # a line that was never up has so long before others take over
PROBATION_S = (60.0, 1_800.0)
FORGIVEN_S = 600.0  # up for so long, its relapses are forgotten


@dataclass
class _Line:
    down_since: float
    up_since: float | None = None
    was_up: bool = False
    is_fit: bool = True
    probation_s: float = PROBATION_S[0]


@dataclass
class Fitness:
    """The health of the lines named so far; unknown ones begin as down since *now*."""

    _lines: dict[str, _Line] = field(default_factory=dict)

    def observe(self, name: str, *, is_up: bool, now: float) -> None:
        """Take the present state of a line; to be called at least several times a second."""
        line = self._lines.setdefault(name, _Line(now))
        if is_up and line.up_since is None:
            line.up_since, line.was_up = now, True
        elif not is_up and line.up_since is not None:
            if now - line.up_since > FORGIVEN_S:
                line.probation_s = PROBATION_S[0]
            line.down_since, line.up_since = now, None
        if line.up_since is None:
            patience_s = PATIENCE_S if line.was_up else START_S
            if line.is_fit and now - line.down_since >= patience_s:
                line.is_fit = False
        elif not line.is_fit and now - line.up_since >= line.probation_s:
            line.is_fit = True
            line.probation_s = min(PROBATION_S[1], 2 * line.probation_s)

    def forget(self, name: str) -> None:
        """The line is no more."""
        self._lines.pop(name, None)

    def is_fit(self, name: str) -> bool:
        """Whether topics may be given to the line, or left with it."""
        return name not in self._lines or self._lines[name].is_fit

    def is_up(self, name: str) -> bool:
        """Whether the line lives, fit or on probation."""
        return name in self._lines and self._lines[name].up_since is not None

    def fit_in_s(self, name: str, *, now: float) -> float:
        """Seconds until a line on probation gets its topics back; infinite while it is down, 0 when it is fit."""
        line = self._lines.get(name)
        if line is None or line.is_fit:
            return 0.0
        return math.inf if line.up_since is None else max(0.0, line.up_since + line.probation_s - now)
