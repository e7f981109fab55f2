"""One record of the router's journal: what became of one batch.

Written before anything of it is published, so that a record says both "these messages have these numbers" and "this
link was read up to here"; a router that starts again reads them and goes on as if nothing had been.
"""

from typing import NamedTuple

import msgspec

from mcm.core.wire import Message

__all__ = [
    "Accepted",
    "Covered",
    "Due",
    "Ended",
    "Fed",
    "Published",
    "Rejoined",
    "Step",
    "decode_record",
    "encode_record",
    "join",
    "split",
]


class Published(NamedTuple):
    """A message as the journal keeps it.

    Attributes:
        topic: of the message.
        sequence: of its first tick.
        length: number of ticks.
        ticks: their list, encoded.
        connection, received_ns: where they are not those of the record: held back on another line and now released.
    """

    topic: bytes
    sequence: int
    length: int
    ticks: bytes
    connection: str = ""
    received_ns: int = 0


class _Step(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Something that arbitration was told; told again in the same order, it is again what it was."""


class Covered(_Step, tag="c", frozen=True):
    """These items have these lines (arbitration.Arbiter.cover); by fewer than two, they are no longer covered."""

    items: list[bytes]
    lines: list[str]
    carried_by: list[str]


class Ended(_Step, tag="e", frozen=True):
    """A line has a gap here."""

    line: str


class Rejoined(_Step, tag="r", frozen=True):
    """A line has a gap here on these items alone."""

    line: str
    items: list[bytes]


class Due(_Step, tag="d", frozen=True):
    """Time has released something."""

    now_ns: int


class Fed(_Step, tag="f", frozen=True):
    """The record's link brought events of a covered topic; the fresh ones are in the record's message of the topic."""

    topic: bytes
    trace: list[tuple[int, int]]
    held: list[bytes]


Step = Covered | Ended | Rejoined | Due | Fed


class Accepted(msgspec.Struct, array_like=True, gc=False):
    """A batch, taken.  The number of its record in the log is the offset of its first message, or the next one's.

    Attributes:
        index: of the record, dense within the journal's epoch.
        link, link_epoch, sequence: which batch; an empty link for what only time has released.
        monotonic_ns: when the worker read it, on the clock that arbitration goes by.
        received_ns: wall clock at the same moment.
        messages: what is published of it, in this order; offsets are dense from the record's number on.
        steps: what arbitration was told.
        received: ticks that the batch held; duplicates: ticks that were known already, of it or held before.
    """

    index: int
    link: str
    link_epoch: int
    sequence: int
    monotonic_ns: int
    received_ns: int
    messages: list[Published]
    steps: list[Step] = []
    received: int = 0
    duplicates: int = 0

    def frames(self, first_offset: int) -> list[tuple[bytes, Message]]:
        """Its messages as they are published, (topic, message) each."""
        found = []
        for offset, (topic, sequence, _, ticks, connection, received_ns) in enumerate(self.messages, first_offset):
            message = Message(
                offset, sequence, received_ns or self.received_ns, connection or self.link, msgspec.Raw(ticks)
            )
            found.append((topic, message))
        return found


encode_record = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Accepted).decode
_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def decode_record(payload: bytes) -> Accepted:
    """The record in *payload*; msgspec.DecodeError for anything else."""
    return _decode(payload)


def split(ticks: bytes) -> list[bytes]:
    """The events of an encoded list, each as its own bytes; none if it is no list."""
    try:
        return [bytes(event) for event in _split(ticks)]
    except msgspec.MsgspecError:
        return []


def join(events: list[bytes]) -> bytes:
    """The encoded list of *events* (msgpack: fixarray, array 16, array 32)."""
    length = len(events)
    if length < 16:
        head = bytes([0x90 | length])
    elif length < 65_536:
        head = b"\xdc" + length.to_bytes(2, "big")
    else:
        head = b"\xdd" + length.to_bytes(4, "big")
    return head + b"".join(events)
