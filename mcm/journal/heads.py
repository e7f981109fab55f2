"""The heads beside a log: its caller's state at some number, so that recovery need not read the whole log.

Written in slices between other work, so the state is *fuzzy*: a part written later knows more than the number says.
Whoever reads it applies all records from its number on again, and must bear to see one twice.
"""

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from mcm.journal.writer import LogFull

__all__ = ["Snapshot", "SnapshotWriter", "read_snapshot"]

_MAGIC = b"mcm.head"
_START = struct.Struct("<8sQQ")  # magic, epoch, number
_FRAME = struct.Struct("<II")  # length, crc32; at the end 0 and how many chunks there are


@dataclass(frozen=True)
class Snapshot:
    """What was written: as of *number* or later, in the same chunks."""

    number: int
    chunks: list[bytes]


class SnapshotWriter:
    """Writes new heads in slices; the old ones stay in force until `commit`.

    Nothing is synced to disk: after a power failure the log begins a new epoch, for which old heads do not count.

    Args:
        directory: of the log.
        epoch: of the log.
        number: the log's next number, taken before the first slice is.

    Raises:
        LogFull: from the constructor, `write` and `commit`; the old heads stay in force.  The caller abandons.
    """

    def __init__(self, directory: Path, epoch: int, number: int) -> None:
        self._directory, self._chunks = directory, 0
        self._path = directory / "heads.new"
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LogFull(self._path, error) from error
        try:
            self._put(_frame(_START.pack(_MAGIC, epoch, number)))
        except LogFull:
            self.abandon()
            raise

    def write(self, chunk: bytes) -> None:
        """Add one slice, not empty; one system call."""
        if not chunk:
            raise ValueError("a chunk may not be empty")
        self._put(_frame(chunk))
        self._chunks += 1

    def commit(self) -> None:
        """Complete them and put them in the old ones' place."""
        self._put(_FRAME.pack(0, self._chunks))
        self._close()
        try:
            self._path.rename(self._directory / "heads")
        except OSError as error:
            raise LogFull(self._path, error) from error

    def abandon(self) -> None:
        """Throw away what was written so far."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _put(self, data: bytes) -> None:
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            raise LogFull(self._path, error) from error
        if written != len(data):
            raise LogFull(self._path, f"only {written} of {len(data)} bytes were taken")


def read_snapshot(directory: Path, epoch: int) -> Snapshot | None:
    """The heads of this *epoch*; None where there are none, or not whole: then all of the log has to be read."""
    try:
        data = (directory / "heads").read_bytes()
    except FileNotFoundError:
        return None
    chunks: list[bytes] = []
    position = 0
    while position + _FRAME.size <= len(data):
        length, crc = _FRAME.unpack_from(data, position)
        position += _FRAME.size
        if not length:
            is_whole = position == len(data) and crc == len(chunks) - 1
            return _snapshot(chunks, epoch) if is_whole else None
        chunk = data[position : position + length]
        if len(chunk) != length or zlib.crc32(chunk) != crc:
            return None
        chunks.append(chunk)
        position += length
    return None


def _frame(chunk: bytes) -> bytes:
    return _FRAME.pack(len(chunk), zlib.crc32(chunk)) + chunk


def _snapshot(chunks: list[bytes], epoch: int) -> Snapshot | None:
    if len(chunks[0]) != _START.size:
        return None
    magic, of_epoch, number = _START.unpack(chunks[0])
    return Snapshot(number, chunks[1:]) if (magic, of_epoch) == (_MAGIC, epoch) else None
