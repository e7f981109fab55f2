"""That every tick is accounted for: what came in, and where it went, each number from its own counter."""

import msgspec

from mcm.core.status import Status

__all__ = ["Ledger", "LineEntry", "RouterEntry", "rejected", "take"]

_UNREADABLE = ("broken", "unknown", "not ")  # how the reasons begin by which a worker rejects events


class LineEntry(msgspec.Struct, frozen=True):
    """A worker: *appended* to its link file, *rejected* because it could not be read."""

    appended: int
    rejected: int


class RouterEntry(msgspec.Struct, frozen=True):
    """The router: *received* is to be the sum of what it published, knew already, and holds; *balance* what is left."""

    received: int
    published: int
    duplicates: int
    held: int
    balance: int
    lost_batches: int

    @property
    def equation(self) -> str:
        """In words and numbers, without what is left."""
        return (
            f"received {self.received:,} = published {self.published:,} + duplicates {self.duplicates:,} "
            f"+ held {self.held:,}"
        )


class Ledger(msgspec.Struct, frozen=True):
    """All hops; *equation* in words and numbers."""

    connections: dict[str, LineEntry]
    router: RouterEntry
    equation: str


def rejected(errors: dict[str, int]) -> int:
    """How many of the *errors* are events that could not be read."""
    return sum(count for reason, count in errors.items() if reason.startswith(_UNREADABLE))


def take(status: Status) -> Ledger:
    """The ledger as the counters of *status* have it."""
    router = status.router
    balance = router.received - router.published - router.duplicates - router.held
    entry = RouterEntry(router.received, router.published, router.duplicates, router.held, balance, router.lost_batches)
    return Ledger(
        {name: LineEntry(line.ticks, rejected(line.errors)) for name, line in status.connections.items()},
        entry,
        entry.equation + (f" + {balance:,} UNACCOUNTED" if balance else ""),
    )
