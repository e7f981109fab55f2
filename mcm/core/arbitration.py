"""Which events of several redundant lines are published: each once, as one perfect connection would have brought it.

Theory, per topic.  The vendor sends a sequence V.  A line brings contiguous **stretches** of it: from its first event
after a join or a gap up to its next gap.  The **log** is what was published in the last WINDOW_NS, numbered.

* A line **in step** has a *place*: the number of the entry that it is to bring next.  An event that is that entry is a
  duplicate, and the place moves on; at the head of the log it is new and is published.  So first arrival wins, and the
  n-th occurrence of an event on one line meets the n-th on the others without any counting: a repeat is an entry of
  its own.  Identity is `==` of bytes, compared slice by slice; nothing is hashed (a digest takes 0.9 µs, all this 0.2).
* What a line in step passes over it **owes**: an event that is not expected is looked for there, and further on in the
  log, before it is published.  This is the plain rule of counting; it holds for lines whose order differs or that lost
  something without a word, and it is what remains where a place was guessed.
* A line that (re)joins has no place yet, and its stretch is **held**.  A *candidate* is a place where stretch and log
  agree as far as both go.  When it is the only one left and RUN events agree, it is proven (**splice**), and what lies
  beyond the head is released.  Contradiction removes candidates, so waiting only makes this surer, and costs nobody
  anything: the line in step brings the same events.
* A topic on which nobody spoke for the window is forgotten: the next line to speak is the first.
* A hold ends without proof when what it *withholds* (what its best candidate does not explain) is HOLD_NS old or too
  much, or when no other line is left to wait for.  Then the rule of counting decides, against everything in the log
  that the line may bring; where nothing of it is in the log, all of it is new, and the log has a *break* there.

**Guaranteed**, as long as no line trails by more than the window, which is the caller's duty (`LineStatistics.lag_ns`):

1. V without repeats: each event that any line brought is published exactly once, whatever the lines do, be it that
   they lose something without a word.
2. V with repeats, but no RUN events in a row twice within the window: exactly V, in its order, wherever a line brought
   it, if every splice completes: each stretch begins no earlier in V than the log; some line in step goes on until
   RUN events agree (one event, where V has no repeats); and no hold runs out.
3. The same V, without any such condition on splices: beside one line without a gap each event is published exactly as
   often as the vendor sent it, wherever the others drop out and rejoin.  If that line spoke first, for every V.

Order, not number, is given up where a hold runs out, that is behind a line that is silent or trails by more than
HOLD_NS; and for the head of a stretch that began before the log but spoke later.  **Impossible** is to tell a repeat of
what a dead line brought from the same event on a line that joins just there: with no proof it counts as the same.
"""

from bisect import bisect_left
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice

import msgspec

from mcm.core.cover import Cover, CoverRecord

__all__ = [
    "FRESH",
    "HELD",
    "HOLD_NS",
    "MAX_HELD_BYTES",
    "MAX_LOG_BYTES",
    "RUN",
    "WINDOW_NS",
    "Arbiter",
    "LineStatistics",
    "Publication",
    "Verdict",
    "topics_in",
]

WINDOW_NS = 30_000_000_000
HOLD_NS = 1_000_000_000
# Vendors repeat an event, or a frame of two, at once; the same three in a row are a place.
RUN = 3
# Beyond it the oldest entries leave the window early: a line that trails further then publishes twice.
MAX_LOG_BYTES = 16 * 2**20
# Beyond it a stretch is not held any longer, as if HOLD_NS had passed.
MAX_HELD_BYTES = 4 * 2**20
# A stretch that the log explains in several ways for so long is periodic: the earliest is as good as any.
_PERIODIC = 64
# Stamps of a feed may trail the time told to due() by this much.
_LATENESS_NS = WINDOW_NS

# Codes of a trace; every other one is the number of the log entry that was met again.
FRESH, HELD = -1, -2


class LineStatistics(msgspec.Struct):
    """What one line was worth on the covered topics, since this process started; not part of a snapshot.

    Attributes:
        first: events it brought before any other line, and which were published.
        duplicates: events that had been published before it brought them.
        behind_ns, behind_max_ns: by how much it was later than the first with those duplicates, sum and maximum.
        lag_ns: by how much it was at its last word; a line above 20 s is to be closed, before the window ends.
        missed: published events that it did not bring.
        held: events that were kept until its place was known.
        splices: places found by proof, and
        guesses: places taken without one.
    """

    first: int = 0
    duplicates: int = 0
    behind_ns: int = 0
    behind_max_ns: int = 0
    lag_ns: int = 0
    missed: int = 0
    held: int = 0
    splices: int = 0
    guesses: int = 0


class Publication(msgspec.Struct, gc=False):
    """Events of one topic to publish now, in this order.

    Attributes:
        stamp_ns: of the batch that brought them.
        released: they were held before, so they are no part of the batch that is being fed.
    """

    topic: bytes
    line: str
    stamp_ns: int
    events: list[bytes]
    released: bool


