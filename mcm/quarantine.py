"""Records that end the router: which one it is at, in a file that outlives it, and those that it must not touch again.

A router that dies at a record would die at it for ever, because its start reads it again.  So it notes before each one
which it is about to take; the record at which two routers died in a row is put aside, named, and stepped over.
"""

import logging
import mmap
import os
import re
import struct
from pathlib import Path

__all__ = ["DEATHS", "Quarantine"]

log = logging.getLogger("mcm.router")

DEATHS = 2
_AT = struct.Struct("<QQ")  # the record being taken: the epoch of its log and its number there; zeros between records
_SUSPECT = struct.Struct("<QQQ")  # the record at which the last router died, and how many have
_SUSPECT_AT = 64
_SIZE = 4_096
_NAME = re.compile(r".*-([0-9a-f]{16})-(\d+)\.record", re.ASCII)


class Quarantine:
    """Of one run directory.  Numbers are those of a log: of a link's incarnation, or of a journal epoch."""

    def __init__(self, run_dir: Path) -> None:
        self._directory = run_dir / "quarantine"
        self._page = _page(run_dir / "at-work")
        self._condemned = {
            (int(found[1], 16), int(found[2]))
            for entry in (self._directory.iterdir() if self._directory.is_dir() else ())
            if (found := _NAME.fullmatch(entry.name))
        }
        at = _AT.unpack_from(self._page)
        *suspect, deaths = _SUSPECT.unpack_from(self._page, _SUSPECT_AT)
        if at != (0, 0):
            deaths = deaths + 1 if at == tuple(suspect) else 1
            _SUSPECT.pack_into(self._page, _SUSPECT_AT, *at, deaths)
            log.warning("the last router died while it took record %d of log %016x", at[1], at[0])
            if deaths >= DEATHS:
                self._condemned.add(at)
        self.end()

    def begin(self, epoch: int, number: int) -> None:
        """Note that this record is about to be taken."""
        _AT.pack_into(self._page, 0, epoch, number)

    def end(self) -> None:
        """It has been taken, and nobody died."""
        _AT.pack_into(self._page, 0, 0, 0)

    def has_condemned(self, epoch: int) -> bool:
        """Whether a record of this log is to be stepped over."""
        return any(condemned == epoch for condemned, _ in self._condemned)

    def keeps(self, name: str, epoch: int, number: int, payload: bytes) -> bool:
        """Whether the record is to be stepped over; it is then put aside for whoever wants to know why."""
        if (epoch, number) not in self._condemned:
            return False
        path = self._directory / f"{name}-{epoch:016x}-{number}.record"
        if not path.exists():
            log.error("record %d of %s ended the router %d times: stepped over, see %s", number, name, DEATHS, path)
            try:
                self._directory.mkdir(mode=0o700, exist_ok=True)
                path.write_bytes(payload)
            except OSError as error:
                log.warning("it could not be put aside: %s", error)
        return True


def _page(path: Path) -> mmap.mmap:
    """A page that outlives a killed process; one that does not where the disk has no room for it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _SIZE)  # a page without a place on the disk would be a SIGBUS
            return mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("no record that ends the router could be told from the others: %s", error)
        return mmap.mmap(-1, _SIZE)
