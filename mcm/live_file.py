"""``RUN_DIR/live.json``: what was changed while mcm ran, so that it survives a restart."""

import contextlib
import logging
import os
from pathlib import Path

import msgspec

from mcm.core.live import Live

__all__ = ["LiveFile"]

log = logging.getLogger("mcm.supervisor")


class LiveFile:
    """Reads at the start, writes whole and in one step at every change."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "live.json"

    def read(self) -> Live:
        """What an earlier life of mcm has left; nothing where that cannot be read, which is said and kept aside."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Live)
        except FileNotFoundError:
            return Live()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("%s cannot be read (%s): live changes of earlier are not in force", self._path, error)
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_suffix(".unreadable"))
            return Live()

    def write(self, live: Live) -> None:
        """Keep *live*; a disk that is full costs no more than a line in the log."""
        new = self._path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.format(msgspec.json.encode(live), indent=1))
            os.replace(new, self._path)
        except OSError as error:
            log.error("live changes could not be kept for a restart: %s", error)