class Verdict(msgspec.Struct, gc=False):
    """What became of the events that were fed, and of those held before.

    Of a feed, ``fresh + duplicates + held`` are its events.  Every held event ends as released or as dropped.

    Attributes:
        duplicates: events fed that are published already.
        held: events fed that are kept for now.
        dropped: events held before that turned out to be published already.
        trace: how the events fed follow each other, in runs of (code, length): FRESH, HELD, or the number of the
            first log entry that was met again.  With it, the fresh and the held events, ``refeed`` repeats the feed.
    """

    published: list[Publication] = []
    duplicates: int = 0
    held: int = 0
    dropped: int = 0
    trace: list[tuple[int, int]] = []

    def note(self, code: int, length: int = 1) -> None:
        """Go on with the trace."""
        if self.trace:
            last, before = self.trace[-1]
            if last == code < 0 or (last >= 0 and last + before == code):
                self.trace[-1] = (last, before + length)
                return
        self.trace.append((code, length))


@dataclass(slots=True, eq=False)
class _Line:
    """A line over all topics; *life* counts its gaps, so that a gap need not visit the topics."""

    life: int = 0
    statistics: LineStatistics = field(default_factory=LineStatistics)


@dataclass(slots=True, eq=False)
class _Step:
    """A line that is in step on a topic.

    Attributes:
        place: number of the log entry that it is to bring next.
        since: its first place; what it owes from there on counts as missed.
        owed: event → numbers of the entries before *place* that it has not brought, but may.
        owed_end: beyond the last of them; *owed_size*: how many they were when last counted, or more.
    """

    line: _Line
    life: int
    place: int
    since: int
    owed: dict[bytes, list[int]] = field(default_factory=dict)
    owed_end: int = 0
    owed_size: int = 0

    def owe(self, entries: Iterable[bytes], first: int) -> None:
        for number, event in enumerate(entries, first):
            self.owed.setdefault(event, []).append(number)
            self.owed_end = max(self.owed_end, number + 1)
            self.owed_size += 1

    def forgive(self, base: int) -> None:
        """Forget what has left the window."""
        kept = {event: [number for number in numbers if number >= base] for event, numbers in self.owed.items()}
        self.owed = {event: numbers for event, numbers in kept.items() if numbers}
        self.owed_size = sum(map(len, self.owed.values()))

    def repay(self, event: bytes, base: int) -> int | None:
        """The number of the oldest entry in the window that was owed and is *event*."""
        if self.owed_end <= base:
            self.owed.clear()
        for number in (numbers := self.owed.get(event, [])):
            if number >= base:
                numbers[:] = numbers[numbers.index(number) + 1 :]
                if not numbers:
                    del self.owed[event]
                return number
        return None

    def unbrought(self, base: int) -> int:
        """The first entry that it may still bring."""
        owed = [number for numbers in self.owed.values() for number in numbers if number >= base]
        return min([self.place, *owed])


@dataclass(slots=True, eq=False)
class _Stretch:
    """What a line brought since it (re)joined, while its place is not known.

    Attributes:
        floor: its place is not before this number.
        is_open: the line may go on with it; False after its next gap.
        candidates: numbers that its first event may have; below zero: it began before the log did (see ``_Topic.cut``).
    """

    name: str
    floor: int
    is_open: bool = True
    size: int = 0
    events: list[bytes] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    candidates: list[int] = field(default_factory=list)

    def agreement(self, candidate: int, head: int) -> int:
        """How many events it would share with a log of this *head*."""
        return min(head, candidate + len(self.events)) - max(candidate, 0)

    def best(self, head: int) -> int:
        """The one with the longest agreement, the earliest of equals."""
        return min(self.candidates, key=lambda one: (-self.agreement(one, head), one))


class _Left(msgspec.Struct, array_like=True):
    """Where a line was when it fell out of step: its place, and the first entry that it may still bring."""

    place: int
    unbrought: int


