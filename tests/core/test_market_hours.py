"""When markets trade, by a table: sessions, weekends, breaks, holidays, short days, summer time."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.market_hours import Closings, Hours, Kind, hours
from mcm.core.markets import MARKETS
from mcm.exchange_days import closings

NEW_YORK = ZoneInfo("America/New_York")
KNOWN = Closings(
    frozenset({dt.date(2026, 11, 26), dt.date(2026, 12, 25)}), frozenset({dt.date(2026, 11, 27), dt.date(2026, 12, 24)})
)


def at(text: str, zone: ZoneInfo = NEW_YORK) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 10**9


def now(market: str, text: str) -> Hours:
    return hours(market, at(text), KNOWN)


@pytest.mark.parametrize(
    ("text", "kind", "name", "until"),
    [
        ("2026-11-23 03:59:59", Kind.CLOSED, "closed", "2026-11-23 04:00"),
        ("2026-11-23 04:00:00", Kind.THIN, "pre-market", "2026-11-23 09:30"),
        ("2026-11-23 09:30:00", Kind.OPEN, "regular session", "2026-11-23 16:00"),
        ("2026-11-23 16:00:00", Kind.THIN, "after hours", "2026-11-23 20:00"),
        ("2026-11-23 20:00:00", Kind.CLOSED, "closed", "2026-11-24 04:00"),
        ("2026-11-25 21:00:00", Kind.CLOSED, "closed", "2026-11-27 04:00"),  # the next day is a holiday
        ("2026-11-26 10:00:00", Kind.CLOSED, "closed", "2026-11-27 04:00"),
        ("2026-11-27 12:59:59", Kind.OPEN, "regular session", "2026-11-27 13:00"),  # a short day
        ("2026-11-27 13:00:00", Kind.THIN, "after hours", "2026-11-27 17:00"),
        ("2026-11-27 17:00:00", Kind.CLOSED, "closed", "2026-11-30 04:00"),  # the weekend
    ],
)
@pytest.mark.parametrize("market", ["stocks", "options", "indices"])
def test_the_day_of_new_york(market: str, text: str, kind: Kind, name: str, until: str) -> None:
    found = now(market, text)

    assert (found.kind, found.name, found.until_ns) == (kind, name, at(until))


def test_without_holidays_a_weekday_is_a_day_like_any_other() -> None:
    assert hours("stocks", at("2026-11-26 10:00")).kind is Kind.OPEN


@pytest.mark.parametrize(
    ("text", "kind", "until"),
    [
        ("2026-11-22 16:59:59", Kind.CLOSED, "2026-11-22 17:00"),
        ("2026-11-22 17:00:00", Kind.OPEN, "2026-11-27 17:00"),
        ("2026-11-26 03:00:00", Kind.OPEN, "2026-11-27 17:00"),
        ("2026-11-27 17:00:00", Kind.CLOSED, "2026-11-29 17:00"),
    ],
)
def test_the_week_of_forex(text: str, kind: Kind, until: str) -> None:
    found = now("forex", text)

    assert (found.kind, found.until_ns) == (kind, at(until))


@pytest.mark.parametrize(
    ("text", "kind", "name", "until"),
    [
        ("2026-11-22 17:59:59", Kind.CLOSED, "closed", "2026-11-22 18:00"),
        ("2026-11-22 18:00:00", Kind.OPEN, "open", "2026-11-23 17:00"),
        ("2026-11-23 17:30:00", Kind.CLOSED, "break", "2026-11-23 18:00"),
        ("2026-11-25 19:00:00", Kind.THIN, "holiday hours", "2026-11-26 17:00"),
        ("2026-11-20 17:00:00", Kind.CLOSED, "closed", "2026-11-22 18:00"),
    ],
)
def test_the_week_of_futures_with_its_daily_break(text: str, kind: Kind, name: str, until: str) -> None:
    found = now("futures", text)

    assert (found.kind, found.name, found.until_ns) == (kind, name, at(until))


def test_crypto_never_closes() -> None:
    assert now("crypto", "2026-12-25 03:00") == Hours(Kind.OPEN, "open")


@pytest.mark.parametrize(
    ("day", "utc_hour"), [("2026-03-06", 14), ("2026-03-09", 13), ("2026-10-30", 13), ("2026-11-02", 14)]
)
def test_the_regular_session_follows_summer_time(day: str, utc_hour: int) -> None:
    opening = at(f"{day} {utc_hour}:30", ZoneInfo("UTC"))

    assert hours("stocks", opening - 1).kind is Kind.THIN
    assert hours("stocks", opening).kind is Kind.OPEN


INSTANTS = st.integers(at("2015-01-01 00:00"), at("2035-01-01 00:00"))


@given(market=st.sampled_from(sorted(MARKETS)), now_ns=INSTANTS, share=st.floats(0, 1), has_days=st.booleans())
def test_a_session_lasts_as_long_as_it_says_and_then_comes_another(
    market: str, now_ns: int, share: float, has_days: bool
) -> None:
    known = KNOWN if has_days else None
    found = hours(market, now_ns, known)

    assert found.covers(now_ns)
    if found.since_ns is None or found.until_ns is None:
        assert market == "crypto"
        return
    within_ns = found.since_ns + int(share * (found.until_ns - found.since_ns - 1))
    assert hours(market, within_ns, known) == found
    assert hours(market, found.until_ns - 1, known) == found
    following = hours(market, found.until_ns, known)
    assert following.since_ns == found.until_ns
    assert (following.kind, following.name) != (found.kind, found.name)


@given(now_ns=INSTANTS)
def test_stocks_are_open_for_six_and_a_half_hours_or_three_and_a_half(now_ns: int) -> None:
    found = hours("stocks", now_ns, KNOWN)

    if found.kind is Kind.OPEN:
        assert found.since_ns is not None
        assert found.until_ns is not None
        assert (found.until_ns - found.since_ns) / 3.6e12 in {6.5, 3.5}


def test_the_calendar_knows_the_holidays_of_the_exchange() -> None:
    found = closings(dt.date(2026, 11, 26))

    assert {dt.date(2026, 4, 3), dt.date(2026, 7, 3), dt.date(2026, 11, 26), dt.date(2027, 1, 1)} <= found.closed
    assert {dt.date(2025, 7, 3), dt.date(2026, 11, 27), dt.date(2026, 12, 24)} <= found.short
    assert not found.closed & found.short


def test_without_the_calendar_there_are_no_holidays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "holidays.financial.ny_stock_exchange", None)

    assert closings(dt.date(2026, 11, 26)) == Closings()
