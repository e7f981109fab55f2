"""Which line may dial, and when: one at a time, backed off, and never beyond what the account allows.

An account may hold few connections per market, and one too many **evicts** a healthy one.  So no line dials on its own:
it asks for a permit, and this object, fed with everything that happened, names the next one.

* One permit at a time; it ends at the upstream's answer, at the end of the line or process, or after 10 s.
* Full jitter from 0.5 s to 60 s.  A line that has carried data for 60 s starts over, its first redial at once.
* The allowance of a market starts at the account's; an eviction lowers it to the lines that still stand.  The evicted
  line is parked, never redialled: when our own newest dial caused it (a half-open line still counts at the upstream),
  a redial would evict the newcomer in turn, for ever.
* A line without a place is parked.  It tries again, alone, after 60 s, doubling up to 30 min; a trial that stands for
  10 s may be followed by the next one.  One that ends otherwise than by an eviction has proved nothing: 60 s again.
* The place of a line whose worker has been gone for 5 s goes to a parked one.
* After a line has died without a sign, the upstream may count it for some seconds more: the next dial waits 2 s.
* A refused key stops its market until a human acts: nobody who waits dials.  A line that was up meanwhile may ask
  once itself; if its key is accepted, so is that of the others.
* Of several lines that may dial, the one goes first that has waited longest, so that a dark market delays no other.

Hence, per market: up + dialling + waiting ≤ allowed ≤ configured, and nobody waits who has no place.
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
MISSING_S = 5.0  # a crashed worker is usually back within a second
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
    PAUSED = "paused"  # a human does not want it to dial


@dataclass
class _Line:
    market: str
    present: bool = False
    missing_since: float = math.inf
    state: LineState = LineState.WAITING
    dialled: float = -math.inf
    not_before: float = -math.inf
    attempts: int = 0
    reason: str = ""
    detail: str = ""


@dataclass
class _Market:
    """What is known of one market; *trial* is the line that tries upwards, seen up since *trial_up*."""

    configured: int
    allowed: int
    hold_until: float = -math.inf
    last_eviction: float = -math.inf
    trial_delay_s: float = TRIAL_S[0]
    trial_at: float = -math.inf
    trial: str | None = None
    trial_up: float = math.inf


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
            self._park_excess(market)

    # --- which lines there are ---

    def add(self, name: str, market: str) -> None:
        """One more line; it has a place if the account allows it one."""
        self._lines[name] = _Line(market)
        known = self._markets.setdefault(market, _Market(configured=0, allowed=0))
        if known.configured < self.max_connections:
            had_all = known.allowed == known.configured
            known.configured += 1
            known.allowed += had_all
        self._park_excess(market)

    def remove(self, name: str) -> None:
        """The line is no more; a parked one may take its place."""
        line = self._lines.pop(name)
        self._vacate(name, line.market)
        market = self._markets[line.market]
        market.configured = min(self.max_connections, sum(one.market == line.market for one in self._lines.values()))
        market.allowed = min(market.allowed, market.configured)
        self._fill(line.market)

    def pause(self, name: str) -> None:
        """The line is not to dial; a parked one may take its place.  Closing it is the caller's business."""
        line = self._lines[name]
        self._vacate(name, line.market)
        line.state, line.reason, line.detail = LineState.PAUSED, "", ""
        self._fill(line.market)

    def resume(self, name: str) -> None:
        """The line may dial again."""
        line = self._lines[name]
        if line.state is LineState.PAUSED:
            line.state, line.attempts, line.not_before = LineState.WAITING, 0, -math.inf
            self._park_excess(line.market)

    def _vacate(self, name: str, market: str) -> None:
        """Give up what the line had beside its place: the permit, the trial."""
        self._release(name)
        if self._markets[market].trial == name:
            self._markets[market].trial = None
            self._markets[market].allowed -= 1

    def _fill(self, market: str) -> None:
        """Let parked lines wait for the places that are free, if the account was not seen to allow fewer."""
        known = self._markets[market]
        claims = self._taken(market) + len(self._of(market, LineState.WAITING))
        for line in self._of(market, LineState.PARKED)[: max(0, known.allowed - claims)]:
            line.state, line.reason, line.detail = LineState.WAITING, "", ""

    def learned(self, market: str, allowed: int, *, now: float) -> None:
        """An earlier life of mcm saw the account allow no more than that; a trial comes after the usual time."""
        known = self._markets.get(market)
        if known is not None and 0 < allowed < known.allowed:
            known.allowed, known.trial_at = allowed, now + known.trial_delay_s
            self._park_excess(market)

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
        if line.state is LineState.PAUSED:
            return
        if line.state in {LineState.DIALLING, LineState.UP}:
            self._ended(name, line)
            line.reason, line.detail = Reason.WORKER_DIED, "its process ended"

    def answered(self, name: str) -> None:
        """The upstream has accepted the line's key: it counts, and the permit is free."""
        line = self._lines[name]
        self._release(name)
        if line.state is LineState.PAUSED:
            return
        line.state, line.reason, line.detail = LineState.UP, "", ""
        for other in self._of(line.market, LineState.REFUSED):  # the key is good after all
            other.state = LineState.WAITING
        self._park_excess(line.market)

    def closed(self, name: str, reason: str, detail: str, *, now: float, fed_s: float) -> None:
        """The line ended after it had carried data for *fed_s* seconds, or its dial failed (0)."""
        line = self._lines[name]
        if line.state is LineState.PAUSED:
            self._release(name)
            return
        self._ended(name, line)
        line.reason, line.detail = reason, detail
        match reason:
            case Reason.EVICTED:
                line.state = LineState.PARKED
                self._evicted(line.market, now)
            case Reason.SLOT_TAKEN:
                line.state = LineState.PARKED
                self._crowded_out(line, now)
            case Reason.AUTH_FAILED:
                line.state = LineState.REFUSED
                for other in self._of(line.market, LineState.WAITING):
                    other.state, other.reason, other.detail = LineState.REFUSED, reason, detail
            case Reason.ASKED:
                pass
            case _:
                self._back_off(line, now=now, fed_s=fed_s)
                if reason == Reason.NO_PONG:
                    self._markets[line.market].hold_until = now + AFTER_SILENT_DEATH_S

    def _ended(self, name: str, line: _Line) -> None:
        line.state = LineState.WAITING
        self._release(name)
        market = self._markets[line.market]
        if market.trial == name:
            # Back to where it was: who is given items must have a place of its own.
            line.state = LineState.PARKED
            market.trial, market.trial_at = None, line.dialled + TRIAL_S[0]
            market.allowed -= 1

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

    def _evicted(self, market_name: str, now: float) -> None:
        """Allow no more than what still stands, and plan a trial."""
        market = self._markets[market_name]
        since_s = now - market.last_eviction
        market.last_eviction = now
        if since_s > 2 * market.trial_delay_s + TRIAL_S[0]:
            market.trial_delay_s = TRIAL_S[0]
        elif since_s > STANDS_S:  # nearer ones are the same event, seen by several lines
            market.trial_delay_s = min(TRIAL_S[1], market.trial_delay_s * 2)
        market.trial, market.trial_at = None, now + market.trial_delay_s
        market.allowed = self._taken(market_name)
        self._park_excess(market_name)

    def _crowded_out(self, line: _Line, now: float) -> None:
        """Another mcm on this machine has the place.  The upstream was not asked, so the next trial is no later."""
        market = self._markets[line.market]
        market.trial_at = max(market.trial_at, now + TRIAL_S[0])
        market.allowed = self._taken(line.market)
        self._park_excess(line.market, line.reason, line.detail)

    def _park_excess(self, market_name: str, reason: str = Reason.EVICTED, detail: str = "") -> None:
        """Park those who wait for a place that is not there."""
        allowed = self._markets[market_name].allowed
        for line in self._of(market_name, LineState.WAITING)[max(0, allowed - self._taken(market_name)) :]:
            line.state, line.reason, line.detail = LineState.PARKED, reason, detail or f"the account allows {allowed}"

    def revive(self, name: str) -> None:
        """A human acted: the line starts over at once, its back-off, refused key or parking forgotten."""
        line = self._lines[name]
        market = self._markets[line.market]
        line.attempts, line.not_before = 0, -math.inf
        if line.state in {LineState.REFUSED, LineState.PARKED}:
            line.state = LineState.WAITING
            claims = self._taken(line.market) + len(self._of(line.market, LineState.WAITING))
            market.allowed = min(market.configured, max(market.allowed, claims))
            self._park_excess(line.market)

    # --- what follows ---

    def next(self, *, now: float) -> str | None:
        """The line that may dial now, if any; it holds the permit from here on.  To be asked several times a second."""
        self._judge_trials(now)
        self._replace_missing(now)
        if self._permit is not None and now - self._permit[1] < PERMIT_S:
            return None
        due = [(line.dialled, name) for name, line in self._lines.items() if line.present and self._is_due(line, now)]
        if not due:
            return None
        _, name = min(due, key=lambda candidate: candidate[0])  # the first of equals: in the order of the settings
        return self._grant(name, now)

    def _judge_trials(self, now: float) -> None:
        for market in self._markets.values():
            if market.trial is not None and self._lines[market.trial].state is LineState.UP:
                market.trial_up = min(market.trial_up, now)
                if now - market.trial_up >= STANDS_S:
                    market.trial, market.trial_at = None, now  # it stands: the next one may try

    def _replace_missing(self, now: float) -> None:
        for line in self._lines.values():
            line.missing_since = math.inf if line.present else min(line.missing_since, now)
            if line.state is LineState.WAITING and now - line.missing_since >= MISSING_S:
                spare = next((other for other in self._of(line.market, LineState.PARKED) if other.present), None)
                if spare is not None:
                    line.state, line.reason, line.detail = spare.state, spare.reason, spare.detail
                    spare.state = LineState.WAITING

    def _is_due(self, line: _Line, now: float) -> bool:
        market, taken = self._markets[line.market], self._taken(line.market)
        if now < market.hold_until:
            return False
        if line.state is LineState.WAITING:
            return now >= line.not_before and taken < market.allowed
        return (
            line.state is LineState.PARKED
            and market.trial is None
            and now >= market.trial_at
            # Alone: as long as others have to come back, nobody could say whose dial was one too many.
            and self.running(line.market) == market.allowed < market.configured
            and not self._of(line.market, LineState.REFUSED)
        )

    def _grant(self, name: str, now: float) -> str:
        line = self._lines[name]
        market = self._markets[line.market]
        if line.state is LineState.PARKED:
            market.trial, market.trial_up = name, math.inf
            market.allowed += 1
        line.state, line.dialled = LineState.DIALLING, now
        self._permit = (name, now)
        return name

    def _of(self, market: str, *states: LineState) -> list[_Line]:
        return [line for line in self._lines.values() if line.market == market and line.state in states]

    def _taken(self, market: str) -> int:
        return len(self._of(market, LineState.UP, LineState.DIALLING))

    # --- what it looks like ---

    def state(self, name: str) -> LineState:
        """What the line does."""
        line = self._lines[name]
        return LineState.ABSENT if line.state is LineState.WAITING and not line.present else line.state

    def may_carry(self, name: str) -> bool:
        """Whether items may be given to this line: it is neither parked nor refused, nor still on trial."""
        line = self._lines[name]
        if line.state in {LineState.PARKED, LineState.REFUSED, LineState.PAUSED}:
            return False
        return self._markets[line.market].trial != name

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
        """Seconds until a parked line of *market* may try again; None when none is to, or one is trying."""
        none_will = self._markets[market].trial is not None or not self._of(market, LineState.PARKED)
        return None if none_will else max(0.0, self._markets[market].trial_at - now)

    def allowed(self, market: str) -> int:
        """How many lines of *market* the account is known to allow."""
        return self._markets[market].allowed

    def running(self, market: str) -> int:
        """How many lines of *market* are up."""
        return len(self._of(market, LineState.UP))
