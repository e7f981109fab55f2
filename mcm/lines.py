"""The connections of one account as the supervisor sees them: what each carries, when it dials, how it stands.

Decisions are made elsewhere (core.assignment, core.dialling, core.restart); this carries them out over the workers.
"""

import asyncio
import dataclasses
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from mcm import locks
from mcm.carrying import Carrying
from mcm.children import Child, Recipe, log_path
from mcm.configuration import Configuration
from mcm.core import massive as vendor
from mcm.core import restart
from mcm.core.control import (
    Answered,
    Confirmed,
    Dial,
    HangUp,
    LineClosed,
    LineReport,
    LineSettings,
    Ready,
    TopicRates,
    Unconfirmed,
    Up,
    Want,
    in_chunks,
)
from mcm.core.dialling import Governor, LineState, Reason
from mcm.core.fitness import Fitness
from mcm.core.gaps import GapClosed
from mcm.core.live import Live, connections, wanted
from mcm.core.notices import LineNotice
from mcm.core.settings import Connection, Testing
from mcm.core.silence import Seen
from mcm.core.status import AccountStatus, ConnectionStatus
from mcm.herald import Herald
from mcm.vigil import Vigil

__all__ = ["Lines"]

log = logging.getLogger("mcm.supervisor")

RATE_WINDOW_S = 5.0
VIGIL_S = 1.0
LET_GO_S = 20.0
LONGEST_SILENCE_NS = 180 * 10**9  # no line that is silent for longer is still taken for living


@dataclass
class _Line:
    """One connection over all lives of its worker.

    Attributes:
        told: items that the present process has been told to carry.
        report, unconfirmed: what it said last.
        ticks, errors, channels: of its earlier lives.
        opened: times that the upstream accepted its key.
        seen: (time, ticks) of the last seconds, for the rate.
        live_since: since when it is live; None while it is not.
    """

    market: str
    told: set[str] = field(default_factory=set)
    report: LineReport | None = None
    unconfirmed: dict[str, str] = field(default_factory=dict)
    ticks: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    channels: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    seen: deque[tuple[float, int]] = field(default_factory=deque)
    live_since: float | None = None

    def hear(self, report: LineReport, now: float) -> None:
        self.report = report
        self.seen.append((now, report.ticks))
        while now - self.seen[0][0] > RATE_WINDOW_S:
            self.seen.popleft()

    def ticks_per_s(self, now: float) -> float:
        if not self.seen or now - self.seen[-1][0] > RATE_WINDOW_S:
            return 0.0
        (since, first), (until, last) = self.seen[0], self.seen[-1]
        return (last - first) / (until - since) if until > since else 0.0

    def bury(self) -> None:
        """Its process is gone: keep what it counted."""
        if self.report is not None:
            self.ticks += self.report.ticks
            self.errors.update(self.report.errors)
            self.channels.update(self.report.channels)
        self.told, self.report, self.unconfirmed = set(), None, {}
        self.seen.clear()
        self.live_since = None


