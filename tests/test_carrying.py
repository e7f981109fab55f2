"""Carrying between the plan and the gaps: what a line was told to let go does not count there any more."""

import time
from collections.abc import Callable, Sequence
from typing import cast

from mcm.carrying import Carrying
from mcm.core.assignment import Wish
from mcm.core.control import BatchesLost
from mcm.core.gaps import GapClosed, GapOpened, GapRecord, GapRepaired
from mcm.core.settings import Connection
from mcm.herald import Herald

TOPIC = "stocks.T.AAPL"
LINES = [Connection("primary"), Connection("secondary")]
BOTH = ["primary", "secondary"]


class Quiet:
    """A herald whom the router has always heard."""

    def __init__(self) -> None:
        self.acknowledged, self.gaps = 10**6, list[GapRecord]()

    @property
    def next_number(self) -> int:
        return 1

    def say(self, *, gaps: Sequence[GapRecord] = (), **_: object) -> None:
        self.gaps += gaps


def carrying_on(line: str) -> tuple[Carrying, Quiet]:
    """Two lines; *line* carries the topic, confirmed."""
    herald = Quiet()
    carrying = Carrying(cast("Herald", herald), tell=lambda _: None, closed=lambda *_: None)
    pin(carrying, line)
    carrying.confirmed(line, ["T.AAPL"], is_new_list=True)
    return carrying, herald


def pin(carrying: Carrying, line: str) -> None:
    carrying.want(LINES, [Wish("stocks", "T.AAPL", line)], "manual")
    carrying.replan(BOTH, "a test")
    for _ in range(3):
        carrying.turn(0.0, BOTH)


def test_a_line_that_has_let_a_topic_go_is_no_reason_to_open_no_gap() -> None:
    carrying, herald = carrying_on("primary")
    pin(carrying, "secondary")
    assert carrying.placement.carriers[TOPIC] == {"primary", "secondary"}, "made before it is broken"
    carrying.confirmed("secondary", ["T.AAPL"], is_new_list=False)
    carrying.turn(0.0, BOTH)
    assert carrying.placement.carriers[TOPIC] == {"secondary"}

    carrying.line_ended("secondary", "cut", since_ns=10**10)

    (gap,) = herald.gaps
    assert isinstance(gap, GapOpened)
    assert (gap.connection, gap.topics) == ("secondary", [TOPIC])


def test_a_late_word_of_a_line_that_has_let_a_topic_go_closes_no_gap() -> None:
    carrying, herald = carrying_on("primary")
    carrying.line_ended("primary", "cut", since_ns=10**10)

    carrying.confirmed("secondary", ["T.AAPL"], is_new_list=True)
    assert [type(gap) for gap in herald.gaps] == [GapOpened]

    carrying.confirmed("primary", ["T.AAPL"], is_new_list=True)
    assert [type(gap) for gap in herald.gaps] == [GapOpened, GapClosed]


def test_batches_that_are_lost_are_no_gap_of_what_another_line_has() -> None:
    carrying, herald = carrying_on("primary")
    lost = BatchesLost("primary", 3, 10**10, 2 * 10**10)

    carrying.batches_lost(lost)
    opened, closed = herald.gaps
    assert isinstance(opened, GapOpened)
    assert isinstance(closed, GapClosed)
    assert (opened.since_ns, closed.until_ns, closed.topics) == (10**10, 2 * 10**10, [TOPIC])

    herald.gaps.clear()
    carrying.want(LINES, [Wish("stocks", "T.AAPL", "primary", copies=2)], "manual")
    carrying.replan(BOTH, "a test")
    for _ in range(3):
        carrying.turn(0.0, BOTH)
    carrying.confirmed("secondary", ["T.AAPL"], is_new_list=True)
    now_ns = time.time_ns()
    carrying.batches_lost(BatchesLost("primary", 3, now_ns + 10**9, now_ns + 2 * 10**9))
    assert herald.gaps == []
    carrying.batches_lost(BatchesLost("primary", 3, now_ns - 10**9, now_ns + 2 * 10**9))
    assert len(herald.gaps) == 2, "the other one was not there from the beginning"


