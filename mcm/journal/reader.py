"""The reading side of a log, while its writer appends, rotates, deletes, is killed, and a new one goes on.

A reader stands before a record and moves only over valid ones.  Where none stands, there are two cases:

* Nothing valid follows and there is no later segment: it is being written, or its writer was killed and the next one
  will cut it.  The reader waits; nothing is kept from the attempt.
* A valid record or a later segment follows: the bytes between are damaged.  They are copied to ``quarantine``, named in
  `Reader.take_damage`, and passed over.

What a caller must not overlook is raised, once; the reader then stands behind it, and reading goes on.
"""

import contextlib
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mcm.core.errors import McmError
from mcm.core.wire import WIRE_VERSION
from mcm.journal.format import (
    HEADER_BYTES,
    NOTHING,
    RECORD_BYTES,
    SETTLED_NS,
    Entry,
    Header,
    Listing,
    Record,
    find_record,
    parse,
    read_header,
    record_end,
    segment_path,
    unpack_record_header,
)
from mcm.journal.survey import best_entry

__all__ = ["Behind", "Damage", "EpochChanged", "Reader"]

_SCAN_BYTES = 1024 * 1024


class Behind(McmError):
    """What should be read was deleted before it was read; reading goes on at the first record that is left.

    Attributes:
        first_missing: lowest number that is lost, or 0 where nobody can tell (`Reader.seek_time`).  A caller whose
            records cover several numbers takes its own next number, if that is higher.
        first_available: the next number to be read.
    """

    def __init__(self, directory: Path, first_missing: int, first_available: int) -> None:
        super().__init__(directory, first_missing, first_available)
        self.directory, self.first_missing, self.first_available = directory, first_missing, first_available

    def __str__(self) -> str:
        return (
            f"{self.directory}: {self.first_missing} to {self.first_available - 1} were deleted before they were read; "
            "a longer retention keeps them"
        )


class EpochChanged(McmError):
    """What follows belongs to another epoch: no number from before means anything now."""

    def __init__(self, directory: Path, epoch: int, first: int) -> None:
        super().__init__(directory, epoch, first)
        self.directory, self.epoch, self.first = directory, epoch, first

    def __str__(self) -> str:
        return f"{self.directory}: a new epoch ({self.epoch}) begins at {self.first}; start again from there"


@dataclass(frozen=True)
class Damage:
    """Bytes that should be records, and are not.

    Attributes:
        path: the segment.
        offset, size: where in it; copied to ``quarantine/<segment>-<offset>``, if there was room.
        first_missing: lowest number that may be lost, taken from the last good record as if that covered one number.
            A caller whose records cover several takes its own next number, if that is higher.
        next_number: of the record behind; with first_missing not below it, nothing is lost that covers a number.
        reason: in words.
    """

    path: Path
    offset: int
    size: int
    first_missing: int
    next_number: int
    reason: str


class _Segment(NamedTuple):
    path: Path
    descriptor: int
    header: Header

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size


class _Place(NamedTuple):
    """Before a record: in which segment, where, and the lowest number that is not yet read."""

    segment: int
    offset: int
    next_number: int


