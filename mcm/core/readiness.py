"""Whether everything that is wanted arrives: what an orchestrator asks before it sends work here."""

from collections.abc import Iterator

from mcm.core.status import Status

__all__ = ["missing"]


def missing(status: Status) -> list[str]:
    """Why it is not ready, in words; empty when every wanted topic is confirmed and ticks have come."""
    return list(_missing(status))


def _missing(status: Status) -> Iterator[str]:
    if status.state == "stopping":
        yield "mcm is stopping"
    if status.router.state != "ready":
        yield f"the router is {status.router.state}"
    for name, line in status.connections.items():
        if line.confirmed < line.wanted:
            why = f": {line.reason}" if line.reason else ""
            yield f"{name} has {line.confirmed:,} of {line.wanted:,} topics confirmed{why}"
    if status.unplaced:
        yield f"{len(status.unplaced):,} topics find no place"
    if status.gaps:
        yield f"nobody receives {status.gaps:,} topics"
    if not any(line.wanted for line in status.connections.values()):
        yield "no topic is carried yet"
    elif not any(line.ticks for line in status.connections.values()):
        yield "no tick has come yet"
