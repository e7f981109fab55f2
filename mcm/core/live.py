"""What was changed while mcm ran, beside the configuration: the second half of what is wanted.

Values in, values out.  The supervisor keeps a ``Live`` in ``RUN_DIR/live.json``, so that what somebody asked for by
hand survives a restart, and everybody can see that it does not stand in the file.

**Leases** are what programs ask for, for as long as they live: (holder, topics), to be renewed, else gone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from mcm.core.assignment import Wish, wishes
from mcm.core.errors import UsageError
from mcm.core.settings import Connection, Settings
from mcm.core.settings_values import nearest
from mcm.core.topics import parse_topic

__all__ = ["LEASE_S", "Leases", "Live", "Subscription", "connections", "described", "wanted"]

LEASE_S = 30.0


class Subscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A topic that somebody subscribed by hand, perhaps on a connection of his choice, on so many at once."""

    connection: str | None = None
    copies: int = 1


class Live(msgspec.Struct, frozen=True, omit_defaults=True):
    """All live changes; every method gives a new value, and raises UsageError for what cannot be.

    Attributes:
        subscribed: topic → how, beyond the file.
        unsubscribed: topics of the file that are not wanted at present.
        moved: topic → connection to which it was moved by hand.
        paused: connections that are not to dial.
        added: connections that the file does not have; removed: names of those it has.
        allowed: market → connections that the account was seen to allow.
    """

    subscribed: dict[str, Subscription] = {}
    unsubscribed: tuple[str, ...] = ()
    moved: dict[str, str] = {}
    paused: tuple[str, ...] = ()
    added: tuple[Connection, ...] = ()
    removed: tuple[str, ...] = ()
    allowed: dict[str, int] = {}

    def subscribe(self, topics: Iterable[str], how: Subscription, configured: Iterable[str]) -> "Live":
        """With these topics wanted; *configured* are those that the file wants, some of them unsubscribed by hand."""
        in_file = set(configured)
        subscribed, unsubscribed = dict(self.subscribed), dict.fromkeys(self.unsubscribed)
        for topic in topics:
            if topic not in in_file or how != Subscription():
                subscribed[topic] = how
            unsubscribed.pop(topic, None)
        return msgspec.structs.replace(self, subscribed=subscribed, unsubscribed=tuple(unsubscribed))

    def unsubscribe(self, topics: Iterable[str], configured: Iterable[str]) -> "Live":
        """Without these topics; *configured* are those that the file wants."""
        in_file = set(configured)
        subscribed, unsubscribed = dict(self.subscribed), dict.fromkeys(self.unsubscribed)
        moved = dict(self.moved)
        for topic in topics:
            if topic not in in_file and topic not in subscribed:
                near = nearest(topic, [*in_file, *subscribed])
                hint = f"did you mean {near}?" if near else "nothing was changed"
                raise UsageError(f"{topic} is not subscribed", hint)
            subscribed.pop(topic, None)
            moved.pop(topic, None)
            if topic in in_file:
                unsubscribed[topic] = None
        return msgspec.structs.replace(self, subscribed=subscribed, unsubscribed=tuple(unsubscribed), moved=moved)

    def move(self, topics: Iterable[str], connection: str) -> "Live":
        """With these topics on *connection*."""
        return msgspec.structs.replace(self, moved=self.moved | dict.fromkeys(topics, connection))

    def pause(self, name: str) -> "Live":
        """With this connection not to dial."""
        if name in self.paused:
            raise UsageError(f"{name} is paused already", f"`mcm resume {name}` ends that")
        return msgspec.structs.replace(self, paused=(*self.paused, name))

    def resume(self, name: str) -> "Live":
        """With this connection to dial again."""
        if name not in self.paused:
            raise UsageError(f"{name} is not paused", "nothing was changed")
        return msgspec.structs.replace(self, paused=tuple(other for other in self.paused if other != name))

    def add(self, connection: Connection, settings: Settings) -> "Live":
        """With one more connection, or one that was removed by hand as the file has it."""
        if connection.name in (one.name for one in connections(settings, self)):
            raise UsageError(f"there is a connection {connection.name} already", "`mcm status` shows them")
        of_file = next((one for one in settings.connections if one.name == connection.name), None)
        removed = tuple(name for name in self.removed if name != connection.name)
        if of_file is not None and of_file.enabled and of_file.market == connection.market:
            return msgspec.structs.replace(self, removed=removed)
        return msgspec.structs.replace(self, added=(*self.added, connection), removed=removed)

    def remove(self, name: str, settings: Settings) -> "Live":
        """Without this connection."""
        added = tuple(one for one in self.added if one.name != name)
        removed = self.removed
        if any(one.name == name and one.enabled for one in settings.connections):
            removed = (*removed, name)
        return msgspec.structs.replace(
            self,
            added=added,
            removed=removed,
            paused=tuple(other for other in self.paused if other != name),
            moved={topic: line for topic, line in self.moved.items() if line != name},
        )

    def kept_by(self, settings: Settings) -> "Live":
        """What is left of it under other *settings*: what they say themselves, or no longer know, goes."""
        present = {connection.name for connection in settings.connections if connection.enabled}
        added = tuple(one for one in self.added if one.name not in present)
        names = present | {one.name for one in added}
        in_file = {wish.topic for wish in wishes(settings)}
        plain = Subscription()
        return msgspec.structs.replace(
            self,
            subscribed={topic: how for topic, how in self.subscribed.items() if topic not in in_file or how != plain},
            unsubscribed=tuple(topic for topic in self.unsubscribed if topic in in_file),
            moved={topic: line for topic, line in self.moved.items() if line in names},
            paused=tuple(name for name in self.paused if name in names),
            added=added,
            removed=tuple(name for name in self.removed if name in present),
        )


