"""A tick in a few words, for people who watch it go by."""

import datetime as dt

from mcm.core.events import (
    CryptoAgg,
    CryptoQuote,
    CryptoTrade,
    EquityAgg,
    EquityQuote,
    EquityTrade,
    FairMarketValue,
    ForexAgg,
    ForexQuote,
    FuturesAgg,
    FuturesQuote,
    FuturesTrade,
    Imbalance,
    IndexValue,
    LaunchpadValue,
    Level2Book,
    LimitUpLimitDown,
    Tick,
)

__all__ = ["clock", "describe", "duration"]

Number = int | float | str | None


def describe(tick: Tick) -> str:
    """What matters of *tick* in one line of fewer than 80 characters; it does not repeat the symbol."""
    match tick:
        case EquityTrade() | FuturesTrade() | CryptoTrade():
            shares = getattr(tick, "fractional_shares", None) or tick.size
            return f"{_price(tick.price)} × {_size(shares)}"
        case EquityQuote() | FuturesQuote() | CryptoQuote():
            bid = f"{_price(tick.bid_price)} × {_size(tick.bid_size)}"
            return f"bid {bid}   ask {_price(tick.ask_price)} × {_size(tick.ask_size)}"
        case ForexQuote():
            return f"bid {_price(tick.bid_price)}   ask {_price(tick.ask_price)}"
        case EquityAgg() | FuturesAgg() | ForexAgg() | CryptoAgg():
            prices = zip("ohlc", (tick.open, tick.high, tick.low, tick.close), strict=True)
            shown = " ".join(f"{letter} {_price(value)}" for letter, value in prices)
            volume = f" v {_size(tick.volume)}" if tick.volume is not None else ""
            return f"{clock_ms(tick.start_timestamp)} {shown}{volume}"
        case IndexValue() | LaunchpadValue():
            return f"value {_price(tick.value)}"
        case FairMarketValue():
            return f"fair value {_price(tick.fmv)}"
        case LimitUpLimitDown():
            return f"low {_price(tick.low_price)}   high {_price(tick.high_price)}   indicators {tick.indicators or []}"
        case Imbalance():
            return f"imbalance {_size(tick.imbalance_quantity)}   paired {_size(tick.paired_quantity)}"
        case Level2Book():
            return f"best bid {_best(tick.bid_prices)}   best ask {_best(tick.ask_prices)}"
        case _:
            return repr(tick)


def clock(nanoseconds: int) -> str:
    """Time of day of a wall-clock stamp in nanoseconds, in the local time zone, to the millisecond."""
    try:
        moment = dt.datetime.fromtimestamp(nanoseconds // 1_000_000 / 1e3, tz=dt.UTC).astimezone()
    except (ValueError, OverflowError, OSError):  # no time at all, or in another unit than documented
        return "--:--:--.---"
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1_000:03}"


def duration(seconds: float) -> str:
    """Whole seconds in words: ``2 d 3 h 5 s``."""
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole % 60, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value)[:20] or "0 s"


def clock_ms(milliseconds: int | None) -> str:
    """Time of day of a wall-clock stamp in milliseconds, in the local time zone; empty for None."""
    return clock(milliseconds * 1_000_000).partition(".")[0] if milliseconds is not None else ""


def _best(levels: list[tuple[float, float]] | None) -> str:
    return f"{_price(levels[0][0])} × {_size(levels[0][1])}" if levels else "-"


def _price(value: Number) -> str:
    """With at least two digits after the point, and as many as it has."""
    if value is None:
        return "-"
    text = f"{value:,.10g}" if isinstance(value, int | float) else value
    whole, point, digits = text.partition(".")
    return f"{whole}.{digits:0<2}" if "e" not in text or point else text


def _size(value: Number) -> str:
    if value is None:
        return "-"
    return value.removesuffix(".0") if isinstance(value, str) else f"{value:,.10g}"
