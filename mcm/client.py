"""The asking side of a running mcm: its control socket.

Needs msgspec and pyzmq only, so that any program can afford to import it.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from mcm import bus, locks
from mcm.core.control import Reply, Request
from mcm.core.errors import NotRunning, UsageError
from mcm.core.overview import TOPICS_PER_ANSWER, BriefGaps, Configured, TopicRow, TopicRows
from mcm.core.status import Status, TopicStatus

__all__ = ["Control", "Move", "Preview", "carried", "find_run_dir"]

ANSWER_LIMIT_S = 5.0

Answer = TypeVar("Answer")


def find_run_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The run directory that clients look at: ``$MCM_RUN_DIR``, else ``.mcm`` in the current directory."""
    return Path(environment.get("MCM_RUN_DIR") or ".mcm").expanduser().absolute()


class Move(msgspec.Struct, frozen=True):
    """A topic and the lines between which it moves."""

    topic: str
    source: str
    target: str


class Preview(msgspec.Struct, frozen=True):
    """What another configuration changes.

    Attributes:
        file: where it stands.
        started, stopped: connections.
        added, removed: topic → lines; moved: topic → (lines from, lines to).
        unplaced: topic → why nobody could carry it.
        live: what was changed by hand and stays so, in words.
        needs_restart: sections, or the variable of the key, whose change only a new start brings.
    """

    file: str
    started: list[str]
    stopped: list[str]
    added: dict[str, list[str]]
    removed: dict[str, list[str]]
    moved: dict[str, tuple[list[str], list[str]]]
    unplaced: dict[str, str]
    live: list[str]
    needs_restart: list[str]

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not (self.started or self.stopped or self.added or self.removed or self.moved or self.needs_restart)


class _Changed(msgspec.Struct, frozen=True):
    """The answer to a change of topics."""

    topics: list[str] = []
    unplaced: dict[str, str] = {}
    still_leased: list[str] = []


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

    # --- what changes something: refused with UsageError, which says what would be possible

    def subscribe(self, topics: Sequence[str], connection: str | None = None, copies: int = 1) -> dict[str, str]:
        """Have *topics* (``T.AAPL``, ``stocks.T.AAPL``) carried; those that nobody can carry, with the reason."""
        args = {"topics": list(topics), "connection": connection, "copies": copies}
        return self.ask("subscribe", args, answer=_Changed).unplaced

    def unsubscribe(self, topics: Sequence[str]) -> list[str]:
        """Have *topics* carried no more; those that some program still leases, and which therefore go on."""
        return self.ask("unsubscribe", {"topics": list(topics)}, answer=_Changed).still_leased

    def move(self, what: str, connection: str) -> dict[str, str]:
        """Pin a topic, or all topics of a symbol, to *connection*; those that cannot be there, with the reason."""
        return self.ask("move", {"what": what, "connection": connection}, answer=_Changed).unplaced

    def rebalance(self, *, dry_run: bool = False) -> list[Move]:
        """Relieve the busiest lines by as few moves as possible; the moves, made or only shown."""
        return self.ask("rebalance", {"dry_run": dry_run}, answer=list[Move])

    def pause(self, name: str) -> None:
        """Let others carry what this connection has, then close it until :meth:`resume`."""
        self.ask("pause", {"name": name}, answer=dict[str, str])

    def resume(self, name: str) -> None:
        """Let a paused connection dial again."""
        self.ask("resume", {"name": name}, answer=dict[str, str])

    def add_connection(self, name: str, market: str = "stocks", **more: object) -> None:
        """One more connection; *more* are keys of ``[[connections]]``."""
        self.ask("add_connection", {"connection": {"name": name, "market": market, **more}}, answer=dict[str, str])

    def remove_connection(self, name: str) -> None:
        """Let others carry what this connection has, then end its process."""
        self.ask("remove_connection", {"name": name}, answer=dict[str, str])

    def restart(self, name: str) -> None:
        """Start a connection, or another process by its name, afresh; one that was parked tries again at once."""
        self.ask("restart", {"name": name}, answer=dict[str, str])

    def configured(self) -> Configured:
        """What the configuration says of connections and watchlists, with what was changed by hand."""
        return self.ask("configured", answer=Configured)

    def topics(self) -> list[TopicRow]:
        """Every wanted topic in short; asked for in parts, between which something may change."""
        found: dict[str, TopicRow] = {}
        first, total = 0, 1
        while first < total:
            part = self.ask("topics", {"first": first, "count": TOPICS_PER_ANSWER}, answer=TopicRows)
            found |= {row.topic: row for row in part.rows}
            first, total = first + TOPICS_PER_ANSWER, part.total
        return list(found.values())

    def gaps(self, names: int) -> BriefGaps:
        """Open gaps and the newest records of all, with at most so many *names* of topics each."""
        return self.ask("gaps", {"names": names}, answer=BriefGaps)

    def why(self, what: str) -> list[TopicStatus]:
        """Everything about a topic, or about every wanted topic of a symbol."""
        return self.ask("why", {"what": what}, answer=list[TopicStatus])

    def preview(self) -> Preview:
        """What the configuration file, as it is now, would change."""
        return self.ask("preview", answer=Preview)

    def apply(self) -> Preview:
        """Put the configuration file, as it is now, in force; what that changes."""
        return self.ask("apply", answer=Preview)

    def lease(self, holder: str, topics: Sequence[str]) -> dict[str, str]:
        """Have *topics* carried for *holder* for half a minute more; those that nobody can carry, with the reason."""
        return self.ask("lease", {"holder": holder, "topics": list(topics)}, answer=_Changed).unplaced

    def release(self, holder: str) -> None:
        """*holder* wants nothing any more."""
        self.ask("release", {"holder": holder}, answer=dict[str, str])

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