def alone(*wishes: Wish) -> tuple[Carrying, Quiet]:
    """One line that carries these, confirmed."""
    herald = Quiet()
    carrying = Carrying(cast("Herald", herald), tell=lambda _: None, closed=lambda *_: None)
    change(carrying, *wishes)
    carrying.confirmed("primary", [wish.item for wish in wishes], is_new_list=True)
    return carrying, herald


def change(carrying: Carrying, *wishes: Wish) -> None:
    carrying.want(LINES[:1], wishes, "manual")
    carrying.replan(["primary"], "a test")
    carrying.turn(0.0, ["primary"])


def test_with_one_line_a_change_to_the_whole_channel_is_a_gap_until_it_is_confirmed() -> None:
    carrying, herald = alone(Wish("stocks", "T.AAPL"))

    change(carrying, Wish("stocks", "T.AAPL"), Wish("stocks", "T.*"))

    (opened,) = herald.gaps
    assert isinstance(opened, GapOpened)
    assert opened.topics == [TOPIC]
    assert carrying.items_of("primary") == {"T.*"}
    assert not carrying.safety(TOPIC, ["primary"]).is_safe

    carrying.confirmed("primary", ["T.*"], is_new_list=False)

    closed = herald.gaps[-1]
    assert isinstance(closed, GapClosed)
    assert (closed.topics, closed.how) == ([TOPIC], "reconnected")
    assert carrying.safety(TOPIC, ["primary"]) == (True, "live on primary")
    assert carrying.why(TOPIC).carried_by.keys() == {"primary"}


def test_a_gap_of_what_nobody_wants_any_more_is_over() -> None:
    carrying, herald = alone(Wish("stocks", "T.AAPL"), Wish("stocks", "T.MSFT"))
    carrying.line_ended("primary", "cut", since_ns=10**10)

    change(carrying, Wish("stocks", "T.MSFT"))

    closed = herald.gaps[-1]
    assert isinstance(closed, GapClosed)
    assert (closed.topics, closed.how) == ([TOPIC], "no longer wanted")
    assert carrying.gaps.gap_of(TOPIC) is None
    assert carrying.gaps.gap_of("stocks.T.MSFT") is not None


def carrying_a_copy_beside_its_channel() -> tuple[Carrying, Quiet]:
    """One topic on the primary, and the whole channel, confirmed, on the secondary."""
    carrying, herald = carrying_on("primary")
    carrying.want(LINES, [Wish("stocks", "T.AAPL", "primary", copies=2), Wish("stocks", "T.*", "secondary")], "manual")
    carrying.replan(BOTH, "a test")
    for _ in range(3):
        carrying.turn(0.0, BOTH)
    carrying.confirmed("secondary", ["T.*"], is_new_list=True)
    return carrying, herald


def test_a_line_that_ends_opens_no_gap_of_what_another_carries_with_its_whole_channel() -> None:
    carrying, herald = carrying_a_copy_beside_its_channel()
    assert carrying.items_of("primary") == {"T.AAPL"}, "the second copy"

    carrying.line_ended("primary", "cut", since_ns=time.time_ns() + 2 * 10**9)

    assert herald.gaps == []


def test_what_a_line_leaves_behind_is_shared_out_by_what_was_measured() -> None:
    herald = Quiet()
    carrying = Carrying(cast("Herald", herald), tell=lambda _: None, closed=lambda *_: None)
    lines = [*LINES, Connection("tertiary")]
    wishes = [Wish("stocks", f"T.{symbol}", "primary") for symbol in "ABCD"]
    carrying.want(lines, wishes, "load-balanced")
    carrying.measured("primary", {"T.A": 900.0, "T.B": 300.0, "T.C": 300.0, "T.D": 300.0})

    carrying.replan(["secondary", "tertiary"], "primary is gone")

    assert sorted(map(len, carrying.plan.carries.values())) == [0, 1, 3]


def moved_to_the_other(now_ns: Callable[[], int]) -> tuple[Carrying, Quiet, int]:
    """The topic has gone from primary to secondary, which has it confirmed since the moment that is returned."""
    carrying, herald = carrying_on("primary")
    pin(carrying, "secondary")
    carrying.confirmed("secondary", ["T.AAPL"], is_new_list=False)
    confirmed_ns = now_ns()
    carrying.turn(0.0, BOTH)
    assert carrying.items_of("primary") == set()
    return carrying, herald, confirmed_ns


