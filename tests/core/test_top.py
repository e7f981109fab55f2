"""What `mcm top` shows: everything that fits, and a word about what does not."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.status import ConnectionStatus, GatewayStatus, ProcessStatus, RouterStatus, Status
from mcm.core.top import LEAST_HEIGHT, LEAST_WIDTH, View, picture

NOW_NS = 1_764_115_200_000_000_000


def line(state: str = "live", **other: Any) -> ConnectionStatus:
    usual: dict[str, Any] = {
        "market": "stocks", "pid": 11, "wanted": 20, "confirmed": 20, "unconfirmed": [], "ticks": 12_345,
        "ticks_per_s": 400.0, "last_tick_age_s": 0.2, "reconnects": 0, "restarts": 0, "errors": {}, "reason": "",
    }  # fmt: skip
    return ConnectionStatus(state=state, **usual | other)


def status(connections: dict[str, ConnectionStatus], **other: Any) -> Status:
    router = RouterStatus(12, "ready", 1_000, 990, 0, 0, 0, 0, None, 7, 3)
    usual: dict[str, Any] = {
        "state": "ready", "pid": 10, "uptime_s": 61.0, "connections": connections, "router": router,
        "replay": ProcessStatus(13, "ready", 0), "account": {}, "reason": "", "is_started": True, "unplaced": {},
        "simulator": {}, "version": "0", "run_dir": "/r",
        "gateway": GatewayStatus(14, "ready", 0, "127.0.0.1:8766", 2, "", is_open=True),
    }  # fmt: skip
    return Status(**usual | other)


THREE = {"primary": line(), "secondary": line("backoff", reconnects=3), "tertiary": line(unconfirmed=["T.ZZ"])}
GAP = {"connection": "primary", "reason": "closed", "since_ns": NOW_NS, "topics": ["stocks.T.AAPL", "stocks.Q.AAPL"]}


def text(view: View, width: int = 80, height: int = 24) -> list[str]:
    return ["".join(span.text for span in one).rstrip() for one in picture(view, width, height)]


def test_eighty_columns_have_room_for_every_column() -> None:
    lines = text(View(status(THREE), [GAP], NOW_NS))

    heads = next(one for one in lines if one.startswith("connection"))
    assert heads.split() == [
        "connection", "state", "market", "topics", "ticks/s", "last", "reconn", "restart", "unconf",
    ]  # fmt: skip
    assert "secondary   backoff  stocks   20/20      400  0.2 s       3        0       0" in lines
    assert "ledger  received 1,000 = published 990 + duplicates 7 + held 3" in lines
    assert "gaps    nobody receives 2 topics" in lines
    assert any(one.endswith("primary, stocks.Q.AAPL and 1 more: closed") for one in lines)
    assert "router ready, 990 published · replay ready" in lines
    assert "gateway ready, 127.0.0.1:8766, 2 clients" in lines
    assert lines[-1] == "q ends"


def test_the_first_lines_say_the_state_and_why() -> None:
    lines = text(View(status(THREE, state="degraded", reason="secondary backoff: it was closed, dialling again")))

    assert lines[0].startswith("degraded  2 of 3 live · 1,200 ticks/s · up 1 min 1 s · pid 10")
    assert lines[1] == "secondary backoff: it was closed, dialling again"


def test_columns_without_room_are_named() -> None:
    wide = {name: msgspec.structs.replace(one, wanted=30_000, confirmed=30_000) for name, one in THREE.items()}

    lines = text(View(status(wide)), width=60)

    heads = next(one for one in lines if one.startswith("connect")).split()
    assert "restart" not in heads
    assert lines[-1].startswith("q ends · no room for market, restart")
    assert text(View(status(wide)), width=120)[-1] == "q ends"


def test_with_too_many_connections_those_that_are_not_live_are_shown() -> None:
    many = {f"line-{number:02}": line("down" if number == 39 else "live") for number in range(40)}

    lines = text(View(status(many)))

    assert len(lines) == 24
    assert any(one.startswith("line-39") for one in lines)
    assert any("more, all live; a taller window" in one for one in lines)


def test_with_more_of_them_down_than_fit_the_rest_is_counted() -> None:
    many = {f"line-{number:02}": line("down" if number % 2 else "live") for number in range(80)}

    assert any("of them not live" in one for one in text(View(status(many))))


def test_more_gaps_than_fit_are_counted() -> None:
    gaps = [GAP | {"since_ns": NOW_NS + number} for number in range(50)]

    lines = text(View(status(THREE), gaps))

    assert len(lines) == 24
    assert "gaps    nobody receives 100 topics" in lines
    assert any(one.endswith("more lines; a taller window shows them") for one in lines)


def test_what_is_not_accounted_for_stands_before_the_rest() -> None:
    router = RouterStatus(12, "ready", 1_000, 900, 0, 2, 0, 0, 17)

    lines = text(View(status(THREE, router=router)))

    alarm = "ledger  100 UNACCOUNTED; 2 batches in no file; disk full; received"
    assert any(one.startswith(alarm) for one in lines)


def test_when_nothing_answers_it_says_so_and_shows_what_was_known() -> None:
    view = View(status(THREE), (), NOW_NS, "mcm has stopped")

    lines = text(view)

    assert lines[0].startswith("no answer")
    assert lines[1] == "mcm has stopped; waiting for it"
    assert any(one.startswith("primary") for one in lines)
    assert {span.style for one in picture(view, 80, 24)[2:] for span in one} <= {"dim"}


def test_words_of_an_upstream_cannot_command_the_terminal() -> None:
    lines = text(View(status(THREE, state="degraded", reason="primary: \x1b[2J\x07 gone")))

    assert lines[1] == "primary: ?[2J? gone"


def test_a_window_that_is_too_small_says_how_large_it_must_be() -> None:
    assert text(View(status(THREE)), width=30, height=5)[0].startswith("30 × 5 is too small")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "-"), (9.94, "9.9 s"), (119, "119 s"), (600, "10 min"), (7_200, "2 h")]
)
def test_an_age_is_as_exact_as_it_is_young(seconds: float | None, shown: str) -> None:
    lines = text(View(status({"primary": line(last_tick_age_s=seconds)})))

    assert f"  {shown}  " in next(one for one in lines if one.startswith("primary"))


@given(
    names=st.sets(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True), min_size=1, max_size=60),
    size=st.integers(0, 10**12),
    reason=st.text(max_size=500),
    gaps=st.integers(0, 30),
    width=st.integers(1, 200),
    height=st.integers(1, 70),
)
def test_no_picture_is_larger_than_its_window(
    *, names: set[str], size: int, reason: str, gaps: int, width: int, height: int
) -> None:
    lines = {name: line("connecting", wanted=size, confirmed=size, ticks_per_s=float(size)) for name in names}
    router = RouterStatus(12, "ready", size, size, 0, 0, 0, 0, None, size, size)
    view = View(status(lines, reason=reason, state="degraded", router=router), [GAP] * gaps, NOW_NS)

    shown = picture(view, width, height)

    assert len(shown) <= height
    assert all(sum(len(span.text) for span in one) <= width for one in shown)
    if width >= LEAST_WIDTH and height >= LEAST_HEIGHT:
        assert len(shown) >= min(height, LEAST_HEIGHT)
        assert shown[-1][0].text.startswith("q ends")
