"""A router that starts again is what it was, wherever it was killed."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from mcm.core.acceptance import Acceptance
from mcm.core.notices import CONTROL, CoverChange, LineMark, TopicMark, group_of
from mcm.core.record import Accepted, decode_record, encode_record, split
from mcm.core.sequence import Numbering
from mcm.core.wire import Batch, Group, encode_ticks

TOPICS = [b"stocks.T.A", b"stocks.T.B", b"crypto.XT.X"]
GROUPS = st.lists(
    st.tuples(st.sampled_from(TOPICS), st.integers(1, 5)), min_size=0, max_size=3, unique_by=lambda g: g[0]
)
BATCHES = st.lists(st.tuples(st.sampled_from(["primary", "secondary"]), GROUPS), max_size=30)


def batches_of(drawn: list[tuple[str, list[tuple[bytes, int]]]]) -> list[Batch]:
    sequences = {"primary": 0, "secondary": 0}
    batches = []
    for stamp, (name, groups) in enumerate(drawn):
        sequences[name] += 1
        made = [Group(topic, length, encode_ticks(list(range(length)))) for topic, length in groups]
        batches.append(Batch(name, 7, sequences[name], stamp, stamp, made))
    return batches


@given(BATCHES, st.data())
def test_a_snapshot_and_the_records_behind_its_number_give_the_state_again(
    drawn: list[tuple[str, list[tuple[bytes, int]]]], data: st.DataObject
) -> None:
    batches = batches_of(drawn)
    acceptance = Acceptance(Numbering(epoch=1))
    begins = data.draw(st.integers(0, len(batches)))
    journal: list[tuple[int, Accepted]] = []
    parts: list[bytes] = []
    number = 0
    slices: Iterator[bytes] = iter(())

    for index, batch in enumerate(batches):
        if index == begins:
            number, slices = acceptance.numbers.offset + 1, acceptance.slices()
        parts += [part for part in [next(slices, None)] if part is not None]  # the state changes between two slices
        journal.append(acceptance.accept(batch))
    if begins == len(batches):
        number, slices = acceptance.numbers.offset + 1, acceptance.slices()
    parts += slices

    again = Acceptance(Numbering(epoch=1))
    for part in parts:
        again.load(part)
    again.numbers.offset = number - 1
    for first_offset, record in journal:
        if first_offset >= number:
            again.restore(first_offset, decode_record(encode_record(record)))
    again.recovered()

    assert again.numbers == acceptance.numbers
    assert again.taken == acceptance.taken
    assert again.counters == acceptance.counters


@given(BATCHES)
def test_every_tick_gets_the_next_number_of_its_topic_and_every_message_the_next_offset(
    drawn: list[tuple[str, list[tuple[bytes, int]]]],
) -> None:
    acceptance = Acceptance(Numbering(epoch=1))

    accepted = [acceptance.accept(batch) for batch in batches_of(drawn)]
    frames = [frame for first_offset, record in accepted for frame in record.frames(first_offset)]

    assert [message.offset for _, message in frames] == list(range(1, len(frames) + 1))
    for topic in TOPICS:
        sequence = 1
        for _, message in (frame for frame in frames if frame[0] == topic):
            assert message.sequence == sequence
            sequence += len(bytes(message.ticks)) - 1  # a fixarray of small integers: one byte each, and its head


def test_a_batch_is_the_next_one_a_known_one_or_leaves_some_out() -> None:
    acceptance = Acceptance(Numbering(epoch=1))
    acceptance.accept(Batch("primary", 7, 1, 0, 0, []))

    assert acceptance.is_next("primary", 7, 2)
    assert acceptance.missing_before("primary", 7, 2) == 0
    assert acceptance.missing_before("primary", 7, 1) < 0
    assert acceptance.missing_before("primary", 7, 5) == 3
    assert acceptance.missing_before("primary", 8, 1) == 0
    assert acceptance.missing_before("secondary", 9, 3) == 2


# --- with redundant lines ---------------------------------------------------------------------------------------------

COVERED = "stocks.T.A"
STEPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "a", "b", "gap a", "gap b", "drop a", "drop b", "due"]), st.integers(1, 4)),
    min_size=1,
    max_size=40,
)


class Lines:
    """A supervisor that covers a topic, and two lines that bring the same events, each at its own pace."""

    def __init__(self) -> None:
        self.sequences = {"a": 0, "b": 0, "supervisor": 0}
        self.place = {"a": 0, "b": 0}
        self.clock = 0

    def batch(self, link: str, group: Group) -> Batch:
        self.sequences[link] += 1
        self.clock += 1_000_000
        return Batch(link, 7, self.sequences[link], self.clock, self.clock, [group])

    def cover(self) -> Batch:
        return self.batch("supervisor", group_of(CONTROL, [CoverChange([COVERED], ["a", "b"], [])]))

    def step(self, what: str, number: int) -> Batch | None:
        """The batch that comes of it; None for time alone."""
        match what.split():
            case ["gap", line]:
                return self.batch(line, group_of(CONTROL, [LineMark(line)]))
            case ["drop", line]:
                return self.batch(line, group_of(CONTROL, [TopicMark(line, [COVERED])]))
            case ["due"]:
                self.clock += number * 300_000_000
                return None
            case [line]:
                events = [f"event {self.place[line] + index}" for index in range(number)]
                self.place[line] += number
                return self.batch(line, Group(COVERED.encode(), number, encode_ticks(events)))
        raise AssertionError(what)


def take(acceptance: Acceptance, batch: Batch | None, clock: int) -> list[tuple[int, Accepted]]:
    if batch is not None:
        return [acceptance.accept(batch)]
    released = acceptance.due(clock, clock)
    return [released] if released is not None else []


@given(STEPS, STEPS, st.data())
def test_what_is_known_of_redundant_lines_goes_on_after_a_kill(
    before: list[tuple[str, int]], after: list[tuple[str, int]], data: st.DataObject
) -> None:
    lines, acceptance = Lines(), Acceptance(Numbering(epoch=1))
    journal = take(acceptance, lines.cover(), 0)
    snapshot_at = data.draw(st.integers(0, len(before) - 1))
    parts: list[bytes] = []
    number = 1
    slices: Iterator[bytes] = iter(())
    for index, (what, amount) in enumerate(before):
        if index == snapshot_at:
            number, slices = acceptance.numbers.offset + 1, acceptance.slices()
        parts += [part for part in [next(slices, None)] if part is not None]
        journal += take(acceptance, lines.step(what, amount), lines.clock)
    parts += slices

    again = Acceptance(Numbering(epoch=1))
    for part in parts:
        again.load(part)
    again.numbers.offset = number - 1
    for first_offset, record in journal:
        if first_offset >= number:
            again.restore(first_offset, decode_record(encode_record(record)))
    again.recovered()

    assert again.doubts == 0
    assert again.counters == acceptance.counters
    for what, amount in after:
        batch = lines.step(what, amount)
        assert take(again, batch, lines.clock) == take(acceptance, batch, lines.clock)


@given(STEPS)
def test_the_routers_part_of_the_ledger_balances_and_every_event_comes_once(steps: list[tuple[str, int]]) -> None:
    lines, acceptance = Lines(), Acceptance(Numbering(epoch=1))
    taken = take(acceptance, lines.cover(), 0)
    for what, amount in steps:
        taken += take(acceptance, lines.step(what, amount), lines.clock)
        counters = acceptance.counters
        assert counters.received == counters.published + counters.duplicates + counters.held
        assert counters.held >= 0
    for _ in range(5):
        taken += take(acceptance, lines.step("due", 10), lines.clock)

    published = [event for _, record in taken for one in record.messages for event in split(one.ticks)]
    brought = max(lines.place.values())
    assert sorted(published) == sorted(split(encode_ticks([f"event {index}" for index in range(brought)])))
    # What is still held withholds nothing: it is published already, and only not yet proof of where its line stands.
    assert acceptance.counters.held <= lines.place["a"] + lines.place["b"] - brought
