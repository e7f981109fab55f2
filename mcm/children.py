"""Child processes: started by module name, watched by pidfd, talked to over a socketpair.

A child is started from the main thread only (its death signal belongs to the parent *thread*), and with
``subprocess.Popen``, not asyncio's, for the same reason.
"""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from mcm.core import restart
from mcm.core.control import Down, Failed, Ready, Stop, Up, decode_up
from mcm.core.exits import Exit
from mcm.core.liveness import Liveness
from mcm.logs import PROCESS_VARIABLE
from mcm.runtime import PARENT_VARIABLE, Channel

__all__ = ["Child", "Owner", "Process", "Recipe", "log_path", "open_log"]

log = logging.getLogger("mcm.supervisor")

LOG_LIMIT_BYTES = 10 * 1024 * 1024
# asyncio reads into a new buffer of 256 KiB each time; to map and unmap that costs a tenth of a wake-up.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1024 * 1024), "MALLOC_TRIM_THRESHOLD_": str(4 * 1024 * 1024)}
# What belongs to the supervisor alone: systemd's conversation with it.
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


def log_path(run_dir: Path, name: str) -> Path:
    """Where the process *name* of this run directory writes its log."""
    return run_dir / "logs" / f"{name}.log"


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
        hidden: tuple[str, ...],
        on_record: Callable[[Up], None],
        on_exit: Callable[[int], None],
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inherited = {name: value for name, value in os.environ.items() if name not in {*_NOT_INHERITED, *hidden}}
        environment = _ALLOCATOR | inherited
        environment[PARENT_VARIABLE] = str(os.getpid())
        environment[PROCESS_VARIABLE] = log_path.stem
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


@dataclass(frozen=True)
class Recipe:
    """What it takes to start a child again and again.

    Attributes:
        module: run as ``python -P -m module``.
        settings: makes the first record for a new life.
        policy: what it may cost before it is left alone.
        log_path: where its output goes.
        hidden: environment variables it must not see.
    """

    module: str
    settings: Callable[[], Down]
    policy: restart.Policy
    log_path: Path
    hidden: tuple[str, ...] = ()


