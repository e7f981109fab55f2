"""What is carried by whom, carried out: the plan of core.assignment over the moves of core.placement, and the gaps.

Speaks to the router through the herald, and to the workers through *tell*.
"""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from mcm.core import assignment
from mcm.core.assignment import Difference, Plan, Wish
from mcm.core.control import BatchesLost
from mcm.core.gaps import GapClosed, GapRecord, GapRepaired, Gaps
from mcm.core.notices import CoverChange, LineMark
from mcm.core.placement import TOPICS_PER_COVER, Cover, Placement
from mcm.core.rebalancing import Shift, rebalance
from mcm.core.settings import Connection
from mcm.core.status import Moved, TopicStatus
from mcm.core.topics import is_wildcard, whole_channel
from mcm.herald import Herald

__all__ = ["Carrying", "Safety"]

log = logging.getLogger("mcm.supervisor")

GAPS_REMEMBERED = 200
MOVES_REMEMBERED = 10_000
EXPOSED = "it changes between the whole channel and single symbols, and no other line can stand in"
LEFT_NS = 200 * 10**9  # longer than any line is silent before it is known to be dead
UNDER_WAY_NS = 10**9  # what was read last may have been on its way so long, and what followed it is missing


class Safety(NamedTuple):
    """Whether positions can be trusted to a topic now, and if not why."""

    is_safe: bool
    reason: str


def _topics(record: GapRecord) -> Collection[str]:
    return [record.topic] if isinstance(record, GapRepaired) else record.topics


