"""Repeatable chance: hashes instead of a random generator, so that event n needs none of the events before it."""

import math
from collections.abc import Callable
from zlib import crc32

__all__ = ["MASK", "SPREAD", "key_of", "mix", "walk"]

MASK = (1 << 64) - 1
# An odd constant far from every small multiple: neighbouring n land far apart (2^64 / golden ratio).
SPREAD = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    """Scatter 64 bits; one to one, so different inputs never collide (constants: Stafford, "mix13")."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def key_of(*parts: object) -> int:
    """A 64-bit key of *parts*, the same in every process and version (unlike hash())."""
    text = "\0".join(map(str, parts)).encode()
    return mix(crc32(text) << 32 | crc32(b"mcm" + text))


# Periods in events and amplitudes as parts of the price.  Amplitudes grow like the square root of the period, which is
# what makes a sum of sine waves look like a random walk; the whole never leaves 3 % around the level.
_WAVES = ((7.3, 0.00015), (41.7, 0.00035), (301.9, 0.0011), (2_237.0, 0.0035), (17_011.0, 0.011))


def walk(key: int, level: float) -> Callable[[float], float]:
    """A price path around *level*: price = path(n), for any n in any order."""
    sin = math.sin
    waves = []
    for number, (period, amplitude) in enumerate(_WAVES):
        chance = mix(key + number * SPREAD & MASK)
        stretch = 0.8 + (chance & 0xFFFF) / 0xFFFF * 0.4
        waves.append((math.tau / (period * stretch), (chance >> 16 & 0xFFFF) / 0xFFFF * math.tau, level * amplitude))
    (w1, f1, a1), (w2, f2, a2), (w3, f3, a3), (w4, f4, a4), (w5, f5, a5) = waves

    def path(n: float) -> float:
        # Written out: this runs for every event of the tape.
        return (
            level
            + a1 * sin(n * w1 + f1)
            + a2 * sin(n * w2 + f2)
            + a3 * sin(n * w3 + f3)
            + a4 * sin(n * w4 + f4)
            + a5 * sin(n * w5 + f5)
        )

    return path
