"""The append-only log: link files of the workers and the journal of the router.  Bytes and numbers, nothing of ticks.

One process writes a log (its caller holds a lock on the directory), any number read it while it grows::

    recovered = recover(directory)                 # reads only: what is there, and may its epoch go on?
    writer = Writer(recovered)                     # cuts a torn tail; begins a new epoch where one is needed
    writer.append(number, stamp_ns, payload)       # in the file when it returns: then publish, never before

    reader = Reader(directory)
    reader.seek(number)
    for record in reader.read(1 << 20): ...

**Numbers** are the caller's.  A record with number n covers the numbers from n up to the next record's: one, many or
none.  They never decrease over the life of a directory, epochs included; this is what makes seeking possible.

**Epochs.**  Within one epoch no number is ever given twice.  What was appended may have been published, so an epoch
goes on only where it is certain that every record that was ever complete is still there.  A process kill leaves a whole
prefix and at most one incomplete record, which was never published: it is cut, and the epoch goes on.  Anything else (a
power failure, damage, records that were published while the disk was full) begins a new one.

**Heads** beside the log (`SnapshotWriter`) make recovery short: their state, then all records from their number on.
"""

from pathlib import Path

from mcm.journal.format import Record
from mcm.journal.heads import Snapshot, SnapshotWriter, read_snapshot
from mcm.journal.reader import Behind, Damage, EpochChanged, Reader
from mcm.journal.recovery import Recovered, recover
from mcm.journal.survey import Segment, SegmentExtent, extents, segments
from mcm.journal.writer import BackgroundSync, Dropped, Extent, LogFull, Writer

__all__ = [
    "BackgroundSync",
    "Behind",
    "Damage",
    "Dropped",
    "EpochChanged",
    "Extent",
    "LogFull",
    "Reader",
    "Record",
    "Recovered",
    "Segment",
    "SegmentExtent",
    "Snapshot",
    "SnapshotWriter",
    "Writer",
    "directory_of",
    "extents",
    "read_snapshot",
    "recover",
    "segments",
]


def directory_of(run_dir: Path) -> Path:
    """Where the router's journal of a run directory lies."""
    return run_dir / "journal"
