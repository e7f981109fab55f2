"""Bars, as massive-protocol 5.3, 5.9 and 5.11 show them."""

from mcm.simulator.chance import MASK, SPREAD, mix
from mcm.simulator.origin import Origin, Render, window_of

__all__ = ["crypto_bar", "equity_bar", "forex_bar", "future_bar", "index_bar", "launchpad_bar"]


class _Prices:
    """Open, close, high and low of the n-th bar.  A bar opens where the one before it closed."""

    def __init__(self, o: Origin) -> None:
        self._key, self._path, self._steps = o.key, o.path, o.steps

    def at(self, n: int) -> tuple[float, float, float, float]:
        steps = self._steps
        first, last = round(self._path(n) * steps), round(self._path(n + 1) * steps)
        h = mix(self._key + n * SPREAD & MASK)
        high, low = max(first, last) + (h & 3), min(first, last) - (h >> 2 & 3)
        return first / steps, last / steps, high / steps, low / steps


class _Volume:
    """Volume of the n-th bar and of the day up to its end, so that the second is the sum of the first.

    The running total is a straight line plus noise smaller than one step of it; a bar is the difference of two totals.
    """

    def __init__(self, key: int, typical: int) -> None:
        self._key, self._typical = key, typical

    def total(self, n: int) -> int:
        return self._typical * (n + 1) + mix(self._key ^ n * SPREAD & MASK) % self._typical

    def at(self, n: int) -> int:
        return self.total(n) - self.total(n - 1)


def equity_bar(o: Origin) -> Render:
    """Stocks and options; only stocks have volumes with fractions."""
    prices, volume, window = _Prices(o), _Volume(o.key, 5_000), window_of(o.channel)
    head, opening = f'{{"ev":"{o.channel}","sym":"{o.symbol}","v":', f"{prices.at(0)[0]:.10g}"
    is_stock = not o.symbol.startswith("O:")
    otc = ',"otc":true' if is_stock and len(o.symbol) == 5 and o.symbol.endswith("F") else ""

    def render(n: int, t: int) -> str:
        first, last, high, low = prices.at(n)
        v, total = volume.at(n), volume.total(n)
        fractions = f',"dv":"{v}.0","dav":"{total}.{n % 1000:03d}36"' if is_stock else ""
        return (
            f'{head}{v},"av":{total},"op":{opening},"vw":{round((high + low + last) / 3, 4):.10g},'
            f'"o":{first:.10g},"c":{last:.10g},"h":{high:.10g},"l":{low:.10g},"a":{round(o.path(n / 2), 4):.10g},'
            f'"z":{20 + v % 97},"s":{t},"e":{t + window}{fractions}{otc}}}'
        )

    return render


def index_bar(o: Origin) -> Render:
    prices, window = _Prices(o), window_of(o.channel)
    head = f'{{"ev":"{o.channel}","sym":"{o.symbol}","op":{prices.at(0)[0]:.10g},"o":'

    def render(n: int, t: int) -> str:
        first, last, high, low = prices.at(n)
        return f'{head}{first:.10g},"c":{last:.10g},"h":{high:.10g},"l":{low:.10g},"s":{t},"e":{t + window}}}'

    return render


def launchpad_bar(o: Origin) -> Render:
    """Forex and crypto ``AM``: the keys of a stock bar, without fractions and ``otc``."""
    prices, volume, window = _Prices(o), _Volume(o.key, 300), window_of(o.channel)
    head, opening = f'{{"ev":"{o.channel}","sym":"{o.symbol}","v":', f"{prices.at(0)[0]:.10g}"

    def render(n: int, t: int) -> str:
        first, last, high, low = prices.at(n)
        v = volume.at(n)
        return (
            f'{head}{v},"av":{volume.total(n)},"op":{opening},"vw":{(high + low + last) / 3:.10g},'
            f'"o":{first:.10g},"c":{last:.10g},"h":{high:.10g},"l":{low:.10g},"a":{o.path(n / 2):.10g},'
            f'"z":{1 + v % 7},"s":{t},"e":{t + window}}}'
        )

    return render


def forex_bar(o: Origin) -> Render:
    """The window's end is documented, but missing in the vendor's sample: here it comes and goes."""
    prices, volume, window = _Prices(o), _Volume(o.key, 20), window_of(o.channel)
    head = f'{{"ev":"{o.channel}","pair":"{o.symbol}","o":'

    def render(n: int, t: int) -> str:
        first, last, high, low = prices.at(n)
        end = f',"e":{t + window}' if n % 4 else ""
        return f'{head}{first:.10g},"c":{last:.10g},"h":{high:.10g},"l":{low:.10g},"v":{volume.at(n)},"s":{t}{end}}}'

    return render


def crypto_bar(o: Origin) -> Render:
    prices, volume, window = _Prices(o), _Volume(o.key, 9_000_000), window_of(o.channel)
    head = f'{{"ev":"{o.channel}","pair":"{o.symbol}","v":'

    def render(n: int, t: int) -> str:
        first, last, high, low = prices.at(n)
        v = volume.at(n) / 10_000
        return (
            f'{head}{v:.10g},"vw":{(high + low + last) / 3:.8g},"z":{1 + n % 73},"o":{first:.10g},"c":{last:.10g},'
            f'"h":{high:.10g},"l":{low:.10g},"s":{t},"e":{t + window}}}'
        )

    return render


def future_bar(o: Origin) -> Render:
    """Here ``dv`` is a number and means dollars."""
    prices, volume, window = _Prices(o), _Volume(o.key, 400), window_of(o.channel)
    head = f'{{"ev":"{o.channel}","sym":"{o.symbol}","v":'

    def render(n: int, t: int) -> str:
        first, last, high, low = prices.at(n)
        v = volume.at(n)
        return (
            f'{head}{v},"dv":{v * last * 50:.12g},"o":{first:.10g},"c":{last:.10g},"h":{high:.10g},"l":{low:.10g},'
            f'"n":{1 + v // 3},"s":{t},"e":{t + window}}}'
        )

    return render
