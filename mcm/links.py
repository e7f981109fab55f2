"""Link files: what a worker has read from its upstream, kept until the router has taken it.

Every start of a worker opens a new *incarnation*, a log of its own with sequences from 1: to continue an old one after
a torn tail would give numbers again that the router has passed.  The router reads incarnations in their order, each to
its end, and deletes those it has read; of the present one the worker deletes what the router says it has taken.

    RUN_DIR/link/primary/0000000003-5b1c…f2/00000000000000000001.seg
                         taken                        8 bytes: the sequence up to which the router has it
"""

import contextlib
import os
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mcm import locks
from mcm.core.errors import UsageError
from mcm.journal import Behind, LogFull, Reader, Writer, recover

__all__ = ["Incoming", "Missing", "OutgoingLink", "Stored", "names"]

CAP_BYTES = 512 * 1024 * 1024
_TAKEN = struct.Struct("<Q")
_INCARNATION = re.compile(r"\d{10}-[0-9a-f]{16}", re.ASCII)


def names(run_dir: Path) -> list[str]:
    """The connections that have link files."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(entry.name for entry in (run_dir / "link").iterdir() if entry.is_dir())
    return []


class _Incarnation(NamedTuple):
    number: int
    epoch: int
    directory: Path


def _incarnations(directory: Path) -> list[_Incarnation]:
    """All there are, oldest first; none where *directory* cannot be one, since a name may come from a forged batch."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for entry in directory.iterdir():
            if _INCARNATION.fullmatch(entry.name):
                number, _, epoch = entry.name.partition("-")
                found.append(_Incarnation(int(number), int(epoch, 16), entry))
    return sorted(found)


class OutgoingLink:
    """The worker's end; locks the connection's directory for as long as the process lives.

    Attributes:
        lost: batches that were deleted at the cap before the router took them.
    """

    def __init__(self, run_dir: Path, name: str, epoch: int, *, keep: bool = False) -> None:
        base = run_dir / "link" / name
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = locks.acquire(base / "lock")
        if isinstance(held, str):
            raise UsageError(f"another worker writes the link files of {name} ({held})", "stop it first")
        self._lock = held
        number = max((one.number for one in _incarnations(base)), default=0) + 1
        self._directory, self._epoch, self._keep = base / f"{number:010}-{epoch:016x}", epoch, keep
        self._taken_path = self._directory / "taken"
        self._writer: Writer | None = None
        self.lost = 0
        self._open()

    def _open(self) -> Writer | None:
        """The writer; None while the disk has no room for a first file: a line must live without one."""
        if self._writer is None:
            with contextlib.suppress(LogFull):
                self._writer = Writer(recover(self._directory), epoch=self._epoch)
        return self._writer

    def append(self, sequence: int, received_ns: int, frame: bytes) -> None:
        """Keep one batch; raises LogFull when the disk does not take it."""
        if self._writer is None:
            raise LogFull(self._directory, "there was no room for its first file")
        self._writer.append(sequence, received_ns, frame)

    def tidy(self) -> None:
        """Delete what the router has taken, and at the cap the oldest that it has not; about once a second."""
        writer = self._open()
        if writer is None or self._keep:
            return
        taken = 0
        with contextlib.suppress(FileNotFoundError, struct.error):
            (taken,) = _TAKEN.unpack(self._taken_path.read_bytes())
        writer.drop_before(taken + 1)
        dropped = writer.trim(max_bytes=CAP_BYTES)
        if dropped is not None:
            self.lost += dropped.end - max(dropped.first, taken + 1)

    def close(self) -> None:
        """Bring it to the disk and let the next worker write."""
        with contextlib.suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self._lock.release()


class Stored(NamedTuple):
    """A batch of an incarnation as the worker encoded it."""

    epoch: int
    sequence: int
    frame: bytes


class Missing(NamedTuple):
    """Batches that a link should have and has not: deleted at its cap, never written on a full disk, or damaged."""

    epoch: int
    first: int
    last: int


class Incoming:
    """The router's end of one connection's links: every batch that was appended, in order.

    Args:
        taken: (epoch, sequence) of the last batch that was taken, as recovered; None before the first ever.
    """

    def __init__(self, run_dir: Path, name: str, taken: tuple[int, int] | None, *, keep: bool = False) -> None:
        self._base, self._keep = run_dir / "link" / name, keep
        self._present: _Incarnation | None = None
        self._reader: Reader | None = None
        self._after = taken
        self._taken_file = -1

    @property
    def epoch(self) -> int | None:
        """Of the incarnation that is being read."""
        return self._present.epoch if self._present is not None else None

    def passed(self, sequence: int, length: int) -> bool:
        """The next batch of this incarnation came by the socket: step over it.  False where the reader is behind."""
        return self._reader is not None and self._reader.skip(sequence, length)

    def read(self, max_bytes: int) -> Iterator[Stored | Missing]:
        """The next batches; nothing at the end of what is written."""
        if self._reader is None and not self._open_next():
            return
        while True:
            assert self._reader is not None
            is_over = self._is_over()  # asked first: a worker may append, die and have a successor while this reads
            if not is_over and not self._reader.has_more():
                return
            try:
                records = self._reader.read(max_bytes)
            except Behind as behind:
                yield Missing(self.epoch or 0, behind.first_missing, behind.first_available - 1)
                return
            for record in records:
                yield Stored(self.epoch or 0, record.number, record.payload)
            for damage in self._reader.take_damage():
                yield Missing(self.epoch or 0, damage.first_missing, damage.next_number - 1)
            if records or not is_over or not self._open_next():
                return

    def _is_over(self) -> bool:
        """Whether a younger incarnation exists: its worker has the lock, so nobody writes this one any more."""
        return self._present is not None and bool(self._younger())

    def _younger(self) -> list[_Incarnation]:
        number = self._present.number if self._present is not None else 0
        return [one for one in _incarnations(self._base) if one.number > number]

    def _open_next(self) -> bool:
        """Go to the next incarnation: that of the recovered position, else the oldest one that is left."""
        waiting = self._younger()
        if self._after is not None:
            known = [one for one in waiting if one.epoch == self._after[0]]
            if known:
                waiting = [one for one in waiting if one.number >= known[0].number]
        if not waiting:
            return False
        self._leave()
        self._present = waiting[0]
        self._reader = Reader(self._present.directory, epoch=self._present.epoch)
        if self._after is not None and self._present.epoch == self._after[0]:
            self._reader.seek(self._after[1] + 1)
        self._after = None
        self._delete_older()
        return True

    def _leave(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._taken_file >= 0:
            os.close(self._taken_file)
            self._taken_file = -1

    def _delete_older(self) -> None:
        assert self._present is not None
        if self._keep:
            return
        for one in _incarnations(self._base):
            if one.number < self._present.number:
                shutil.rmtree(one.directory, ignore_errors=True)

    def note_taken(self, sequence: int) -> None:
        """Let the worker delete what comes before; about once a second, when it is journaled."""
        if self._present is None:
            return
        with contextlib.suppress(OSError):  # the disk is full: then its files stay
            if self._taken_file < 0:
                path = self._present.directory / "taken"
                self._taken_file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._taken_file, _TAKEN.pack(sequence), 0)
