"""F33: the wall clock only labels what is published; no decision goes by it, be it that it jumps by an hour."""

from hypothesis import given
from hypothesis import strategies as st

from mcm.core.acceptance import Acceptance
from mcm.core.arbitration import HOLD_NS, WINDOW_NS
from mcm.core.notices import CONTROL, CoverChange, LineMark, group_of
from mcm.core.record import Accepted, decode_record, encode_record
from mcm.core.sequence import Numbering
from mcm.core.wire import Batch, Group, encode_ticks

TOPIC = "stocks.T.A"
HOUR_NS = 3_600 * 10**9
NOON_NS = 1_700_000_000 * 10**9
JUMPS = st.sampled_from([-HOUR_NS, 0, 0, HOUR_NS])
STEPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "a", "b", "repeat a", "gap b", "rest", "wait"]), st.integers(1, 4), JUMPS),
    min_size=1,
    max_size=40,
)
Output = tuple[int, Accepted]


class Router:
    """One topic on two lines that bring the same events, each at its own pace.

    Attributes:
        output: what the router made of it: (first offset, record) each.
        now_ns: monotonic; jumping_ns: what the wall clock is off by.
    """

    def __init__(self) -> None:
        self.acceptance = Acceptance(Numbering(epoch=1))
        self.output: list[Output] = []
        self.now_ns = self.jumping_ns = 0
        self._sequences = {"a": 0, "b": 0, "supervisor": 0}
        self._place = {"a": 0, "b": 0}
        self.tell(group_of(CONTROL, [CoverChange([TOPIC], ["a", "b"], [])]), "supervisor")

    def tell(self, group: Group, link: str) -> None:
        self._sequences[link] += 1
        self.now_ns += 1_000_000
        wall_ns = NOON_NS + self.now_ns + self.jumping_ns
        batch = Batch(link, 7, self._sequences[link], self.now_ns, wall_ns, [group])
        self.output.append(self.acceptance.accept(batch))

    def bring(self, line: str, *events: str) -> None:
        self.tell(Group(TOPIC.encode(), len(events), encode_ticks(list(events))), line)

    def wait(self, wait_ns: int) -> None:
        self.now_ns += wait_ns
        released = self.acceptance.due(self.now_ns, NOON_NS + self.now_ns + self.jumping_ns)
        self.output += [released] if released is not None else []

    def step(self, what: str, number: int) -> None:
        match what.split():
            case ["rest"]:
                self.wait(number * HOLD_NS // 3)
            case ["wait"]:
                self.wait(number * WINDOW_NS // 3)
            case ["gap", line]:
                self.tell(group_of(CONTROL, [LineMark(line)]), line)
            case ["repeat", line]:
                place = max(0, self._place[line] - number)
                self.bring(line, *(f"event {index}" for index in range(place, max(1, self._place[line]))))
            case [line]:
                self.bring(line, *(f"event {self._place[line] + index}" for index in range(number)))
                self._place[line] += number


def run(steps: list[tuple[str, int, int]], *, jumps: bool) -> Router:
    router = Router()
    for what, number, jump_ns in steps:
        router.jumping_ns += jump_ns if jumps else 0
        router.step(what, number)
    return router


def unlabelled(output: list[Output]) -> list[Output]:
    """Without the wall clock."""
    found = []
    for first_offset, record in output:
        copy = decode_record(encode_record(record))
        copy.received_ns = 0
        copy.messages = [message._replace(received_ns=0) for message in copy.messages]
        found.append((first_offset, copy))
    return found


@given(STEPS)
def test_numbers_order_windows_and_holds_are_those_without_the_jump(steps: list[tuple[str, int, int]]) -> None:
    steady, jumping = run(steps, jumps=False), run(steps, jumps=True)

    assert unlabelled(jumping.output) == unlabelled(steady.output)
    assert jumping.acceptance.counters == steady.acceptance.counters
    assert jumping.acceptance.numbers == steady.acceptance.numbers
    assert jumping.acceptance.arbiter.next_due_ns() == steady.acceptance.arbiter.next_due_ns()


@given(STEPS)
def test_a_start_from_a_journal_with_jumps_is_what_it_was(steps: list[tuple[str, int, int]]) -> None:
    before, again = run(steps, jumps=True), Acceptance(Numbering(epoch=1))

    for first_offset, record in before.output:
        again.restore(first_offset, decode_record(encode_record(record)))
    again.recovered()

    assert again.doubts == 0
    assert (again.numbers, again.taken, again.counters) == (
        before.acceptance.numbers,
        before.acceptance.taken,
        before.acceptance.counters,
    )


def published(router: Router) -> list[tuple[str, int]]:
    """(line, number of ticks) of every message."""
    return [(one.connection or record.link, one.length) for _, record in router.output for one in record.messages]


def test_the_window_of_thirty_seconds_is_no_shorter_and_no_longer_after_a_jump() -> None:
    for jump_ns in (-HOUR_NS, HOUR_NS):
        router = Router()
        router.bring("a", "one", "two", "three")
        router.bring("b", "one", "two", "three")

        router.jumping_ns = jump_ns
        router.bring("a", "four", "five", "six")
        router.wait(WINDOW_NS - 100_000_000)
        router.bring("b", "four", "five", "six")
        assert router.acceptance.counters.duplicates == 6
        router.bring("a", "seven")
        router.wait(WINDOW_NS + 100_000_000)
        router.bring("b", "seven")

        assert router.acceptance.counters.duplicates == 6
        assert published(router) == [("a", 3), ("a", 3), ("a", 1), ("b", 1)]


def test_what_is_held_waits_for_one_second_whatever_the_wall_clock_says() -> None:
    for jump_ns in (-HOUR_NS, HOUR_NS):
        router = Router()
        router.bring("a", "one", "two", "three")
        router.bring("b", "eight", "nine")
        due_ns = router.acceptance.arbiter.next_due_ns()
        assert due_ns is not None

        router.jumping_ns = jump_ns
        router.wait(due_ns - router.now_ns - 1)
        assert router.acceptance.counters.held == 2
        router.wait(1)

        assert 0.9 * HOLD_NS < due_ns <= HOLD_NS + 10_000_000
        assert router.acceptance.counters.held == 0
        assert published(router) == [("a", 3), ("b", 2)]


def test_the_label_is_the_wall_clock_as_it_was_read() -> None:
    router = Router()
    router.bring("a", "one")
    router.jumping_ns = -HOUR_NS
    router.bring("a", "two")

    first, second = (record.received_ns for _, record in router.output[1:])
    assert second - first == 1_000_000 - HOUR_NS
