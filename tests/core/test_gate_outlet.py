"""Frames for the clients of the gateway, and how far a client is behind."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from mcm.core import gate_outlet
from mcm.core.events import EquityTrade
from mcm.core.gate_outlet import Backlog, bodies, close_frame, text_frames

LIMIT = 1_000_000


def frames_in(stream: bytes) -> list[Frame]:
    """As another implementation of RFC 6455 reads it."""
    reader = StreamReader()
    reader.feed_data(stream)
    found: list[Frame] = []
    while reader.buffer:
        try:
            next(Frame.parse(reader.read_exact, mask=False, max_size=LIMIT))
        except StopIteration as parsed:
            found.append(parsed.value)
    return found


def trade(number: int) -> EquityTrade:
    return EquityTrade(symbol="AAPL", sequence_number=number, price=1.5, fractional_shares="0.740474")


@given(st.lists(st.integers(1, 40)), st.sampled_from([200, 1_000, gate_outlet.FRAME_BYTES]))
def test_every_event_stands_once_and_in_order_in_an_array(sizes: list[int], frame_bytes: int) -> None:
    numbers = iter(range(sum(sizes)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate_outlet, "FRAME_BYTES", frame_bytes)
        stream = text_frames(body for size in sizes for body in bodies([trade(next(numbers)) for _ in range(size)]))

    frames = frames_in(stream)

    assert all(frame.opcode is Opcode.TEXT and len(frame.data) <= frame_bytes + 200 for frame in frames)
    events = [event for frame in frames for event in json.loads(bytes(frame.data))]
    assert [event["q"] for event in events] == list(range(sum(sizes)))
    assert all(list(event) == ["ev", "sym", "p", "q", "ds"] for event in events)


@pytest.mark.parametrize("size", [0, 1, 123, 124, 65_532, 65_533, 65_534, 200_000])
def test_frames_of_every_length_are_read(size: int) -> None:
    (frame,) = frames_in(text_frames([b"1" * size]))

    assert bytes(frame.data) == b"[" + b"1" * size + b"]"


def test_nothing_makes_no_frame() -> None:
    assert text_frames([]) == b""


def test_a_close_frame_carries_its_code() -> None:
    (frame,) = frames_in(close_frame(1012))

    assert (frame.opcode, Close.parse(bytes(frame.data)).code) == (Opcode.CLOSE, 1012)


def test_the_age_is_that_of_the_oldest_byte_that_is_unsent() -> None:
    backlog = Backlog()
    backlog.wrote(100, now=10)
    backlog.wrote(50, now=12)

    assert backlog.age_s(150, now=13) == 3
    assert backlog.age_s(51, now=13) == 3
    assert backlog.age_s(50, now=13) == 1
    assert backlog.age_s(0, now=20) == 0
    backlog.wrote(10, now=30)
    assert backlog.age_s(10, now=31) == 1


def test_bytes_that_others_have_written_make_nobody_older() -> None:
    backlog = Backlog()
    backlog.wrote(100, now=10)

    assert backlog.age_s(0, now=11) == 0
    assert backlog.age_s(20, now=50) == 0  # a pong, say
