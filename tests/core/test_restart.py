from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.restart import HEALTHY_S, ROUTER, SERVICE, WORKER, GiveUp, Life, Park, Policy, StartAt, decide


def after(policy: Policy, *lives: Life, parkings: int = 0) -> StartAt | Park | GiveUp:
    return decide(policy, lives, parkings=parkings, rng=Random(1))


def crashes(*times: float) -> list[Life]:
    return [Life(ended, healthy_s=0.0) for ended in times]


class History:
    """A child as its supervisor treats it: starts when it may, dies after so many seconds, *parkings* counted."""

    def __init__(self, policy: Policy, seed: int = 1) -> None:
        self.policy, self.rng = policy, Random(seed)
        self.now, self.parkings = 1_000.0, 0
        self.lives: list[Life] = []

    def live(self, seconds: float, *, healthy_s: float = 0.0) -> StartAt | Park | GiveUp:
        self.now += seconds
        self.lives = [*self.lives, Life(self.now, healthy_s)][-64:]
        decision = decide(self.policy, tuple(self.lives), parkings=self.parkings, rng=self.rng)
        match decision:
            case StartAt(when):
                self.now = when
            case Park(until):
                self.now, self.parkings = until, self.parkings + 1
        return decision

    def pause_s(self, seconds: float, *, healthy_s: float = 0.0) -> float:
        """How long it is parked after one more life."""
        decision = self.live(seconds, healthy_s=healthy_s)
        assert isinstance(decision, Park)
        return decision.until - self.lives[-1].ended


# --- delays ----------------------------------------------------------------------------------------------------------


def test_the_first_restart_after_a_healthy_life_is_immediate() -> None:
    assert after(WORKER, *crashes(1, 2, 3), Life(100.0, healthy_s=HEALTHY_S)) == StartAt(100.0)


def test_a_life_just_short_of_healthy_does_not_start_the_delays_over() -> None:
    lives = [*crashes(0.0, 20.0, 40.0), Life(99.9, healthy_s=59.9)]

    waits = {decide(WORKER, lives, parkings=0, rng=Random(seed)) for seed in range(50)}

    assert len(waits) == 50
    assert all(isinstance(wait, StartAt) and 99.9 <= wait.when <= 99.9 + 0.25 * 2**3 for wait in waits)


@given(st.lists(st.floats(20.0, 100.0), min_size=1, max_size=64), st.integers())
def test_a_delay_never_exceeds_the_longest(pauses: list[float], seed: int) -> None:
    now, lives = 0.0, []
    for pause_s in pauses:
        now += pause_s
        lives.append(Life(now, healthy_s=0.0))

    decision = decide(ROUTER, lives, parkings=0, rng=Random(seed))

    assert isinstance(decision, GiveUp) or now <= decision_time(decision) <= now + ROUTER.max_delay_s


def decision_time(decision: StartAt | Park | GiveUp) -> float:
    assert isinstance(decision, StartAt)
    return decision.when


def test_delays_grow_with_the_crashes_in_a_row() -> None:
    means = []

    for count in range(1, 5):
        lives = crashes(*(20.0 * number for number in range(count)))
        waits = [decision_time(decide(WORKER, lives, parkings=0, rng=Random(seed))) for seed in range(400)]
        means.append(sum(waits) / 400 - lives[-1].ended)

    assert means == pytest.approx([0.125, 0.25, 0.5, 1.0], rel=0.15)


# --- the two windows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [WORKER, SERVICE])
def test_five_crashes_within_a_minute_park_a_child_for_five_minutes(policy: Policy) -> None:
    assert isinstance(after(policy, *crashes(0, 10, 20, 30)), StartAt)
    assert after(policy, *crashes(0, 10, 20, 30, 59)) == Park(59 + 300.0, 5, 60.0)


def test_crashes_older_than_the_window_do_not_count() -> None:
    assert isinstance(after(WORKER, *crashes(0, 10, 20, 30, 60)), StartAt)


def test_one_crash_every_fortyfive_seconds_is_caught_by_the_longer_window() -> None:
    slow = [44.0 * number for number in range(20)]

    assert isinstance(after(WORKER, *crashes(*slow[:19])), StartAt)
    assert after(WORKER, *crashes(*slow)) == Park(slow[-1] + 300.0, 20, 900.0)


def test_ten_failures_of_the_router_in_five_minutes_end_the_tree() -> None:
    times = [30.0 * number for number in range(10)]

    assert isinstance(after(ROUTER, *crashes(*times[:9])), StartAt)
    assert after(ROUTER, *crashes(*times)) == GiveUp(10, 300.0)


@given(st.lists(st.floats(0.0, 400.0), max_size=64), st.integers(0, 5_000))
def test_a_worker_never_ends_the_tree_and_the_router_is_never_parked(pauses: list[float], parkings: int) -> None:
    now, lives = 0.0, []

    for pause_s in pauses:
        now += pause_s
        lives.append(Life(now, healthy_s=0.0))
        assert isinstance(after(WORKER, *lives, parkings=parkings), StartAt | Park)
        assert isinstance(after(ROUTER, *lives), StartAt | GiveUp)


# --- parked ----------------------------------------------------------------------------------------------------------


def test_a_parked_child_gets_one_trial_and_longer_pauses_up_to_half_an_hour() -> None:
    child = History(WORKER)
    while not isinstance(child.live(0.1), Park):
        pass

    pauses = [child.pause_s(0.1) for _ in range(6)]

    assert pauses == pytest.approx([600.0, 1_200.0, 1_800.0, 1_800.0, 1_800.0, 1_800.0])


def test_a_healthy_trial_forgives_everything() -> None:
    child = History(WORKER)
    while not isinstance(child.live(0.1), Park):
        pass
    child.pause_s(0.1)

    assert child.live(3_600.0, healthy_s=3_590.0) == StartAt(child.now)
    assert [type(child.live(0.1)) for _ in range(3)] == [StartAt] * 3
    assert child.pause_s(0.1) == pytest.approx(300.0)


def test_a_child_that_was_parked_for_weeks_is_still_tried_every_half_hour() -> None:
    child = History(WORKER)

    assert isinstance(after(WORKER, *crashes(0, 1, 2, 3, 4), parkings=5_000), Park)
    decisions = [child.live(0.1) for _ in range(300)]

    assert sum(isinstance(decision, Park) for decision in decisions) > 260


@given(st.lists(st.tuples(st.floats(0.01, 200.0), st.booleans()), min_size=1, max_size=100), st.integers())
def test_no_history_of_a_worker_has_more_than_five_starts_in_a_minute(
    lives: list[tuple[float, bool]], seed: int
) -> None:
    child = History(WORKER, seed)
    starts = [child.now]

    for seconds, works in lives:
        child.live(seconds, healthy_s=seconds if works else 0.0)
        starts.append(child.now)

    for start in starts:
        assert sum(start <= other < start + 60.0 for other in starts) <= 5
