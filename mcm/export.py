"""Ticks out of the journal into a file: JSON lines or CSV.  Reads files only; whether mcm runs does not matter."""

import csv
import datetime as dt
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mcm.core.errors import UsageError
from mcm.core.events import EVENTS
from mcm.core.record import decode_record
from mcm.core.replaying import Selection
from mcm.core.topics import prefixes
from mcm.journal import Behind, EpochChanged, Reader

__all__ = ["Stretch", "export", "instant", "stored"]

_HEAD = ["topic", "offset", "sequence", "received_ns", "connection"]
_ticks_of = msgspec.msgpack.Decoder(list[dict[str, Any]]).decode


class Stored(NamedTuple):
    """One tick of the journal, as the vendor's map."""

    topic: str
    offset: int
    sequence: int
    received_ns: int
    connection: str
    tick: dict[str, Any]


class Stretch(NamedTuple):
    """Which part of the journal: ticks received from *from_ns* on and before *to_ns*, of these topics."""

    from_ns: int
    to_ns: int
    topics: tuple[str, ...]


def instant(text: str, *, now: dt.datetime) -> int:
    """Nanoseconds since the Unix epoch of ``2026-11-25T14:30``, ``14:30`` (today) or with seconds and zone.

    Without a zone, that of *now*.  Raises UsageError for anything else.
    """
    try:
        if "-" not in text and "T" not in text:
            moment = dt.datetime.combine(now.date(), dt.time.fromisoformat(text))
        else:
            moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no time", "write 14:30, 14:30:05 or 2026-11-25T14:30:05+00:00") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)).timestamp() * 1e6) * 1_000


def stored(directory: Path, stretch: Stretch) -> Iterator[Stored]:
    """The ticks of *stretch* in the journal in *directory*, in the order of their offsets."""
    selection = Selection(prefixes(stretch.topics))
    reader = Reader(directory)
    reader.seek_time(stretch.from_ns)
    try:
        while True:
            try:
                records = reader.read()
            except (Behind, EpochChanged):
                continue
            if not records:
                return
            for number, stamp_ns, payload in records:
                if not stretch.from_ns <= stamp_ns < stretch.to_ns:
                    continue
                for topic, message in decode_record(payload).frames(number):
                    if topic in selection:
                        for sequence, tick in enumerate(_ticks_of(message.ticks), message.sequence):
                            head = (topic.decode(), message.offset, sequence, message.received_ns, message.connection)
                            yield Stored(*head, tick)
    finally:
        reader.close()


def export(directory: Path, stretch: Stretch, file: Path) -> int:
    """Write *stretch* to *file*, by its ending ``.jsonl`` or ``.csv``; how many ticks those are."""
    if not directory.is_dir():
        raise UsageError(f"there is no journal in {directory}", "name the run directory with --run-dir")
    if file.suffix not in {".jsonl", ".csv"}:
        raise UsageError(f"{file.name} has no known ending", "name the file .jsonl or .csv")
    try:
        with file.open("w", newline="") as output:
            write = _write_json if file.suffix == ".jsonl" else _write_csv
            return write(stored(directory, stretch), output)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", "choose another file") from error


def _write_json(ticks: Iterable[Stored], output: Any) -> int:
    count = 0
    for count, one in enumerate(ticks, start=1):  # noqa: B007
        output.write(msgspec.json.encode(one._asdict()).decode() + "\n")
    return count


def _write_csv(ticks: Iterable[Stored], output: Any) -> int:
    """One column per key that any kind of tick has, in the vendor's names; lists as JSON."""
    keys = dict.fromkeys(key for kinds in EVENTS.values() for kind in kinds for key in kind.__struct_encode_fields__)
    writer = csv.DictWriter(output, [*_HEAD, "ev", *keys], extrasaction="ignore")
    writer.writeheader()
    count = 0
    for count, one in enumerate(ticks, start=1):  # noqa: B007
        row = {key: msgspec.json.encode(value).decode() if isinstance(value, list) else value
               for key, value in one.tick.items()}  # fmt: skip
        writer.writerow(row | {name: getattr(one, name) for name in _HEAD})
    return count
