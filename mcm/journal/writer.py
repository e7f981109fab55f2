"""The writing side of a log: append, rotate, sync, delete.

One process and one thread append.  What is slow may run in one other thread: `Writer.sync` (milliseconds, one
``fdatasync``), `Writer.drop_before` and `Writer.trim` (up to 8 ms per segment of 16 MiB that is deleted).

A record is one ``write``: measured against mmap it costs the same for a batch, and on a full disk it fails instead of
killing the process.  A write that fails or is short is taken back, so that the file always ends at a record.
"""

import contextlib
import errno
import os
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mcm.core.errors import McmError
from mcm.core.wire import WIRE_VERSION
from mcm.journal.format import (
    ENTRY_BYTES,
    HEADER_BYTES,
    INDEX_BYTES,
    MAX_PAYLOAD_BYTES,
    NOTHING,
    SEGMENT_BYTES,
    STATE_BYTES,
    Entry,
    Header,
    State,
    StateFile,
    index_path,
    list_segments,
    read_header,
    read_index,
    segment_path,
)
from mcm.journal.recovery import Recovered
from mcm.journal.survey import last_record

__all__ = ["BackgroundSync", "Dropped", "Extent", "LogFull", "Writer"]

_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_NOW = 0  # as a size to act at: before the next record

_write, _crc32 = os.write, zlib.crc32
_pack_record = struct.Struct("<IIQQ").pack
_pack_crc_key = struct.Struct("<QQ").pack


