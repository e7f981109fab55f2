"""A simulator per test, and a client that keeps every event as the bytes it came in."""

import contextlib
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from mcm.simulator.launch import Simulator, launch

DEADLINE_S = 10.0


class Event(msgspec.Struct):
    """As much of an event as the tests sort by."""

    ev: str
    status: str = ""
    message: str = ""


class Client:
    """A connection that has authenticated; *statuses* and *events* grow as frames are read."""

    def __init__(self, socket: ClientConnection, key: str) -> None:
        self.socket = socket
        self.statuses: list[Event] = []
        self.events: list[str] = []
        self.frames: list[str] = []
        self.read_until(lambda: bool(self.statuses), because="the vendor greets")
        self.say("auth", key)
        self.read_until(lambda: len(self.statuses) > 1, because="the vendor answers to the key")

    def say(self, action: str, params: str) -> None:
        self.socket.send(msgspec.json.encode({"action": action, "params": params}).decode())

    def subscribe(self, *items: str) -> None:
        """Subscribe and wait for every acknowledgement."""
        self.say("subscribe", ",".join(items))
        wanted = {f"subscribed to: {item}" for item in items}
        self.read_until(
            lambda: wanted <= {status.message for status in self.statuses}, because=f"{items} are acknowledged"
        )

    def read_frame(self, timeout_s: float = DEADLINE_S) -> None:
        frame = self.socket.recv(timeout=timeout_s, decode=True)
        assert isinstance(frame, str)
        self.frames.append(frame)
        with contextlib.suppress(msgspec.DecodeError):  # a malformed frame, by order
            for raw in msgspec.json.decode(frame, type=list[msgspec.Raw]):
                event = msgspec.json.decode(raw, type=Event)
                if event.ev == "status":
                    self.statuses.append(event)
                else:
                    self.events.append(bytes(raw).decode())

    def read_until(self, is_enough: Callable[[], bool], *, because: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_enough():
            remaining_s = deadline - time.monotonic()
            assert remaining_s > 0, f"within {DEADLINE_S} s: {because}"
            self.read_frame(remaining_s)

    def read_events(self, count: int) -> list[str]:
        """The first *count* events since the beginning."""
        self.read_until(lambda: len(self.events) >= count, because=f"{count} events come")
        return self.events[:count]

    def read_to_the_end(self) -> ConnectionClosed:
        """Read what is left; how the connection ended."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.read_frame(deadline - time.monotonic())
            except ConnectionClosed as error:
                return error

    def last_status(self) -> str:
        return self.statuses[-1].status


Dial = Callable[..., Client]


@pytest.fixture
def launched() -> Iterator[Callable[..., Simulator]]:
    """Starts simulators with options; they end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(launch(*options))


@pytest.fixture
def simulator(launched: Callable[..., Simulator]) -> Simulator:
    """One with a brisk tape and without a cap."""
    return launched("--ticks-per-s", "2000", "--cap", "0", "--minute-bars-every-s", "0.1")


@pytest.fixture
def dial(simulator: Simulator) -> Iterator[Dial]:
    """Connects to *simulator* and authenticates; whatever is still open is closed with the test."""
    with contextlib.ExitStack() as stack:

        def connect_to(market: str = "stocks", key: str = "good-key") -> Client:
            socket = stack.enter_context(
                connect(simulator.url(market), proxy=None, ping_interval=None, close_timeout=0.1)
            )
            return Client(socket, key)

        yield connect_to
        simulator.remote.drop(mode="abort")  # or closing would wait for those that were made to hang


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Polls a claim; the deadline is there to fail, not to be waited for."""

    def wait(is_true: Callable[[], bool], *, because: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_true():
            assert time.monotonic() < deadline, f"within {DEADLINE_S} s: {because}"
            time.sleep(0.02)

    return wait
