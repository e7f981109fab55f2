"""TickData: every kind of event as the one record of the drop-in classes."""

import dataclasses
import datetime as dt
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core import events
from mcm.core.compat_ticks import TickData, market_status, tick_data
from mcm.core.events import EVENTS, Tick
from mcm.core.markets import MARKETS

NOON = 1_700_067_600_000  # a Wednesday in New York, milliseconds
RECEIVED = 5.0


def test_the_fields_are_these_in_this_order() -> None:
    assert list(inspect.signature(TickData).parameters) == [
        "ticker", "price", "volume", "timestamp", "source", "event_type", "market_status", "bid", "ask", "tick_open",
        "tick_high", "tick_low", "tick_close", "tick_volume", "tick_vwap", "vwap", "tick_start_timestamp",
        "tick_end_timestamp",
    ]  # fmt: skip
    assert dataclasses.asdict(TickData("A", 1.0, 0, 0.0))["source"] == "massive"


@pytest.mark.parametrize("kind", [events.EquitySecondAgg, events.EquityMinuteAgg])
def test_the_price_of_a_bar_is_its_close_and_its_time_is_its_end(kind: type[events.EquityAgg]) -> None:
    bar = kind(
        symbol="AAPL", volume=10, vwap=1.5, aggregate_vwap=1.6, open=1.0, close=2.0, high=3.0, low=0.5,
        start_timestamp=NOON, end_timestamp=NOON + 60_000,
    )  # fmt: skip

    assert tick_data(bar, "stocks", RECEIVED) == TickData(
        "AAPL", 2.0, 10, NOON / 1e3 + 60, "massive", "A", "REGULAR", None, None, 1.0, 3.0, 0.5, 2.0, 10, 1.5, 1.6,
        NOON / 1e3, NOON / 1e3 + 60,
    )  # fmt: skip


def test_a_trade_has_its_price_size_and_time() -> None:
    trade = events.EquityTrade(symbol="AAPL", price=2.0, size=40, timestamp=NOON)

    assert tick_data(trade, "stocks", RECEIVED) == TickData("AAPL", 2.0, 40, NOON / 1e3, event_type="T")


@pytest.mark.parametrize(
    ("bid", "ask", "price"),
    [(1.0, 2.0, 1.5), (1.0, 0.0, 1.0), (0.0, 2.0, 2.0), (None, 2.0, 2.0), (0.0, 0.0, None), (None, None, None)],
)
def test_the_price_of_a_quote_is_its_middle_or_its_only_side(
    bid: float | None, ask: float | None, price: float | None
) -> None:
    quote = events.EquityQuote(symbol="AAPL", bid_price=bid, ask_price=ask, timestamp=NOON)

    data = tick_data(quote, "stocks", RECEIVED)

    if price is None:
        assert data is None
    else:
        assert data == TickData("AAPL", price, 0, NOON / 1e3, event_type="Q", bid=bid, ask=ask)


def test_a_value_is_a_price_whether_its_time_is_in_milli_or_nanoseconds() -> None:
    for timestamp in (NOON, NOON * 1_000_000):
        value = events.FairMarketValue(symbol="AAPL", fmv=2.0, timestamp=timestamp)

        data = tick_data(value, "stocks", RECEIVED)

        assert data is not None
        assert (data.price, data.timestamp, data.event_type) == (2.0, NOON / 1e3, "FMV")


@pytest.mark.parametrize(
    ("market", "kind"), [(market, kind) for market in MARKETS for kind in EVENTS[market]], ids=lambda one: str(one)
)
def test_an_event_with_nothing_but_a_symbol_has_no_price_and_breaks_nothing(market: str, kind: type[Tick]) -> None:
    assert tick_data(kind(symbol="X"), market, RECEIVED) is None


def test_where_the_vendor_names_no_time_it_is_when_it_was_received() -> None:
    data = tick_data(events.CryptoTrade(symbol="BTC-USD", price=2.0), "crypto", RECEIVED)

    assert data is not None
    assert data.timestamp == RECEIVED
    assert data.market_status == "REGULAR", "crypto does not keep the hours of stocks"


@pytest.mark.parametrize(
    ("utc", "status"),
    [
        ("2026-01-07T08:59", "CLOSED"),
        ("2026-01-07T09:00", "PRE"),
        ("2026-01-07T14:30", "REGULAR"),
        ("2026-01-07T21:00", "AFTER"),
        ("2026-01-08T01:00", "CLOSED"),
        ("2026-07-08T13:29", "PRE"),
        ("2026-07-08T13:30", "REGULAR"),
        ("2026-07-08T19:59", "REGULAR"),
        ("2026-07-11T15:00", "CLOSED"),
        ("2026-03-09T13:30", "REGULAR"),
        ("2026-03-06T13:30", "PRE"),
        ("2026-10-30T13:30", "REGULAR"),
        ("2026-11-02T13:30", "PRE"),
    ],
)
def test_the_market_keeps_the_hours_of_new_york_in_summer_and_winter(utc: str, status: str) -> None:
    assert market_status(dt.datetime.fromisoformat(utc + "+00:00").timestamp()) == status


@given(st.floats(allow_nan=False, min_value=-1e12, max_value=1e12))
def test_every_time_has_a_status(at_s: float) -> None:
    assert market_status(at_s) in {"PRE", "REGULAR", "AFTER", "CLOSED"}
