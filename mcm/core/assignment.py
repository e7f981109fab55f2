"""Which connection carries what: a pure function of connections, wishes and the lines that may carry something now.

First every item gets a *home*, as if all connections were up; then the items of those that are not available are folded
into the others of their market.  So all other items stay where they are, and a line that comes back gets its own again.

* A pin is a home.  Without one, an item stays where the previous plan has it, if it may.  What is new goes to the line
  that has its symbol already, so that all channels of a symbol are together where possible, else core.strategies
  chooses.
* A wildcard carries the single symbols of its channel, which are then not subscribed: an upstream would send them
  twice, and one that has both loses the singles when the wildcard goes.
* Further copies of an item go to other lines; while one of its lines is not available, another copy is opened where a
  line is left.
* Where room is short, higher tiers come first, and a topic that nobody carries before a second copy of its tier: the
  last in that order, if it is not pinned, gives up its place.
* What has no line or no room is named in ``Plan.unplaced`` or ``Plan.short``, never left out silently.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from mcm.core.settings import Connection, Settings, items
from mcm.core.strategies import BY_NAME, Known, Line, Manual, channel_of, ranking, symbol_of, weights
from mcm.core.topics import WILDCARD

__all__ = ["Difference", "Plan", "Wish", "by_market", "difference", "fold", "homes", "plan", "wishes"]


class Wish(NamedTuple):
    """One item of a market that is wanted, by this connection or, with None, by any; on so many lines at once.

    Its tier is that of the highest-ranking watchlist that wants it.
    """

    market: str
    item: str
    connection: str | None = None
    copies: int = 1
    tier: str | None = None

    @property
    def topic(self) -> str:
        """Such as ``stocks.T.AAPL``."""
        return f"{self.market}.{self.item}"


@dataclass(frozen=True)
class Plan:
    """Who carries what.

    Attributes:
        carries: enabled connection → its items, sorted; empty for one that is not available.
        unplaced: topic (``stocks.T.AAPL``) → why nobody carries it.
        short: topic → why it has fewer copies than wanted: ``1 of 2``, and the reason.
        strategy: by which it was made; its rules hold for what is folded and shifted, too.
    """

    carries: dict[str, tuple[str, ...]]
    unplaced: dict[str, str]
    short: dict[str, str] = field(default_factory=dict)
    strategy: str = field(default="manual", compare=False)


class Difference(NamedTuple):
    """What has to be told to whom for a new plan; all lines of a topic, before and after, each sorted."""

    added: dict[str, tuple[str, ...]]
    removed: dict[str, tuple[str, ...]]
    moved: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]


def wishes(settings: Settings) -> list[Wish]:
    """What the watchlists want, each item once and in their order; a pin wins over none, more copies over fewer."""
    found: dict[tuple[str, str], Wish] = {}
    ranks = ranking(settings.connections)
    for watchlist in settings.watchlists:
        for item in items(watchlist, settings.universes):
            wish = Wish(watchlist.market, item, watchlist.connection, watchlist.copies, watchlist.tier)
            known = found.get((watchlist.market, item))
            found[watchlist.market, item] = wish if known is None else _both(known, wish, ranks)
    return list(found.values())


def homes(
    connections: Sequence[Connection],
    wanted: Iterable[Wish],
    *,
    strategy: str,
    previous: Plan | None = None,
    rates: Mapping[str, float] = {},
) -> Plan:
    """Where every item lives as if all enabled connections were up, or the reason why it cannot.

    Args:
        connections: all of the settings; disabled ones carry nothing.
        wanted: in any order, but that ``round-robin`` goes by it.  Of an item pinned twice, the first pin wins.
        strategy: a word of core.strategies.
        previous: the homes so far: what they have on a line that may still have it stays there, copies included, so
            that a wish or a connection more or less does not shuffle the others; not with ``hash``.
        rates: topic → ticks/s, for ``load-balanced``.
    """
    carries: dict[str, tuple[str, ...]] = {line.name: () for line in connections if line.enabled}
    unplaced: dict[str, str] = {}
    short: dict[str, str] = {}
    for name, wants in by_market(connections, wanted).items():
        market = _Market(name, connections, wants, strategy, rates)
        if previous is not None and market.strategy.keeps:
            market.remember(previous)
        market.settle()
        carries |= market.carries()
        unplaced |= market.unplaced()
        short |= market.short()
    return Plan(carries, unplaced, short, strategy)


def fold(
    home: Plan,
    connections: Sequence[Connection],
    wanted: Iterable[Wish],
    *,
    available: Collection[str],
    previous: Plan | None = None,
    rates: Mapping[str, float] = {},
) -> Plan:
    """*home* without the connections that are not available: their items go to the others, and nothing else moves.

    Args:
        home: of these connections and wishes; with all lines available it comes back as it is.
        connections: as for homes().
        wanted: as for homes().
        available: names of the connections that may carry something now.
        previous: the plan in force: an item without its home stays where that plan has it, if it may.
        rates: topic → ticks/s, for ``load-balanced``.
    """
    carries = {line.name: home.carries.get(line.name, ()) for line in connections if line.enabled}
    absent = carries.keys() - set(available)
    if not absent:
        return home
    unplaced, short = dict(home.unplaced), dict(home.short)
    for name, wants in by_market(connections, wanted).items():
        market = _Market(name, connections, wants, home.strategy, rates, absent=absent)
        if len(market.lines) == len(market.enabled):
            continue
        if previous is not None:
            market.remember(previous)
        market.fold(carries)
        carries |= market.carries()
        unplaced |= market.unplaced()
        short = {topic: why for topic, why in short.items() if topic.partition(".")[0] != name} | market.short()
    carries |= dict.fromkeys(absent, ())
    return Plan(carries, _sorted(unplaced), _sorted(short), home.strategy)


def plan(
    connections: Sequence[Connection],
    wanted: Iterable[Wish],
    *,
    strategy: str,
    available: Collection[str] | None = None,
    previous: Plan | None = None,
    rates: Mapping[str, float] = {},
) -> Plan:
    """Homes from nothing, and folded for the connections that are *available*; *previous* as for fold()."""
    wanted = list(wanted)
    home = homes(connections, wanted, strategy=strategy, rates=rates)
    if available is None:
        return home
    return fold(home, connections, wanted, available=available, previous=previous, rates=rates)


def difference(old: Plan, new: Plan, markets: Mapping[str, str]) -> Difference:
    """What is different in *new*; *markets* of all lines of both plans."""
    before, after = _carriers(old, markets), _carriers(new, markets)
    added = {topic: lines for topic, lines in after.items() if topic not in before}
    removed = {topic: lines for topic, lines in before.items() if topic not in after}
    both = [topic for topic in before if topic in after]
    moved = {topic: (before[topic], after[topic]) for topic in both if before[topic] != after[topic]}
    return Difference(added, removed, moved)


def _carriers(of: Plan, markets: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in sorted(of.carries):
        for item in of.carries[line]:
            topic = f"{markets[line]}.{item}"
            found[topic] = (*found.get(topic, ()), line)
    return found


def _sorted(reasons: dict[str, str]) -> dict[str, str]:
    return dict(sorted(reasons.items()))


def _both(one: Wish, other: Wish, ranks: Mapping[str, int]) -> Wish:
    """One item wanted twice: the first pin, the most copies, the highest tier."""
    tier = min(one.tier, other.tier, key=lambda tier: len(ranks) if tier is None else ranks.get(tier, len(ranks) - 0.5))
    return one._replace(connection=one.connection or other.connection, copies=max(one.copies, other.copies), tier=tier)


def by_market(connections: Iterable[Connection], wanted: Iterable[Wish]) -> dict[str, dict[str, Wish]]:
    """Market → item → what is wanted of it, each item once."""
    found: defaultdict[str, dict[str, Wish]] = defaultdict(dict)
    ranks = ranking(connections)
    for wish in wanted:
        known = found[wish.market].get(wish.item)
        found[wish.market][wish.item] = wish if known is None else _both(known, wish, ranks)
    return dict(found)


_Choose = Callable[[Sequence[Line], Sequence[str]], Line]


class _Market:
    """The lines of one market while they are being filled.

    Attributes:
        enabled: all its lines; *lines* are those of them that may be filled.
    """

    def __init__(
        self,
        name: str,
        connections: Sequence[Connection],
        wants: Mapping[str, Wish],
        strategy: str,
        rates: Mapping[str, float],
        *,
        absent: Collection[str] = (),
    ) -> None:
        self._name, self._wants = name, wants
        ranks = ranking(connections)
        lowest = len(ranks)
        ranked = {tier: ranks.get(tier, lowest) for tier in {wish.tier for wish in wants.values()} if tier is not None}
        self._ranks = {item: ranked[wish.tier] if wish.tier is not None else lowest for item, wish in wants.items()}
        weight_of = weights(name, wants.keys(), rates) if strategy == "load-balanced" else None
        serving = [line for line in connections if line.enabled and line.market == name]
        tiers = self._ranks if BY_NAME[strategy].parts_tiers else None
        self.enabled = [Line(line, place, ranks=tiers, weights=weight_of) for place, line in enumerate(serving)]
        self.lines = [line for line in self.enabled if line.name not in absent]
        self.strategy: Manual = BY_NAME[strategy](Known(self.enabled, ranks, self._ranks, weight_of or {}))
        self._is_home = not absent
        self._choose = self.strategy.choose if self._is_home else self.strategy.spread
        self._held: dict[str, list[Line]] = {}
        self._unplaced: dict[str, str] = {}
        self._short: dict[str, str] = {}
        self._yielding: dict[tuple[str, str], list[list[str]]] = {}

    def remember(self, previous: Plan) -> None:
        """What its lines had so far, to be kept there where nothing speaks against it."""
        for line in self.lines:
            for item in previous.carries.get(line.name, ()):
                if item in self._wants:
                    self._held.setdefault(item, []).append(line)

    def carries(self) -> dict[str, tuple[str, ...]]:
        return {line.name: tuple(sorted(line.items)) for line in self.lines}

    def unplaced(self) -> dict[str, str]:
        return {f"{self._name}.{item}": self._unplaced[item] for item in sorted(self._unplaced)}

    def short(self) -> dict[str, str]:
        return {f"{self._name}.{item}": reason for item, reason in sorted(self._short.items())}

    # --- the two ways to fill it

    def settle(self) -> None:
        """Give every item its home; wildcards first, because they cover what then needs no place."""
        wild = [item for item in self._wants if symbol_of(item) == WILDCARD]
        self._settle(wild)
        covered = {channel_of(item) for item in wild if item not in self._unplaced}
        self._settle([item for item in self._wants if symbol_of(item) != WILDCARD and channel_of(item) not in covered])
        if covered:
            self._copy(item for item in self._wants if symbol_of(item) != WILDCARD and channel_of(item) in covered)
        self._improve(None)

    def _settle(self, found: Sequence[str]) -> None:
        pinned = [item for item in found if self._wants[item].connection is not None]
        self._pin(sorted(pinned))
        self._place_all(item for item in found if self._wants[item].connection is None)
        self._copy(found)

    def fold(self, home: Mapping[str, Sequence[str]]) -> None:
        """Hand the items of the lines that are not filled to the others, which have theirs already."""
        for line in self.lines:
            line.put(item for item in home[line.name] if item in self._wants)
        living = {line.name for line in self.lines}
        displaced = [
            item for line in self.enabled if line.name not in living for item in home[line.name] if item in self._wants
        ]
        wild = [item for item in displaced if symbol_of(item) == WILDCARD]
        self._place_all(self._missing(wild))
        bare = {channel_of(item) for item in wild if item in self._unplaced}  # their single symbols are on their own
        displaced += [item for item in self._wants if channel_of(item) in bare and item not in self._unplaced]
        self._place_all(self._missing(displaced))
        self._copy(self._wants)
        self._improve(set(displaced))

    def _missing(self, found: Iterable[str]) -> list[str]:
        return [
            item
            for item in dict.fromkeys(found)
            if item not in self._unplaced and not any(line.has(item) for line in self.lines)
        ]

    # --- its steps

    def _pin(self, pinned: Iterable[str]) -> None:
        by_name = {line.name: line for line in self.lines}
        for item in pinned:
            pin = self._wants[item].connection or ""
            line = by_name.get(pin)
            if line is None:
                self._unplaced[item] = f"{pin}, where it is pinned, is no enabled connection of {self._name}"
            elif reason := line.lacks_room([item]):
                self._unplaced[item] = f"no room on {pin}, where it is pinned: {reason}"
            else:
                line.put([item])

    def _place_all(self, free: Iterable[str]) -> None:
        """Keep what was there, then all new groups by strategy, then whatever is left over, where others make room."""
        new = self._keep(free)
        groups = self._grouped(new)
        if self._is_home:
            groups = self.strategy.order(groups)
        else:
            groups.sort()
        left: list[tuple[int, str]] = []
        for group in groups:
            left += [(self._ranks[item], item) for item in self._put_together(group)]
        heapify(left)
        while left:
            self._squeeze_in(left)

    def _keep(self, free: Iterable[str]) -> list[str]:
        """Put items on the lines that had them; those that none can take (any more)."""
        if not self._held:
            return list(free)
        kept: list[str] = []
        new: list[str] = []
        for item in free:
            (kept if item in self._held else new).append(item)
        stay: set[str] = set()
        for item in sorted(kept, key=lambda item: (self._ranks[item], item)):
            lines = [line for line in self._held[item] if not line.lacks_room([item])]
            while lines and sum(item in line.items for line in self.lines) < self._wants[item].copies:
                line = lines[0] if len(lines) == 1 else self.strategy.spread(lines, [item])
                line.put([item])
                lines.remove(line)
                stay.add(symbol_of(item))
            if not any(item in line.items for line in self.lines):
                new.append(item)
        self.strategy.resume(len(stay))
        return new

    def _grouped(self, found: Iterable[str]) -> list[list[str]]:
        """Items grouped by symbol, in their order; every wildcard is a group of its own, a whole market's load."""
        groups: dict[tuple[str, int], list[str]] = {}
        for item in found:
            symbol = symbol_of(item)
            rank = self._ranks[item] if self.strategy.parts_tiers else 0
            groups.setdefault((item if symbol == WILDCARD else symbol, rank), []).append(item)
        return [sorted(group) for group in groups.values()]

    def _put_together(self, group: list[str]) -> list[str]:
        """Put all channels of one symbol on one line if any has room for all, else each where there is room.

        A home is on a line of the best standing; what finds no room there is among those returned as left over.
        """
        suitable: Sequence[Line] = self.lines
        if self._is_home and self.strategy.parts_tiers:
            suitable = self._suitable(suitable, group[0])
        lines = [line for line in suitable if not line.lacks_room(group)]
        if lines:
            self._best(lines, group, self._choose).put(group)
            return []
        if len(group) == 1:
            return group
        return [item for one in group for item in self._put_together([one])]

    def _best(self, lines: Sequence[Line], group: Sequence[str], choose: _Choose) -> Line:
        """Of those with room and the best standing: one that had it, or that has its symbol, or whom *choose* names."""
        lines = self._suitable(lines, group[0])
        if len(lines) > 1 and self._held:
            held = self._held.get(group[0], ())
            lines = [line for line in lines if line in held] or lines
        if len(lines) > 1:
            symbol = symbol_of(group[0])
            familiar = [line for line in lines if symbol in line.symbols] if symbol != WILDCARD else []
            return self.strategy.spread(familiar, group) if familiar else choose(lines, group)
        return choose(lines, group)

    def _suitable(self, lines: Sequence[Line], item: str) -> Sequence[Line]:
        """Those of the best standing."""
        if not self.strategy.parts_tiers:
            return lines
        standings = [self.strategy.standing(line, self._ranks[item]) for line in lines]
        return [line for line, standing in zip(lines, standings, strict=True) if standing == min(standings)]

    def _squeeze_in(self, left: list[tuple[int, str]]) -> None:
        """Place the highest-ranking of those *left*; whom it displaces is left instead."""
        _, item = heappop(left)
        lines = [line for line in self.lines if not line.lacks_room([item])]
        yielding = [(line, group) for line in self.lines if line not in lines and (group := self._yields(line, item))]
        if self._is_home and self.strategy.parts_tiers:  # a home among one's own comes before the home of a lower tier
            best = set(self._suitable([*lines, *(line for line, _ in yielding)], item))
            lines = [line for line in lines if line in best]
            yielding = [(line, group) for line, group in yielding if line in best]
        if lines:
            self._best(lines, [item], self._choose).put([item])
        elif yielding:
            line, group = max(yielding, key=lambda one: (self._dispensable(one[1]), -one[0].place))
            for other in group:
                line.take(other)
                if not any(carrying.has(other) for carrying in self.lines):
                    heappush(left, (self._ranks[other], other))
            line.put([item])
        else:
            self._unplaced[item] = self._no_room(item)

    def _no_room(self, item: str) -> str:
        full: dict[str, list[str]] = defaultdict(list)
        for line in self.lines:
            full[line.lacks_room([item])].append(line.name)
        if full:
            return "; ".join(f"no room on {', '.join(names)}: {reason}" for reason, names in full.items())
        if self._is_home:
            return f"no enabled connection serves {self._name}"
        return f"no connection of {self._name} is available"

    def _yields(self, line: Line, item: str) -> list[str]:
        """Which items *line* would have to give up for this one, all of them less important; empty when it cannot."""
        found: list[str] = []
        if line.max_symbols is not None and symbol_of(item) not in line.symbols:
            found = self._last(line, "", self._ranks[item]) if symbol_of(item) != WILDCARD else []
            if not found:
                return []
        channel = channel_of(item)
        if channel in line.held_limit:
            less = sum(channel_of(other) == channel for other in found)
            if line.held[channel] - less >= line.held_limit[channel]:
                more = self._last(line, channel, self._ranks[item])
                return [*found, *more] if more else []
        return found

    def _last(self, line: Line, channel: str, rank: int) -> list[str]:
        """The least important symbol, or item of *channel*, if it is less important than *rank*; pins never are.

        Asked for falling importance only (see heappop above): what does not yield once never does later.
        """
        stack = self._yielding.get((line.name, channel))
        if stack is None:
            groups = self._grouped_on(line, channel)
            stack = sorted(groups, key=lambda group: (self._dispensable(group), group))
            self._yielding[line.name, channel] = stack
        while stack:
            group = [item for item in stack[-1] if item in line.items]
            is_whole = channel or line.symbols.get(symbol_of(stack[-1][0])) == len(group)
            if group and is_whole and self._dispensable(group) > rank:
                return group
            stack.pop()
        return []

    def _grouped_on(self, line: Line, channel: str) -> list[list[str]]:
        if channel:
            groups = [[item] for item in line.items if channel_of(item) == channel]
        else:
            by_symbol: defaultdict[str, list[str]] = defaultdict(list)
            for item in sorted(line.items):
                by_symbol[symbol_of(item)].append(item)
            groups = list(by_symbol.values())
        return [group for group in groups if all(self._wants[item].connection != line.name for item in group)]

    def _dispensable(self, group: Iterable[str]) -> float:
        """The higher the less important: the rank, and half a rank more for what another line carries as well."""
        return min(
            self._ranks[item] + (0.5 if sum(line.has(item) for line in self.lines) > 1 else 0.0) for item in group
        )

    def _copy(self, found: Iterable[str]) -> None:
        """Give every item with several copies to so many lines, or say why not."""
        several = [item for item in found if self._wants[item].copies > 1]
        for item in sorted(several, key=lambda item: (symbol_of(item) != WILDCARD, self._ranks[item], item)):
            wish = self._wants[item]
            having = [line for line in self.lines if line.has(item)]
            while having and len(having) < wish.copies:
                others = [line for line in self.lines if line not in having]
                lines = [line for line in others if not line.lacks_room([item])]
                if not lines:
                    self._short[item] = f"{len(having)} of {wish.copies}: {self._no_copy(others, item)}"
                    break
                pin = [line for line in lines if line.name == wish.connection]
                line = self._best(pin or lines, [item], self.strategy.spread)
                line.put([item])
                having.append(line)

    def _no_copy(self, others: Sequence[Line], item: str) -> str:
        if others:
            return "; ".join(sorted({line.lacks_room([item]) for line in others}))
        number = len(self.enabled)
        if self._wants[item].copies > number:
            return f"only {number} {'connection serves' if number == 1 else 'connections serve'} {self._name}"
        return "no other connection is available"

    def _improve(self, only: Collection[str] | None) -> None:
        """Tiers apart: what is on a line that suits it less than another with room goes there.

        A higher tier may have come to a line after the items that are now to leave it.  One tier's moves change what
        suits lower ones only, so going down from the highest comes to an end.
        """
        is_moving = self.strategy.parts_tiers
        while is_moving:
            is_moving = False
            for rank in sorted({rank for line in self.lines for rank in line.ranks}):
                for line in self.lines:
                    is_moving |= self._improve_line(line, rank, only)

    def _improve_line(self, line: Line, rank: int, only: Collection[str] | None) -> bool:
        standing = self.strategy.standing
        better = [other for other in self.lines if standing(other, rank) < standing(line, rank)]
        if rank not in line.ranks or not better:
            return False
        moved = False
        for item in sorted(item for item in line.items if self._ranks[item] == rank):
            if self._wants[item].connection == line.name or (only is not None and item not in only):
                continue
            lines = [other for other in better if not other.lacks_room([item]) and not _meets(other, item)]
            if lines:
                line.take(item)
                self._best(lines, [item], self.strategy.spread).put([item])
                moved = True
        return moved


def _meets(line: Line, item: str) -> bool:
    """Whether the line has the item, or, for a wildcard, single symbols that it would absorb."""
    if symbol_of(item) != WILDCARD:
        return line.has(item)
    return any(channel_of(other) == channel_of(item) for other in line.items)
