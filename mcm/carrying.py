"""What is carried by whom, carried out: the plan of core.assignment over the moves of core.placement, and the gaps.

Speaks to the router through the herald, and to the workers through *tell*.
"""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from mcm.core import assignment
from mcm.core.control import BatchesLost
from mcm.core.gaps import GapClosed, GapRecord, GapRepaired, Gaps
from mcm.core.notices import CoverChange, LineMark
from mcm.core.placement import TOPICS_PER_COVER, Cover, Placement
from mcm.core.settings import Settings
from mcm.core.settings import items as items_of_watchlist
from mcm.herald import Herald

__all__ = ["Carrying", "Safety"]

log = logging.getLogger("mcm.supervisor")

GAPS_REMEMBERED = 200
UNDER_WAY_NS = 10**9  # what was read last may have been on its way so long, and what followed it is missing


class Safety(NamedTuple):
    """Whether positions can be trusted to a topic now, and if not why."""

    is_safe: bool
    reason: str


class Carrying:
    """All topics of all lines.

    Args:
        settings: connections, watchlists, strategy.
        markets: line → market.
        herald: to the router and to everybody.
        tell: called with a line that carries something else from here on: see :meth:`items_of`.
        closed: called with every gap, or part of one, that is closed, and its rank: 0 for watchlists with a tier.

    Attributes:
        plan: what each connection is to carry.
        gaps: those that are open; recent: the newest records of them all.
    """

    def __init__(
        self,
        settings: Settings,
        markets: Mapping[str, str],
        herald: Herald,
        *,
        tell: Callable[[str], None],
        closed: Callable[[GapClosed, int], None],
    ) -> None:
        self._closed = closed
        self._settings, self._markets, self._herald, self._tell = settings, markets, herald, tell
        self._wishes = assignment.wishes(settings)
        self._tiered = {
            f"{watchlist.market}.{item}"
            for watchlist in settings.watchlists
            if watchlist.tier is not None
            for item in items_of_watchlist(watchlist, settings.universes)
        }
        self._confirmed: defaultdict[str, set[str]] = defaultdict(set)  # line → topics
        self.plan = assignment.Plan({}, {})
        self.placement = Placement()
        self.gaps = Gaps(f"{time.time_ns() // 1_000_000_000:x}")
        self.recent: deque[GapRecord] = deque(maxlen=GAPS_REMEMBERED)

    def replan(self, available: Collection[str]) -> None:
        """Plan anew for the lines that may carry something."""
        settings = self._settings
        self.plan = assignment.plan(
            settings.connections, self._wishes, strategy=settings.routing.strategy, available=available
        )
        desired: defaultdict[str, list[str]] = defaultdict(list)
        for line, items in self.plan.carries.items():
            for item in items:
                desired[f"{self._markets[line]}.{item}"].append(line)
        self.placement.desire(desired)

    def copies(self, market: str) -> int:
        """The most lines that a topic of *market* is wanted on, at least one."""
        return max((wish.copies for wish in self._wishes if wish.market == market), default=1)

    def items_of(self, line: str) -> set[str]:
        """What *line* is to carry at present."""
        return {topic.partition(".")[2] for topic in self.placement.of_line(line)}

    # --- what happens

    def confirmed(self, line: str, items: Iterable[str], *, is_new_list: bool) -> None:
        """The upstream has confirmed these items on *line*."""
        topics = {f"{self._markets[line]}.{item}" for item in items}
        if is_new_list:
            self._confirmed[line] = set()
        self._confirmed[line] |= topics
        if topics:
            self._note(self.gaps.carried(line, topics, until_ns=time.time_ns()))

    def line_ended(self, line: str, reason: str, *, since_ns: int, is_dead: bool) -> None:
        """*line* receives nothing since *since_ns*; if its process *is_dead*, somebody else has to tell the router."""
        since_ns -= UNDER_WAY_NS
        topics = self._confirmed.pop(line, set())
        alone = topics - set().union(*self._confirmed.values())
        self._note(self.gaps.line_ended(line, alone, since_ns=since_ns, reason=reason))
        if is_dead:
            self._herald.say(control=[LineMark(line)])

    def batches_lost(self, lost: BatchesLost) -> None:
        """What a line had read is in no file, and never reached the router."""
        line = lost.connection
        others = set().union(*(topics for name, topics in self._confirmed.items() if name != line))
        topics = {f"{self._markets[line]}.{item}" for item in self.items_of(line)} if line in self._markets else set()
        since_ns = lost.since_ns or lost.until_ns - UNDER_WAY_NS
        reason = f"{lost.batches:,} batches of its link are in no file"
        self._note(self.gaps.lost(line, topics - others, since_ns=since_ns, until_ns=lost.until_ns, reason=reason))

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
            self._tell(line)

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
                self._closed(record, 0 if self._tiered.intersection(record.topics) else 1)
            topics = record.topics if not isinstance(record, GapRepaired) else [record.topic]
            log.info("%s %s: %d topics of %s", type(record).__name__, record.id, len(topics), ", ".join(topics[:3]))

    # --- what it looks like

    def safety(self, topic: str, live: Collection[str]) -> Safety:
        """Whether *topic* is carried by a *live* line, confirmed there, and in no open gap."""
        gap = self.gaps.gap_of(topic)
        if gap is not None:
            since = time.strftime("%H:%M:%S", time.localtime(gap.since_ns / 1e9))
            return Safety(False, f"missing since {since}: {gap.connection}, {gap.reason}")
        carriers = self.placement.carriers.get(topic, frozenset())
        if not carriers:
            return Safety(False, self.plan.unplaced.get(topic, "nobody carries it"))
        confirmed = [line for line in carriers if topic in self._confirmed[line]]
        if not confirmed:
            return Safety(False, f"{', '.join(sorted(carriers))} has not confirmed it")
        if not any(line in live for line in confirmed):
            return Safety(False, f"{', '.join(sorted(confirmed))} is not live")
        return Safety(True, f"live on {', '.join(sorted(confirmed))}")
