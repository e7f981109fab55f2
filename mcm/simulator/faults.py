"""Broken events and frames, as vendors have sent them; written by hand, like everything the simulator says."""

import re
from typing import Literal

__all__ = ["MALFORMED_FRAME", "Fault", "bad_event", "corrected", "with_float"]

Fault = Literal["malformed-frame", "unknown-event", "missing-symbol", "wrong-type", "float-integer"]

MALFORMED_FRAME = '[{"ev":"T","sym":"AAPL","i":"1","x":4,"p":297.8'

_INTEGER = re.compile(r'":(\d+)(?=[,}])')
_VOLUME = re.compile(r'"(d?a?v)":("?)(\d+)')
_HIGH = re.compile(r'"h":([\d.e-]+)')
_CORRECTION = 100  # shares that came in late


def bad_event(fault: Fault, channel: str, t: int) -> str:
    """An event of *channel* at *t* ms that no client can use."""
    match fault:
        case "unknown-event":
            return f'{{"ev":"NEWS","sym":"AAPL","headline":"a kind of event from next year","t":{t}}}'
        case "missing-symbol":
            return f'{{"ev":"{channel}","x":4,"s":100,"t":{t},"q":1,"z":3}}'
        case "wrong-type":
            return f'{{"ev":"{channel}","sym":["AAPL"],"T":7,"pair":7,"p":{{}},"s":"100","t":"{t}"}}'
        case _:
            raise ValueError(f"{fault} is no event")


def with_float(event: str) -> str:
    """*event* with its last integer (always one by the vendor's own types) written as a float."""
    found = list(_INTEGER.finditer(event))
    if not found:
        return event
    end = found[-1].end()
    return f"{event[:end]}.0{event[end:]}"


def corrected(bar: str) -> str:
    """*bar* once more, for the same window: late trades have raised its high and, where it has them, its volumes."""
    bar = _VOLUME.sub(lambda m: f'"{m[1]}":{m[2]}{int(m[3]) + _CORRECTION}', bar)
    return _HIGH.sub(lambda m: f'"h":{float(m[1]) * 1.001:.10g}', bar)
