"""Which connection carries what: a pure function of connections, wishes and the lines that may carry something now.

First every item gets a *home*, as if all connections were up; then the items of those that are not available are folded
into the others of their market.  So all other items stay where they are, and a line that comes back gets its own again.

* A pin is a home.  Without one, all channels of a symbol go to one line where possible: to one that has the symbol
  already, else by strategy: ``manual`` takes the emptiest (fewest items), ``round-robin`` the next one in turn.
* A wildcard carries the single symbols of its channel, which are then not subscribed: an upstream would send them
  twice, and one that has both loses the singles when the wildcard goes.
* Further copies of an item go to the emptiest other lines; while one of its lines is not available, another copy is
  opened where a line is left.
* What has no line or no room is named in ``Plan.unplaced``, never left out silently.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mcm.core.markets import MARKETS
from mcm.core.settings import Connection, Settings, items
from mcm.core.topics import WILDCARD

__all__ = ["Plan", "Wish", "plan", "wishes"]


class Wish(NamedTuple):
    """One item of a market that is wanted, by this connection or, with None, by any; on so many lines at once."""

    market: str
    item: str
    connection: str | None = None
    copies: int = 1


@dataclass(frozen=True)
class Plan:
    """Who carries what.

    Attributes:
        carries: enabled connection → its items, sorted; empty for one that is not available.
        unplaced: topic (``stocks.T.AAPL``) → why nobody carries it.
        short: topic → why it has fewer copies than wanted: ``1 of 2``, and the reason.
    """

    carries: dict[str, tuple[str, ...]]
    unplaced: dict[str, str]
    short: dict[str, str] = field(default_factory=dict)


def wishes(settings: Settings) -> list[Wish]:
    """What the watchlists want, each item once and in their order; a pin wins over none, more copies over fewer."""
    found: dict[tuple[str, str], Wish] = {}
    for watchlist in settings.watchlists:
        for item in items(watchlist, settings.universes):
            known = found.get((watchlist.market, item), Wish(watchlist.market, item))
            connection, copies = known.connection or watchlist.connection, max(known.copies, watchlist.copies)
            found[watchlist.market, item] = Wish(watchlist.market, item, connection, copies)
    return list(found.values())


def plan(
    connections: Sequence[Connection],
    wanted: Iterable[Wish],
    *,
    strategy: str,
    available: Collection[str] | None = None,
    previous: Plan | None = None,
) -> Plan:
    """Give every wish to an enabled connection, or name the reason why not.

    Args:
        connections: all of the settings; disabled ones carry nothing.
        wanted: in any order, but that ``round-robin`` goes by it.  Of an item pinned twice, the first pin wins.
        strategy: ``manual`` or ``round-robin``.
        available: names of the connections that may carry something now; None for all.
        previous: the plan in force: an item without its home stays where that plan has it, if that line is available.
    """
    enabled = [connection for connection in connections if connection.enabled]
    markets: dict[str, dict[str, str | None]] = defaultdict(dict)
    copies: dict[str, dict[str, int]] = defaultdict(dict)
    for wish in wanted:
        pins = markets[wish.market]
        if pins.get(wish.item) is None:
            pins[wish.item] = wish.connection
        if wish.copies > 1:
            copies[wish.market][wish.item] = max(wish.copies, copies[wish.market].get(wish.item, 1))
    carries: dict[str, tuple[str, ...]] = {connection.name: () for connection in enabled}
    unplaced: dict[str, str] = {}
    short: dict[str, str] = {}
    for market, pins in markets.items():
        lines = [_Line(connection) for connection in enabled if connection.market == market]
        assigned = _Market(market, lines, strategy)
        assigned.settle(pins)
        assigned.copy(copies[market], lines)
        if available is not None:
            absent = {line.name for line in lines} - set(available)
            assigned.fold(absent, previous)
            assigned.copy(copies[market], [line for line in lines if line.name not in absent])
        carries |= {line.name: tuple(sorted(line.items)) for line in lines}
        unplaced |= {f"{market}.{item}": assigned.unplaced[item] for item in sorted(assigned.unplaced)}
        short |= {f"{market}.{item}": reason for item, reason in sorted(assigned.short.items())}
    return Plan(carries, unplaced, short)


class _Line:
    """One connection that is being filled."""

    def __init__(self, connection: Connection) -> None:
        self.name, self.max_symbols = connection.name, connection.max_symbols
        self.held_limit = MARKETS[connection.market].held_limit
        self.items: set[str] = set()
        self.symbols: set[str] = set()
        self.held: Counter[str] = Counter()  # per channel that has a limit

    def lacks_room(self, group: Sequence[str]) -> str:
        """Why it cannot take these items of one symbol as well; empty when it can."""
        symbol = _symbol(group[0])
        if self.max_symbols is not None and symbol not in self.symbols:
            if symbol == WILDCARD:
                return "max_symbols is set, and a wildcard is all symbols"
            if len(self.symbols) >= self.max_symbols:
                return f"max_symbols is {self.max_symbols:,}"
        for channel, limit in self.held_limit.items():
            if self.held[channel] >= limit and any(_channel(item) == channel for item in group):
                return f"{limit:,} of {channel} are the upstream's limit for one connection"
        return ""

    def put(self, group: Sequence[str]) -> None:
        self.items.update(group)
        self.symbols.add(_symbol(group[0]))
        if self.held_limit:
            self.held.update(channel for item in group if (channel := _channel(item)) in self.held_limit)

    def clear(self) -> list[str]:
        """Take everything from it."""
        taken = sorted(self.items)
        self.items, self.symbols, self.held = set(), set(), Counter()
        return taken


_Choose = Callable[[Sequence[_Line], Sequence[str]], _Line | None]


def _emptiest(lines: Sequence[_Line], group: Sequence[str]) -> _Line | None:
    by_load = sorted(lines, key=lambda line: len(line.items))
    return next((line for line in by_load if not line.lacks_room(group)), None)


class _InTurn:
    """Gives to one line after the other, passing over those that are full."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, lines: Sequence[_Line], group: Sequence[str]) -> _Line | None:
        for index in range(self._next, self._next + len(lines)):
            line = lines[index % len(lines)]
            if not line.lacks_room(group):
                self._next = index + 1
                return line
        return None


