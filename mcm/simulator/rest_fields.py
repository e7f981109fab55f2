"""How an event of the stream reads in REST: the names of massive-protocol 8.1 to 8.4."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from mcm.simulator.rest_query import NS_PER_MS

__all__ = ["Convert", "bar_fields", "futures_bar_fields", "futures_fields", "quote_fields", "trade_fields"]

Event = Mapping[str, Any]
Convert = Callable[[Event], dict[str, Any]]

_TIMES = frozenset({"t", "pt", "trft", "r", "bt", "at"})

_STOCK_TRADE = {
    "c": "conditions", "x": "exchange", "i": "id", "pt": "participant_timestamp", "p": "price", "q": "sequence_number",
    "t": "sip_timestamp", "s": "size", "ds": "decimal_size", "z": "tape", "trfi": "trf_id", "trft": "trf_timestamp",
}  # fmt: skip
_CRYPTO_TRADE = {
    "c": "conditions", "x": "exchange", "i": "id", "t": "participant_timestamp", "r": "received_timestamp",
    "p": "price", "s": "size",
}  # fmt: skip
_QUOTE = {
    "ax": "ask_exchange", "ap": "ask_price", "as": "ask_size", "bx": "bid_exchange", "bp": "bid_price",
    "bs": "bid_size", "c": "conditions", "i": "indicators", "pt": "participant_timestamp", "q": "sequence_number",
    "t": "sip_timestamp", "z": "tape", "trft": "trf_timestamp",
}  # fmt: skip
_FOREX_QUOTE = {"x": "ask_exchange", "a": "ask_price", "b": "bid_price", "t": "participant_timestamp"}
_FUTURES_TRADE = {"t": "timestamp", "p": "price", "s": "size", "q": "sequence_number"}
_FUTURES_QUOTE = {
    "t": "timestamp", "bp": "bid_price", "bs": "bid_size", "bt": "bid_timestamp", "ap": "ask_price", "as": "ask_size",
    "at": "ask_timestamp",
}  # fmt: skip
_BAR = {"v": "v", "vw": "vw", "o": "o", "c": "c", "h": "h", "l": "l", "s": "t", "n": "n", "otc": "otc"}
_FUTURES_BAR = {
    "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "dv": "dollar_volume", "n": "transactions",
}  # fmt: skip


def trade_fields(market: str) -> Convert:
    """Stocks, options and crypto."""
    return _renaming(_CRYPTO_TRADE if market == "crypto" else _STOCK_TRADE)


def quote_fields(market: str) -> Convert:
    """Stocks, options and forex; a quote's condition is one number on the stream and a list here."""
    if market == "forex":
        forex = _renaming(_FOREX_QUOTE)
        return lambda event: {**forex(event), "bid_exchange": event["x"]}
    rename = _renaming(_QUOTE)

    def convert(event: Event) -> dict[str, Any]:
        result = rename(event)
        if "conditions" in result:
            result["conditions"] = [result["conditions"]]
        return result

    return convert


def futures_fields(kind: str) -> Convert:
    """Trades or quotes; the session is the day of the tick, UTC."""
    rename = _renaming(_FUTURES_TRADE if kind == "trades" else _FUTURES_QUOTE)
    return lambda event: {**rename(event), "session_end_date": _day(event["t"])}


def bar_fields(bar: Event) -> dict[str, Any]:
    """The stream's letters, but ``t`` for the start of the window; here times stay milliseconds."""
    return {there: bar[here] for here, there in _BAR.items() if here in bar}


def futures_bar_fields(bar: Event) -> dict[str, Any]:
    """Words instead of letters, and nanoseconds."""
    fields = {there: bar[here] for here, there in _FUTURES_BAR.items() if here in bar}
    return {**fields, "window_start": bar["s"] * NS_PER_MS, "session_end_date": _day(bar["s"])}


def _renaming(names: Mapping[str, str]) -> Convert:
    def rename(event: Event) -> dict[str, Any]:
        return {
            there: event[here] * NS_PER_MS if here in _TIMES else event[here]
            for here, there in names.items()
            if here in event
        }

    return rename


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).date().isoformat()