class Child:
    """One child over all its lives: starts it, judges it, starts it again as the policy says.

    Attributes:
        state: ``starting``, ``ready``, ``backoff``, ``parked`` or ``stopped``.
        reason: why it is not running, in words.
        healthy_since: monotonic time since which it has done its work; set by the owner, ends with the life.
    """

    LIVES_REMEMBERED = 64

    def __init__(self, name: str, recipe: Recipe, owner: "Owner", rng: Random) -> None:
        self.name, self.recipe, self._owner, self._rng = name, recipe, owner, rng
        self.state, self.reason = "backoff", ""
        self.process: Process | None = None
        self.restarts = 0
        self.healthy_since: float | None = None
        self._start_at = 0.0
        self._lives: deque[restart.Life] = deque(maxlen=self.LIVES_REMEMBERED)
        self._parkings = 0
        self._liveness = Liveness(0.0)
        self._aborting: asyncio.Task[None] | None = None
        self._failure = ""

    @property
    def pid(self) -> int | None:
        """Of its process, while there is one."""
        return self.process.pid if self.process is not None else None

    def send(self, record: Down) -> None:
        """Send a command to the child if it runs."""
        if self.process is not None:
            self.process.send(record)

    def turn(self, now: float) -> None:
        """Start it when that is due; end it when it hangs.  To be called several times a second."""
        if self.process is None:
            if self.state in {"backoff", "parked"} and now >= self._start_at:
                self._start(now)
            return
        overdue_s = self._liveness.judge(now)
        if overdue_s is None and not self.process.channel.closed:
            return
        if self._aborting is None:
            why = f"its main loop has not turned for {overdue_s:.1f} s" if overdue_s else "it closed its channel"
            log.warning("%s: %s; ending it, its stack is in %s", self.name, why, self.recipe.log_path)
            self._aborting = asyncio.get_running_loop().create_task(self.process.abort(), name=f"{self.name}:abort")

    def _start(self, now: float) -> None:
        if self._lives:
            self.restarts += 1
        self.state, self.healthy_since, self._aborting, self._failure = "starting", None, None, ""
        self._liveness = Liveness(now)
        self.process = Process(
            self.recipe.module,
            self.recipe.settings(),
            log_path=self.recipe.log_path,
            hidden=self.recipe.hidden,
            on_record=self._hear,
            on_exit=self._ended,
        )
        log.info("%s: started, pid %d", self.name, self.process.pid)

    def _hear(self, record: Up) -> None:
        self._liveness.beat(time.monotonic())
        if isinstance(record, Ready):
            self.state, self.reason, self._liveness.ready = "ready", "", True
        elif isinstance(record, Failed):
            self._failure = record.problem
            return
        self._owner.heard(self, record)

    def _ended(self, status: int) -> None:
        now = time.monotonic()
        self.process = None
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if self.state == "stopped":
            log.info("%s: stopped (%s)", self.name, how)
        else:
            healthy_s = now - self.healthy_since if self.healthy_since is not None else 0.0
            self._lives.append(restart.Life(now, healthy_s))
            self._judge(status, how, now)
        self._owner.lost(self)

    def _judge(self, status: int, how: str, now: float) -> None:
        if status == Exit.USAGE:
            self.state, self._start_at = "parked", math.inf
            self.reason = self._failure or f"it refused its settings; {self.recipe.log_path} says why"
            self._owner.refused(self)
            return
        decision = restart.decide(self.recipe.policy, tuple(self._lives), parkings=self._parkings, rng=self._rng)
        match decision:
            case restart.StartAt(when):
                self.state, self._start_at, self.reason = "backoff", when, f"its process ended ({how})"
                log.warning("%s: ended by %s, starting again in %.2f s", self.name, how, max(0.0, when - now))
            case restart.Park(until, crashes, window_s):
                self.state, self._start_at = "parked", until
                self._parkings += 1
                self.reason = f"{crashes} crashes in {window_s:.0f} s, next trial in {until - now:.0f} s"
                log.error("%s: parked after %s; see %s", self.name, self.reason, self.recipe.log_path)
            case restart.GiveUp(crashes, window_s):
                self.state, self._start_at = "parked", math.inf
                self.reason = f"{crashes} crashes in {window_s:.0f} s"
                self._owner.gave_up(self)

    def revive(self) -> None:
        """A human acted: end the present life if there is one, forget the crashes, start again at once."""
        self._lives.clear()
        self._parkings, self._start_at = 0, 0.0
        if self.process is None:
            self.state = "backoff"
        else:
            self.process.send(Stop())

    def dismiss(self) -> None:
        """It is not needed any more: let it finish and go, and do not start it again."""
        if self.state != "stopped":
            self.state = "stopped"
            self.send(Stop())

    async def stop(self, patience_s: float) -> None:
        """End it for good: asked first, killed after *patience_s* seconds."""
        self.state = "stopped"
        if self.process is None:
            return
        process = self.process
        process.send(Stop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await process.ended.wait()
        if not process.ended.is_set():
            log.warning("%s: did not stop within %.1f s, killing it", self.name, patience_s)
            self.kill()
            await process.ended.wait()

    def kill(self) -> None:
        """SIGKILL, now."""
        self.state = "stopped"
        if self.process is not None:
            self.process.signal(signal.SIGKILL)


class Owner(Protocol):
    """Who is told what happens to a child."""

    def heard(self, child: Child, record: Up) -> None:
        """The child has sent a record."""

    def lost(self, child: Child) -> None:
        """A life of the child is over; its state says what follows."""

    def refused(self, child: Child) -> None:
        """The child does not accept its settings, and will not be started again; its reason says why."""

    def gave_up(self, child: Child) -> None:
        """An essential child cannot live."""
