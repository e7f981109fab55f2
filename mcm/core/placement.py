"""From the lines that carry a topic to those that are to carry it, without a moment in which nobody does.

    1. cover: the router is told that both lines carry the topic, and has said that it knows
    2. the new line is told to carry it
    3. the new line has it confirmed (an acknowledgement or a tick)      a time-out: the topic stays where it was
    4. the old line is told to let it go
    5. a minute later nothing of the old line can be under way any more: uncover

An old line that is down holds nothing up: steps 3 and 4 fall together.  A topic that nobody carries yet begins at 2.
Decisions only: what has to be said to whom comes out as values.  Times are monotonic seconds.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

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
    """What to say now: covers to the router, and to each of these lines what it carries from here on."""

    covers: list[Cover]
    lines: set[str]


@dataclass
class _Move:
    """A topic on its way, or one whose cover has to end."""

    told_at: float | None = None
    uncover_at: float | None = None


@dataclass
class Placement:
    """Who carries what, and what is on its way.

    Attributes:
        carriers: topic → lines that are told to carry it.
        stuck: topic → why it could not be moved to where the plan wants it; it stays where it was.
    """

    carriers: dict[str, frozenset[str]] = field(default_factory=dict)
    stuck: dict[str, str] = field(default_factory=dict)
    _of_line: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _desired: dict[str, frozenset[str]] = field(default_factory=dict)
    _cover: dict[str, tuple[frozenset[str], int]] = field(default_factory=dict)  # lines, number of the message
    _moves: dict[str, _Move] = field(default_factory=dict)

    def desire(self, plan: Mapping[str, Collection[str]]) -> None:
        """The lines that are to carry each topic; topics that are left out are given up."""
        desired = {topic: frozenset(lines) for topic, lines in plan.items()}
        self.stuck.clear()
        for topic in desired.keys() | self.carriers.keys():
            if desired.get(topic, _NOBODY) != self.carriers.get(topic, _NOBODY):
                move = self._moves.setdefault(topic, _Move())
                move.told_at = None
        self._desired = desired

    def of_line(self, line: str) -> set[str]:
        """The topics that *line* carries; not to be changed."""
        return self._of_line[line]

    @property
    def covers(self) -> list[Cover]:
        """Every cover in force, for a router that has forgotten; without what it knew before."""
        found: defaultdict[frozenset[str], list[str]] = defaultdict(list)
        for topic, (lines, _) in self._cover.items():
            found[lines].append(topic)
        return [Cover(topics, lines, _NOBODY) for lines, topics in found.items()]

    @property
    def is_moving(self) -> bool:
        """Whether some topic is not where it is to be, and not stuck."""
        return any(self._is_under_way(topic) for topic in self._moves)

    def _is_under_way(self, topic: str) -> bool:
        return topic not in self.stuck and self._desired.get(topic, _NOBODY) != self.carriers.get(topic, _NOBODY)

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
        covers: defaultdict[tuple[frozenset[str], frozenset[str]], list[str]] = defaultdict(list)
        lines: set[str] = set()
        for topic, move in list(self._moves.items()):
            carriers, desired = self.carriers.get(topic, _NOBODY), self._desired.get(topic, _NOBODY)
            if topic in self.stuck:
                continue
            if desired - carriers:
                both = carriers | desired
                covered, number = self._cover.get(topic, (_NOBODY, 0))
                if len(both) > 1 and not covered >= both:
                    covers[both, frozenset(line for line in carriers if confirmed(line, topic))].append(topic)
                    self._cover[topic] = both, sent
                elif len(both) == 1 or acknowledged >= number:
                    lines |= self._carry(topic, both)
                    move.told_at = now
            elif old := carriers - desired:
                living = [line for line in old if line in up]
                if not living or all(confirmed(line, topic) for line in desired):
                    lines |= self._carry(topic, desired) | old
                    move.uncover_at = now + UNCOVER_S
                elif move.told_at is not None and now - move.told_at > CONFIRM_S:
                    self._give_up(topic, frozenset(living), desired)
                    lines |= self._carry(topic, frozenset(living)) | desired
            elif move.uncover_at is None and len(carriers) > 1:
                del self._moves[topic]  # copies stay covered
            elif topic not in self._cover:
                del self._moves[topic]
            elif now >= (move.uncover_at or 0.0):
                if len(carriers) > 1:
                    self._cover[topic] = carriers, sent
                    covers[carriers, carriers].append(topic)
                else:
                    del self._cover[topic]
                    covers[carriers, _NOBODY].append(topic)
                del self._moves[topic]
        return Changes([Cover(topics, *key) for key, topics in covers.items()], lines)

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

    def _give_up(self, topic: str, old: frozenset[str], new: frozenset[str]) -> None:
        where, there = ", ".join(sorted(new)), ", ".join(sorted(old))
        self.stuck[topic] = f"{where} did not confirm it within {CONFIRM_S:.0f} s; it stays on {there}"
