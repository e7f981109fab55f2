"""How a log lies on disk; pure layout, little-endian.  Who writes, cuts and deletes when is decided elsewhere.

::

    <first number, 20 digits>.seg   header (72 bytes), then records
    <first number, 20 digits>.idx   one entry per MiB of the segment; an accelerator only: never trusted, never needed
    state                           64 bytes, changed in place: "open|clean|suspended <epoch> <boot id>"
    heads                           the caller's state at some number (heads.py)
    quarantine/                     copies of damaged ranges

A record is ``<length u32, crc32 u32, number u64, stamp_ns u64>`` and its payload; the crc covers all behind itself.  A
payload is never empty, so zeros are no record.  A segment appears by rename with its header complete, and is closed by
the append that makes it ≥ segment_bytes; the next goes into a new one, unless its number is that of the segment's first
record, which would give both files the same name.
"""

import contextlib
import os
import struct
import time
import zlib
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self

from mcm.core.wire import WIRE_VERSION

__all__ = [
    "ENTRY_BYTES",
    "HEADER_BYTES",
    "INDEX_BYTES",
    "MAX_PAYLOAD_BYTES",
    "NOTHING",
    "RECORD_BYTES",
    "SEGMENT_BYTES",
    "SETTLED_NS",
    "STATE_BYTES",
    "Entry",
    "Header",
    "Listing",
    "Record",
    "Scan",
    "State",
    "StateFile",
    "find_record",
    "index_path",
    "list_segments",
    "parse",
    "read_header",
    "read_index",
    "record_end",
    "scan",
    "segment_path",
    "unpack_record_header",
]

SEGMENT_BYTES = 16 * 1024 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
INDEX_BYTES = 1024 * 1024
NOTHING = 2**64 - 1  # as `previous`: this log never had an earlier segment

_MAGIC = b"mcm.log\0"
_HEADER = struct.Struct("<8sIQ16sQQQQI")
_RECORD = struct.Struct("<IIQQ")
_ENTRY = struct.Struct("<QQQ")
_CRC = struct.Struct("<I")
HEADER_BYTES, RECORD_BYTES, ENTRY_BYTES = _HEADER.size, _RECORD.size, _ENTRY.size + _CRC.size
STATE_BYTES = 64
_CRC_BEHIND = 8  # of a record: its crc covers what follows this many bytes
# How far beyond the last good number a record may be to be believed while searching through damage.
_PLAUSIBLE_JUMP = 2**32
# The time of a file moves with the kernel's tick: only beyond this age a further change is sure to show in it.
SETTLED_NS = 100_000_000

unpack_record_header = _RECORD.unpack_from
_new = tuple.__new__


class Record(NamedTuple):
    """One record: the first number it covers, the caller's wall clock (ns since the epoch), the caller's bytes."""

    number: int
    stamp_ns: int
    payload: bytes


class Header(NamedTuple):
    """How a segment begins.

    Attributes:
        version: of the wire, which is what the payloads are made of.
        epoch: of the log, 64 bits.
        boot_id: of the machine when the segment was begun, 16 bytes; for people.
        first: lowest number a record in here can have; the file's name.
        previous: `first` of the segment before, so that a reader notices one that is gone; else NOTHING.
        created_ns: wall clock.
        high_stamp_ns: highest stamp of the whole log before this segment.
    """

    version: int
    epoch: int
    boot_id: bytes
    first: int
    previous: int
    created_ns: int
    high_stamp_ns: int

    def pack(self) -> bytes:
        """As it stands in the file."""
        body = _HEADER.pack(_MAGIC, *self, 0)[: -_CRC.size]
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def unpack(cls, data: bytes) -> Self | None:
        """From the beginning of a file; None where this is no header.  The version is not judged."""
        if len(data) < HEADER_BYTES:
            return None
        magic, *fields, crc = _HEADER.unpack_from(data)
        if magic != _MAGIC or zlib.crc32(data[: HEADER_BYTES - _CRC.size]) != crc:
            return None
        return cls(*fields)

    def unreadable_because(self) -> str:
        """Why the records of this segment cannot be understood; empty when they can."""
        return "" if self.version == WIRE_VERSION else f"it has wire version {self.version}, this mcm {WIRE_VERSION}"


def read_header(path: Path) -> Header | None:
    """The header of a segment; None where there is none, or no file."""
    try:
        with path.open("rb", buffering=0) as file:
            return Header.unpack(file.read(HEADER_BYTES))
    except FileNotFoundError:
        return None


def parse(data: bytes, start: int = 0) -> tuple[list[Record], int]:
    """The records from *start* up to the first place where none is, and that place."""
    records: list[Record] = []
    view, size, crc32, add = memoryview(data), len(data), zlib.crc32, records.append
    position, body = start, start + RECORD_BYTES
    while body <= size:
        length, crc, number, stamp_ns = unpack_record_header(data, position)
        end = body + length
        if end > size or not length or crc32(view[position + _CRC_BEHIND : end]) != crc:
            break
        add(_new(Record, (number, stamp_ns, data[body:end])))  # half the time of Record(…): this is the hot loop
        position, body = end, end + RECORD_BYTES
    return records, position


