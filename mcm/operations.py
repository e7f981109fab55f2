"""What is changed while mcm runs: live subscriptions, moves, connections, a new configuration, rebalancing.

Decisions are pure and lie in core (live, assignment, rebalancing); this checks, remembers, and has them carried out.
"""

import contextlib
import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from mcm.configuration import Configuration
from mcm.core import live as changes
from mcm.core import surveying
from mcm.core.assignment import Difference, wishes
from mcm.core.errors import BadTopic, UsageError
from mcm.core.live import Leases, Live, Subscription
from mcm.core.markets import MARKETS
from mcm.core.overview import TOPICS_PER_ANSWER
from mcm.core.rebalancing import Shift
from mcm.core.settings import Connection, check_connection
from mcm.core.settings_values import nearest
from mcm.core.topics import parse_topic
from mcm.lines import Lines
from mcm.live_file import LiveFile

__all__ = ["Operations"]

log = logging.getLogger("mcm.supervisor")

BUSY = 1.5  # a line with so many times the mean load of its market is relieved
BALANCED = 1.2
REST_INTERVALS = 3  # after a rebalance, so that rates can follow before the next one
# What only a new start changes.
_FIXED = ("account", "upstream", "publish", "journal", "backfill", "dashboard", "gateway", "simulator", "testing")