class _Topic:
    """The log of one covered topic and where each line is on it.

    Attributes:
        log, stamps: the entries and, never falling, when they came; the first is number *origin*.
        base: number of the first entry in the window; those before it are only not deleted yet.
        clock: the latest stamp fed.
        breaks: numbers where parts of the log begin; each part is contiguous in V, as far as is known.
        cut: the lines in step published what comes before the only part without being arbitrated.
        wake: the time for which this topic is on the agenda.
    """

    def __init__(self, name: bytes, lines: dict[str, _Line], clock: int) -> None:
        self.name, self.lines, self.clock = name, lines, clock
        self.log: list[bytes] = []
        self.stamps: list[int] = []
        self.origin = self.base = self.size = 0
        self.breaks = [0]
        self.cut = False
        self.steps: dict[str, _Step] = {}
        self.left: dict[str, _Left] = {}
        self.stretches: list[_Stretch] = []
        self.wake: int | None = None

    @property
    def head(self) -> int:
        """The number that the next entry gets."""
        return self.origin + len(self.log)

    # --- feeding ---

    def feed(self, name: str, events: list[bytes], stamp: int) -> Verdict:
        early = self._advance(stamp) if stamp > self.clock else None
        if early is None and not self.stretches and (verdict := self._feed_in_step(name, events, stamp)) is not None:
            return verdict
        verdict = early or Verdict()
        for event in events:
            self._feed_one(name, event, stamp, verdict)
        return verdict

    def _feed_in_step(self, name: str, events: list[bytes], stamp: int) -> Verdict | None:
        """The way of nearly all events, short because it is: the next entries again, then new ones, and nobody held."""
        step = self.steps.get(name)
        if step is None or step.life != step.line.life or step.place < self.base:
            return None
        place, length = step.place, len(events)
        at = place - self.origin
        known = self.log[at : at + length]
        met = len(known)
        if met == length:
            if known != events:
                return None
            step.place = place + length
            self._count(step.line.statistics, self.stamps[at : at + length], stamp)
            return Verdict([], length, 0, 0, [(place, length)])
        if met:
            if known != events[:met]:
                return None
            new = events[met:]
        else:
            new = events.copy()
        if step.owed and not step.owed.keys().isdisjoint(new):
            return None
        trace = [(FRESH, length - met)]
        if met:
            self._count(step.line.statistics, self.stamps[at : at + met], stamp)
            trace.insert(0, (place, met))
        step.place = place + length
        self.log += new
        self.stamps += [self.clock] * (length - met)
        self.size += sum(map(len, new))
        statistics = step.line.statistics
        statistics.first += length - met
        statistics.lag_ns = 0
        return Verdict([Publication(self.name, name, stamp, new, False)], met, 0, 0, trace)

    def _met(self, step: _Step, stamp: int, verdict: Verdict) -> None:
        """The next entry was brought once more, as expected."""
        self._met_again(step, step.place, stamp, verdict)
        step.place += 1

    def _met_again(self, step: _Step, number: int, stamp: int, verdict: Verdict) -> None:
        at = number - self.origin
        verdict.note(number)
        verdict.duplicates += 1
        self._count(step.line.statistics, self.stamps[at : at + 1], stamp)

    def _count(self, statistics: LineStatistics, firsts: list[int], stamp: int) -> None:
        # Stamps are taken by the workers: what came later through the router may have been read first, and is no lead.
        length = len(firsts)
        statistics.duplicates += length
        if (behind := stamp - firsts[0]) > 0:
            statistics.behind_ns += length * stamp - sum(firsts) if length > 1 else behind
            statistics.behind_max_ns = max(statistics.behind_max_ns, behind)
        statistics.lag_ns = max(stamp - firsts[-1], 0)

    def _feed_one(self, name: str, event: bytes, stamp: int, verdict: Verdict) -> None:
        step = self.steps.get(name)
        if step is not None and step.life != step.line.life:
            self._leave(name)
            step = None
        if step is None and self._leads(name, event):
            step = self.steps[name] = self._enter(name, self.head, self.head)
            if self._has_break(first := self._floor(name)):  # then the line may be before what is in the log
                step.owe(self.log[first - self.origin :], first)
            self._break()
        if step is not None:
            self._step(name, step, event, stamp, verdict)
            return
        self._hold(name, event, stamp)
        verdict.note(HELD)
        verdict.held += 1
        self.settle(verdict)

    def _leave(self, name: str) -> None:
        step = self.steps.pop(name)
        self.left[name] = _Left(step.place, step.unbrought(self.base))

    def _leads(self, name: str, event: bytes) -> bool:
        """May a line that was silent so far go on alone from here?"""
        return (
            not any(one.name == name for one in self.stretches)
            and not self._is_awaited(None)
            and self._find(event, self._floor(name)) is None
        )

    def _floor(self, name: str) -> int:
        """The first number in the window that a line not in step may still bring."""
        left = self.left.get(name)
        return max(left.unbrought, self.base) if left else self.base

    def _expected(self, step: _Step, event: bytes) -> bool:
        at = step.place - self.origin
        return at < len(self.log) and self.log[at] == event

    def _step(self, name: str, step: _Step, event: bytes, stamp: int, verdict: Verdict) -> None:
        """An event of a line in step, whatever it is."""
        if step.place < self.base:
            step.line.statistics.missed += self.base - step.place
            step.place = self.base
        if self._expected(step, event):
            self._met(step, stamp, verdict)
        elif (number := step.repay(event, self.base)) is not None:
            step.line.statistics.missed -= number >= step.since
            self._met_again(step, number, stamp, verdict)
        elif (number := self._find(event, step.place)) is not None:
            self._pass_over(step, number)
            self._met(step, stamp, verdict)
        else:
            verdict.note(FRESH)
            self._publish(step, name, event, stamp, verdict, released=False)
            self.settle(verdict)

    def _find(self, event: bytes, first: int) -> int | None:
        try:
            return self.log.index(event, first - self.origin) + self.origin
        except ValueError:
            return None

    def _pass_over(self, step: _Step, until: int) -> None:
        step.owe(self.log[step.place - self.origin : until - self.origin], step.place)
        step.line.statistics.missed += until - step.place
        step.place = until
        if step.owed_size > 2 * len(self.log) + _PERIODIC:
            step.forgive(self.base)

    def _publish(self, step: _Step, name: str, event: bytes, stamp: int, verdict: Verdict, *, released: bool) -> None:
        """Publish what is not in the log; unless the line is at its head, the log is not contiguous there."""
        if step.place < self.head:
            self._pass_over(step, self.head)
            self._break()
        self._append(name, event, stamp, verdict, released=released)
        step.place = self.head

    def _break(self) -> None:
        """The next entry does not follow the last one."""
        self.cut = False
        if not self.breaks or self.breaks[-1] < self.head:
            self.breaks.append(self.head)

    def _append(self, name: str, event: bytes, stamp: int, verdict: Verdict, *, released: bool) -> None:
        number = self.head
        self.log.append(event)
        self.stamps.append(self.clock)
        self.size += len(event)
        statistics = self.lines[name].statistics
        statistics.first += 1
        statistics.lag_ns = 0
        for stretch in self.stretches:
            self._compare(stretch, number, event)
        last = verdict.published[-1] if verdict.published else None
        key = (self.name, name, stamp, released)
        if last is not None and (last.topic, last.line, last.stamp_ns, last.released) == key:
            last.events.append(event)
        else:
            verdict.published.append(Publication(self.name, name, stamp, [event], released))

    # --- holding ---

    def _hold(self, name: str, event: bytes, stamp: int) -> None:
        stretch = next((one for one in self.stretches if one.name == name and one.is_open), None)
        if stretch is None:
            stretch = _Stretch(name, self._floor(name))
            self.stretches.append(stretch)
        at = len(stretch.events)
        stretch.events.append(event)
        stretch.stamps.append(stamp)
        stretch.size += len(event)
        self.lines[name].statistics.held += 1
        if at == 0:
            number = self._find(event, max(stretch.floor, self.base))
            while number is not None:
                stretch.candidates.append(number)
                number = self._find(event, number + 1)
            return
        stretch.candidates = [one for one in stretch.candidates if self._agrees(one + at, event)]
        if self.cut and self.base == 0 < self.head and self.log[0] == event:
            stretch.candidates.append(-at)

    def _agrees(self, number: int, event: bytes) -> bool:
        return not 0 <= number < self.head or self.log[number - self.origin] == event

    def _compare(self, stretch: _Stretch, number: int, event: bytes) -> None:
        """The log has a new entry."""
        events = stretch.events
        stretch.candidates = [
            one for one in stretch.candidates if number - one >= len(events) or events[number - one] == event
        ]
        if number >= stretch.floor and events[0] == event:
            stretch.candidates.append(number)
        if self.cut and number == 0:
            stretch.candidates += [-at for at, held in enumerate(events) if at and held == event]

    def _withheld(self, stretch: _Stretch) -> int | None:
        """Index of the first event that the best candidate does not show to be published."""
        if not stretch.candidates:
            return 0
        beyond = self.head - stretch.best(self.head)
        return beyond if beyond < len(stretch.events) else None

    def deadline(self) -> int | None:
        """When the first of the stretches is concluded, if nothing else happens."""
        ends = [
            stretch.stamps[at] + HOLD_NS for stretch in self.stretches if (at := self._withheld(stretch)) is not None
        ]
        return min(ends, default=None)

    def settle(self, verdict: Verdict) -> None:
        """Splice, conclude and drop what can be; the surest first, for what the others bring perhaps follows it."""
        while self.stretches and any(self._settled(one, verdict) for one in sorted(self.stretches, key=self._doubt)):
            pass

    def _doubt(self, stretch: _Stretch) -> int:
        return -stretch.agreement(stretch.best(self.head), self.head) if stretch.candidates else 0

    def _settled(self, stretch: _Stretch, verdict: Verdict) -> bool:
        withheld = self._withheld(stretch)
        if len(stretch.candidates) == 1:
            (only,) = stretch.candidates
            if self._is_proof(stretch, only):
                self._splice(stretch, only, verdict)
                return True
        if withheld is None:
            if stretch.is_open and len(stretch.events) < _PERIODIC:
                return False
            self._conclude(stretch, verdict)
            return True
        if stretch.size > MAX_HELD_BYTES or not self._is_awaited(stretch):
            self._conclude(stretch, verdict)
            return True
        return False

    def _is_proof(self, stretch: _Stretch, candidate: int) -> bool:
        return stretch.agreement(candidate, self.head) >= RUN

    def _is_awaited(self, stretch: _Stretch | None) -> bool:
        """Will another line perhaps bring what this stretch withholds?"""
        return any(step.life == step.line.life for step in self.steps.values()) or any(
            other is not stretch and other.is_open and other.candidates and self._withheld(other) is None
            for other in self.stretches
        )

    def _splice(self, stretch: _Stretch, candidate: int, verdict: Verdict) -> None:
        """Give a stretch its proven place: drop what is published, publish what is not."""
        self.stretches.remove(stretch)
        length = len(stretch.events)
        met = min(self.head - candidate, length)
        step = self._enter(stretch.name, candidate + met, candidate)
        first = max(stretch.floor, self.base)
        if self._has_break(first + 1):  # then an earlier part of the log may hold what follows the agreement
            step.owe(self.log[first - self.origin : max(candidate - self.origin, 0)], first)
        self._drop(step, met, verdict)
        self._give(stretch, range(met, length), step, verdict, apart=False)
        step.line.statistics.splices += 1
        self._seat(stretch, step)

    def _give(self, stretch: _Stretch, indices: range, step: _Step, verdict: Verdict, *, apart: bool) -> None:
        """Drop those held events that the line owes, publish the others; *apart*: they do not follow the log."""
        for at in indices:
            event = stretch.events[at]
            if step.repay(event, self.base) is not None:
                self._drop(step, 1, verdict)
                continue
            if apart:
                self._break()
                apart = False
            self._publish(step, stretch.name, event, stretch.stamps[at], verdict, released=True)

    def _drop(self, step: _Step, length: int, verdict: Verdict) -> None:
        verdict.dropped += length
        step.line.statistics.duplicates += length

    def _has_break(self, first: int) -> bool:
        """Does a part of the log begin at *first* or later?"""
        return bool(self.breaks) and self.breaks[-1] >= first

    def _enter(self, name: str, place: int, came_at: int) -> _Step:
        line = self.lines[name]
        if (left := self.left.get(name)) is not None:
            line.statistics.missed += max(came_at - left.place, 0)
        return _Step(line, line.life, place, place)

    def _seat(self, stretch: _Stretch, step: _Step) -> None:
        if stretch.is_open:
            self.steps[stretch.name] = step
        else:
            self.left[stretch.name] = _Left(step.place, step.unbrought(self.base))

    def _conclude(self, stretch: _Stretch, verdict: Verdict) -> None:
        """End a hold without waiting for proof."""
        best = stretch.best(self.head) if stretch.candidates else None
        if best is not None and self._is_proof(stretch, best):
            self._splice(stretch, best, verdict)
            return
        self.stretches.remove(stretch)
        step = self._enter(stretch.name, self.head, self.head)
        first, length = max(stretch.floor, self.base), len(stretch.events)
        known = max(-best, 0) if best is not None else 0
        entries = self.log[first - self.origin :]
        if self._has_break(first) or not set(entries).isdisjoint(stretch.events):
            step.owe(entries, first)
        self._drop(step, known, verdict)
        self._give(stretch, range(known, length), step, verdict, apart=True)
        step.line.statistics.guesses += 1
        self._seat(stretch, step)

    def gap(self, name: str, verdict: Verdict) -> None:
        """The line's life has ended: what it holds goes on waiting, but it cannot be waited for."""
        for stretch in self.stretches:
            if stretch.name == name:
                stretch.is_open = False
        self.settle(verdict)

    def rejoin(self, name: str, verdict: Verdict) -> None:
        """The line's life on this topic has ended: its next event is a rejoin."""
        if name in self.steps:
            self._leave(name)
        self.gap(name, verdict)

    def release(self, now: int, verdict: Verdict) -> None:
        """Conclude the stretches that are due."""
        while (end := self.deadline()) is not None and end <= now:
            self._conclude(self._most_due(), verdict)
            self.settle(verdict)

    def _most_due(self) -> _Stretch:
        withheld = [(one, at) for one in self.stretches if (at := self._withheld(one)) is not None]
        return min(withheld, key=lambda pair: pair[0].stamps[pair[1]])[0]

    def release_all(self, verdict: Verdict) -> None:
        while self.stretches:
            self._conclude(self.stretches[0], verdict)

    # --- the window ---

    def _advance(self, stamp: int) -> Verdict | None:
        """Let what is too old, or too much, leave the window; with what that settled, if anything was held."""
        self.clock = stamp
        at = self.base - self.origin
        if at == len(self.log) or (self.stamps[at] >= stamp - WINDOW_NS and self.size <= MAX_LOG_BYTES):
            return None
        verdict = Verdict() if self.stretches else None
        end = self._end_of_window(stamp - WINDOW_NS, at)
        if verdict is not None:
            self._before_base(self.origin + end, verdict)
        self.size -= sum(map(len, self.log[at:end]))
        self.base = self.origin + end
        if self.breaks and self.breaks[0] < self.base:
            del self.breaks[: bisect_left(self.breaks, self.base)]
        if end * 4 >= len(self.log):  # so that an entry is moved three times at most
            del self.log[:end], self.stamps[:end]
            self.origin += end
        return verdict

    def _end_of_window(self, limit: int, at: int) -> int:
        """Index of the first entry that stays, when that at index *at* was the first."""
        end = bisect_left(self.stamps, limit, at)
        size = self.size - sum(map(len, self.log[at:end]))
        while size > MAX_LOG_BYTES:
            size -= len(self.log[end])
            end += 1
        return end

    def _before_base(self, base: int, verdict: Verdict) -> None:
        """End the holds whose explanation is about to leave the window."""
        for stretch in list(self.stretches):
            if not stretch.candidates or max(stretch.best(self.head), 0) >= base:
                stretch.candidates = [one for one in stretch.candidates if max(one, 0) >= base]
            elif len(stretch.candidates) == 1 and not self._has_break(max(stretch.floor, self.base) + 1):
                self._splice(stretch, stretch.candidates[0], verdict)  # nothing contradicted it for so long
            else:
                self._conclude(stretch, verdict)
        self.settle(verdict)

    # --- what outlives a kill ---

    def image(self) -> "_TopicImage":
        at = self.base - self.origin
        steps, left = {}, dict(self.left)
        for name, step in self.steps.items():
            if step.life == step.line.life:
                owed = sorted(number for numbers in step.owed.values() for number in numbers if number >= self.base)
                steps[name] = (step.place, step.since, owed)
            else:
                left[name] = _Left(step.place, step.unbrought(self.base))
        runs = list(Counter(self.stamps[at:]).items())
        stretches = [
            _StretchImage(one.name, one.floor, one.is_open, one.events, one.stamps, one.candidates)
            for one in self.stretches
        ]
        return _TopicImage(
            self.name, self.clock, self.base, self.breaks, self.cut, self.log[at:], runs, steps, left, stretches
        )

    @classmethod
    def from_image(cls, image: "_TopicImage", lines: dict[str, _Line]) -> "_Topic":
        topic = cls(image.name, lines, image.clock)
        topic.log, topic.origin, topic.base = image.log, image.base, image.base
        topic.stamps = [stamp for stamp, count in image.runs for _ in range(count)]
        topic.size, topic.breaks, topic.cut = sum(map(len, image.log)), image.breaks, image.cut
        topic.left = image.left
        for name, (place, since, owed) in image.steps.items():
            line = lines[name]
            step = topic.steps[name] = _Step(line, line.life, place, since)
            for number in owed:
                step.owe([image.log[number - image.base]], number)
        for one in image.stretches:
            size = sum(map(len, one.events))
            topic.stretches.append(
                _Stretch(one.name, one.floor, one.is_open, size, one.events, one.stamps, one.candidates)
            )
        return topic