class _Market:
    """All lines of one market while they are being filled."""

    def __init__(self, name: str, lines: list[_Line], strategy: str) -> None:
        self._name, self._lines = name, lines
        self._in_order = strategy == "round-robin"
        self._choose: _Choose = _InTurn() if self._in_order else _emptiest
        self.unplaced: dict[str, str] = {}
        self.short: dict[str, str] = {}

    def settle(self, pins: Mapping[str, str | None]) -> None:
        """Give every item its home; wildcards first, because they cover what then needs no place."""
        whole = {item: pin for item, pin in pins.items() if _symbol(item) == WILDCARD}
        self._settle(whole)
        covered = {_channel(item) for item in whole if item not in self.unplaced}
        self._settle({item: pin for item, pin in pins.items() if item not in whole and _channel(item) not in covered})

    def _settle(self, pins: Mapping[str, str | None]) -> None:
        by_name = {line.name: line for line in self._lines}
        for item, pin in sorted((item, pin) for item, pin in pins.items() if pin is not None):
            line = by_name.get(pin)
            if line is None:
                self.unplaced[item] = f"{pin}, where it is pinned, is no enabled connection of {self._name}"
            elif reason := line.lacks_room([item]):
                self.unplaced[item] = f"no room on {pin}, where it is pinned: {reason}"
            else:
                line.put([item])
        free = _by_symbol(item for item, pin in pins.items() if pin is None)
        for group in free if self._in_order else sorted(free):
            self._place(group, self._lines, self._choose, f"no enabled connection serves {self._name}")

    def copy(self, copies: Mapping[str, int], lines: Sequence[_Line]) -> None:
        """Give every item with several copies to so many of *lines*; called again, it mends what has changed."""
        self.short.clear()
        for item, number in sorted(copies.items()):
            every = f"{_channel(item)}.{WILDCARD}"
            having = [line for line in lines if item in line.items or every in line.items]
            while having and len(having) < number:
                others = [line for line in lines if line not in having]
                line = _emptiest(others, [item])
                if line is None:
                    reasons = {other.lacks_room([item]) for other in others} or {"no other connection is available"}
                    self.short[item] = f"{len(having)} of {number}: {'; '.join(sorted(reasons))}"
                    break
                line.put([item])
                having.append(line)

    def fold(self, absent: Collection[str], previous: Plan | None) -> None:
        """Hand the items of the *absent* lines to the others; nothing else moves."""
        others = [line for line in self._lines if line.name not in absent]
        displaced = [item for line in self._lines if line.name in absent for item in line.clear()]
        held = previous.carries if previous is not None else {}
        stays = {item: line for line in others for item in held.get(line.name, ())}
        carried = {item for line in others for item in line.items}
        moving = []
        for item in dict.fromkeys(displaced):
            line = stays.get(item)
            if item in carried:
                continue  # a copy of it lives
            if line is not None and not line.lacks_room([item]):
                line.put([item])
            else:
                moving.append(item)
        for group in sorted(_by_symbol(moving)):
            self._place(group, others, _emptiest, f"no connection of {self._name} is available")

    def _place(self, group: Sequence[str], lines: Sequence[_Line], choose: _Choose, otherwise: str) -> None:
        """Put all channels of one symbol on one line if any has room for all, else each where there is room."""
        symbol = _symbol(group[0])
        familiar = [line for line in lines if symbol in line.symbols] if symbol != WILDCARD else []
        line = _emptiest(familiar, group) or choose(lines, group)
        if line is not None:
            line.put(group)
        elif len(group) > 1:
            for item in group:
                self._place([item], lines, choose, otherwise)
        else:
            full: dict[str, list[str]] = defaultdict(list)
            for line in lines:
                full[line.lacks_room(group)].append(line.name)
            reasons = (f"no room on {', '.join(names)}: {reason}" for reason, names in full.items())
            self.unplaced[group[0]] = "; ".join(reasons) or otherwise


def _channel(item: str) -> str:
    return item.partition(".")[0]


def _symbol(item: str) -> str:
    return item.partition(".")[2]


def _by_symbol(found: Iterable[str]) -> list[list[str]]:
    """Items grouped by symbol, in their order; every wildcard is a group of its own, being a whole market's load."""
    groups: dict[str, list[str]] = defaultdict(list)
    for item in found:
        symbol = _symbol(item)
        groups[item if symbol == WILDCARD else symbol].append(item)
    return [sorted(group) for group in groups.values()]
