"""Quotes and the order book, as massive-protocol 5.2, 5.8, 5.10 and 5.11 show them."""

from mcm.simulator.chance import MASK, SPREAD, mix
from mcm.simulator.origin import EXCHANGES, Q_BLOCK, Origin, Render

__all__ = ["crypto_book", "crypto_quote", "forex_quote", "future_quote", "option_quote", "stock_quote"]


def stock_quote(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head = f'{{"ev":"Q","sym":"{o.symbol}"'
    first_q, z = o.start_of_q(44_000), o.tape

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        bid = int(path(n) * steps) - (h & 1)
        codes = (',"c":1' if h & 14 == 2 else "") + (',"i":[604]' if h & 48 else "")
        return (
            f'{head}{codes},"bx":{EXCHANGES[h >> 6 & 7] + 3},"ax":{EXCHANGES[h >> 9 & 7] + 3},'
            f'"bp":{bid / steps:.10g},"ap":{(bid + 1 + (h >> 12 & 3)) / steps:.10g},'
            f'"bs":{40 * (1 + (h >> 14 & 15))},"as":{40 * (1 + (h >> 18 & 15))},'
            f'"t":{t},"pt":{t - (h >> 22 & 1)},"q":{first_q + Q_BLOCK * n + (h >> 24 & 7)},"z":{z}}}'
        )

    return render


def option_quote(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head, first_q = f'{{"ev":"Q","sym":"{o.symbol}","bx":', o.start_of_q(844_000)

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        bid = int(path(n) * steps) - (h & 1)
        return (
            f'{head}{300 + (h >> 1 & 15)},"ax":{300 + (h >> 5 & 15)},"bp":{bid / steps:.10g},'
            f'"ap":{(bid + 1 + (h >> 9 & 15)) / steps:.10g},"bs":{1 + (h >> 13 & 63)},"as":{1 + (h >> 19 & 63)},'
            f'"t":{t},"q":{first_q + Q_BLOCK * n + (h >> 25 & 7)}}}'
        )

    return render


def future_quote(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head = f'{{"ev":"Q","sym":"{o.symbol}","bp":'

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        bid = int(path(n) * steps) - (h & 1)
        return (
            f'{head}{bid / steps:.10g},"bs":{1 + (h >> 1 & 63)},"bt":{t - 1 - (h >> 7 & 3)},'
            f'"ap":{(bid + 1) / steps:.10g},"as":{1 + (h >> 10 & 63)},"at":{t - (h >> 16 & 3)},"t":{t}}}'
        )

    return render


def forex_quote(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head = f'{{"ev":"C","p":"{o.symbol}","x":48,"a":'

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        bid = int(path(n) * steps) - (h & 1)
        i = ',"i":0' if h & 6 else ""
        return f'{head}{(bid + 1 + (h >> 3 & 15)) / steps:.10g},"b":{bid / steps:.10g}{i},"t":{t}}}'

    return render


def crypto_quote(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head = f'{{"ev":"XQ","pair":"{o.symbol}","bp":'

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        bid = int(path(n) * steps) - (h & 1)
        return (
            f'{head}{bid / steps:.10g},"bs":{(1 + (h >> 1 & 0xFFF)) / 1000:.10g},'
            f'"ap":{(bid + 1 + (h >> 13 & 15)) / steps:.10g},"as":{(1 + (h >> 17 & 0xFFF)) / 1000:.10g},'
            f'"t":{t},"x":{1 if h >> 29 & 1 else 23},"r":{t + 5 + (h >> 30 & 31)}}}'
        )

    return render


_LEVELS = 10


def crypto_book(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    head = f'{{"ev":"XL2","pair":"{o.symbol}","t":'

    def side(price: int, step: int, h: int) -> str:
        return ",".join(
            f"[{(price + step * level) / steps:.10g},{(1 + (h >> 5 * level & 0xFFF)) / 1000:.10g}]"
            for level in range(_LEVELS)
        )

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        bid = int(path(n) * steps) - (h & 1)
        return (
            f'{head}{t},"r":{t + 5 + (h >> 1 & 31)},"x":1,"b":[{side(bid, -1, h)}],"a":[{side(bid + 1, 1, mix(h))}]}}'
        )

    return render
