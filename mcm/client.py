"""The asking side of a running mcm: its control socket, and its ticks as they are published.

Needs msgspec and pyzmq only, so that any program can afford to import it.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import msgspec

from mcm import bus, locks
from mcm.core.control import Reply, Request
from mcm.core.errors import NotRunning, UsageError
from mcm.core.events import Tick, tick_decoder
from mcm.core.status import Status
from mcm.core.topics import Topic, parse_item
from mcm.core.wire import Message

__all__ = ["Control", "Received", "carried", "find_run_dir", "follow"]

ANSWER_LIMIT_S = 5.0
LOOK_S = 0.5

Answer = TypeVar("Answer")


def find_run_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The run directory that clients look at: ``$MCM_RUN_DIR``, else ``.mcm`` in the current directory."""
    return Path(environment.get("MCM_RUN_DIR") or ".mcm").expanduser().absolute()


class Control:
    """Asks the mcm that runs on *run_dir*; for one thread, and to be closed (or used in ``with``).

    Raises NotRunning when there is none, or when it does not answer within 5 s.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        if locks.holder(run_dir) is None:
            raise NotRunning(run_dir, "nothing runs there")
        self._context: bus.Context[bus.Socket[bytes]] = bus.Context()
        self._socket = bus.control_client(self._context, run_dir)

    def ask(self, op: str, args: Mapping[str, object] | None = None, *, answer: type[Answer]) -> Answer:
        """What it answers to *op*; raises UsageError, with its problem and hint, for what it refuses."""
        self._socket.send(msgspec.msgpack.encode(Request(op, dict(args or {}))))
        if not self._socket.poll(int(ANSWER_LIMIT_S * 1_000)):
            raise NotRunning(self.run_dir, f"it has not answered for {ANSWER_LIMIT_S:.0f} s")
        reply = msgspec.msgpack.decode(self._socket.recv(), type=Reply)
        if reply.error is not None:
            raise UsageError(reply.error.problem, reply.error.hint)
        return msgspec.convert(reply.ok, answer)

    def status(self) -> Status:
        """How everything stands."""
        return self.ask("status", answer=Status)

    def close(self) -> None:
        """Let go of the socket."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class Received(NamedTuple):
    """One message as it came: its topic, what stands around the ticks, and the ticks themselves."""

    topic: Topic
    message: Message
    ticks: list[Tick]


def follow(run_dir: Path, prefixes: Iterable[bytes]) -> Iterator[Received]:
    """Ticks as they are published from now on, for as long as the mcm on *run_dir* runs; NotRunning when it ends.

    What the network of queues drops is dropped: for a look, not for a decision.
    """
    if locks.holder(run_dir) is None:
        raise NotRunning(run_dir, "nothing runs there")
    context: bus.Context[bus.Socket[bytes]] = bus.Context()
    try:
        socket = bus.subscriber(context, bus.endpoint(run_dir, bus.TICKS), prefixes)
        look = time.monotonic() + LOOK_S
        while True:
            if socket.poll(int(LOOK_S * 1_000)):
                with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, ValueError):
                    yield _received(socket.recv())
            if time.monotonic() > look:
                look = time.monotonic() + LOOK_S
                if locks.holder(run_dir) is None:
                    raise NotRunning(run_dir, "it has stopped")
    finally:
        context.destroy(linger=0)


def _received(frame: bytes) -> Received:
    name, message = Message.decode(frame)
    market, _, item = name.decode().partition(".")
    return Received(parse_item(market, item), message, tick_decoder(market).decode(message.ticks))


def carried(prefix: bytes, topics: Iterable[str]) -> bool:
    """Whether any of *topics* (``stocks.T.AAPL``, ``stocks.T.*``) can bring a message that *prefix* selects."""
    for topic in topics:
        text = topic.encode()
        if text.endswith(b".*"):
            if text[:-1].startswith(prefix) or prefix.startswith(text[:-1]):
                return True
        elif (text + b"\0").startswith(prefix):
            return True
    return False
