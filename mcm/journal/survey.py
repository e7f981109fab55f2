"""What a directory of segments holds, read from headers, indexes and the last MiB of each; changes nothing."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mcm.journal.format import (
    HEADER_BYTES,
    RECORD_BYTES,
    Entry,
    Record,
    index_path,
    list_segments,
    read_header,
    read_index,
    scan,
    segment_path,
    unpack_record_header,
)

__all__ = ["Segment", "SegmentExtent", "best_entry", "extents", "last_record", "segments"]


class SegmentExtent(NamedTuple):
    """One segment, for people.

    Attributes:
        path: the file.
        epoch: of the log; None where the header is unreadable.
        first: number of the first record.
        last: number of the last one; None where there is none.
        created_ns: wall clock at its beginning; None where the header is unreadable.
        last_stamp_ns: stamp of the last record; None where there is none.
        size: bytes.
    """

    path: Path
    epoch: int | None
    first: int
    last: int | None
    created_ns: int | None
    last_stamp_ns: int | None
    size: int


class Segment(NamedTuple):
    """One segment by its name and its header."""

    path: Path
    first: int
    epoch: int


def segments(directory: Path) -> list[Segment]:
    """Every segment with a readable header, oldest first; cheap, nothing of the records is read."""
    found = []
    for first in list_segments(directory):
        path = segment_path(directory, first)
        with contextlib.suppress(FileNotFoundError):
            if (header := read_header(path)) is not None:
                found.append(Segment(path, first, header.epoch))
    return found


def extents(directory: Path) -> list[SegmentExtent]:
    """Every segment, oldest first; about 10 ms each.  One that is deleted meanwhile is left out."""
    return [found for first in list_segments(directory) if (found := _extent(directory, first)) is not None]


def _extent(directory: Path, first: int) -> SegmentExtent | None:
    path = segment_path(directory, first)
    try:
        size, header, last = path.stat().st_size, read_header(path), last_record(directory, first)
    except FileNotFoundError:
        return None
    return SegmentExtent(
        path,
        header and header.epoch,
        first,
        last and last.number,
        header and header.created_ns,
        last and last.stamp_ns,
        size,
    )


def last_record(directory: Path, first: int) -> Record | None:
    """The newest valid record of a segment; raises FileNotFoundError."""
    with segment_path(directory, first).open("rb", buffering=0) as file:
        entry = best_entry(directory, first, file.fileno(), lambda _: True)
        for start, low in ((entry.offset, entry.number) if entry else (HEADER_BYTES, first), (HEADER_BYTES, first)):
            file.seek(start)
            if records := scan(file.read(), 0, low).records:
                return records[-1]
    return None


def best_entry(directory: Path, first: int, descriptor: int, accept: Callable[[Entry], bool]) -> Entry | None:
    """The last index entry of an open segment that *accept* takes and whose record stands where it says."""
    for entry in reversed(read_index(index_path(directory, first))):
        if accept(entry):
            header = os.pread(descriptor, RECORD_BYTES, entry.offset)
            if len(header) == RECORD_BYTES and unpack_record_header(header)[2] == entry.number:
                return entry
    return None