def record_end(data: bytes, start: int) -> int | None:
    """Where the record at *start* ends; None where there is no valid one."""
    if start + RECORD_BYTES > len(data):
        return None
    length, crc, _, _ = unpack_record_header(data, start)
    end: int = start + RECORD_BYTES + length
    if end > len(data) or not length or zlib.crc32(memoryview(data)[start + _CRC_BEHIND : end]) != crc:
        return None
    return end


def find_record(data: bytes, start: int, low: int, high: int = NOTHING) -> int | None:
    """The first place from *start* on where a valid record with *low* ≤ number ≤ *high* begins.

    About 0.15 µs per byte of damage: a lost page costs under a millisecond, a lost MiB 0.2 s.
    """
    high = min(high, low + _PLAUSIBLE_JUMP)
    # No record begins with four zeros, and a file system may well leave a long tail of them.
    stop = min(len(data.rstrip(b"\0")), len(data) - RECORD_BYTES)
    for position in range(start, stop):
        length, _, number, _ = unpack_record_header(data, position)
        if low <= number <= high and 0 < length <= MAX_PAYLOAD_BYTES and record_end(data, position) is not None:
            return position
    return None


class Scan(NamedTuple):
    """All valid records, where the last one ends, and whether something between them is none."""

    records: list[Record]
    end: int
    is_damaged: bool


def scan(data: bytes, start: int, low: int) -> Scan:
    """Every valid record from *start* on, stepping over damage; *low* is the lowest number that can follow."""
    records, end = parse(data, start)
    is_damaged = False
    while end < len(data):
        found = find_record(data, end, records[-1].number if records else low)
        if found is None:
            break
        is_damaged = True
        more, end = parse(data, found)
        records += more
    return Scan(records, end, is_damaged)


class Entry(NamedTuple):
    """One line of the index: a record's number and place in the file, and the highest stamp of the log before it."""

    number: int
    high_stamp_ns: int
    offset: int

    def pack(self) -> bytes:
        """As it stands in the file."""
        body = _ENTRY.pack(*self)
        return body + _CRC.pack(zlib.crc32(body))


def read_index(path: Path) -> list[Entry]:
    """The entries up to the first that is damaged or out of order.  A missing file is an empty one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    entries: list[Entry] = []
    for start in range(0, len(data) - ENTRY_BYTES + 1, ENTRY_BYTES):
        body, crc = data[start : start + _ENTRY.size], data[start + _ENTRY.size : start + ENTRY_BYTES]
        entry = Entry(*_ENTRY.unpack(body))
        if _CRC.pack(zlib.crc32(body)) != crc or (entries and entry.offset <= entries[-1].offset):
            break
        entries.append(entry)
    return entries


def segment_path(directory: Path, first: int) -> Path:
    """The file of the segment that begins with number *first*."""
    return directory / f"{first:020d}.seg"


def index_path(directory: Path, first: int) -> Path:
    """The index beside that segment."""
    return directory / f"{first:020d}.idx"


def list_segments(directory: Path) -> list[int]:
    """First numbers of all segments, ascending, which is also their order in time."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(name[:20]) for name in names if len(name) == 24 and name.endswith(".seg") and name[:20].isdigit())


class Listing:
    """The segments of a directory, looked up again only when it may have changed (1 µs otherwise)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changed_ns: int | None = None
        self._firsts: list[int] = []

    def firsts(self) -> list[int]:
        """First numbers, ascending; not to be changed by the caller."""
        try:
            changed_ns = os.stat(self._directory).st_mtime_ns
        except FileNotFoundError:
            return []
        if changed_ns != self._changed_ns:
            self._firsts = list_segments(self._directory)
            self._changed_ns = changed_ns if time.time_ns() - changed_ns > SETTLED_NS else None
        return self._firsts

    def forget(self) -> None:
        """Look again next time: a file of the list was gone."""
        self._changed_ns = None


class State(StrEnum):
    """What the state file says of the log's end."""

    OPEN = "open"
    CLEAN = "clean"
    SUSPENDED = "suspended"  # numbers are given that the log does not have


class StateFile(NamedTuple):
    """The content of the state file."""

    state: State
    epoch: int
    boot_id: bytes

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """None where there is none or it says nothing sensible."""
        with contextlib.suppress(OSError, ValueError):
            state, epoch, boot_id = (directory / "state").read_text("ascii").split()
            return cls(State(state), int(epoch), bytes.fromhex(boot_id))
        return None

    def pack(self) -> bytes:
        """64 bytes, of which people can read every one: one sector, so that it is changed whole or not at all."""
        return f"{self.state} {self.epoch} {self.boot_id.hex()}".ljust(STATE_BYTES - 1).encode() + b"\n"