class Carrying:
    """All topics of all lines.

    Args:
        herald: to the router and to everybody.
        tell: called with a line that carries something else from here on: see :meth:`items_of`.
        closed: called with every gap, or part of one, that is closed, and its rank: 0 for watchlists with a tier.

    Attributes:
        home: where everything lives when all connections are up; plan: what each is to carry now.
        rates: topic → ticks per second, as measured.
        gaps: those that are open; recent: the newest records of them all.
        moves: the newest changes of the plan.
    """

    def __init__(
        self, herald: Herald, *, tell: Callable[[str], None], closed: Callable[[GapClosed, int], None]
    ) -> None:
        self._herald, self._tell, self._closed = herald, tell, closed
        self._connections: Sequence[Connection] = ()
        self._wishes: dict[str, Wish] = {}
        self._strategy = ""
        self._markets: dict[str, str] = {}  # also of lines that are no more
        self._confirmed: defaultdict[str, dict[str, int]] = defaultdict(dict)  # line → topic → since when
        self._earlier: defaultdict[str, dict[str, int]] = defaultdict(dict)  # the same before the newest list
        self._left: defaultdict[str, dict[str, int]] = defaultdict(dict)  # line → topic let go of late → when
        self.home = self.plan = assignment.Plan({}, {})
        self.placement = Placement()
        self.rates: dict[str, float] = {}
        self._measured: set[str] = set()  # lines
        self.gaps = Gaps(f"{time.time_ns() // 1_000_000_000:x}")
        self.recent: deque[GapRecord] = deque(maxlen=GAPS_REMEMBERED)
        self.moves: deque[Moved] = deque(maxlen=MOVES_REMEMBERED)

    # --- the plan

    def want(self, connections: Sequence[Connection], wanted: Sequence[Wish], strategy: str) -> None:
        """These connections are to carry this, whatever happened to be wanted before; :meth:`replan` follows."""
        self._connections, self._strategy = connections, strategy
        self._wishes = {wish.topic: wish for wish in wanted}
        self._markets |= {connection.name: connection.market for connection in connections}
        self.home = self.homes(connections, wanted, strategy)

    def homes(self, connections: Sequence[Connection], wanted: Sequence[Wish], strategy: str) -> Plan:
        """Where everything would live then; what lives somewhere already stays, as far as it may."""
        return assignment.homes(connections, wanted, strategy=strategy, previous=self.home, rates=self.rates)

    def replan(self, available: Collection[str], why: str) -> None:
        """Plan anew for the lines that may carry something."""
        before = self.plan
        self.plan = self.folded(self.home, available)
        for topic, (source, target) in assignment.difference(before, self.plan, self._markets).moved.items():
            self.moves.append(Moved(time.time_ns(), topic, source, target, why))
        desired: defaultdict[str, list[str]] = defaultdict(list)
        for line, items in self.plan.carries.items():
            for item in items:
                desired[f"{self._markets[line]}.{item}"].append(line)
        stand_ins: defaultdict[str, list[str]] = defaultdict(list)
        for connection in self._connections:
            if connection.name in available and connection.max_symbols is None:
                stand_ins[connection.market].append(connection.name)
        self.placement.desire(desired, stand_ins)
        self._pass_on_gaps()

    def _pass_on_gaps(self) -> None:
        """What nobody wants any more is in no gap; of a channel, its topics that are wanted still are."""
        for gap in list(self.gaps.open.values()):
            topics = [topic for topic in self._wished(gap.topics) if topic not in gap.topics]
            missing = [topic for topic, from_ns in self._beside("", topics).items() if from_ns is None]
            self._note(self.gaps.line_ended(gap.connection, missing, since_ns=gap.since_ns, reason=gap.reason))
        self._note(self.gaps.unwanted(self._wishes, until_ns=time.time_ns()))

    def folded(self, home: Plan, available: Collection[str]) -> Plan:
        """What each line carries where only these are available."""
        wanted = list(self._wishes.values())
        return assignment.fold(
            home, self._connections, wanted, available=available, previous=self.plan, rates=self.rates
        )

    def difference(self, other: Plan, connections: Sequence[Connection] = ()) -> Difference:
        """From the present homes to those of another plan."""
        markets = self._markets | {connection.name: connection.market for connection in connections}
        return assignment.difference(self.home, other, markets)

    def measured(self, line: str, per_s: Mapping[str, float]) -> None:
        """The worker of *line* has told how much these items tick."""
        self._measured.add(line)
        self.rates |= {f"{self._markets[line]}.{item}": rate for item, rate in per_s.items()}

    @property
    def unmeasured(self) -> list[str]:
        """Lines that carry something and have not told how much of it ticks."""
        return [line for line, items in self.plan.carries.items() if items and line not in self._measured]

    def rebalanced(self, markets: Collection[str], threshold: float) -> tuple[Plan, list[Shift]]:
        """Other homes by which no line of these markets is much busier than the others, and the steps to them."""
        lines = [connection for connection in self._connections if connection.market in markets]
        wanted = [wish for wish in self._wishes.values() if wish.market in markets]
        return rebalance(self.home, lines, wanted, self.rates, threshold=threshold)

    def copies(self, market: str) -> int:
        """The most lines that a topic of *market* is wanted on, at least one."""
        return max((wish.copies for wish in self._wishes.values() if wish.market == market), default=1)

    @property
    def wishes(self) -> Mapping[str, Wish]:
        """Topic → what is wanted of it."""
        return self._wishes

    def items_of(self, line: str) -> set[str]:
        """What *line* is to carry at present."""
        return {topic.partition(".")[2] for topic in self.placement.of_line(line)}

    # --- what happens

    def confirmed(self, line: str, items: Iterable[str], *, is_new_list: bool) -> None:
        """The upstream has confirmed these items on *line*."""
        topics = {f"{self._markets[line]}.{item}" for item in items} & self.placement.of_line(line)
        if is_new_list:
            self._earlier[line], self._confirmed[line] = self._confirmed[line], {}
        now_ns, earlier = time.time_ns(), self._earlier[line]
        for topic in topics:
            self._confirmed[line].setdefault(topic, earlier.get(topic, now_ns))
        if topics:
            self._note(self.gaps.carried(line, topics, until_ns=now_ns))

    def line_ended(
        self, line: str, reason: str, *, since_ns: int, is_dead: bool = False, was_asked: bool = False
    ) -> None:
        """*line* receives nothing since *since_ns*; if its process *is_dead*, somebody else has to tell the router.

        Where another line has taken over since then, the time until that is a gap as well: also of topics that this
        one has let go meanwhile, being dead without anybody's knowledge.  One that *was_asked* to end had read all.
        """
        since_ns -= UNDER_WAY_NS
        told_again = self._earlier.pop(line, {}).keys() & self.placement.of_line(line)  # or about to be
        confirmed = {*self._confirmed.pop(line, {}), *told_again}
        left = {
            topic: at_ns
            for topic, at_ns in self._left.pop(line, {}).items()
            if at_ns > since_ns and topic not in confirmed and not was_asked
        }
        beside = self._beside(line, self._wished({*confirmed, *left}))
        alone = [topic for topic, from_ns in beside.items() if from_ns is None and topic not in left]
        self._note(self.gaps.line_ended(line, alone, since_ns=since_ns, reason=reason))
        late = {topic: from_ns for topic, from_ns in beside.items() if from_ns is not None and from_ns > since_ns}
        gone = {topic: left[topic] for topic, from_ns in beside.items() if from_ns is None and topic in left}
        for missed, how in ((late, "other line"), (gone, "let go")) if not was_asked else ():
            if missed:
                until_ns = max(missed.values())
                self._note(self.gaps.lost(line, missed, since_ns=since_ns, until_ns=until_ns, reason=reason, how=how))
        if is_dead:
            self._herald.say(control=[LineMark(line)])

    def batches_lost(self, lost: BatchesLost) -> None:
        """What a line had read is in no file, and never reached the router."""
        line = lost.connection
        topics = {f"{self._markets[line]}.{item}" for item in self.items_of(line)} if line in self._markets else set()
        since_ns = lost.since_ns or lost.until_ns - UNDER_WAY_NS
        reason = f"{lost.batches:,} batches of its link are in no file"
        beside = self._beside(line, topics)
        alone = [topic for topic, from_ns in beside.items() if from_ns is None or from_ns > since_ns]
        self._note(self.gaps.lost(line, alone, since_ns=since_ns, until_ns=lost.until_ns, reason=reason))

    def _wished(self, topics: Iterable[str]) -> list[str]:
        """These, but in the place of a channel that nobody wants as a whole any more its topics that somebody wants."""
        found: list[str] = []
        for topic in topics:
            if topic in self._wishes or not is_wildcard(topic):
                found.append(topic)
            else:
                found += [one for one in self._wishes if whole_channel(one) == topic]
        return found

    def _beside(self, line: str, topics: Collection[str]) -> dict[str, int | None]:
        """Topic → since when another line has confirmed it, by itself or as a channel; None where none has."""
        others = [confirmed for name, confirmed in self._confirmed.items() if name != line]
        found: dict[str, int | None] = {}
        for topic in topics:
            names = {topic, whole_channel(topic)}
            found[topic] = min((of[name] for of in others for name in names if name in of), default=None)
        return found

    def unwatched(self, since_ns: int) -> None:
        """Mcm itself was killed at *since_ns*: until the lines are back, everything is missing."""
        for line, items in self.plan.carries.items():
            topics = [f"{self._markets[line]}.{item}" for item in items]
            reason = "mcm was killed"
            self._note(self.gaps.line_ended(line, topics, since_ns=since_ns, reason=reason))

    def router_started(self) -> None:
        """A router that lost its journal has forgotten what is covered."""
        self._cover(self.placement.covers)

    def turn(self, now: float, up: Collection[str]) -> None:
        """Take the next steps of every move."""
        herald = self._herald
        changes = self.placement.turn(
            now,
            up=up,
            confirmed=lambda line, topic: topic in self._confirmed[line],
            sent=herald.next_number,
            acknowledged=herald.acknowledged,
        )
        self._cover(changes.covers)
        for line in sorted(changes.lines):
            held, confirmed = self.placement.of_line(line), self._confirmed[line]
            self._forget(line, confirmed.keys() - held)
            self._tell(line)
        since_ns = time.time_ns() - UNDER_WAY_NS
        for line, topics in changes.exposed.items():
            self._note(self.gaps.line_ended(line, topics, since_ns=since_ns, reason=EXPOSED))

    def _forget(self, line: str, topics: Collection[str]) -> None:
        """*line* is told to let these go, which does not count any more, unless it turns out to be dead already."""
        now_ns = time.time_ns()
        left = {topic: at_ns for topic, at_ns in self._left[line].items() if now_ns - at_ns < LEFT_NS}
        for topic in topics:
            del self._confirmed[line][topic]
            self._earlier[line].pop(topic, None)
            left[topic] = now_ns
        self._left[line] = left

    def _cover(self, covers: Iterable[Cover]) -> None:
        notices = [
            CoverChange(topics[start : start + TOPICS_PER_COVER], sorted(lines), sorted(carried_by))
            for topics, lines, carried_by in covers
            for start in range(0, len(topics), TOPICS_PER_COVER)
        ]
        self._herald.say(control=notices)

    def _note(self, records: list[GapRecord]) -> None:
        self.recent.extend(records)
        self._herald.say(gaps=records)
        for record in records:
            if isinstance(record, GapClosed):
                self._closed(record, 0 if any(self._has_tier(topic) for topic in record.topics) else 1)
            topics = list(_topics(record))
            log.info("%s %s: %d topics of %s", type(record).__name__, record.id, len(topics), ", ".join(topics[:3]))

    def _has_tier(self, topic: str) -> bool:
        return topic in self._wishes and self._wishes[topic].tier is not None

    # --- what it looks like

    def why(self, topic: str) -> TopicStatus:
        """Everything about one topic: who carries it, since when, and why."""
        gap, wish = self.gaps.gap_of(topic), self._wishes.get(topic)
        carriers = sorted(self.placement.lines_of(topic).items())
        return TopicStatus(
            topic=topic,
            is_wanted=wish is not None,
            copies=wish.copies if wish is not None else 0,
            tier=wish.tier if wish is not None else None,
            pinned_to=wish.connection if wish is not None else None,
            home=sorted(self._lines_of(self.home, topic)),
            carried_by={line: self._confirmed[line].get(by) for line, by in carriers},
            ticks_per_s=self.rates.get(topic),
            strategy=self._strategy,
            trouble=self.placement.stuck.get(topic)
            or self.plan.unplaced.get(topic)
            or self.plan.short.get(topic)
            or "",
            gap_since_ns=gap.since_ns if gap is not None else None,
            moves=[move for move in self.moves if move.topic == topic],
            gaps=[record for record in self.recent if topic in _topics(record)],
        )

    def _lines_of(self, plan: Plan, topic: str) -> list[str]:
        market, _, item = topic.partition(".")
        found = {item, whole_channel(topic).partition(".")[2]}
        return [
            line
            for line, items in plan.carries.items()
            if self._markets[line] == market and not found.isdisjoint(items)
        ]

    def safety(self, topic: str, live: Collection[str]) -> Safety:
        """Whether *topic* is carried by a *live* line, confirmed there, and in no open gap."""
        carriers = self.placement.lines_of(topic)
        is_carried = any(by in self._confirmed[line] and line in live for line, by in carriers.items())
        gap = self.gaps.gap_of(topic)
        if gap is not None and (topic in gap.topics or not is_carried):  # a copy goes on where its channel is missing
            since = time.strftime("%H:%M:%S", time.localtime(gap.since_ns / 1e9))
            return Safety(False, f"missing since {since}: {gap.connection}, {gap.reason}")
        if not carriers:
            return Safety(False, self.plan.unplaced.get(topic, "nobody carries it"))
        confirmed = [line for line, by in carriers.items() if by in self._confirmed[line]]
        if not confirmed:
            return Safety(False, f"{', '.join(sorted(carriers))} has not confirmed it")
        if not any(line in live for line in confirmed):
            return Safety(False, f"{', '.join(sorted(confirmed))} is not live")
        return Safety(True, f"live on {', '.join(sorted(confirmed))}")
