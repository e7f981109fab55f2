"""The asking side of a running mcm: its control socket.

Needs msgspec and pyzmq only, so that any program can afford to import it.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from mcm import bus, locks
from mcm.core.control import Reply, Request
from mcm.core.errors import NotRunning, UsageError
from mcm.core.status import Status

__all__ = ["Control", "carried", "find_run_dir"]

ANSWER_LIMIT_S = 5.0

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
