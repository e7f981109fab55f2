from hypothesis import given
from hypothesis import strategies as st

from mcm.core.liveness import GRACE_S, LIMIT_S, Liveness


def verdicts(child: Liveness, since: float, until: float) -> list[float]:
    """Judge four times a second; every time that the child was overdue."""
    times = [since + step / 4 for step in range(int((until - since) * 4) + 1)]
    return [now for now in times if child.judge(now) is not None]


def test_a_child_that_is_not_ready_has_the_grace_of_a_start() -> None:
    child = Liveness(heard=100.0)

    assert verdicts(child, 100.0, 100.0 + GRACE_S) == []
    assert child.judge(100.5 + GRACE_S) == GRACE_S + 0.5


def test_a_ready_child_may_be_silent_for_five_seconds_and_no_longer() -> None:
    child = Liveness(heard=100.0, ready=True)

    assert verdicts(child, 100.0, 100.0 + LIMIT_S) == []
    assert child.judge(100.5 + LIMIT_S) == LIMIT_S + 0.5


@given(st.lists(st.integers(0, int(LIMIT_S)), min_size=1, max_size=20))
def test_a_child_that_beats_in_time_is_never_overdue(pauses: list[int]) -> None:
    now = 0.0
    child = Liveness(heard=now, ready=True)

    for pause_s in pauses:
        assert verdicts(child, now, now + pause_s) == []
        now += pause_s
        child.beat(now)


def test_a_beat_that_is_read_late_does_not_turn_the_clock_back() -> None:
    child = Liveness(heard=100.0, ready=True)
    child.beat(104.0)

    child.beat(101.0)

    assert verdicts(child, 104.0, 109.0) == []


def test_after_the_judge_itself_was_suspended_everybody_gets_a_fresh_limit() -> None:
    child = Liveness(heard=100.0, ready=True)
    child.judge(101.0)

    assert child.judge(5_000.0) is None
    assert verdicts(child, 5_000.0, 5_000.0 + LIMIT_S) == []
    assert child.judge(5_000.5 + LIMIT_S) is not None


def test_a_judge_that_is_only_a_little_late_forgives_nothing() -> None:
    child = Liveness(heard=100.0, ready=True)
    for now in (101.5, 103.0, 104.9):
        child.judge(now)

    assert child.judge(106.5) == 6.5
