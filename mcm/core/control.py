"""The records that the supervisor and its children exchange, and those of the control socket.

Parent and child talk over one SEQPACKET socketpair: settings and commands down, reports up, each record one packet of
at most 64 KiB.  A state that may be long (a list of items) is sent as several records.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from mcm.core.testing import Testing

__all__ = [
    "MAX_RECORD_BYTES",
    "Answered",
    "BackfillReport",
    "BackfillSettings",
    "BatchesLost",
    "Confirmed",
    "DashboardReport",
    "DashboardSettings",
    "Dial",
    "Down",
    "Failed",
    "GatewayReport",
    "GatewaySettings",
    "GatewayToken",
    "HangUp",
    "LineClosed",
    "LineReport",
    "LineSettings",
    "MarketHours",
    "Problem",
    "Ready",
    "Repair",
    "ReplayReport",
    "ReplaySettings",
    "Reply",
    "Request",
    "RouterReport",
    "RouterSettings",
    "SimulatorReport",
    "SimulatorSettings",
    "Stop",
    "TopicRates",
    "Unconfirmed",
    "Up",
    "Want",
    "decode_down",
    "decode_up",
    "encode",
    "in_chunks",
]

MAX_RECORD_BYTES = 65_536
_CHUNK_BYTES = 48_000


class _Record(msgspec.Struct, tag=True, frozen=True, omit_defaults=True):
    """A record of the socketpair; its type name travels with it."""


# --- down: supervisor to child -------------------------------------------------------------------------------------


class LineSettings(_Record, frozen=True):
    """First record to a connection worker.

    Attributes:
        name: of the connection; market: what it serves.
        run_dir: absolute path, for sockets and link files.
        api_key: travels here and nowhere else.
        testing: faults on purpose.
    """

    name: str
    market: str
    run_dir: str
    api_key: str
    testing: Testing = Testing()

    def __repr__(self) -> str:
        return f"LineSettings(name={self.name!r}, market={self.market!r}, api_key=hidden)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What rich prints instead of asking repr, in a traceback for instance."""
        return [("name", self.name), ("market", self.market), ("api_key", "hidden")]


# What the router refuses to start below, and what of the free disk its journal never exceeds.
LEAST_DESCRIPTORS = 4_096
FREE_DISK_SHARE = 0.1


class RouterSettings(_Record, frozen=True):
    """First record to the router.

    Attributes:
        run_dir: absolute path, for sockets, link files and the journal.
        endpoints: tcp addresses to publish on besides.
        retention_bytes, retention_hours: of the journal.
        testing: faults on purpose.
    """

    run_dir: str
    endpoints: tuple[str, ...] = ()
    retention_bytes: int = 2**33
    retention_hours: int = 24
    testing: Testing = Testing()


class ReplaySettings(_Record, frozen=True):
    """First record to the replay process: where the journal is, and where its socket goes."""

    run_dir: str


class SimulatorSettings(_Record, frozen=True):
    """First record to the simulator when it runs as a child: see the ``[simulator]`` section; port 0 picks one."""

    seed: int
    ticks_per_s: float
    port: int = 0
    orders_port: int = 0
    cap: int = 0


class GatewayToken(msgspec.Struct, frozen=True):
    """A local key of the gateway, and what comes with it.

    Attributes:
        token: travels here and nowhere else; name: by which logs call it.
        topics: patterns of what it may hear: ``stocks.T.AAPL``, ``stocks.T.*``, ``stocks.*``, ``*``.
        conflate_ms: > 0: at most the newest event of each topic in that time.
        backfilled: whether it gets what was fetched later to close a gap, as if it were live.
    """

    token: str
    name: str
    topics: tuple[str, ...]
    conflate_ms: int = 0
    backfilled: bool = False

    def __repr__(self) -> str:
        return f"GatewayToken(name={self.name!r}, token=hidden)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What rich prints instead of asking repr, in a traceback for instance."""
        return [("name", self.name), ("token", "hidden")]


