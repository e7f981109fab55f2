"""A worker rests where processes wait for processors, and only there."""

from hypothesis import given
from hypothesis import strategies as st

from mcm.core.respite import LONGEST_S, LOOK_S, Respite


def lived(respite: Respite, share: float, *, looks: int) -> float:
    """The rest after so many looks at a machine where this share of the time is spent waiting."""
    waited_ns = 0
    for look in range(looks):
        respite.observe(waited_ns, now=100 + look * LOOK_S)
        waited_ns += round(share * LOOK_S * 1e9)
    return respite.rest_s


def test_with_processors_to_spare_every_tick_leaves_at_once() -> None:
    assert lived(Respite(), 0.02, looks=100) == 0


def test_on_a_crowded_machine_it_rests_a_millisecond_within_half_a_second() -> None:
    assert lived(Respite(), 0.3, looks=10) == LONGEST_S


def test_the_rest_ends_when_the_crowd_has_left() -> None:
    respite = Respite()
    lived(respite, 0.3, looks=10)

    assert lived(respite, 0.0, looks=20) == 0


def test_between_the_two_it_stays_as_it_is() -> None:
    respite = Respite()
    for look in range(5):
        respite.observe(look * 20_000_000, now=look * LOOK_S)
    before = respite.rest_s

    respite.observe(80_000_000 + round(0.07 * LOOK_S * 1e9), now=5 * LOOK_S)

    assert respite.rest_s == before > 0


@given(st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1e6))))
def test_whatever_is_observed_the_rest_is_bounded(observations: list[tuple[int, float]]) -> None:
    respite = Respite()
    for waited_ns, now in observations:
        respite.observe(waited_ns, now=now)

        assert 0 <= respite.rest_s <= LONGEST_S
