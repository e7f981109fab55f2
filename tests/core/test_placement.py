"""A topic moves from line to line without a moment in which fewer lines have it confirmed than before."""

import random
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from mcm.core.placement import CONFIRM_S, UNCOVER_S, Placement

LINES = ("a", "b", "c")
EVERY = "stocks.T.*"
SINGLES = ("stocks.T.A", "stocks.T.B", "stocks.Q.A")
TOPICS = (*SINGLES, EVERY)
Plan = Mapping[str, Sequence[str]]


class World:
    """A router that acknowledges and lines that confirm, when the test lets them."""

    def __init__(self) -> None:
        self.placement = Placement()
        self.now = 0.0
        self.sent = self.acknowledged = 0
        self.up = set(LINES)
        self.confirmed: set[tuple[str, str]] = set()
        self.exposed: dict[str, list[str]] = {}
        self.covered: dict[str, frozenset[str]] = {}
        self.known: dict[str, frozenset[str]] = {}  # what the router has acknowledged

    def desire(self, plan: Plan, *, alone: str = "") -> None:
        """All lines may stand in, or none beside *alone*."""
        self.placement.desire(plan, {"stocks": [alone] if alone else LINES})

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
        self.exposed = changes.exposed
        for line in LINES:
            carried = self.placement.of_line(line)
            self.confirmed -= {(line, topic) for topic in TOPICS if topic not in carried}
            assert EVERY not in carried or not carried & {"stocks.T.A", "stocks.T.B"}, "told both"

    def acknowledge(self) -> None:
        self.acknowledged = self.sent
        self.known = dict(self.covered)

    def confirm(self, line: str) -> None:
        if line in self.up:
            self.confirmed |= {(line, topic) for topic in self.placement.of_line(line)}

    def go_down(self, line: str) -> None:
        self.up.discard(line)
        self.confirmed = {(name, topic) for name, topic in self.confirmed if name != line}

    def wait_in_vain(self) -> None:
        """The router acknowledges, the lines are told, and none confirms anything in time."""
        for _ in range(3):
            self.turn()
            self.acknowledge()
        self.now += CONFIRM_S + 1
        self.turn()

    def settle(self) -> None:
        for _ in range(10):
            self.turn()
            self.acknowledge()
            for line in LINES:
                self.confirm(line)

    def confirmed_lines(self, topic: str) -> set[str]:
        """Living lines that have confirmed it, or its channel."""
        names = {topic, EVERY} if topic.startswith("stocks.T.") else {topic}
        return {line for line, held in self.confirmed if held in names} & self.up

    def known_lines(self, topic: str) -> frozenset[str]:
        """Who carries it, as the router has it."""
        whole = self.known.get(EVERY, frozenset[str]()) if topic.startswith("stocks.T.") else frozenset[str]()
        return self.known.get(topic, frozenset()) | whole


def lines_for(plan: Plan, topic: str) -> set[str]:
    return {*plan.get(topic, ()), *(plan.get(EVERY, ()) if topic.startswith("stocks.T.") else ())}


def without_both(plan: Plan) -> Plan:
    """Where the whole channel is, its single topics are not."""
    whole = plan.get(EVERY, ())
    left = {
        topic: [line for line in lines if topic in {EVERY, "stocks.Q.A"} or line not in whole]
        for topic, lines in plan.items()
    }
    return {topic: lines for topic, lines in left.items() if lines}


PLANS = st.dictionaries(
    st.sampled_from(TOPICS), st.lists(st.sampled_from(LINES), min_size=1, max_size=2, unique=True), max_size=4
).map(without_both)
STEPS = ["acknowledge", "turn", "confirm a", "confirm b", "confirm c"]
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("plan"), PLANS),
        st.tuples(st.sampled_from([*STEPS, "wait"]), st.just({})),
        st.tuples(st.sampled_from([*STEPS, "down a", "up a"]), st.just({})),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.sampled_from(["", "", "a"]))
