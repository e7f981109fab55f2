"""Locks that are true exactly as long as their holder lives: flock, never pid files, which lie after a kill.

The pid is written into the locked file for messages only.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mcm.core.errors import McmError

_LOOKERS_GONE_S = 0.1  # holder() has the lock for a moment

__all__ = [
    "Held",
    "RunDirectoryTaken",
    "acquire",
    "acquire_slot",
    "holder",
    "lock_run_directory",
    "slot_directory",
    "slot_holders",
]


class RunDirectoryTaken(McmError):
    """Another mcm runs on this run directory."""

    def __init__(self, run_dir: Path, holder: str) -> None:
        super().__init__(run_dir, holder)
        self.run_dir, self.holder = run_dir, holder

    def __str__(self) -> str:
        return (
            f"another mcm is running on {self.run_dir} ({self.holder}); stop it with "
            f"`mcm stop --run-dir {self.run_dir}`, or choose another --run-dir"
        )


@dataclass
class Held:
    """A lock that this process holds until it is released or the process ends."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Let the next one have it."""
        os.close(self.descriptor)


def acquire(path: Path) -> Held | str:
    """Lock the file at *path*, made if needed; where somebody else holds it, who says so in it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode(errors="replace").strip()
        os.close(descriptor)
        return holder or "it does not say who"
    with contextlib.suppress(OSError):  # a full disk: the words are for people, the lock is what counts
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"pid {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S %Z')}\n".encode())
    return Held(path, descriptor)


def lock_run_directory(run_dir: Path) -> Held:
    """Take *run_dir* for this process; raises RunDirectoryTaken.  Before any bind: a second bind steals the path."""
    until = time.monotonic() + _LOOKERS_GONE_S
    while isinstance(held := acquire(run_dir / "lock"), str):
        if time.monotonic() > until:
            raise RunDirectoryTaken(run_dir, held)
        time.sleep(0.01)
    return held


def holder(run_dir: Path) -> str | None:
    """Who runs on *run_dir*, in words; None when nobody does."""
    return _holder(run_dir / "lock")


def slot_holders(directory: Path) -> list[str]:
    """Who holds places of an account (see slot_directory), in words."""
    found = (_holder(path) for path in sorted(directory.glob("slot-*.lock")))
    return [holder for holder in found if holder is not None]


def _holder(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        # Shared, so that two who look at the same time do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 200).decode(errors="replace").strip() or "it does not say who"
    else:
        return None
    finally:
        os.close(descriptor)


def slot_directory(upstream: str, api_key: str, market: str) -> Path:
    """Where the places of one account in one market are locked, over all run directories of this user.

    *upstream* is the vendor's domain, or host and port of a custom address.  A second mcm with the same key would
    otherwise evict the lines of the first.
    """
    account = hashlib.sha256(f"{upstream}\0{api_key}".encode()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    return base / f"mcm-{os.getuid()}" / f"account-{account}-{market}"


def acquire_slot(directory: Path, slots: int) -> Held | str:
    """Take any free one of an account's *slots*; else who holds them.

    Held by the worker itself from before it dials, so that the lock is true exactly as long as the line can exist.
    """
    directory.parent.mkdir(mode=0o700, exist_ok=True)
    if directory.parent.stat().st_uid != os.getuid():
        return f"somebody else owns {directory.parent}"
    directory.mkdir(mode=0o700, exist_ok=True)
    holders = []
    for number in range(slots):
        held = acquire(directory / f"slot-{number}.lock")
        if isinstance(held, Held):
            return held
        holders.append(held)
    return "; ".join(holders)
