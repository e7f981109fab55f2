"""Topics and what people type for them.

A **topic** is ``<market>.<channel>.<symbol>``: ``stocks.T.AAPL``. An **item** is what one connection subscribes:
``T.AAPL`` (its market is the connection's). Symbols may hold dots (``T.BRK.B``), so texts are split at the first ones.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mcm.core.errors import BadTopic
from mcm.core.markets import MARKETS

__all__ = ["Topic", "allows", "is_pattern", "is_wildcard", "parse_item", "parse_topic", "prefixes", "whole_channel"]

WILDCARD = "*"
# What a symbol may never hold: it would break the vendor's list syntax or the wire's topic terminator.
_FORBIDDEN = frozenset(", \t\r\n\0")


class Topic(NamedTuple):
    """One channel of one symbol in one market; ``symbol == "*"`` stands for all of them."""

    market: str
    channel: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.market}.{self.channel}.{self.symbol}"

    @property
    def item(self) -> str:
        """How the connection of this market subscribes it, e.g. ``T.AAPL``."""
        return f"{self.channel}.{self.symbol}"


def parse_item(market: str, item: str) -> Topic:
    """Read ``T.AAPL`` as an item of *market*; raise BadTopic where that market has no such thing."""
    channel, dot, symbol = item.partition(".")
    channels = MARKETS[market].channels
    if not dot or channel not in channels:
        raise BadTopic(f"{item!r} is no item of {market}", f"write CHANNEL.SYMBOL with one of {', '.join(channels)}")
    check_symbol(symbol)
    if symbol == WILDCARD and channel in MARKETS[market].no_wildcard:
        raise BadTopic(f"{market} does not offer {item}", "name the symbols")
    return Topic(market, channel, symbol)


def parse_topic(text: str) -> Topic:
    """Read ``stocks.T.AAPL`` or ``stocks.T.*``; raise BadTopic for anything else."""
    market, dot, item = text.partition(".")
    if not dot or market not in MARKETS:
        raise BadTopic(f"{text!r} is no topic", f"write MARKET.CHANNEL.SYMBOL, with a market of {', '.join(MARKETS)}")
    return parse_item(market, item)


def whole_channel(topic: str) -> str:
    """The wildcard that carries *topic* as well, such as ``stocks.T.*``; of a wildcard, itself."""
    market, channel, _ = topic.split(".", 2)
    return f"{market}.{channel}.{WILDCARD}"


def is_wildcard(topic: str) -> bool:
    """Whether *topic* stands for a whole channel."""
    return topic.endswith("." + WILDCARD)


def check_symbol(symbol: str) -> None:
    """Raise BadTopic unless *symbol* can be sent to a vendor and stand in a topic."""
    if not symbol:
        raise BadTopic("a symbol is empty", "write it like AAPL, or * for all")
    if bad := _FORBIDDEN.intersection(symbol):
        raise BadTopic(f"symbol {symbol!r} contains {min(bad)!r}", "symbols hold no spaces, commas or zero bytes")
    if WILDCARD in symbol and symbol != WILDCARD:
        raise BadTopic(f"symbol {symbol!r} mixes * with other text", "only * alone, for all symbols, is possible")


def prefixes(texts: Iterable[str]) -> Iterator[bytes]:
    """The SUB prefixes that select what people mean by *texts*, each one once.

    ``stocks.T.AAPL`` and ``stocks.T.*`` are taken as they are; ``stocks.*`` and ``*`` select whole markets and
    everything; ``T.AAPL`` and ``AAPL`` are looked for in every market that could have them.
    """
    seen: set[bytes] = set()
    for text in texts:
        for prefix in _prefixes_of(text):
            if prefix not in seen:
                seen.add(prefix)
                yield prefix


def _prefixes_of(text: str) -> Iterator[bytes]:
    if text == WILDCARD:
        yield b""
        return
    head, _, rest = text.partition(".")
    if head == "mcm":  # mcm.status, mcm.gap, mcm.heartbeat
        yield text.encode() + b"\0"
    elif head in MARKETS:
        channel, _, symbol = rest.partition(".")
        if rest == WILDCARD or (channel in MARKETS[head].channels and symbol == WILDCARD):
            yield text[:-1].encode()
        else:
            yield str(parse_topic(text)).encode() + b"\0"
    elif owners := [market for market in MARKETS.values() if head in market.channels and rest]:
        for market in owners:
            yield from _prefixes_of(f"{market.name}.{text}")
    else:
        check_symbol(text)
        for market in MARKETS.values():
            for channel in market.channels:
                yield f"{market.name}.{channel}.{text}".encode() + b"\0"


def is_pattern(text: str) -> bool:
    """Whether *text* names some topics as a whole: ``*``, ``stocks.*``, ``stocks.T.*``, ``stocks.T.AAPL``."""
    market, _, rest = text.partition(".")
    channel, _, symbol = rest.partition(".")
    if text == WILDCARD or market not in MARKETS:
        return text == WILDCARD
    if WILDCARD in {rest, symbol}:
        return rest == WILDCARD or channel in MARKETS[market].channels
    try:
        parse_item(market, rest)
    except BadTopic:
        return False
    return True


def allows(patterns: Iterable[str], topic: str) -> bool:
    """Whether *topic* is, as a whole, among what *patterns* allow."""
    market, channel, symbol = topic.split(".", 2)
    return any(
        one in {WILDCARD, f"{market}.{WILDCARD}", f"{market}.{channel}.{WILDCARD}", f"{market}.{channel}.{symbol}"}
        for one in patterns
    )