class _StretchImage(msgspec.Struct, array_like=True):
    """A stretch in a snapshot; see ``_Stretch``."""

    name: str
    floor: int
    is_open: bool
    events: list[bytes]
    stamps: list[int]
    candidates: list[int]


class _TopicImage(msgspec.Struct, array_like=True):
    """A topic in a snapshot: the log within the window, its stamps in runs of (stamp, length), and the lines on it."""

    name: bytes
    clock: int
    base: int
    breaks: list[int]
    cut: bool
    log: list[bytes]
    runs: list[tuple[int, int]]
    steps: dict[str, tuple[int, int, list[int]]]
    left: dict[str, _Left]
    stretches: list[_StretchImage]


class _Slice(msgspec.Struct, array_like=True):
    """A part of a snapshot: the cover (in the first slice only), some topics, and some forgotten since it began."""

    cover: list[CoverRecord] | None
    topics: list[_TopicImage]
    gone: list[bytes]


_encode = msgspec.msgpack.Encoder().encode
_decode_slice = msgspec.msgpack.Decoder(_Slice).decode


def topics_in(piece: bytes) -> list[bytes]:
    """The topics of a slice of a snapshot; before its position in the journal nothing of them is to be fed again."""
    decoded = _decode_slice(piece)
    return [image.name for image in decoded.topics] + decoded.gone


