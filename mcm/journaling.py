"""The router's journal: everything that was published, with heads beside it, and how the router finds itself in it.

When the disk is full the feed goes on: what is published then stands in no file, and status says since when.
"""

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mcm.core.acceptance import Acceptance, records_before
from mcm.core.control import FREE_DISK_SHARE
from mcm.core.record import Accepted, decode_record, encode_record
from mcm.core.sequence import Numbering
from mcm.journal import (
    BackgroundSync,
    Behind,
    EpochChanged,
    LogFull,
    Reader,
    Recovered,
    Snapshot,
    SnapshotWriter,
    Writer,
    directory_of,
    read_snapshot,
    recover,
    segments,
)
from mcm.quarantine import Quarantine

__all__ = ["Journal", "Retention", "open_journal"]

log = logging.getLogger("mcm.router")

SNAPSHOT_EVERY_BYTES = 32 * 1024 * 1024
SNAPSHOT_EVERY_S = 60.0
TRIM_EVERY_S = 10.0
RETRY_S = 1.0
_READ_BYTES = 4 * 1024 * 1024


class Retention:
    """How much of the past is kept: so many bytes, but never more than a tenth of the free disk, and so many hours."""

    def __init__(self, max_bytes: int, max_hours: int) -> None:
        self._max_bytes, self._max_ns = max_bytes, max_hours * 3_600 * 10**9

    def apply(self, writer: Writer) -> None:
        """Delete what is too much or too old."""
        disk = os.statvfs(writer.directory)
        free = disk.f_bavail * disk.f_frsize
        allowed = min(self._max_bytes, int((free + writer.size_bytes) * FREE_DISK_SHARE))
        dropped = writer.trim(max_bytes=allowed, older_than_ns=time.time_ns() - self._max_ns)
        if dropped is not None:
            log.info("the journal let offsets %d to %d go (%d bytes)", dropped.first, dropped.end - 1, dropped.size)


class Journal:
    """The writing side.

    Attributes:
        not_durable_since: offset of the first published message that the journal does not have; None when it has all.
    """

    def __init__(self, writer: Writer, acceptance: Acceptance, retention: Retention) -> None:
        self._writer, self._acceptance, self._retention = writer, acceptance, retention
        self._sync = BackgroundSync(writer)
        self._snapshot: SnapshotWriter | None = None
        self._slices: Iterator[bytes] = iter(())
        self._snapshot_size, self._snapshot_at, self._trim_at = writer.size_bytes, 0.0, 0.0
        self._must_resume = False
        self.not_durable_since: int | None = None

    def start(self) -> None:
        """Begin to sync in the background."""
        self._sync.start()

    def append(self, first_offset: int, record: Accepted) -> None:
        """Keep *record*; to be called before anything of it is published."""
        try:
            self._writer.append(first_offset, record.received_ns, encode_record(record))
        except LogFull as error:
            if self.not_durable_since is None:
                self.not_durable_since = first_offset
                self._writer.suspend()
                log.error("not durable since offset %d: %s", first_offset, error)
            return
        if self.not_durable_since is not None:
            log.warning(
                "durable again from offset %d on; %d to %d are in no file",
                first_offset, self.not_durable_since, first_offset - 1,
            )  # fmt: skip
            self.not_durable_since = None
            # The numbers of that stretch stand nowhere yet: until heads say them, a kill must cost the epoch.
            self._must_resume, self._snapshot_at = True, 0.0
            if self._snapshot is not None:
                self._snapshot.abandon()
                self._snapshot = None

    def turn(self, now: float) -> None:
        """A slice of whatever is due: heads, retention.  Less than a millisecond."""
        if self._snapshot is not None:
            self._write_slice()
        elif now >= self._snapshot_at or self._writer.size_bytes - self._snapshot_size > SNAPSHOT_EVERY_BYTES:
            self._snapshot_at = now + SNAPSHOT_EVERY_S
            self._begin_snapshot()
        elif now >= self._trim_at:
            self._trim_at = now + TRIM_EVERY_S
            self._retention.apply(self._writer)
            self._snapshot_size = min(self._snapshot_size, self._writer.size_bytes)

    def _begin_snapshot(self) -> None:
        writer = self._writer
        if self.not_durable_since is not None:
            return
        try:
            self._snapshot = SnapshotWriter(writer.directory, writer.epoch, self._acceptance.numbers.offset + 1)
        except LogFull as error:
            log.warning("no heads were written: %s", error)
            if self._must_resume:
                self._snapshot_at = time.monotonic() + RETRY_S
            return
        self._snapshot_size = writer.size_bytes
        self._slices = self._acceptance.slices()

    def _write_slice(self) -> None:
        assert self._snapshot is not None
        try:
            part = next(self._slices, None)
            if part is not None:
                self._snapshot.write(part)
                return
            self._snapshot.commit()
            if self._must_resume:
                self._writer.resume()
                self._must_resume = False
        except LogFull as error:
            log.warning("no heads were written: %s", error)
            self._snapshot.abandon()
            if self._must_resume:
                self._snapshot_at = time.monotonic() + RETRY_S
        self._snapshot = None

    def close(self) -> None:
        """Heads, sync, and the mark of a clean end."""
        if self._snapshot is None:
            self._begin_snapshot()
        while self._snapshot is not None:
            self._write_slice()
        self._sync.stop()
        try:
            self._writer.close()
        except OSError as error:
            log.error("the journal could not be closed cleanly: %s", error)