class Reader:
    """Reads a log from its first available record, or from wherever it is sent.

    Every call returns at once; at the end of what is written, with nothing.  Not for several threads.

    Args:
        directory: of the log; it may be empty, or not exist yet.
        epoch: of the records that the caller expects; None for that of the first ones found.

    Attributes:
        epoch: of the records read so far, None before the first.
    """

    def __init__(self, directory: Path, *, epoch: int | None = None) -> None:
        self.directory, self.epoch = directory, epoch
        self._listing = Listing(directory)
        self._segment: _Segment | None = None
        self._first = -1  # of the segment passed or stood in last: the next one is the first above it
        self._is_chained = False  # whether the next one must be the very next
        self._position = 0
        self._next_number = 0  # lowest one not yet read, if the last record covered one
        self._waited_at: tuple[int, int, int] | None = None  # where nothing valid was found
        self._behind: Behind | None = None
        self._damage: list[Damage] = []
        self._known_damage: set[tuple[Path, int]] = set()

    def read(self, max_bytes: int = _SCAN_BYTES) -> list[Record]:
        """The next records, of one segment, as many as *max_bytes* hold but at least one; empty at the end.

        Raises:
            Behind, EpochChanged: once each, before the first record they concern.  Call again to go on.
        """
        while (segment := self._current()) is not None:
            self._announce(segment)
            # Asked before reading: once there is another segment, what this one holds is final.
            following = self._following()
            if records := self._here(segment, max_bytes, following):
                return records
            if following is None or not self._move_on():
                break
        return []

    def has_more(self) -> bool:
        """Whether `read` is worth a call; costs two or three stats."""
        if self._behind is not None:
            return True
        if self._segment is None:
            return bool(self._listing.firsts())
        if self._segment.size > self._position:
            place = self._place_waited_at(self._segment)
            if place is None or place != self._waited_at:
                return True
        return self._following() is not None

    def skip(self, number: int, length: int) -> bool:
        """Pass over the record *number* with *length* bytes of payload, if it is the next; returns whether it is.

        For a record that the caller got another way.  Reads its header only: a belief in place and length alone would
        lose a record where the writer had to leave one out.
        """
        segment = self._current()
        if segment is None or self._behind is not None:
            return False
        if not (header := os.pread(segment.descriptor, RECORD_BYTES, self._position)):
            if self._following() != number or not self._move_on():
                return False
            segment = self._segment
            header = os.pread(segment.descriptor, RECORD_BYTES, self._position) if segment else b""
        if segment is None or self._behind is not None or not self._is_announced(segment) or len(header) < RECORD_BYTES:
            return False
        found_length, _, found_number, _ = unpack_record_header(header)
        if (found_number, found_length) != (number, length):
            return False
        self._position += RECORD_BYTES + length
        self._next_number = number + 1
        return True

    def seek(self, number: int) -> None:
        """Stand before the record that covers *number*, or before the first one above.

        Where records carry this very number, before the first of them.  Beyond the end, before the last record, because
        only the caller knows what that covers.  If it is no longer there, the next `read` raises Behind.
        """
        # The segment that begins with the number is not enough: the one before may end with records of the same number.
        self._start(lambda firsts: bisect_left(firsts, number), lambda entry: entry.number < number)
        if (segment := self._segment) is None:
            return
        if segment.header.first > number and segment.header.previous != NOTHING:
            self._behind = Behind(self.directory, number, segment.header.first)
        found, before = self._walk(lambda record: record.number >= number)
        if before is not None and (found is None or found.number > number):
            self._go(before)

    def seek_time(self, stamp_ns: int) -> None:
        """Stand before the first record with which the highest stamp so far reaches *stamp_ns*, else at the end.

        If that is no longer there, the next `read` raises Behind.
        """
        self._start(
            lambda firsts: bisect_left(firsts, stamp_ns, key=self._high_stamp),
            lambda entry: entry.high_stamp_ns < stamp_ns,
        )
        if (segment := self._segment) is None:
            return
        if segment.header.high_stamp_ns >= stamp_ns and segment.header.previous != NOTHING:
            self._behind = Behind(self.directory, 0, segment.header.first)
            return
        self._walk(lambda record: record.stamp_ns >= stamp_ns)

    def take_damage(self) -> list[Damage]:
        """What was found since the last call; every damage once."""
        taken, self._damage = self._damage, []
        return taken

    def close(self) -> None:
        """Let the open segment go."""
        if self._segment is not None:
            os.close(self._segment.descriptor)
            self._segment = None

    def _announce(self, segment: _Segment) -> None:
        """Raise what the caller has to know before it gets the next record."""
        if self._behind is not None:
            behind, self._behind = self._behind, None
            raise behind
        if not self._is_announced(segment):
            self.epoch = segment.header.epoch
            raise EpochChanged(self.directory, self.epoch, segment.header.first)

    def _is_announced(self, segment: _Segment) -> bool:
        if self.epoch is None:
            self.epoch = segment.header.epoch
        return self.epoch == segment.header.epoch

    # -- within a segment

    def _here(self, segment: _Segment, max_bytes: int, following: int | None) -> list[Record]:
        """The next records of this segment; *following* is the first number of the one after it."""
        while True:
            data = os.pread(segment.descriptor, max(max_bytes, RECORD_BYTES), self._position)
            records, end = parse(data)
            if not records and len(data) >= RECORD_BYTES:  # one that is longer than max_bytes?
                length = RECORD_BYTES + unpack_record_header(data)[0]
                if len(data) < length <= segment.size - self._position:
                    records, end = parse(os.pread(segment.descriptor, length, self._position))
            if records:
                self._position += end
                self._next_number = records[-1].number + 1
                return records
            if not data or not self._step_over(segment, following):
                return []

    def _step_over(self, segment: _Segment, following: int | None) -> bool:
        """Whether a record stands here after all, or behind damage that was now passed over."""
        place = self._place_waited_at(segment)
        if place is not None and place == self._waited_at and following is None:
            return False
        data = os.pread(segment.descriptor, segment.size - self._position, self._position)
        if record_end(data, 0) is not None:
            return True
        found = find_record(data, 1, max(self._next_number - 1, 0), NOTHING if following is None else following)
        if found is not None:
            # A tail that was cut and written again while it was read looks like damage, but not twice.
            data = os.pread(segment.descriptor, len(data), self._position)
            if record_end(data, 0) is not None or record_end(data, found) is None:
                return True
            size, next_number = found, unpack_record_header(data, found)[2]
        elif following is not None:
            size, next_number = len(data), following
        else:
            self._waited_at = place
            return False
        self._report(segment, self._position, size, next_number, "no valid record")
        self._position += size
        return found is not None

    def _place_waited_at(self, segment: _Segment) -> tuple[int, int, int] | None:
        """What must be the same for nothing to have changed here; None while the file's time is too fresh to tell."""
        stat = os.fstat(segment.descriptor)
        is_settled = time.time_ns() - stat.st_mtime_ns > SETTLED_NS
        return (self._position, stat.st_size, stat.st_mtime_ns) if is_settled else None

    def _report(self, segment: _Segment, offset: int, size: int, next_number: int, reason: str) -> None:
        """Name these bytes, once, and copy them; what is lost begins with the number that is to be read next."""
        if not size or (segment.path, offset) in self._known_damage:
            return
        self._known_damage.add((segment.path, offset))
        self._damage.append(Damage(segment.path, offset, size, self._next_number, next_number, reason))
        with contextlib.suppress(OSError):  # the copy is for people; a full disk must not stop the reader
            copy = self.directory / "quarantine" / f"{segment.path.stem}-{offset}"
            copy.parent.mkdir(mode=0o700, exist_ok=True)
            copy.write_bytes(os.pread(segment.descriptor, size, offset))

    # -- from segment to segment

    def _current(self) -> _Segment | None:
        if self._segment is None:
            self._move_on()
        return self._segment

    def _following(self) -> int | None:
        """First number of the segment after this one, None without any."""
        return _above(self._listing.firsts(), self._first)

    def _move_on(self) -> bool:
        """Into the next segment that can be read; False where there is none (yet)."""
        while (first := self._following()) is not None:
            path = segment_path(self.directory, first)
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self._listing.forget()
                continue
            header = Header.unpack(os.pread(descriptor, HEADER_BYTES, 0))
            reason = "no readable header" if header is None else header.unreadable_because()
            if header is not None and not reason:
                self._enter(_Segment(path, descriptor, header))
                return True
            if (after := _above(self._listing.firsts(), first)) is None:
                os.close(descriptor)
                return False  # whose it is shows when its writer has begun another
            guess = _Segment(path, descriptor, self._guess_header(first))
            if header is None and self._is_between(after):
                self._enter(guess)
                self._report(guess, 0, HEADER_BYTES, first, reason)
                return True
            self._pass_over(guess, after, reason)
        if self._first < 0:
            self._is_chained = True  # seen empty: from now on nothing may be deleted unread and unnoticed
        return False

    def _enter(self, segment: _Segment) -> None:
        header = segment.header
        if self._is_chained and header.previous != (NOTHING if self._first < 0 else self._first):
            self._behind = Behind(self.directory, self._next_number, header.first)
        self.close()
        self._segment, self._first, self._is_chained = segment, header.first, True
        self._position, self._next_number, self._waited_at = HEADER_BYTES, header.first, None

    def _pass_over(self, segment: _Segment, following: int, reason: str) -> None:
        """Name a whole segment as damaged, and count it as read."""
        first = segment.header.first
        self._next_number = first
        self._report(segment, 0, segment.size, following, reason)
        os.close(segment.descriptor)
        self._first, self._next_number = first, following

    def _guess_header(self, first: int) -> Header:
        return Header(WIRE_VERSION, self.epoch or 0, bytes(16), first, self._first, 0, 0)

    def _is_between(self, following: int) -> bool:
        """Whether a segment is of our epoch for certain, because the one before it and the one after it are."""
        header = read_header(segment_path(self.directory, following))
        return header is not None and header.epoch == self.epoch

    # -- to a place

    def _start(self, locate: Callable[[list[int]], int], accept: Callable[[Entry], bool]) -> None:
        """Stand in the segment before the one that *locate* gives, as far in as its accepted index entries lead."""
        self.close()
        self._behind = None
        firsts = self._listing.firsts()
        self._open_at(firsts[max(locate(firsts) - 1, 0)] if firsts else 0)
        if (segment := self._segment) is None:
            return
        if entry := best_entry(self.directory, segment.header.first, segment.descriptor, accept):
            self._position, self._next_number = entry.offset, entry.number

    def _open_at(self, first: int) -> None:
        """Stand at the beginning of this segment, or of the first above that is left."""
        self._first, self._is_chained = first - 1, False
        self._move_on()

    def _walk(self, reached: Callable[[Record], bool]) -> tuple[Record | None, _Place | None]:
        """Stand before the first record from here on that *reached* takes, else at the end.

        Returns that record, and the place of the one before it, if that was seen.
        """
        before: _Place | None = None
        while (segment := self._current()) is not None:
            following = self._following()
            records = self._here(segment, _SCAN_BYTES, following)
            offset = self._position - sum(RECORD_BYTES + len(record.payload) for record in records)
            for record in records:
                place = _Place(segment.header.first, offset, record.number)
                if reached(record):
                    self._go(place)
                    return record, before
                before = place
                offset += RECORD_BYTES + len(record.payload)
            if not records and (following is None or not self._move_on()):
                break
        return None, before

    def _go(self, place: _Place) -> None:
        if self._segment is None or self._segment.header.first != place.segment:
            self._behind = None
            self._open_at(place.segment)
        if self._segment is None:
            return
        if self._segment.header.first == place.segment:
            self._position, self._next_number = place.offset, place.next_number
        else:
            self._behind = Behind(self.directory, place.next_number, self._segment.header.first)

    def _high_stamp(self, first: int) -> int:
        """Highest stamp before this segment, or, where its header does not tell, before an earlier one."""
        for candidate in reversed([known for known in self._listing.firsts() if known <= first]):
            if (header := read_header(segment_path(self.directory, candidate))) is not None:
                return header.high_stamp_ns
        return 0


def _above(firsts: list[int], first: int) -> int | None:
    at = bisect_right(firsts, first)
    return firsts[at] if at < len(firsts) else None
