from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mcm.core.backoff import full_jitter


@given(st.integers(0, 10_000_000), st.floats(0.01, 10.0), st.floats(10.0, 600.0), st.integers())
def test_a_wait_lies_between_nothing_and_the_doubled_base_and_never_above_the_cap(
    attempt: int, base_s: float, cap_s: float, seed: int
) -> None:
    wait_s = full_jitter(attempt, base_s=base_s, cap_s=cap_s, rng=Random(seed))

    assert 0 <= wait_s <= cap_s
    assert attempt > 32 or wait_s <= base_s * 2**attempt


def test_waiters_are_spread_evenly_so_that_they_never_move_in_step() -> None:
    rng = Random(1)

    waits = [full_jitter(4, base_s=0.5, cap_s=60.0, rng=rng) for _ in range(8_000)]

    for eighth in range(8):
        assert 900 < sum(eighth <= wait_s < eighth + 1 for wait_s in waits) < 1_100


def test_the_first_retry_waits_for_at_most_the_base() -> None:
    rng = Random(1)

    assert max(full_jitter(0, base_s=0.5, cap_s=60.0, rng=rng) for _ in range(1_000)) <= 0.5
