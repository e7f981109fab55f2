"""What the tests of the drop-in classes share: a place of their own, what a callback heard, what the tape says."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcm.core.compat_ticks import TickData
from mcm.simulator.launch import Simulator
from tests.processes.stack import end_all, processes_with, wait_until

__all__ = ["MARK", "Heard", "Place", "Trade", "config_for", "sent", "settled"]

MARK = "COMPAT_TEST"
Trade = tuple[float, float, float]  # price, size, time


class Place:
    """A temporary directory that everything of a test uses, and the processes that were started for it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mcmc-", dir="/tmp"))  # short, for the sake of ipc paths
        self._mark = uuid.uuid4().hex
        for name in [name for name in os.environ if name.startswith(("MCM", "WEBSOCK", "MASSIVE"))]:
            patch.delenv(name)
        for name, value in ((MARK, self._mark), ("XDG_RUNTIME_DIR", str(self.folder)), ("TMPDIR", str(self.folder))):
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(self.folder))

    def processes(self) -> dict[int, str]:
        """All that inherited the environment of this test; the test's own process began before it."""
        return processes_with(f"{MARK}={self._mark}")

    def run_dirs(self) -> list[Path]:
        """Those that were made and are not removed."""
        return list(self.folder.glob("mcm-compat-*"))

    @contextlib.contextmanager
    def script(self, text: str) -> Iterator["subprocess.Popen[str]"]:
        """A program in a process of its own."""
        (self.folder / "script.py").write_text(text)
        with subprocess.Popen(
            [sys.executable, str(self.folder / "script.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def end(self) -> None:
        end_all(self.processes())
        shutil.rmtree(self.folder, ignore_errors=True)


class Heard:
    """Both callbacks, and what they were called with."""

    def __init__(self) -> None:
        self.ticks: list[TickData] = []
        self.statuses: list[tuple[str, dict[str, Any]]] = []
        self.threads: set[int] = set()

    def on_tick(self, tick: TickData) -> None:
        self.threads.add(threading.get_ident())
        self.ticks.append(tick)

    def on_status(self, status: str, data: dict[str, Any]) -> None:
        self.statuses.append((status, data))

    def trades(self, ticker: str) -> list[Trade]:
        return [(tick.price, tick.volume, tick.timestamp) for tick in self.ticks if tick.ticker == ticker]

    def tickers(self) -> set[str]:
        return {tick.ticker for tick in self.ticks}

    def of(self, connection_id: str) -> list[str]:
        return [status for status, data in self.statuses if data["connection_id"] == connection_id]


def config_for(simulator: Simulator, *symbols: str, **more: object) -> dict[str, Any]:
    """A dict with one connection for each of *symbols*, which are parted by commas, on the channel T."""
    config: dict[str, Any] = {
        "MASSIVE_API_KEY": "a-key",
        "MASSIVE_WEBSOCKET_URL": simulator.url("stocks"),
        "USE_MULTI_CONNECTION": True,
        "WEBSOCKET_CHANNELS": "T",
    }
    for number, text in enumerate(symbols, 1):
        config[f"WEBSOCKET_CONNECTION_{number}_ENABLED"] = True
        config[f"WEBSOCKET_CONNECTION_{number}_NAME"] = f"Line {number}"
        config[f"WEBSOCKET_CONNECTION_{number}_SYMBOLS"] = text
    return config | more


def sent(simulator: Simulator, ticker: str) -> list[Trade]:
    """All trades that were sent to anybody, each once and in the order of the tape."""
    topic = f"stocks.T.{ticker}"
    ranges = [one for connection in simulator.remote.report().connections for one in connection.ranges.get(topic, [])]
    numbers = sorted({number for first, last in ranges for number in range(first, last + 1)})
    events = [json.loads(text) for text in simulator.remote.tape(topic, 1, numbers[-1])] if numbers else []
    return [(events[n - 1]["p"], events[n - 1]["s"], events[n - 1]["t"] / 1e3) for n in numbers]


def settled(simulator: Simulator, heard: Heard, *tickers: str) -> None:
    """Stop the tape, and demand that exactly what was sent of these tickers is heard, in order."""
    simulator.remote.pause()
    for ticker in tickers:
        expected = sent(simulator, ticker)
        assert expected
        wait_until(lambda: len(heard.trades(ticker)) >= len(expected), because=f"all of {ticker} is heard")  # noqa: B023
        assert heard.trades(ticker) == expected
