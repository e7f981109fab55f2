"""From the lines that carry a topic to those that are to carry it, without a moment in which nobody does.

    1. cover: the router is told that both lines carry the topic, and has said that it knows
    2. the new line is told to carry it
    3. the new line has it confirmed (an acknowledgement or a tick)      a time-out: the topic stays where it was
    4. the old line is told to let it go
    5. a minute later nothing of the old line can be under way any more: uncover

An old line that is down holds nothing up: steps 3 and 4 fall together.  A topic that nobody carries yet begins at 2.

A line that carries ``stocks.T.*`` carries ``stocks.T.AAPL`` as well, and is never told both.  So a wildcard takes over
from single topics, and they from it, by the same steps; where one line has to change from the one to the other, it does
that in a single step, while other lines have the topics (see core.detours), or with a gap where there is no other line.

Decisions only: what has to be said to whom comes out as values.  Times are monotonic seconds.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from mcm.core.detours import detour
from mcm.core.topics import is_wildcard, whole_channel

__all__ = ["Changes", "Cover", "Placement"]

CONFIRM_S = 12.0  # a line asks twice, five seconds each
UNCOVER_S = 60.0
TOPICS_PER_COVER = 1_000

_NOBODY: frozenset[str] = frozenset()


class Cover(NamedTuple):
    """Tell the router: these topics are carried by *lines*, of which *carried_by* publish them already."""

    topics: list[str]
    lines: frozenset[str]
    carried_by: frozenset[str]


class Changes(NamedTuple):
    """What to say now.

    Attributes:
        covers: to the router.
        lines: each is to be told what it carries from here on.
        exposed: line → topics that nobody carries until that line has confirmed them.
    """

    covers: list[Cover]
    lines: set[str]
    exposed: dict[str, list[str]]


@dataclass
class _Turn:
    """What is known at one moment, and what is to be said; see :meth:`Placement.turn`."""

    now: float
    up: Collection[str]
    confirmed: Callable[[str, str], bool]
    sent: int
    acknowledged: int
    covers: dict[str, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)  # topic → see Cover
    lines: set[str] = field(default_factory=set)
    exposed: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    tried: set[tuple[str, str]] = field(default_factory=set)  # wildcard and line of an exchange


@dataclass
class _Move:
    """A topic on its way, or one whose cover has to end."""

    told_at: float | None = None
    waiting_since: float | None = None
    uncover_at: float | None = None


@dataclass
class Placement:
    """Who carries what, and what is on its way.

    Attributes:
        carriers: topic → lines that are told to carry it; see :meth:`lines_of` for those that do so by a wildcard.
        stuck: topic → why it could not be moved to where the plan wants it; it stays where it was.
    """

    carriers: dict[str, frozenset[str]] = field(default_factory=dict)
    stuck: dict[str, str] = field(default_factory=dict)
    _of_line: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _goal: dict[str, frozenset[str]] = field(default_factory=dict)
    _desired: dict[str, frozenset[str]] = field(default_factory=dict)  # the goal, or what has to come before it
    _stand_ins: Mapping[str, Collection[str]] = field(default_factory=dict)  # market → lines
    _singles: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # of a wildcard
    _detours: set[str] = field(default_factory=set)  # wildcards on the way to something else than the goal
    _helpless: set[str] = field(default_factory=set)  # wildcards for which no other line can stand in
    _cover: dict[str, tuple[frozenset[str], int]] = field(default_factory=dict)  # lines, number of the message
    _moves: dict[str, _Move] = field(default_factory=dict)

    def desire(
        self, plan: Mapping[str, Collection[str]], stand_ins: Mapping[str, Collection[str]] = MappingProxyType({})
    ) -> None:
        """The lines that are to carry each topic; topics that are left out are given up.

        Args:
            plan: topic → lines; none of them may have a topic beside the wildcard of its channel.
            stand_ins: market → lines that may carry any of its topics for a while.
        """
        self._goal = {topic: frozenset(lines) for topic, lines in plan.items()}
        self._desired = dict(self._goal)
        self._stand_ins = stand_ins
        self.stuck.clear()
        self._detours.clear()
        self._helpless.clear()
        known = self._goal.keys() | self.carriers.keys() | self._cover.keys()
        self._singles.clear()
        for wildcard in [topic for topic in known if is_wildcard(topic)]:
            self._singles[wildcard] = set()
        for topic in known if self._singles else ():
            if not is_wildcard(topic) and (wildcard := whole_channel(topic)) in self._singles:
                self._singles[wildcard].add(topic)
        for wildcard in self._singles:
            self._head_for(wildcard)
        for topic in self._desired.keys() | self.carriers.keys():
            if self._desired.get(topic, _NOBODY) != self.carriers.get(topic, _NOBODY):
                move = self._moves.setdefault(topic, _Move())
                move.told_at = move.waiting_since = None

    def _head_for(self, wildcard: str) -> None:
        """Where this channel goes next: to the goal, or first to where nothing is missed on the way."""
        channel = [wildcard, *self._singles[wildcard]]
        goal = {topic: self._goal.get(topic, _NOBODY) for topic in channel}
        now = {topic: self.carriers.get(topic, _NOBODY) for topic in channel}
        stand_ins = self._stand_ins.get(wildcard.partition(".")[0], ())
        way = detour(wildcard, goal, now, {line: len(self._of_line[line]) for line in stand_ins})
        self._desired.update(goal if way.lines is None else way.lines)
        (self._detours.discard if way.lines is None else self._detours.add)(wildcard)
        (self._helpless.add if way.is_helpless else self._helpless.discard)(wildcard)
        for topic in channel:
            if self._is_under_way(topic):
                self._moves.setdefault(topic, _Move())

    def of_line(self, line: str) -> set[str]:
        """The topics that *line* is told to carry; not to be changed."""
        return self._of_line[line]

    def lines_of(self, topic: str) -> dict[str, str]:
        """The lines that carry *topic* → what they are told for it: itself, or the wildcard of its channel."""
        whole = whole_channel(topic)
        return dict.fromkeys(self.carriers.get(whole, _NOBODY), whole) | dict.fromkeys(
            self.carriers.get(topic, _NOBODY), topic
        )

    @property
    def covers(self) -> list[Cover]:
        """Every cover in force, for a router that has forgotten; without what it knew before."""
        return _grouped({topic: (lines, _NOBODY) for topic, (lines, _) in self._cover.items()})

    @property
    def is_moving(self) -> bool:
        """Whether some topic is not where it is to be, and not stuck."""
        return bool(self._detours) or any(self._is_under_way(topic) for topic in self._moves)

    def _is_under_way(self, topic: str) -> bool:
        return topic not in self.stuck and self._desired.get(topic, _NOBODY) != self.carriers.get(topic, _NOBODY)

    # --- the steps

    def turn(
        self,
        now: float,
        *,
        up: Collection[str],
        confirmed: Callable[[str, str], bool],
        sent: int,
        acknowledged: int,
    ) -> Changes:
        """The next steps of everything under way.

        Args:
            now: monotonic seconds.
            up: lines that live.
            confirmed: (line, topic) → whether the upstream has confirmed it there.
            sent: number of the next message to the router; the covers that come out are to be in it.
            acknowledged: number of the newest one that the router has acknowledged.
        """
        turn = _Turn(now, up, confirmed, sent, acknowledged)
        for wildcard in self._singles:
            is_there = not any(self._is_under_way(topic) for topic in (wildcard, *self._singles[wildcard]))
            if is_there == (wildcard in self._detours):  # arrived there, or on the way to a goal that may be blocked
                self._head_for(wildcard)
        for topic, move in list(self._moves.items()):
            self._step(topic, move, turn)
        return Changes(_grouped(turn.covers), turn.lines, dict(turn.exposed))

    def _step(self, topic: str, move: _Move, turn: _Turn) -> None:
        carriers, desired = self.carriers.get(topic, _NOBODY), self._desired.get(topic, _NOBODY)
        if topic in self.stuck:
            if desired <= carriers and self._is_taken_over(topic, turn):
                del self.stuck[topic]  # it took its time
            elif desired and not any(line in turn.up for line in carriers):
                del self.stuck[topic]  # where it stayed, nobody carries it any more
                move.told_at = move.waiting_since = None
        elif new := desired - carriers:
            contested = frozenset(line for line in new if self._instead_of(topic, line))
            if new == contested:
                self._exchange(topic, min(new), turn)
            elif self._is_covered(topic, new - contested, turn):
                turn.lines |= self._carry(topic, carriers | (new - contested))
                move.told_at = turn.now
        elif old := carriers - desired:
            self._let_go(topic, move, old, turn)
        else:
            self._end(topic, move, turn)

    def _let_go(self, topic: str, move: _Move, old: frozenset[str], turn: _Turn) -> None:
        """Take the topic from these lines as soon as those that are to have it have it."""
        desired = self._desired.get(topic, _NOBODY)
        living = frozenset(line for line in old if line in turn.up)
        if move.waiting_since is None:
            move.waiting_since = turn.now
        if not living or self._is_taken_over(topic, turn):
            turn.lines |= self._carry(topic, desired) | old
            self._uncover_later(topic, turn)
        elif turn.now - (move.waiting_since if move.told_at is None else move.told_at) > CONFIRM_S:
            late = {line for line, heir in self._heirs(topic) if not turn.confirmed(line, heir)}
            self._give_up(topic, late, living)
            if desired:
                turn.lines |= self._carry(topic, living | (desired - late)) | late
                self._uncover_later(topic, turn)

    def _end(self, topic: str, move: _Move, turn: _Turn) -> None:
        """It is where it is to be; what is left is its cover, of which copies keep theirs."""
        lines = frozenset(self.lines_of(topic)) if topic in self.carriers else _NOBODY
        covered, _ = self._cover.get(topic, (lines, 0))
        if covered != lines:
            if turn.now < (move.uncover_at or 0.0) or self._is_under_way(whole_channel(topic)):
                return
            if len(lines) > 1:
                self._cover[topic] = lines, turn.sent
                turn.covers[topic] = lines, lines
            else:
                del self._cover[topic]
                turn.covers[topic] = lines, _NOBODY
        del self._moves[topic]

    def _uncover_later(self, topic: str, turn: _Turn) -> None:
        """So many lines carry it no more; the same is so of what they carried by a wildcard."""
        for one in (topic, *self._singles.get(topic, ())):
            if one in self._cover:
                self._moves.setdefault(one, _Move()).uncover_at = turn.now + UNCOVER_S

    def _is_covered(self, topic: str, lines: frozenset[str], turn: _Turn) -> bool:
        """Whether the router knows that *lines* come to those that have what *topic* is of; it is told where not."""
        is_known = True
        for one in (topic, *self._singles.get(topic, ())):
            present = self.lines_of(one)
            both = lines.union(present)
            covered, number = self._cover.get(one, (_NOBODY, 0))
            if len(both) < 2 or (one != topic and one not in self.carriers):
                continue
            if not covered >= both:
                both |= covered
                turn.covers[one] = both, frozenset(line for line, by in present.items() if turn.confirmed(line, by))
                self._cover[one] = both, turn.sent
                self._moves.setdefault(one, _Move())  # its cover has to end some time
                is_known = False
            elif turn.acknowledged < number:
                is_known = False
        return is_known

    def _heirs(self, topic: str) -> Iterator[tuple[str, str]]:
        """Who has to have what before the topic may be let go: line and topic."""
        if desired := self._desired.get(topic):
            yield from ((line, topic) for line in desired)
        elif is_wildcard(topic):
            yield from ((line, one) for one in self._singles[topic] for line in self._desired.get(one, _NOBODY))
        else:
            whole = whole_channel(topic)
            yield from ((line, whole) for line in self._desired.get(whole, _NOBODY))

    def _is_taken_over(self, topic: str, turn: _Turn) -> bool:
        return all(turn.confirmed(line, heir) for line, heir in self._heirs(topic))

    # --- a wildcard in the place of single topics, or the other way round

    def _instead_of(self, topic: str, line: str) -> list[str]:
        """What *line* would have to let go in the same moment in which it takes the topic."""
        if is_wildcard(topic):
            return [one for one in self._singles[topic] if line in self.carriers.get(one, _NOBODY)]
        whole = whole_channel(topic)
        return [whole] if line in self.carriers.get(whole, _NOBODY) else []

    def _exchange(self, topic: str, line: str, turn: _Turn) -> None:
        """Have *line* carry the channel in the other way, if all that is wanted of it is carried meanwhile."""
        whole = whole_channel(topic)
        if (whole, line) in turn.tried:
            return  # it is the same for all single topics
        turn.tried.add((whole, line))
        leaving = self._instead_of(topic, line)
        if topic == whole:
            coming, concerned = [topic], leaving
        else:
            concerned = [one for one in (whole, *sorted(self._singles[whole])) if self._desired.get(one)]
            coming = [one for one in concerned if line in self._desired[one]]
        bare = [one for one in concerned if not self._is_carried_beside(one, line, turn)]
        if any(line in self._desired.get(one, _NOBODY) for one in leaving):
            return  # it has to be let go elsewhere first
        if line in turn.up and bare and (whole not in self._helpless or not set(bare) <= {*leaving, *coming}):
            return
        known = [self._is_covered(one, frozenset([line]), turn) for one in coming]
        if not all(known):
            return
        exposed = [one for one in bare if turn.confirmed(line, self.lines_of(one).get(line, one))]
        for one in leaving:
            self._carry(one, self.carriers[one] - {line})
            self._uncover_later(one, turn)
        for one in coming:
            self._carry(one, self.carriers.get(one, _NOBODY) | {line})
            self._moves.setdefault(one, _Move()).told_at = turn.now
        for one in (*leaving, *coming):
            self.stuck.pop(one, None)
        turn.lines.add(line)
        if exposed:
            turn.exposed[line] += exposed

    def _is_carried_beside(self, topic: str, line: str, turn: _Turn) -> bool:
        others = self.lines_of(topic).items()
        return any(other != line and other in turn.up and turn.confirmed(other, by) for other, by in others)

    # --- bookkeeping

    def _carry(self, topic: str, lines: frozenset[str]) -> set[str]:
        """From here on *lines* carry the topic; those for which that is new or over."""
        before = self.carriers.get(topic, _NOBODY)
        for line in before - lines:
            self._of_line[line].discard(topic)
        for line in lines - before:
            self._of_line[line].add(topic)
        if lines:
            self.carriers[topic] = lines
        else:
            self.carriers.pop(topic, None)
        return set(before ^ lines)

    def _give_up(self, topic: str, late: Collection[str], old: frozenset[str]) -> None:
        where, there = ", ".join(sorted(set(late))), ", ".join(sorted(old))
        self.stuck[topic] = f"{where} did not confirm it within {CONFIRM_S:.0f} s; it stays on {there}"


def _grouped(covers: Mapping[str, tuple[frozenset[str], frozenset[str]]]) -> list[Cover]:
    found: defaultdict[tuple[frozenset[str], frozenset[str]], list[str]] = defaultdict(list)
    for topic, lines in covers.items():
        found[lines].append(topic)
    return [Cover(topics, *lines) for lines, topics in found.items()]