class Arbiter:
    """Says of every event on a covered topic whether it is published, known already, or to be kept for a while.

    The same calls in the same order give the same verdicts.  All times are monotonic nanoseconds.  No feed may have a
    stamp more than WINDOW_NS before a time told to ``due``: while link files are read, tell it the stamp reached there.

    **Recovery.**  Write every call that changes something into the journal, in order: ``cover``, ``uncover``,
    ``line_gap``, ``topic_gap``, a ``due`` that released or dropped something, and every feed with its verdict's trace,
    its fresh events (the messages published, without released ones) and its held events.  Beside it write the slices of
    ``snapshot``, each with the journal position at which it was taken.  After a kill go through the journal from the
    position of the first slice on: restore each slice when its position comes, skip the feeds of its ``topics_in``
    before that, and repeat everything else, feeds by ``refeed``.
    """

    def __init__(self) -> None:
        self._cover = Cover()
        self._topics: dict[bytes, _Topic] = {}
        self._lines: dict[str, _Line] = defaultdict(_Line)
        self._holding: set[bytes] = set()  # at least the topics with a stretch that is held
        self._agenda: list[tuple[int, bytes]] = []  # heap of (when a hold may end, topic); a topic's valid one is wake
        self._idle: OrderedDict[bytes, int] = OrderedDict()  # every topic with a time when it was in use

    # --- cover ---

    def cover(
        self, items: Iterable[bytes], lines: Collection[str], stamp_ns: int, carried_by: Collection[str] = ()
    ) -> Verdict:
        """*items*, topics or wildcards, are carried by *lines*; say so before the second of them subscribes.

        Those of *carried_by* publish them already, so that the others are compared with them from the start.  Fewer
        lines than before may end the cover of topics: what was held there is in the verdict.
        """
        for item in items:
            self._cover.put(item, lines, stamp_ns, carried_by)
        return self._drop_uncovered()

    def uncover(self, items: Iterable[bytes]) -> Verdict:
        """Take back what was said of *items*; what was held on topics that are no longer covered is in the verdict."""
        for item in items:
            self._cover.remove(item)
        return self._drop_uncovered()

    def lines_of(self, topic: bytes) -> frozenset[str]:
        """The lines of a covered topic; empty, so false, for all others, which need no arbitration."""
        return self._cover.lines_of(topic)

    def concerns(self, item: bytes) -> bool:
        """Whether *item*, a topic or a wildcard, has to do with what is covered."""
        return bool(self._cover.items_of(item) or self._cover.lines_of(item))

    def _drop_uncovered(self) -> Verdict:
        verdict = Verdict()
        for name in sorted(name for name in self._topics if not self._cover.lines_of(name)):
            self._topics[name].release_all(verdict)
            self._forget(name)
        return verdict

    # --- the stream ---

    def feed(self, line: str, topic: bytes, events: list[bytes], stamp_ns: int) -> Verdict:
        """Judge the *events*, one at least, that a batch of *line* brought for *topic*; without cover all are fresh."""
        state = self._topics.get(topic)
        early = None
        if state is None or stamp_ns - state.clock > WINDOW_NS:
            if not self._cover.lines_of(topic):
                fresh = [Publication(topic, line, stamp_ns, list(events), released=False)]
                return Verdict(fresh, trace=[(FRESH, len(events))])
            state, early = self._begin(topic, state, stamp_ns)
        verdict = state.feed(line, events, stamp_ns)
        if state.stretches:
            self._watch(topic, state)
        if early is not None:
            verdict.published[:0] = early.published
            verdict.dropped += early.dropped
        return verdict

    def refeed(
        self,
        line: str,
        topic: bytes,
        trace: Iterable[tuple[int, int]],
        stamp_ns: int,
        *,
        fresh: Iterable[bytes] = (),
        held: Iterable[bytes] = (),
    ) -> Verdict:
        """Repeat a feed from what the journal keeps of it: its *trace*, its *fresh* and its *held* events.

        Raises ValueError when this state does not give that trace; then the journal is not the one of this state.
        """
        fresh, held, again = iter(fresh), iter(held), Verdict()
        trace = [(code, length) for code, length in trace]
        for code, length in trace:
            source = held if code == HELD else fresh if code == FRESH else iter(self._entries(topic, code, length))
            events = list(islice(source, length))
            if len(events) < length:
                raise ValueError(f"{topic!r}: of {length} events of {line} the journal and the log have {len(events)}")
            part = self.feed(line, topic, events, stamp_ns)
            again.published += part.published
            again.duplicates += part.duplicates
            again.held += part.held
            again.dropped += part.dropped
            for run in part.trace:
                again.note(*run)
        if again.trace != trace:
            raise ValueError(f"{topic!r}: {line} had {trace} in the journal, now {again.trace}")
        return again

    def _entries(self, topic: bytes, first: int, length: int) -> list[bytes]:
        state = self._topics.get(topic)
        if state is None or first < state.origin:
            return []
        return state.log[first - state.origin : first - state.origin + length]

    def line_gap(self, line: str) -> Verdict:
        """*line* missed something, lost its connection or ended, and all that it brought before was fed.

        On all topics its next event is a rejoin.  What other lines held only because of it is in the verdict.
        """
        verdict = Verdict()
        self._lines[line].life += 1
        self._cover.gap(line)
        for topic in sorted(self._holding):
            state = self._topics[topic]
            state.gap(line, verdict)
            self._watch(topic, state)
        return verdict

    def topic_gap(self, line: str, items: Iterable[bytes]) -> Verdict:
        """*line* has let go of these *items*, topics or wildcards, and takes them up again: there it has ended."""
        verdict = Verdict()
        for item in items:
            self._cover.gap_of(line, item)
            channel = item[:-1] if item.endswith(b".*") else None
            topics = [item] if channel is None else sorted(one for one in self._topics if one.startswith(channel))
            for topic in topics:
                if (state := self._topics.get(topic)) is not None:
                    state.rejoin(line, verdict)
                    self._watch(topic, state)
        return verdict

    def due(self, now_ns: int) -> Verdict:
        """What was held long enough by *now_ns*; forgets what is too old to matter."""
        verdict = Verdict()
        ready = set()
        while self._agenda and self._agenda[0][0] <= now_ns:
            when, topic = heappop(self._agenda)
            if (state := self._topics.get(topic)) is not None and state.wake == when:
                state.wake = None
                ready.add(topic)
        for topic in sorted(ready):
            self._topics[topic].release(now_ns, verdict)
            self._watch(topic, self._topics[topic])
        self._forget_idle(now_ns, verdict)
        return verdict

    def next_due_ns(self) -> int | None:
        """When to call ``due`` next; perhaps in vain.  None: nothing is waiting."""
        while self._agenda:
            when, topic = self._agenda[0]
            if (state := self._topics.get(topic)) is not None and state.wake == when:
                return when
            heappop(self._agenda)
        return None

    def statistics(self) -> dict[str, LineStatistics]:
        """Of every line that was fed; they go on changing."""
        return {name: line.statistics for name, line in self._lines.items()}

    # --- topics come and go ---

    def _begin(self, topic: bytes, old: _Topic | None, stamp: int) -> tuple[_Topic, Verdict | None]:
        """A topic that nobody spoke on for the window starts afresh, whether it was forgotten meanwhile or not."""
        early = None
        if old is not None:
            old.release_all(early := Verdict())
        self._idle[topic] = stamp
        state = self._topics[topic] = _Topic(topic, self._lines, stamp)
        for name in sorted(self._cover.carried_by(topic, stamp - WINDOW_NS)):
            state.steps[name] = _Step(self._lines[name], self._lines[name].life, 0, 0)
            state.cut = True
        return state, early

    def _watch(self, topic: bytes, state: _Topic) -> None:
        """Keep the books on what is held there."""
        if not state.stretches:
            self._holding.discard(topic)
            return
        self._holding.add(topic)
        end = state.deadline()
        if end is not None and (state.wake is None or end < state.wake):
            state.wake = end
            heappush(self._agenda, (end, topic))

    def _forget_idle(self, now: int, verdict: Verdict) -> None:
        limit = now - WINDOW_NS - _LATENESS_NS
        while self._idle:
            topic, used = next(iter(self._idle.items()))
            if used >= limit:
                return
            state = self._topics[topic]
            if state.clock < limit:
                state.release_all(verdict)
                self._forget(topic)
            else:
                self._idle[topic] = state.clock
                self._idle.move_to_end(topic)

    def _forget(self, topic: bytes) -> None:
        del self._topics[topic]
        del self._idle[topic]
        self._holding.discard(topic)

    # --- snapshots ---

    def snapshot(self, slice_bytes: int = 2**20) -> Iterator[bytes]:
        """The state in slices of about *slice_bytes*, more where one topic is larger; the first holds the cover.

        Feeding may go on between two slices: each is the state of its topics at the moment when it is taken.  A topic
        that appears meanwhile is in none, and needs none: all its feeds come after the first slice.
        """
        yield _encode(_Slice(self._cover.records, [], []))
        piece, size = _Slice(None, [], []), 0
        for topic in list(self._topics):
            if size >= slice_bytes:
                yield _encode(piece)
                piece, size = _Slice(None, [], []), 0
            if (state := self._topics.get(topic)) is None:
                piece.gone.append(topic)
            else:
                piece.topics.append(state.image())
                size += state.size
        yield _encode(piece)

    def restore(self, piece: bytes) -> None:
        """Put a slice of a snapshot in place; msgspec.DecodeError for anything else."""
        decoded = _decode_slice(piece)
        if decoded.cover is not None:
            for record in decoded.cover:
                self._cover.put(record.item, record.lines, record.since_ns, record.carried_by)
        for image in decoded.topics:
            self._idle[image.name] = image.clock
            self._topics[image.name] = _Topic.from_image(image, self._lines)
            self._watch(image.name, self._topics[image.name])
