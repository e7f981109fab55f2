"""Trades, as massive-protocol 5.1, 5.10 and 5.11 show them."""

from mcm.simulator.chance import MASK, SPREAD, mix
from mcm.simulator.origin import EXCHANGES, OFF_EXCHANGE, Q_BLOCK, Origin, Render

__all__ = ["crypto_trade", "future_trade", "option_trade", "stock_trade"]

# Trade sizes as they are met: round lots, odd lots, and fractional ones, which `s` truncates.
_SIZES = ("100", "1", "40", "200", "5", "10", "300", "129", "50", "2", "75", "1000", "25", "400", "12", "3")
_FRACTIONS = (("0", "0.740474"), ("12", "12.5"), ("0", "0.01"), ("3", "3.003118"))
_STOCK_SIZES = [(size, f',"ds":"{size}.0"') for size in _SIZES] * 3 + [
    *((whole, f',"ds":"{exact}"') for whole, exact in _FRACTIONS * 3),
    *((size, "") for size in _SIZES[:4]),
]
_CONDITIONS = ["", "", "", "", ',"c":[12]', ',"c":[14,41]', ',"c":[37]', ',"c":[0,12]']


def stock_trade(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head = f'{{"ev":"T","sym":"{o.symbol}","i":"'
    first_id, first_q, z = 10_000 + key % 80_000, o.start_of_q(4_000), o.tape

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        x = EXCHANGES[h & 7]
        size, ds = _STOCK_SIZES[h >> 3 & 63]
        price = round(path(n) * steps + (h >> 9 & 1)) / steps
        pt = t - (h >> 12 & 3)
        if x == OFF_EXCHANGE and not h >> 40 & 63:
            pt -= 100_000 * (1 + (h >> 46 & 7))  # reported up to 15 minutes late
        trf = f',"trfi":202,"trft":{t}' if x == OFF_EXCHANGE else ""
        return (
            f'{head}{first_id + n}","x":{x},"p":{price:.10g},"s":{size}{_CONDITIONS[h >> 16 & 7]},'
            f'"t":{t},"pt":{pt},"q":{first_q + Q_BLOCK * n + (h >> 20 & 7)},"z":{z}{trf}{ds}}}'
        )

    return render


def option_trade(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head, first_q = f'{{"ev":"T","sym":"{o.symbol}","x":', o.start_of_q(651_000)

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        condition = ',"c":[233]' if h & 48 else ',"c":[209]' if h & 64 else ""
        return (
            f'{head}{300 + (h & 15)},"p":{round(path(n) * steps + (h >> 9 & 1)) / steps:.10g},'
            f'"s":{1 + (h >> 10 & 31)}{condition},"t":{t},"q":{first_q + Q_BLOCK * n + (h >> 20 & 7)}}}'
        )

    return render


def future_trade(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head, first_q = f'{{"ev":"T","sym":"{o.symbol}","p":', o.start_of_q(20_000)

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        price = round(path(n) * steps + (h >> 9 & 1)) / steps
        return f'{head}{price:.10g},"s":{1 + (h & 15)},"t":{t},"q":{first_q + Q_BLOCK * n + (h >> 20 & 7)}}}'

    return render


def crypto_trade(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head, first_id = f'{{"ev":"XT","pair":"{o.symbol}","p":', 100_000_000 + key % 800_000_000

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        if h & 1:  # Coinbase numbers its trades; Bitfinex and Kraken look like this
            x, identity = 1, str(first_id + n)
        else:
            # All 64 bits of h are kept, and mix() is one to one: no identity occurs twice.
            text = f"{h:016x}{mix(h):016x}"
            x, identity = 23, f"{text[:8]}-{text[8:12]}-4{text[12:15]}-8{text[15:18]}-{text[18:30]}"
        size = (1 + (h >> 8 & 0xFFFF)) / (1_000 if h & 6 else 1_000_000_000)
        return (
            f'{head}{round(path(n) * steps + (h >> 30 & 1)) / steps:.10g},"t":{t},"s":{size:.10g},'
            f'"c":[{1 + (h >> 31 & 1)}],"i":"{identity}","x":{x},"r":{t + 5 + (h >> 40 & 31)}}}'
        )

    return render
