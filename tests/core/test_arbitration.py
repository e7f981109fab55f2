"""Arbitration against a model: a vendor's sequence, and lines that each bring contiguous stretches of it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mcm.core import arbitration
from mcm.core.arbitration import FRESH, HELD, HOLD_NS, RUN, WINDOW_NS, Arbiter, Publication, Verdict, topics_in

TOPIC = b"stocks.T.AAPL"
LINES = ("A", "B", "C")
MS = 1_000_000
S = 1_000 * MS


# --- the model ---


class Judge(Protocol):
    """What the properties need of an arbiter; the negative controls are others."""

    def feed(self, line: str, topic: bytes, events: list[bytes], stamp_ns: int) -> Verdict: ...
    def line_gap(self, line: str) -> Verdict: ...
    def topic_gap(self, line: str, items: list[bytes]) -> Verdict: ...
    def due(self, now_ns: int) -> Verdict: ...
    def next_due_ns(self) -> int | None: ...


def covered() -> Arbiter:
    arbiter = Arbiter()
    arbiter.cover([b"stocks.T.*"], LINES, 0)
    return arbiter


@dataclass
class World:
    """The vendor's sequence and where each line is on it.

    Attributes:
        place: line → index of the event that it brings next.
        stretch: line → indices brought since its last gap.
        brought: index → when the first line brought it.
        spoken: when any line brought anything last.
    """

    judge: Judge
    vendor: list[bytes]
    now: int = S
    place: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LINES, 0))
    stretch: dict[str, set[int]] = field(default_factory=lambda: {line: set() for line in LINES})
    brought: dict[int, int] = field(default_factory=dict)
    spoken: int = S
    published: list[bytes] = field(default_factory=list)

    def take(self, verdict: Verdict) -> None:
        for publication in verdict.published:
            if publication.topic == TOPIC:
                self.published += publication.events

    def bring(self, line: str, count: int) -> None:
        first = self.place[line]
        last = min(first + count, len(self.vendor))
        if first < last:
            self.take(self.judge.feed(line, TOPIC, self.vendor[first:last], self.now))
            self.place[line], self.spoken = last, self.now
            self.stretch[line] |= set(range(first, last))
            for index in range(first, last):
                self.brought.setdefault(index, self.now)

    def gap(self, line: str, lost: int) -> None:
        # A line that ends and one that lets go of the topic are the same to the topic.
        self.take(self.judge.line_gap(line) if lost % 2 else self.judge.topic_gap(line, [TOPIC]))
        self.place[line] += lost
        self.stretch[line] = set()

    def too_late(self, line: str, ns: int) -> int:
        """How many events the line must bring, or lose, lest it trails by more than the window in *ns*."""
        late = [index for index, when in self.brought.items() if self.now + ns - when >= WINDOW_NS]
        return max(max(late, default=-1) + 1 - self.place[line], 0)

    def pass_time(self, ns: int) -> None:
        self.now += ns
        self.take(self.judge.due(self.now))

    def end_holds(self) -> None:
        while (due := self.judge.next_due_ns()) is not None:
            self.take(self.judge.due(due))

    def outcome(self) -> list[bytes]:
        """What one perfect connection would have brought, of what any line brought."""
        return [self.vendor[index] for index in sorted(self.brought)]


class Bring(NamedTuple):
    line: str
    events: int


class Gap(NamedTuple):
    line: str
    lost: int


class Pass(NamedTuple):
    ns: int


Step = Bring | Gap | Pass

lines = st.sampled_from(LINES)
bring = st.builds(Bring, lines, st.integers(1, 5))
gap = st.builds(Gap, lines, st.integers(0, 4))
times = st.sampled_from([MS, MS, 300 * MS, 1_100 * MS, 9 * S, 40 * S]).map(Pass)
steps = st.lists(st.one_of(bring, bring, bring, gap, times), max_size=40)


def unique(length: int) -> list[bytes]:
    return [b"e%d" % index for index in range(length)]


@st.composite
def repeating(draw: st.DrawFn) -> list[bytes]:
    """Events with repeats, adjacent and at a distance, but no run of RUN events twice."""
    vendor: list[bytes] = []
    runs = set()
    for index, symbol in enumerate(draw(st.lists(st.integers(0, 6), max_size=40))):
        vendor.append(b"r%d" % symbol)
        if len(vendor) >= RUN:
            if tuple(vendor[-RUN:]) in runs:
                vendor[-1] = b"u%d" % index
            runs.add(tuple(vendor[-RUN:]))
    return vendor


def without_idleness(script: list[Step]) -> list[Step]:
    """After a silence longer than the window another line may speak first."""
    return [step for step in script if not isinstance(step, Pass) or step.ns < S]


anything = st.lists(st.integers(0, 3).map(lambda symbol: b"a%d" % symbol), max_size=40)


def play(world: World, script: list[Step], perfect: str = "") -> None:
    """Play it; a line that would trail by more than the window is closed, the *perfect* one catches up."""
    for step in script:
        match step:
            case Bring(line, count):
                world.bring(line, count)
            case Gap(line, lost):
                if line != perfect:
                    world.gap(line, lost)
            case Pass(ns):
                for line in LINES:
                    if late := world.too_late(line, ns):
                        if line == perfect:
                            world.bring(line, late)
                        else:
                            world.gap(line, late)
                world.pass_time(ns)


def play_with_splices_in_time(world: World, script: list[Step], needed: int) -> None:
    """Play it, except what would keep a splice from completing.

    The first line to speak is spliced; another one is when *needed* of its events were brought by a spliced line.
    A spliced line may end only while another one is.  Time stands still when a hold would run out, and no line begins
    before the first; after a silence longer than the window the same begins anew.  In the end the spliced lines bring
    all that is left.
    """
    spliced: set[str] = set()
    reached: set[int] = set()  # what spliced lines brought

    def look() -> None:
        before = -1
        while before != len(reached):
            before = len(reached)
            spliced.update(line for line in LINES if len(world.stretch[line] & reached) >= needed)
            reached.update(*(world.stretch[line] for line in spliced))

    for step in script:
        match step:
            case Bring(line, count):
                if not spliced:
                    for other in LINES:
                        world.place[other] = max(world.place[other], world.place[line])
                    spliced.add(line)
                world.bring(line, count)
                look()
            case Gap(line, lost):
                if line not in spliced or len(spliced) > 1:
                    spliced.discard(line)
                    world.gap(line, lost)
            case Pass(ns):
                for line in LINES:
                    world.bring(line, world.too_late(line, ns))
                    look()
                is_forgotten = world.now + ns - world.spoken > WINDOW_NS
                if is_forgotten:
                    furthest = max(world.brought, default=-1) + 1
                    for line in LINES:
                        world.bring(line, furthest - world.place[line])
                    is_forgotten = world.now + ns - world.spoken > WINDOW_NS
                due = world.judge.next_due_ns()
                if due is None or due > world.now + ns:
                    world.pass_time(ns)
                    if is_forgotten:  # nobody knows any longer where the lines were
                        world.stretch = {line: set() for line in LINES}
                        spliced.clear()
    for line in sorted(spliced):
        world.bring(line, len(world.vendor))
    world.end_holds()


# --- what must hold for every vendor and every interleaving ---


def check_order(make: Callable[[], Judge], vendor: list[bytes], script: list[Step], needed: int) -> None:
    world = World(make(), vendor)

    play_with_splices_in_time(world, script, needed)

    assert world.published == world.outcome()


@settings(max_examples=500)
@given(st.integers(0, 60).map(unique), steps)
def test_without_repeats_the_output_is_the_vendors_sequence_when_splices_complete(
    vendor: list[bytes], script: list[Step]
) -> None:
    check_order(covered, vendor, script, needed=1)


@settings(max_examples=500)
@given(repeating(), steps)
def test_with_repeats_the_output_is_the_vendors_sequence_when_splices_complete(
    vendor: list[bytes], script: list[Step]
) -> None:
    check_order(covered, vendor, script, needed=RUN)


@settings(max_examples=500)
@given(st.integers(0, 60).map(unique), steps)
def test_without_repeats_each_event_of_any_line_is_published_once_whatever_happens(
    vendor: list[bytes], script: list[Step]
) -> None:
    world = World(covered(), vendor)

    play(world, script)
    world.end_holds()

    assert sorted(world.published) == sorted(world.outcome())


def check_counts(make: Callable[[], Judge], vendor: list[bytes], script: list[Step]) -> None:
    """Line A brings everything; B and C do what they like."""
    world = World(make(), vendor)

    play(world, script, perfect="A")
    world.bring("A", len(vendor))
    world.end_holds()

    assert Counter(world.published) == Counter(vendor)


@settings(max_examples=500)
@given(repeating(), steps)
def test_beside_one_perfect_line_a_repeat_passes_as_often_as_the_vendor_sent_it(
    vendor: list[bytes], script: list[Step]
) -> None:
    check_counts(covered, vendor, script)


@settings(max_examples=500)
@given(anything, steps)
def test_beside_a_perfect_line_that_spoke_first_even_repeated_runs_pass_as_often_as_the_vendor_sent_them(
    vendor: list[bytes], script: list[Step]
) -> None:
    check_counts(covered, vendor, [Bring("A", 1), *without_idleness(script)])


@settings(max_examples=500)
@given(st.integers(0, 60).map(unique), steps, st.lists(st.tuples(lines, st.integers(0, 40)), max_size=8))
def test_without_repeats_not_even_a_silent_loss_makes_an_event_pass_twice_or_never(
    vendor: list[bytes], script: list[Step], losses: list[tuple[str, int]]
) -> None:
    world = World(covered(), vendor)

    for index, step in enumerate(script):
        for line, when in losses:
            if when == index:
                world.place[line] += 1
        play(world, [step])
    world.end_holds()

    assert sorted(world.published) == sorted(world.outcome())


@given(st.one_of(anything, repeating()), steps)
def test_nothing_is_published_that_no_line_brought_and_nothing_brought_is_wholly_missing(
    vendor: list[bytes], script: list[Step]
) -> None:
    world = World(covered(), vendor)

    play(world, script)
    world.end_holds()

    assert set(world.published) == set(world.outcome())


@given(anything, steps)
def test_one_line_alone_passes_as_it_is(vendor: list[bytes], script: list[Step]) -> None:
    world = World(covered(), vendor)

    play(world, [step for step in script if isinstance(step, Pass) or step.line == "A"])

    assert world.published == world.outcome()


def check_silence(vendor: list[bytes], script: list[Step]) -> Arbiter:
    arbiter = covered()
    world = World(arbiter, vendor)
    play(world, script)
    world.end_holds()
    world.pass_time(3 * WINDOW_NS)
    return arbiter


@given(anything, steps)
def test_nothing_is_remembered_once_all_is_older_than_the_window(vendor: list[bytes], script: list[Step]) -> None:
    arbiter = check_silence(vendor, script)

    assert [topics_in(piece) for piece in arbiter.snapshot()] == [[], []]
    assert arbiter.next_due_ns() is None


# --- the properties can fail ---


class SeenBefore:
    """Without counting and without splice: whatever was seen before is dropped."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def feed(self, line: str, topic: bytes, events: list[bytes], stamp_ns: int) -> Verdict:
        new = [event for event in dict.fromkeys(events) if event not in self.seen]
        self.seen.update(new)
        return Verdict([Publication(topic, line, stamp_ns, new, released=False)])

    def line_gap(self, line: str) -> Verdict:
        return Verdict()

    def topic_gap(self, line: str, items: list[bytes]) -> Verdict:
        return self.line_gap(line)

    def due(self, now_ns: int) -> Verdict:
        return Verdict()

    def next_due_ns(self) -> int | None:
        return None


