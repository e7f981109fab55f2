"""What the processes of mcm use, from /proc; and what lies in its files."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from mcm.core.status import Status

__all__ = ["Meter", "ProcessUse", "Usage", "bytes_in", "named", "usage"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Of one process: CPU seconds since it started, resident bytes."""

    cpu_s: float
    resident_bytes: int


class ProcessUse(msgspec.Struct, frozen=True):
    """A process as the page shows it; *cpu* is a share of one core, null before it was seen twice."""

    name: str
    pid: int
    state: str
    restarts: int
    cpu: float | None
    resident_bytes: int


def usage(pid: int) -> Usage | None:
    """What a process has used; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS_PER_S, pages * _PAGE_BYTES)


def named(status: Status) -> Iterator[tuple[str, int, str, int]]:
    """(name, pid, state, restarts) of every process that runs."""
    yield "supervisor", status.pid, "ready", 0
    others = {"router": status.router, "replay": status.replay, "gateway": status.gateway,
              "dashboard": status.dashboard, **status.connections}  # fmt: skip
    for name, one in others.items():
        if one is not None and one.pid is not None:
            yield name, one.pid, one.state, one.restarts


class Meter:
    """CPU as a share of a core, between two looks."""

    def __init__(self) -> None:
        self._before: Mapping[int, tuple[float, float]] = {}

    def look(self, status: Status) -> list[ProcessUse]:
        """Every process and what it has used since the last look."""
        now, seen, found = time.monotonic(), {}, []
        for name, pid, state, restarts in named(status):
            if (used := usage(pid)) is None:
                continue
            seen[pid] = now, used.cpu_s
            cpu = None
            if pid in self._before:
                then, cpu_s = self._before[pid]
                cpu = round((used.cpu_s - cpu_s) / max(now - then, 0.001), 4)
            found.append(ProcessUse(name, pid, state, restarts, cpu, used.resident_bytes))
        self._before = seen
        return found


def bytes_in(directory: Path) -> int:
    """The bytes of all files below a directory; of those that go meanwhile, nothing."""
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total
