"""The query of a REST request as numbers, and which events of a topic it means."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mcm.simulator.tape import Topic

__all__ = ["NS_PER_MS", "BadQuery", "Query", "numbers_of", "read_query"]

NS_PER_MS = 1_000_000
MAX_LIMIT = 50_000
_DAY_MS = 86_400_000
_END_OF_TIME_MS = 1 << 62


class BadQuery(ValueError):
    """A request that the vendor answers with status 400."""


@dataclass(frozen=True)
class Query:
    """Events from *first_ms* to *last_ms*, both included; a page starts at event number *cursor*."""

    first_ms: int
    last_ms: int
    is_descending: bool
    limit: int
    cursor: int | None


def read_query(
    parameters: Mapping[str, str], *, field: str, limit: int, per_ms: int = NS_PER_MS, is_descending: bool = True
) -> Query:
    """Read the filters ``field``, ``field.gte`` and so on, in units of which *per_ms* make a millisecond, or dates.

    *limit* and *is_descending* hold where the request says nothing.  A day named as an end includes that day.
    """
    first_ms, last_ms = 0, _END_OF_TIME_MS
    for suffix in ("", ".gte", ".gt", ".lte", ".lt"):
        text = parameters.get(field + suffix)
        if text is None:
            continue
        start, end = _moments(text, per_ms)  # the value lies in milliseconds start to end; they differ for days
        is_whole = start * per_ms == int(text) if text.isdigit() else True
        if suffix in {"", ".gte"}:
            first_ms = max(first_ms, start if is_whole else start + 1)
        if suffix == ".gt":
            first_ms = max(first_ms, start + 1)
        if suffix in {"", ".lte"}:
            last_ms = min(last_ms, end)
        if suffix == ".lt":
            last_ms = min(last_ms, start - 1 if is_whole else start)
    return Query(
        first_ms, last_ms, _descends(parameters, is_descending), _limit(parameters, limit), _cursor(parameters)
    )


def numbers_of(topic: Topic, query: Query) -> range:
    """The numbers of the events that *query* means, in its order, from its cursor on."""
    numbers = range(1, topic.count + 1)
    first = bisect_left(numbers, query.first_ms, key=topic.time_of) + 1
    last = bisect_left(numbers, query.last_ms + 1, key=topic.time_of)
    if query.is_descending:
        return range(last if query.cursor is None else min(last, query.cursor), first - 1, -1)
    return range(first if query.cursor is None else max(first, query.cursor), last + 1)


def _moments(text: str, per_ms: int) -> tuple[int, int]:
    if text.isdigit():
        return int(text) // per_ms, int(text) // per_ms
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery(f"'{text}' is neither a date nor a timestamp") from None
    start = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000)
    return (start, start) if "T" in text else (start, start + _DAY_MS - 1)


def _descends(parameters: Mapping[str, str], default: bool) -> bool:
    # Ticks have `order=asc`, bars `sort=asc`, futures `sort=timestamp.asc`.
    for name in ("order", "sort"):
        direction = parameters.get(name, "").rpartition(".")[2]
        if direction in {"asc", "desc"}:
            return direction == "desc"
    return default


def _limit(parameters: Mapping[str, str], default: int) -> int:
    text = parameters.get("limit", str(default))
    if not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        raise BadQuery(f"limit is '{text}', not 1 to {MAX_LIMIT}")
    return int(text)


def _cursor(parameters: Mapping[str, str]) -> int | None:
    text = parameters.get("cursor")
    if text is not None and not text.isdigit():
        raise BadQuery(f"'{text}' is no cursor of this server")
    return int(text) if text else None