class Operations:
    """The live half of the configuration, and everything that can be asked for at the control socket about it.

    Attributes:
        live: all changes that do not stand in the file.
        leases: what programs want beyond it.
    """

    def __init__(self, configuration: Configuration, lines: Lines, reload: Callable[[], Configuration]) -> None:
        self._configuration, self._lines, self._reload = configuration, lines, reload
        self._file = LiveFile(configuration.run_dir)
        self.live, self.leases = self._file.read().kept_by(configuration.settings), Leases()
        self._checked_at = time.monotonic()
        self._resting = REST_INTERVALS
        for words in changes.described(self.live):
            log.info("live, not in the file: %s", words)
        self._configure("start")
        lines.learned(self.live.allowed)

    # --- asked at the control socket

    def answer(self, op: str, args: dict[str, object]) -> object:
        """Carry out one operation; None for one that is not known here."""
        match op, args:
            case "subscribe", {"topics": [*topics], **how}:
                return self._subscribe(_texts(topics), msgspec.convert(how, Subscription))
            case "unsubscribe", {"topics": [*topics]}:
                return self._unsubscribe(_texts(topics))
            case "move", {"what": str(what), "connection": str(name)}:
                return self._move(what, name)
            case "pause", {"name": str(name)}:
                return self._change(self.live.pause(self._known(name)), f"{name} is paused")
            case "resume", {"name": str(name)}:
                return self._change(self.live.resume(self._known(name)), f"{name} is resumed")
            case "add_connection", {"connection": dict(fields)}:
                return self._add_connection(fields)
            case "remove_connection", {"name": str(name)}:
                return self._remove_connection(self._known(name))
            case "rebalance", {"dry_run": bool(dry_run)}:
                return [msgspec.to_builtins(shift._asdict()) for shift in self._rebalance(dry_run=dry_run)]
            case "why", {"what": str(what)}:
                return [self._lines.carrying.why(topic) for topic in self._topics_of(what)]
            case "configured", {}:
                return surveying.configured(self._configuration.settings, self.live)
            case "topics", {"first": int(first), "count": int(count)}:
                return self._topics(first, min(count, TOPICS_PER_ANSWER))
            case "preview", {}:
                return self._preview(self._reload())
            case "apply", {}:
                return self.apply()
            case "lease", {"holder": str(holder), "topics": [*topics]}:
                return self._lease(holder, _texts(topics))
            case "release", {"holder": str(holder)}:
                if self.leases.release(holder):
                    self._configure(f"{holder} released its topics")
                return {}
            case _:
                return None

    def _subscribe(self, texts: Sequence[str], how: Subscription) -> object:
        topics = [self._topic(text) for text in texts]
        if how.connection is not None:
            market = self._connection(how.connection).market
            for topic in topics:
                if not topic.startswith(f"{market}."):
                    raise UsageError(f"{how.connection} serves {market}, not {topic}", "leave the connection out")
        for topic in topics:
            serving = [one for one in self._connections() if topic.startswith(f"{one.market}.")]
            if how.copies > len(serving):
                problem = f"copies = {how.copies}, but only {len(serving)} connections serve {topic.partition('.')[0]}"
                raise UsageError(problem, "lower it, or add connections")
        self._change(self.live.subscribe(topics, how, self._configured()), f"subscribed {_named(topics)}")
        return {"topics": topics, "unplaced": self._unplaced(topics)}

    def _unsubscribe(self, texts: Sequence[str]) -> object:
        topics = [self._topic(text) for text in texts]
        self._change(self.live.unsubscribe(topics, self._configured()), f"unsubscribed {_named(topics)}")
        leased = set(self.leases.topics)
        return {"topics": topics, "still_leased": [topic for topic in topics if topic in leased]}

    def _move(self, what: str, name: str) -> object:
        market = self._connection(name).market
        topics = [topic for topic in self._topics_of(what) if topic in self._lines.carrying.wishes]
        if not topics:
            raise UsageError(f"nobody has subscribed {what}", f"`mcm subscribe {what} --connection {name}` does")
        if wrong := [topic for topic in topics if not topic.startswith(f"{market}.")]:
            raise UsageError(f"{name} serves {market}, not {wrong[0]}", "name a connection of its market")
        self._change(self.live.move(topics, name), f"moved {_named(topics)} to {name}")
        return {"topics": topics, "unplaced": self._unplaced(topics)}

    def _add_connection(self, fields: Mapping[str, object]) -> object:
        connection = check_connection(fields)
        self._must_be_free([connection.name])
        live = self.live.add(connection, self._configuration.settings)
        names = [one.name for one in changes.connections(self._configuration.settings, live)
                 if one.market == connection.market]  # fmt: skip
        limit = self._configuration.settings.account.max_connections
        if len(names) > limit:
            problem = f"the account allows {limit} connections of {connection.market} (account.max_connections)"
            raise UsageError(problem, f"it has {', '.join(names[:-1])}; remove one first")
        return self._change(live, f"added the connection {connection.name}")

    def _must_be_free(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._lines.leaving:
                raise UsageError(f"{name} is still being removed", "ask again in some seconds")

    def _remove_connection(self, name: str) -> object:
        market = self._connection(name).market
        others = [one for one in self._connections() if one.market == market and one.name != name]
        wanted = [topic for topic in self._lines.carrying.wishes if topic.startswith(f"{market}.")]
        if wanted and not others:
            problem = f"{name} is the only connection of {market}, and {len(wanted):,} topics want one"
            raise UsageError(problem, "unsubscribe them or add another connection first")
        return self._change(self.live.remove(name, self._configuration.settings), f"removed the connection {name}")

    def _lease(self, holder: str, texts: Sequence[str]) -> object:
        topics = [self._topic(text) for text in texts]
        if self.leases.renew(holder, topics, time.monotonic()):
            self._configure(f"{holder} leased {_named(topics)}")
        return {"unplaced": self._unplaced(topics)}

    def _unplaced(self, topics: Sequence[str]) -> dict[str, str]:
        """Those of *topics* that nobody can carry, with the reason."""
        unplaced = self._lines.carrying.plan.unplaced
        return {topic: unplaced[topic] for topic in topics if topic in unplaced}

    def _topics(self, first: int, count: int) -> object:
        """A part of what is wanted: in parts, because lines and router are not to wait for a long list."""
        carrying = self._lines.carrying
        topics = list(itertools.islice(carrying.wishes, first, first + count))
        carriers = {topic: carrying.placement.lines_of(topic) for topic in topics}  # by a whole channel, too
        rows = surveying.rows(
            topics, carrying.wishes, carriers, carrying.rates, names=self._watchlists, gaps=carrying.gaps
        )
        return {"rows": rows, "total": len(carrying.wishes)}

    # --- names

    def _configured(self) -> list[str]:
        return [wish.topic for wish in wishes(self._configuration.settings)]

    def _connections(self) -> list[Connection]:
        return changes.connections(self._configuration.settings, self.live)

    def _connection(self, name: str) -> Connection:
        known = {one.name: one for one in self._connections()}
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"there is no connection {name!r}", hint)
        return known[name]

    def _known(self, name: str) -> str:
        return self._connection(name).name

    def _topic(self, text: str) -> str:
        """``T.AAPL`` or ``stocks.T.AAPL``; the first only where one market alone can be meant."""
        if text.partition(".")[0] in MARKETS:
            return str(parse_topic(text))
        channel, dot, symbol = text.partition(".")
        markets = {one.market: None for one in self._connections() if channel in MARKETS[one.market].channels}
        if not dot or not symbol or not markets:
            raise BadTopic(f"{text!r} is no topic", "write CHANNEL.SYMBOL like T.AAPL, or MARKET.CHANNEL.SYMBOL")
        if len(markets) > 1:
            raise BadTopic(f"{text} may be of {' or '.join(markets)}", f"write {next(iter(markets))}.{text}")
        return str(parse_topic(f"{next(iter(markets))}.{text}"))

    def _topics_of(self, what: str) -> list[str]:
        """A topic, or every wanted topic of a symbol."""
        wanted = self._lines.carrying.wishes
        if "." in what:
            with contextlib.suppress(BadTopic):
                if (topic := self._topic(what)) in wanted:
                    return [topic]
        if found := [topic for topic in wanted if topic.split(".", 2)[2] == what]:
            return found
        if "." in what:
            return [self._topic(what)]
        near = nearest(what, {topic.split(".", 2)[2] for topic in wanted})
        hint = f"did you mean {near}?" if near else f"`mcm subscribe T.{what}` subscribes its trades"
        raise UsageError(f"nobody has subscribed {what}", hint)

    # --- carried out

    def _change(self, live: Live, words: str) -> object:
        self.live = live
        self._file.write(live)
        log.info("live: %s", words)
        self._configure(words)
        return {}

    def _configure(self, why: str) -> None:
        self._watchlists = surveying.watchlists(self._configuration.settings)
        self._lines.configure(self._configuration, self.live, self.leases.topics, why)

    # --- another configuration

    def _preview(self, fresh: Configuration) -> object:
        settings, present = fresh.settings, self._configuration
        live = self.live.kept_by(settings)
        after = changes.connections(settings, live)
        before = {one.name: one for one in self._connections()}
        self._must_be_free([one.name for one in after if one.name not in before])
        for one in after:
            if one.name in before and before[one.name].market != one.market:
                problem = f"{one.name} serves {before[one.name].market} and is to serve {one.market}"
                raise UsageError(problem, "give the new one another name")
        wanted = changes.wanted(settings, live, self.leases.topics)
        carrying = self._lines.carrying
        home = carrying.homes(after, wanted, settings.routing.strategy)
        change: Difference = carrying.difference(home, after)
        fixed = [name for name in _FIXED if getattr(settings, name) != getattr(present.settings, name)]
        if fresh.api_key != present.api_key:
            fixed.append(settings.account.api_key_env)
        return {
            "file": str(fresh.path),
            "started": [one.name for one in after if one.name not in before],
            "stopped": [name for name in before if name not in {one.name for one in after}],
            "added": change.added,
            "removed": change.removed,
            "moved": change.moved,
            "unplaced": home.unplaced,
            "live": list(changes.described(live)),
            "needs_restart": fixed,
        }

    def apply(self) -> object:
        """Take the file as it is now; what cannot change while mcm runs stays as it is, and is named."""
        fresh = self._reload()
        told = self._preview(fresh)
        kept = {name: getattr(self._configuration.settings, name) for name in _FIXED}
        settings = msgspec.structs.replace(fresh.settings, **kept)
        present = self._configuration
        self._configuration = dataclasses.replace(present, settings=settings, path=fresh.path)
        self._change(self.live.kept_by(settings), f"{fresh.path} is in force")
        return told

    # --- rebalancing

    def turn(self, now: float) -> None:
        """Forget leases, note what was learned of the account, relieve a line that is much busier than the others."""
        if self.leases.expire(now):
            self._configure("a lease has ended")
        learned = {market: one.allowed for market, one in self._lines.account().items() if one.allowed < one.configured}
        if learned != self.live.allowed:
            self.live = msgspec.structs.replace(self.live, allowed=learned)
            self._file.write(self.live)
        routing = self._configuration.settings.routing
        if now - self._checked_at < routing.health_check_interval_s:
            return
        self._checked_at = now
        self._resting = max(0, self._resting - 1)
        if routing.auto_rebalance and not self._resting and self._lines.is_calm:
            free = [name for name, market in MARKETS.items() if not market.held_limit]
            with contextlib.suppress(UsageError):
                self._rebalance(dry_run=False, threshold=BUSY, only=free)

    def _rebalance(
        self, *, dry_run: bool, threshold: float = BALANCED, only: Sequence[str] = tuple(MARKETS)
    ) -> list[Shift]:
        carrying = self._lines.carrying
        if self._configuration.settings.routing.strategy == "hash":
            raise UsageError("with the strategy hash, names alone decide", "`mcm move` pins what is to be elsewhere")
        if waiting := carrying.unmeasured:
            raise UsageError(f"not yet measured: {', '.join(waiting)}", "ask again in some seconds")
        home, shifts = carrying.rebalanced(only, threshold)
        if shifts and not dry_run:
            self._resting = REST_INTERVALS
            carrying.home = home
            self._lines.replan(f"rebalanced: {len(shifts)} topics")
            log.info("rebalanced: %s", "; ".join(f"{one.topic} {one.source} → {one.target}" for one in shifts[:5]))
        return shifts


def _texts(values: Sequence[object]) -> list[str]:
    if not values or not all(isinstance(value, str) for value in values):
        raise UsageError("topics are a list of texts", 'write ["T.AAPL", …]')
    return [str(value) for value in values]


def _named(topics: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(topics) - shown} more" if len(topics) > shown else ""
    return ", ".join(topics[:shown]) + more
