"""``RUN_DIR/live.json``: what was changed while mcm ran, so that it survives a restart."""

import contextlib
import logging
import os
from pathlib import Path

import msgspec

from mcm.core.live import Live

__all__ = ["UNREADABLE", "LiveFile"]

UNREADABLE = (OSError, msgspec.MsgspecError, UnicodeDecodeError)

log = logging.getLogger("mcm.supervisor")


class LiveFile:
    """Reads at the start, writes whole and in one step at every change."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "live.json"

    def peek(self) -> Live:
        """What is there, touched in no way; raises one of UNREADABLE."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Live)
        except FileNotFoundError:
            return Live()

    def read(self) -> Live:
        """What an earlier life of mcm has left; nothing where that cannot be read, which is said and kept aside."""
        try:
            return self.peek()
        except UNREADABLE as error:
            log.error("%s cannot be read (%s): live changes of earlier are not in force", self.path, error)
            with contextlib.suppress(OSError):
                self.path.replace(self.path.with_suffix(".unreadable"))
            return Live()

    def write(self, live: Live) -> None:
        """Keep *live*; a disk that is full costs no more than a line in the log."""
        new = self.path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.format(msgspec.json.encode(live), indent=1))
            os.replace(new, self.path)
        except OSError as error:
            log.error("live changes could not be kept for a restart: %s", error)
