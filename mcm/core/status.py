"""What ``mcm status --json`` shows: a stable contract, to which fields may only be added."""

from collections.abc import Mapping

import msgspec

__all__ = ["AccountStatus", "ConnectionStatus", "RouterStatus", "Status", "overall", "summary"]


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


class RouterStatus(msgspec.Struct):
    """The router; received and published count ticks since its process started."""

    pid: int | None
    state: str
    received: int
    published: int
    restarts: int
    lost_batches: int
    rejected: int


class AccountStatus(msgspec.Struct):
    """One market of the account: lines it is known to allow, and lines that are up."""

    allowed: int
    running: int


class Status(msgspec.Struct):
    """The whole of it.

    Attributes:
        state: ``starting``, ``ready`` (every line live), ``degraded`` (see reason) or ``stopping``.
        is_started: every line has been live, or parked with its items carried by one that is.
        unplaced: topic → why no connection can carry it.
        simulator: addresses of the built-in simulator, when it is the upstream.
    """

    state: str
    pid: int
    uptime_s: float
    connections: dict[str, ConnectionStatus]
    router: RouterStatus
    account: dict[str, AccountStatus]
    reason: str
    is_started: bool
    unplaced: dict[str, str]
    simulator: dict[str, str]
    version: str
    run_dir: str


def overall(
    connections: Mapping[str, ConnectionStatus], router: str, unplaced: int, *, was_ready: bool
) -> tuple[str, str]:
    """(state, reason) of the whole, from its parts."""
    troubles = [f"{name} {line.state}: {line.reason}" for name, line in connections.items() if line.reason]
    if router != "ready" and was_ready:
        troubles.insert(0, f"the router is {router}")
    if unplaced:
        troubles.append(f"{unplaced} topics find no place")
    if troubles:
        return "degraded", "; ".join(troubles)
    if router == "ready" and all(line.state == "live" for line in connections.values()):
        return "ready", ""
    waiting = ", ".join(f"{name} is {line.state}" for name, line in connections.items() if line.state != "live")
    return ("degraded" if was_ready else "starting"), waiting


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
