"""What the load generator sends: real-looking trades and quotes, packed into frames once, so that sending costs little.

Pure.  Every event carries its number in ``q`` (and nothing else that changes), so that a receiver knows from a tick
alone when it was due.  A frame holds symbols of one *share* only: a client of one connection gets the frames of all
shares, a client of three gets those of a share on each, and all of them get the same bytes.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mcm.simulator.events import renderer
from mcm.simulator.frames import array, text_frame

__all__ = ["FIRST_NUMBER", "Shape", "counts", "items_of", "render", "symbols_of"]

FIRST_NUMBER = 1_000_000_000  # ten digits, whatever is added to it
QUOTES_PER_TRADE = 3
VARIANTS = 4_000  # texts, before their numbers, over all topics; but at least four of each
TIME_MS = 1_760_000_000_000
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a load looks.

    Attributes:
        events_per_frame: 1 to 1,000.
        symbols: each with a channel of trades and one of quotes, so that there are twice as many topics.
        shares: parts that may be on connections of their own.
        seed: of the order in which the symbols tick, which is uniform.
    """

    events_per_frame: int = 1
    symbols: int = 300
    shares: int = 3
    seed: int = 1


def symbols_of(shape: Shape, share: int | None = None) -> list[str]:
    """The symbols of a share, or all of them: four letters each, none of them a prefix of another."""
    return [_name(index) for index in range(shape.symbols) if share is None or index % shape.shares == share]


def items_of(shape: Shape) -> list[str]:
    """What to subscribe, ``T.…`` and ``Q.…``."""
    return [f"{channel}.{symbol}" for channel in "TQ" for symbol in symbols_of(shape)]


def render(shape: Shape, ticks: int) -> Iterator[bytes]:
    """*ticks* events as WebSocket frames; frame k belongs to share k modulo the shares, and has the number k inside."""
    texts: dict[str, list[tuple[str, str]]] = {}
    events = []
    for number, item in enumerate(_items(shape, ticks)):
        if (known := texts.get(item)) is None:
            known = texts[item] = _texts(item, shape)
        before, behind = known[number % len(known)]
        events.append(f"{before}{FIRST_NUMBER + number}{behind}")
        if len(events) == shape.events_per_frame:
            yield text_frame(array(events))
            events = []
    if events:
        yield text_frame(array(events))


def counts(shape: Shape, ticks: int) -> Counter[str]:
    """Item → how often it ticks in so many *ticks*."""
    return Counter(_items(shape, ticks))


def _items(shape: Shape, ticks: int) -> Iterator[str]:
    """What ticks, in order."""
    chance = random.Random(shape.seed)
    shares = [symbols_of(shape, share) for share in range(shape.shares)]
    for number in range(ticks):
        channel = "Q" if number % (QUOTES_PER_TRADE + 1) else "T"
        yield f"{channel}.{chance.choice(shares[number // shape.events_per_frame % shape.shares])}"


def _name(index: int) -> str:
    letters = ""
    for _ in range(4):
        index, letter = divmod(index, 26)
        letters = _LETTERS[letter] + letters
    return letters


def _texts(item: str, shape: Shape) -> list[tuple[str, str]]:
    """Some events of an item, each as what stands before its ``q`` and what stands behind it."""
    channel, _, symbol = item.partition(".")
    write = renderer(shape.seed, "stocks", channel, symbol)
    found = []
    for n in range(1, max(4, VARIANTS // shape.symbols) + 1):
        head, _, rest = write(n, TIME_MS + n).partition(',"q":')
        digits = len(rest) - len(rest.lstrip("0123456789"))
        found.append((f'{head},"q":', rest[digits:]))
    return found
