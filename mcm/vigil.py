"""The supervisor's eye on market hours: what the workers are told of them, and which silent lines are taken for dead.

The built-in simulator, and whatever else stands in for a vendor on this machine, keeps no hours: there, the learned
rates of the lines are all that counts.
"""

import datetime as dt
import logging
import time
import zoneinfo
from collections.abc import Collection, Mapping

from mcm import exchange_days
from mcm.core.control import MarketHours
from mcm.core.market_hours import Closings, Hours, Kind, hours
from mcm.core.settings import Settings, Testing
from mcm.core.settings_values import is_loopback
from mcm.core.silence import Seen, Silence

__all__ = ["Vigil"]

log = logging.getLogger("mcm.supervisor")


class Vigil:
    """Knows in which session every market is, and judges lines by it."""

    def __init__(self, settings: Settings) -> None:
        feed = settings.upstream.feed
        self._always_open = (settings.testing or Testing()).market_is_open
        self._follows = self._always_open or not is_loopback(feed)
        self._delay_ns = int(settings.upstream.delay_s * 1e9)
        self._hours: dict[str, Hours] = {}
        self._closings: tuple[int, Closings] | None = None  # of which year
        self._told: dict[str, MarketHours] = {}
        self._silence = Silence()

    def news(self, markets: Mapping[str, str]) -> dict[str, MarketHours]:
        """Line → what to tell it of its market's hours, for those (name → market) that do not know it yet."""
        found = {name: told for name, market in markets.items() if (told := self._to_tell(market)) is not None}
        news = {name: told for name, told in found.items() if self._told.get(name) != told}
        self._told = found
        return news

    def _to_tell(self, market: str) -> MarketHours | None:
        now = self._now(market)
        return MarketHours(now.kind.value, (now.since_ns or 0) + self._delay_ns) if now is not None else None

    def started(self, name: str) -> None:
        """The worker of this line is a new process, which knows nothing."""
        self._told.pop(name, None)

    def measured(self, line: Seen, per_s: Mapping[str, float], carried: Collection[str]) -> None:
        """Take what a line has measured of its items; *carried* are the topics of all lines."""
        if self._follows and line.speaks:
            self._silence.measured(line.market, per_s, carried)

    def forgive(self, lines: Mapping[str, Seen]) -> None:
        """Look at lines of which none is suspect."""
        self._silence.forgive(lines)

    def silent(self, lines: Mapping[str, Seen]) -> dict[str, str]:
        """Line → why it is taken for dead, for those that are."""
        markets = {line.market for line in lines.values()}
        open_s = {
            market: (time.time_ns() - self._delay_ns - (now.since_ns or 0)) / 1e9
            for market in markets
            if (now := self._now(market)) is not None and now.kind is Kind.OPEN
        }
        return self._silence.judge(lines, open_s)

    def _now(self, market: str) -> Hours | None:
        """The session of *market*; None where nothing is known of it."""
        if not self._follows:
            return None
        if self._always_open:
            return Hours(Kind.OPEN, "open for a test")
        now_ns = time.time_ns() - self._delay_ns
        known = self._hours.get(market)
        if known is not None and known.covers(now_ns):
            return known
        try:
            self._hours[market] = found = hours(market, now_ns, self._days(now_ns))
        except zoneinfo.ZoneInfoNotFoundError:
            log.warning("market hours are not known: this system has no time zones; `pip install tzdata` brings them")
            self._follows = False
            return None
        log.info("%s: %s", market, found.name)
        return found

    def _days(self, now_ns: int) -> Closings:
        today = dt.datetime.fromtimestamp(now_ns / 1e9, tz=dt.UTC).date()
        if self._closings is None or self._closings[0] != today.year:
            self._closings = today.year, exchange_days.closings(today)
        return self._closings[1]
