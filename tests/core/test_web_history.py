from mcm.core.web_history import INTERVAL_S, POINTS, History


def test_points_are_taken_at_their_interval_and_no_more_than_ten_minutes_are_kept() -> None:
    history = History()

    taken = [history.observe({"one": float(n)}, now=100.0 + n) for n in range(1_300)]

    assert taken[:5] == [True, False, True, False, True]
    assert len(history.points()["one"]) == POINTS == 600 / INTERVAL_S
    assert history.points()["one"][-1] == history.newest(["one"])["one"] == 1_298.0


def test_a_line_that_comes_later_has_nothing_for_the_time_before() -> None:
    history = History()
    history.observe({"one": 1.0}, now=0.0)

    history.observe({"one": 1.0, "two": 2.0}, now=2.0)

    assert history.points() == {"one": [1.0, 1.0], "two": [None, 2.0]}


def test_a_pause_is_not_made_up_for() -> None:
    history = History()
    history.observe({"one": 1.0}, now=0.0)

    assert history.observe({"one": 1.0}, now=1_000.0)
    assert not history.observe({"one": 1.0}, now=1_001.0)
    assert history.count == 2


def test_a_line_that_has_been_gone_for_ten_minutes_is_forgotten() -> None:
    history = History()
    history.observe({"one": 1.0, "two": 1.0}, now=0.0)

    for n in range(POINTS):
        history.observe({"two": 1.0}, now=2.0 * (n + 1))

    assert set(history.points()) == {"two"}
    assert history.newest(["one"]) == {"one": None}