def open_journal(
    run_dir: Path, retention: Retention, quarantine: Quarantine, alive: Callable[[], None] = lambda: None
) -> tuple[Journal, Acceptance]:
    """The journal of *run_dir* and the state it leads to; *alive* is called several times a second meanwhile."""
    directory = directory_of(run_dir)
    recovered = recover(directory)
    heads = read_snapshot(directory, recovered.epoch) if recovered.epoch is not None else None
    reason = recovered.new_epoch_because
    if heads is not None and _are_ahead(heads, recovered):
        heads, reason = None, reason or "its end is gone: its heads know of records that it has not"
    if recovered.epoch is not None and quarantine.has_condemned(recovered.epoch):
        reason = reason or "a record of it ends the router, and is stepped over"
    epoch = secrets.randbits(63) if reason and recovered.epoch is not None else None
    writer = Writer(recovered, epoch=epoch)
    acceptance = Acceptance(Numbering(writer.epoch))
    began = time.monotonic()
    if recovered.epoch is not None:
        reader = Reader(directory, epoch=recovered.epoch)
        if heads is not None:
            for part in heads.chunks:
                acceptance.load(part)
            acceptance.numbers.offset = heads.number - 1
            reader.seek(heads.number)
        else:
            reader.seek(min(segment.first for segment in segments(directory) if segment.epoch == recovered.epoch))
        _restore(reader, recovered.epoch, acceptance, quarantine, alive)
    if writer.epoch != recovered.epoch:
        if recovered.epoch is not None:
            log.error("a new journal epoch begins: %s; every subscriber is told", reason)
        # What the links delivered was published under the old epoch; only the numbers mean nothing any more.
        numbers = Numbering(writer.epoch, offset=max(0, writer.floor - 1))
        acceptance = Acceptance(numbers, taken=acceptance.taken, arbiter=acceptance.arbiter)
    if acceptance.doubts:
        log.warning("%d records could not be arbitrated again: lines rejoin instead", acceptance.doubts)
    log.info("recovered up to offset %d in %.2f s", acceptance.numbers.offset, time.monotonic() - began)
    return Journal(writer, acceptance, retention), acceptance


def _are_ahead(heads: Snapshot, recovered: Recovered) -> bool:
    """Whether records are gone that were there when the heads were taken: their numbers may have been published."""
    known = decode_record(recovered.last.payload).index + 1 if recovered.last is not None else 0
    return records_before(heads.chunks[0]) > known


def _restore(
    reader: Reader, epoch: int, acceptance: Acceptance, quarantine: Quarantine, alive: Callable[[], None]
) -> None:
    """Every record of *epoch* that is left to read."""
    try:
        while True:
            alive()
            try:
                records = reader.read(_READ_BYTES)
            except (Behind, EpochChanged):
                continue
            if not records or reader.epoch != epoch:
                break
            for number, _, payload in records:
                if not quarantine.keeps("journal", epoch, number, payload):
                    quarantine.begin(epoch, number)
                    acceptance.restore(number, decode_record(payload))
                    quarantine.end()
        acceptance.recovered()
    finally:
        reader.close()
