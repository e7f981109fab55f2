"""When one line carries too much of its market: which items go to which other line, by what was measured.

Greedy: as long as the busiest line is above the target, the item whose move to some other line leaves the busier of the
two with the least goes there; large ones come first that way, so there are few moves, though not provably the fewest.
Where two moves are worth the same, the one that keeps or brings the channels of a symbol together is taken.
No item goes twice, and none goes that is pinned, or that a wildcard carries as well.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from mcm.core.assignment import Plan, Wish, by_market
from mcm.core.settings import Connection
from mcm.core.strategies import BY_NAME, Known, Line, Manual, channel_of, every, measured, ranking, symbol_of
from mcm.core.topics import WILDCARD

__all__ = ["Shift", "load", "rebalance"]

LOOKED_AT = 16  # items of one rate, for the one whose symbol stays together
EVEN = 1.05  # no target is below it: the last percents are not worth their moves


class Shift(NamedTuple):
    """A topic's home goes from one line to another."""

    topic: str
    source: str
    target: str


def load(plan: Plan, markets: Mapping[str, str], rates: Mapping[str, float]) -> dict[str, float]:
    """Line → ticks/s of what it carries; a wildcard has those of its channel, what is not measured has none.

    Args:
        plan: who carries what.
        markets: line → market, at least those of the plan.
        rates: topic → ticks/s.
    """
    found: dict[str, float] = {}
    for line, items in plan.carries.items():
        rate_of = measured(markets[line], frozenset(items), rates)
        found[line] = sum((rate_of.get(item, 0.0) for item in items), 0.0)
    return found


def rebalance(
    home: Plan,
    connections: Sequence[Connection],
    wanted: Iterable[Wish],
    rates: Mapping[str, float],
    *,
    threshold: float = 1.5,
    target: float = 1.2,
) -> tuple[Plan, list[Shift]]:
    """New homes, and what is different: nothing in a market whose lines are even enough.

    The maximum never rises.  Where single items are too heavy, or pinned, the target is not reached: it is done then
    what can be done.

    Args:
        home: from homes(), of these connections and wishes; or what came out of here before.
        connections: all of the settings.
        wanted: all wishes.
        rates: topic → ticks/s; what is not measured stays.
        threshold: begin when the busiest line of a market carries more than so many times the mean of its lines.
        target: end when it carries no more than so many times the mean.  Both are at least EVEN, so 1.0 and 1.0 is "as
            even as is worth the while".
    """
    carries = dict(home.carries)
    shifts: list[Shift] = []
    for name, wants in by_market(connections, wanted).items():
        market = _Market(name, connections, wants, home, rates)
        moves = market.even_out(max(threshold, EVEN), max(target, EVEN))
        shifts += [Shift(f"{name}.{item}", source, to) for item, source, to in moves]
        if moves:
            carries |= {line.name: tuple(sorted(line.items)) for line in market.lines}
    return replace(home, carries=carries), shifts


_Move = tuple[tuple[float, int, int, float, int], str, Line]  # how good it is, the less the better; item; where to


