"""The records of ``config.toml`` and what must hold between them.  Nothing in a file is ever ignored silently.

read() takes a parsed document, so that this module knows neither files nor the environment.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, cast

import msgspec
from msgspec import Meta, Struct

from mcm.core import settings_values as values
from mcm.core.errors import BadTopic, SettingsError, UsageError
from mcm.core.markets import MARKETS
from mcm.core.settings_shape import check_shape
from mcm.core.settings_values import shown, unlike
from mcm.core.testing import Testing
from mcm.core.topics import WILDCARD, parse_item

__all__ = [
    "Account",
    "Backfill",
    "Connection",
    "Dashboard",
    "Gateway",
    "Journal",
    "Publish",
    "Routing",
    "Settings",
    "Simulator",
    "Testing",
    "Token",
    "Upstream",
    "Watchlist",
    "check_connection",
    "draft",
    "items",
    "read",
]

_TOKENS_CHARACTERS = 16_384  # they have to fit into one record, with their values
STRATEGIES = ("manual", "round-robin", "hash", "priority", "load-balanced")

Name = Annotated[str, Meta(extra={"check": values.name})]
ConnectionName = Annotated[str, Meta(extra={"check": values.connection_name})]
Market = Annotated[str, Meta(extra={"check": values.choice(tuple(MARKETS))})]
Port = Annotated[int, Meta(ge=0, le=65_535)]


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file; its fields are the keys, their defaults those of the README."""


class Account(_Section, frozen=True):
    """``[account]``: where the key is, and how many connections per market it may hold."""

    api_key_env: Annotated[str, Meta(extra={"check": values.key_variable})] = "MASSIVE_API_KEY"
    max_connections: Annotated[int, Meta(ge=1, le=100)] = 3


class Upstream(_Section, frozen=True):
    """``[upstream]``: what connections dial (``simulator``, a feed of the vendor, a base URL), and its REST side."""

    feed: Annotated[str, Meta(extra={"check": values.feed})] = values.SIMULATOR
    rest_url: Annotated[str, Meta(extra={"check": values.rest_url})] = "https://api.massive.com"

    @property
    def delay_s(self) -> float:
        """By how much the feed lags its market."""
        return 900.0 if self.feed == "delayed" else 0.0


class Routing(_Section, frozen=True):
    """``[routing]``: which connection carries what, and what happens when one fails."""

    strategy: Annotated[str, Meta(extra={"check": values.choice(STRATEGIES)})] = "manual"
    failover: bool = True
    auto_rebalance: bool = True
    health_check_interval_s: Annotated[int, Meta(ge=1, le=3_600)] = 30


class Connection(_Section, frozen=True):
    """``[[connections]]``: one WebSocket to the upstream.

    Attributes:
        tiers: for the strategy ``priority``; watchlists name them.
        max_symbols: distinct symbols that it may carry; None for no limit of our own.
    """

    name: ConnectionName
    market: Market = "stocks"
    enabled: bool = True
    tiers: tuple[Name, ...] = ()
    max_symbols: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class Watchlist(_Section, frozen=True):
    """``[[watchlists]]``: channels of symbols that are wanted.

    Attributes:
        universe: keys of ``[universes]``, joined by ``:``; they add to *symbols*.
        connection: that has to carry it; without one, the strategy decides.
        copies: how many connections carry each of its topics at once.
        conflate_ms: for later versions.
    """

    name: Name
    channels: tuple[str, ...]
    market: Market = "stocks"
    symbols: tuple[str, ...] = ()
    universe: str | None = None
    connection: str | None = None
    tier: Name | None = None
    copies: Annotated[int, Meta(ge=1, le=100)] = 1
    conflate_ms: Annotated[int, Meta(ge=0, le=60_000, extra={"check": values.not_yet_above(0)})] = 0


class Publish(_Section, frozen=True):
    """``[publish]``: TCP endpoints that ticks go to, beside ``ipc://RUN_DIR/ticks``."""

    endpoints: tuple[Annotated[str, Meta(extra={"check": values.endpoint})], ...] = ()


class Journal(_Section, frozen=True):
    """``[journal]``: how much of the past is kept: the smallest of both and 10 % of the free disk."""

    retention_bytes: Annotated[int, Meta(ge=1_048_576, le=2**50)] = 8_589_934_592
    retention_hours: Annotated[int, Meta(ge=1, le=8_760)] = 24


