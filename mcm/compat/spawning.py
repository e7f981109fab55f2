"""Starts supervisors for the objects of this process, and ends them all when the interpreter ends.

**One thread starts them all, and it lives as long as the interpreter**: the kernel kills a supervisor when the *thread*
that started it ends, and a program may well connect from a thread that is gone a second later.  It is a daemon, so that
nobody waits for it while the program still runs, and it is joined at the end, when nothing depends on it any more.

What a program was killed too fast to remove, the next one removes.
"""

import atexit
import contextlib
import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from mcm import locks
from mcm.bus import CONTROL, endpoint
from mcm.core.errors import McmError, UsageError
from mcm.runtime import PARENT_VARIABLE

__all__ = ["Forked", "Home", "Supervisor", "at_exit", "not_at_exit"]

log = logging.getLogger("mcm.compat")

KEY_VARIABLE = "MASSIVE_API_KEY"
STOP_S = 7.0  # the supervisor itself takes at most 5
FRESH_S = 60.0
_PREFIX = "mcm-compat-"
_OWNER, _CONFIG, _COMPLAINTS, _RUN = "owner", "config.toml", "complaints", "run"
# What would change the generated configuration, and what is between this program and its own supervisor alone.
_NOT_INHERITED = ("WEBSOCKET_", "USE_MULTI_", "MCM_", "WATCHDOG_", "NOTIFY_SOCKET", KEY_VARIABLE)


class _Spawner(threading.Thread):
    """The permanent thread."""

    def __init__(self) -> None:
        super().__init__(name="mcm:spawner", daemon=True)
        self._jobs: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], _Started] | None]
        self._jobs = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while (job := self._jobs.get()) is not None:
            make, started = job
            try:
                started.set_result(make())
            except OSError as error:
                started.set_exception(error)

    def spawn(self, make: "Callable[[], subprocess.Popen[bytes]]") -> "subprocess.Popen[bytes]":
        """Start a process from this thread; the caller waits for it."""
        started: _Started = Future()
        self._jobs.put((make, started))
        return started.result()

    def end(self) -> None:
        self._jobs.put(None)
        self.join(1.0)


_Started = Future["subprocess.Popen[bytes]"]


class _OfProcess:
    """What this process has; a fork has none of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.spawner: _Spawner | None = None
        self.endings: dict[int, Callable[[], object]] = {}


_process = _OfProcess()


def _forked() -> None:
    global _process  # noqa: PLW0603  # threads and supervisors are the parent's
    _process = _OfProcess()


os.register_at_fork(after_in_child=_forked)


def _spawn(make: "Callable[[], subprocess.Popen[bytes]]") -> "subprocess.Popen[bytes]":
    with _process.lock:
        if _process.spawner is None:
            _process.spawner = _Spawner()
        spawner = _process.spawner
    return spawner.spawn(make)


def at_exit(whom: object, ending: Callable[[], object]) -> None:
    """Have *ending* called when the interpreter ends, on behalf of *whom*."""
    with _process.lock:
        _process.endings[id(whom)] = ending


def not_at_exit(whom: object) -> None:
    """Take that back."""
    with _process.lock:
        _process.endings.pop(id(whom), None)


def _at_exit() -> None:
    with _process.lock:
        endings = list(_process.endings.values())
    for ending in endings:
        try:
            ending()
        except Exception:
            log.exception("could not end in order")
    if _process.spawner is not None:
        _process.spawner.end()


atexit.register(_at_exit)


class Home:
    """A private directory with a configuration and a run directory, removed at the end."""

    def __init__(self, configuration: str) -> None:
        _remove_abandoned()
        self.folder = _make_folder()
        owner = locks.acquire(self.folder / _OWNER)
        assert isinstance(owner, locks.Held)  # nobody else knows the directory yet
        self._owner = owner
        self.config, self.run_dir = self.folder / _CONFIG, self.folder / _RUN
        self.config.write_text(configuration, encoding="utf-8")

    @property
    def complaints(self) -> str:
        """What the supervisor wrote to stderr."""
        with contextlib.suppress(OSError):
            return (self.folder / _COMPLAINTS).read_text(errors="replace").strip()
        return ""

    def open_complaints(self) -> int:
        """A descriptor of the file for it."""
        return os.open(self.folder / _COMPLAINTS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._owner.release()


def _make_folder() -> Path:
    """In the system's temporary directory, or in another one if its path is too long for sockets."""
    problem: UsageError | None = None
    for base in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108  # mkdtemp makes it private
        try:
            endpoint(Path(base) / f"{_PREFIX}12345678" / _RUN, CONTROL)
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        except UsageError as error:
            problem = problem or error
        except OSError as error:
            problem = problem or UsageError(f"no directory can be made in {base}: {error.strerror}", "set TMPDIR")
    assert problem is not None
    raise problem


def _remove_abandoned() -> None:
    """Remove the directories of this user's programs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            stat = folder.stat()
            if stat.st_uid != os.getuid() or time.time() - stat.st_ctime < FRESH_S:
                continue
            held = locks.acquire(folder / _OWNER)
            if isinstance(held, locks.Held):
                if locks.holder(folder / _RUN) is None:
                    shutil.rmtree(folder, ignore_errors=True)
                held.release()


class Supervisor:
    """A supervisor on *home*, with the key in its environment and nowhere else."""

    def __init__(self, home: Home, api_key: str) -> None:
        self._home, self._api_key = home, api_key
        self._process = _spawn(self._make)

    def _make(self) -> "subprocess.Popen[bytes]":
        home = self._home
        complaints = home.open_complaints()
        try:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "mcm.compat.child", "--config", str(home.config), "--quiet"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env=self._environment(os.environ),
                start_new_session=True,  # Ctrl-C is the program's, which then stops this one in order
            )
        finally:
            os.close(complaints)

    def _environment(self, ours: Mapping[str, str]) -> dict[str, str]:
        environment = {name: value for name, value in ours.items() if not name.startswith(_NOT_INHERITED)}
        if self._api_key:
            environment[KEY_VARIABLE] = self._api_key
        environment[PARENT_VARIABLE] = str(os.getpid())
        return environment

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def why_ended(self) -> str | None:
        """None while it runs; else its last words, or how it ended."""
        code = self._process.poll()
        if code is None:
            return None
        return self._home.complaints.removeprefix("mcm: ") or f"it ended with exit status {code}"

    @property
    def is_refused(self) -> bool:
        """Whether it has ended because of its settings: starting it again does not help."""
        return self._process.poll() == 2

    def stop(self) -> None:
        """End it in order; killed, if that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("mcm did not stop within %.0f s, killing it", STOP_S)
            self._process.kill()
            self._process.wait()


class Forked(McmError):
    """An object was used in a fork of the process that made it: its threads and its mcm are not there."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.pid = pid

    def __str__(self) -> str:
        return (
            f"this object belongs to process {self.pid}, and this is a fork of it ({os.getpid()}); make it in the "
            "process that uses it (with gunicorn: in the worker, not with --preload)"
        )
