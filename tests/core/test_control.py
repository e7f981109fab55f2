import builtins
import types
import typing
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from mcm.core import control
from mcm.core.control import (
    MAX_RECORD_BYTES,
    Down,
    LineClosed,
    LineSettings,
    Problem,
    Reply,
    Request,
    Unconfirmed,
    Up,
    Want,
    decode_down,
    decode_up,
    encode,
    in_chunks,
)

KEY = "top-secret-key"


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type may hold."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.builds(kind, **{field.name: values(field.type) for field in msgspec.structs.fields(kind)})
    if kind is int:
        return st.integers(-(2**63), 2**64 - 1)
    if kind is float:
        return st.floats(allow_nan=False)
    parts = get_args(kind)
    match get_origin(kind):
        case typing.Annotated:
            limits = parts[1]
            return (st.integers if parts[0] is int else st.floats)(limits.ge, limits.le)
        case types.UnionType:
            return st.one_of(*map(values, parts))
        case builtins.dict:
            return st.dictionaries(values(parts[0]), values(parts[1]), max_size=5)
        case builtins.tuple:
            return st.lists(values(parts[0]), max_size=5).map(tuple)
        case _:
            return st.from_type(kind)


@given(values(Down))
def test_every_command_is_the_same_after_its_way(record: Down) -> None:
    assert decode_down(encode(record)) == record


@given(values(Up))
def test_every_report_is_the_same_after_its_way(record: Up) -> None:
    assert decode_up(encode(record)) == record


def test_a_report_is_no_command() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_down(encode(LineClosed("closed", "", 0.0)))


def test_a_record_says_its_kind_so_that_every_kind_has_its_own() -> None:
    kinds = [kind.__name__ for kind in (*get_args(Down), *get_args(Up))]

    assert len(kinds) == len(set(kinds))
    assert msgspec.msgpack.decode(encode(Want(add=("T.A",)))) == {"type": "Want", "add": ["T.A"]}


def test_the_key_never_shows() -> None:
    settings = LineSettings("primary", "stocks", "/run/mcm", KEY)

    shown = [repr(settings), str(settings), f"{settings}", repr([settings]), pretty_repr(settings)]

    assert not [text for text in shown if KEY in text]
    assert "primary" in repr(settings)


def test_the_key_is_in_no_complaint_about_a_broken_record() -> None:
    broken = msgspec.msgpack.encode({"type": "LineSettings", "name": 1, "market": "", "run_dir": "", "api_key": KEY})

    with pytest.raises(msgspec.ValidationError) as complaint:
        decode_down(broken)

    assert KEY not in str(complaint.value)


# --- long lists ------------------------------------------------------------------------------------------------------

SYMBOLS = st.lists(st.text(max_size=60) | st.integers(1, 8).map(lambda size: "😀" * size * 1_000), max_size=60)


@given(SYMBOLS)
@example([""] * 30_000)
@example(["T.A"] * 30_000)
@example(["O:SPY241220P00720000"] * 30_000)
@example(["😀" * 8] * 10_000)
@example(["x" * 47_995, "y" * 47_995])
def test_chunks_hold_every_item_once_in_order_and_fit_into_a_record(items: list[str]) -> None:
    chunks = list(in_chunks(items))

    assert [item for chunk in chunks for item in chunk] == items
    for chunk in chunks:
        assert chunk
        assert len(encode(Want(add=tuple(chunk)))) < MAX_RECORD_BYTES


@given(st.lists(st.text(max_size=200), unique=True, max_size=400))
@example([str(number) for number in range(1_000)])
@example([f"{number}{'😀' * 50}" for number in range(1_000)])
def test_chunks_leave_room_for_a_reason_beside_every_item(items: list[str]) -> None:
    reason = "😀" * 100

    for chunk in in_chunks(items, overhead=4 * len(reason)):
        assert len(encode(Unconfirmed(first=False, items=dict.fromkeys(chunk, reason)))) < MAX_RECORD_BYTES


def test_no_items_make_no_chunk() -> None:
    assert list(in_chunks([])) == []


# --- the control socket ----------------------------------------------------------------------------------------------


def test_a_request_needs_an_operation_only() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode({"op": "status"}), type=Request) == Request("status")


@pytest.mark.parametrize("reply", [Reply(ok={"pid": 1}), Reply(error=Problem("no such name", "one of a, b")), Reply()])
def test_a_reply_is_the_same_after_its_way(reply: Reply) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=Reply) == reply


def test_the_module_offers_every_record_it_defines() -> None:
    assert {kind.__name__ for kind in (*get_args(Down), *get_args(Up))} <= set(control.__all__)