class Backfill(_Section, frozen=True):
    """``[backfill]``: repair of gaps by the vendor's REST side.

    Attributes:
        channels: kinds of tick that are repaired.
        requests_per_s: over everything; the vendor asks for fewer than 100, a free plan has 5 a minute (0.083).
    """

    enabled: bool = True
    channels: tuple[str, ...] = ("T", "XT")
    requests_per_s: Annotated[float, Meta(ge=0.01, le=100)] = 20.0


class Dashboard(_Section, frozen=True):
    """``[dashboard]``: the web page, its REST side and its metrics.

    Attributes:
        token_env: variable that holds the token, without which it serves this machine only.
        hosts: names by which browsers may call it, besides addresses and those of this machine.
    """

    enabled: bool = True
    listen: Annotated[str, Meta(extra={"check": values.listen_with_tokens})] = "127.0.0.1:8765"
    token_env: Annotated[str, Meta(extra={"check": values.token_variable})] | None = None
    hosts: tuple[Annotated[str, Meta(extra={"check": values.host_name})], ...] = ()


class Token(_Section, frozen=True):
    """``[gateway.tokens.NAME]``: a local key, and what comes with it.

    Attributes:
        token_env: variable that holds the token; the token itself never stands in the file.
        topics: what it may hear.
        conflate_ms: > 0: at most the newest event of each topic in that time.
        backfilled: whether it gets what was fetched later to close a gap, as if it were live.
    """

    token_env: Annotated[str, Meta(extra={"check": values.token_variable})]
    topics: tuple[Annotated[str, Meta(extra={"check": values.token_topic})], ...] = ("*",)
    conflate_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    backfilled: bool = False


class Gateway(_Section, frozen=True):
    """``[gateway]``: the vendor's protocol for other programs; without tokens for those of this machine only."""

    enabled: bool = True
    listen: Annotated[str, Meta(extra={"check": values.listen_with_tokens})] = "127.0.0.1:8766"
    tokens: dict[Name, Token] = {}


class Simulator(_Section, frozen=True):
    """``[simulator]``: the built-in upstream.

    Attributes:
        ticks_per_s: over all topics together.
        port, orders_port: 0 lets the system choose.
        cap: connections per key and market, as an account has; 0 for any number.
    """

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 1
    ticks_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] = 1_000
    port: Port = 0
    orders_port: Port = 0
    cap: Annotated[int, Meta(ge=0, le=1_000)] = 3


class Settings(_Section, frozen=True):
    """All of ``config.toml``.

    Attributes:
        run_dir: as written; relative to the file.
        universes: key → symbols.
        testing: None when the section is absent.
    """

    run_dir: Annotated[str, Meta(extra={"check": values.path})] = ".mcm"
    account: Account = Account()
    upstream: Upstream = Upstream()
    routing: Routing = Routing()
    connections: tuple[Connection, ...] = ()
    watchlists: tuple[Watchlist, ...] = ()
    universes: dict[Annotated[str, Meta(extra={"check": values.universe_key})], tuple[str, ...]] = {}
    publish: Publish = Publish()
    journal: Journal = Journal()
    backfill: Backfill = Backfill()
    dashboard: Dashboard = Dashboard()
    gateway: Gateway = Gateway()
    simulator: Simulator = Simulator()
    testing: Testing | None = None


_SHAPE = cast(msgspec.inspect.StructType, msgspec.inspect.type_info(Settings))


def read(document: Mapping[str, object], where: str) -> Settings:
    """The settings in a parsed *document*; raises SettingsError, with *where* as its place, for whatever is wrong."""
    settings = draft(document, where)
    fault = next(_faults(settings), None)
    if fault is not None:
        raise SettingsError(where, *fault)
    return settings


def draft(document: Mapping[str, object], where: str) -> Settings:
    """Every value checked by itself, but not yet what must hold between them: overrides may still mend that."""
    check_shape(document, _SHAPE, where)
    return msgspec.convert(document, Settings)


def check_connection(fields: Mapping[str, object]) -> Connection:
    """A connection as somebody asks for it while mcm runs; raises SettingsError for what it cannot be."""
    kind = next(field.type for field in _SHAPE.fields if field.name == "connections")
    assert isinstance(kind, msgspec.inspect.VarTupleType)
    assert isinstance(kind.item_type, msgspec.inspect.StructType)
    check_shape(fields, kind.item_type, "this connection")
    return msgspec.convert(fields, Connection)