class LogFull(McmError):
    """The log takes nothing now: no space, a limit, an I/O error.  Nothing was written; trying again later is right."""

    def __init__(self, path: Path, reason: OSError | str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason if isinstance(reason, str) else reason.strerror or str(reason)

    def __str__(self) -> str:
        return f"cannot write to {self.path}: {self.reason}; make room on its file system"


class Extent(NamedTuple):
    """What a log has: the number of its first record and of its last, in a new epoch without any yet the floor."""

    first: int
    last: int


class Dropped(NamedTuple):
    """What was deleted: the numbers *first* ≤ n < *end*, in *size* bytes."""

    first: int
    end: int
    size: int


class _Closed(NamedTuple):
    """A segment that gets no more records.  *high_stamp_ns* is the log's at its end."""

    first: int
    size: int
    high_stamp_ns: int


class Writer:
    """Appends to a log.

    The caller holds a lock on the directory from before `recover` until after `close`.

    Args:
        recovered: what the directory holds.
        epoch: of the records to come; None to go on with the present one, or, where that cannot be, a random one.
        segment_bytes: size from which on a segment is closed.

    Attributes:
        directory: of the log.
        epoch: of the records to come.

    Raises:
        LogFull: the directory or its state file cannot be made; later it needs no new space.
        ValueError: *epoch* is the present one, which may not go on.
    """

    def __init__(self, recovered: Recovered, *, epoch: int | None = None, segment_bytes: int = SEGMENT_BYTES) -> None:
        if epoch is not None and epoch == recovered.epoch and recovered.new_epoch_because:
            raise ValueError(f"epoch {epoch} may not go on: {recovered.new_epoch_because}")
        self.directory = recovered.directory
        self.epoch = _epoch(recovered) if epoch is None else epoch
        self._boot_id, self._segment_bytes = recovered.boot_id, segment_bytes
        self._high_stamp_ns = recovered.high_stamp_ns
        self._descriptor = self._index = -1
        self._first = -1  # of the segment being written, or of the newest one there is; -1 without any
        self._size = self._next_entry = self._act_at = _NOW
        self._is_torn = False
        self._unsynced: deque[int] = deque()  # closed segments
        self._synced = (-1, 0)
        try:
            self._state = -1
            self._state = _open_state(self.directory)
            self._put_state(State.OPEN)
            os.fdatasync(self._state)  # before any record: an old "clean" must not survive a power failure
        except OSError as error:
            if self._state >= 0:
                os.close(self._state)
            raise LogFull(self.directory, error) from error
        self._closed = _survey(self.directory, self._high_stamp_ns)
        self._floor = self._continue(recovered)
        self._unsynced.extend(segment.first for segment in self._closed)  # a writer that was killed may not have

    def append(self, number: int, stamp_ns: int, payload: bytes) -> None:
        """Write one record; when this returns, every reader can see it and no kill of a process can lose it.

        220 bytes take 2.5 µs where the bare ``os.write`` of them takes 1.4 (CPython 3.11, ext4).

        Args:
            number: first one it covers; at least `floor`, at most 2**64 - 2.
            stamp_ns: wall clock, nanoseconds since the Unix epoch; may go backwards.
            payload: 1 byte to 64 MiB.

        Raises:
            LogFull: nothing was written; the next call tries again.
        """
        length = len(payload)
        if number < self._floor or not 0 < length <= MAX_PAYLOAD_BYTES:
            raise ValueError(
                f"number {number} is below {self._floor}, or {length} bytes are not 1 … {MAX_PAYLOAD_BYTES}"
            )
        if self._size >= self._act_at:
            self._prepare(number)
        crc = _crc32(payload, _crc32(_pack_crc_key(number, stamp_ns)))
        record = _pack_record(length, crc, number, stamp_ns) + payload
        try:
            written = _write(self._descriptor, record)
        except OSError as error:
            raise self._taken_back(error) from error
        if written != len(record):
            raise self._taken_back(f"only {written} of {len(record)} bytes were taken")
        self._size += written
        self._floor = number
        if stamp_ns > self._high_stamp_ns:  # noqa: PLR1730  a call of max() would cost 0.1 µs
            self._high_stamp_ns = stamp_ns

    @property
    def floor(self) -> int:
        """The lowest number that the next record may have."""
        return self._floor

    @property
    def extent(self) -> Extent | None:
        """None before the first record ever."""
        oldest = list(self._closed)[:1]
        if not oldest and self._descriptor < 0:
            return None
        return Extent(oldest[0].first if oldest else self._first, self._floor)

    @property
    def size_bytes(self) -> int:
        """Of all segments."""
        return self._size + sum(segment.size for segment in list(self._closed))

    def sync(self) -> None:
        """Bring everything appended so far to the disk, if it is not there.  Raises OSError."""
        # Files are opened anew, so that the writing thread may close and delete its own at any moment.  The order of
        # these two reads matters: a rotation between them must not look like a state that was synced.
        target = (self._first, self._size)
        if target == self._synced and not self._unsynced:
            return
        while self._unsynced:
            _fdatasync(segment_path(self.directory, self._unsynced[0]))
            self._unsynced.popleft()
        if target[0] >= 0:
            _fdatasync(segment_path(self.directory, target[0]))
        if target[0] != self._synced[0]:
            _fdatasync(self.directory)
        self._synced = target

    def suspend(self) -> None:
        """Note that numbers are given which the log does not have: ending now costs the epoch.  Needs no space."""
        self._note(State.SUSPENDED)

    def resume(self) -> None:
        """Note that the log has everything again."""
        self._note(State.OPEN)

    def drop_before(self, number: int) -> Dropped | None:
        """Delete the closed segments that have no record of *number* or above, nor one that may cover it; None if none.

        A record may cover everything up to the next one's number, so what counts is where the next segment begins.
        """
        return self._drop(lambda segment, following: self._ends_before(segment.first, following, number))

    def trim(self, max_bytes: int | None = None, older_than_ns: int | None = None) -> Dropped | None:
        """Delete the oldest closed segments, as long as one of the limits is passed; None if there is nothing to do.

        Args:
            max_bytes: what all segments together may have.
            older_than_ns: wall clock; a segment goes when the log never had a later stamp until its end.
        """
        return self._drop(
            lambda segment, _: (
                (max_bytes is not None and self.size_bytes > max_bytes)
                or (older_than_ns is not None and segment.high_stamp_ns < older_than_ns)
            )
        )

    def close(self) -> None:
        """Sync and mark a clean end, after which even a restarted machine goes on with the epoch.

        Not where the log is suspended: numbers are missing, however clean its end.  Raises OSError.
        """
        try:
            self.sync()
            if self._noted is not State.SUSPENDED:
                self._put_state(State.CLEAN)
                os.fdatasync(self._state)
        finally:
            for descriptor in (self._descriptor, self._index, self._state):
                if descriptor >= 0:
                    os.close(descriptor)
            self._descriptor = self._index = self._state = -1

    def _continue(self, recovered: Recovered) -> int:
        """Take up the newest segment where its epoch goes on; returns the lowest number to come."""
        if recovered.first is None:
            return 0
        self._first = recovered.first
        floor = max(recovered.first, recovered.last.number if recovered.last else 0)
        if self.epoch != recovered.epoch:
            return floor + 1
        self._size = recovered.end
        self._closed.pop()
        self._descriptor = os.open(segment_path(self.directory, self._first), _APPENDING)
        os.ftruncate(self._descriptor, self._size)
        entries = [entry for entry in read_index(self._index_path) if entry.offset < self._size]
        self._open_index()
        if self._index >= 0:
            os.ftruncate(self._index, len(entries) * ENTRY_BYTES)
        self._next_entry = (self._size // INDEX_BYTES + 1) * INDEX_BYTES
        self._act_at = min(self._next_entry, self._segment_bytes)
        return floor

    def _prepare(self, number: int) -> None:
        """All that is not done for every record."""
        if self._is_torn:
            self._cut()
        if self._descriptor < 0 or (self._size >= self._segment_bytes and number > self._first):
            self._rotate(number)
        elif self._size >= self._next_entry:
            self._write_entry(number)
        self._act_at = min(self._next_entry, self._segment_bytes)

    def _rotate(self, number: int) -> None:
        """Begin the segment of this number; where that fails, everything stays as it was."""
        descriptor = self._create(number)
        old, ended = self._descriptor, _Closed(self._first, self._size, self._high_stamp_ns)
        if self._index >= 0:
            os.close(self._index)
        self._descriptor, self._first, self._size = descriptor, number, HEADER_BYTES
        self._next_entry = INDEX_BYTES
        self._open_index()
        if old >= 0:
            os.close(old)
            # Last, so that another thread that drops never takes a segment for closed while it is the newest.
            self._unsynced.append(ended.first)
            self._closed.append(ended)

    def _create(self, first: int) -> int:
        """A new segment, renamed into place when its header is complete, so that nobody ever sees half of one."""
        path, unfinished = segment_path(self.directory, first), self.directory / "segment.new"
        previous = self._first if self._first >= 0 else NOTHING
        header = Header(
            version=WIRE_VERSION,
            epoch=self.epoch,
            boot_id=self._boot_id,
            first=first,
            previous=previous,
            created_ns=time.time_ns(),
            high_stamp_ns=self._high_stamp_ns,
        ).pack()
        descriptor = -1
        try:
            descriptor = os.open(unfinished, _APPENDING | os.O_TRUNC, 0o600)
            if os.write(descriptor, header) != HEADER_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            unfinished.rename(path)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise LogFull(path, error) from error
        return descriptor

    def _taken_back(self, reason: OSError | str) -> LogFull:
        """The error to raise for a record that was not written, or only in part, when its bytes are gone again."""
        self._is_torn = True
        with contextlib.suppress(LogFull):
            self._cut()
        return LogFull(segment_path(self.directory, self._first), reason)

    def _cut(self) -> None:
        self._act_at = _NOW  # until it is done
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError as error:
            raise LogFull(segment_path(self.directory, self._first), error) from error
        self._is_torn = False

    @property
    def _index_path(self) -> Path:
        return index_path(self.directory, self._first)

    def _open_index(self) -> None:
        try:
            self._index = os.open(self._index_path, _APPENDING, 0o600)
        except OSError:
            self._index = -1  # only an accelerator

    def _write_entry(self, number: int) -> None:
        """Index the record that is about to be written.  If it is not after all, readers find that out."""
        self._next_entry = (self._size // INDEX_BYTES + 1) * INDEX_BYTES
        entry = Entry(number, self._high_stamp_ns, self._size).pack()
        try:
            is_whole = os.write(self._index, entry) == len(entry)
        except OSError:
            is_whole = False
        if not is_whole and self._index >= 0:
            os.close(self._index)
            self._index = -1

    def _note(self, state: State) -> None:
        try:
            self._put_state(state)
        except OSError as error:
            raise LogFull(self.directory / "state", error) from error

    def _put_state(self, state: State) -> None:
        os.pwrite(self._state, StateFile(state, self.epoch, self._boot_id).pack(), 0)
        self._noted = state

    def _drop(self, is_over: Callable[[_Closed, int], bool]) -> Dropped | None:
        """Delete from the oldest segment on while *is_over* says so of it and the first number of the next one."""
        first, size = self._closed[0].first if self._closed else 0, 0
        end = first
        while (following := self._following()) is not None and is_over(self._closed[0], following):
            segment = self._closed.popleft()
            size, end = size + segment.size, following
            segment_path(self.directory, segment.first).unlink(missing_ok=True)
            index_path(self.directory, segment.first).unlink(missing_ok=True)
        return Dropped(first, end, size) if size else None

    def _following(self) -> int | None:
        """First number of the segment after the oldest closed one; None where there are not both."""
        if len(self._closed) > 1:
            return self._closed[1].first
        return self._first if self._closed and self._descriptor >= 0 else None

    def _ends_before(self, first: int, following: int, number: int) -> bool:
        """Whether a segment is all below *number*; its last record may carry the number that the next begins with."""
        if following != number:
            return following < number
        last = last_record(self.directory, first)
        return last is None or last.number < number


class BackgroundSync:
    """Calls `Writer.sync` again and again in a thread of its own, so that a power failure costs about one interval.

    Attributes:
        error: of the latest attempt; None where it went well.
    """

    def __init__(self, writer: Writer, interval_s: float = 1.0) -> None:
        self.error: OSError | None = None
        self._writer, self._interval_s = writer, interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal:sync", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until the thread has: before the writer is closed."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._writer.sync()
                self.error = None
            except OSError as error:
                self.error = error


def _epoch(recovered: Recovered) -> int:
    if recovered.epoch is not None and not recovered.new_epoch_because:
        return recovered.epoch
    return int.from_bytes(os.urandom(8)) >> 1  # 63 bits, for languages without unsigned integers


def _open_state(directory: Path) -> int:
    """The state file, with its place on the disk, so that changing it later needs none."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size < STATE_BYTES:
            os.posix_fallocate(descriptor, 0, STATE_BYTES)
            _fdatasync(directory)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _survey(directory: Path, high_stamp_ns: int) -> deque[_Closed]:
    """The segments there are; the high stamp at the end of one is what the header of the next says."""
    found: deque[_Closed] = deque()
    for first in reversed(list_segments(directory)):
        path = segment_path(directory, first)
        found.appendleft(_Closed(first, path.stat().st_size, high_stamp_ns))
        if (header := read_header(path)) is not None:
            high_stamp_ns = header.high_stamp_ns
    return found


def _fdatasync(path: Path) -> None:
    """Of a file or a directory; one that is gone needs none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