class Lines:
    """All connections: one worker each, one plan and one governor over them.

    Attributes:
        children: name → worker.
        feed: where to dial; None until it is known (the built-in simulator picks its port).
        carrying: what each connection carries, and what is missing.
    """

    def __init__(
        self,
        configuration: Configuration,
        herald: Herald,
        rng: Random,
        *,
        changed: Callable[[], None],
        closed: Callable[[GapClosed, int], None],
    ) -> None:
        self._configuration, self._changed, self._rng = configuration, changed, rng
        self._lines: dict[str, _Line] = {}
        self.children: dict[str, Child] = {}
        self._governor = Governor({}, configuration.settings.account.max_connections, rng)
        self.feed: str | None = None
        self._herald = herald
        self._told_states: dict[str, str] = {}
        self._fitness = Fitness()
        self._vigil = Vigil(configuration.settings)
        self._vigil_at = 0.0
        self._available: frozenset[str] = frozenset()
        self._leaving: dict[str, float] = {}  # lines that are removed, since when
        self._pausing: dict[str, float] = {}  # lines that are to be closed when they carry nothing any more
        self._paused: frozenset[str] = frozenset()
        self.carrying = Carrying(herald, tell=self._tell, closed=closed)

    def configure(self, configuration: Configuration, live: Live, leased: Iterable[str], why: str) -> None:
        """From here on these connections carry this; every step towards it is made before another is broken."""
        now = time.monotonic()
        self._configuration = configuration
        settings = configuration.settings
        present = connections(settings, live)
        for connection in present:
            if connection.name not in self._lines:
                self._add(connection)
        names = {connection.name for connection in present}
        for name in self._lines.keys() - names - self._leaving.keys():
            self._leaving[name] = now
        self._pause(frozenset(live.paused) & names, now)
        self.carrying.want(present, wanted(settings, live, leased), settings.routing.strategy)
        self._available = self._may_carry()
        self.carrying.replan(self._available, why)

    def _add(self, connection: Connection) -> None:
        name = connection.name
        self._lines[name] = _Line(connection.market)
        self._governor.add(name, connection.market)
        self.children[name] = Child(name, self._recipe(name, connection.market), self, self._rng)

    def _pause(self, paused: frozenset[str], now: float) -> None:
        for name in paused - self._paused:
            self._pausing[name] = now
        for name in self._paused - paused:
            self._pausing.pop(name, None)
            if name in self._lines:
                self._governor.resume(name)
                self._fitness.forget(name)  # it was down because somebody wanted it: no probation
        self._paused = paused

    def learned(self, allowed: Mapping[str, int]) -> None:
        """What an earlier life of mcm has learned of the account."""
        for market, number in allowed.items():
            self._governor.learned(market, number, now=time.monotonic())

    def _recipe(self, name: str, market: str) -> Recipe:
        configuration = self._configuration
        testing = configuration.settings.testing or Testing()
        first = LineSettings(name, market, str(configuration.run_dir), configuration.api_key.reveal(), testing)
        return Recipe(
            module="workers.connection",
            settings=lambda: first,
            policy=restart.WORKER,
            log_path=log_path(configuration.run_dir, name),
            hidden=(configuration.settings.account.api_key_env,),
        )

    # --- what the workers say ---

    def heard(self, child: Child, record: Up) -> None:
        """Take a report of a worker."""
        line, now = self._lines[child.name], time.monotonic()
        match record:
            case Ready():
                self._governor.present(child.name)
                self._vigil.started(child.name)
                self._tell(child.name)
            case LineReport():
                line.hear(record, now)
                if child.healthy_since is None and record.state == "live" and record.fed_s > 0:
                    child.healthy_since = now
            case Unconfirmed(first, items):
                line.unconfirmed = dict(items) if first else line.unconfirmed | items
            case Confirmed(first, items):
                self.carrying.confirmed(child.name, items, is_new_list=first)
            case TopicRates(per_s):
                self.carrying.measured(child.name, per_s)
                self._vigil.measured(self._seen(child.name, now), per_s, self.carrying.placement.carriers)
            case Answered():
                line.opened += 1
                self._governor.answered(child.name)
            case LineClosed(reason, detail, fed_s, last_ns):
                line.live_since = None
                if reason != Reason.ASKED:
                    line.errors[reason] += 1
                since_ns = max(last_ns, time.time_ns() - LONGEST_SILENCE_NS)
                self.carrying.line_ended(child.name, detail, since_ns=since_ns, was_asked=reason == Reason.ASKED)
                self._governor.closed(child.name, reason, detail, now=now, fed_s=fed_s)
                self._log_end(child.name, reason, detail, now)
            case _:
                log.error("%s: unexpected report %s", child.name, type(record).__name__)
        self._changed()

    def _log_end(self, name: str, reason: str, detail: str, now: float) -> None:
        if reason == Reason.AUTH_FAILED:
            log.error("%s: %s", name, self._why_refused(name))
        elif reason in {Reason.EVICTED, Reason.SLOT_TAKEN}:
            log.warning("%s: %s (%s)", name, self._why_parked(name, now), detail)
        elif reason != Reason.ASKED:
            wait_s, attempts = self._governor.waits_s(name, now=now), self._governor.attempts(name)
            log.warning("%s: %s; dialling again in %.1f s, attempt %d", name, detail, wait_s, attempts)

    def lost(self, child: Child) -> None:
        """A worker's process is gone; it surely received what ticked before the last tick that it has reported."""
        line = self._lines[child.name]
        silent_s = time.monotonic() - line.seen[-1][0] if line.seen else 0.0
        silent_s += (line.report.last_tick_age_s or 0.0) if line.report is not None else 0.0
        since_ns = time.time_ns() - min(LONGEST_SILENCE_NS, int(silent_s * 1e9))
        self.carrying.line_ended(child.name, "its process ended", since_ns=since_ns, is_dead=True)
        line.bury()
        self._governor.absent(child.name)
        self._changed()

    def refused(self, child: Child) -> None:
        """A worker does not accept its settings; its items are carried elsewhere."""
        log.error("%s: %s", child.name, child.reason)

    def gave_up(self, child: Child) -> None:
        """Never: a connection worker is parked, not given up."""
        raise AssertionError(f"{child.name} is not essential")

    # --- what follows ---

    def turn(self, now: float) -> None:
        """Start what is due, hand out the next permit, and let every line carry what the plan says."""
        for child in self.children.values():
            child.turn(now)
        self._let_go(now)
        if self.feed is not None and (name := self._governor.next(now=now)) is not None:
            self._dial(name, self.feed)
        up = self._up()
        for name in self._lines:
            self._fitness.observe(name, is_up=name in up, now=now)
        if (available := self._may_carry()) != self._available:
            lost, back = self._available - available, available - self._available
            self._available = available
            what = [f"{', '.join(sorted(lost))} may not carry anything"] if lost else []
            what += [f"{', '.join(sorted(back))} may again"] if back else []
            self.carrying.replan(available, "; ".join(what))
        self.carrying.turn(now, up)
        if now >= self._vigil_at:
            self._vigil_at = now + VIGIL_S
            self._keep_vigil(now)
        self._tell_everybody(now)

    def _let_go(self, now: float) -> None:
        """End what is to be removed or paused, once nothing depends on it any more."""
        for name, since in list(self._pausing.items()):
            if self._is_free(name, now - since):
                del self._pausing[name]
                self._governor.pause(name)
                self.children[name].send(HangUp())
        for name, since in list(self._leaving.items()):
            child = self.children[name]
            if self._is_free(name, now - since):
                child.dismiss()
            if child.state == "stopped" and child.process is None:
                del self._leaving[name], self.children[name], self._lines[name]
                self._governor.remove(name)
                self._fitness.forget(name)

    def _is_free(self, name: str, waited_s: float) -> bool:
        """Whether a line carries nothing, or what nobody else can carry, or others had long enough to take it over."""
        still = self.carrying.placement.of_line(name)
        return not still or waited_s > LET_GO_S or name in self._available

    def _keep_vigil(self, now: float) -> None:
        """Tell workers of their market's hours; close what is dead by what is known of its market and topics."""
        for name, line in self._lines.items():
            is_live = self._state(name, now) == "live"
            line.live_since = (line.live_since or now) if is_live else None
        ready = {name: self._lines[name].market for name, child in self.children.items() if child.state == "ready"}
        for name, hours in self._vigil.news(ready).items():
            self.children[name].send(hours)
        seen = {name: self._seen(name, now) for name in ready}
        if not any(one.is_suspect for one in seen.values()):
            self._vigil.forgive(seen)
            return  # 30,000 items are not looked at every second for nothing
        for name, one in seen.items():
            items = self.carrying.items_of(name) - self._lines[name].unconfirmed.keys()
            seen[name] = dataclasses.replace(one, items=frozenset(items))
        for name, why in self._vigil.silent(seen).items():
            log.warning("%s: %s, closing it", name, why)
            self.children[name].send(HangUp(stale=why))

    def _seen(self, name: str, now: float) -> Seen:
        line = self._lines[name]
        live_s = now - line.live_since if line.live_since is not None else None
        is_watched = line.report is not None and line.report.has_habits
        return Seen(line.market, live_s, self._tick_age_s(line, now), is_watched=is_watched)

    def _tell_everybody(self, now: float) -> None:
        """Publish what has changed since the last time."""
        states = {name: self._state(name, now) for name in self._lines}
        changed = [name for name, state in states.items() if self._told_states.get(name) != state]
        self._told_states = states
        t_ns = time.time_ns()
        self._herald.say(
            status=[LineNotice(name, states[name], self._reason(name, now), t_ns) for name in changed],
        )

    def _up(self) -> set[str]:
        """The lines that live at present."""
        return {
            name
            for name, child in self.children.items()
            if child.state == "ready" and self._governor.state(name) is LineState.UP
        }

    def _dial(self, name: str, feed: str) -> None:
        settings, market = self._configuration.settings, self._lines[name].market
        directory = locks.slot_directory(vendor.slot_name(feed), self._configuration.api_key.reveal(), market)
        url = vendor.line_url(feed, market)
        self.children[name].send(Dial(url, str(directory), settings.account.max_connections))

    def _may_carry(self) -> frozenset[str]:
        """The lines that items may be given to.

        Where fit lines are too few for the copies that are wanted, lines on probation are better than none; where no
        line at all may carry anything, the plan stays as it was, for when they come back.
        """
        chosen: set[str] = set()
        for market in {line.market for line in self._lines.values()}:
            able = [
                name
                for name, child in self.children.items()
                if self._lines[name].market == market
                and child.state != "parked"
                and name not in self._leaving
                and name not in self._paused
                and self._governor.may_carry(name)
            ]
            if not self._configuration.settings.routing.failover:
                chosen.update(able or self._of(market))
                continue
            fit = [name for name in able if self._fitness.is_fit(name)]
            up = [name for name in able if name not in fit and self._fitness.is_up(name)]
            wanted = self.carrying.copies(market)
            chosen.update([*fit, *up[: max(0, wanted - len(fit))]] or self._of(market))
        return frozenset(chosen)

    def _of(self, market: str) -> list[str]:
        return [name for name, line in self._lines.items() if line.market == market and name not in self._leaving]

    def _tell(self, name: str) -> None:
        """Send a ready worker the difference between what it carries and what it is to carry."""
        child, line = self.children[name], self._lines[name]
        if child.state != "ready":
            return
        planned = self.carrying.items_of(name)
        for remove in in_chunks(sorted(line.told - planned)):
            child.send(Want(remove=tuple(remove)))
        for add in in_chunks(sorted(planned - line.told)):
            child.send(Want(add=tuple(add)))
        line.told = planned

    def revive(self, name: str) -> None:
        """A human asks for a fresh start of this connection: its process, its back-off, its refused key."""
        self._governor.revive(name)
        self.children[name].revive()

    def hang_up(self, name: str, why: str) -> None:
        """Have a line closed with 1000 and dialled again."""
        child = self.children.get(name)
        if child is not None and name in self._up():
            log.warning("%s: %s, closing it", name, why)
            child.send(HangUp())

    async def stop(self, patience_s: float) -> None:
        """End all workers; each closes its line with 1000."""
        await asyncio.gather(*(child.stop(patience_s) for child in self.children.values()))

    # --- what it looks like ---

    @property
    def live(self) -> set[str]:
        """The lines that are live."""
        now = time.monotonic()
        return {name for name in self._lines if self._state(name, now) == "live"}

    @property
    def is_started(self) -> bool:
        """Whether every line is live, or parked or paused with its items carried by one that is."""
        now = time.monotonic()
        states = {self._state(name, now) for name in self._lines}
        return "live" in states and states <= {"live", "parked", "paused"}

    def status(self, now: float) -> dict[str, ConnectionStatus]:
        """Every connection by name."""
        return {name: self._status_of(name, now) for name in self._lines}

    def account(self) -> dict[str, AccountStatus]:
        """Every market's lines: allowed and up."""
        markets = Counter(line.market for line in self._lines.values())
        governor = self._governor
        return {
            market: AccountStatus(governor.allowed(market), governor.running(market), number)
            for market, number in markets.items()
        }

    @property
    def leaving(self) -> list[str]:
        """Connections that are being removed and still there: their names are taken."""
        return list(self._leaving)

    @property
    def is_calm(self) -> bool:
        """Whether every line is live and carries what it is to carry: a time to change something for the better."""
        return self.live == set(self._lines) and not self.carrying.placement.is_moving

    def replan(self, why: str) -> None:
        """The homes have changed."""
        self.carrying.replan(self._available, why)

    def _status_of(self, name: str, now: float) -> ConnectionStatus:
        child, line = self.children[name], self._lines[name]
        report = line.report
        return ConnectionStatus(
            state=self._state(name, now),
            market=line.market,
            pid=child.pid,
            wanted=len(self.carrying.placement.of_line(name)),
            confirmed=report.confirmed if report is not None else 0,
            unconfirmed=sorted(line.unconfirmed),
            ticks=line.ticks + (report.ticks if report is not None else 0),
            ticks_per_s=round(line.ticks_per_s(now), 1),
            last_tick_age_s=self._tick_age_s(line, now),
            reconnects=max(0, line.opened - 1),
            restarts=child.restarts,
            errors=dict(sorted((line.errors + Counter(report.errors if report is not None else {})).items())),
            reason=self._reason(name, now),
            note=self._note(name, now),
            channels=dict(line.channels + Counter(report.channels if report is not None else {})),
        )

    @staticmethod
    def _tick_age_s(line: _Line, now: float) -> float | None:
        if line.report is None or line.report.last_tick_age_s is None:
            return None
        return round(line.report.last_tick_age_s + now - line.seen[-1][0], 3)

    def _state(self, name: str, now: float) -> str:
        child, line = self.children[name], self._lines[name]
        if child.state != "ready":
            return child.state
        match self._governor.state(name):
            case LineState.UP:
                return "live" if line.report is not None and line.report.state == "live" else "connecting"
            case LineState.PARKED:
                return "parked"
            case LineState.PAUSED:
                return "paused"
            case LineState.REFUSED:
                return "down"
            case LineState.WAITING if self._governor.waits_s(name, now=now) > 0:
                return "backoff"
            case _:
                return "connecting"

    def _reason(self, name: str, now: float) -> str:
        child = self.children[name]
        if child.state != "ready":
            return child.reason
        match self._governor.state(name):
            case LineState.PARKED:
                return self._why_parked(name, now)
            case LineState.REFUSED:
                return self._why_refused(name)
            case LineState.UP:
                return ""
            case LineState.PAUSED:
                return f"paused by hand; `mcm resume {name}` ends that"
            case _:
                _, detail = self._governor.why(name)
                wait_s = self._governor.waits_s(name, now=now)
                return f"{detail}; dialling again in {wait_s:.1f} s" if wait_s > 0 else detail

    def _note(self, name: str, now: float) -> str:
        if name in self._leaving:
            return "is being removed"
        if name in self._pausing:
            return "is being paused, when others have its topics"
        if not self._configuration.settings.routing.failover:
            return ""
        back_s = self._fitness.fit_in_s(name, now=now)
        return f"on probation, its topics come back in {back_s:.0f} s" if 0 < back_s < math.inf else ""

    def _why_parked(self, name: str, now: float) -> str:
        market, governor = self._lines[name].market, self._governor
        configured = sum(line.market == market for line in self._lines.values())
        reason, detail = governor.why(name)
        if reason == Reason.SLOT_TAKEN:
            return detail
        trial_s = governor.trial_in_s(market, now=now)
        then = f", next trial in {trial_s:.0f} s" if trial_s is not None else ""
        allowed = governor.allowed(market)
        return f"the account allows {allowed}, running {governor.running(market)} of {configured}{then}"

    def _why_refused(self, name: str) -> str:
        _, detail = self._governor.why(name)
        variable = self._configuration.settings.account.api_key_env
        return (
            f"the upstream refused the API key ({detail}); put the right one into {variable} and start mcm again, "
            f"or run `mcm restart {name}` once the plan includes {self._lines[name].market}"
        )