def test_no_step_leaves_a_topic_with_fewer_confirmed_lines_and_no_second_line_begins_uncovered(
    events: list[tuple[str, Plan]], alone: str
) -> None:
    world = World()
    plan: Plan = {}

    for what, new_plan in events:
        before = {topic: len(world.confirmed_lines(topic)) for topic in TOPICS}
        was_whole = EVERY in world.placement.carriers
        match what.split():
            case ["plan"]:
                plan = new_plan
                world.desire(plan, alone=alone)
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

        assert alone or not world.exposed, "another line could have stood in"
        exposed = {topic for topics in world.exposed.values() for topic in topics}
        for topic in TOPICS:
            carriers = world.placement.lines_of(topic).keys()
            wanted = len(lines_for(plan, topic))
            if (topic == EVERY and not wanted) or topic in exposed or (EVERY in exposed and topic != "stocks.Q.A"):
                continue
            most = 1 if was_whole or EVERY in plan else wanted  # a line that changes lacks both for a moment
            assert len(world.confirmed_lines(topic)) >= min(before[topic], wanted, most)
            if len(carriers) > 1 and (topic == EVERY or topic in world.placement.carriers):
                assert carriers <= world.known_lines(topic), "the router was not told before"
    world.up = set(LINES)
    world.settle()
    assert world.placement.stuck or world.placement.carriers == {
        topic: frozenset(lines) for topic, lines in plan.items()
    }
    world.desire(plan, alone=alone)
    world.settle()
    assert not world.placement.is_moving
    assert world.placement.carriers == {topic: frozenset(lines) for topic, lines in plan.items()}
    world.now += UNCOVER_S
    world.settle()
    world.now += UNCOVER_S
    world.settle()
    for topic, lines in world.covered.items():
        assert len(lines) < 2 or lines == world.placement.lines_of(topic).keys(), "covered for ever"


def test_a_move_takes_its_steps_in_order() -> None:
    world, topic = World(), "stocks.T.A"
    world.desire({topic: ["a"]})
    world.settle()
    assert world.covered == {}

    world.desire({topic: ["b"]})
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
    world.desire({topic: ["a"]})
    world.settle()
    world.go_down("a")

    world.desire({topic: ["b"]})
    world.turn()
    world.acknowledge()
    world.turn()
    world.turn()

    assert world.placement.carriers[topic] == {"b"}


def test_what_the_new_line_does_not_confirm_stays_where_it_was_and_that_is_said() -> None:
    world, topic = World(), "stocks.T.A"
    world.desire({topic: ["a"]})
    world.settle()

    world.desire({topic: ["b"]})
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
    world.desire({topic: ["a"] for topic in topics})
    world.turn()
    world.desire({topic: [random.Random(1).choice("bc")] for topic in topics})

    world.turn()

    assert world.sent == 1
    assert len(world.covered) == 5_000


# --- a whole channel in the place of single topics, and the other way round ---


def test_a_whole_channel_takes_over_from_single_topics_of_other_lines() -> None:
    world = World()
    world.desire({"stocks.T.A": ["a"], "stocks.T.B": ["b"]})
    world.settle()

    world.desire({EVERY: ["c"]})
    world.turn()
    assert world.covered == {"stocks.T.A": {"a", "c"}, "stocks.T.B": {"b", "c"}}
    assert world.placement.of_line("c") == set(), "the router has not yet said that it knows"
    world.acknowledge()
    world.turn()
    assert world.placement.of_line("c") == {EVERY}
    world.turn()
    assert world.placement.lines_of("stocks.T.A") == {"a": "stocks.T.A", "c": EVERY}
    world.confirm("c")
    world.turn()
    assert world.placement.carriers == {EVERY: {"c"}}
    world.now += UNCOVER_S
    world.turn()
    world.turn()
    assert not any(world.covered.values())


def test_a_line_that_changes_to_the_whole_channel_has_another_stand_in() -> None:
    world = World()
    world.desire({"stocks.T.A": ["a"], "stocks.T.B": ["b"]})
    world.settle()

    world.desire({EVERY: ["a"]})
    seen: list[set[str]] = []
    for _ in range(12):
        world.turn()
        world.acknowledge()
        world.confirm("abc"[len(seen) % 3])
        seen.append(world.confirmed_lines("stocks.T.A"))

    assert all(seen), "it is carried at every moment"
    assert {"c"} in seen, "by the line that has least, while the other one changes"
    world.settle()
    assert world.placement.carriers == {EVERY: {"a"}}
    assert not world.placement.is_moving


