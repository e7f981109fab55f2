"""The days on which the exchanges of New York stay closed or close early, from the optional package ``holidays``."""

import datetime as dt
import logging
from typing import Any

from mcm.core.market_hours import Closings

__all__ = ["closings"]

log = logging.getLogger("mcm.supervisor")


def closings(today: dt.date) -> Closings:
    """Those of about a year around *today*; none without the package (``pip install 'mcm[calendar]'``)."""
    try:
        from holidays.financial.ny_stock_exchange import NewYorkStockExchange  # noqa: PLC0415  # 0.1 s, 13 MB; optional
    except ImportError:
        log.info("market hours know no holidays; `pip install holidays` brings them")
        return Closings()
    years = range(today.year - 1, today.year + 2)
    exchange: Any = NewYorkStockExchange
    return Closings(frozenset(exchange(years=years)), frozenset(exchange(years=years, categories=("half_day",))))