class Counting(SeenBefore):
    """Without splice: the n-th occurrence on one line is the n-th on the others, and nothing is ever held."""

    def __init__(self) -> None:
        super().__init__()
        self.published: Counter[bytes] = Counter()
        self.of: dict[str, Counter[bytes]] = defaultdict(Counter)

    def feed(self, line: str, topic: bytes, events: list[bytes], stamp_ns: int) -> Verdict:
        new = []
        for event in events:
            self.of[line][event] += 1
            if self.of[line][event] > self.published[event]:
                self.published[event] += 1
                new.append(event)
        return Verdict([Publication(topic, line, stamp_ns, new, released=False)])


def must_fail(check: Callable[[list[bytes], list[Step]], None], vendors: st.SearchStrategy[list[bytes]]) -> None:
    attempt = settings(max_examples=2_000, database=None, phases=[Phase.generate], report_multiple_bugs=False)(
        given(vendors, steps)(check)
    )
    with pytest.raises(AssertionError):
        attempt()


def test_without_counting_the_vendors_repeats_are_lost() -> None:
    must_fail(lambda vendor, script: check_counts(SeenBefore, vendor, script), repeating())


def test_without_splice_the_order_is_lost() -> None:
    must_fail(lambda vendor, script: check_order(Counting, vendor, script, needed=1), st.integers(0, 60).map(unique))


