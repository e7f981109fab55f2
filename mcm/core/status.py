"""What ``mcm status --json`` shows: a stable contract, to which fields may only be added."""

from collections.abc import Mapping

import msgspec

__all__ = [
    "CROWDED",
    "AccountStatus",
    "ConnectionStatus",
    "ProcessStatus",
    "RouterStatus",
    "Status",
    "overall",
    "summary",
]

CROWDED = 0.8


class ConnectionStatus(msgspec.Struct):
    """One connection.

    Attributes:
        state: ``starting`` (its process), ``connecting``, ``live`` (every wanted item confirmed or named unconfirmed),
            ``backoff`` (waits before it dials or starts again), ``parked`` (beyond the account's allowance, or crashed
            too often; its items are carried elsewhere), ``down`` (a human has to act).
        wanted, confirmed: numbers of items; unconfirmed: the items themselves, at most 1,000.
        ticks: since mcm started; ticks_per_s: over the last few seconds.
        last_tick_age_s: seconds since its last tick, null before the first.
        reconnects: lines opened after the first; restarts: of its process.
        errors: reason → count, since its process started.
        reason: why it is not live, in words; empty when it is.
        note: what else there is to say: that it is on probation, and its topics are carried elsewhere.
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


class ProcessStatus(msgspec.Struct):
    """Any other process: its pid while it runs, its state, how often it was started again."""

    pid: int | None
    state: str
    restarts: int


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


class AccountStatus(msgspec.Struct):
    """One market of the account: lines it is known to allow, and lines that are up."""

    allowed: int
    running: int


class Status(msgspec.Struct):
    """The whole of it.

    Attributes:
        state: ``starting``, ``ready`` (every line live), ``degraded`` (see reason) or ``stopping``.
        is_started: every line has been live, or parked with its items carried by one that is.
        unplaced: topic → why no connection can carry it; short: topic → how many of its copies are carried, and why.
        stuck: topic → why it could not be moved; it stays where it was.
        gaps: topics that nobody receives at present.
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


def overall(
    connections: Mapping[str, ConnectionStatus], router: str, unplaced: int, *, was_ready: bool
) -> tuple[str, str]:
    """(state, reason) of the whole, from its parts."""
    reasons: dict[str, list[str]] = {}
    for name, line in connections.items():
        if line.reason:
            reasons.setdefault(f"{line.state}: {line.reason}", []).append(name)
    troubles = [f"{', '.join(names)} {words}" for words, names in reasons.items()]
    if router != "ready" and was_ready:
        troubles.insert(0, f"the router is {router}")
    if unplaced:
        troubles.append(f"{unplaced} topics find no place")
    if troubles:
        return "degraded", "; ".join(troubles)
    if router == "ready" and all(line.state == "live" for line in connections.values()):
        return "ready", ""
    waiting = [f"{name} is {line.state}" for name, line in connections.items() if line.state != "live"]
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
