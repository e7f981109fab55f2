"""What a log's last writer left behind, and whether its epoch may go on.  Reads only; `Writer` then acts on it.

The rule: an epoch goes on only where every record that was ever complete is certain to be there, because it may have
been published under its number.  The kernel keeps whole what a killed process wrote, so that on the same boot the last
record may be *incomplete* (then it was never published) and nothing else can be wrong with it.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from mcm.journal.format import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    RECORD_BYTES,
    Header,
    Record,
    Scan,
    State,
    StateFile,
    list_segments,
    scan,
    segment_path,
    unpack_record_header,
)
from mcm.journal.survey import last_record

__all__ = ["Recovered", "read_boot_id", "recover"]


@dataclass(frozen=True)
class Recovered:
    """What was found.

    Attributes:
        directory: of the log.
        boot_id: of the machine now.
        epoch: of the newest segment; None where there is none, or its header is unreadable.
        new_epoch_because: why the epoch cannot go on, in words; empty where it can.
        last: the newest valid record; None where there is none.
        first: lowest number of the newest segment; None where there is none.
        end: up to where the newest segment is good, bytes.
        torn: bytes behind that, which are cut when the epoch goes on and left to the readers to name otherwise.
        high_stamp_ns: highest stamp in the log.
    """

    directory: Path
    boot_id: bytes
    epoch: int | None
    new_epoch_because: str
    last: Record | None
    first: int | None
    end: int
    torn: int
    high_stamp_ns: int


def read_boot_id() -> bytes:
    """The kernel's random id of this boot, 16 bytes."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))


def recover(directory: Path, boot_id: bytes | None = None) -> Recovered:
    """Look at a log that nobody writes.  Reads its newest segment only, about 1 µs per record.

    *boot_id*: 16 bytes; None for the kernel's.
    """
    boot_id = boot_id or read_boot_id()
    firsts = list_segments(directory)
    if not firsts:
        return Recovered(directory, boot_id, None, "the log is empty", None, None, 0, 0, 0)
    first = firsts[-1]
    path = segment_path(directory, first)
    data = path.read_bytes()
    header, found = Header.unpack(data), scan(data, HEADER_BYTES, first)
    reason = _broken(path, header, found, data) or _unsure(StateFile.read(directory), header, boot_id)
    return Recovered(
        directory=directory,
        boot_id=boot_id,
        epoch=header and header.epoch,
        new_epoch_because=reason,
        last=found.records[-1] if found.records else _newest(directory, firsts[:-1]),
        first=first,
        end=found.end,
        torn=max(0, len(data) - found.end),
        high_stamp_ns=_high_stamp(directory, firsts, header, found),
    )


def _broken(path: Path, header: Header | None, found: Scan, data: bytes) -> str:
    """What the newest segment itself says against going on."""
    if header is None:
        return f"{path.name} has no readable header"
    if because := header.unreadable_because():
        return f"{path.name} cannot be read: {because}"
    if found.is_damaged:
        return f"{path.name} is damaged before its last record"
    if found.end < len(data) and not _is_torn(data, found):
        return f"the end of {path.name} is damaged"
    return ""


def _is_torn(data: bytes, found: Scan) -> bool:
    """Whether the bytes behind the last good record are the beginning of one whose writing was interrupted."""
    rest = len(data) - found.end
    if rest < RECORD_BYTES:
        return True
    length: int
    number: int
    length, _, number, _ = unpack_record_header(data, found.end)
    low = found.records[-1].number if found.records else 0
    return number >= low and rest < RECORD_BYTES + length <= RECORD_BYTES + MAX_PAYLOAD_BYTES


def _unsure(state: StateFile | None, header: Header | None, boot_id: bytes) -> str:
    """What the state file says against going on with the epoch of this *header*."""
    if state is None:
        return "the state file is missing or unreadable"
    if state.state is State.SUSPENDED:
        return "it ended while suspended: numbers were given that it does not have"
    if header is not None and state.epoch != header.epoch:
        return "a new epoch was begun already"
    if state.state is State.OPEN and state.boot_id != boot_id:
        return "the machine restarted before the log was closed"
    return ""


def _newest(directory: Path, firsts: list[int]) -> Record | None:
    """The newest record of these segments; the search is short, because only a newest segment can be empty."""
    for first in reversed(firsts):
        with contextlib.suppress(FileNotFoundError):
            if (record := last_record(directory, first)) is not None:
                return record
    return None


def _high_stamp(directory: Path, firsts: list[int], header: Header | None, found: Scan) -> int:
    """The highest stamp in the log; a segment without a header is read, for what the one before it does not know."""
    stamps = [record.stamp_ns for record in found.records]
    for first in reversed(firsts[:-1]):
        if header is not None:
            break
        data = segment_path(directory, first).read_bytes()
        header = Header.unpack(data)
        stamps += [record.stamp_ns for record in scan(data, HEADER_BYTES, first).records]
    return max(stamps + ([header.high_stamp_ns] if header else []), default=0)
