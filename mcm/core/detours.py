"""Where a channel goes first when a line has to change between its wildcard and its single topics.

No line carries ``stocks.T.*`` and ``stocks.T.AAPL`` together, so a line that changes from the one to the other carries
neither for a moment.  What only that line has is given to another one before, for as long as it takes.
"""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Detour", "detour"]

_NOBODY: frozenset[str] = frozenset()


class Detour(NamedTuple):
    """What comes before the goal.

    Attributes:
        lines: topic → lines that are to carry it first, all that carry it now among them; None: go to the goal.
        is_helpless: no line can stand in, so that on the way to the goal something is missed.
    """

    lines: dict[str, frozenset[str]] | None
    is_helpless: bool = False


def detour(
    wildcard: str,
    goal: Mapping[str, frozenset[str]],
    carriers: Mapping[str, frozenset[str]],
    available: Mapping[str, int],
) -> Detour:
    """How to get from *carriers* to the *goal*.

    Args:
        wildcard: of the channel.
        goal: all of its topics, itself among them → lines that are to carry them at last.
        carriers: the same → lines that carry them now.
        available: lines that may stand in → how much they carry.
    """
    whole, singles = carriers[wildcard], [topic for topic in goal if topic != wildcard]
    changing = {
        line: [one for one in singles if line in (carriers if line in goal[wildcard] else goal)[one]]
        for line in sorted(goal[wildcard] ^ whole)
    }
    changing = {line: topics for line, topics in changing.items() if topics}
    coming = whole | (goal[wildcard] - changing.keys())
    is_helpless = False
    for line, topics in changing.items():
        bare = {one for one in topics if not (carriers[one] | coming) - {line} & available.keys()}
        if not bare:
            continue
        others = available.keys() - coming - {line}
        if not others:
            is_helpless = True
            continue
        refuge = min(others, key=lambda other: (other in goal[wildcard], available[other], other))
        first = {one: carriers[one] | (goal[one] - coming) | ({refuge} if one in bare else _NOBODY) for one in singles}
        return Detour(first | {wildcard: coming})
    return Detour(None, is_helpless)
