"""How a line is chosen for what is pinned nowhere: one small class per word of ``[routing] strategy``.

A strategy is asked with the lines that may have an item and have room for it, and names one.  What is allowed at all
(pins, limits, copies on distinct lines) is decided in core.assignment.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from math import fsum
from typing import NamedTuple, TypeVar

from mcm.core.markets import MARKETS
from mcm.core.settings import Connection
from mcm.core.topics import WILDCARD

__all__ = [
    "BY_NAME",
    "Hash",
    "Known",
    "Line",
    "LoadBalanced",
    "Manual",
    "Priority",
    "RoundRobin",
    "channel_of",
    "every",
    "measured",
    "ranking",
    "symbol_of",
    "weights",
]

SILENT = 0.01  # an item without ticks counts as this part of the mean, so that silent ones are shared out as well


def channel_of(item: str) -> str:
    return item.partition(".")[0]


def symbol_of(item: str) -> str:
    return item.partition(".")[2]


def every(item: str) -> str:
    """The wildcard of its channel."""
    return f"{channel_of(item)}.{WILDCARD}"


def ranking(connections: Iterable[Connection]) -> dict[str, int]:
    """Tier → rank, 0 the highest: the order in which the connections name them first."""
    tiers = dict.fromkeys(tier for connection in connections for tier in connection.tiers)
    return {tier: rank for rank, tier in enumerate(tiers)}


def measured(market: str, items: Collection[str], rates: Mapping[str, float]) -> dict[str, float]:
    """Item → ticks/s, of those that were measured; a wildcard has the sum of all topics of its channel."""
    channels: Counter[str] = Counter()
    if any(symbol_of(item) == WILDCARD for item in items):
        for topic, rate in rates.items():
            served, _, item = topic.partition(".")
            if served == market:
                channels[every(item)] += rate  # type: ignore[assignment]  # a Counter adds up floats as well
    found = {item: rates.get(f"{market}.{item}") for item in items} | {
        item: rate for item, rate in channels.items() if item in items
    }
    return {item: rate for item, rate in found.items() if rate is not None}


def weights(market: str, items: Collection[str], rates: Mapping[str, float]) -> dict[str, float]:
    """Item → what it counts: its ticks/s, the mean of the measured ones, or 1 when nothing is measured."""
    known = measured(market, items, rates)
    mean = fsum(known.values()) / len(known) if known else 0.0
    if mean <= 0:
        return dict.fromkeys(items, 1.0)
    return {item: max(known.get(item, mean), SILENT * mean) for item in items}


class Line:
    """One connection that is being filled.

    Args:
        connection: which one.
        place: its number among the lines of its market.
        ranks: item → rank of its tier; None when nobody asks for the tiers.
        weights: item → what it counts; None when nobody asks for the load.

    Attributes:
        symbols: symbol → how many items of it.
        ranks: rank → how many items of it.
    """

    def __init__(
        self,
        connection: Connection,
        place: int = 0,
        *,
        ranks: Mapping[str, int] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.name, self.tiers, self.max_symbols = connection.name, connection.tiers, connection.max_symbols
        self.place = place
        self.held_limit = MARKETS[connection.market].held_limit
        self.items: set[str] = set()
        self.symbols: dict[str, int] = {}
        self.held: Counter[str] = Counter()  # per channel that has a limit
        self.ranks: dict[int, int] = {}
        self.load = 0.0
        self._rank_of, self._weights = ranks, weights
        self._is_limited = self.max_symbols is not None or bool(self.held_limit)
        self._is_plain = ranks is None and weights is None and not self.held_limit

    def has(self, item: str) -> bool:
        """Whether it carries the item, by itself or by a wildcard."""
        return item in self.items or every(item) in self.items

    def lacks_room(self, group: Sequence[str]) -> str:
        """Why it cannot take these items of one symbol as well; empty when it can."""
        if not self._is_limited:
            return ""
        if self.max_symbols is not None and (symbol := symbol_of(group[0])) not in self.symbols:
            if symbol == WILDCARD:
                return "max_symbols is set, and a wildcard is all symbols"
            if len(self.symbols) >= self.max_symbols:
                return f"max_symbols is {self.max_symbols:,}"
        for channel, limit in self.held_limit.items():
            if self.held[channel] >= limit and any(channel_of(item) == channel for item in group):
                return f"{limit:,} of {channel} are the upstream's limit for one connection"
        return ""

    def put(self, group: Iterable[str]) -> None:
        """Take these items; a wildcard absorbs the single symbols of its channel."""
        for item in group:
            channel, _, symbol = item.partition(".")
            if symbol == WILDCARD:
                for single in [other for other in self.items if channel_of(other) == channel]:
                    self.take(single)
            self.items.add(item)
            self.symbols[symbol] = self.symbols.get(symbol, 0) + 1
            if not self._is_plain:
                self._count(item, channel, 1)

    def take(self, item: str) -> None:
        """Take this item away."""
        self.items.remove(item)
        channel, _, symbol = item.partition(".")
        _add(self.symbols, symbol, -1)
        self._count(item, channel, -1)

    def _count(self, item: str, channel: str, number: int) -> None:
        if self._rank_of is not None:
            _add(self.ranks, self._rank_of[item], number)
        if channel in self.held_limit:
            self.held[channel] += number
        if self._weights is not None:
            self.load += number * self._weights[item]


_Key = TypeVar("_Key")


def _add(counts: dict[_Key, int], key: _Key, number: int) -> None:
    """What comes to zero is gone."""
    total = counts.get(key, 0) + number
    if total:
        counts[key] = total
    else:
        del counts[key]


class Known(NamedTuple):
    """What a strategy may know of its market: all enabled lines, tier → rank, and of every item rank and weight."""

    lines: Sequence[Line]
    ranks: Mapping[str, int]
    rank_of: Mapping[str, int]
    weight_of: Mapping[str, float]


class Manual:
    """Pins decide; what has none goes to the emptiest line, the one with the fewest items.

    Attributes:
        keeps: whether items stay where they are when wishes and connections change.
        parts_tiers: whether channels of one symbol may be placed apart because their tiers differ.
    """

    keeps = True
    parts_tiers = False

    def __init__(self, known: Known) -> None:
        self._known = known

    def order(self, groups: list[list[str]]) -> list[list[str]]:
        """In which order groups, each the items of one symbol, are to be placed."""
        return sorted(groups)

    def resume(self, placed: int) -> None:
        """So many groups are where they were, and will not be asked for."""

    def choose(self, lines: Sequence[Line], group: Sequence[str]) -> Line:
        """The home of *group*; every one of *lines* has room for it."""
        return self.spread(lines, group)

    def spread(self, lines: Sequence[Line], group: Sequence[str]) -> Line:
        """For a further copy, and while the home is not available."""
        return min(lines, key=lambda line: len(line.items))

    def standing(self, line: Line, rank: int) -> int:
        """How well *line* suits items of this rank, 0 the best; a line of a worse standing is taken only in need."""
        return 0


class RoundRobin(Manual):
    """One line after the other, in the order of the wishes, passing over those that are full."""

    _next = 0

    def order(self, groups: list[list[str]]) -> list[list[str]]:
        return groups

    def resume(self, placed: int) -> None:
        self._next = placed

    def choose(self, lines: Sequence[Line], group: Sequence[str]) -> Line:
        count = len(self._known.lines)
        line = min(lines, key=lambda line: (line.place - self._next) % count)
        self._next = line.place + 1
        return line


class Hash(Manual):
    """The line whose name, hashed together with the symbol, gives the highest number (rendezvous hashing).

    The same on every machine, without a memory: with n lines, one that comes or goes moves about 1/n of the symbols,
    those that it gets or had.  Wildcards are hashed with their channel, each being a whole market's load.
    """

    keeps = False

    def spread(self, lines: Sequence[Line], group: Sequence[str]) -> Line:
        symbol = symbol_of(group[0])
        key = group[0] if symbol == WILDCARD else symbol
        return max(lines, key=lambda line: blake2b(f"{line.name}\0{key}".encode(), digest_size=8).digest())


class Priority(Manual):
    """Every tier on the lines that list it, apart from higher tiers where that is possible; there, the emptiest.

    Items without a tier rank lowest; theirs are the lines without tiers, or those of the lowest tier if there are none.
    Standing of a line: 0 its tier's and free of higher ones, 1 its tier's, then the others, lowest-ranking ones first.
    """

    parts_tiers = True

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        self._lowest = len(known.ranks)
        self._listed = {line.name: {known.ranks[tier] for tier in line.tiers} for line in known.lines}
        self._best = {name: min(listed, default=self._lowest) for name, listed in self._listed.items()}
        bare = {name for name, listed in self._listed.items() if not listed}
        last = max((rank for listed in self._listed.values() for rank in listed), default=self._lowest)
        of_last = {name for name, listed in self._listed.items() if last in listed}
        self._untiered = bare or of_last

    def order(self, groups: list[list[str]]) -> list[list[str]]:
        return sorted(groups, key=lambda group: (self._known.rank_of[group[0]], group))

    def is_own(self, line: Line, rank: int) -> bool:
        """Whether it is one of the lines that items of this rank belong on."""
        return line.name in self._untiered if rank >= self._lowest else rank in self._listed[line.name]

    def standing(self, line: Line, rank: int) -> int:
        if self.is_own(line, rank):
            return 1 if min(line.ranks, default=rank) < rank else 0
        return 2 + self._lowest - self._best[line.name]


class LoadBalanced(Manual):
    """The heaviest first, each onto the line with the least ticks/s so far."""

    def order(self, groups: list[list[str]]) -> list[list[str]]:
        return sorted(groups, key=lambda group: (-sum(map(self._known.weight_of.__getitem__, group)), group))

    def spread(self, lines: Sequence[Line], group: Sequence[str]) -> Line:
        return min(lines, key=lambda line: (line.load, len(line.items)))


BY_NAME: dict[str, type[Manual]] = {
    "manual": Manual,
    "round-robin": RoundRobin,
    "hash": Hash,
    "priority": Priority,
    "load-balanced": LoadBalanced,
}
