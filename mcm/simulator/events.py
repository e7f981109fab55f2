"""The tape's text: for each kind of event a function (n, t) → one compact JSON object, in the vendor's order of keys.

Literal templates on purpose: see massive-protocol.md 5.1 to 5.12, from which each was copied.  Everything but the time
is a pure function of (seed, topic, n).  All numbers are written with ``%.10g``: like the vendor's encoder it writes
298, not 298.0, and 4.522e-05.
"""

from collections.abc import Callable

from mcm.simulator import bars, quotes, trades, values
from mcm.simulator.chance import key_of, walk
from mcm.simulator.origin import Origin, Render
from mcm.simulator.universe import instrument

__all__ = ["renderer"]

_MAKERS: dict[tuple[str, str], Callable[[Origin], Render]] = {
    ("stocks", "T"): trades.stock_trade,
    ("stocks", "Q"): quotes.stock_quote,
    ("stocks", "LULD"): values.luld,
    ("stocks", "NOI"): values.imbalance,
    ("options", "T"): trades.option_trade,
    ("options", "Q"): quotes.option_quote,
    ("indices", "V"): values.value,
    ("indices", "A"): bars.index_bar,
    ("indices", "AM"): bars.index_bar,
    ("forex", "C"): quotes.forex_quote,
    ("forex", "CAS"): bars.forex_bar,
    ("forex", "CA"): bars.forex_bar,
    ("forex", "AM"): bars.launchpad_bar,
    ("crypto", "XT"): trades.crypto_trade,
    ("crypto", "XQ"): quotes.crypto_quote,
    ("crypto", "XL2"): quotes.crypto_book,
    ("crypto", "XAS"): bars.crypto_bar,
    ("crypto", "XA"): bars.crypto_bar,
    ("crypto", "AM"): bars.launchpad_bar,
    ("futures", "T"): trades.future_trade,
    ("futures", "Q"): quotes.future_quote,
    ("futures", "A"): bars.future_bar,
    ("futures", "AM"): bars.future_bar,
    ("*", "A"): bars.equity_bar,
    ("*", "AM"): bars.equity_bar,
    ("*", "FMV"): values.value,
    ("*", "LV"): values.value,
}


def renderer(seed: int, market: str, channel: str, symbol: str) -> Render:
    """The function that writes the n-th event of a topic; its result depends on nothing but its arguments."""
    make = _MAKERS.get((market, channel)) or _MAKERS["*", channel]
    thing = instrument(market, symbol)
    path = walk(key_of(seed, market, symbol), thing.level)
    return make(Origin(key_of(seed, market, channel, symbol), channel, symbol, path, thing.steps))
