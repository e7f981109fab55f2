"""What one value of the configuration may be: names, feeds, addresses; and how to say it when it is something else.

A check takes the value and raises UsageError(problem, hint); file and key path are added by core.settings_shape.
"""

import difflib
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mcm.core import massive
from mcm.core.errors import UsageError
from mcm.core.markets import MARKETS
from mcm.core.topics import is_pattern

__all__ = [
    "SIMULATOR",
    "channel",
    "choice",
    "connection_name",
    "endpoint",
    "feed",
    "host_name",
    "is_local",
    "is_loopback",
    "key_variable",
    "listen_with_tokens",
    "name",
    "nearest",
    "not_yet_above",
    "path",
    "rest_url",
    "shown",
    "token_topic",
    "token_variable",
    "universe_key",
    "unlike",
]

SIMULATOR = "simulator"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
RESERVED = (
    "router",
    "replay",
    SIMULATOR,
    "backfill",
    "gateway",
    "dashboard",
    "supervisor",
)  # processes and links have these names
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_LOOPBACK = re.compile(r"localhost|::1|127(\.\d{1,3}){3}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_LONGEST_SHOWN = 60
_MOST_LISTED = 12
_REMOTE = "Non-loopback listening is refused for now"

# --- wording ---------------------------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """A value as the file spells it, shortened; of lists and tables only what they are: a key might be inside."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            short = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
            return '"' + "".join(one if one.isprintable() else ascii(one)[1:-1] for one in short) + '"'
        case int() | float():
            return str(value)
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a table"
        case _:
            return "a date or time"


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Which of the *known* words was likely meant by *word*."""
    folded = {one.lower(): one for one in known}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def unlike(word: str, known: Sequence[str], *, or_else: str = "") -> str:
    """The hint for a value that should have been one of the *known* ones: what was likely meant, what is allowed."""
    listed = ", ".join(known[:_MOST_LISTED]) + (f" and {more} more" if (more := len(known) - _MOST_LISTED) > 0 else "")
    near = nearest(word, known)
    return f"allowed: {listed}{or_else}" if near is None else f'did you mean "{near}"? Allowed: {listed}{or_else}'


# --- names -----------------------------------------------------------------------------------------------------------


def name(value: str) -> None:
    """Of connections, watchlists and tiers; they become parts of file names and topics."""
    if not NAME.fullmatch(value):
        raise UsageError(
            f"{shown(value)} cannot be a name",
            "names have 1 to 32 characters of a-z, 0-9, - and _, and begin with a letter or digit",
        )


def connection_name(value: str) -> None:
    """Like any name, but not that of another process."""
    name(value)
    if value in RESERVED:
        raise UsageError(f"{shown(value)} is the name of another part of mcm", f"not to be used: {', '.join(RESERVED)}")


def universe_key(value: str) -> None:
    """Anything that can stand between colons."""
    if not value or ":" in value or value != value.strip():
        raise UsageError(f"{shown(value)} cannot be a universe's key", 'a watchlist joins keys by ":", as in "tech:us"')


def path(value: str) -> None:
    """Of a directory."""
    if not value.strip() or "\0" in value:
        raise UsageError(f"{shown(value)} is no path", 'write it like ".mcm"')


def key_variable(value: str) -> None:
    """The name of an environment variable.  Never shown: people write the key itself here."""
    if not _VARIABLE.fullmatch(value):
        raise UsageError(
            "this is not the name of an environment variable (and is not repeated here, in case it is the key itself)",
            'write api_key_env = "MASSIVE_API_KEY", and the key into that variable or into .env',
        )


def token_variable(value: str) -> None:
    """The name of an environment variable.  Never shown: people write the token itself here."""
    if not _VARIABLE.fullmatch(value):
        raise UsageError(
            "this is not the name of an environment variable (and is not repeated here, in case it is the token)",
            'write token_env = "MY_PROGRAM_TOKEN", and the token into that variable or into .env',
        )


def token_topic(value: str) -> None:
    """What a token of the gateway allows."""
    if not is_pattern(value):
        raise UsageError(f"{shown(value)} allows nothing", 'write "stocks.T.AAPL", "stocks.T.*", "stocks.*" or "*"')


def choice(allowed: Sequence[str]) -> Callable[[str], None]:
    """A check for one of the words *allowed*."""

    def check(value: str) -> None:
        if value not in allowed:
            raise UsageError(f"{shown(value)} is not known", unlike(value, allowed))

    return check


def not_yet_above(limit: int) -> Callable[[int], None]:
    """A check for numbers that will mean something later."""

    def check(value: int) -> None:
        if value > limit:
            raise UsageError(f"{value} is not yet available in this version", f"use {limit}, or leave it out")

    return check


def channel(market: str, value: str) -> None:
    """One of the *market*'s; the hint knows them by their descriptions, too."""
    channels = MARKETS[market].channels
    if value not in channels:
        meant = next((tag for tag, words in channels.items() if value.lower() in {tag.lower(), words}), None)
        suggestion = f'did you mean "{meant}"? ' if meant is not None else ""
        listed = ", ".join(f"{tag} ({words})" for tag, words in channels.items())
        raise UsageError(f"{shown(value)} is no channel of {market}", f"{suggestion}{market} has {listed}")


# --- addresses -------------------------------------------------------------------------------------------------------


def is_loopback(upstream: str) -> bool:
    """Whether a feed stays on this machine: the built-in simulator, or a base URL of the loopback interface."""
    return upstream == SIMULATOR or ("://" in upstream and is_local(urllib.parse.urlsplit(upstream).hostname))


def is_local(host: str | None) -> bool:
    """Whether this host name means this machine."""
    return host is not None and _LOOPBACK.fullmatch(host) is not None


def feed(value: str) -> None:
    """The simulator, one of the vendor's feeds, or the base URL of anything that speaks like the vendor."""
    words = (SIMULATOR, *massive.FEEDS)
    if value in words:
        return
    if "://" not in value:
        or_url = ", or a base URL such as ws://127.0.0.1:9000"
        raise UsageError(f"{shown(value)} is no feed", unlike(value, words, or_else=or_url))
    parts = _url(value, ("ws", "wss"), "ws://127.0.0.1:9000")
    base, _, last = parts.path.rstrip("/").rpartition("/")
    if last in MARKETS:
        meant = f"{parts.scheme}://{parts.netloc}{base}"
        raise UsageError(f"{shown(value)} names a market", f'each connection adds its own: write "{meant}"')


def rest_url(value: str) -> None:
    """Where the vendor answers REST requests."""
    _url(value, ("https", "http"), "https://api.massive.com")


def _url(value: str, schemes: Sequence[str], example: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(value)
        has_host = parts.port != 0 and bool(parts.hostname)
    except ValueError:  # a port beyond 65535, an open bracket
        parts, has_host = urllib.parse.SplitResult("", "", "", "", ""), False
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            "this URL holds more than scheme, host, port and path (it is not repeated here, in case that is a key)",
            f"write it like {example}; the key goes into its environment variable",
        )
    if not has_host or parts.scheme not in schemes or any(letter.isspace() for letter in value):
        raise UsageError(f"{shown(value)} is no base URL", f"write {' or '.join(schemes)}, as in {example}")
    return parts


def listen_with_tokens(value: str) -> int | None:
    """``host:port``, anywhere, port 0 lets the system choose; the port where that can be reached from outside."""
    parts = _split_address(f"//{value}")
    if parts is None:
        raise UsageError(f"{shown(value)} is no address", 'write HOST:PORT, as in "127.0.0.1:8765"; port 0 picks one')
    return None if is_local(parts[0]) else parts[1]


def host_name(value: str) -> None:
    """A name as browsers send it, without a port."""
    if not _HOST.fullmatch(value):
        raise UsageError(f"{shown(value)} is no host name", 'write it like "desk.example.com", without a port')


def endpoint(value: str) -> None:
    """A ``tcp://`` endpoint of ZeroMQ, with a port of its own."""
    scheme, _, rest = value.partition("://")
    parts = _split_address(f"//{rest}")
    if scheme != "tcp" or parts is None or parts[1] == 0:
        raise UsageError(f"{shown(value)} is no endpoint", 'write it like "tcp://127.0.0.1:5555"')
    host, port = parts
    if not is_local(host):
        raise UsageError(f"{shown(value)} can be reached from outside. {_REMOTE}", f'write "tcp://127.0.0.1:{port}"')
    if ":" in host:
        raise UsageError(f"{shown(value)} needs IPv6, which the router does not speak", f'use "tcp://127.0.0.1:{port}"')


def _split_address(text: str) -> tuple[str, int] | None:
    try:
        parts: Any = urllib.parse.urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or port is None or parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return host, port