class _Market:
    """The lines of one market with what they carry at home."""

    def __init__(
        self,
        name: str,
        connections: Sequence[Connection],
        wants: Mapping[str, Wish],
        home: Plan,
        rates: Mapping[str, float],
    ) -> None:
        ranks = ranking(connections)
        serving = [line for line in connections if line.enabled and line.market == name]
        held = {line.name: home.carries.get(line.name, ()) for line in serving}
        self._items = frozenset(item for items in held.values() for item in items)
        self._ranks = {
            item: ranks.get(wants[item].tier or "", len(ranks)) if item in wants else len(ranks) for item in self._items
        }
        rate_of = measured(name, self._items, rates)
        self._rate_of = {item: rate_of.get(item, 0.0) for item in self._items}
        self.lines = [Line(line, place, ranks=self._ranks, weights=self._rate_of) for place, line in enumerate(serving)]
        for line in self.lines:
            line.put(held[line.name])
        known = Known(self.lines, ranks, self._ranks, self._rate_of)
        self._strategy: Manual = BY_NAME[home.strategy](known)
        stays = {item for item in self._items if item in wants and wants[item].connection is not None}
        stays |= {item for item in self._items if symbol_of(item) != WILDCARD and every(item) in self._items}
        self._loose = {line.name: _Loose(line.items - stays, self._rate_of) for line in self.lines}
        self._stuck: set[tuple[str, str]] = set()

    def even_out(self, threshold: float, target: float) -> list[tuple[str, str, str]]:
        """Item, source and target of every move."""
        moves: list[tuple[str, str, str]] = []
        mean = sum(line.load for line in self.lines) / max(1, len(self.lines))
        limit = threshold * mean
        while self.lines and (busiest := max(self.lines, key=lambda line: line.load)).load > limit:
            limit = target * mean
            found = [move for line in self.lines if (move := self._best(busiest, line)) is not None]
            if not found:
                break
            _, item, line = min(found, key=lambda move: (move[0], move[1]))
            busiest.take(item)
            line.put([item])
            self._loose[busiest.name].remove(item)
            self._stuck = {(a, b) for a, b in self._stuck if b != busiest.name and a != line.name}
            moves.append((item, busiest.name, line.name))
        return moves

    def _best(self, source: Line, to: Line) -> _Move | None:
        """The move between these two that leaves the busier one with the least; None if none makes it less."""
        if source is to or (source.name, to.name) in self._stuck:
            return None
        room = source.load - to.load
        found: _Move | None = None
        for side in self._loose[source.name].around(room / 2):
            found = min(
                filter(None, (found, self._first(side, source, to, room))), key=lambda move: move[:2], default=None
            )
        if found is None:
            self._stuck.add((source.name, to.name))
        return found

    def _first(self, side: Iterable[tuple[float, str]], source: Line, to: Line, room: float) -> _Move | None:
        """The first that may go, or of some with the same rate the one that is best for its symbol."""
        found: list[_Move] = []
        nearest = None
        for rate, item in side:
            after = max(source.load - rate, to.load + rate)
            if not 0 < rate < room or after >= source.load or nearest not in {None, rate} or len(found) == LOOKED_AT:
                break
            if self._may_go(item, source, to):
                nearest = rate
                symbol = symbol_of(item)
                goodness = after, source.symbols[symbol] - 1, -to.symbols.get(symbol, 0), to.load, to.place
                found.append((goodness, item, to))
                if not goodness[1]:
                    break  # it leaves no channel of its symbol behind
        return min(found, key=lambda move: move[:2], default=None)

    def _may_go(self, item: str, source: Line, to: Line) -> bool:
        if to.has(item) or to.lacks_room([item]):
            return False
        if symbol_of(item) == WILDCARD and any(channel_of(other) == channel_of(item) for other in to.items):
            return False
        if not self._strategy.parts_tiers:
            return True
        rank = self._ranks[item]
        if self._strategy.standing(to, rank) > self._strategy.standing(source, rank):
            return False
        # A tier that is new to a line would drive the lower ones from it.
        return min(to.ranks, default=rank) <= rank or max(to.ranks) <= rank


class _Loose:
    """What may leave a line, by its ticks/s; the channels of a symbol side by side where these are equal."""

    def __init__(self, items: Iterable[str], rate_of: Mapping[str, float]) -> None:
        self._rate_of = rate_of
        self._sorted = sorted(map(self._key, items))

    def _key(self, item: str) -> tuple[float, str, str]:
        return self._rate_of[item], symbol_of(item), item

    def around(self, rate: float) -> tuple[Iterator[tuple[float, str]], Iterator[tuple[float, str]]]:
        """Rate and item, nearest first: of those below *rate*, and of the others."""
        middle = bisect_left(self._sorted, (rate, "", ""))
        below = (self._sorted[index] for index in range(middle - 1, -1, -1))
        above = (self._sorted[index] for index in range(middle, len(self._sorted)))
        return ((rate, item) for rate, _, item in below), ((rate, item) for rate, _, item in above)

    def remove(self, item: str) -> None:
        del self._sorted[bisect_left(self._sorted, self._key(item))]
