"""Which line may dial, and when: one at a time, backed off, and never beyond what the account allows.

An account may hold few connections per market, and one too many **evicts** a healthy one.  So no line dials on its own:
it asks for a permit, and this object, fed with everything that happened, names the next one.

* One permit at a time; it ends at the upstream's answer, at the end of the line or process, or after 10 s.
* Full jitter from 0.5 s to 60 s.  A line that has carried data for 60 s starts over, its first redial at once.
* The allowance of a market starts at the account's; an eviction lowers it to the lines that still stand.  The evicted
  line is parked, never redialled: when our own newest dial caused it (a half-open line still counts at the upstream),
  a redial would evict the newcomer in turn, for ever.
* A parked line tries again, alone, after 60 s, doubling up to 30 min; a trial that stands for 10 s may be followed by
  the next one.
* After a line has died without a sign, the upstream may count it for some seconds more: the next dial waits 2 s.
* A refused key stops its market until a human acts.

All times are monotonic seconds.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from mcm.core.backoff import full_jitter

__all__ = ["Governor", "LineState", "Reason"]

PERMIT_S = 10.0
HEALTHY_S = 60.0
BACKOFF_S = (0.5, 60.0)
STANDS_S = 10.0
TRIAL_S = (60.0, 1_800.0)
AFTER_SILENT_DEATH_S = 2.0


class Reason:
    """Why a line ended; the words appear in status."""

    ASKED = "asked"
    AUTH_FAILED = "auth_failed"
    DIAL_FAILED = "dial_failed"
    CLOSED = "closed"
    ABORTED = "aborted"
    EVICTED = "max_connections"
    NO_PONG = "no_pong"
    SLOT_TAKEN = "slot_taken"
    STALE = "stale"
    WORKER_DIED = "worker_died"


class LineState(Enum):
    """What a line does, as far as dialling is concerned."""

    ABSENT = "absent"  # it would dial, but its worker is not there
    WAITING = "waiting"
    DIALLING = "dialling"
    UP = "up"
    PARKED = "parked"  # beyond the account's allowance
    REFUSED = "refused"  # the key was refused; a human has to act


@dataclass
class _Line:
    market: str
    present: bool = False
    state: LineState = LineState.WAITING
    not_before: float = 0.0
    attempts: int = 0
    reason: str = ""
    detail: str = ""


@dataclass
class _Market:
    configured: int
    allowed: int
    last_dial: float = -math.inf
    hold_until: float = -math.inf
    last_eviction: float = -math.inf
    trial_delay_s: float = TRIAL_S[0]
    trial_at: float = math.inf
    trial: str | None = None


@dataclass
class Governor:
    """The dials of all lines of one account.

    Args:
        lines: name → market, in the order in which they are to be dialled.
        max_connections: per market, what the account allows as far as is known.
        rng: for the jitter.
    """

    lines: Mapping[str, str]
    max_connections: int
    rng: Random
    _lines: dict[str, _Line] = field(init=False)
    _markets: dict[str, _Market] = field(init=False)
    _permit: tuple[str, float] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """No worker is there yet, and every market has its full allowance."""
        self._lines = {name: _Line(market) for name, market in self.lines.items()}
        self._markets = {}
        for market, number in Counter(self.lines.values()).items():
            allowed = min(number, self.max_connections)
            self._markets[market] = _Market(configured=allowed, allowed=allowed)

    # --- what happened ---

    def present(self, name: str) -> None:
        """The line's worker is ready to dial."""
        self._lines[name].present = True

    def absent(self, name: str) -> None:
        """The line's worker is gone; the kernel has closed its socket, so the upstream knows.

        No back-off here: how often a process may die is the restart policy's business.
        """
        line = self._lines[name]
        line.present = False
        if line.state in {LineState.DIALLING, LineState.UP}:
            self._ended(name, line)

    def answered(self, name: str) -> None:
        """The upstream has accepted the line's key: it counts, and the permit is free."""
        line = self._lines[name]
        line.state, line.reason, line.detail = LineState.UP, "", ""
        self._release(name)
        for other in self._of(line.market):
            if other.state is LineState.REFUSED:  # the key is good after all
                other.state = LineState.WAITING

    def closed(self, name: str, reason: str, detail: str, *, now: float, fed_s: float) -> None:
        """The line ended after it had carried data for *fed_s* seconds, or its dial failed (0)."""
        line = self._lines[name]
        self._ended(name, line)
        line.reason, line.detail = reason, detail
        if reason in {Reason.EVICTED, Reason.SLOT_TAKEN}:
            line.state = LineState.PARKED
            self._lower(line.market, now)
        elif reason == Reason.AUTH_FAILED:
            for other in self._of(line.market):
                if other.state is not LineState.UP:
                    other.state, other.reason, other.detail = LineState.REFUSED, reason, detail
        elif reason != Reason.ASKED:
            self._back_off(line, now=now, fed_s=fed_s)
            if reason == Reason.NO_PONG:
                self._markets[line.market].hold_until = now + AFTER_SILENT_DEATH_S

    def _ended(self, name: str, line: _Line) -> None:
        line.state = LineState.WAITING
        self._release(name)
        if self._markets[line.market].trial == name:
            self._markets[line.market].trial = None

    def _release(self, name: str) -> None:
        if self._permit is not None and self._permit[0] == name:
            self._permit = None

    def _back_off(self, line: _Line, *, now: float, fed_s: float) -> None:
        if fed_s >= HEALTHY_S:
            line.attempts, line.not_before = 0, now
            return
        base_s, cap_s = BACKOFF_S
        line.not_before = now + full_jitter(line.attempts, base_s=base_s, cap_s=cap_s, rng=self.rng)
        line.attempts += 1

    def _lower(self, market_name: str, now: float) -> None:
        """Allow no more than what still stands, park who waits, and plan a trial."""
        market = self._markets[market_name]
        market.allowed = self._taken(market_name)
        since_s = now - market.last_eviction
        market.last_eviction = now
        if since_s > 2 * market.trial_delay_s + TRIAL_S[0]:
            market.trial_delay_s = TRIAL_S[0]
        elif since_s > STANDS_S:  # nearer ones are the same event, seen by several lines
            market.trial_delay_s = min(TRIAL_S[1], market.trial_delay_s * 2)
        market.trial_at, market.trial = now + market.trial_delay_s, None
        for line in self._of(market_name):
            if line.state is LineState.WAITING:
                line.state, line.reason = LineState.PARKED, Reason.EVICTED
                line.detail = f"the account allows {market.allowed}"

    def revive(self, name: str) -> None:
        """A human acted: the line starts over at once, its back-off, refused key or parking forgotten."""
        line = self._lines[name]
        market = self._markets[line.market]
        line.attempts, line.not_before = 0, -math.inf
        if line.state is LineState.REFUSED:
            line.state = LineState.WAITING
        elif line.state is LineState.PARKED:
            line.state = LineState.WAITING
            market.allowed = min(market.configured, max(market.allowed, self._taken(line.market) + 1))

    # --- what follows ---

    def next(self, *, now: float) -> str | None:
        """The line that may dial now, if any; it holds the permit from here on."""
        if self._permit is not None and now - self._permit[1] < PERMIT_S:
            return None
        for name, line in self._lines.items():
            market = self._markets[line.market]
            if (
                line.state is LineState.WAITING
                and line.present
                and now >= max(line.not_before, market.hold_until)
                and self._taken(line.market) < market.allowed
            ):
                return self._grant(name, line, now)
        return self._try_upwards(now)

    def _try_upwards(self, now: float) -> str | None:
        for name, line in self._lines.items():
            market = self._markets[line.market]
            if market.trial is not None and now - market.last_dial >= STANDS_S:
                market.trial, market.trial_at = None, now  # it stands: the next one may try
            if line.state is LineState.PARKED and line.present and market.trial is None and now >= market.trial_at:
                market.trial, market.trial_at = name, math.inf
                market.allowed = min(market.configured, self._taken(line.market) + 1)
                return self._grant(name, line, now)
        return None

    def _grant(self, name: str, line: _Line, now: float) -> str:
        line.state = LineState.DIALLING
        self._markets[line.market].last_dial = now
        self._permit = (name, now)
        return name

    def _of(self, market: str) -> list[_Line]:
        return [line for line in self._lines.values() if line.market == market]

    def _taken(self, market: str) -> int:
        return sum(line.state in {LineState.UP, LineState.DIALLING} for line in self._of(market))

    # --- what it looks like ---

    def state(self, name: str) -> LineState:
        """What the line does."""
        line = self._lines[name]
        return LineState.ABSENT if line.state is LineState.WAITING and not line.present else line.state

    def may_carry(self, name: str) -> bool:
        """Whether items may be given to this line: it is neither parked nor refused, nor still on trial."""
        line = self._lines[name]
        barred = line.state in {LineState.PARKED, LineState.REFUSED} or self._markets[line.market].trial == name
        return not barred

    def why(self, name: str) -> tuple[str, str]:
        """(reason, detail) of the line's last end; empty while it is up."""
        line = self._lines[name]
        return line.reason, line.detail

    def waits_s(self, name: str, *, now: float) -> float:
        """Seconds until the line may dial, as far as its own back-off goes."""
        return max(0.0, self._lines[name].not_before - now)

    def attempts(self, name: str) -> int:
        """Failed or short-lived dials since the line last was healthy."""
        return self._lines[name].attempts

    def trial_in_s(self, market: str, *, now: float) -> float | None:
        """Seconds until a parked line of *market* tries again; None when none will."""
        at = self._markets[market].trial_at
        return None if at == math.inf else max(0.0, at - now)

    def allowed(self, market: str) -> int:
        """How many lines of *market* the account is known to allow."""
        return self._markets[market].allowed

    def running(self, market: str) -> int:
        """How many lines of *market* are up."""
        return sum(line.state is LineState.UP for line in self._of(market))
