"""A line that is down loses its topics within a second, and gets them back only when it is well for a minute."""

import math

from mcm.core.fitness import FORGIVEN_S, PATIENCE_S, START_S, Fitness


def observed(fitness: Fitness, *, is_up: bool, until: float, since: float) -> None:
    now = since
    while now <= until:
        fitness.observe("a", is_up=is_up, now=now)
        now += 0.1


def test_a_hiccup_costs_a_line_nothing() -> None:
    fitness = Fitness()
    observed(fitness, is_up=True, since=0, until=5)

    observed(fitness, is_up=False, since=5, until=5 + PATIENCE_S / 2)
    observed(fitness, is_up=True, since=5 + PATIENCE_S * 0.9, until=6)

    assert fitness.is_fit("a")


def test_a_line_that_stays_down_is_unfit_within_a_second() -> None:
    fitness = Fitness()
    observed(fitness, is_up=True, since=0, until=5)

    observed(fitness, is_up=False, since=5, until=5.8)

    assert not fitness.is_fit("a")
    assert fitness.fit_in_s("a", now=5.8) == math.inf


def test_a_line_that_was_never_up_has_more_time() -> None:
    fitness = Fitness()

    observed(fitness, is_up=False, since=0, until=START_S - 1)
    assert fitness.is_fit("a")
    observed(fitness, is_up=False, since=START_S - 1, until=START_S + 1)
    assert not fitness.is_fit("a")


def test_probation_lasts_a_minute_and_twice_as_long_after_each_relapse() -> None:
    fitness, now = Fitness(), 0.0
    for probation_s in (60, 120, 240):
        observed(fitness, is_up=True, since=now, until=now + probation_s + 1 if now else 1)
        now += probation_s + 1 if now else 1
        assert fitness.is_fit("a")
        observed(fitness, is_up=False, since=now, until=now + 1)
        now += 1
        assert not fitness.is_fit("a")
        observed(fitness, is_up=True, since=now, until=now + 0.5)
        assert 0 < fitness.fit_in_s("a", now=now + 0.5) <= probation_s
    observed(fitness, is_up=True, since=now, until=now + FORGIVEN_S + 10)
    now += FORGIVEN_S + 10
    observed(fitness, is_up=False, since=now, until=now + 1)
    observed(fitness, is_up=True, since=now + 1, until=now + 2)

    assert fitness.fit_in_s("a", now=now + 2) <= 60


def test_an_unknown_line_is_fit() -> None:
    assert Fitness().is_fit("b")
