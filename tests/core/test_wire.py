import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcm.core.events import EquityTrade, tick_decoder
from mcm.core.wire import Batch, Group, Heartbeat, Message, decode_batch, encode_batch, encode_ticks

INT64 = st.integers(-(2**63), 2**63 - 1)
TOPIC = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map(str.encode)
GROUPS = st.builds(Group, TOPIC, st.integers(1, 2**31), st.binary())
BATCHES = st.builds(Batch, st.text(), st.integers(0, 2**63), st.integers(0, 2**63), INT64, INT64, st.lists(GROUPS))
TICKS = st.lists(st.integers()).map(lambda ticks: msgspec.Raw(encode_ticks([str(tick) for tick in ticks])))
MESSAGES = st.builds(Message, INT64, INT64, INT64, st.text(), TICKS)
NESTED = b"\x91" * 100_000


def message(ticks: bytes = b"\x90") -> Message:
    return Message(42, 7, 1_700_000_000_000_000_000, "primary", msgspec.Raw(ticks))


@given(BATCHES)
def test_a_batch_is_the_same_after_its_way(batch: Batch) -> None:
    assert decode_batch(encode_batch(batch)) == batch


@given(TOPIC, MESSAGES)
def test_a_message_is_the_same_after_its_way(topic: bytes, sent: Message) -> None:
    found, received = Message.decode(sent.encode(topic))

    assert found == topic
    assert received == sent


def test_a_message_is_what_the_design_says_to_a_program_without_mcm() -> None:
    frame = message(encode_ticks([EquityTrade(symbol="AAPL", price=297.5)])).encode(b"stocks.T.AAPL")

    topic, _, body = frame.partition(b"\0")

    assert topic == b"stocks.T.AAPL"
    assert msgspec.msgpack.decode(body) == [
        42,
        7,
        1_700_000_000_000_000_000,
        "primary",
        [{"ev": "T", "sym": "AAPL", "p": 297.5}],
    ]


def test_the_ticks_of_a_worker_pass_the_router_byte_by_byte() -> None:
    ticks = encode_ticks([EquityTrade(symbol="A", price=1.0), EquityTrade(symbol="A", price=2.0)])
    group = decode_batch(encode_batch(Batch("a", 1, 1, 1, 1, [Group(b"stocks.T.A", 2, ticks)]))).groups[0]

    _, received = Message.decode(message(group.ticks).encode(group.topic))

    assert bytes(received.ticks) == ticks
    assert [tick.symbol for tick in tick_decoder("stocks").decode(received.ticks)] == ["A", "A"]


def test_a_subscription_that_ends_with_zero_selects_no_longer_symbol() -> None:
    assert message().encode(b"stocks.T.A").startswith(b"stocks.T.A\0")
    assert not message().encode(b"stocks.T.AAPL").startswith(b"stocks.T.A\0")


def test_a_heartbeat_is_the_same_after_its_way() -> None:
    beat = Heartbeat(v=1, epoch=2**62, offset=5, totals={"ticks": 9})

    _, received = Message.decode(message(encode_ticks([beat])).encode(b"mcm.heartbeat"))

    assert msgspec.msgpack.decode(received.ticks, type=list[Heartbeat]) == [beat]


def is_refused(frame: bytes) -> None:
    """Decode foreign bytes, as a batch and as a message; anything else but a msgspec error would end the router."""
    for decode in (decode_batch, Message.decode):
        try:
            decode(frame)
        except msgspec.MsgspecError:
            pass


@given(st.binary())
def test_foreign_bytes_are_read_or_refused_by_an_error_of_msgspec(frame: bytes) -> None:
    is_refused(frame)
    is_refused(b"topic\0" + frame)


@given(st.data())
def test_broken_frames_are_read_or_refused_by_an_error_of_msgspec(data: st.DataObject) -> None:
    batch = encode_batch(Batch("primary", 2**62, 9, 1, 1, [Group(b"stocks.T.A", 1, b"\x91\x01")]))
    frame = bytearray(data.draw(st.sampled_from([batch, message().encode(b"stocks.T.A")])))

    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))

    is_refused(bytes(frame))
    is_refused(bytes(frame[: data.draw(st.integers(0, len(frame)))]))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x96\xa1\xff\x01\x01\x01\x01\x90",  # a name that is no UTF-8
        b"\x97\xa1a\x01\x01\x01\x01\x90" + NESTED,  # nested beyond Python's recursion limit
        b"\x96\xa1a\x01\x01\x01\x01\xdd\xff\xff\xff\xff",  # claims four thousand million groups
        b"\x96\xa1a\x01\x01\x01\x01\x91\x93\xc4\x01t\xff\xc4\x01\x90",  # a group of -1 ticks: numbers would go back
        b"\x96\xa1a\x01\x01\x01\x01\x91\x93\xc4\x01t\x00\xc4\x01\x90",  # a group of no ticks
    ],
)
def test_what_is_no_batch_is_refused(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_batch(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no zero byte",
        b"topic\0",
        b"topic\0\x95\x01\x01\x01\xa1\xff\x90",
        b"topic\0\x95\x01\x01\x01\xa1a" + NESTED,
    ],
)
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        Message.decode(frame)
