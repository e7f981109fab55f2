from typing import Any

import pytest

from mcm.core import ledger
from mcm.core.readiness import missing
from mcm.core.status import ConnectionStatus, ProcessStatus, RouterStatus, Status


def line(**other: Any) -> ConnectionStatus:
    values: dict[str, Any] = {
        "state": "live", "market": "stocks", "pid": 1, "wanted": 2, "confirmed": 2, "unconfirmed": [], "ticks": 5,
        "ticks_per_s": 1.0, "last_tick_age_s": 0.1, "reconnects": 0, "restarts": 0, "errors": {}, "reason": "",
    }  # fmt: skip
    return ConnectionStatus(**(values | other))


def router(**other: Any) -> RouterStatus:
    values: dict[str, Any] = {
        "pid": 2, "state": "ready", "received": 9, "published": 6, "restarts": 0, "lost_batches": 0, "rejected": 0,
        "skipped": 0, "not_durable_since": None, "duplicates": 2, "held": 1,
    }  # fmt: skip
    return RouterStatus(**(values | other))


def whole(**other: Any) -> Status:
    values: dict[str, Any] = {
        "state": "ready", "pid": 3, "uptime_s": 1.0, "connections": {"one": line(), "two": line()}, "router": router(),
        "replay": ProcessStatus(4, "ready", 0), "account": {}, "reason": "", "is_started": True, "unplaced": {},
        "simulator": {}, "version": "0", "run_dir": "/r",
    }  # fmt: skip
    return Status(**(values | other))


def test_it_is_ready_when_everything_wanted_is_confirmed_and_ticks_have_come() -> None:
    assert missing(whole()) == []


def test_a_parked_line_whose_topics_others_carry_holds_nothing_up() -> None:
    parked = line(state="parked", wanted=0, confirmed=0, ticks=0, reason="the account allows 1")

    assert missing(whole(state="degraded", connections={"one": line(), "two": parked})) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"connections": {"one": line(confirmed=1, reason="it dials")}}, "one has 1 of 2 topics confirmed: it dials"),
        ({"connections": {"one": line(ticks=0)}}, "no tick has come yet"),
        ({"connections": {}}, "no topic is carried yet"),
        ({"router": router(state="backoff")}, "the router is backoff"),
        ({"unplaced": {"stocks.T.A": "full"}}, "1 topics find no place"),
        ({"gaps": 3}, "nobody receives 3 topics"),
        ({"state": "stopping"}, "mcm is stopping"),
    ],
)
def test_what_is_missing_is_named(other: dict[str, Any], words: str) -> None:
    assert words in missing(whole(**other))


def test_the_ledger_balances_and_says_so_in_words() -> None:
    found = ledger.take(whole(connections={"one": line(ticks=9, errors={"broken T": 2, "closed": 4})}))

    assert found.router.balance == 0
    assert found.equation == "received 9 = published 6 + duplicates 2 + held 1"
    assert (found.connections["one"].appended, found.connections["one"].rejected) == (9, 2)


def test_a_tick_that_is_not_accounted_for_is_shouted_about() -> None:
    assert ledger.take(whole(router=router(published=5))).equation.endswith("1 UNACCOUNTED")
