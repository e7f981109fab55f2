"""What every kind of event needs to know about its topic, and the numbers that several kinds share."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["EXCHANGES", "MINUTE_BARS", "OFF_EXCHANGE", "Q_BLOCK", "SECOND_BARS", "Origin", "Render", "window_of"]

# (n, t) → one compact JSON object; t is milliseconds since the Unix epoch: of the event, or of a bar's start.
Render = Callable[[int, int], str]

SECOND_BARS = frozenset({"A", "CAS", "XAS"})
MINUTE_BARS = frozenset({"AM", "CA", "XA"})

OFF_EXCHANGE = 4  # FINRA's exchange id; only its trades carry a trade reporting facility
EXCHANGES = (11, 12, 8, OFF_EXCHANGE, 19, 15, 10, OFF_EXCHANGE)
# Sequence numbers rise by 1 to 15: each event has a block of eight for itself.
Q_BLOCK = 8


@dataclass(frozen=True)
class Origin:
    """Attributes:
    key: 64 bits of chance, different for every topic and seed.
    path: n → price; the symbol's, not the channel's: trades lie between the quotes when both run in step.
    steps: price steps per unit.
    """

    key: int
    channel: str
    symbol: str
    path: Callable[[float], float]
    steps: int

    @property
    def tape(self) -> int:
        return 1 + self.key % 3

    def start_of_q(self, thousands: int) -> int:
        return thousands * 1_000 + self.key % 900_000


def window_of(channel: str) -> int:
    """Length of the bars of *channel*, ms."""
    return 1_000 if channel in SECOND_BARS else 60_000
