"""Programs at the gateway: one with the vendor's own client, one that sends what it likes; and a gateway by itself."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from massive import WebSocketClient
from massive.websocket.models import Market
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from mcm.core.control import Down, GatewayReport, GatewaySettings, Up, decode_up
from mcm.runtime import Channel
from mcm.simulator.launch import Simulator
from tests.processes.stack import DEADLINE_S, Mcm, wait_until

__all__ = ["EVERY_MARKET", "TICKS_PER_S", "GatewayProcess", "Line", "Program", "Scene", "by_symbol", "is_end_of"]

TICKS_PER_S = 2_000  # over all topics that were ever named, most of which nobody hears
EVERY_MARKET = """
[upstream]
feed = "{feed}"
rest_url = "{rest_url}"
[gateway]
listen = "127.0.0.1:0"
[dashboard]
enabled = false
[backfill]
channels = ["T", "XT"]
requests_per_s = 100
[testing]
keep_links = true
[[connections]]
name = "stocks"
[[connections]]
name = "options"
market = "options"
[[connections]]
name = "indices"
market = "indices"
[[connections]]
name = "forex"
market = "forex"
[[connections]]
name = "crypto"
market = "crypto"
[[watchlists]]
name = "held"
channels = ["T"]
symbols = ["AAPL"]
"""


class Scene(NamedTuple):
    simulator: Simulator
    mcm: Mcm
    address: str


class Program(threading.Thread):
    """A user's program: the vendor's client, in a thread with an event loop; keeps what it was handed."""

    def __init__(self, address: str, market: str, *items: str, key: str = "any") -> None:
        super().__init__(daemon=True)
        # The address as the client's manual has it, and nothing else is changed.
        self.client = WebSocketClient(
            api_key=key, feed=address, market=Market(market), secure=False, subscriptions=list(items)
        )
        self.events: list[Any] = []
        self.problem: Exception | None = None
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self.start()

    def run(self) -> None:
        async def connect() -> None:
            self._task = asyncio.current_task()
            await self.client.connect(self._take, proxy=None)

        try:
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(connect())
        except Exception as problem:  # noqa: BLE001  # a test looks at it
            self.problem = problem
        finally:
            if (socket := self.client.websocket) is not None:
                self._loop.run_until_complete(socket.close())
                self._loop.run_until_complete(socket.wait_closed())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _take(self, events: list[Any]) -> None:
        self.events.extend(events)

    def wait_for(self, events: int) -> None:
        """Wait until so many more events have been handed over."""
        before = len(self.events)
        wait_until(lambda: len(self.events) >= before + events, because=f"{events} more events are received")

    def numbers(self, symbol: str) -> list[int]:
        """The vendor's own numbers of a symbol, in the order of their arrival."""
        return [event.sequence_number for event in list(self.events) if event.symbol == symbol]

    def subscribe(self, *items: str) -> None:
        self._loop.call_soon_threadsafe(lambda: self.client.subscribe(*items))

    def end(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._loop.call_soon_threadsafe(self._cancel)
            self.join(0.2)  # Python 3.11's wait_for, in a busy client, can swallow a cancellation
        assert not self.is_alive()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def by_symbol(events: list[Any]) -> dict[tuple[str, str], list[Any]]:
    """Typed events by kind and symbol, in their order."""
    found = defaultdict(list)
    for event in list(events):
        symbol = getattr(event, "symbol", None) or getattr(event, "pair", None) or event.ticker
        found[event.event_type, symbol].append(event)
    return dict(found)


def is_end_of(part: list[Any], whole: list[Any]) -> bool:
    """Whether *part* is what *whole* ends with."""
    return 0 < len(part) <= len(whole) and whole[-len(part) :] == part


class Line:
    """A program that speaks the protocol by itself; *statuses* are (status, message), *events* decoded JSON."""

    def __init__(self, address: str, path: str = "/stocks", **options: Any) -> None:
        options = {"proxy": None, "ping_interval": None, "close_timeout": 0.2, "compression": None} | options
        self._open = contextlib.ExitStack()
        self.socket = self._open.enter_context(connect(f"ws://{address}{path}", **options))
        self.frames: list[str] = []
        self.statuses: list[tuple[str, str]] = []
        self.events: list[dict[str, Any]] = []
        self.code: int | None = None

    def send(self, *messages: str | bytes) -> None:
        for message in messages:
            self.socket.send(message)

    def say(self, action: str, params: str) -> None:
        self.send(json.dumps({"action": action, "params": params}))

    def read_frame(self, within_s: float = DEADLINE_S) -> None:
        frame = self.socket.recv(timeout=within_s, decode=True)
        assert isinstance(frame, str)
        self.frames.append(frame)
        for event in json.loads(frame):
            if event["ev"] == "status":
                self.statuses.append((event["status"], event["message"]))
            else:
                self.events.append(event)

    def read_until_said(self, status: str, message: str | None = None) -> None:
        while not any(said == status and message in {None, text} for said, text in self.statuses):
            self.read_frame()

    def read_events(self, number: int) -> None:
        before = len(self.events)
        while len(self.events) < before + number:
            self.read_frame()

    def read_to_the_end(self) -> None:
        """Until it is closed; *code* is that of the close frame, None where there was none."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.read_frame()
        self.code = self.socket.protocol.close_rcvd.code if self.socket.protocol.close_rcvd else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()


class GatewayProcess:
    """``workers.gateway`` with the test in the place of its supervisor; *reports* are what it has said."""

    def __init__(self, run_dir: Path, **settings: Any) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MCM")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.gateway"],
            stdin=theirs.fileno(), stderr=subprocess.PIPE, env=environment | {"XDG_RUNTIME_DIR": str(run_dir.parent)},
            text=True, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._channel: Channel[Up] = Channel(ours, decode_up)
        first: Down = GatewaySettings(**{"run_dir": str(run_dir), "listen": "127.0.0.1:0"} | settings)
        self._channel.send(first)
        self.report = GatewayReport()

    @property
    def holder(self) -> str:
        """As which it leases."""
        return f"gateway {self.process.pid}"

    def wait(self, field: str, value: object, within_s: float = DEADLINE_S) -> GatewayReport:
        """The first report with this *value*, or, for None, with any that is not empty."""

        def holds() -> bool:
            for record in self._channel.receive():
                if isinstance(record, GatewayReport):
                    self.report = record
            found = getattr(self.report, field)
            return bool(found) if value is None else bool(found == value)

        wait_until(holds, because=f"the gateway reports {field} {value}", within_s=within_s)
        return self.report

    @property
    def address(self) -> str:
        """Where it listens, once it lets clients in."""
        self.wait("is_open", True)
        return self.wait("address", None).address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()  # which it takes for a Stop
        try:
            _, self.log = self.process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise


def pairs_in_order(numbers: list[int]) -> bool:
    """Whether nothing comes twice and nothing out of order."""
    return all(earlier < later for earlier, later in itertools.pairwise(numbers))