def connections(settings: Settings, live: Live) -> list[Connection]:
    """Those that there are: the file's, without those removed by hand, and those added."""
    kept = [one for one in settings.connections if one.enabled and one.name not in live.removed]
    return [*kept, *live.added]


def wanted(settings: Settings, live: Live, leased: Iterable[str] = ()) -> list[Wish]:
    """Everything that is wanted: the watchlists, what was changed by hand, and what programs have leased."""
    names = {connection.name for connection in connections(settings, live)}
    found = {wish.topic: wish for wish in wishes(settings)}
    for topic in live.unsubscribed:
        found.pop(topic, None)
    for topic, how in live.subscribed.items():
        known = found.get(topic) or _wish(topic)
        found[topic] = known._replace(
            connection=how.connection or known.connection, copies=max(how.copies, known.copies)
        )
    for topic in leased:
        if topic not in found:
            found[topic] = _wish(topic)
    for topic, line in live.moved.items():
        if topic in found:
            found[topic] = found[topic]._replace(connection=line)
    return [
        wish if wish.connection is None or wish.connection in names else wish._replace(connection=None)
        for wish in found.values()
    ]


def _wish(topic: str) -> Wish:
    return Wish(topic.partition(".")[0], parse_topic(topic).item)


def described(live: Live) -> Iterator[str]:
    """Every live change in words, for people who compare it with the file."""
    for topic, how in live.subscribed.items():
        where = f" on {how.connection}" if how.connection else ""
        copies = f", {how.copies} copies" if how.copies > 1 else ""
        yield f"subscribed {topic}{where}{copies}"
    yield from (f"unsubscribed {topic}" for topic in live.unsubscribed)
    yield from (f"moved {topic} to {line}" for topic, line in live.moved.items())
    yield from (f"paused {name}" for name in live.paused)
    yield from (f"added the connection {one.name} ({one.market})" for one in live.added)
    yield from (f"removed the connection {name}" for name in live.removed)


@dataclass
class Leases:
    """What programs have leased; times are monotonic seconds."""

    _held: dict[str, tuple[float, frozenset[str]]] = field(default_factory=dict)  # holder → until when, what

    def renew(self, holder: str, topics: Sequence[str], now: float) -> bool:
        """*holder* wants these topics, and no others, for half a minute more; whether that changes something."""
        for topic in topics:
            parse_topic(topic)
        before = self._held.get(holder, (0.0, frozenset()))[1]
        self._held[holder] = now + LEASE_S, frozenset(topics)
        return before != self._held[holder][1]

    def release(self, holder: str) -> bool:
        """*holder* wants nothing any more; whether it did."""
        return self._held.pop(holder, None) is not None

    def expire(self, now: float) -> bool:
        """Forget those that were not renewed; whether there was one."""
        gone = [holder for holder, (until, _) in self._held.items() if until <= now]
        for holder in gone:
            del self._held[holder]
        return bool(gone)

    @property
    def topics(self) -> list[str]:
        """Everything that is leased, sorted."""
        return sorted(set().union(*(topics for _, topics in self._held.values())))

    @property
    def holders(self) -> Mapping[str, int]:
        """Holder → how many topics."""
        return {holder: len(topics) for holder, (_, topics) in self._held.items()}
