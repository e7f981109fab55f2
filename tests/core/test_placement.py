"""A topic moves from line to line without a moment in which fewer lines have it confirmed than before."""

import random

from hypothesis import given
from hypothesis import strategies as st

from mcm.core.placement import CONFIRM_S, UNCOVER_S, Placement

LINES = ("a", "b", "c")
TOPICS = ("stocks.T.A", "stocks.T.B", "stocks.Q.A")
Plan = dict[str, tuple[str, ...]]


class World:
    """A router that acknowledges and lines that confirm, when the test lets them."""

    def __init__(self) -> None:
        self.placement = Placement()
        self.now = 0.0
        self.sent = self.acknowledged = 0
        self.up = set(LINES)
        self.confirmed: set[tuple[str, str]] = set()
        self.covered: dict[str, frozenset[str]] = {}
        self.known: dict[str, frozenset[str]] = {}  # what the router has acknowledged

    def turn(self) -> None:
        changes = self.placement.turn(
            self.now,
            up=self.up,
            confirmed=lambda line, topic: (line, topic) in self.confirmed,
            sent=self.sent + 1,
            acknowledged=self.acknowledged,
        )
        if changes.covers:
            self.sent += 1
        for topics, lines, _ in changes.covers:
            for topic in topics:
                self.covered[topic] = lines
        for line in LINES:
            carried = self.placement.of_line(line)
            self.confirmed -= {(line, topic) for topic in TOPICS if topic not in carried}

    def acknowledge(self) -> None:
        self.acknowledged = self.sent
        self.known = dict(self.covered)

    def confirm(self, line: str) -> None:
        if line in self.up:
            self.confirmed |= {(line, topic) for topic in self.placement.of_line(line)}

    def go_down(self, line: str) -> None:
        self.up.discard(line)
        self.confirmed = {(name, topic) for name, topic in self.confirmed if name != line}

    def settle(self) -> None:
        for _ in range(10):
            self.turn()
            self.acknowledge()
            for line in LINES:
                self.confirm(line)

    def confirmed_lines(self, topic: str) -> set[str]:
        return {line for line, held in self.confirmed if held == topic}


PLANS = st.dictionaries(
    st.sampled_from(TOPICS),
    st.lists(st.sampled_from(LINES), min_size=1, max_size=2, unique=True).map(tuple),
    max_size=3,
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("plan"), PLANS),
        st.tuples(st.sampled_from(["acknowledge", "turn", "wait"]), st.just({})),
        st.tuples(st.sampled_from(["confirm a", "confirm b", "confirm c", "down a", "up a"]), st.just({})),
    ),
    max_size=40,
)


@given(EVENTS)
def test_no_step_leaves_a_topic_with_fewer_confirmed_lines_and_no_second_line_begins_uncovered(
    events: list[tuple[str, Plan]],
) -> None:
    world, plan = World(), {}

    for what, new_plan in events:
        before = {topic: len(world.confirmed_lines(topic) & world.up) for topic in TOPICS}
        match what.split():
            case ["plan"]:
                plan = new_plan
                world.placement.desire(plan)
            case ["acknowledge"]:
                world.acknowledge()
            case ["wait"]:
                world.now += 5.0
            case ["confirm", line]:
                world.confirm(line)
            case ["down", line]:
                world.go_down(line)
                continue
            case ["up", line]:
                world.up.add(line)
        world.turn()

        for topic in TOPICS:
            carriers = world.placement.carriers.get(topic, frozenset())
            wanted = len(plan.get(topic, ()))
            assert len(world.confirmed_lines(topic) & world.up) >= min(before[topic], wanted)
            if len(carriers) > 1:
                assert carriers <= world.known.get(topic, frozenset()), "the router was not told before"
    world.up = set(LINES)
    world.settle()
    if not world.placement.stuck:
        assert world.placement.carriers == {topic: frozenset(lines) for topic, lines in plan.items()}


def test_a_move_takes_its_steps_in_order() -> None:
    world, topic = World(), "stocks.T.A"
    world.placement.desire({topic: ["a"]})
    world.settle()
    assert world.covered == {}

    world.placement.desire({topic: ["b"]})
    world.turn()
    assert world.covered[topic] == {"a", "b"}
    assert world.placement.carriers[topic] == {"a"}
    world.acknowledge()
    world.turn()
    assert world.placement.carriers[topic] == {"a", "b"}
    world.turn()
    assert world.placement.carriers[topic] == {"a", "b"}
    world.confirm("b")
    world.turn()
    assert world.placement.carriers[topic] == {"b"}
    assert world.covered[topic] == {"a", "b"}
    world.now += UNCOVER_S
    world.turn()
    assert world.covered[topic] == {"b"}


def test_a_line_that_is_down_holds_nothing_up() -> None:
    world, topic = World(), "stocks.T.A"
    world.placement.desire({topic: ["a"]})
    world.settle()
    world.go_down("a")

    world.placement.desire({topic: ["b"]})
    world.turn()
    world.acknowledge()
    world.turn()
    world.turn()

    assert world.placement.carriers[topic] == {"b"}


def test_what_the_new_line_does_not_confirm_stays_where_it_was_and_that_is_said() -> None:
    world, topic = World(), "stocks.T.A"
    world.placement.desire({topic: ["a"]})
    world.settle()

    world.placement.desire({topic: ["b"]})
    world.turn()
    world.acknowledge()
    world.turn()
    world.now += CONFIRM_S + 1
    world.turn()

    assert world.placement.carriers[topic] == {"a"}
    assert world.placement.stuck == {topic: "b did not confirm it within 12 s; it stays on a"}


def test_thousands_of_topics_move_in_a_few_covers() -> None:
    world = World()
    topics = [f"stocks.T.S{number}" for number in range(5_000)]
    world.placement.desire({topic: ["a"] for topic in topics})
    world.turn()
    world.placement.desire({topic: [random.Random(1).choice("bc")] for topic in topics})

    world.turn()

    assert world.sent == 1
    assert len(world.covered) == 5_000
