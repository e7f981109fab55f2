"""Four words for the states of a line, and what is told on the way from one to the next."""

import pytest

from mcm.core.compat_health import Event, Seen, assigned, judge
from mcm.core.status import ConnectionStatus

LIVE = ConnectionStatus("live", "stocks", 1, 1, 1, [], 0, 0.0, None, 0, 0, {}, "")


def line(state: str, reason: str = "", reconnects: int = 0) -> ConnectionStatus:
    return ConnectionStatus(state, "stocks", 1, 1, 1, [], 0, 0.0, None, reconnects, 0, {}, reason)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("starting", "connecting"), ("connecting", "connecting"), ("live", "connected"), ("backoff", "disconnected"),
        ("parked", "error"), ("paused", "disconnected"), ("down", "error"), ("stopped", "disconnected"),
        ("some later state", "connecting"),
    ],
)  # fmt: skip
def test_every_state_has_one_of_four_words(state: str, status: str) -> None:
    assert judge(line(state, "why"), Seen())[0].status == status


def test_what_has_not_changed_is_not_told_again() -> None:
    seen, events = judge(line("live"), Seen("connecting"))
    assert events == [Event("connected", "")]

    assert judge(line("live"), seen) == (seen, [])


def test_an_acknowledgement_that_is_awaited_changes_nothing() -> None:
    seen = Seen("connected", 2)

    assert judge(line("connecting", reconnects=2), seen) == (seen, [])


def test_a_line_that_is_lost_is_told_as_disconnected_though_it_dials_already() -> None:
    seen, events = judge(line("connecting", "the upstream closed it"), Seen("connected"))

    assert seen.status == "connecting"
    assert [event.status for event in events] == ["disconnected", "status_update"]
    assert events[0].message == "the upstream closed it"


def test_a_line_that_was_lost_and_came_back_between_two_looks_is_told_as_both() -> None:
    _, events = judge(line("live", reconnects=1), Seen("connected", 0))

    assert [event.status for event in events] == ["disconnected", "connected"]


def test_a_line_that_waits_is_disconnected_and_one_that_is_refused_is_an_error() -> None:
    for state, status in (("backoff", "disconnected"), ("down", "error"), ("parked", "error")):
        _, events = judge(line(state, "why"), Seen("connected"))

        assert events == [Event(status, "why")]


def test_only_what_is_wanted_is_assigned_and_a_wildcard_carries_the_single_symbols() -> None:
    plan = {"one": ("T.AAPL", "T.JPM"), "two": ("AM.*", "Q.AAPL")}
    wanted = {"stocks.T.AAPL", "stocks.Q.AAPL", "stocks.AM.MSFT", "stocks.A.IBM", "crypto.XT.BTC-USD"}

    found = assigned(plan, wanted, "stocks")

    assert {name: set(tickers) for name, tickers in found.items()} == {"one": {"AAPL"}, "two": {"AAPL", "MSFT"}}
