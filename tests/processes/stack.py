"""A running mcm as a test sees it: its command line, its status, its processes, its ticks."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

import msgspec

from mcm import bus, locks
from mcm.client import Control
from mcm.core.errors import McmError
from mcm.core.status import Status
from mcm.core.wire import Message

__all__ = [
    "DEADLINE_S",
    "NO_FACES",
    "THREE_LINES",
    "Mcm",
    "Start",
    "Subscriber",
    "end_all",
    "processes_with",
    "resident_bytes",
    "somewhere",
    "wait_until",
]

DEADLINE_S = 20.0

# What a test of something else need not start, at 0.4 s of the processor each; tests/faces has it.
NO_FACES = "[gateway]\nenabled = false\n[dashboard]\nenabled = false\n"
THREE_LINES = (
    NO_FACES
    + """
[upstream]
feed = "{feed}"

[[connections]]
name = "primary"
[[connections]]
name = "secondary"
[[connections]]
name = "tertiary"

[[watchlists]]
name = "one"
channels = ["T", "Q"]
symbols = ["AAPL", "MSFT"]
connection = "primary"
[[watchlists]]
name = "two"
channels = ["T", "Q"]
symbols = ["JPM", "BAC"]
connection = "secondary"
[[watchlists]]
name = "three"
channels = ["T"]
symbols = ["PLTR", "SHOP"]
connection = "tertiary"
"""
)


def wait_until(is_true: Callable[[], bool], *, because: str, within_s: float = DEADLINE_S) -> None:
    """Poll a claim; the deadline is there to fail, not to be waited for."""
    deadline = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline, f"not within {within_s} s: {because}"
        time.sleep(0.02)


class Subscriber(threading.Thread):
    """A plain SUB socket, read in a thread; keeps (sequence, number of ticks) of every message by topic."""

    def __init__(self, run_dir: Path, *prefixes: bytes) -> None:
        super().__init__(daemon=True)
        self._address, self._prefixes = bus.endpoint(run_dir, bus.TICKS), prefixes
        self._ending = threading.Event()
        self.messages: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.ticks: dict[str, list[bytes]] = defaultdict(list)
        self.start()

    def run(self) -> None:
        context: bus.Context[bus.Socket[bytes]] = bus.Context()
        try:
            socket = bus.subscriber(context, self._address, self._prefixes)
            while not self._ending.is_set():
                if socket.poll(50):
                    topic, message = Message.decode(socket.recv())
                    ticks = msgspec.msgpack.decode(message.ticks, type=list[msgspec.Raw])
                    self.messages[topic.decode()].append((message.sequence, len(ticks)))
                    self.ticks[topic.decode()] += [bytes(tick) for tick in ticks]
        finally:
            context.destroy(linger=0)

    def count(self, topic: str) -> int:
        """Ticks of *topic* so far."""
        return len(self.ticks.get(topic, ()))

    def upstream_sequences(self, topic: str) -> list[int]:
        """The vendor's own numbers, in the order of arrival."""
        return [msgspec.msgpack.decode(tick)["q"] for tick in self.ticks[topic]]

    def end(self) -> None:
        self._ending.set()
        self.join(DEADLINE_S)


class Background(subprocess.Popen[str]):
    """A process that does not outlive a test which fails while it runs."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, traceback)


class Mcm:
    """A running ``mcm start``, its run directory, and the command line of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run_dir, self.config = folder, folder / "r", folder / "config.toml"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MCM", "WEBSOCK"))
        }
        self.environment |= {"XDG_RUNTIME_DIR": str(folder), "COLUMNS": "120"}
        self.subscribers: list[Subscriber] = []

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """``mcm ARGUMENTS``, in the folder of this test."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "mcm", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def popen(self, *arguments: str) -> "Background":
        """``mcm ARGUMENTS`` in the background; to be used in ``with``."""
        return self.python("-P", "-m", "mcm", *arguments)

    def python(self, *arguments: str) -> "Background":
        """``python ARGUMENTS`` in the background; to be used in ``with``."""
        return Background(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cli(self, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """``mcm COMMAND --run-dir … ARGUMENTS``."""
        return self.command(command, "--run-dir", str(self.run_dir), *arguments)

    def status(self) -> Status:
        with Control(self.run_dir) as control:
            return control.status()

    def wait(self, claim: Callable[[Status], bool], *, because: str, within_s: float = DEADLINE_S) -> Status:
        """The first status for which *claim* holds."""
        found: list[Status] = []

        def holds() -> bool:
            with contextlib.suppress(McmError):
                found[:] = [self.status()]
            return bool(found) and claim(found[0])

        try:
            wait_until(holds, because=because, within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen {found}\n{self.logs()}") from None
        return found[0]

    def wait_ready(self) -> Status:
        return self.wait(lambda status: status.state == "ready", because="every line is live")

    def subscribe(self, *prefixes: bytes) -> Subscriber:
        subscriber = Subscriber(self.run_dir, *prefixes)
        self.subscribers.append(subscriber)
        return subscriber

    def kill(self, pid: int | None) -> None:
        """``kill -9``."""
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def logs(self) -> str:
        """The end of every log, for messages of failed tests."""
        logs = sorted((self.run_dir / "logs").glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3_000:]}" for path in logs)

    def log(self, name: str) -> str:
        return (self.run_dir / "logs" / f"{name}.log").read_text()

    def end(self) -> None:
        for subscriber in self.subscribers:
            subscriber.end()
        if locks.holder(self.run_dir) is not None:
            with contextlib.suppress(McmError):
                router = self.status().router
                balance = router.received - router.published - router.duplicates - router.held
                assert balance == 0, f"the ledger does not balance: {router}"
            self.cli("stop")

    def processes(self) -> dict[int, str]:
        """Every process that was started for this run directory: pid → command line; the supervisor too."""
        return processes_with(f"XDG_RUNTIME_DIR={self.folder}")


def processes_with(variable: str) -> dict[int, str]:
    """Every process that has inherited this ``NAME=value``: pid → command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def resident_bytes(pid: int | None) -> int:
    """Memory of a process that lives."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def end_all(pids: Iterable[int]) -> None:
    """``kill -9``; of what a test has started, by pid."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def somewhere() -> Iterator[Mcm]:
    """A folder with room for a configuration and a run directory; whatever runs there ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="mcm-", dir="/tmp"))  # short, for the sake of ipc paths
    mcm = Mcm(folder)
    try:
        yield mcm
    finally:
        mcm.end()
        end_all(mcm.processes())
        shutil.rmtree(folder, ignore_errors=True)


Start = Callable[..., Mcm]
