"""What every child process does at its start, and the channel between parent and child.

Light to import: it is the first thing a child loads, because a child must be tied to its parent before anything else.
"""

import ctypes
import faulthandler
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from mcm.core.control import MAX_RECORD_BYTES, Down, Up, decode_down, encode
from mcm.core.exits import Exit
from mcm.logs import FORMAT_VARIABLE, PROCESS_VARIABLE, formatter, log_whatever_ends_us

__all__ = ["PARENT_VARIABLE", "Channel", "RepeatFilter", "await_settings", "die_with_parent", "start_child", "upwards"]

PARENT_VARIABLE = "MCM_PPID"
_PR_SET_PDEATHSIG = 1
_PENDING_LIMIT_BYTES = 8 * 1024 * 1024

Received = TypeVar("Received")


def die_with_parent() -> None:
    """Have the kernel kill this process when its supervisor dies; without a supervisor, do nothing.

    SIGKILL, because a stopped process, or one that hangs in C code, must die as well: it may hold an upstream line.
    """
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        os._exit(Exit.PARENT_GONE)  # it died before the line above: the signal would never come
    gc.disable()  # what is imported now stays: looking for garbage in it costs 7 % of the start; start_child ends this


class Channel(Generic[Received]):
    """One end of a SEQPACKET socketpair: sends records without ever blocking, receives what the other end sent.

    What the kernel does not take waits in order, up to 8 MiB; a record sent with ``replace=True`` takes the place of a
    waiting one of its type, so that a stopped reader finds the newest report and not a hundred old ones.
    """

    def __init__(self, sock: socket.socket, decode: Callable[[bytes], Received]) -> None:
        sock.setblocking(False)
        self._socket, self._decode = sock, decode
        self._pending: deque[tuple[type, bytes]] = deque()
        self._pending_bytes = 0
        self.closed = False

    def fileno(self) -> int:
        """For polling."""
        return self._socket.fileno()

    @property
    def has_pending(self) -> bool:
        """Whether records wait for the other end to read."""
        return bool(self._pending)

    def send(self, record: Down | Up, *, replace: bool = False) -> None:
        """Send *record*, now or when the other end reads; silently nothing once it is gone."""
        packet = encode(record)
        if len(packet) > MAX_RECORD_BYTES:
            raise ValueError(f"a {type(record).__name__} of {len(packet)} bytes is larger than {MAX_RECORD_BYTES}")
        if replace:
            for index, (kind, waiting) in enumerate(self._pending):
                if kind is type(record):
                    self._pending[index] = (kind, packet)
                    self._pending_bytes += len(packet) - len(waiting)
                    break
            else:
                self._append(type(record), packet)
        else:
            self._append(type(record), packet)
        self.flush()

    def _append(self, kind: type, packet: bytes) -> None:
        if self._pending_bytes + len(packet) > _PENDING_LIMIT_BYTES:
            self.closed = True  # the other end has read nothing for so long that only ending it helps
            return
        self._pending.append((kind, packet))
        self._pending_bytes += len(packet)

    def flush(self) -> None:
        """Send what waits, as far as the kernel takes it."""
        while self._pending and not self.closed:
            packet = self._pending[0][1]
            try:
                self._socket.send(packet)
            except BlockingIOError:
                return
            except OSError:
                self.closed = True
                return
            self._pending.popleft()
            self._pending_bytes -= len(packet)

    def receive(self, limit: int = 1_000) -> list[Received]:
        """The records that have arrived, up to *limit*; sets ``closed`` at end of file."""
        records: list[Received] = []
        while not self.closed and len(records) < limit:
            try:
                packet = self._socket.recv(MAX_RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError:
                self.closed = True
                break
            if not packet:
                self.closed = True
                break
            records.append(self._decode(packet))
        return records

    def close(self) -> None:
        """Close this end; the other one reads end of file."""
        self.closed = True
        self._socket.close()


def upwards() -> Channel[Down]:
    """The child's end of the channel to its supervisor, which is file descriptor 0."""
    return Channel(socket.socket(fileno=os.dup(0)), decode_down)


class RepeatFilter(logging.Filter):
    """Lets a message pass once a minute and says then how often it came: a loop of errors must not fill disks."""

    _INTERVAL_S = 60.0
    _KEYS = 1_000

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Count repetitions of one message template; life-cycle steps (INFO and below) always pass."""
        if record.levelno <= logging.INFO:
            return True
        if len(self._seen) > self._KEYS:
            self._seen.clear()
        key = (record.name, str(record.msg))
        now = time.monotonic()
        since, repeated = self._seen.get(key, (-self._INTERVAL_S, 0))
        if now - since < self._INTERVAL_S:
            self._seen[key] = (since, repeated + 1)
            return False
        self._seen[key] = (now, 0)
        if repeated:
            record.msg = f"{record.msg} (and {repeated} more since)"
        return True


def start_child(name: str) -> Channel[Down]:
    """Prepare this process as the child *name*: logging to stderr, stacks on SIGABRT and SIGUSR1, no Ctrl-C.

    Ctrl-C belongs to the supervisor, which then stops its children in order.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    form = os.environ.get(FORMAT_VARIABLE, "")
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RepeatFilter())
    text = f"%(asctime)s {name}[{os.getpid()}] %(levelname)s %(message)s"
    handler.setFormatter(formatter(form, os.environ.pop(PROCESS_VARIABLE, name), text=text))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if form == "json":
        log_whatever_ends_us(logging.getLogger(f"mcm.{name}"))
    gc.collect()
    gc.freeze()
    gc.enable()
    return upwards()


Settings = TypeVar("Settings")


def await_settings(channel: Channel[Down], kind: type[Settings]) -> Settings:
    """The first record of the channel, which is of this *kind*; exits when the supervisor is gone instead."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while not channel.closed:
        poll.poll()
        for record in channel.receive(limit=1):  # what follows is not ours
            if not isinstance(record, kind):
                raise TypeError(f"expected {kind.__name__} first, got {type(record).__name__}")
            return record
    sys.exit(Exit.PARENT_GONE)
