"""What ``mcm status --json`` shows: a stable contract, to which fields may only be added."""

from collections.abc import Mapping

import msgspec

from mcm.core.gaps import GapRecord

__all__ = [
    "CROWDED",
    "AccountStatus",
    "ConnectionStatus",
    "DashboardStatus",
    "GatewayStatus",
    "Moved",
    "ProcessStatus",
    "RouterStatus",
    "Status",
    "TopicStatus",
    "overall",
    "summary",
]

CROWDED = 0.8
_AT_REST = {"live", "paused"}  # as somebody wants it


class ConnectionStatus(msgspec.Struct):
    """One connection.

    Attributes:
        state: ``starting`` (its process), ``connecting``, ``live`` (every wanted item confirmed or named unconfirmed),
            ``backoff`` (waits before it dials or starts again), ``parked`` (beyond the account's allowance, or crashed
            too often; its items are carried elsewhere), ``paused`` (by hand), ``down`` (a human has to act).
        wanted, confirmed: numbers of items; unconfirmed: the items themselves, at most 1,000.
        ticks: since mcm started; ticks_per_s: over the last few seconds.
        last_tick_age_s: seconds since its last tick, null before the first.
        reconnects: lines opened after the first; restarts: of its process.
        errors: reason → count, since its process started.
        reason: why it is not live, in words; empty when it is.
        note: what else there is to say: that it is on probation, and its topics are carried elsewhere.
        channels: channel → ticks since mcm started, counted every five seconds.
    """

    state: str
    market: str
    pid: int | None
    wanted: int
    confirmed: int
    unconfirmed: list[str]
    ticks: int
    ticks_per_s: float
    last_tick_age_s: float | None
    reconnects: int
    restarts: int
    errors: dict[str, int]
    reason: str
    note: str = ""
    channels: dict[str, int] = {}


class ProcessStatus(msgspec.Struct):
    """Any other process: its pid while it runs, its state, how often it was started again."""

    pid: int | None
    state: str
    restarts: int


class GatewayStatus(msgspec.Struct):
    """The gateway.

    Attributes:
        address: where programs reach it; empty while it does not listen.
        clients: connected now.
        problem: why it cannot be reached, in words; else empty.
        is_open: whether clients are let in; not before mcm is ready.
        slow: clients that were closed because they did not read, since its process started.
        lost: ticks that clients should have had and that the journal has no more, since then.
    """

    pid: int | None
    state: str
    restarts: int
    address: str
    clients: int
    problem: str
    is_open: bool = False
    slow: int = 0
    lost: int = 0


class DashboardStatus(msgspec.Struct):
    """The dashboard.

    Attributes:
        address: where browsers reach it; empty while it does not listen.
        pages: open now.
        problem: why it cannot be reached, in words; else empty.
    """

    pid: int | None
    state: str
    restarts: int
    address: str
    pages: int
    problem: str


class RouterStatus(msgspec.Struct):
    """The router.

    Attributes:
        received, published, duplicates, held: ticks, since the journal's epoch began; what comes from two lines is
            published once, and held while a line that has come back is not yet in step.
        lost_batches: on the way to it, and in no file; rejected: messages that were no batch.
        skipped: batches that it read from link files, because the socket had not brought them.
        not_durable_since: first offset that is in no file, while the disk is full; else null.
        descriptors, descriptor_limit: about how many files it has open, every subscriber being one, and may have.
    """

    pid: int | None
    state: str
    received: int
    published: int
    restarts: int
    lost_batches: int
    rejected: int
    skipped: int
    not_durable_since: int | None
    duplicates: int = 0
    held: int = 0
    descriptors: int = 0
    descriptor_limit: int = 0

    @property
    def is_crowded(self) -> bool:
        """Whether subscribers, of which each takes a descriptor, have nearly used up what the system grants."""
        return self.descriptors > CROWDED * self.descriptor_limit > 0


class Moved(msgspec.Struct, frozen=True):
    """A topic that the plan gave to other lines: when (wall clock), from which to which, and why."""

    at_ns: int
    topic: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    why: str


