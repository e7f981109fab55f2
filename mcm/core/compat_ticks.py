"""From the vendor's events to ``TickData``, the one record that programs written for the classes of mcm.compat know.

What has no price has no TickData: a quote without sides, a bar without a close, order books, bands and imbalances.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from mcm.core.events import (
    CryptoAgg,
    CryptoMinuteAgg,
    CryptoQuote,
    CryptoSecondAgg,
    CryptoTrade,
    EquityAgg,
    EquityMinuteAgg,
    EquityQuote,
    EquitySecondAgg,
    EquityTrade,
    FairMarketValue,
    ForexAgg,
    ForexMinuteAgg,
    ForexQuote,
    ForexSecondAgg,
    FuturesAgg,
    FuturesMinuteAgg,
    FuturesQuote,
    FuturesSecondAgg,
    FuturesTrade,
    IndexValue,
    LaunchpadValue,
    Tick,
)

__all__ = ["TickData", "market_status", "tick_data"]

_NANOSECONDS = 10**17  # values arrive in milliseconds (13 digits) or nanoseconds (19)
_SESSIONS = ((4 * 60, "CLOSED"), (9 * 60 + 30, "PRE"), (16 * 60, "REGULAR"), (20 * 60, "AFTER"))


@dataclass
class TickData:
    """One tick, whatever it was.

    Attributes:
        ticker: as the vendor spells it.
        price: of a trade; the close of a bar; the middle of a quote, or its only side.
        volume: of a trade or bar; 0 for a quote or value.
        timestamp: seconds since the Unix epoch, UTC; of a bar its end.
        event_type: ``A`` for a bar, ``T`` for a trade, ``Q`` for a quote; ``V``, ``FMV``, ``LV`` for plain values.
        market_status: ``PRE``, ``REGULAR``, ``AFTER`` or ``CLOSED`` by the clock of New York, without holidays;
            ``REGULAR`` where trading does not keep these hours.
        bid, ask: of a quote, as the vendor sent them.
        tick_open, tick_high, tick_low, tick_close, tick_volume, tick_vwap: of a bar.
        vwap: of the day so far, where the vendor gives it.
        tick_start_timestamp, tick_end_timestamp: of a bar, seconds since the Unix epoch.
    """

    ticker: str
    price: float
    volume: float
    timestamp: float
    source: str = "massive"
    event_type: str = "A"
    market_status: str = "REGULAR"
    bid: float | None = None
    ask: float | None = None
    tick_open: float | None = None
    tick_high: float | None = None
    tick_low: float | None = None
    tick_close: float | None = None
    tick_volume: float | None = None
    tick_vwap: float | None = None
    vwap: float | None = None
    tick_start_timestamp: float | None = None
    tick_end_timestamp: float | None = None


def tick_data(tick: Tick, market: str, received_s: float) -> TickData | None:
    """The record of *tick*, or None for what has no price; *received_s* stands in where the vendor names no time."""
    make = _MAKERS.get(type(tick))
    data = make(tick, received_s) if make is not None else None
    if data is not None and market in {"stocks", "options"}:
        data.market_status = market_status(data.timestamp)
    return data


# --- by kind ---------------------------------------------------------------------------------------------------------


def _trade(tick: EquityTrade | FuturesTrade | CryptoTrade, received_s: float) -> TickData | None:
    if tick.price is None:
        return None
    return TickData(tick.symbol, tick.price, tick.size or 0, _seconds(tick.timestamp) or received_s, event_type="T")


def _quote(bid: float | None, ask: float | None, symbol: str, at_s: float) -> TickData | None:
    if bid and ask:
        price = (bid + ask) / 2
    elif bid or ask:
        price = bid or ask or 0.0
    else:
        return None
    return TickData(symbol, price, 0, at_s, event_type="Q", bid=bid, ask=ask)


def _plain_quote(tick: EquityQuote | CryptoQuote | ForexQuote, received_s: float) -> TickData | None:
    return _quote(tick.bid_price, tick.ask_price, tick.symbol, _seconds(tick.timestamp) or received_s)


def _futures_quote(tick: FuturesQuote, received_s: float) -> TickData | None:
    return _quote(tick.bid_price, tick.ask_price, tick.symbol, _seconds(tick.sip_timestamp) or received_s)


def _bar(
    tick: EquityAgg | ForexAgg | CryptoAgg | FuturesAgg, received_s: float, vwap: float | None, day_vwap: float | None
) -> TickData | None:
    if tick.close is None:
        return None
    start, end = _seconds(tick.start_timestamp), _seconds(tick.end_timestamp)
    return TickData(
        tick.symbol,
        tick.close,
        tick.volume or 0,
        end or start or received_s,
        tick_open=tick.open,
        tick_high=tick.high,
        tick_low=tick.low,
        tick_close=tick.close,
        tick_volume=tick.volume,
        tick_vwap=vwap,
        vwap=day_vwap,
        tick_start_timestamp=start,
        tick_end_timestamp=end,
    )


def _equity_bar(tick: EquityAgg, received_s: float) -> TickData | None:
    return _bar(tick, received_s, tick.vwap, tick.aggregate_vwap)


def _pair_bar(tick: ForexAgg | CryptoAgg, received_s: float) -> TickData | None:
    return _bar(tick, received_s, tick.vwap, None)


def _futures_bar(tick: FuturesAgg, received_s: float) -> TickData | None:
    return _bar(tick, received_s, None, None)


def _value(tick: IndexValue | LaunchpadValue, received_s: float) -> TickData | None:
    return _plain(tick.value, tick.timestamp, tick, received_s)


def _fair_value(tick: FairMarketValue, received_s: float) -> TickData | None:
    return _plain(tick.fmv, tick.timestamp, tick, received_s)


def _plain(value: float | None, timestamp: int | None, tick: Tick, received_s: float) -> TickData | None:
    if value is None:
        return None
    return TickData(tick.symbol, value, 0, _seconds(timestamp) or received_s, event_type=tick.event_type)


_MAKERS: dict[type[Tick], Callable[..., TickData | None]] = {
    **dict.fromkeys((EquityTrade, FuturesTrade, CryptoTrade), _trade),
    **dict.fromkeys((EquityQuote, CryptoQuote, ForexQuote), _plain_quote),
    FuturesQuote: _futures_quote,
    **dict.fromkeys((EquitySecondAgg, EquityMinuteAgg), _equity_bar),
    **dict.fromkeys((ForexSecondAgg, ForexMinuteAgg, CryptoSecondAgg, CryptoMinuteAgg), _pair_bar),
    **dict.fromkeys((FuturesSecondAgg, FuturesMinuteAgg), _futures_bar),
    **dict.fromkeys((IndexValue, LaunchpadValue), _value),
    FairMarketValue: _fair_value,
}


# --- times -----------------------------------------------------------------------------------------------------------


def _seconds(timestamp: int | None) -> float | None:
    if timestamp is None:
        return None
    return timestamp / (1e9 if timestamp > _NANOSECONDS else 1e3)


def market_status(at_s: float) -> str:
    """What the clock of New York says of the stock market at *at_s*; it knows weekends, but no holidays."""
    return _status_of_minute(int(at_s // 60))


@lru_cache(maxsize=64)
def _status_of_minute(minute: int) -> str:
    try:
        utc = dt.datetime.fromtimestamp(minute * 60, dt.UTC)
    except (ValueError, OverflowError, OSError):  # no time at all: a test's, or a broken one
        return "CLOSED"
    local = utc + dt.timedelta(hours=-4 if _is_summer(utc) else -5)
    if local.weekday() >= 5:
        return "CLOSED"
    of_day = local.hour * 60 + local.minute
    return next((status for until, status in _SESSIONS if of_day < until), "CLOSED")


def _is_summer(utc: dt.datetime) -> bool:
    """Daylight saving in New York since 2007: second Sunday of March, 7:00 UTC, to first of November, 6:00 UTC."""
    begins = _sunday(utc.year, 3, 2) + dt.timedelta(hours=7)
    ends = _sunday(utc.year, 11, 1) + dt.timedelta(hours=6)
    return begins <= utc < ends


def _sunday(year: int, month: int, number: int) -> dt.datetime:
    first = dt.datetime(year, month, 1, tzinfo=dt.UTC)
    return first + dt.timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))
