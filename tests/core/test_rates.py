"""Rates follow what ticks, and only what has changed noticeably is told."""

import pytest

from mcm.core.rates import Rates


def test_a_topic_begins_with_its_first_whole_stretch_and_follows_a_change_within_minutes() -> None:
    rates = Rates()

    assert rates.update({"T.A": 20, "T.B": 1}, 5.0) == {}, "it may have begun in the middle"
    assert rates.update({"T.A": 50, "T.B": 5}, 5.0) == {"T.A": 10.0, "T.B": 1.0}
    told = {"T.A": 10.0}
    for _ in range(60):
        told |= rates.update({"T.A": 500, "T.B": 5}, 5.0)

    assert told["T.A"] == pytest.approx(100.0, rel=0.1)
    assert "T.B" not in told


def test_a_topic_that_falls_silent_fades_and_one_that_is_carried_no_more_is_forgotten() -> None:
    rates = Rates()
    told: dict[str, float] = {}
    for _ in range(2):
        told |= rates.update({"T.A": 50, "T.B": 50}, 5.0)
    assert told == {"T.A": 10.0, "T.B": 10.0}
    for _ in range(60):
        told |= rates.update({"T.B": 50}, 5.0)

    assert told["T.A"] < 0.2
    rates.forget({"T.B"})
    assert rates.update({"T.B": 10}, 5.0) == {}
    assert rates.update({"T.B": 10}, 5.0) == {"T.B": 2.0}
