"""When a market trades: which session a wall clock lies in, and until when.

Sessions of the United States (stocks, options, indices), the forex week, the futures week of CME Globex with its daily
break, crypto always.  Holidays and short days come in as Closings; without them every weekday counts as a whole one.

What follows from it is small on purpose, because tables are wrong now and then: where a market is OPEN, less patience
with a silent line is needed; where it is CLOSED, more; where it is THIN, a line's own habits are all there is.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from zoneinfo import ZoneInfo

__all__ = ["Closings", "Hours", "Kind", "hours"]

_NEW_YORK, _CHICAGO = "America/New_York", "America/Chicago"
_DAYS_BACK, _DAYS_AHEAD = 10, 12  # longer than any row of closed days but those of a crisis
_BREAK_NS = 2 * 3_600 * 10**9


class Kind(Enum):
    """What silence means in a session."""

    OPEN = "open"  # somebody trades all the time
    THIN = "thin"  # few trade: before and after the regular session, futures on a holiday
    CLOSED = "closed"  # nobody does, as far as the table knows


@dataclass(frozen=True)
class Closings:
    """Days of New York on which its exchanges stay closed, and those on which they close at 13:00."""

    closed: frozenset[dt.date] = frozenset()
    short: frozenset[dt.date] = frozenset()


@dataclass(frozen=True)
class Hours:
    """One session, or the time between two.

    Attributes:
        name: in words, e.g. ``pre-market``.
        since_ns, until_ns: wall clock between which it lasts; None where it has neither begin nor end.
    """

    kind: Kind
    name: str
    since_ns: int | None = None
    until_ns: int | None = None

    def covers(self, now_ns: int) -> bool:
        """Whether *now_ns* lies in it."""
        return (self.since_ns is None or self.since_ns <= now_ns) and (self.until_ns is None or now_ns < self.until_ns)


_Session = tuple[int, int, Kind, str]


def hours(market: str, now_ns: int, closings: Closings | None = None) -> Hours:
    """The session of *market* in which the wall clock *now_ns* lies.

    Raises zoneinfo.ZoneInfoNotFoundError where the system has no time zones (the package ``tzdata`` has them).
    """
    if market == "crypto":
        return Hours(Kind.OPEN, "open")
    before: int | None = None
    for since, until, kind, name in _sessions(market, now_ns, closings or Closings()):
        if now_ns < since:
            is_break = before is not None and since - before <= _BREAK_NS
            return Hours(Kind.CLOSED, "break" if is_break else "closed", before, since)
        if now_ns < until:
            return Hours(kind, name, since, until)
        before = until
    return Hours(Kind.CLOSED, "closed", before)


def _sessions(market: str, now_ns: int, closings: Closings) -> Iterator[_Session]:
    """All sessions about *now_ns*, in order."""
    zone = ZoneInfo(_CHICAGO if market == "futures" else _NEW_YORK)
    today = dt.datetime.fromtimestamp(now_ns // 10**9, tz=zone).date()
    for number in range(-_DAYS_BACK, _DAYS_AHEAD):
        day = today + dt.timedelta(days=number)
        match market:
            case "forex":
                yield from _forex(day, zone)
            case "futures":
                yield from _futures(day, zone, closings)
            case _:
                yield from _united_states(day, zone, closings)


def _united_states(day: dt.date, zone: ZoneInfo, closings: Closings) -> Iterator[_Session]:
    if day.weekday() >= 5 or day in closings.closed:
        return
    close, end = ("13:00", "17:00") if day in closings.short else ("16:00", "20:00")
    yield _at(day, "04:00", zone), _at(day, "09:30", zone), Kind.THIN, "pre-market"
    yield _at(day, "09:30", zone), _at(day, close, zone), Kind.OPEN, "regular session"
    yield _at(day, close, zone), _at(day, end, zone), Kind.THIN, "after hours"


def _forex(day: dt.date, zone: ZoneInfo) -> Iterator[_Session]:
    """Sunday 17:00 to Friday 17:00 in New York."""
    if day.weekday() == 6:
        friday = day + dt.timedelta(days=5)
        yield _at(day, "17:00", zone), _at(friday, "17:00", zone), Kind.OPEN, "open"


def _futures(day: dt.date, zone: ZoneInfo, closings: Closings) -> Iterator[_Session]:
    """From 17:00 in Chicago on the day before to 16:00, Monday to Friday.

    Exchange holidays shorten it by product, which no table here knows.
    """
    if day.weekday() < 5:
        is_odd = day in closings.closed or day in closings.short
        kind, name = (Kind.THIN, "holiday hours") if is_odd else (Kind.OPEN, "open")
        yield _at(day - dt.timedelta(days=1), "17:00", zone), _at(day, "16:00", zone), kind, name


def _at(day: dt.date, clock: str, zone: ZoneInfo) -> int:
    moment = dt.datetime.combine(day, dt.time.fromisoformat(clock), tzinfo=zone)
    return int(moment.timestamp()) * 10**9
