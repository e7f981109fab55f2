"""Which topics more than one line carries: told per item, asked per topic.  Asking is one dictionary look-up."""

from collections.abc import Collection

import msgspec

__all__ = ["Cover", "CoverRecord"]

_NOBODY: frozenset[str] = frozenset()


class CoverRecord(msgspec.Struct, array_like=True, frozen=True):
    """What was said last about one item.

    Attributes:
        item: ``stocks.T.AAPL`` or ``stocks.T.*``.
        lines: that carry it, or are about to.
        since_ns: monotonic stamp of the record.
        carried_by: those of *lines* that carried it before, so that they published without being arbitrated.
    """

    item: bytes
    lines: frozenset[str]
    since_ns: int
    carried_by: frozenset[str]


class Cover:
    """The items with their lines; a topic has the lines of its own item and those of its channel's wildcard."""

    def __init__(self) -> None:
        self._records: dict[bytes, CoverRecord] = {}
        self._lines_of: dict[bytes, frozenset[str]] = {}

    @property
    def records(self) -> list[CoverRecord]:
        """All that holds at present, in the order in which it was said."""
        return list(self._records.values())

    def put(self, item: bytes, lines: Collection[str], since_ns: int, carried_by: Collection[str] = ()) -> None:
        """From now on *item* has these *lines*, whatever it had before."""
        self._records[item] = CoverRecord(item, frozenset(lines), since_ns, frozenset(carried_by))
        self._lines_of.clear()

    def remove(self, item: bytes) -> None:
        """Forget *item*; that it is unknown is no error."""
        self._records.pop(item, None)
        self._lines_of.clear()

    def gap(self, line: str) -> None:
        """*line* has a gap: what it carried before it was covered no longer says where it is."""
        for item, record in self._records.items():
            if line in record.carried_by:
                self._records[item] = msgspec.structs.replace(record, carried_by=record.carried_by - {line})

    def gap_of(self, line: str, item: bytes) -> None:
        """*line* has a gap on this item alone; on a wildcard, on all items of its channel."""
        for one in self.items_of(item):
            record = self._records[one]
            if line in record.carried_by:
                self._records[one] = msgspec.structs.replace(record, carried_by=record.carried_by - {line})

    def items_of(self, item: bytes) -> list[bytes]:
        """The covered items that *item* is of: itself, and for a wildcard those of its channel."""
        if item.endswith(b".*"):
            return [one for one in self._records if one.startswith(item[:-1])]
        return [item] if item in self._records else []

    def lines_of(self, topic: bytes) -> frozenset[str]:
        """The lines that carry *topic* if they are two or more, else none."""
        if not self._records:
            return _NOBODY
        lines = self._lines_of.get(topic)
        if lines is None:
            lines = _NOBODY.union(*(record.lines for record in self._of(topic)))
            lines = self._lines_of[topic] = lines if len(lines) > 1 else _NOBODY
        return lines

    def carried_by(self, topic: bytes, after_ns: int) -> frozenset[str]:
        """The lines that published *topic* without being arbitrated until some time after *after_ns*."""
        return _NOBODY.union(*(record.carried_by for record in self._of(topic) if record.since_ns >= after_ns))

    def _of(self, topic: bytes) -> list[CoverRecord]:
        wildcard = b".".join([*topic.split(b".", 2)[:2], b"*"])
        return [self._records[item] for item in (topic, wildcard) if item in self._records]
