"""What processes cost, from the operating system: processor time (user and system, all threads) and memory."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["cpu_s", "memory_bytes", "spent"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process and its children that it has waited for, in seconds, to 10 ms."""
    # The name of the program is in parentheses and may hold anything; what follows is numbers (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def spent(pids: Mapping[str, int] | Iterable[tuple[str, int]]) -> dict[str, float]:
    """Name → processor time so far, seconds."""
    return {name: cpu_s(pid) for name, pid in dict(pids).items()}


def memory_bytes(pid: int) -> int:
    """What a process adds to the memory in use: its proportional set size, in which shared pages count by share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss for process {pid}")
