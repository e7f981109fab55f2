"""Child processes: started by module name, watched by pidfd, talked to over a socketpair.

A child is started from the main thread only (its death signal belongs to the parent *thread*), and with
``subprocess.Popen``, not asyncio's, for the same reason.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mcm.core.control import Down, Up, decode_up
from mcm.runtime import PARENT_VARIABLE, Channel

__all__ = ["Process", "open_log"]

log = logging.getLogger("mcm.supervisor")

LOG_LIMIT_BYTES = 10 * 1024 * 1024
# What belongs to the supervisor alone: systemd's conversation with it.
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


def open_log(path: Path) -> int:
    """A descriptor that appends to *path*; a file beyond 10 MiB is moved to ``.1`` first."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class Process:
    """One life of one child, from its start to its reaped end.

    Args:
        module: run as ``python -P -m module``.
        settings: first record it receives.
        log_path: where its stdout and stderr go; a file, because a pipe that nobody reads would stop the child.
        hidden: environment variables that the child must not see (the key).
        on_record: called in the event loop for every record it sends.
        on_exit: called once, after the child is reaped, with its exit status as subprocess gives it.
    """

    def __init__(
        self,
        module: str,
        settings: Down,
        *,
        log_path: Path,
        hidden: Mapping[str, str] | tuple[str, ...],
        on_record: Callable[[Up], None],
        on_exit: Callable[[int], None],
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: value for name, value in os.environ.items() if name not in {*_NOT_INHERITED, *hidden}}
        environment[PARENT_VARIABLE] = str(os.getpid())
        output = open_log(log_path)
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the supervisor only
            )
        except OSError:
            ours.close()
            raise
        finally:
            os.close(output)
            theirs.close()
        self.pid = self._popen.pid
        self.channel: Channel[Up] = Channel(ours, decode_up)
        self._on_record, self._on_exit = on_record, on_exit
        self._pidfd = os.pidfd_open(self.pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._exited)
        self._loop.add_reader(self.channel.fileno(), self._readable)
        self._writing = False
        self.ended = asyncio.Event()
        self.send(settings)

    def send(self, record: Down) -> None:
        """Send a command, now or when the child reads; a child that reads nothing for 8 MiB of commands is killed."""
        self.channel.send(record)
        self._watch_writability()

    def _watch_writability(self) -> None:
        if self.channel.closed:
            return
        if self.channel.has_pending and not self._writing:
            self._loop.add_writer(self.channel.fileno(), self._writable)
        elif not self.channel.has_pending and self._writing:
            self._loop.remove_writer(self.channel.fileno())
        self._writing = self.channel.has_pending

    def _writable(self) -> None:
        self.channel.flush()
        self._watch_writability()

    def _readable(self) -> None:
        for record in self.channel.receive():
            self._on_record(record)
        if self.channel.closed:
            self._loop.remove_reader(self.channel.fileno())

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._readable_to_the_end()
        status = self._popen.wait()  # at once: the pidfd says that it has ended
        os.close(self._pidfd)
        self._pidfd = -1
        self.ended.set()
        self._on_exit(status)

    def _readable_to_the_end(self) -> None:
        """What the child said last, often why it ended, may still be in the socket."""
        descriptor = self.channel.fileno()
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
            for record in self.channel.receive():
                self._on_record(record)
            self.channel.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child, if it still lives; by pidfd, so that a reused pid is never hit."""
        with contextlib.suppress(ProcessLookupError, OSError):
            signal.pidfd_send_signal(self._pidfd, number)
        if self.stopped:
            with contextlib.suppress(ProcessLookupError, OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    @property
    def stopped(self) -> bool:
        """Whether the child is stopped (SIGSTOP, a debugger), as the kernel sees it."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
        return False

    async def abort(self, patience_s: float = 1.0) -> None:
        """End a hung child: SIGABRT, which writes its stack to the log, then SIGKILL."""
        self.signal(signal.SIGABRT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self.ended.wait()
        if not self.ended.is_set():
            self.signal(signal.SIGKILL)