def test_a_line_that_changes_back_to_single_topics_has_another_stand_in() -> None:
    world = World()
    world.desire({EVERY: ["a"]})
    world.settle()

    world.desire({"stocks.T.A": ["a"], "stocks.T.B": ["b"]})
    for _ in range(12):
        world.turn()
        assert world.confirmed_lines("stocks.T.A"), "it is carried at every moment"
        assert world.confirmed_lines("stocks.T.B")
        world.acknowledge()
        for line in LINES:
            world.confirm(line)

    world.settle()
    assert world.placement.carriers == {"stocks.T.A": {"a"}, "stocks.T.B": {"b"}}


def test_where_no_line_can_stand_in_what_is_missed_is_told_once() -> None:
    world = World()
    plan = {"stocks.T.A": ["a"], "stocks.T.B": ["a"]}
    world.desire(plan, alone="a")
    world.settle()

    world.desire({EVERY: ["a"]}, alone="a")
    world.turn()
    assert {line: sorted(topics) for line, topics in world.exposed.items()} == {"a": ["stocks.T.A", "stocks.T.B"]}
    assert world.placement.of_line("a") == {EVERY}
    world.turn()
    assert world.exposed == {}
    world.confirm("a")

    world.desire(plan, alone="a")
    world.turn()
    assert {line: sorted(topics) for line, topics in world.exposed.items()} == {"a": ["stocks.T.A", "stocks.T.B"]}
    assert world.placement.of_line("a") == {"stocks.T.A", "stocks.T.B"}


def test_single_topics_stay_until_the_whole_channel_is_confirmed_however_late() -> None:
    world = World()
    world.desire({"stocks.T.A": ["a"]})
    world.settle()

    world.desire({EVERY: ["b"]})
    world.wait_in_vain()
    assert world.placement.stuck == {"stocks.T.A": "b did not confirm it within 12 s; it stays on a"}

    world.confirm("b")
    world.turn()
    world.turn()
    assert world.placement.stuck == {}
    assert world.placement.carriers == {EVERY: {"b"}}


def test_a_topic_with_a_copy_beside_the_whole_channel_stays_covered() -> None:
    world = World()
    plan = {EVERY: ["a"], "stocks.T.A": ["b"]}
    world.desire(plan)
    world.settle()
    world.now += 2 * UNCOVER_S
    world.settle()

    assert world.covered["stocks.T.A"] == {"a", "b"}

    world.desire(plan | {EVERY: ["c"]})
    world.settle()
    assert world.covered["stocks.T.A"] >= {"b", "c"}
    world.now += UNCOVER_S
    world.settle()
    assert world.covered["stocks.T.A"] == {"b", "c"}


# --- what does not come is given up, and nothing that has come ---


def test_of_two_new_lines_only_the_one_that_does_not_confirm_is_given_up() -> None:
    world, topic = World(), "stocks.T.A"
    world.desire({topic: ["a", "b"]})
    world.settle()

    world.desire({topic: ["b", "c"]})
    world.wait_in_vain()

    assert world.placement.carriers[topic] == {"a", "b"}
    assert world.placement.stuck == {topic: "c did not confirm it within 12 s; it stays on a"}


def test_a_plan_made_again_while_it_waits_does_not_make_it_wait_for_ever() -> None:
    world, topic = World(), "stocks.T.A"
    world.desire({topic: ["a"]})
    world.settle()
    world.desire({topic: ["b"]})
    for _ in range(3):
        world.turn()
        world.acknowledge()
    world.desire({topic: ["b"]})
    world.turn()

    world.now += CONFIRM_S + 1
    world.turn()

    assert world.placement.carriers[topic] == {"a"}
    assert topic in world.placement.stuck


def test_what_is_stuck_on_a_line_that_goes_is_tried_again() -> None:
    world, topic = World(), "stocks.T.A"
    world.desire({topic: ["a"]})
    world.settle()
    world.desire({topic: ["b"]})
    world.wait_in_vain()
    assert topic in world.placement.stuck

    world.go_down("a")
    world.settle()

    assert world.placement.carriers[topic] == {"b"}
    assert world.placement.stuck == {}
