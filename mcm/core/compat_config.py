"""From the ``config`` dict of the classes in mcm.compat to a configuration of mcm.

Its keys are the variables of core.overrides, which reads them here as well, and a few more.  Values may be of their
natural type or text.  Connection n of the dict becomes the line ``connection_n``.
"""

import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mcm.core import overrides, settings
from mcm.core.errors import SettingsError, UsageError
from mcm.core.markets import MARKETS
from mcm.core.massive import FEEDS
from mcm.core.settings import Settings
from mcm.core.settings_values import channel as check_channel
from mcm.core.settings_values import shown
from mcm.core.topics import WILDCARD, parse_item

__all__ = [
    "ACCOUNT_CONNECTIONS",
    "LineWish",
    "Wish",
    "distribute",
    "document",
    "items_of",
    "read",
    "symbols_of",
    "texts",
    "toml",
]

ACCOUNT_CONNECTIONS = 3  # of an account, unless the dict says otherwise
RETENTION_BYTES = 2**29
_GENERAL = (
    "USE_MULTI_CONNECTION",
    "WEBSOCKET_AUTO_REBALANCE",
    "WEBSOCKET_CONNECTIONS_MAX",
    "WEBSOCKET_FAILOVER_ENABLED",
    "WEBSOCKET_HEALTH_CHECK_INTERVAL",
    "WEBSOCKET_ROUTING_STRATEGY",
)
_NUMBERED = re.compile(r"WEBSOCKET_CONNECTION_([1-9]\d*)_(ENABLED|NAME|SYMBOLS|UNIVERSE_KEY)")
_ADDED = re.compile(r"connection-(\d+)")
_MINUTE_BARS = {"forex": "CA", "crypto": "XA"}
_WHERE = "config"


@dataclass(frozen=True)
class LineWish:
    """One connection of the dict: its symbols (or items like ``T.AAPL``) and keys of universes, as written."""

    connection_id: str
    name: str
    entries: tuple[str, ...] = ()
    universes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What the dict says.

    Attributes:
        settings: the account, upstream and routing of it, checked.
        market: that all connections serve; channels: that a plain symbol stands for.
        lines: enabled connections, as many as there may be; left_out: ids of further ones.
        run_dir: of a running mcm to attach to; None to start one.
        wants_backfilled: whether ticks that were fetched later are delivered, too.
    """

    settings: Settings
    market: str
    channels: tuple[str, ...]
    lines: tuple[LineWish, ...]
    left_out: tuple[str, ...]
    run_dir: str | None
    wants_backfilled: bool


def read(config: Mapping[str, Any], max_connections: int) -> Wish:
    """Check *config*; raises SettingsError, naming the key, for a value that cannot be.

    At most *max_connections* of its connections count, and at most ``WEBSOCKET_CONNECTIONS_MAX`` if that is there.
    """
    numbered = _numbered(config)
    variables = {key: _text(config[key]) for key in _GENERAL if key in config}
    enabled = {f"WEBSOCKET_CONNECTION_{n}_ENABLED": of.get("ENABLED", "true") for n, of in numbered.items()}
    feed, market = _upstream(_text(config.get("MASSIVE_WEBSOCKET_URL", "")))
    start = Settings(account=settings.Account(max_connections=max(ACCOUNT_CONNECTIONS, max_connections)))
    result = overrides.override(start, variables | enabled)
    result.causes["upstream.feed"] = "MASSIVE_WEBSOCKET_URL"
    general = {"account": result.settings.account, "routing": result.settings.routing, "upstream": {"feed": feed}}
    try:
        checked = settings.draft(msgspec.to_builtins(general), _WHERE)
    except SettingsError as error:
        raise result.blame(error) from None
    lines = [_line(n, numbered[n], config) for n in _enabled(overrides.override(start, enabled).settings)]
    if len(lines) > len(_enabled(result.settings)) == 1:  # USE_MULTI_CONNECTION is off
        lines = [_all_on_one(lines)]
    limit = min(max_connections, checked.account.max_connections)
    run_dir = _text(config.get("MCM_RUN_DIR", ""))
    return Wish(
        settings=checked,
        market=market,
        channels=_channels(config, market),
        lines=tuple(lines[:limit]),
        left_out=tuple(line.connection_id for line in lines[limit:]),
        run_dir=run_dir or None,
        wants_backfilled=_text(config.get("MCM_BACKFILLED", "")).lower() in {"true", "1", "yes", "on"},
    )


def _numbered(config: Mapping[str, Any]) -> dict[int, dict[str, str]]:
    """Number of a connection → what the dict says of it, as text; a key that is set to nothing is not there."""
    found: dict[int, dict[str, str]] = {}
    for key in config:
        match = _NUMBERED.fullmatch(key) if isinstance(key, str) else None
        if match is not None and (text := _text(config[key])):
            found.setdefault(int(match[1]), {})[match[2]] = text
    return dict(sorted(found.items()))


def _enabled(found: Settings) -> list[int]:
    matches = (_ADDED.fullmatch(one.name) for one in found.connections if one.enabled)
    return [int(match[1]) for match in matches if match is not None]


def _all_on_one(lines: Sequence[LineWish]) -> LineWish:
    """The first, with what all of them were to carry."""
    entries = tuple(entry for line in lines for entry in line.entries)
    universes = tuple(key for line in lines for key in line.universes)
    return LineWish(lines[0].connection_id, lines[0].name, entries, universes)


def _line(number: int, of: Mapping[str, str], config: Mapping[str, Any]) -> LineWish:
    connection_id = f"connection_{number}"
    entries = texts(config.get(f"WEBSOCKET_CONNECTION_{number}_SYMBOLS"))
    universes = (of["UNIVERSE_KEY"],) if "UNIVERSE_KEY" in of else ()
    return LineWish(connection_id, of.get("NAME", connection_id), entries, universes)


def _text(value: object) -> str:
    """A value of the dict as a variable of the environment would hold it."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return str(value).strip()


