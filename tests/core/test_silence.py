"""What can be concluded from a line that says nothing although its market is open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.silence import CERTAIN, SILENT_S, Seen, Silence

ALL_DAY = {"stocks": 3_600.0}
LEADERS = frozenset(f"T.L{number}" for number in range(20))


def line(*items: str, live_s: float | None = 20.0, tick_age_s: float | None = None) -> Seen:
    return Seen("stocks", live_s, tick_age_s, frozenset(items))


def speaking(*items: str) -> Seen:
    return line(*items, tick_age_s=0.1)


def knowing(**per_s: float) -> Silence:
    silence = Silence()
    silence.measured(
        "stocks", {f"T.{name}": rate for name, rate in per_s.items()}, {f"stocks.T.{name}" for name in per_s}
    )
    return silence


def test_a_new_line_of_topics_that_are_known_to_tick_is_dead_after_a_short_silence() -> None:
    silence = knowing(AAPL=5.0)

    assert silence.judge({"a": line("T.AAPL", live_s=14.0)}, ALL_DAY) == {}
    assert silence.judge({"a": line("T.AAPL", live_s=15.0)}, ALL_DAY) == {
        "a": "silent for 15 s in an open market, expected were 75 ticks"
    }


def test_a_line_that_has_spoken_is_left_to_its_own_habits() -> None:
    silence = knowing(AAPL=5.0)

    assert silence.judge({"a": line("T.AAPL", live_s=110.0, tick_age_s=100.0)}, ALL_DAY) == {}
    assert list(silence.judge({"a": line("T.AAPL", live_s=109.0, tick_age_s=100.0)}, ALL_DAY)) == ["a"]


def test_a_topic_that_ticks_rarely_proves_nothing() -> None:
    silence = knowing(RARE=0.1)

    assert silence.judge({"a": line("T.RARE", live_s=29.0)}, ALL_DAY) == {}


def test_where_the_market_is_not_open_or_has_just_opened_silence_is_no_death() -> None:
    silence = knowing(AAPL=5.0)

    assert silence.judge({"a": line("T.AAPL", live_s=9_000.0)}, {}) == {}
    assert silence.judge({"a": line("T.AAPL", live_s=9_000.0)}, {"stocks": 14.0}) == {}


def test_a_whole_channel_of_an_open_market_is_never_silent() -> None:
    assert list(Silence().judge({"a": line("T.*")}, ALL_DAY)) == ["a"]
    assert Silence().judge({"a": line("AM.*", "LULD.*", live_s=59.0)}, ALL_DAY) == {}


def test_one_rare_symbol_beside_a_busy_line_is_not_dead() -> None:
    silence = knowing(**{item[2:]: 10.0 for item in LEADERS})

    lines = {"busy": speaking(*LEADERS), "rare": line("T.RARE", live_s=3_000.0)}

    assert silence.judge(lines, ALL_DAY) == {}


def test_many_unknown_symbols_beside_a_busy_line_are_measured_by_its_lowest_tenth() -> None:
    rates = {item[2:]: 10.0 for item in LEADERS}
    others = line(*(f"T.N{number}" for number in range(10)))

    assert list(knowing(**rates).judge({"busy": speaking(*LEADERS), "new": others}, ALL_DAY)) == ["new"]
    slow = rates | dict.fromkeys(["L0", "L1", "L2"], 0.01)
    assert knowing(**slow).judge({"busy": speaking(*LEADERS), "new": others}, ALL_DAY) == {}
    assert knowing(**rates).judge({"busy": line(*LEADERS, live_s=5.0), "new": others}, ALL_DAY) == {}


def test_a_conclusion_that_did_not_help_needs_twice_the_time_or_eight_times_where_nobody_speaks() -> None:
    silence = knowing(AAPL=5.0)
    together = {"a": line("T.AAPL"), "b": speaking("T.MSFT")}
    assert list(silence.judge(together, ALL_DAY)) == ["a"]

    assert silence.judge(together | {"a": line("T.AAPL", live_s=29.0)}, ALL_DAY) == {}
    assert list(silence.judge({"a": line("T.AAPL", live_s=30.0)}, ALL_DAY)) == ["a"]
    assert silence.judge({"a": line("T.AAPL", live_s=239.0)}, ALL_DAY) == {}
    assert list(silence.judge({"a": line("T.AAPL", live_s=240.0)}, ALL_DAY)) == ["a"]


def test_a_line_that_speaks_again_is_judged_as_before() -> None:
    silence = knowing(AAPL=5.0)
    silence.judge({"a": line("T.AAPL")}, ALL_DAY)

    silence.judge({"a": speaking("T.AAPL")}, ALL_DAY)

    assert list(silence.judge({"a": line("T.AAPL", live_s=15.0)}, ALL_DAY)) == ["a"]


def test_what_nobody_carries_any_more_is_forgotten() -> None:
    silence = Silence()
    for number in range(10_000):
        silence.measured("stocks", {f"T.S{number}": 1.0}, {f"stocks.T.S{number}"})

    assert len(silence._rates) < 2_000


@given(
    rates=st.lists(st.floats(0, 1_000), max_size=30),
    live_s=st.floats(0, 2_000),
    open_s=st.floats(0, 2_000),
    speaks=st.booleans(),
)
@pytest.mark.parametrize("beside", [True, False])
def test_nothing_is_concluded_from_less_than_twenty_expected_ticks_or_fifteen_seconds(
    *, rates: list[float], live_s: float, open_s: float, beside: bool, speaks: bool
) -> None:
    silence = knowing(**{f"S{number}": rate for number, rate in enumerate(rates)})
    lines = {"a": line(*(f"T.S{number}" for number in range(len(rates))), live_s=live_s)}
    if beside:
        lines["b"] = speaking("T.S0") if speaks else line("T.S0", live_s=None)

    dead = silence.judge(lines, {"stocks": open_s})

    silent_s = min(live_s, open_s)
    assert ("a" in dead) == (silent_s >= SILENT_S[0] and silent_s * sum(rates) >= CERTAIN)


def test_a_line_whose_worker_has_forgotten_its_habits_is_judged_here() -> None:
    silent = line("T.*", live_s=50_000.0, tick_age_s=3_000.0)
    forgotten = Seen(silent.market, silent.live_s, silent.tick_age_s, silent.items, is_watched=False)

    assert Silence().judge({"a": silent}, ALL_DAY) == {}
    assert forgotten.is_suspect
    assert list(Silence().judge({"a": forgotten}, ALL_DAY)) == ["a"]


def test_a_line_that_speaks_again_is_forgiven_also_while_nobody_is_judged() -> None:
    silence = knowing(AAPL=5.0)
    assert list(silence.judge({"a": line("T.AAPL")}, ALL_DAY)) == ["a"]
    assert silence.judge({"a": line("T.AAPL")}, ALL_DAY) == {}, "twice as patient"

    silence.forgive({"a": speaking("T.AAPL")})

    assert list(silence.judge({"a": line("T.AAPL")}, ALL_DAY)) == ["a"]