class GatewaySettings(_Record, frozen=True):
    """First record to the gateway.

    Attributes:
        run_dir: absolute path, for its sockets.
        listen: ``HOST:PORT``; port 0 picks one.
        tokens: local keys; without any, every key is accepted.
        linger_s: for how long a topic is carried on when its last client has left.
        patience_s: how long an event may wait for a client that does not read, before that is closed.
    """

    run_dir: str
    listen: str
    tokens: tuple[GatewayToken, ...] = ()
    linger_s: float = 30.0
    patience_s: float = 5.0


class DashboardSettings(_Record, frozen=True):
    """First record to the dashboard.

    Attributes:
        run_dir: absolute path, for the sockets that it reads.
        listen: ``HOST:PORT``; port 0 picks one.
        token: without one, only programs of this machine reach it; travels here and nowhere else.
        hosts: names by which browsers may call it, besides addresses and those of this machine.
    """

    run_dir: str
    listen: str
    token: str = ""
    hosts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"DashboardSettings(listen={self.listen!r}, token=hidden)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What rich prints instead of asking repr, in a traceback for instance."""
        return [("listen", self.listen), ("token", "hidden")]


class Want(_Record, frozen=True):
    """Change what a line carries; both lists hold items such as ``T.AAPL``."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class Dial(_Record, frozen=True):
    """The permit to dial once; the worker answers with Answered or LineClosed.

    Attributes:
        url: of the upstream and market.
        slot_directory: where the account's slot locks of this market lie; slots: how many there are.
    """

    url: str
    slot_directory: str
    slots: int


class HangUp(_Record, frozen=True):
    """Close the line with 1000 and wait for the next permit; *stale* says why it is taken for dead, if it is."""

    stale: str = ""


class MarketHours(_Record, frozen=True):
    """In which kind of session the market is (the values of core.market_hours.Kind), and since when (wall clock)."""

    kind: str
    since_ns: int


class BackfillSettings(_Record, frozen=True):
    """First record to the back-filling process.

    Attributes:
        run_dir: absolute path, for its link files and the journal.
        api_key: travels here and nowhere else.
        rest_url: base of the vendor's REST side.
        channels: which kinds of tick are repaired; the others' gaps are named as not repaired.
        requests_per_s: over everything; the vendor asks for fewer than 100, a free plan allows 5 a minute (0.083).
        delay_s: by which the feed lags the market: 900 for ``delayed``.
        page_limit: results per page.
        testing: faults on purpose.
    """

    run_dir: str
    api_key: str
    rest_url: str
    channels: tuple[str, ...] = ("T", "XT")
    requests_per_s: float = 20.0
    delay_s: float = 0.0
    page_limit: int = 50_000
    testing: Testing = Testing()

    def __repr__(self) -> str:
        return f"BackfillSettings(rest_url={self.rest_url!r}, channels={self.channels!r}, api_key=hidden)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What rich prints instead of asking repr, in a traceback for instance."""
        return [("rest_url", self.rest_url), ("channels", self.channels), ("api_key", "hidden")]


class Repair(_Record, frozen=True):
    """Fetch what these *topics* missed in a closed gap; a long list in several records (``in_chunks``).

    Sent again, in the same life or another, it publishes nothing twice.

    Attributes:
        id: of the gap.
        since_ns, until_ns: wall clock between which nobody received them.
        rank: 0 is done first.
    """

    id: str
    topics: tuple[str, ...]
    since_ns: int
    until_ns: int
    rank: int = 0


class Stop(_Record, frozen=True):
    """Finish what is in hand and exit 0; end of file means the same."""


Down = (
    LineSettings
    | RouterSettings
    | ReplaySettings
    | SimulatorSettings
    | BackfillSettings
    | GatewaySettings
    | DashboardSettings
    | Want
    | Dial
    | HangUp
    | MarketHours
    | Repair
    | Stop
)

