"""Which clients of the gateway hear what, and what has to be carried for all of them together; no I/O."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

from mcm.core.topics import WILDCARD

__all__ = ["LINGER_S", "Audience", "Wanted"]

LINGER_S = 30.0

Client = TypeVar("Client")


class Audience(Generic[Client]):
    """Topic → who hears it.  One thread changes it; ``topic in audience`` may be asked in any other."""

    def __init__(self) -> None:
        self._exact: dict[bytes, dict[Client, None]] = {}
        self._channels: dict[bytes, dict[Client, None]] = {}  # b"stocks.T." → who hears all of it

    def join(self, client: Client, topics: Iterable[str]) -> None:
        """*client* hears these topics (``stocks.T.AAPL``, ``stocks.T.*``) from now on."""
        for topic in topics:
            table, key = self._place(topic)
            table.setdefault(key, {})[client] = None

    def leave(self, client: Client, topics: Iterable[str]) -> None:
        """*client* hears these topics no more."""
        for topic in topics:
            table, key = self._place(topic)
            if (clients := table.get(key)) is not None:
                clients.pop(client, None)
                if not clients:
                    del table[key]

    def _place(self, topic: str) -> tuple[dict[bytes, dict[Client, None]], bytes]:
        if topic.endswith("." + WILDCARD):
            return self._channels, topic[:-1].encode()
        return self._exact, topic.encode()

    def __contains__(self, topic: bytes) -> bool:
        """Whether anybody hears *topic*."""
        return topic in self._exact or (bool(self._channels) and _channel_of(topic) in self._channels)

    def of(self, topic: bytes) -> Collection[Client]:
        """Everybody who hears *topic*, each once, whether by its name or by its channel."""
        exact = self._exact.get(topic, {})
        if not self._channels or not (channel := self._channels.get(_channel_of(topic))):
            return exact
        return {**channel, **exact} if exact else channel


def _channel_of(topic: bytes) -> bytes:
    """``b"stocks.T."`` of ``b"stocks.T.BRK.B"``."""
    market, _, rest = topic.partition(b".")
    return market + b"." + rest.partition(b".")[0] + b"."


class Wanted:
    """The union of what all clients hold; what the last one has given up stays in it for *linger_s* seconds more.

    So a client that reconnects, or a program that is started again, finds its topics still carried.
    """

    def __init__(self, linger_s: float = LINGER_S) -> None:
        self._linger_s = linger_s
        self._holders: Counter[str] = Counter()
        self._until: dict[str, float] = {}

    def add(self, topics: Iterable[str]) -> None:
        """One more client holds these topics."""
        for topic in topics:
            self._holders[topic] += 1
            self._until.pop(topic, None)

    def remove(self, topics: Iterable[str], now: float) -> None:
        """One client less holds these topics."""
        for topic in topics:
            self._holders[topic] -= 1
            if not self._holders[topic]:
                del self._holders[topic]
                self._until[topic] = now + self._linger_s

    def forget(self, topics: Iterable[str]) -> None:
        """What has no holder among these topics need not linger: nobody can carry it anyway."""
        for topic in topics:
            self._until.pop(topic, None)

    def topics(self, now: float) -> list[str]:
        """Everything that has to be carried at this time, sorted."""
        for topic in [topic for topic, until in self._until.items() if until <= now]:
            del self._until[topic]
        return sorted([*self._holders, *self._until])

    def holders(self, topic: str) -> int:
        """How many clients hold *topic*."""
        return self._holders[topic]

    def expires_at(self) -> float | None:
        """When the next topic need not be carried any more; None where none is about to go."""
        return min(self._until.values(), default=None)
