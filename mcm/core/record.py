"""One record of the router's journal: what became of one batch.

Written before anything of it is published, so that a record says both "these messages have these numbers" and "this
link was read up to here"; a router that starts again reads them and goes on as if nothing had been.
"""

from typing import NamedTuple

import msgspec

from mcm.core.wire import Message

__all__ = ["Accepted", "Published", "decode_record", "encode_record"]


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


class Accepted(msgspec.Struct, array_like=True, gc=False):
    """A batch, taken.  The number of its record in the log is the offset of its first message, or the next one's.

    Attributes:
        link, link_epoch, sequence: which batch; an empty link for what only time has released.
        monotonic_ns: when the worker read it, on the clock that arbitration goes by.
        received_ns: wall clock at the same moment.
        messages: what is published of it, in this order; offsets are dense from the record's number on.
        redundant: of covered topics, what the line delivered: (topic, events), which arbitration is fed again with.
    """

    link: str
    link_epoch: int
    sequence: int
    monotonic_ns: int
    received_ns: int
    messages: list[Published]
    redundant: list[tuple[bytes, list[bytes]]] = []

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


def decode_record(payload: bytes) -> Accepted:
    """The record in *payload*; msgspec.DecodeError for anything else."""
    return _decode(payload)
