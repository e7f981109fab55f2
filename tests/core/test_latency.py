import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.latency import BOUNDS_S, Histogram, Recent


def test_quantiles_lie_within_the_bucket_of_their_value() -> None:
    histogram = Histogram()
    for value in [0.003] * 99 + [0.3]:
        histogram.add(value)

    assert 0.002 <= (histogram.quantile_s(0.5) or 0) <= 0.005
    assert 0.2 <= (histogram.quantile_s(0.999) or 0) <= 0.5
    assert histogram.total == 100
    assert histogram.sum_s == pytest.approx(0.597)


def test_what_holds_nothing_has_no_quantile() -> None:
    assert Histogram().quantile_s(0.5) is None


def test_a_negative_time_counts_as_none_and_an_endless_one_falls_behind_the_last_bound() -> None:
    histogram = Histogram()
    histogram.add(-1.0)
    histogram.add(1e9)

    assert histogram.counts[0] == histogram.counts[-1] == 1
    assert histogram.quantile_s(1.0) == BOUNDS_S[-1]


@given(st.lists(st.floats(0, 900), min_size=1), st.floats(0, 1))
def test_a_quantile_is_never_beyond_the_bucket_of_the_greatest_value(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)

    found = histogram.quantile_s(share)

    assert found is not None
    assert 0 <= found <= min(bound for bound in BOUNDS_S if bound >= max(values))


def test_what_is_recent_ends_after_a_minute_and_the_whole_never() -> None:
    recent = Recent()
    recent.add(0.001, now=100.0)

    assert recent.recent(129.0).total == 1
    assert recent.recent(131.0).total == 1
    assert recent.recent(200.0).total == 0
    assert recent.whole.total == 1
