from types import UnionType
from typing import Any, TypeVar, get_origin

import msgspec
import pytest

from mcm.core.status import ConnectionStatus, Status, overall, summary

Kind = TypeVar("Kind", bound=msgspec.Struct)


def empty(kind: type[Kind]) -> Kind:
    """A record all of whose fields say nothing."""

    def nothing(of: Any) -> Any:
        if isinstance(of, UnionType):
            return None
        return empty(of) if isinstance(of, type) and issubclass(of, msgspec.Struct) else (get_origin(of) or of)()

    return kind(**{field.name: nothing(field.type) for field in msgspec.structs.fields(kind)})


def line(state: str = "live", reason: str = "") -> ConnectionStatus:
    numbers = {"confirmed": 9, "ticks": 1_500, "ticks_per_s": 250.4, "pid": 4711}
    return msgspec.structs.replace(empty(ConnectionStatus), state=state, reason=reason, **numbers)


def whole(**connections: ConnectionStatus) -> Status:
    return msgspec.structs.replace(empty(Status), state="ready", connections=connections)


def test_it_is_ready_when_the_router_is_and_every_line_is_live() -> None:
    assert overall({"a": line(), "b": line()}, "ready", 0, was_ready=False) == ("ready", "")


def test_before_it_was_ready_it_is_starting_and_says_what_for_it_waits() -> None:
    lines = {"a": line(), "b": line("connecting")}

    assert overall(lines, "ready", 0, was_ready=False) == ("starting", "b is connecting")
    assert overall(lines, "starting", 0, was_ready=False) == ("starting", "the router is starting, b is connecting")
    assert overall({"a": line()}, "starting", 0, was_ready=False) == ("starting", "the router is starting")


def test_a_line_with_a_reason_makes_it_degraded_and_the_reason_is_named() -> None:
    lines = {"a": line(), "b": line("parked", "the account allows 1")}

    assert overall(lines, "ready", 0, was_ready=True) == ("degraded", "b parked: the account allows 1")


def test_a_line_that_reconnects_without_a_reason_makes_it_degraded_once_it_was_ready() -> None:
    assert overall({"a": line("connecting")}, "ready", 0, was_ready=True) == ("degraded", "a is connecting")


def test_a_router_that_is_gone_stands_first() -> None:
    lines = {"a": line("backoff", "no answer to a ping")}

    state, reason = overall(lines, "backoff", 0, was_ready=True)

    assert (state, reason) == ("degraded", "the router is backoff; a backoff: no answer to a ping")


@pytest.mark.parametrize("was_ready", [True, False])
def test_topics_without_a_place_make_it_degraded(was_ready: bool) -> None:
    assert overall({"a": line()}, "ready", 3, was_ready=was_ready) == ("degraded", "3 topics find no place")


def test_the_summary_is_one_line_with_the_sums() -> None:
    status = whole(a=line(), b=line("connecting"))
    status.reason = "b is connecting"

    assert summary(status) == (
        "ready · 1 of 2 connections live · 18 topics · 501 ticks/s · 3,000 ticks · b is connecting"
    )


def test_a_status_is_the_same_after_its_way_through_json() -> None:
    status = whole(a=line(), b=line("down", "the key"))

    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status
    assert msgspec.convert(msgspec.msgpack.decode(msgspec.msgpack.encode(status)), Status) == status
