"""Exit codes: a contract with shells, systemd and between supervisor and children."""

from enum import IntEnum

__all__ = ["Exit"]


class Exit(IntEnum):
    """What a process of mcm says by leaving."""

    OK = 0  # stopped as asked
    INTERNAL = 1  # a bug; the traceback is in the log
    USAGE = 2  # settings or usage; starting again does not help
    LOCKED = 3  # another mcm holds the run directory
    GAVE_UP = 4  # a child that everything depends on cannot live
    NOT_RUNNING = 5  # a client: no mcm runs on this run directory
    PARENT_GONE = 70  # child: the supervisor died before the child was ready