def test_a_line_that_was_dead_before_another_took_over_leaves_a_gap_until_then() -> None:
    carrying, herald, confirmed_ns = moved_to_the_other(time.time_ns)

    carrying.line_ended("primary", "its process ended", since_ns=confirmed_ns - 3 * 10**9, is_dead=True)

    opened, closed = herald.gaps
    assert isinstance(opened, GapOpened)
    assert isinstance(closed, GapClosed)
    assert (closed.topics, closed.how) == ([TOPIC], "other line")
    assert opened.since_ns == confirmed_ns - 4 * 10**9
    assert confirmed_ns - 10**9 < closed.until_ns <= confirmed_ns


def test_a_line_that_lived_when_another_took_over_leaves_none() -> None:
    carrying, herald, confirmed_ns = moved_to_the_other(time.time_ns)

    carrying.line_ended("primary", "its process ended", since_ns=confirmed_ns + 2 * 10**9, is_dead=True)

    assert herald.gaps == []


def test_a_line_that_was_closed_on_purpose_leaves_none() -> None:
    carrying, herald, confirmed_ns = moved_to_the_other(time.time_ns)

    carrying.line_ended("primary", "closed as asked", since_ns=confirmed_ns - 10**9, was_asked=True)

    assert herald.gaps == []


def test_a_new_list_of_a_line_that_goes_on_does_not_begin_anew() -> None:
    carrying, _ = carrying_on("primary")
    (before,) = carrying.why(TOPIC).carried_by.values()

    carrying.confirmed("primary", ["T.AAPL"], is_new_list=True)
    assert list(carrying.why(TOPIC).carried_by.values()) == [before]

    carrying.line_ended("primary", "cut", since_ns=time.time_ns())
    carrying.confirmed("primary", ["T.AAPL"], is_new_list=True)
    (after,) = carrying.why(TOPIC).carried_by.values()
    assert after is not None
    assert before is not None
    assert after > before


def test_a_topic_that_was_let_go_and_taken_up_again_is_in_a_gap_when_its_line_is_cut() -> None:
    carrying, herald = alone(Wish("stocks", "T.AAPL"))
    last_ns = time.time_ns() - 30 * 10**9
    change(carrying)
    change(carrying, Wish("stocks", "T.AAPL"))
    carrying.confirmed("primary", ["T.AAPL"], is_new_list=False)

    carrying.line_ended("primary", "cut", since_ns=last_ns)

    (opened,) = herald.gaps
    assert isinstance(opened, GapOpened)
    assert opened.topics == [TOPIC]


def test_what_a_dead_line_missed_before_it_was_told_to_let_go_is_a_gap_until_then() -> None:
    carrying, herald = alone(Wish("stocks", "T.AAPL"))
    last_ns = time.time_ns() - 30 * 10**9
    change(carrying)

    carrying.line_ended("primary", "no answer to a ping", since_ns=last_ns)

    opened, closed = herald.gaps
    assert isinstance(opened, GapOpened)
    assert isinstance(closed, GapClosed)
    assert (opened.since_ns, closed.how, closed.topics) == (last_ns - 10**9, "let go", [TOPIC])


def test_topics_that_take_over_from_a_missing_channel_are_missing_since_it_is() -> None:
    carrying, herald = alone(Wish("stocks", "T.*"))
    carrying.line_ended("primary", "cut", since_ns=10**10)

    change(carrying, Wish("stocks", "T.AAPL"))

    assert [(type(gap), gap.topics) for gap in herald.gaps if not isinstance(gap, GapRepaired)] == [
        (GapOpened, ["stocks.T.*"]),
        (GapOpened, [TOPIC]),
        (GapClosed, ["stocks.T.*"]),
    ]
    gap = carrying.gaps.gap_of(TOPIC)
    assert gap is not None
    assert gap.since_ns == 9 * 10**9


def test_a_copy_that_lives_is_safe_although_its_channel_is_missing() -> None:
    carrying, _ = carrying_a_copy_beside_its_channel()

    carrying.line_ended("secondary", "cut", since_ns=time.time_ns() + 2 * 10**9)

    assert carrying.gaps.gap_of(TOPIC) is not None
    assert carrying.safety(TOPIC, ["primary"]).is_safe
    assert not carrying.safety("stocks.T.MSFT", ["primary"]).is_safe
