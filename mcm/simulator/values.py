"""Single values and notices, as massive-protocol 5.4 to 5.7 show them."""

from mcm.simulator.chance import MASK, SPREAD, mix
from mcm.simulator.origin import Q_BLOCK, Origin, Render

__all__ = ["imbalance", "luld", "value"]


def value(o: Origin) -> Render:
    """FMV, LV and V.  Options samples carry nanoseconds, all others milliseconds (massive-protocol 5.6)."""
    path, steps = o.path, o.steps
    unit = "000000" if o.symbol.startswith("O:") else ""
    name = "fmv" if o.channel == "FMV" else "val"
    head = f'{{"ev":"{o.channel}","{name}":'
    middle = f',"{"T" if o.channel == "V" else "sym"}":"{o.symbol}","t":'

    def render(n: int, t: int) -> str:
        return f"{head}{round(path(n) * steps) / steps:.10g}{middle}{t}{unit}}}"

    return render


def luld(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps
    first_q, z = o.start_of_q(3_000), o.tape

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        middle = path(n) * steps
        indicator = 15 if h & 31 else 17 + (h >> 5 & 1)
        return (
            f'{{"ev":"LULD","h":{round(middle * 1.05) / steps:.10g},"l":{round(middle * 0.95) / steps:.10g},'
            f'"i":[{indicator}],"z":{z},"T":"{o.symbol}","t":{t}{h >> 8 & 0x7FFFF:06d},'
            f'"q":{first_q + Q_BLOCK * n + (h >> 30 & 7)}}}'
        )

    return render


def imbalance(o: Origin) -> Render:
    key, path, steps = o.key, o.path, o.steps

    def render(n: int, t: int) -> str:
        h = mix(key + n * SPREAD & MASK)
        auction = '930,"a":"M"' if h & 1 else '1600,"a":"C"'
        return (
            f'{{"ev":"NOI","T":"{o.symbol}","t":{t}{h >> 8 & 0x7FFFF:06d},"at":{auction},"i":{40 + n},"x":10,'
            f'"o":{10 * (h >> 30 & 0xFF)},"p":{10 * (h >> 40 & 0xFFF)},"b":{round(path(n) * steps) / steps:.10g}}}'
        )

    return render