def items(watchlist: Watchlist, universes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What a watchlist wants, each item once, symbol by symbol: ``("T.AAPL", "Q.AAPL", "T.MSFT", …)``."""
    symbols = dict.fromkeys(watchlist.symbols)
    for key in _keys(watchlist):
        symbols.update(dict.fromkeys(universes[key]))
    channels = dict.fromkeys(watchlist.channels)
    return tuple(f"{channel}.{symbol}" for symbol in symbols for channel in channels)


def _keys(watchlist: Watchlist) -> list[str]:
    return watchlist.universe.split(":") if watchlist.universe is not None else []


# --- what must hold between the values -------------------------------------------------------------------------------

_Faults = Iterator[tuple[str, str, str]]  # key, problem, hint


def _faults(settings: Settings) -> _Faults:
    """All faults, those first that make others meaningless."""
    yield from _of_gateway(settings.gateway)
    yield from _of_dashboard(settings.dashboard)
    yield from _of_connections(settings)
    yield from _twice("watchlists", [watchlist.name for watchlist in settings.watchlists])
    for index, watchlist in enumerate(settings.watchlists):
        yield from _of_watchlist(f"watchlists[{index}]", watchlist, settings)
    yield from _of_pins(settings)
    for index, endpoint in enumerate(settings.publish.endpoints):
        if endpoint in settings.publish.endpoints[:index]:
            yield f"publish.endpoints[{index}]", f"{shown(endpoint)} stands here twice", "once is enough"
    if settings.testing is not None and not values.is_loopback(settings.upstream.feed):
        feed = shown(settings.upstream.feed)
        yield "testing", f"this section is refused with the feed {feed}", "remove it, or test on the simulator"


def _of_gateway(gateway: Gateway) -> _Faults:
    port = values.listen_with_tokens(gateway.listen)
    if port is not None and not gateway.tokens:
        problem = f"{shown(gateway.listen)} can be reached from outside"
        problem += ". Non-loopback listening is refused for now without [gateway.tokens]"
        yield "gateway.listen", problem, f'write "127.0.0.1:{port}", or give every program a token'
    if sum(len(text) + 8 for token in gateway.tokens.values() for text in ("", *token.topics)) > _TOKENS_CHARACTERS:
        problem = "the tokens and their topics are too many to be handed to the gateway"
        yield "gateway.tokens", problem, 'name whole channels, as in "stocks.T.*"'


def _of_dashboard(dashboard: Dashboard) -> _Faults:
    port = values.listen_with_tokens(dashboard.listen)
    if port is not None and dashboard.token_env is None:
        problem = f"{shown(dashboard.listen)} can be reached from outside"
        problem += ". Non-loopback listening is refused for now without dashboard.token_env"
        yield "dashboard.listen", problem, f'write "127.0.0.1:{port}", or name the variable of a token'


def _twice(table: str, names: Sequence[str]) -> _Faults:
    for index, name in enumerate(names):
        if name in names[:index]:
            first = f"{table}[{names.index(name)}]"
            yield f"{table}[{index}].name", f"{shown(name)} is already the name of {first}", "give each its own"


def _of_connections(settings: Settings) -> _Faults:
    yield from _twice("connections", [connection.name for connection in settings.connections])
    enabled = [connection for connection in settings.connections if connection.enabled]
    if not enabled:
        problem = "every connection is disabled" if settings.connections else "there is no connection"
        yield "connections", problem, 'add [[connections]] with name = "primary"'
    limit = settings.account.max_connections
    for market, number in Counter(connection.market for connection in enabled).items():
        if number > limit:
            names = ", ".join(connection.name for connection in enabled if connection.market == market)
            yield (
                "account.max_connections",
                f"is {limit}, but {number} connections of {market} are enabled ({names})",
                "raise it if your plan allows more, or write enabled = false for the others",
            )


def _of_watchlist(key: str, watchlist: Watchlist, settings: Settings) -> _Faults:
    market = watchlist.market
    lines = [connection for connection in settings.connections if connection.market == market]
    if not any(connection.enabled for connection in lines):
        hint = f'add [[connections]] with market = "{market}", or give the watchlist another market'
        yield f"{key}.market", f"no enabled connection serves {shown(market)}", hint
    serving = sum(connection.enabled for connection in lines)
    if watchlist.copies > serving > 0:
        problem = f"is {watchlist.copies}, but only {serving} connections serve {market}"
        yield f"{key}.copies", problem, "lower it, or add connections"
    if watchlist.connection is not None:
        yield from _of_pin(f"{key}.connection", watchlist.connection, market, settings.connections)
    tiers = sorted({tier for connection in lines for tier in connection.tiers})
    if watchlist.tier is not None and watchlist.tier not in tiers:
        hint = unlike(watchlist.tier, tiers) if tiers else f'write tiers = ["{watchlist.tier}"] at a connection'
        yield f"{key}.tier", f"no connection of {market} has the tier {shown(watchlist.tier)}", hint
    for index, channel in enumerate(watchlist.channels):
        try:
            values.channel(market, channel)
        except UsageError as error:
            yield f"{key}.channels[{index}]", error.problem, error.hint
    if not watchlist.channels:
        tags = ", ".join(MARKETS[market].channels)
        yield f"{key}.channels", "is empty", f"{market} has {tags}"
    yield from _of_symbols(key, watchlist, settings.universes)


def _of_pin(key: str, name: str, market: str, connections: Sequence[Connection]) -> _Faults:
    same_market = [connection.name for connection in connections if connection.market == market]
    found = next((connection for connection in connections if connection.name == name), None)
    if found is None:
        yield key, f"there is no connection {shown(name)}", unlike(name, same_market)
    elif found.market != market:
        yield key, f"{shown(name)} serves {found.market}, this watchlist is of {market}", unlike(name, same_market)
    elif not found.enabled:
        yield key, f"{shown(name)} is disabled", "enable it, or remove this key and the strategy decides"


def _of_symbols(key: str, watchlist: Watchlist, universes: Mapping[str, Sequence[str]]) -> _Faults:
    sources = [(f"{key}.symbols", watchlist.symbols)]
    for universe in _keys(watchlist):
        if universe not in universes:
            hint = unlike(universe, tuple(universes)) if universes else f'write {universe} = ["AAPL"] below [universes]'
            yield f"{key}.universe", f"there is no universe {shown(universe)}", hint
            return
        sources.append((f"universes.{universe}", tuple(universes[universe])))
    if not any(symbols for _, symbols in sources):
        yield f"{key}.symbols", "the watchlist has no symbols", 'write symbols = ["AAPL"] or name a universe'
    for place, symbols in sources:
        for index, symbol in enumerate(symbols):
            for channel in watchlist.channels:
                try:
                    parse_item(watchlist.market, f"{channel}.{symbol}")
                except BadTopic as error:
                    yield f"{place}[{index}]", error.problem, error.hint


def _of_pins(settings: Settings) -> _Faults:
    """One topic comes by one connection, until *copies* exist; a wildcard carries the single symbols, too."""
    wanted: dict[tuple[str, str], tuple[int, Watchlist]] = {}  # (market, item) → who wants it; pinned ones first
    copies = "with copies = 2 a topic is carried by two connections"
    for index, watchlist in sorted(enumerate(settings.watchlists), key=lambda one: one[1].connection is None):
        for item in items(watchlist, settings.universes):
            _, first = wanted.setdefault((watchlist.market, item), (index, watchlist))
            if watchlist.connection not in {None, first.connection}:
                yield (
                    f"watchlists[{index}].connection",
                    f"{shown(watchlist.connection)} shall carry {item}, which {_gives(first)}",
                    f"take it out of one of them; {copies}",
                )
    for (market, item), (index, watchlist) in wanted.items():
        every = f"{item.partition('.')[0]}.{WILDCARD}"
        _, other = wanted.get((market, every), (index, watchlist))
        if watchlist.connection not in {None, other.connection}:
            yield (
                f"watchlists[{index}].connection",
                f"{shown(watchlist.connection)} shall carry {item}, but {every} has it too, which {_gives(other)}",
                f"give {every} to {shown(watchlist.connection)}, or remove this key; {copies}",
            )


def _gives(watchlist: Watchlist) -> str:
    pin = watchlist.connection
    whom = f"gives to {shown(pin)}" if pin is not None else "leaves to the strategy"
    return f"the watchlist {shown(watchlist.name)} {whom}"