def test_without_waiting_the_arbiter_itself_loses_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arbitration._Topic, "_is_awaited", lambda *_: False)

    must_fail(lambda vendor, script: check_order(covered, vendor, script, needed=1), st.integers(0, 60).map(unique))


# --- recovery ---


@dataclass
class Journaled:
    """An arbiter whose router keeps the journal; every batch also brings events of two more topics.

    Attributes:
        journal: what the router would have written, in order; a piece of a snapshot stands where it was taken.
        verdicts: all of them, for comparison.
    """

    arbiter: Arbiter = field(default_factory=covered)
    journal: list[tuple[object, ...]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    pieces: Iterator[bytes] = field(default_factory=lambda: iter(()))

    def feed(self, line: str, topic: bytes, events: list[bytes], stamp_ns: int) -> Verdict:
        self.feed_one(line, topic + b".B", events[::-1], stamp_ns)
        if len(events) % 2:
            self.feed_one(line, topic + b".C", events, stamp_ns)
        return self.feed_one(line, topic, events, stamp_ns)

    def feed_one(self, line: str, topic: bytes, events: list[bytes], stamp_ns: int) -> Verdict:
        self.take_piece()
        verdict = self.keep(self.arbiter.feed(line, topic, events, stamp_ns))
        fresh = [event for one in verdict.published if one.topic == topic and not one.released for event in one.events]
        held, at = [], 0
        for code, length in verdict.trace:
            held += events[at : at + length] if code == HELD else []
            at += length
        self.journal.append(("feed", line, topic, verdict.trace, stamp_ns, fresh, held))
        return verdict

    def line_gap(self, line: str) -> Verdict:
        self.journal.append(("gap", line))
        return self.keep(self.arbiter.line_gap(line))

    def topic_gap(self, line: str, items: list[bytes]) -> Verdict:
        self.journal.append(("topic gap", line, items))
        return self.keep(self.arbiter.topic_gap(line, items))

    def due(self, now_ns: int) -> Verdict:
        verdict = self.arbiter.due(now_ns)
        if verdict.published or verdict.dropped:
            self.keep(verdict)
            self.journal.append(("due", now_ns))
        return verdict

    def next_due_ns(self) -> int | None:
        return self.arbiter.next_due_ns()

    def keep(self, verdict: Verdict) -> Verdict:
        self.verdicts.append(verdict)
        return verdict

    def take_piece(self) -> None:
        if (piece := next(self.pieces, None)) is not None:
            self.journal.append(("piece", piece))

    def recover(self) -> Arbiter:
        """What the router does after a kill."""
        arbiter = Arbiter()
        start = next(at for at, record in enumerate(self.journal) if record[0] == "piece")
        waiting = Counter(
            topic for kind, *rest in self.journal if kind == "piece" for topic in topics_in(cast("bytes", rest[0]))
        )
        for record in self.journal[start:]:
            match record:
                case ("piece", bytes(piece)):
                    arbiter.restore(piece)
                    waiting.subtract(topics_in(piece))
                case ("gap", str(line)):
                    arbiter.line_gap(line)
                case ("topic gap", str(line), list(items)):
                    arbiter.topic_gap(line, [item for item in items if not waiting[item]])
                case ("due", int(now)):
                    arbiter.due(now)
                case ("feed", str(line), bytes(topic), list(trace), int(stamp), list(fresh), list(held)):
                    if not waiting[topic]:
                        arbiter.refeed(line, topic, trace, stamp, fresh=fresh, held=held)
        return arbiter


@settings(max_examples=300)
@given(st.one_of(st.integers(0, 60).map(unique), repeating(), anything), steps, steps, steps)
def test_after_a_kill_snapshot_and_journal_give_the_same_state(
    vendor: list[bytes], before: list[Step], meanwhile: list[Step], after: list[Step]
) -> None:
    journaled = Journaled()
    world = World(journaled, vendor)
    play(world, before)
    journaled.pieces = journaled.arbiter.snapshot(slice_bytes=1)
    journaled.take_piece()
    play(world, meanwhile)
    for piece in journaled.pieces:
        journaled.journal.append(("piece", piece))
    twin = Journaled(journaled.recover())
    journaled.verdicts.clear()
    other = World(twin, vendor, world.now, dict(world.place), brought=dict(world.brought))

    for one in (world, other):
        play(one, after)
        one.end_holds()
        one.pass_time(3 * WINDOW_NS)

    assert twin.verdicts == journaled.verdicts


def test_a_journal_of_another_state_is_refused() -> None:
    arbiter = covered()
    arbiter.feed("A", TOPIC, [b"a"], S)

    with pytest.raises(ValueError, match="now"):
        arbiter.refeed("B", TOPIC, [(FRESH, 1)], S, fresh=[b"a"])
    with pytest.raises(ValueError, match="the log have 0"):
        arbiter.refeed("A", TOPIC, [(7, 1)], S)


# --- examples ---


def events_of(verdict: Verdict) -> list[tuple[str, bytes]]:
    return [(one.line, event) for one in verdict.published for event in one.events]


def spliced(*names: str) -> Arbiter:
    """Lines in step after three events, a b c, at one second."""
    arbiter = covered()
    for line in names:
        arbiter.feed(line, TOPIC, [b"a", b"b", b"c"], S)
    return arbiter


def test_the_first_arrival_is_published_and_the_second_dropped() -> None:
    arbiter = spliced("A", "B")

    first = arbiter.feed("B", TOPIC, [b"x", b"y"], S)
    second = arbiter.feed("A", TOPIC, [b"x", b"y", b"z"], S + 5 * MS)

    assert events_of(first) == [("B", b"x"), ("B", b"y")]
    assert events_of(second) == [("A", b"z")]
    assert (second.duplicates, second.trace) == (2, [(3, 2), (FRESH, 1)])


def test_an_event_sent_twice_passes_twice_and_not_four_times() -> None:
    arbiter = spliced("A", "B")

    published = [arbiter.feed(line, TOPIC, [b"x", b"x"], S) for line in ("A", "B")]

    assert [events_of(verdict) for verdict in published] == [[("A", b"x"), ("A", b"x")], []]


def test_an_event_sent_again_later_passes_again() -> None:
    arbiter = spliced("A", "B")

    published = [arbiter.feed(line, TOPIC, [b"x", b"y", b"x"], S) for line in ("A", "B")]

    assert [one.events for one in published[0].published] == [[b"x", b"y", b"x"]]
    assert published[1].published == []


def test_a_corrected_bar_passes() -> None:
    arbiter = spliced("A", "B")

    published = [arbiter.feed(line, TOPIC, [bar], S) for bar in (b"bar v=1", b"bar v=2") for line in ("A", "B")]

    assert [events_of(verdict) for verdict in published] == [[("A", b"bar v=1")], [], [("A", b"bar v=2")], []]


def test_the_same_bytes_after_the_window_are_another_event() -> None:
    arbiter = spliced("A", "B")

    verdict = arbiter.feed("B", TOPIC, [b"a"], S + WINDOW_NS + 1)

    assert events_of(verdict) == [("B", b"a")]


def test_of_two_lines_that_start_at_once_the_first_to_speak_is_established() -> None:
    arbiter = covered()

    first = arbiter.feed("B", TOPIC, [b"x"], S)
    second = arbiter.feed("A", TOPIC, [b"x", b"y"], S)

    assert events_of(first) == [("B", b"x")]
    assert (second.published, second.held) == ([], 2)


def test_a_line_that_joins_ahead_waits_until_the_established_line_agrees() -> None:
    arbiter = spliced("A")

    joined = arbiter.feed("B", TOPIC, [b"f", b"g", b"h", b"i"], S)
    verdict = arbiter.feed("A", TOPIC, [b"d", b"e", b"f", b"g", b"h"], S + MS)

    assert (joined.published, joined.held) == ([], 4)
    assert events_of(verdict) == [("A", event) for event in (b"d", b"e", b"f", b"g", b"h")] + [("B", b"i")]
    assert [one.released for one in verdict.published] == [False, True]
    assert verdict.dropped == 3


def test_a_line_that_joins_behind_is_in_step_after_three_events() -> None:
    arbiter = spliced("A")

    arbiter.feed("B", TOPIC, [b"a", b"b", b"c"], S)
    verdict = arbiter.feed("B", TOPIC, [b"d"], S)

    assert events_of(verdict) == [("B", b"d")]


def test_a_repeat_is_no_place_as_long_as_it_may_be_another_one() -> None:
    arbiter = covered()
    arbiter.feed("A", TOPIC, [b"e", b"x"], S)

    joined = arbiter.feed("B", TOPIC, [b"e", b"y"], S)  # the second e, which A has yet to bring
    verdict = arbiter.feed("A", TOPIC, [b"z", b"e", b"y"], S)

    assert joined.published == []
    assert events_of(verdict) == [("A", b"z"), ("A", b"e"), ("A", b"y")]


def test_what_is_held_for_a_second_is_released() -> None:
    arbiter = spliced("A")
    arbiter.feed("B", TOPIC, [b"y"], 2 * S)

    assert arbiter.next_due_ns() == 2 * S + HOLD_NS
    assert arbiter.due(2 * S + HOLD_NS - 1).published == []
    assert events_of(arbiter.due(2 * S + HOLD_NS)) == [("B", b"y")]
    assert arbiter.feed("A", TOPIC, [b"y"], 4 * S).published == []


def test_what_is_held_is_released_when_the_established_line_has_ended() -> None:
    arbiter = spliced("A")
    arbiter.feed("B", TOPIC, [b"c", b"d"], S)

    assert events_of(arbiter.line_gap("A")) == [("B", b"d")]


def test_what_a_line_held_when_it_ended_still_waits_for_the_others() -> None:
    arbiter = spliced("A")
    arbiter.feed("B", TOPIC, [b"e"], S)

    assert arbiter.line_gap("B").published == []
    assert events_of(arbiter.feed("A", TOPIC, [b"d", b"e"], S)) == [("A", b"d"), ("A", b"e")]
    assert arbiter.next_due_ns() is None or arbiter.due(3 * S).published == []


def test_a_gap_ends_the_step_on_all_topics() -> None:
    arbiter = covered()
    others = [TOPIC + b".B", TOPIC + b".C"]
    for topic in others:
        for line in ("A", "B"):
            arbiter.feed(line, topic, [b"a", b"b", b"c"], S)

    arbiter.line_gap("B")

    assert [arbiter.feed("B", topic, [b"x"], S).held for topic in others] == [1, 1]


def test_a_single_line_that_reconnects_goes_on_at_once() -> None:
    arbiter = spliced("A")

    arbiter.line_gap("A")

    assert events_of(arbiter.feed("A", TOPIC, [b"a"], S)) == [("A", b"a")]


def test_what_a_line_published_before_the_cover_is_not_published_by_the_next() -> None:
    arbiter = Arbiter()
    arbiter.cover([TOPIC], ["A", "B"], S, carried_by=["A"])

    held = arbiter.feed("B", TOPIC, [b"before", b"x", b"y"], S)
    arbiter.feed("A", TOPIC, [b"x", b"y", b"z"], S)
    verdict = arbiter.feed("B", TOPIC, [b"z", b"more"], S)

    assert held.held == 3
    assert events_of(verdict) == [("B", b"more")]


def test_without_cover_everything_passes_and_nothing_is_kept() -> None:
    arbiter = Arbiter()

    published = [events_of(arbiter.feed("A", TOPIC, [b"x"], S)) for _ in range(2)]

    assert not arbiter.lines_of(TOPIC)
    assert published == [[("A", b"x")]] * 2
    assert [topics_in(piece) for piece in arbiter.snapshot()] == [[], []]


def test_what_is_held_passes_when_the_cover_is_taken_back() -> None:
    arbiter = spliced("A")
    arbiter.feed("B", TOPIC, [b"c", b"d"], S)

    assert events_of(arbiter.uncover([b"stocks.T.*"])) == [("B", b"d")]
    assert events_of(arbiter.feed("B", TOPIC, [b"d"], S)) == [("B", b"d")]


def test_a_line_is_told_what_it_was_worth() -> None:
    arbiter = spliced("A", "B")

    arbiter.feed("A", TOPIC, [b"d", b"e"], S)
    arbiter.feed("B", TOPIC, [b"d", b"e"], S + 3 * MS)
    arbiter.line_gap("B")
    arbiter.feed("A", TOPIC, [b"f", b"g", b"h", b"i"], S + 3 * MS)
    arbiter.feed("B", TOPIC, [b"g", b"h", b"i"], S + 4 * MS)
    a, b = (arbiter.statistics()[line] for line in ("A", "B"))

    assert (a.first, a.duplicates, a.missed) == (9, 0, 0)
    assert (b.first, b.duplicates, b.held, b.missed, b.splices) == (0, 8, 6, 1, 2)
    assert (b.behind_ns, b.behind_max_ns, b.lag_ns) == (6 * MS, 3 * MS, 3 * MS)


def test_an_entry_that_a_line_passes_over_is_missed_until_it_comes() -> None:
    arbiter = spliced("A", "B")
    arbiter.feed("A", TOPIC, [b"d", b"e"], S)

    assert arbiter.feed("B", TOPIC, [b"e"], S).duplicates == 1
    assert arbiter.statistics()["B"].missed == 1
    assert arbiter.feed("B", TOPIC, [b"d"], S).duplicates == 1
    assert arbiter.statistics()["B"].missed == 0


def test_beyond_the_byte_bound_the_oldest_leave_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arbitration, "MAX_LOG_BYTES", 1_000)
    arbiter = covered()

    for index in range(1_000):
        arbiter.feed("A", TOPIC, [b"%010d" % index], S + index)

    assert max(map(len, arbiter.snapshot())) < 2_000


def test_beyond_the_byte_bound_nothing_more_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arbitration, "MAX_HELD_BYTES", 100)
    arbiter = spliced("A")

    verdict = arbiter.feed("B", TOPIC, [b"%010d" % index for index in range(20)], S)

    assert len(events_of(verdict)) == 20


def test_the_window_moves_on_while_a_topic_goes_on_for_minutes() -> None:
    arbiter = covered()

    for second in range(300):
        for line in ("A", "B"):
            arbiter.feed(line, TOPIC, [b"%d.%d" % (second, index) for index in range(10)], second * S)

    (_, piece) = arbiter.snapshot()
    assert len(piece) < 310 * 20
    assert arbiter.statistics()["B"].missed == 0


def test_lines_that_never_agree_cost_no_more_memory_than_the_window() -> None:
    arbiter = spliced("A", "B")

    for second in range(2, 200):
        for line in ("A", "B"):
            arbiter.feed(
                line, TOPIC, [b"%s %d" % (line.encode(), second * 10 + index) for index in range(10)], second * S
            )

    state = arbiter._topics[TOPIC]
    assert len(state.log) < 2 * 31 * 20
    assert max(step.owed_size for step in state.steps.values()) < 5 * 31 * 20
    assert len(state.breaks) < 31 * 20