# --- up: child to supervisor ---------------------------------------------------------------------------------------


class Ready(_Record, frozen=True):
    """Settings accepted and sockets open; the start-up grace ends here.  The ports are the simulator's."""

    port: int = 0
    orders_port: int = 0


class Failed(_Record, frozen=True):
    """Why this process is about to refuse its settings; told to people instead of an exit status."""

    problem: str


class LineReport(_Record, frozen=True):
    """Once a second from a worker's main loop; its heartbeat.  All counts since the process started.

    Attributes:
        state: ``idle``, ``dialling`` or the session's ``greeting``, ``authenticating``, ``subscribing``, ``live``.
        wanted, confirmed, unconfirmed: numbers of items.
        ticks: decoded and handed on.
        last_tick_age_s: seconds since the last tick, None before the first.
        fed_s: for how long the present line has been authenticated and carrying data, seconds.
        errors: reason → count: events that could not be decoded, batches that no file holds, …
        skipped: batches that the socket did not take; the router reads them from the link file.
        channels: channel → ticks, as of the last few seconds.
        has_habits: whether the session knows how long this line may be silent, and watches it.
    """

    state: str
    wanted: int
    confirmed: int
    unconfirmed: int
    ticks: int
    last_tick_age_s: float | None
    fed_s: float
    errors: dict[str, int]
    skipped: int = 0
    channels: dict[str, int] = {}
    has_habits: bool = False


class Unconfirmed(_Record, frozen=True):
    """Items that were asked for twice and never confirmed, with the reason; *first* starts a new list."""

    first: bool
    items: dict[str, str] = {}


class Confirmed(_Record, frozen=True):
    """Items that the upstream has confirmed on the present line; *first* starts a new list."""

    first: bool
    items: tuple[str, ...] = ()


class TopicRates(_Record, frozen=True):
    """Ticks per second of these items, exponentially weighted; only what has changed since the last time."""

    per_s: dict[str, float]


class Answered(_Record, frozen=True):
    """The upstream has accepted the key: the dial is over and the next line may dial."""


class LineClosed(_Record, frozen=True):
    """The line has ended, or could not be dialled.

    Attributes:
        reason: one of core.dialling's reasons, which decide what happens next.
        detail: in words, for people; never holds a key.
        fed_s: for how long it had been authenticated and carrying data, seconds.
        last_ns: wall clock of the last frame that brought a tick, 0 for none.
    """

    reason: str
    detail: str
    fed_s: float
    last_ns: int = 0


class BatchesLost(_Record, frozen=True):
    """Batches of a link that no file has and no socket brought: what its line read in that time is missing.

    Attributes:
        connection: whose link; since_ns, until_ns: wall clock of the batches before and behind, 0 where there is none.
    """

    connection: str
    batches: int
    since_ns: int
    until_ns: int


class RouterReport(_Record, frozen=True):
    """Once a second from the router's loop; its heartbeat.

    Attributes:
        received, published, duplicates, held: ticks since the journal's epoch began; the first is the others' sum.
        lost_batches: jumps in the workers' sequences that no file explains.
        rejected: messages on the inlet that were no batch.
        skipped: batches read from link files, because the socket had not brought them.
        not_durable_since: first offset that the journal does not have, when its disk is full.
        acknowledged_epoch, acknowledged: up to which the supervisor's own link was taken.
        lagging: lines that trail others by so much that their events could soon not be told apart any more.
        descriptors, descriptor_limit: open files of the process, of which every subscriber takes one.
    """

    received: int = 0
    published: int = 0
    duplicates: int = 0
    held: int = 0
    lost_batches: int = 0
    rejected: int = 0
    skipped: int = 0
    not_durable_since: int | None = None
    acknowledged_epoch: int = 0
    acknowledged: int = 0
    lagging: tuple[str, ...] = ()
    descriptors: int = 0
    descriptor_limit: int = 0


