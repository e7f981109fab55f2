"""The catalogue: which markets exist and which channels (kinds of tick) each of them publishes.

A market is what one upstream connection serves; its name is the first part of every topic.
"""

from dataclasses import dataclass, field

__all__ = ["MARKETS", "Market"]


@dataclass(frozen=True)
class Market:
    """What one market publishes.

    Attributes:
        name: first part of a topic, e.g. ``"stocks"``.
        channels: channel tag → what it carries, in words. The tag equals ``ev`` of the channel's ticks.
        example: a symbol in this market's spelling.
        held_limit: channel → how many of its symbols one connection may hold at a time.
        no_wildcard: channels that cannot be subscribed as a whole.
    """

    name: str
    channels: dict[str, str]
    example: str
    held_limit: dict[str, int] = field(default_factory=dict)
    no_wildcard: frozenset[str] = frozenset()


_TRADES_QUOTES_BARS = {"T": "trades", "Q": "quotes", "A": "second bars", "AM": "minute bars"}
_VALUES = {"FMV": "fair market value", "LV": "launchpad value"}

# Channels and limits: vendor's WebSocket reference, subscription prefixes per cluster (2026).
MARKETS: dict[str, Market] = {
    market.name: market
    for market in (
        Market(
            "stocks",
            _TRADES_QUOTES_BARS | {"LULD": "limit up, limit down", "NOI": "net order imbalance"} | _VALUES,
            "AAPL",
        ),
        Market(
            "options",
            _TRADES_QUOTES_BARS | _VALUES,
            "O:SPY241220P00720000",
            held_limit={"Q": 1_000, "FMV": 1_000},
            no_wildcard=frozenset({"Q", "FMV"}),
        ),
        Market("indices", {"V": "index value", "A": "second bars", "AM": "minute bars"}, "I:SPX"),
        Market(
            "forex",
            {"C": "quotes", "CAS": "second bars", "CA": "minute bars", "AM": "launchpad minute bars"} | _VALUES,
            "EUR/USD",
        ),
        Market(
            "crypto",
            {
                "XT": "trades",
                "XQ": "quotes",
                "XL2": "order book",
                "XAS": "second bars",
                "XA": "minute bars",
                "AM": "launchpad minute bars",
            }
            | _VALUES,
            "BTC-USD",
        ),
        Market("futures", _TRADES_QUOTES_BARS, "ESZ5"),
    )
}
