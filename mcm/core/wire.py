r"""What travels between processes: batches from workers to the router, messages from the router to subscribers.

A message is ONE frame, ``topic + b"\0" + msgpack [offset, sequence, received_ns, connection, [tick, …]]``: a two-frame
message costs 3–5 times as much, and the zero byte ends the topic, so that ``stocks.T.A`` is no prefix of
``stocks.T.AAPL``.  The router never decodes a tick: it copies the worker's bytes.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec

__all__ = [
    "HEARTBEAT",
    "WIRE_VERSION",
    "Batch",
    "Group",
    "Heartbeat",
    "Message",
    "decode_batch",
    "encode_batch",
    "encode_ticks",
]

WIRE_VERSION = 1
HEARTBEAT = b"mcm.heartbeat"


class Group(NamedTuple):
    """All ticks of one topic in a batch: *ticks* is their list, msgpack encoded, *length* how many."""

    topic: bytes
    length: Annotated[int, msgspec.Meta(ge=1)]  # a number line never stands still or runs backwards
    ticks: bytes


class Batch(msgspec.Struct, array_like=True, gc=False):
    """All that one wake-up of a worker brought, grouped by topic.

    Attributes:
        connection: name of the line.
        link_epoch: random for every start of the worker; sequence counts from 1 within it.
        sequence: dense per link epoch, so a jump is a loss between worker and router.
        monotonic_ns: CLOCK_MONOTONIC of this machine when the frames were read.
        received_ns: wall clock at the same moment, nanoseconds since the Unix epoch.
        groups: in order of each topic's first tick.
    """

    connection: str
    link_epoch: int
    sequence: int
    monotonic_ns: int
    received_ns: int
    groups: list[Group]


class Message(msgspec.Struct, array_like=True, gc=False):
    """One message as a subscriber gets it, behind the topic.

    Attributes:
        offset: global position of the message, dense per message within one journal epoch.
        sequence: of the first tick, dense per topic; a message of k ticks moves it by k.
        received_ns: wall clock when the worker read the frame, nanoseconds since the Unix epoch.
        connection: name of the line that brought it.
        ticks: the list of ticks, still encoded.
    """

    offset: int
    sequence: int
    received_ns: int
    connection: str
    ticks: msgspec.Raw

    def encode(self, topic: bytes) -> bytes:
        """The frame for this message on *topic*."""
        return topic + b"\0" + _encode(self)

    @staticmethod
    def decode(frame: bytes) -> "tuple[bytes, Message]":
        """(topic, message) of a received *frame*; msgspec.DecodeError if it is none of ours."""
        topic, zero, body = frame.partition(b"\0")
        if not zero:
            raise msgspec.DecodeError("no topic: the frame holds no zero byte")
        try:
            return topic, _decode_message(body)
        except _FOREIGN as problem:
            raise msgspec.DecodeError(f"no message: {problem}") from problem


class Heartbeat(msgspec.Struct, tag="heartbeat", tag_field="ev"):
    """The only tick of ``mcm.heartbeat``, four times a second; its message repeats the last offset, sequence 0.

    Attributes:
        v: wire version.
        epoch: journal epoch; offsets and sequences of another epoch have nothing to do with these.
        offset: of the last published message, 0 before the first.
        totals: messages and ticks published since the router started, and batches lost on the way to it.
    """

    v: int
    epoch: int
    offset: int
    totals: dict[str, int]


# What msgspec lets through from Python: text that is no UTF-8, and nesting beyond the recursion limit.
_FOREIGN = (UnicodeDecodeError, RecursionError)
_encode = msgspec.msgpack.Encoder().encode
_decode_batch = msgspec.msgpack.Decoder(Batch).decode
_decode_message = msgspec.msgpack.Decoder(Message).decode


def encode_batch(batch: Batch) -> bytes:
    """*batch* as one PUSH message (and, later, one record of the link file)."""
    return _encode(batch)


def decode_batch(frame: bytes) -> Batch:
    """The batch in *frame*; msgspec.DecodeError for anything else."""
    try:
        return _decode_batch(frame)
    except _FOREIGN as problem:
        raise msgspec.DecodeError(f"no batch: {problem}") from problem


def encode_ticks(ticks: Sequence[object]) -> bytes:
    """Ticks of one topic as the list that a message carries."""
    return _encode(ticks)