class TopicStatus(msgspec.Struct):
    """What ``mcm why`` shows of one topic.

    Attributes:
        is_wanted: by a watchlist, by hand or by a program; copies, tier, pinned_to: how.
        home: lines where it lives when all are up; strategy: that chose them, where it is not pinned.
        carried_by: line → since when it is confirmed there (wall clock); null while it is not.
        ticks_per_s: as measured, exponentially weighted over half a minute; null before.
        trouble: why it is not where it should be, in words; else empty.
        gap_since_ns: since when nobody receives it; null where somebody does.
        moves, gaps: the newest ones.
    """

    topic: str
    is_wanted: bool
    copies: int
    tier: str | None
    pinned_to: str | None
    home: list[str]
    carried_by: dict[str, int | None]
    ticks_per_s: float | None
    strategy: str
    trouble: str
    gap_since_ns: int | None
    moves: list[Moved]
    gaps: list[GapRecord]


class AccountStatus(msgspec.Struct):
    """One market of the account: lines it is known to allow, lines that are up, lines that there should be."""

    allowed: int
    running: int
    configured: int = 0


class Status(msgspec.Struct):
    """The whole of it.

    Attributes:
        state: ``starting``, ``ready`` (every line live), ``degraded`` (see reason) or ``stopping``.
        is_started: every line has been live, or parked with its items carried by one that is.
        unplaced: topic → why no connection can carry it; short: topic → how many of its copies are carried, and why.
        stuck: topic → why it could not be moved; it stays where it was.
        gaps: topics that nobody receives at present.
        live: what was changed while it ran and does not stand in the configuration, in words.
        leases: program → how many topics it has asked for.
        gateway, dashboard: null where they are not enabled.
        simulator: addresses of the built-in simulator, when it is the upstream.
    """

    state: str
    pid: int
    uptime_s: float
    connections: dict[str, ConnectionStatus]
    router: RouterStatus
    replay: ProcessStatus
    account: dict[str, AccountStatus]
    reason: str
    is_started: bool
    unplaced: dict[str, str]
    simulator: dict[str, str]
    version: str
    run_dir: str
    short: dict[str, str] = {}
    stuck: dict[str, str] = {}
    gaps: int = 0
    live: list[str] = []
    leases: dict[str, int] = {}
    gateway: GatewayStatus | None = None
    dashboard: DashboardStatus | None = None


def overall(
    connections: Mapping[str, ConnectionStatus], router: str, unplaced: int, *, was_ready: bool
) -> tuple[str, str]:
    """(state, reason) of the whole, from its parts."""
    reasons: dict[str, list[str]] = {}
    for name, line in connections.items():
        if line.reason and line.state != "paused":
            reasons.setdefault(f"{line.state}: {line.reason}", []).append(name)
    troubles = [f"{', '.join(names)} {words}" for words, names in reasons.items()]
    if router != "ready" and was_ready:
        troubles.insert(0, f"the router is {router}")
    if unplaced:
        troubles.append(f"{unplaced} topics find no place")
    if troubles:
        return "degraded", "; ".join(troubles)
    waiting = [f"{name} is {line.state}" for name, line in connections.items() if line.state not in _AT_REST]
    if router == "ready" and not waiting:
        return "ready", ""
    if router != "ready":
        waiting.insert(0, f"the router is {router}")
    return ("degraded" if was_ready else "starting"), ", ".join(waiting)


def summary(status: Status) -> str:
    """The whole in one line, for people who watch it run."""
    lines = status.connections.values()
    live = sum(line.state == "live" for line in lines)
    parts = [
        status.state,
        f"{live} of {len(lines)} connections live",
        f"{sum(line.confirmed for line in lines):,} topics",
        f"{sum(line.ticks_per_s for line in lines):,.0f} ticks/s",
        f"{sum(line.ticks for line in lines):,} ticks",
    ]
    if status.reason:
        parts.append(status.reason)
    return " · ".join(parts)