class ReplayReport(_Record, frozen=True):
    """Once a second from the replay process's loop; its heartbeat.

    Attributes:
        head: last offset that it knows of.
        requests, messages: answered and sent since the process started.
    """

    head: int
    requests: int
    messages: int


class BackfillReport(_Record, frozen=True):
    """Once a second from the back-filling process's loop; its heartbeat.  All counts since the process started.

    Attributes:
        taken: Repair records received.
        unfinished: which of them, counting from 1, have topics that are neither repaired nor named as not repaired;
            at most 5,000 of them.  With none, and all taken, the process may be stopped.
        queued: topics that wait.
        requests: that were answered, or not.
        fetched, known, published: events.
        refused: market, or ``market.channel``, that is not asked for any more → why.
        errors: batches that no file holds, results that could not be read.
    """

    taken: int
    unfinished: tuple[int, ...] = ()
    queued: int = 0
    requests: int = 0
    fetched: int = 0
    known: int = 0
    published: int = 0
    refused: dict[str, str] = {}
    errors: dict[str, int] = {}


class GatewayReport(_Record, frozen=True):
    """Once a second from the gateway's loop; its heartbeat.  Counts since the process started.

    Attributes:
        address: where it listens, ``HOST:PORT``; empty while it does not.
        is_open: whether clients are let in, or told to come again because mcm is not ready.
        clients: connected now; topics: leased for them.
        events: handed to clients; slow: clients that were closed because they did not read.
        lost: ticks that a client should have had and that the journal has no more.
        problem: why it cannot be reached, in words; else empty.
    """

    address: str = ""
    is_open: bool = False
    clients: int = 0
    topics: int = 0
    events: int = 0
    slow: int = 0
    lost: int = 0
    problem: str = ""


class DashboardReport(_Record, frozen=True):
    """Once a second from the dashboard's loop; its heartbeat.

    Attributes:
        address: where it listens, ``HOST:PORT``; empty while it does not.
        pages: open now.
        problem: why it cannot be reached, in words; else empty.
    """

    address: str = ""
    pages: int = 0
    problem: str = ""


class SimulatorReport(_Record, frozen=True):
    """Once a second from the simulator's loop; its heartbeat."""


Up = (
    Ready
    | Failed
    | LineReport
    | Unconfirmed
    | Confirmed
    | Answered
    | LineClosed
    | RouterReport
    | ReplayReport
    | SimulatorReport
    | BackfillReport
    | GatewayReport
    | DashboardReport
    | BatchesLost
    | TopicRates
)

# --- the control socket --------------------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True):
    """What the CLI and other clients ask: ``{v, op, args}``."""

    op: str
    args: dict[str, Any] = {}
    v: int = 1


class Problem(msgspec.Struct, frozen=True):
    """Why a request was not carried out, and what to do about it."""

    problem: str
    hint: str = ""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """``{ok: …}`` or ``{error: {problem, hint}}``."""

    ok: Any = None
    error: Problem | None = None


encode = msgspec.msgpack.Encoder().encode
_down = msgspec.msgpack.Decoder(Down)
_up = msgspec.msgpack.Decoder(Up)


def decode_down(packet: bytes) -> Down:
    """The command in *packet*."""
    return _down.decode(packet)  # type: ignore[no-any-return]  # a union is no type to the stubs


def decode_up(packet: bytes) -> Up:
    """The report in *packet*."""
    return _up.decode(packet)  # type: ignore[no-any-return]


def in_chunks(items: Iterable[str], *, overhead: int = 5) -> Iterator[Sequence[str]]:
    """Cut a long list of items into parts that fit into a record each, with so many bytes of *overhead* per item."""
    chunk: list[str] = []
    size = 0
    for item in items:
        length = len(item.encode()) + overhead
        if chunk and size + length > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += length
    if chunk:
        yield chunk