def texts(value: object) -> tuple[str, ...]:
    """A list of texts, or one text with commas, as symbols are given; each once."""
    if value is None:
        return ()
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Iterable):
        raise UsageError(f"{shown(str(value))} is no list of symbols", 'write ["AAPL", "MSFT"], or "AAPL,MSFT"')
    return tuple(dict.fromkeys(text for part in parts if (text := str(part).strip())))


def _upstream(url: str) -> tuple[str, str]:
    """(feed, market) of an address with or without a market at its end."""
    if "://" not in url:
        return url or "real-time", "stocks"
    parts = urllib.parse.urlsplit(url)
    base, _, last = parts.path.rstrip("/").rpartition("/")
    path, market = (base, last) if last in MARKETS else (parts.path.rstrip("/"), "stocks")
    word = next((word for word, host in FEEDS.items() if parts.netloc == host), None)
    if word is not None and parts.scheme == "wss" and not (path or parts.query or parts.fragment):
        return word, market
    return urllib.parse.urlunsplit(parts._replace(path=path)), market


def _channels(config: Mapping[str, Any], market: str) -> tuple[str, ...]:
    channels = texts(config.get("WEBSOCKET_CHANNELS"))
    for one in channels:
        try:
            check_channel(market, one)
        except UsageError as error:
            raise SettingsError("WEBSOCKET_CHANNELS", "", error.problem, error.hint) from None
    return channels or (_MINUTE_BARS.get(market, "AM"),)


# --- symbols ---------------------------------------------------------------------------------------------------------


def items_of(entry: str, market: str, channels: Sequence[str]) -> tuple[str, ...]:
    """``AAPL`` on each of *channels*, ``T.AAPL`` as it is; raises BadTopic for what can be neither."""
    entry = entry.strip()
    head, dot, rest = entry.partition(".")
    items = (entry,) if dot and rest and head in MARKETS[market].channels else [f"{one}.{entry}" for one in channels]
    return tuple(parse_item(market, item).item for item in items)


def symbols_of(key: str, universes: object) -> tuple[str, ...]:
    """The symbols of a universe, asked for as written and, where nobody knows that, by the parts between colons.

    *universes* is a dict, or a function from key to list.  Raises UsageError for a key that nobody knows.
    """
    if not (callable(universes) or isinstance(universes, Mapping)):
        problem = f"there is no universe {shown(key)}: WEBSOCKET_UNIVERSES is not given"
        raise UsageError(problem, "give a dict of name → symbols, or a function from key to list")
    look = universes if callable(universes) else universes.get
    if found := _looked_up(key, look):
        return found
    parts = key.split(":")
    of_parts = {part: _looked_up(part, look) for part in parts} if len(parts) > 1 else {key: ()}
    for part, symbols in of_parts.items():
        if not symbols:
            raise UsageError(f"the universe {shown(part)} has no symbols", "see WEBSOCKET_UNIVERSES")
    return tuple(dict.fromkeys(symbol for symbols in of_parts.values() for symbol in symbols))


def _looked_up(key: str, look: Callable[[str], object]) -> tuple[str, ...]:
    try:
        return texts(look(key))
    except KeyError:
        return ()


def distribute(items: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Each item on the first connection that names it; a wildcard has the whole channel, whoever names a symbol."""
    every = {item.partition(".")[0] for named in items.values() for item in named if item.endswith(f".{WILDCARD}")}
    taken: set[str] = set()
    found: dict[str, list[str]] = {}
    for connection_id, named in items.items():
        mine = found.setdefault(connection_id, [])
        for item in named:
            channel, _, symbol = item.partition(".")
            if item not in taken and (symbol == WILDCARD or channel not in every):
                taken.add(item)
                mine.append(item)
    return found


# --- the configuration -----------------------------------------------------------------------------------------------


def document(wish: Wish, lines: Mapping[str, Sequence[str]], free: Sequence[str] = ()) -> dict[str, Any]:
    """What ``config.toml`` would say: *lines* are id → pinned items, *free* what the strategy may place."""
    base = wish.settings
    return {
        "run_dir": "run",
        "account": msgspec.to_builtins(base.account),
        "upstream": {"feed": base.upstream.feed},
        "routing": msgspec.to_builtins(base.routing),
        "connections": [{"name": name, "market": wish.market} for name in lines],
        "watchlists": _watchlists(wish.market, [*lines.items(), (None, free)]),
        "backfill": {"enabled": wish.wants_backfilled},
        "journal": {"retention_bytes": RETENTION_BYTES},
        "dashboard": {"enabled": False},
        "gateway": {"enabled": False},
    }


def _watchlists(market: str, groups: Iterable[tuple[str | None, Sequence[str]]]) -> list[dict[str, Any]]:
    found: dict[tuple[str | None, str], dict[str, Any]] = {}
    for connection, items in groups:
        for item in items:
            channel, _, symbol = item.partition(".")
            if (connection, channel) not in found:
                pin = {"connection": connection} if connection is not None else {}
                new = {"name": f"list-{len(found) + 1}", "market": market, "channels": [channel], "symbols": [], **pin}
                found[connection, channel] = new
            found[connection, channel]["symbols"].append(symbol)
    return list(found.values())


def toml(values: Mapping[str, Any]) -> str:
    """*values* as TOML, one line per key of the top."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case Mapping():
            return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return msgspec.json.encode(str(value)).decode().replace("\x7f", "\\u007f")
